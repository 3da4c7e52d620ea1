r"""A Fourier data step with a denoiser: half-quadratic splitting, and Douglas-Rachford.

Book: chapter 11, "A step that always converges". The network N is nonexpansive in the Euclidean
metric. In another Fourier metric :math:`H = R^\top R` it is used as :math:`N_H = R^{-1} \circ N
\circ R`, which is nonexpansive there.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Self

from torch import Tensor

from bmo.errors import ConditionError
from bmo.metric import Metric
from bmo.operators.base import Operator, _shallow
from bmo.operators.data_step import FourierStart, FourierStep
from bmo.operators.splitting import require_euclidean
from bmo.sets import Set


class WithDenoiser(Operator):
    """What both forms share: the parts, binding them all, and the denoiser in the metric.

    Args:
        data: The data step.
        denoiser: N, an operator nonexpansive in the Euclidean metric.
        start: The Tikhonov start; its image is bound to every buffer ``guide`` of the denoiser.
        domain: A bounded closed convex set, in which the denoiser's outputs are projected.
        check: Refuse a denoiser that claims another metric.

    Raises:
        MetricError: The denoiser is claimed in another metric than the Euclidean one.
    """

    _guided = False  # whether the guide was given by hand

    def __init__(
        self,
        data: FourierStep,
        denoiser: Operator,
        start: FourierStart | None = None,
        domain: Set | None = None,
        check: bool = True,
    ) -> None:
        super().__init__()
        if check:
            require_euclidean(denoiser)
        self.data, self.denoiser, self.start = data, denoiser, start
        self.domain = domain
        self.certified = denoiser.certified if check else "none"

    @property
    def metric(self) -> Metric:
        return self.data.metric

    def bind(self, **data: Any) -> Self:
        """The same operator on other data; every part that has data of a name is given it.

        ``D.bind(b=..., symbol=..., sigma=...)``. Where there is a ``start``, the denoiser's
        ``guide`` is computed from these.

        Raises:
            ConditionError: No part has data of that name.
        """
        unknown = [name for name in data if not any(_has(part, name) for part in self.children())]
        if unknown:
            known = sorted({n.rsplit(".", 1)[-1] for n, _ in self.named_buffers()})
            raise ConditionError(f"one of the data {known}", f"{unknown}", "use one of these names")
        clone = _shallow(self)
        clone._guided = "guide" in data or (self._guided and "b" not in data)
        if self.start is not None:
            clone._modules["start"] = start = _bound(self.start, data)
            if _has(self.denoiser, "guide") and not clone._guided:
                data = {"guide": start.start(), **data}
        clone._modules["data"] = _bound(self.data, data)
        clone._modules["denoiser"] = _bound(self.denoiser, data)
        return clone

    def prepared(self) -> Self:
        """The same operator for one loop; a guide is computed again from the start."""
        return self.bind()

    def denoise(self, u: Tensor) -> Tensor:
        """:math:`N_H(u)`: the denoiser, carried into the metric of the data step."""
        if self.data.kind == "euclidean":
            return self._inside(self.denoiser(u))
        metric = self.data.metric
        return metric.unfactor(self._inside(self.denoiser(metric.factor(u))))

    def _inside(self, w: Tensor) -> Tensor:
        return w if self.domain is None else self.domain.nearest(w)


class FourierHalfQuadratic(WithDenoiser):
    r"""Half-quadratic splitting with a network, :math:`D = D_{\mathrm{num}} \circ N_H`.

    Nonexpansive in the metric H of the data step, for every weight of both parts. If
    :math:`\hat k` has no zero, D contracts and has exactly one fixed point. Otherwise fixed points
    exist if ``domain`` is given. Book: chapter 11, Theorem "It always converges".

    Args:
        data: A :class:`FourierDataStep` or :class:`FourierGradientStep`.
        denoiser: N, an operator nonexpansive in the Euclidean metric.
        start: A :class:`FourierStart`, which gives :meth:`initial` and the denoiser's ``guide``.
        domain: A bounded closed convex set for the denoiser's outputs, such as ``sets.Box(0, 1)``.
        check: Refuse a denoiser that claims another metric.

    Raises:
        MetricError: The denoiser is claimed in another metric.

    Example:
        >>> import torch, bmo
        >>> symbol = torch.ones(1, 4, 3, dtype=torch.complex64)
        >>> data = bmo.operators.FourierDataStep(symbol, torch.ones(1, 4, 4), weight=1.0)
        >>> N = bmo.operators.Lambda(lambda u: u / 2, bmo.metric.Identity(3))
        >>> D = bmo.operators.FourierHalfQuadratic(data, N)
        >>> bmo.GKM(D, 0.9).iterate(torch.zeros(1, 4, 4), tol=1e-6).value.mean()  # u = (u/2 + 1)/2
        tensor(0.6667)
    """

    @property
    def averaged(self) -> float:
        parts = [self.data.averaged, self.denoiser.averaged]
        return _composed([*parts, 0.5] if self.domain is not None else parts)

    def initial(self) -> Tensor:
        """The start :math:`u^0` of the loop, from the observation alone.

        Raises:
            ConditionError: No start was given.
        """
        return _require_start(self.start).start()

    def forward(self, u: Tensor) -> Tensor:
        image: Tensor = self.data(self.denoise(u))
        return image


class FourierDouglasRachford(WithDenoiser):
    r"""Douglas-Rachford with a network, :math:`D = (2N_H - I)(2D_{\mathrm{num}} - I)`.

    ``GKM(D, 0.5)`` is ADMM with a denoiser in one variable. The denoiser must be *firmly*
    nonexpansive (1/2-averaged), then D is nonexpansive in the metric H. A fixed point z is not
    the image: :meth:`solution` is, :math:`u = D_{\mathrm{num}}(z)`. This map is affine, so
    :math:`z \mapsto \ell(D_{\mathrm{num}}(z))` is convex where :math:`\ell` is. Book: chapter 11.

    Args:
        data: The data step; firmly nonexpansive.
        denoiser: N, firmly nonexpansive in the Euclidean metric.
        start: A :class:`FourierStart`.
        check: Refuse parts that are not firmly nonexpansive.

    Raises:
        ConditionError: A part is not known to be 1/2-averaged.
        MetricError: The denoiser is claimed in another metric.

    Example:
        >>> import torch, bmo
        >>> symbol = torch.ones(1, 4, 3, dtype=torch.complex64)
        >>> data = bmo.operators.FourierDataStep(symbol, torch.ones(1, 4, 4), weight=1.0)
        >>> N = bmo.operators.Lambda(lambda u: u / 2, bmo.metric.Identity(3), averaged=0.5)
        >>> D = bmo.operators.FourierDouglasRachford(data, N)
        >>> z = bmo.GKM(D, 0.5).iterate(torch.zeros(1, 4, 4), tol=1e-6).value
        >>> D.solution(z).detach().mean()  # the minimiser of (u - 1)^2 / 2 + u^2 / 2
        tensor(0.5000)
    """

    def __init__(
        self,
        data: FourierStep,
        denoiser: Operator,
        start: FourierStart | None = None,
        check: bool = True,
    ) -> None:
        super().__init__(data, denoiser, start, check=check)
        if check:
            for name, part in (("data step", data), ("denoiser", denoiser)):
                if part.averaged > 0.5:
                    raise ConditionError(
                        f"a firmly nonexpansive {name} (averaged <= 1/2)",
                        f"averaged = {part.averaged:g}",
                        "average it with the identity, or use FourierHalfQuadratic",
                        part.averaged,
                    )

    def solution(self, z: Tensor) -> Tensor:
        r""":math:`u = D_{\mathrm{num}}(z)`."""
        u: Tensor = self.data(z)
        return u

    def forward(self, z: Tensor) -> Tensor:
        w = 2 * self.solution(z) - z
        return 2 * self.denoise(w) - w


def _has(part: Any, name: str) -> bool:
    return any(name in module._buffers for module in part.modules())


def _bound(part: Any, data: dict[str, Any]) -> Any:
    mine = {name: value for name, value in data.items() if _has(part, name)}
    return part.bind(**mine) if mine else part.prepared()


def _composed(constants: Iterable[float]) -> float:
    total = 0.0
    for a in constants:
        if a >= 1:
            return 1.0
        total += a / (1 - a)
    return total / (1 + total)


def _require_start(start: FourierStart | None) -> FourierStart:
    if start is None:
        raise ConditionError("a FourierStart", "none", "give start=FourierStart(symbol, b)")
    return start
