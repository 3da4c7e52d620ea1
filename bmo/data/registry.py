"""The registry of public files: address, sha256, bytes and licence, and how one is found.

A file is looked for in the folder that the environment variable BMO_DATA names, then in the
cache (:func:`bmo.files.cache_folder`), then at its address. Its sha256 is compared wherever it
was found. A file that differs is refused: another source is not tried in silence, because
a wrong file on disk is something its owner wants to know about.
"""

from __future__ import annotations

import difflib
import json
import os
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cache
from importlib import resources
from pathlib import Path
from typing import Any

from bmo.errors import DataError
from bmo.files import cache_folder, check, download


@dataclass(frozen=True)
class DataFile:
    """What is known about one public file.

    Attributes:
        set: The test set it belongs to, such as ``"set3c"``.
        file: Its name here, such as ``"set3c/butterfly.png"``: a path below BMO_DATA.
        url: Where it is published, at a fixed commit.
        sha256: Digest of its bytes.
        bytes: Its size.
        licence: The licence that its repository states, or ``"none stated"``.

    An example: :func:`bmo.data.data_file`.
    """

    set: str
    file: str
    url: str
    sha256: str
    bytes: int
    licence: str


@cache
def _facts() -> dict[str, Any]:
    facts: dict[str, Any] = json.loads(
        resources.files("bmo").joinpath("registry.json").read_text(encoding="utf-8")
    )
    return facts


@cache
def _registry() -> dict[str, DataFile]:
    facts, found = _facts(), {}
    for group, file, source, path, sha256, size in facts["files"]:
        origin = facts["sources"][source]
        url = origin["base"] + path
        found[file] = DataFile(group, file, url, sha256, size, origin["licence"])
    return found


def picture_hashes() -> dict[str, str]:
    """File name → sha256 of the pictures used from scikit-image's wheel.

    Example:
        >>> picture_hashes()["camera.png"][:8]
        'b0793d2a'
    """
    return dict(_facts()["pictures"])


def sets() -> tuple[str, ...]:
    """Names of all sets in the registry, in a fixed order.

    Example:
        >>> "set14" in sets()
        True
    """
    return tuple(dict.fromkeys(entry.set for entry in _registry().values()))


def files(group: str) -> tuple[str, ...]:
    """Names of the files of one set, numbers in numerical order, always the same order.

    Raises:
        DataError: No such set.

    Example:
        >>> files("set3c")
        ('set3c/butterfly.png', 'set3c/leaves.png', 'set3c/starfish.png')
    """
    if group not in sets():
        raise DataError(f"one of the sets {', '.join(sets())}", repr(group), "name a set", group)
    return tuple(sorted((e.file for e in _registry().values() if e.set == group), key=_natural))


def _natural(name: str) -> tuple[tuple[int, int, str], ...]:
    """Sort key under which ``rain-2`` stands before ``rain-11``."""
    pieces: list[tuple[int, int, str]] = []
    for piece in _split_digits(name):
        pieces.append((0, int(piece), piece) if piece.isdigit() else (1, 0, piece))
    return tuple(pieces)


def _split_digits(name: str) -> list[str]:
    pieces = [""]
    for letter in name:
        if pieces[-1] and pieces[-1][-1].isdigit() != letter.isdigit():
            pieces.append("")
        pieces[-1] += letter
    return pieces


def data_file(file: str) -> DataFile:
    """The registry's entry for a file.

    Raises:
        DataError: The registry does not know the name; near names are listed.

    Example:
        >>> data_file("levin09/Levin09.mat").bytes
        32224
    """
    try:
        return _registry()[file]
    except KeyError:
        near = difflib.get_close_matches(file, _registry(), n=3, cutoff=0.5)
        remedy = f"did you mean {', '.join(near)}?" if near else "see bmo.data.files(set)"
        raise DataError("a file that the registry knows", repr(file), remedy, file) from None


def locate(file: str) -> Path:
    """Path of a registered file whose sha256 was just verified; downloads it if need be.

    Args:
        file: Its name in the registry, such as ``"set3c/butterfly.png"``.

    Raises:
        DataError: Unknown name; altered or truncated file; or not here and not to be had.

    Example:
        >>> import os, tempfile
        >>> from unittest.mock import patch
        >>> with tempfile.TemporaryDirectory() as folder, patch.dict(os.environ, BMO_DATA=folder):
        ...     _ = os.makedirs(folder + "/set3c")
        ...     _ = Path(folder, "set3c/leaves.png").write_bytes(b"half of it")
        ...     locate("set3c/leaves.png")  # doctest: +ELLIPSIS
        Traceback (most recent call last):
        ...
        bmo.errors.DataError: required: sha256 f36fb344...; got: ... altered or truncated; ...
    """
    return fetch(data_file(file))


def fetch(entry: DataFile, **options: Any) -> Path:
    """:func:`locate` for an entry of your own: BMO_DATA, then the cache, then its address.

    Args:
        entry: What to find.
        options: Passed to :func:`bmo.files.download` (attempts, pause, timeout).

    Raises:
        DataError: Altered or truncated file; or not here and not to be had.

    An example: :func:`bmo.data.locate`.
    """
    for folder in _folders():
        path = folder / entry.file
        if path.exists():
            return check(path, entry.sha256, source=entry.url)
    target = cache_folder() / entry.file
    try:
        return download(entry.url, target, entry.sha256, size=entry.bytes, **options)
    except DataError as problem:
        raise DataError(
            problem.required,
            problem.got,
            f"{problem.remedy}, or set BMO_DATA to a folder that holds {entry.file}",
            entry.file,
        ) from problem


def _folders() -> list[Path]:
    offline = os.environ.get("BMO_DATA")
    return ([Path(offline).expanduser()] if offline else []) + [cache_folder()]


def hashes(names: Iterable[str]) -> list[dict[str, str]]:
    """The ``data`` field of a record: each file with its sha256.

    Args:
        names: Registered files, or pictures as ``"scikit-image/camera.png"``.

    Raises:
        DataError: A name that the registry does not know.

    Example:
        >>> hashes(["scikit-image/camera.png"])[0]["sha256"][:8]
        'b0793d2a'
    """
    pictures = {f"scikit-image/{name}": digest for name, digest in picture_hashes().items()}
    return [
        {"file": name, "sha256": pictures[name] if name in pictures else data_file(name).sha256}
        for name in names
    ]
