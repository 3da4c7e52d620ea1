"""A trained method from its record: ready to restore. Book: chapter 12."""

from __future__ import annotations

from dataclasses import replace

from bmo import record
from bmo.problems.deraining.methods import RainRemover, build
from bmo.problems.deraining.settings import settings_of
from bmo.problems.learned import recorded

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
    known = recorded(name, method)
    kept = {key: value for key, value in known.items() if key in BUILT}
    model = build(method, replace(settings_of(profile), **kept))
    model.take(record.find_weights(f"{name}.{method}"))
    return model
