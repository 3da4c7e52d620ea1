r"""The matrix products of one hypergradient of P2, and nothing else: what a GPU cannot avoid.

A step :math:`u^+ = \mathrm{soft}(r S + u, \theta)`, :math:`r = u F - b`, multiplies twice. Its
adjoint multiplies three times,

.. math:: \bar S \mathrel{+}= r^\top c, \qquad \bar r = c S^\top, \qquad
          \bar u = c + \bar r F^\top,

and the first step need not hand :math:`\bar u` to the start. So K steps need 2K + 3K - 2 products;
everything else is elementwise. Book: chapter 9.
"""

from __future__ import annotations

import copy
from collections import Counter
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from bmo.bench.problems import Sparse

Product = tuple[Tensor, Tensor, Tensor]
Shape = tuple[int, int, int]


def moved(problem: Sparse, device: torch.device | str, dtype: torch.dtype) -> Sparse:
    """The same problem in another precision, on another device.

    Example:
        >>> moved(Sparse(2, m=5, n=10, batch=3), "cpu", torch.float32).y.dtype
        torch.float32
    """
    made = copy.copy(problem)
    for name, value in vars(problem).items():
        if isinstance(value, Tensor):
            setattr(made, name, value.to(device, dtype))
    made.omega = {name: value.to(device, dtype) for name, value in problem.omega.items()}
    return made


def products(problem: Sparse) -> list[Product]:
    """Left factor, right factor and the place of the result, in the order of the hypergradient.

    The factors have the layout and the zeros of the real ones. One place serves each kind of
    result, so that nothing is allocated; what was written last may still lie in a cache. That
    makes these products, if anything, cheaper than those of a hypergradient.

    Example:
        >>> len(products(Sparse(steps=4, m=5, n=10, batch=3)))  # 2 * 4 + 3 * 4 - 2
        18
    """
    F, S = problem.Q.mT, -problem.omega["step"] * problem.omega["W"].mT
    u, r = problem.truth, problem.y
    point, residual, total = torch.empty_like(u), torch.empty_like(r), torch.empty_like(S)
    forward = [(u, F, residual), (r, S, point)]
    learned, back, on = (r.mT, u, total), (u, S.mT, residual), (r, F.mT, point)
    backward = [learned, back, on] * (problem.steps - 1) + [learned]
    return forward * problem.steps + backward


def alone(problem: Sparse) -> Callable[[], None]:
    """The call that computes these products, each into its place."""
    todo = products(problem)

    @torch.no_grad()
    def call() -> None:
        for left, right, out in todo:
            torch.mm(left, right, out=out)

    return call


def shape_of(left: Tensor, right: Tensor) -> Shape:
    """Rows, inner length and columns of a product."""
    return left.shape[0], left.shape[1], right.shape[1]


class Counting(TorchDispatchMode):
    """Count what torch really multiplies: ``shapes`` are those of the matrix products.

    Example:
        >>> with Counting() as seen:
        ...     _ = torch.ones(2, 3) @ torch.ones(3, 4)
        >>> seen.shapes
        Counter({(2, 3, 4): 1})
    """

    def __init__(self) -> None:
        super().__init__()
        self.shapes: Counter[Shape] = Counter()
        self.other: Counter[str] = Counter()

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        name = func.overloadpacket.__name__
        if name in ("mm", "addmm", "addmm_"):
            left, right = args[-2:]
            self.shapes[shape_of(left, right)] += 1
        elif name in ("bmm", "baddbmm", "mv", "addmv", "dot"):
            self.other[name] += 1
        return func(*args, **(kwargs or {}))
