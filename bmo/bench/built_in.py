r"""The benchmark's problems by the package's own operators, whose adjoints are written by hand.

P1's step is a :class:`~bmo.operators.ProximalGradient` on least squares and a ridge, P2's is
:class:`~bmo.baselines.CoupledLISTA`. For P3 on P2, whose metric is that of the steps, an
operator of one's own is given a kernel: that is all it takes.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from bmo.baselines import CoupledLISTA
from bmo.bench.aggregated import Aggregated
from bmo.bench.calls import by
from bmo.bench.methods import Gradient, Prepare
from bmo.bench.problems import Problem, Smooth, Sparse
from bmo.errors import DomainError
from bmo.gkm import GKM
from bmo.hypergradient import Estimator
from bmo.inner import AnchoredInner, Inner
from bmo.kernels import Kernel, ResidualSoft
from bmo.metric import Diagonal, Metric, Scaled
from bmo.operators import Operator, ProximalGradient
from bmo.sets import Box
from bmo.smooth import LeastSquares, Ridge, Sum


class Exp(nn.Module):
    """The weights of the ridge, learned through their logarithms."""

    def __init__(self, omega: Tensor) -> None:
        super().__init__()
        self.omega = nn.Parameter(omega.clone())

    def forward(self) -> Tensor:
        return self.omega.exp()


class HalfMetric(nn.Module):
    """Half of P1's metric: T has relaxation 1/2, so D takes twice the step."""

    def __init__(self, norm: float, weight: Exp) -> None:
        super().__init__()
        self.norm, self.weight = norm, weight

    def forward(self) -> Metric:
        return Diagonal((self.norm + self.weight()) / 2, check=False)


class OwnLISTA(Operator):
    """P2's map in the metric of its steps: an operator of one's own, with its kernel."""

    def __init__(self, problem: Sparse) -> None:
        super().__init__()
        self.problem = problem
        self.omega = nn.ParameterDict({n: nn.Parameter(v) for n, v in problem.leaves().items()})

    @property
    def metric(self) -> Metric:
        weight = 1 / self.omega["step"]
        return Diagonal(weight, check=False) if weight.dim() else Scaled(weight, check=False)

    def forward(self, u: Tensor) -> Tensor:
        return self.problem.map(u, self.problem.prepare(dict(self.omega.items())))

    def kernel(self) -> Kernel:
        step, threshold, W = (self.omega[n] for n in ("step", "threshold", "W"))
        back = -(step.reshape(-1, 1) * W).mT
        return ResidualSoft(self.problem.Q.mT, self.problem.y, back, back.new_zeros(()), threshold)


def ridge(problem: Smooth) -> GKM:
    """P1's map."""
    weight = Exp(problem.omega["omega"])
    f = Sum(LeastSquares(problem.A, problem.b), Ridge(weight))
    if problem.diagonal:
        D = ProximalGradient(f, metric=HalfMetric(problem.norm, weight))
    else:
        D = ProximalGradient(f, step=2 * problem.tau)
    return GKM(D, alpha=0.5)


def lista(problem: Sparse, own: bool) -> GKM:
    """P2's map, as an operator of the package or as one's own."""
    if own:
        return GKM(OwnLISTA(problem), alpha=1.0, check=False)
    step = float(problem.omega["step"])
    penalty = problem.omega["threshold"] / step
    return CoupledLISTA(problem.Q, problem.y, penalty, step).map()


def loop_of(problem: Problem) -> Inner:
    """The loop of a problem, in operators of the package.

    Example:
        >>> problem = Smooth(steps=3, m=8, n=4)
        >>> u = loop_of(problem)(problem.u0, problem.upper, 3)
        >>> torch.allclose(u, problem.forward())
        True
    """
    base = problem.base if isinstance(problem, Aggregated) else problem
    if isinstance(base, Smooth):
        T = ridge(base)
    elif isinstance(base, Sparse):
        T = lista(base, own=base.diagonal or base is not problem)
    else:
        raise DomainError("P1, P2 or P3", type(base).__name__, "write its operator", base)
    if not isinstance(problem, Aggregated):
        return Inner(T, mu=0.0)
    half = 0.5 if isinstance(base, Smooth) else 1.0  # the metric of D is half of P1's
    kind = AnchoredInner if problem.anchored else Inner
    sizes = [half * s for s in problem.sizes]
    return kind(T, problem.mu, sizes, Box(-problem.half, problem.half))


def slopes_of(inner: Inner) -> tuple[dict[str, str], dict[str, Tensor]]:
    """Omega's names for the parameters', and the slopes of those that are learned as raw values."""
    rename, slopes = {}, {}
    for path, w in inner.named_parameters():
        parts = path.split(".")
        name = parts[-2] if parts[-1] == "raw" else parts[-1]
        rename[path] = "threshold" if name == "theta" else name
        if parts[-1] == "raw":
            slopes[rename[path]] = torch.sigmoid(w.detach())  # of the softplus
    return rename, slopes


def fused(method: str | Estimator = "reverse") -> Prepare:
    """A row: an estimator on the built-in operators."""

    def prepare(problem: Problem) -> Gradient:
        inner = loop_of(problem)
        return by(inner, problem, method, *slopes_of(inner))

    return prepare
