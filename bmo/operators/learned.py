r"""Learned steps that keep their condition for every raw value an optimizer may reach.

Book: chapter 4, "Feasible by construction". Each class is the explicit one with its numbers (and,
where asked, its matrix) made parameters, written so that the condition holds identically: lengths
as a fraction of what is allowed, penalties and margins through a softplus.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from bmo.metric import Diagonal, Metric, Scaled
from bmo.operators.admm import LinearisedADMM
from bmo.operators.base import Preparing
from bmo.operators.lagrangian import AugmentedLagrangian, LinearisedALM
from bmo.operators.primal_dual import PDHG
from bmo.operators.spectral import largest_eigenvalue
from bmo.operators.subproblem import Solvable, squared_norm
from bmo.operators.two_block import TwoBlock
from bmo.parameters import Interval, Positive
from bmo.prox import Prox, Zero
from bmo.smooth import Smooth

LOW = 1e-3  # the smallest factor: keeps metrics well conditioned for raw values of any size


def factor(like: Tensor, start: float = 1.0, shape: tuple[int, ...] = ()) -> Positive:
    """A learned positive factor (or several), at its start ``start``."""
    return Positive(torch.full(shape, start, dtype=like.dtype, device=like.device), low=LOW)


def kind_of(*modules: nn.Module) -> Tensor:
    """A tensor whose dtype and device new parameters take: of the modules, else the default."""
    tensors = [t for m in modules for t in [*m.buffers(), *m.parameters()] if t.is_floating_point()]
    return tensors[0] if tensors else torch.zeros(())


def learned_norm(A: Tensor, floor: float) -> Tensor:
    r""":math:`\|A\|^2`, differentiable, never below ``floor``: A = 0 is no exception."""
    gram = A @ A.mT if A.shape[0] <= A.shape[1] else A.mT @ A
    return largest_eigenvalue(gram).clamp_min(floor)


def make_parameter(module: nn.Module, name: str) -> None:
    """Turn a buffer into a parameter of the same name."""
    value = module._buffers.pop(name)
    if value is not None:
        module.register_parameter(name, nn.Parameter(value.detach().clone()))


class LearnedProximalGradient(Preparing):
    r"""A proximal gradient step whose metric is learned: :math:`p = q\max(1, \lambda/2)`.

    Here q > 0 is free (one number, or one for each coordinate) and :math:`\lambda` is the
    curvature of f in the metric :math:`\mathrm{diag}(q)`. So :math:`\nabla^2f \preceq 2P` always;
    for one number this is a step :math:`\tau = 1/p \le 2/L`. Parameters of the prior are learned
    with it. Book: chapter 4.

    Args:
        smooth: :math:`f`, with its curvature.
        prior: :math:`g` (``None`` for plain gradient descent).
        size: ``None`` for one step length, n for a diagonal metric.

    Example:
        >>> import torch, bmo
        >>> f = bmo.LeastSquares(torch.eye(2), torch.tensor([3.0, 0.5]))
        >>> D = bmo.operators.LearnedProximalGradient(f, bmo.prox.L1(1.0, learn=True))
        >>> D(torch.zeros(2)).detach()
        tensor([2., 0.])
    """

    certified = "by construction"

    def __init__(self, smooth: Smooth, prior: Prox | None = None, size: int | None = None) -> None:
        super().__init__()
        self.smooth = smooth
        self.prior = prior if prior is not None else Zero()
        top = smooth.curvature(Scaled(1.0)).detach()
        like = kind_of(smooth)
        self.register_buffer("scale", top.to(like))
        self.scale: Tensor
        self.weight = factor(like, shape=() if size is None else (size,))

    def _compute(self) -> tuple[Metric, Tensor]:
        q = self.scale * self.weight()
        build = Scaled if q.dim() == 0 else Diagonal
        half = self.smooth.curvature(build(q, check=False)) / 2
        return build(q * half.clamp_min(1.0), check=False), half.clamp_max(1.0)

    @property
    def metric(self) -> Metric:
        r""":math:`P`, positive by construction."""
        return self.prepare()[0]

    @property
    def averaged(self) -> float:
        return 1 / (2 - float(self.prepare()[1].detach()))

    def forward(self, u: Tensor) -> Tensor:
        metric = self.prepare()[0]
        return self.prior(u - metric.solve(self.smooth(u)), metric)


class LearnedALM(LinearisedALM):
    r"""Linearised ALM with a learned penalty.

    :math:`\tau = \beta\|A\|^2(1 + \epsilon)` with positive :math:`\beta` and :math:`\epsilon`.

    Args:
        objective: :math:`f`, a Prox or a quadratic function; its parameters are learned too.
        A: Matrix of shape (m, n).
        b: Right-hand side; replaced by ``bind(b=...)``.
        learn_matrix: Make A a parameter as well.

    Example:
        >>> import torch, bmo
        >>> A, b = torch.tensor([[1.0, 2.0]]), torch.tensor([2.0])
        >>> D = bmo.operators.LearnedALM(bmo.prox.L1(1.0), A, b)
        >>> bmo.GKM(D, 0.9).iterate(torch.zeros(3), tol=1e-6).value[:2].abs()
        tensor([0., 1.])
    """

    def __init__(
        self, objective: Solvable, A: Tensor, b: Tensor, learn_matrix: bool = False
    ) -> None:
        AugmentedLagrangian.__init__(self, objective, A, b, check=False)
        self.certified = "by construction"
        self._floor = LOW * squared_norm(A)
        self.penalty, self.margin = factor(A), factor(A, 0.01)
        if learn_matrix:
            make_parameter(self, "A")

    def _numbers(self) -> tuple[Tensor, Tensor]:
        beta = self.penalty()
        return beta, beta * learned_norm(self.A, self._floor) * (1 + self.margin())


class LearnedLinearisedADMM(LinearisedADMM):
    r"""Linearised two-block ADMM with a learned penalty and learned margins.

    :math:`\tau_u = \beta\|A\|^2(1 + \epsilon_u)` and
    :math:`\tau_v = \beta\|B\|^2(1 + \epsilon_v)` with positive
    :math:`\beta, \epsilon_u, \epsilon_v`.

    Args:
        first: :math:`f`, a Prox or a quadratic function; its parameters are learned too.
        second: :math:`g`, likewise.
        A: Matrix of shape (m, n).
        B: Matrix of shape (m, p).
        b: Right-hand side; replaced by ``bind(b=...)``.
        learn_matrices: Make A and B parameters as well.

    Example:
        >>> import torch, bmo
        >>> I, b = torch.eye(2), torch.tensor([3.0, 0.5])
        >>> f, g = bmo.prox.SquaredL2(1.0, center=b), bmo.prox.L1(1.0)
        >>> D = bmo.operators.LearnedLinearisedADMM(f, g, I, -I, torch.zeros(2))
        >>> bmo.GKM(D, 0.9).iterate(torch.zeros(6), tol=1e-7).value[:2].round(decimals=4)
        tensor([2., 0.])
    """

    def __init__(
        self,
        first: Solvable,
        second: Solvable,
        A: Tensor,
        B: Tensor,
        b: Tensor,
        learn_matrices: bool = False,
    ) -> None:
        TwoBlock.__init__(self, first, second, A, B, b, smooth=None, check=False)
        self.certified = "by construction"
        self._floors = LOW * squared_norm(A), LOW * squared_norm(B)
        self.penalty = factor(A)
        self.margin_u, self.margin_v = factor(A, 0.01), factor(A, 0.01)
        for name in ("A", "B") if learn_matrices else ():
            make_parameter(self, name)

    def _numbers(self) -> tuple[Tensor, Tensor, Tensor]:
        beta = self.penalty()
        top_u, top_v = (
            learned_norm(M, f) for M, f in zip((self.A, self.B), self._floors, strict=True)
        )
        return beta, beta * top_u * (1 + self.margin_u()), beta * top_v * (1 + self.margin_v())


class LearnedPDHG(PDHG):
    r"""PDHG with learned steps.

    :math:`\tau = t\rho/\|K\|` and :math:`\sigma = t/(\rho\|K\|)` with :math:`0 < t < 1`,
    :math:`\rho > 0`. So :math:`\tau\sigma\|K\|^2 = t^2 < 1` always.

    Args:
        f: A Prox or a quadratic function; its parameters are learned too.
        g: A Prox, likewise.
        K: Matrix of shape (m, n).
        learn_matrix: Make K a parameter as well.

    Example:
        >>> import torch, bmo
        >>> f = bmo.prox.SquaredL2(1.0, center=torch.tensor([3.0, 0.0]))
        >>> D = bmo.operators.LearnedPDHG(f, bmo.prox.L1(1.0), torch.tensor([[1.0, -1.0]]))
        >>> bmo.GKM(D, 0.9).iterate(torch.zeros(3), tol=1e-6).value.round(decimals=4)
        tensor([2., 1., 1.])
    """

    def __init__(self, f: Solvable, g: Prox, K: Tensor, learn_matrix: bool = False) -> None:
        Preparing.__init__(self)
        self._parts(f, g, K, check=False)
        self.certified = "by construction"
        self._floor = LOW * squared_norm(K)
        self.ratio = factor(K)
        self.product = Interval(torch.tensor(0.95).to(K), LOW, 1 - LOW)
        if learn_matrix:
            make_parameter(self, "K")

    def _lengths(self) -> tuple[Tensor, Tensor]:
        t = self.product() / learned_norm(self.K, self._floor).sqrt()
        return t * self.ratio(), t / self.ratio()
