r"""Steps 3-8 of Algorithm 1: training and upper objective in one loop, and its anchored form.

.. math::
    v_l^k = T(u^{k-1}, \omega), \quad
    v_u^k = u^{k-1} - s_k H_\omega^{-1}\nabla_u\ell(u^{k-1}, \omega), \quad
    u^k = \mathrm{Proj}_{U,H_\omega}(\mu v_u^k + (1-\mu)v_l^k)

Book: chapter 6. The loop is differentiable in everything: that is how :math:`\omega` is learned.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator, Sequence
from typing import Self

import torch
from torch import Tensor, nn

from bmo.errors import ConditionError, DomainError, NonFiniteError, ShapeError
from bmo.gkm import GKM, Observers, require_start, stack
from bmo.metric import Metric
from bmo.result import Result, Status
from bmo.schedules import Schedule, as_steps, schedule
from bmo.sets import Set, Whole

Upper = Callable[[Tensor], Tensor]


def require_mu(mu: float) -> float:
    r"""Refuse :math:`\mu` outside [0, 1)."""
    if not 0 <= mu < 1:
        raise DomainError(
            "mu in [0, 1)",
            f"mu = {mu}",
            "0 is plain training, 0.3 a start; at 1 the training map would be ignored",
            mu,
        )
    return float(mu)


def upper_values(upper: Upper, u: Tensor, metric: Metric) -> Tensor:
    r""":math:`\ell(u)`, one value for each point, or a clear error.

    A single mean over the batch would divide every point's gradient by the batch size, so a
    scalar is accepted for a single point only.
    """
    values = upper(u)
    batch = u.shape[: u.dim() - metric.event_dims]
    if values.shape != batch:
        raise ShapeError(
            f"an upper objective with one value for each point, shape {tuple(batch)}",
            f"shape {tuple(values.shape)}",
            "sum over the axes of a point only; take the mean after the loop",
            values,
        )
    return values


def upper_gradient(upper: Upper, u: Tensor, metric: Metric) -> Tensor:
    r""":math:`g(u) = H^{-1}\nabla_u\ell(u)`, differentiable where gradients are on.

    Args:
        upper: :math:`\ell(\cdot;\omega)`; an object with a method ``gradient(u)`` is asked for it,
            otherwise automatic differentiation is used.
        u: Points, shape (..., n).
        metric: :math:`H_\omega`.
    """
    if hasattr(upper, "gradient"):
        return metric.solve(upper.gradient(u))
    keep = torch.is_grad_enabled()
    with torch.enable_grad():
        point = u if u.requires_grad else u.detach().requires_grad_()
        total = upper_values(upper, point, metric).sum()
        (grad,) = torch.autograd.grad(total, point, create_graph=keep, materialize_grads=True)
    return metric.solve(grad)


class Inner(nn.Module):
    r"""The aggregated inner loop :math:`u^0 \mapsto u^K(\omega)` of Algorithm 1.

    Args:
        training: The map :math:`T` (a :class:`~bmo.gkm.GKM`).
        mu: Weight of the upper step in [0, 1); 0 is plain training.
        steps: :math:`s_k`: a schedule, a sequence, or one number.
        domain: :math:`U` (all of space by default).
        upper_lipschitz: :math:`L_\ell`, if known: then it is checked that
            :math:`s_1 \le 2\lambda_{lb}/L_\ell`.
        check: Refuse violated conditions.

    Raises:
        DomainError: ``mu`` is outside [0, 1).
        ScheduleError: The steps are not positive and nonincreasing.
        ConditionError: The first step is longer than the theorems allow.

    Example:
        >>> import torch, bmo
        >>> D = bmo.operators.Lambda(lambda u: 0 * u, bmo.metric.Identity())
        >>> inner = bmo.Inner(bmo.GKM(D, alpha=0.5), mu=0.5, steps=0.5)
        >>> upper = lambda u: 0.5 * (u - 1).square().sum(-1)
        >>> inner(torch.zeros(1), upper, iterations=1).detach()  # 0.5 * v_u, v_u = 0.5
        tensor([0.2500])
    """

    def __init__(
        self,
        training: GKM,
        mu: float = 0.5,
        steps: Schedule | Sequence[float] | float = schedule(0.5),  # noqa: B008 - immutable
        domain: Set | None = None,
        upper_lipschitz: float | None = None,
        check: bool = True,
    ) -> None:
        super().__init__()
        self.training_map = training
        self.mu = require_mu(mu) if check else float(mu)
        self.steps = steps
        self.domain = domain if domain is not None else Whole()
        self.upper_lipschitz = upper_lipschitz
        self.check = check

    def sizes(self, iterations: int) -> list[float]:
        r"""The numbers :math:`s_1, \dots, s_K`, checked."""
        values = as_steps(self.steps, iterations)
        if self.check and values and self.upper_lipschitz and self.mu > 0:
            low, _ = self.training_map.metric.bounds()
            limit = 2 * low / self.upper_lipschitz
            if values[0] > limit * (1 + 1e-12):
                raise ConditionError(
                    f"s_1 <= 2 lambda_lb / L_upper = {limit:.6g}",
                    f"s_1 = {values[0]:.6g}",
                    "shorten the schedule by this ratio",
                    values[0],
                )
        return values

    def step(self, u: Tensor, s: float, upper: Upper, metric: Metric) -> Tensor:
        r""":math:`F_s(u)`: one pass through steps 5 to 7."""
        v = self.training_map(u)
        if self.mu:
            v_u = u - s * upper_gradient(upper, u, metric)
            v = self.mu * v_u + (1 - self.mu) * v
        return self.domain.project(v, metric)

    def prepared(self) -> Self:
        """The same loop, its parameters shared: what all of its steps need is computed once."""
        clone = copy.copy(self)
        clone._modules = dict(self._modules)
        clone.training_map = self.training_map.prepared()
        return clone

    def iterates(self, u0: Tensor, upper: Upper, iterations: int) -> Iterator[Tensor]:
        """Yield :math:`u^1, u^2, ..., u^K`; the loop itself, open for inspection."""
        loop, u = self.prepared(), u0
        metric = loop.training_map.metric
        for s in self.sizes(iterations):
            u = loop.step(u, s, upper, metric)
            yield u

    def start(self, u0: Tensor) -> None:
        """Refuse a start that does not fit the operator or lies outside :math:`U`."""
        if not self.check:
            return
        require_start(u0, self.training_map.operator, self.training_map.metric)
        if not bool(self.domain.contains(u0, 1e-6).all()):
            raise DomainError(
                "u0 inside U", "a start outside", "project it first: domain.project(u0, metric)", u0
            )

    def forward(self, u0: Tensor, upper: Upper, iterations: int) -> Tensor:
        r""":math:`u^K`, differentiable in :math:`\omega` (reverse mode keeps all K steps).

        Args:
            u0: Start in U, shape (..., n).
            upper: :math:`\ell`, one value for each point.
            iterations: :math:`K \ge 0`.

        Raises:
            DomainError: ``u0`` lies outside U.
            NonFiniteError: ``u0`` or the result is not finite.
        """
        self.start(u0)
        u = u0
        for u in self.iterates(u0, upper, iterations):  # noqa: B007 - the last one is wanted
            pass
        if self.check and not bool(torch.isfinite(u.detach()).all()):
            raise NonFiniteError(
                "a finite u^K", "NaN or infinity", "use run() to see at which step it happened", u
            )
        return u

    @torch.no_grad()
    def run(
        self,
        u0: Tensor,
        upper: Upper,
        iterations: int,
        observe: Observers | None = None,
        throw: bool = True,
    ) -> Result:
        r"""The same loop without gradients, with residuals :math:`\|u^k - Tu^k\|_H` and a trace.

        Raises:
            NonFiniteError: An iterate is not finite; ``value`` is the result so far.
        """
        self.start(u0)
        u, residuals = u0, [self.training_map.residual(u0)]
        trace: dict[str, list[Tensor]] = {name: [f(u)] for name, f in (observe or {}).items()}
        status, done = Status.FINISHED, 0
        for done, new in enumerate(self.iterates(u0, upper, iterations), 1):
            if not bool(torch.isfinite(new).all()):
                status, done = Status.NONFINITE, done - 1
                break
            u = new
            residuals.append(self.training_map.residual(u))
            for name, f in (observe or {}).items():
                trace[name].append(f(u))
        result = Result(u, status, done, stack(residuals, u), trace)
        if status is Status.NONFINITE and throw:
            raise NonFiniteError(
                "finite iterates",
                f"NaN or infinity at step {done + 1}",
                "shorten the steps; value holds the result so far",
                result,
            )
        return result


class AnchoredInner(Inner):
    r"""BMO-H: the inner loop with an anchor (Halpern).

    .. math:: w^k = \tfrac{1}{k+1}w^0 + \tfrac{k}{k+1}F_s(w^{k-1})

    One line more than Algorithm 1; ``steps`` is one number :math:`s`. Book: chapter 6
    introduces it, chapter 14 proves what it gains. Ours, not the paper's.

    Example:
        >>> import torch, bmo
        >>> D = bmo.operators.Lambda(lambda u: -u, bmo.metric.Identity())
        >>> inner = bmo.AnchoredInner(bmo.GKM(D, alpha=0.5), mu=0.0, steps=0.5)
        >>> inner(torch.ones(1), lambda u: 0 * u.sum(-1), iterations=3)
        tensor([0.2500])
    """

    def iterates(self, u0: Tensor, upper: Upper, iterations: int) -> Iterator[Tensor]:
        """Yield :math:`w^1, ..., w^n`."""
        loop, w = self.prepared(), u0
        metric = loop.training_map.metric
        for k, s in enumerate(self.sizes(iterations), 1):
            w = (u0 + k * loop.step(w, s, upper, metric)) / (k + 1)
            yield w
