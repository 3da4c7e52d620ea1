r"""Steps with a denoiser in the place of a proximal operator: RED, and plug-and-play.

Book: chapter 4, "Steps with networks". The denoiser must be nonexpansive in the Euclidean metric;
that is an assumption about the network, kept by those of :mod:`bmo.networks` and by few others.
"""

from __future__ import annotations

from torch import Tensor

from bmo.errors import ConditionError
from bmo.metric import Identity, Metric, exact
from bmo.operators.base import Operator
from bmo.operators.splitting import require_euclidean
from bmo.smooth import Smooth


def _curvature(smooth: Smooth, dims: int) -> float:
    return float(smooth.curvature(Identity(dims)).detach())


class RED(Operator):
    r"""Regularisation by denoising, :math:`D = I - \tau C`, :math:`C = \nabla f + \lambda(I - N)`.

    C is :math:`1/(L + 2\lambda)`-cocoercive, so D is nonexpansive in the Euclidean metric for
    :math:`\tau \le 2/(L + 2\lambda)`, and :math:`\tau(L + 2\lambda)/2`-averaged. Book: chapter 4,
    "Steps with networks".

    Args:
        smooth: :math:`f`, with its curvature L.
        denoiser: :math:`N`, an operator nonexpansive in the Euclidean metric.
        weight: :math:`\lambda \ge 0`.
        step: :math:`\tau`; ``None`` for the longest, :math:`2/(L + 2\lambda)`.
        check: Refuse a violated condition.

    Raises:
        ConditionError: :math:`\lambda < 0`, or not :math:`0 < \tau \le 2/(L + 2\lambda)`.
        MetricError: The denoiser is claimed in another metric.

    Example:
        >>> import torch, bmo
        >>> f = bmo.LeastSquares(torch.eye(2), torch.tensor([3.0, 1.0]))
        >>> N = bmo.operators.Lambda(lambda u: 0 * u, bmo.metric.Identity())
        >>> D = bmo.operators.RED(f, N, weight=1.0)
        >>> bmo.GKM(D, 0.5).iterate(torch.zeros(2), tol=1e-7).value.round(decimals=4)
        tensor([1.5000, 0.5000])
    """

    def __init__(
        self,
        smooth: Smooth,
        denoiser: Operator,
        weight: float | Tensor,
        step: float | Tensor | None = None,
        check: bool = True,
    ) -> None:
        super().__init__()
        self.smooth, self.denoiser = smooth, denoiser
        self.certified = denoiser.certified if check else "none"
        if check:
            require_euclidean(denoiser)
        self.L = _curvature(smooth, denoiser.metric.event_dims)
        self.weight = exact(weight)
        self.step = exact(2 / (self.L + 2 * self.weight.detach()) if step is None else step)
        if check:
            self._require(float(self.weight.detach()), float(self.step.detach()))

    def _require(self, weight: float, step: float) -> None:
        if not weight >= 0:
            raise ConditionError("weight >= 0", f"{weight:g}", "make it nonnegative", weight)
        limit = 2 / (self.L + 2 * weight)
        if not 0 < step <= limit * (1 + 1e-12):
            raise ConditionError(
                f"0 < step <= 2/(L + 2 weight) = {limit:.6g}", f"{step:.6g}", "shorten it", step
            )

    def _numbers(self) -> tuple[Tensor, Tensor]:
        r""":math:`\lambda` and :math:`\tau` at the current parameters."""
        return self.weight, self.step

    @property
    def metric(self) -> Metric:
        return Identity(self.denoiser.metric.event_dims)

    @property
    def averaged(self) -> float:
        weight, step = self._numbers()
        return min(1.0, float((step * (self.L + 2 * weight) / 2).detach()))

    def forward(self, u: Tensor) -> Tensor:
        weight, step = self._numbers()
        return u - step.to(u) * (self.smooth(u) + weight.to(u) * (u - self.denoiser(u)))


class PnPProximalGradient(Operator):
    r"""Plug-and-play proximal gradient, :math:`D = N \circ (I - \tau\nabla f)`.

    Nonexpansive in the Euclidean metric if N is and :math:`\tau \le 2/L`; averaged if N is averaged
    and :math:`\tau < 2/L`. Book: chapter 4, "Steps with networks".

    Args:
        smooth: :math:`f`, with its curvature L.
        denoiser: :math:`N`, an operator nonexpansive in the Euclidean metric.
        step: :math:`\tau`; ``None`` for :math:`1/L`.
        check: Refuse a violated condition.

    Raises:
        ConditionError: Not :math:`0 < \tau \le 2/L`.
        MetricError: The denoiser is claimed in another metric.

    Example:
        >>> import torch, bmo
        >>> f = bmo.LeastSquares(torch.eye(2), torch.tensor([3.0, 1.0]))
        >>> N = bmo.operators.Lambda(lambda u: u / 2, bmo.metric.Identity())
        >>> bmo.operators.PnPProximalGradient(f, N)(torch.zeros(2))
        tensor([1.5000, 0.5000])
    """

    def __init__(
        self,
        smooth: Smooth,
        denoiser: Operator,
        step: float | Tensor | None = None,
        check: bool = True,
    ) -> None:
        super().__init__()
        self.smooth, self.denoiser = smooth, denoiser
        L = _curvature(smooth, denoiser.metric.event_dims)
        self.step = exact(1 / L if step is None else step)
        self.certified = denoiser.certified if check else "none"
        if check:
            require_euclidean(denoiser)
            if not 0 < float(self.step.detach()) <= 2 / L * (1 + 1e-12):
                raise ConditionError(
                    f"0 < step <= 2/L = {2 / L:.6g}",
                    f"{float(self.step.detach()):.6g}",
                    "shorten it",
                    self.step,
                )

    @property
    def metric(self) -> Metric:
        return Identity(self.denoiser.metric.event_dims)

    @property
    def averaged(self) -> float:
        L = _curvature(self.smooth, self.denoiser.metric.event_dims)
        first, second = self.denoiser.averaged, min(1.0, float(self.step.detach()) * L / 2)
        if first >= 1 or second >= 1:
            return 1.0
        total = first / (1 - first) + second / (1 - second)
        return total / (1 + total)

    def forward(self, u: Tensor) -> Tensor:
        return self.denoiser(u - self.step.to(u) * self.smooth(u))
