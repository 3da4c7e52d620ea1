"""A trained method from its record: ready to restore. Book: chapter 11."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from bmo import record
from bmo.errors import RecordError
from bmo.problems.deconvolution.budgets import Correcting, Referring
from bmo.problems.deconvolution.building import build
from bmo.problems.deconvolution.methods import Deblurrer
from bmo.problems.deconvolution.settings import settings_of

#: The settings that a trained method was built with.
BUILT = ("features", "blocks", "widths", "map_widths", "free_widths", "rounds", "iterations",
         "alpha")  # fmt: skip


def trained(profile: str, method: str) -> Deblurrer:
    """A recorded method with its weights, for :meth:`~Deblurrer.begin` and :meth:`~Deblurrer.map`.

    Args:
        profile: ``"page"``, ``"small"`` or ``"full"``.
        method: Out of those of the record.

    Raises:
        RecordError: No such record, or the method is not in it.
    """
    name = f"deconvolution.{profile}"
    recorded = record.find(name).settings
    if method not in recorded["methods"]:
        raise RecordError(
            f"a method of {', '.join(recorded['methods'])}", repr(method), "choose one", method
        )
    kept = {k: v for k, v in _tuples(recorded).items() if k in BUILT}
    for key, kind in {"correcting": Correcting, "referring": Referring}.items():
        if key in recorded:
            kept[key] = kind(**_tuples(recorded[key]))
    model = build(method, replace(settings_of(profile), **kept))
    model.take(record.find_weights(f"{name}.{method}"))
    return model


def _tuples(plain: dict[str, Any]) -> dict[str, Any]:
    """Settings as they were before they became JSON."""
    return {k: tuple(v) if isinstance(v, list) else v for k, v in plain.items()}
