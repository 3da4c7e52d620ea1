"""What every row of ours needs: the upper objective of a problem, and the call to be timed."""

from __future__ import annotations

from torch import Tensor, nn

from bmo.bench.aggregated import Aggregated
from bmo.bench.methods import Gradient
from bmo.bench.problems import Parts, Problem, Smooth
from bmo.hypergradient import Estimator, hypergradient
from bmo.inner import Inner


class Upper(nn.Module):
    """The upper objective of a problem, with its gradient and its Hessian."""

    closed = True

    def __init__(self, problem: Problem) -> None:
        super().__init__()
        self.problem = problem

    def forward(self, u: Tensor) -> Tensor:
        return self.problem.upper(u)

    def gradient(self, u: Tensor) -> Tensor:
        """Written by hand."""
        return self.problem.upper_gradient(u)

    def hessian(self, u: Tensor, v: Tensor) -> Tensor:
        """Of these quadratic objectives, at any ``u``."""
        base = self.problem.base if isinstance(self.problem, Aggregated) else self.problem
        return base.A_v.mT @ (base.A_v @ v) if isinstance(base, Smooth) else 2 * v


def by(
    inner: Inner,
    problem: Problem,
    method: str | Estimator,
    rename: dict[str, str],
    slopes: dict[str, Tensor] | None = None,
) -> Gradient:
    """The call of one estimator.

    ``rename`` gives omega's names for the parameters', and ``slopes`` the derivatives of those
    that the package learns through a raw value, by omega's name.
    """
    upper = Upper(problem)

    def call() -> Parts:
        found = hypergradient(inner, problem.u0, upper, problem.steps, method=method)
        gradients = {rename[name]: g for name, g in found.gradients.items()}
        return {n: g / slopes[n] if slopes and n in slopes else g for n, g in gradients.items()}

    return call
