"""A recorded method, rebuilt from its weights: to run it, to test it, to draw it.

Book: chapter 10.
"""

from __future__ import annotations

from typing import Any

from torch import Tensor

from bmo import record
from bmo.baselines.unrolled import TiedLISTA
from bmo.errors import RecordError
from bmo.operators import Operator
from bmo.problems.sparse_coding.model import Coder, Restorer
from bmo.problems.sparse_coding.settings import LEARNED


def trained(name: str, noise: str, method: str) -> Restorer:
    """The learned method of a record (first seed), ready to restore patches.

    Args:
        name: Name of the record, ``"sparse-coding.full"`` or ``"sparse-coding.page"``.
        noise: One of the record's noises.
        method: ``"bmo"``, ``"gkm"`` or ``"ena-lista"``.

    Raises:
        RecordError: The record or its weights are not to be had, or hold no such method.
    """
    settings = record.find(name).settings
    weights = record.find_weights(f"{name}.{noise}")
    return rebuild(settings, weights, noise, method)


def rebuild(
    settings: dict[str, Any], weights: dict[str, Tensor], noise: str, method: str
) -> Restorer:
    """The same from settings and weights in memory.

    Raises:
        RecordError: The weights hold no such method.
    """
    own = {
        k.removeprefix(f"{method}/"): v for k, v in weights.items() if k.startswith(f"{method}/")
    }
    if method not in LEARNED or not own:
        there = sorted({k.split("/")[0] for k in weights if "/" in k})
        raise RecordError(
            f"a method of {', '.join(there)}", repr(method), "choose one of them", method
        )
    decoder = own["decoder"]
    zero = decoder.new_zeros(decoder.shape[0])
    if method == "ena-lista":
        operator: Operator = TiedLISTA(own["operator.W1"].mT, zero, 1.0)
        alpha, mu = 1.0, 0.0
    else:
        operator = Coder(own["operator.G"], zero, 1.0, ridge=settings["ridge"][noise])
        alpha, mu = settings["alpha"], settings["mu"][noise] if method == "bmo" else 0.0
    model = Restorer(operator, decoder, noise, alpha, mu, iterations=settings["iterations"])
    model.load_state_dict({**own, "operator.b": zero})
    return model
