r"""The Generalized Krasnoselskii-Mann scheme, :math:`T = (1-\alpha)I + \alpha D`.

Book: chapters 3 and 4. With :math:`D` nonexpansive in :math:`H_\omega` and
:math:`\alpha \in (0, 1)`, the iterates :math:`u^{k+1} = T(u^k)` converge to a fixed point and
the residual :math:`r_k = \|u^k - Tu^k\|_H` falls faster than :math:`1/\sqrt{k}` (Proposition 1).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import torch
from torch import Tensor, nn

from bmo.errors import (
    ConditionError,
    DomainError,
    NonFiniteError,
    ShapeError,
    require_number,
    require_tensor,
    require_whole,
)
from bmo.metric import Metric, require_same_kind
from bmo.operators.base import Operator
from bmo.result import Result, Status

__all__ = ["GKM"]

Observers = Mapping[str, Callable[[Tensor], Tensor]]


def require_alpha(alpha: float) -> float:
    r"""Refuse :math:`\alpha` outside (0, 1), and say why 1 itself is refused."""
    require_number("alpha", alpha)
    if alpha == 1:
        raise DomainError(
            "alpha in the open interval (0, 1)",
            "alpha = 1, for which the iteration need not converge (D = -I cycles for ever)",
            "use alpha = 0.5, or operators.Unrelaxed if D itself is averaged",
            alpha,
        )
    if not 0 < alpha < 1:
        raise DomainError("alpha in the open interval (0, 1)", f"alpha = {alpha}", "0.5 is a start")
    return float(alpha)


def require_start(u0: Tensor, operator: nn.Module, metric: Metric) -> None:
    """Refuse a start of wrong shape, dtype or device, without points, or with NaN or infinity."""
    metric.check(require_tensor("u0", u0))
    if not u0.numel():
        raise ShapeError("at least one point u0", f"shape {tuple(u0.shape)}", "add a point", u0)
    for tensor in [*operator.parameters(), *operator.buffers()]:
        if tensor.is_floating_point() and tensor.dim():  # numbers follow the points
            require_same_kind(u0, tensor, "u0")
    if not u0.is_floating_point():
        raise ShapeError("a floating point u0", f"{u0.dtype}", "use u0.to(torch.float64)", u0)
    if not bool(torch.isfinite(u0).all()):
        raise NonFiniteError("a finite u0", "NaN or infinity", "clean the observation first", u0)


class GKM(nn.Module):
    r"""The training map :math:`T(u) = (1-\alpha)u + \alpha D(u)`.

    Args:
        operator: :math:`D`, nonexpansive in ``operator.metric``.
        alpha: :math:`\alpha \in (0, 1)`, the relaxation.
        check: Refuse :math:`\alpha` outside (0, 1). ``False`` exists to show what then happens.

    Raises:
        DomainError: ``alpha`` is outside (0, 1).
        ConditionError: ``operator`` is a plain function or network.

    Example:
        >>> import torch, bmo
        >>> R = bmo.operators.Lambda(lambda u: -u, bmo.metric.Identity())
        >>> T = bmo.GKM(R, alpha=0.25)
        >>> T(torch.ones(1))
        tensor([0.5000])
        >>> T.iterate(torch.ones(1), tol=1e-6).converged
        True
    """

    def __init__(self, operator: Operator, alpha: float = 0.5, check: bool = True) -> None:
        super().__init__()
        if not isinstance(operator, Operator):
            raise ConditionError(
                "an operator, which knows its metric",
                type(operator).__name__,
                "wrap your own step: bmo.operators.Own(step, point=u0[0])",
                operator,
            )
        self.operator = operator
        self.alpha = require_alpha(alpha) if check else float(alpha)

    @property
    def metric(self) -> Metric:
        r""":math:`H_\omega`, the metric of the operator."""
        return self.operator.metric

    @property
    def averaged(self) -> float:
        r""":math:`\alpha a`: the constant for which T itself is averaged."""
        return self.alpha * self.operator.averaged

    def forward(self, u: Tensor) -> Tensor:
        """:math:`T(u)`, same shape as ``u``."""
        return (1 - self.alpha) * u + self.alpha * self.operator(u)

    def residual(self, u: Tensor) -> Tensor:
        r""":math:`r(u) = \|u - T(u)\|_H`, shape = batch shape."""
        return self.metric.norm(u - self(u))

    def prepared(self) -> GKM:
        """The same map for one loop: what depends on no iterate is computed once."""
        return GKM(self.operator.prepared(), self.alpha, check=False)

    def bind(self, **data: Tensor) -> GKM:
        """The same map (parameters shared) on other data."""
        return GKM(self.operator.bind(**data), self.alpha, check=False)

    @torch.no_grad()
    def iterate(
        self,
        u0: Tensor,
        iterations: int = 10_000,
        tol: float | None = None,
        observe: Observers | None = None,
        throw: bool = True,
    ) -> Result:
        r"""Run :math:`u^{k+1} = T(u^k)` without gradients: training with :math:`\omega` fixed.

        This is what a learned operator is used for. It knows no upper objective and no
        ground truth.

        Args:
            u0: Start, shape (..., n); axes before the point's own are batch.
            iterations: Largest number of steps.
            tol: Stop once every point of the batch has :math:`r_k \le` ``tol``; ``None``: never.
            observe: Functions of the iterate, recorded at :math:`u^0, u^1, \dots` in ``trace``.
            throw: Raise if an iterate is not finite; otherwise return the last finite one.

        Returns:
            The :class:`~bmo.result.Result`; ``residuals[k]`` is :math:`r_k`.

        Raises:
            NonFiniteError: An iterate is NaN or infinite (its ``value`` is the result so far).
            ShapeError: ``u0`` does not fit the operator.
            DomainError: ``iterations`` is not a whole number >= 0, or ``tol`` is negative.
        """
        require_start(u0, self.operator, self.metric)
        require_whole("iterations", iterations)
        if tol is not None and not require_number("tol", tol) >= 0:
            raise DomainError("tol >= 0, or None", f"tol = {tol}", "1e-6 is a start", tol)
        metric, u = self.metric, u0
        residuals: list[Tensor] = []
        trace: dict[str, list[Tensor]] = {name: [f(u)] for name, f in (observe or {}).items()}
        status = Status.FINISHED if tol is None else Status.LIMIT
        for step in range(iterations):
            new = self(u)
            if not bool(torch.isfinite(new).all()):
                return _nonfinite(u, step, residuals, trace, throw)
            r = metric.norm(u - new)
            residuals.append(r)
            if tol is not None and bool((r <= tol).all()):
                status = Status.CONVERGED
                break
            u = new
            for name, f in (observe or {}).items():
                trace[name].append(f(u))
        done = len(residuals) - (status is Status.CONVERGED)
        return Result(u, status, done, stack(residuals, u), trace)


def stack(residuals: list[Tensor], like: Tensor) -> Tensor:
    """Residuals of all steps as one tensor (empty if there was no step)."""
    return torch.stack(residuals) if residuals else like.new_zeros(0)


def _nonfinite(
    u: Tensor, step: int, residuals: list[Tensor], trace: dict[str, list[Tensor]], throw: bool
) -> Result:
    """End a run at its last finite iterate: raise with the result inside, or return it."""
    result = Result(u, Status.NONFINITE, step, stack(residuals, u), trace)
    if throw:
        raise NonFiniteError(
            "finite iterates",
            f"NaN or infinity at step {step + 1}",
            "check the operator with bmo.certify.nonexpansive; value holds the result so far",
            result,
        )
    return result
