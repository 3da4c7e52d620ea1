"""A trained method from its record: ready to restore. Book: chapter 11."""

from __future__ import annotations

from dataclasses import replace

from bmo import record
from bmo.problems.deconvolution.budgets import Correcting, Referring
from bmo.problems.deconvolution.building import build
from bmo.problems.deconvolution.methods import Deblurrer
from bmo.problems.deconvolution.settings import settings_of
from bmo.problems.learned import recorded, tuples

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
    known = recorded(name, method)
    kept = {key: value for key, value in known.items() if key in BUILT}
    for key, kind in {"correcting": Correcting, "referring": Referring}.items():
        if key in known:
            kept[key] = kind(**tuples(known[key]))
    model = build(method, replace(settings_of(profile), **kept))
    model.take(record.find_weights(f"{name}.{method}"))
    return model
