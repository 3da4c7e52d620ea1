r"""The methods of this package, on the benchmark's problems.

A row is one ``registry.enter(name, kind, problems, goal=...)`` around a function that takes a
problem and returns the call to be timed; ``goal`` names its target in ``targets.json``.
"""

from __future__ import annotations

import copy

from torch import Tensor, nn

from bmo.bench.aggregated import Aggregated
from bmo.bench.built_in import fused
from bmo.bench.calls import by
from bmo.bench.methods import Gradient, Registry
from bmo.bench.problems import Parts, Problem, Smooth, Sparse
from bmo.errors import DomainError
from bmo.gkm import GKM
from bmo.inner import AnchoredInner, Inner
from bmo.metric import Diagonal, Metric, Scaled
from bmo.operators import Operator, ProximalGradient
from bmo.sets import Box
from bmo.smooth import Gradient as SmoothGradient


class Step(Operator):
    r"""The map of a problem as an operator: what a user writes who has a step of his own.

    P1's D is :math:`u - 2H^{-1}\nabla f(u)`, still nonexpansive, so that T with
    :math:`\alpha = 1/2` is the problem's step. P2's D is ISTA itself, with relaxation 1.

    Args:
        problem: P1 or P2.
    """

    def __init__(self, problem: Smooth | Sparse) -> None:
        super().__init__()
        self.problem = problem
        self.omega = nn.ParameterDict({n: nn.Parameter(v) for n, v in problem.leaves().items()})
        self.at: Parts | None = None

    def prepared(self) -> Step:
        clone = copy.copy(self)  # shares the parameters
        clone.at = self._at()
        return clone

    def _at(self) -> Parts:
        return self.at if self.at is not None else self.problem.prepare(dict(self.omega.items()))

    @property
    def metric(self) -> Metric:
        weight = 1 / self._at()["inverse"]
        return Diagonal(weight, check=False) if weight.dim() else Scaled(weight, check=False)

    def forward(self, u: Tensor) -> Tensor:
        at = self._at()
        if isinstance(self.problem, Smooth):
            return u - 2 * at["inverse"] * self.problem.gradient(u, at)
        return self.problem.map(u, at)


def inner_of(problem: Problem) -> Inner:
    """The loop of a problem in the words of the package.

    Example:
        >>> import torch
        >>> problem = Smooth(steps=3, m=8, n=4)
        >>> u = inner_of(problem)(problem.u0, problem.upper, 3)
        >>> torch.allclose(u, problem.forward())
        True
    """
    base = problem.base if isinstance(problem, Aggregated) else problem
    if not isinstance(base, Smooth | Sparse):
        raise DomainError("P1, P2 or P3", type(base).__name__, "write its operator", base)
    smooth = isinstance(base, Smooth)
    T = GKM(Step(base), alpha=0.5 if smooth else 1.0, check=smooth)
    if not isinstance(problem, Aggregated):
        return Inner(T, mu=0.0)
    kind = AnchoredInner if problem.anchored else Inner
    return kind(T, problem.mu, problem.plan, Box(-problem.half, problem.half))


def own_step(problem: Problem) -> Gradient:
    """Reverse mode through an operator that the user wrote."""
    inner = inner_of(problem)
    return by(inner, problem, "reverse", _names(inner))


def from_loss(problem: Problem) -> Gradient:
    """Reverse mode; the user gives the lower loss alone, and the step is its derivative."""
    if not isinstance(problem, Smooth):
        raise DomainError("P1", problem.name, "P2 has no smooth loss", problem.name)
    lower = Lower(problem)
    L = 1 / problem.tau
    D = ProximalGradient(_with(SmoothGradient(lower, lipschitz=L), lower), step=2 / L)
    inner = Inner(GKM(D, alpha=0.5), mu=0.0)
    return by(inner, problem, "reverse", _names(inner))


class Lower(nn.Module):
    """P1's lower loss as a module."""

    def __init__(self, problem: Smooth) -> None:
        super().__init__()
        self.problem = problem
        self.omega = nn.Parameter(problem.omega["omega"].clone())

    def forward(self, u: Tensor) -> Tensor:
        return self.problem.loss(u, {"omega": self.omega})


def _with(smooth: SmoothGradient, lower: nn.Module) -> SmoothGradient:
    smooth.lower = lower  # so that its parameter is found
    return smooth


def _names(inner: Inner) -> dict[str, str]:
    return {name: name.rsplit(".", 1)[-1] for name, _ in inner.named_parameters()}


def register(registry: Registry) -> None:
    """Enter the methods of this package."""
    registry.enter("bmo reverse", "unrolled", ("P1",), goal="P1 built-in operator")(fused())
    registry.enter("bmo reverse", "unrolled", ("P2",), goal="P2 unrolled")(fused())
    registry.enter("bmo reverse", "unrolled", ("P3",), goal="P3 aggregated")(fused())
    registry.enter("bmo recompute", "unrolled", ("P2",), goal="P2 recompute")(fused("recompute"))
    registry.enter("bmo recompute", "unrolled", ("P1", "P3"))(fused("recompute"))
    registry.enter("bmo reverse, own step", "unrolled", ("P1", "P2", "P3"))(own_step)
    registry.enter("bmo reverse, from a loss", "unrolled", ("P1",), goal="P1 from a loss")(
        from_loss
    )
    registry.enter("bmo active-set", "implicit", ("P2",), goal="P2 implicit")(fused("active-set"))
    registry.enter("bmo cg", "implicit", ("P1",))(fused("cg"))
    for method in ("fixed-point", "gmres"):
        registry.enter(f"bmo {method}", "implicit", ("P1", "P2"))(fused(method))
