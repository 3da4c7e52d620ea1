r"""UNH: nothing is learned; penalty and steps are chosen once on held-out codes, then frozen.

Book: chapter 10. Two choices of each method, both at depth K:

* ``"nmse"``: the penalty and the steps with the smallest error of the code.
* ``"f+g"``: the penalty is the one whose *minimiser* has the smallest error, and the steps those
  with the smallest :math:`\tfrac12\|Au - b\|^2 + \lambda\|u\|_1`: how fast the problem is solved.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import torch
from torch import Tensor

from bmo.baselines import ADMM, FISTA, ISTA, PDHG, LinearisedADMM, Unrolled
from bmo.problems.sparse_coding.gaussian.draws import Data
from bmo.problems.sparse_coding.gaussian.settings import CLASSICAL, Settings

RULES = ("nmse", "f+g")
#: Steps of ADMM after which its iterate counts as the minimiser, and its weight rho then.
SOLVED, WEIGHT = 300, 0.1

Choice = dict[str, float]


def classical_method(name: str, A: Tensor, chosen: dict[str, Any], depth: int = 16) -> Unrolled:
    """A method with the numbers that were chosen (or with tensors of them, to choose from).

    Example:
        >>> from bmo.problems.sparse_coding import gaussian as bench
        >>> A = bench.gaussian_dictionary(8, 16)
        >>> bench.classical_method("unh-ista", A, {"penalty": 0.05, "length": 1.0}).depth
        16
    """
    top, penalty = torch.linalg.matrix_norm(A, 2), chosen["penalty"]
    if name == "unh-ista":
        return ISTA(A, penalty, chosen["length"] / top**2, depth)
    if name == "unh-fista":
        return FISTA(A, penalty, None, depth)
    if name == "unh-ladmm":
        return LinearisedADMM(A, penalty, chosen["beta"], depth=depth)
    if name == "unh-pdhg":
        return PDHG(A, penalty, sigma=chosen["ratio"] / float(top), depth=depth)
    return ADMM(A, penalty, chosen["rho"], chosen["relax"], depth)


def candidates(name: str, settings: Settings) -> Iterator[Choice]:
    """Every choice of the steps of a method."""
    s = settings
    if name == "unh-ista":
        yield from ({"length": value} for value in s.lengths)
    elif name == "unh-fista":
        yield {}
    elif name == "unh-admm":
        yield from ({"rho": v, "relax": r} for v in s.scales for r in s.relaxations)
    else:
        key = "beta" if name == "unh-ladmm" else "ratio"
        yield from ({key: value} for value in s.ratios)


@torch.no_grad()
def choose(
    A: Tensor, data: Data, settings: Settings, noise: str = "30db"
) -> dict[str, dict[str, Choice]]:
    """The numbers of every classical method: name → rule → numbers, with the error at depth K.

    Example:
        >>> from bmo.problems.sparse_coding import gaussian as bench
        >>> A = bench.gaussian_dictionary(8, 16)
        >>> from dataclasses import replace
        >>> small = replace(bench.PAGE, methods=("unh-ista",), tuned=4, penalties=(0.1, 1.0))
        >>> chosen = bench.choose(A, bench.held_out(A, "30db", small), small)
        >>> chosen["unh-ista"]["nmse"]["penalty"]
        0.1
    """
    b, x = (part[: settings.tuned].to(A) for part in (data.observed, data.codes))
    penalties = settings.penalties_of(noise)
    best = penalties[int(errors(minimisers(A, b, penalties), x).argmin())]

    def cost(u: Tensor) -> Tensor:
        fit = 0.5 * (u @ A.mT - b).square().sum(-1)
        return (fit + best * u.abs().sum(-1)).mean(-1)

    found = {}
    for name in CLASSICAL:
        by_error = search(name, A, b, penalties, settings, lambda u: errors(u, x))
        by_cost = search(name, A, b, [best], settings, cost)
        found[name] = {"nmse": by_error, "f+g": by_cost}
    return found


def search(
    name: str,
    A: Tensor,
    b: Tensor,
    penalties: Sequence[float],
    settings: Settings,
    score: Callable[[Tensor], Tensor],
) -> Choice:
    """The numbers with the smallest score at depth K; all penalties run in one batch."""
    best: tuple[float, Choice] = (float("inf"), {})
    for steps in candidates(name, settings):
        net = classical_method(name, A, {"penalty": column(penalties, A), **steps})
        values = score(net(b, settings.iterations))
        at = int(values.argmin())
        if float(values[at]) < best[0]:
            best = float(values[at]), {"penalty": penalties[at], **steps}
    return {**best[1], "score": best[0]}


def errors(u: Tensor, x: Tensor) -> Tensor:
    """NMSE in dB of each of several codes, shape (choices, count, n)."""
    return 10 * torch.log10((u - x).square().sum((-2, -1)) / x.square().sum())


def minimisers(A: Tensor, b: Tensor, penalties: Sequence[float]) -> Tensor:
    """The codes that minimise f + g for each penalty."""
    return ADMM(A, column(penalties, A), WEIGHT)(b, SOLVED)


def column(values: Sequence[float], like: Tensor) -> Tensor:
    """Several choices at once, shape (choices, 1, 1)."""
    return torch.tensor(values, dtype=like.dtype)[:, None, None]
