r"""Steps 3-8 of Algorithm 1: training and upper objective in one loop, and its anchored form.

.. math::
    v_l^k = T(u^{k-1}, \omega), \quad
    v_u^k = u^{k-1} - s_k H_\omega^{-1}\nabla_u\ell(u^{k-1}, \omega), \quad
    u^k = \mathrm{Proj}_{U,H_\omega}(\mu v_u^k + (1-\mu)v_l^k)

Book: chapter 6. The loop is differentiable in everything: that is how :math:`\omega` is learned.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator, Sequence
from typing import Self

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from bmo.errors import ConditionError, DomainError, NonFiniteError
from bmo.gkm import GKM, Observers, require_start, stack
from bmo.inner.by_hand import by_hand
from bmo.inner.upper import Upper, require_mu, upper_gradient
from bmo.metric import Metric
from bmo.result import Result, Status
from bmo.schedules import Schedule, as_steps, schedule
from bmo.sets import Set, Whole


class Inner(nn.Module):
    r"""The aggregated inner loop :math:`u^0 \mapsto u^K(\omega)` of Algorithm 1.

    Args:
        training: :math:`T`, the training map (a :class:`~bmo.gkm.GKM`).
        mu: :math:`\mu \in [0, 1)`, the weight of the upper step; 0 is plain training.
        steps: :math:`s_k`: a schedule, a sequence, or one number.
        domain: :math:`U` (all of space by default).
        upper_lipschitz: :math:`L_\ell`, if known: then it is checked that
            :math:`s_1 \le 2\lambda_{lb}/L_\ell`.
        check: Refuse violated conditions.
        fuse: Where the operator allows it, differentiate the loop by hand-written adjoints, once
            (:mod:`bmo.fused`). ``False``: always by autograd, which can be differentiated again.

    Raises:
        DomainError: ``mu`` is outside [0, 1).
        ScheduleError: The steps are not positive and nonincreasing.
        ConditionError: The first step is longer than the theorems allow, or ``training`` is no T.

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
        fuse: bool = True,
    ) -> None:
        super().__init__()
        if check and not isinstance(training, GKM):
            raise ConditionError(
                "the training map T", type(training).__name__, "give GKM(D, alpha)", training
            )
        self.training_map = training
        self.mu = require_mu(mu) if check else float(mu)
        self.steps = steps
        self.domain = domain if domain is not None else Whole()
        self.upper_lipschitz = upper_lipschitz
        self.check = check
        self.fuse = fuse

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
        v_l = self.training_map(u)
        if not self.mu:
            return self.domain.project(v_l, metric)
        v_u = u - s * upper_gradient(upper, u, metric)
        v = self.mu * v_u + (1 - self.mu) * v_l
        return self.domain.project(v, metric)

    @property
    def plain(self) -> bool:
        """Whether no subclass has changed the step."""
        return type(self).step is Inner.step and type(self).onward is Inner.onward

    def prepared(self) -> Self:
        """The same loop, its parameters shared: what all of its steps need is computed once."""
        clone = copy.copy(self)
        clone._modules = dict(self._modules)
        clone.training_map = self.training_map.prepared()
        return clone

    def weights(self, k: int) -> tuple[float, float]:
        """The weights of the anchor :math:`u^0` and of the step in :math:`u^k`: 0 and 1 here."""
        return 0.0, 1.0

    def iterates(self, u0: Tensor, upper: Upper, iterations: int) -> Iterator[Tensor]:
        """Yield :math:`u^1, u^2, ..., u^K`; the loop itself, open for inspection."""
        yield from self.prepared().onward(u0, u0, upper, self.sizes(iterations))

    def onward(
        self, u: Tensor, anchor: Tensor, upper: Upper, sizes: Sequence[float], done: int = 0
    ) -> Iterator[Tensor]:
        r"""Yield the iterates after :math:`u = u^{\mathrm{done}}`, one for each step size left."""
        metric = self.training_map.metric
        for k, s in enumerate(sizes, done + 1):
            new = self.step(u, s, upper, metric)
            back, on = self.weights(k)
            u = back * anchor + on * new if back else new
            yield u

    def one_map(self, iterations: int) -> float:
        r"""The constant s for which the loop is :math:`u^k = F_s(u^{k-1})`; any, where mu = 0.

        Raises:
            ConditionError: Every step is another map, so the loop has no fixed-point equation.
        """
        values = self.sizes(max(iterations, 1))
        if self.weights(1)[0]:
            raise ConditionError(
                "a loop that repeats one map",
                f"{type(self).__name__}, which moves less at each step",
                "unroll it: method 'reverse', 'recompute' or 'truncated'",
            )
        if self.mu and values[-1] < values[0]:
            raise ConditionError(
                "a loop that repeats one map: mu = 0, or a constant step s",
                f"mu = {self.mu}, s from {values[0]:.6g} to {values[-1]:.6g}",
                "unroll it: method 'reverse', 'recompute' or 'truncated'",
                values,
            )
        return values[0]

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
        u = self.advance(u0, u0, upper, self.sizes(iterations))
        self.require_finite(u)
        return u

    def require_finite(self, u: Tensor) -> None:
        """Refuse a result with NaN or infinity."""
        if self.check and not bool(torch.isfinite(u.detach()).all()):
            raise NonFiniteError(
                "a finite u^K", "NaN or infinity", "use run() to see at which step it happened", u
            )

    def advance(
        self,
        u: Tensor,
        anchor: Tensor,
        upper: Upper,
        sizes: Sequence[float],
        done: int = 0,
        segments: Sequence[int] | None = None,
    ) -> Tensor:
        r"""The iterate after the steps of these sizes, from :math:`u = u^{\mathrm{done}}`.

        Args:
            u: Where to start.
            anchor: :math:`u^0`.
            upper: :math:`\ell`.
            sizes: One step size for each step.
            done: How many steps were taken before.
            segments: Lengths of parts whose starts alone are kept for the backward pass.
        """
        loop = self.prepared()
        steps = [(s, *self.weights(k)) for k, s in enumerate(sizes, done + 1)]
        fused = by_hand(loop, u, upper, steps, segments)
        if fused is not None:
            return fused.run(u, anchor)

        def part(start: Tensor, first: int, count: int) -> Tensor:
            end, todo = start, sizes[first : first + count]
            for end in loop.onward(start, anchor, upper, todo, done + first):  # noqa: B007
                pass
            return end

        first, lengths = 0, list(segments or [len(sizes)])
        for count in lengths[:-1]:
            u = checkpoint(part, u, first, count, use_reentrant=False)
            first += count
        return part(u, first, lengths[-1])

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
