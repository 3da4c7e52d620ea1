"""A trained method from its record: ready to restore. Book: chapter 12."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from bmo import record
from bmo.errors import RecordError
from bmo.problems.deraining.methods import RainRemover, build
from bmo.problems.deraining.settings import settings_of

#: The settings that a trained method was built with.
BUILT = ("widths", "blocks", "features", "maps", "kernel_side", "threshold", "share", "iterations",
         "alpha")  # fmt: skip


def trained(profile: str, method: str) -> RainRemover:
    """A recorded method with its weights, for :meth:`~RainRemover.open` and ``restore``.

    Args:
        profile: ``"page"``, ``"small"`` or ``"full"``.
        method: Out of those of the record.

    Raises:
        RecordError: No such record, or the method is not in it.
    """
    name = f"deraining.{profile}"
    recorded = record.find(name).settings
    if method not in recorded["methods"]:
        raise RecordError(
            f"a method of {', '.join(recorded['methods'])}", repr(method), "choose one", method
        )
    kept: dict[str, Any] = {
        k: tuple(v) if isinstance(v, list) else v for k, v in recorded.items() if k in BUILT
    }
    model = build(method, replace(settings_of(profile), **kept))
    model.take(record.find_weights(f"{name}.{method}"))
    return model
