"""One hypergradient of P2 in four ways: as it is called, compiled, as a CUDA graph, or both.

All walk through the same loop with its adjoint by hand. Book: chapter 9.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from bmo.bench.built_in import fused, loop_of, slopes_of
from bmo.bench.calls import Upper
from bmo.bench.device import backend, graphed
from bmo.bench.methods import Gradient
from bmo.bench.problems import Problem
from bmo.errors import ConditionError
from bmo.inner import Inner
from bmo.inner.by_hand import by_hand
from bmo.kernels import Gradients, Kernel


class Compiled(Kernel):
    """A kernel whose step and adjoint are compiled: what lies between two products is one pass.

    Each is compiled once, whatever K is.
    """

    def __init__(self, kernel: Kernel, by: str) -> None:
        self.kernel, self.inputs = kernel, kernel.inputs
        self.ahead = torch.compile(kernel.forward, backend=by, dynamic=False)
        self.back = torch.compile(kernel.adjoint, backend=by, dynamic=False)

    def forward(self, u: Tensor, values: Sequence[Tensor], keep: bool = True) -> tuple[Tensor, Any]:
        found: tuple[Tensor, Any] = self.ahead(u, values, keep)
        return found

    def adjoint(
        self, kept: Any, cotangent: Tensor, values: Sequence[Tensor], gradients: Gradients
    ) -> Tensor:
        found: Tensor = self.back(kept, cotangent, values, gradients)
        return found


def bare(inner: Inner, problem: Problem, by: str | None = None) -> Gradient:
    """Reverse mode without its checks, which would stop a device at each call.

    Args:
        inner: The loop, with an adjoint by hand and ``mu = 0``.
        problem: Gives the start, the upper objective and K.
        by: What compiles the steps; ``None`` to leave them as they are.

    Raises:
        ConditionError: The loop has no adjoint by hand (when called).
    """
    upper, (rename, slopes) = Upper(problem), slopes_of(inner)
    named = {rename[path]: w for path, w in inner.named_parameters()}
    steps = [(s, *inner.weights(k)) for k, s in enumerate(inner.sizes(problem.steps), 1)]

    def call() -> dict[str, Tensor]:
        loop = by_hand(inner.prepared(), problem.u0, upper, steps, None)
        if loop is None:
            raise ConditionError("a loop with an adjoint by hand", "none", "see Inner(fuse=True)")
        if by is not None:
            loop = dataclasses.replace(loop, kernel=Compiled(loop.kernel, by))
        value = upper(loop.run(problem.u0, problem.u0)).mean()
        found = torch.autograd.grad(value, list(named.values()))
        pairs = zip(named, found, strict=True)
        return {n: g / slopes[n] if n in slopes else g for n, g in pairs}

    return call


Prepare = Callable[[Problem, torch.device], Gradient]


@dataclass(frozen=True)
class Way:
    """A way to run it.

    Attributes:
        name: Of the row.
        prepare: Problem and device → the call.
        captures: Memory is taken when it is prepared, not when it is called.
    """

    name: str
    prepare: Prepare
    captures: bool = False


def _eager(problem: Problem, device: torch.device) -> Gradient:
    return fused()(problem)


def _compiled(problem: Problem, device: torch.device) -> Gradient:
    return bare(loop_of(problem), problem, backend())


def _graph(problem: Problem, device: torch.device) -> Gradient:
    return graphed(bare(loop_of(problem), problem), device)


def _both(problem: Problem, device: torch.device) -> Gradient:
    return graphed(_compiled(problem, device), device)


WAYS = (
    Way("bmo reverse", _eager),
    Way("bmo reverse, compiled steps", _compiled),
    Way("bmo reverse, CUDA graph", _graph, captures=True),
    Way("bmo reverse, compiled steps, CUDA graph", _both, captures=True),
)
