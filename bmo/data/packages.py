"""Packages that only some files need: they are imported when they are needed."""

from __future__ import annotations

import importlib
import importlib.util
from pathlib import Path
from typing import Any

from bmo.errors import DataError


def package(module: str, required: str, remedy: str, value: str | None = None) -> Any:
    """A module of an optional package.

    Args:
        module: Its dotted name.
        required: The package, and what it is needed for, in words.
        remedy: How to get it, or how to go without.
        value: What asked for it; by default the name of the package.

    Raises:
        DataError: The package is not installed.

    Example:
        >>> package("no_such", "the package NoSuch", "pip it")  # doctest: +ELLIPSIS
        Traceback (most recent call last):
        ...
        bmo.errors.DataError: required: the package NoSuch; got: no such package; remedy: ...
    """
    try:
        return importlib.import_module(module)
    except ImportError as problem:
        given = module.split(".")[0] if value is None else value
        raise DataError(required, "no such package", remedy, given) from problem


def skimage_pictures() -> Path:
    """The folder of pictures inside scikit-image's wheel; nothing is imported.

    Raises:
        DataError: scikit-image is not installed.
    """
    spec = importlib.util.find_spec("skimage")
    if spec is None or spec.origin is None:
        raise DataError(
            "the package scikit-image", "no such package", "pip install scikit-image", "skimage"
        )
    return Path(spec.origin).parent / "data"
