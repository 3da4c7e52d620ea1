r"""What a toy problem is: a training problem, or a bilevel problem, with its answer."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from bmo.gkm import GKM
from bmo.inner import Upper
from bmo.metric import Identity, Metric
from bmo.operators import Operator
from bmo.sets import Set, Whole


@dataclass(frozen=True)
class Training:
    r"""A training problem with a known answer.

    Attributes:
        operator: :math:`D`, with its metric.
        start: :math:`u^0`, shape (n,).
        solution: The answer, shape (n,): the fixed point, or with ``upper`` the best fixed point.
        residual: :math:`(\alpha, k) \mapsto r_k` of the iteration from ``start``, where known.
        upper: :math:`\ell`, if the problem has one.
        domain: :math:`U`.

    An example: :func:`bmo.problems.toy.rotation`.
    """

    operator: Operator
    start: Tensor
    solution: Tensor
    residual: Callable[[float, int], float] | None = None
    upper: Upper | None = None
    domain: Set = Whole()

    def training(self, alpha: float = 0.5) -> GKM:
        r""":math:`T = (1-\alpha)I + \alpha D`."""
        return GKM(self.operator, alpha)


@dataclass(frozen=True)
class Bilevel:
    r"""A bilevel problem solved by hand: minimise :math:`\ell(u;\omega)`, :math:`u \in S(\omega)`.

    Attributes:
        operator: :math:`D(\cdot, \omega)`; its parameter ``omega`` is what is learned.
        upper: :math:`\ell(\cdot\,; \omega)` at the current parameter, one value for each point.
        start: :math:`u^0`, shape (n,).
        domain: :math:`U`.
        parameter_domain: :math:`\Omega`.
        best: :math:`\omega \mapsto` the best point of :math:`S(\omega)`.
        nearest: :math:`(u, \omega) \mapsto` the Euclidean nearest point of :math:`S(\omega)`.
        value: :math:`\varphi(\omega)`.
        gradient: :math:`\nabla\varphi(\omega)`, where it exists.
        best_omega: The minimiser of :math:`\varphi` on :math:`\Omega`.

    An example: :func:`bmo.problems.toy.singleton_failure`.
    """

    operator: Parametrised
    upper: Upper
    start: Tensor
    domain: Set
    parameter_domain: Set
    best: Callable[[Tensor], Tensor]
    nearest: Callable[[Tensor, Tensor], Tensor]
    value: Callable[[Tensor], Tensor]
    gradient: Callable[[Tensor], Tensor]
    best_omega: Tensor

    @property
    def omega(self) -> nn.Parameter:
        r""":math:`\omega`, the parameter itself."""
        return self.operator.omega

    def training(self, alpha: float = 0.5) -> GKM:
        r""":math:`T = (1-\alpha)I + \alpha D`."""
        return GKM(self.operator, alpha)


class Parametrised(Operator):
    r"""A step written as a function of the point and of one parameter, :math:`D(u, \omega)`.

    Args:
        step: :math:`(u, \omega) \mapsto D(u, \omega)`.
        omega: Initial :math:`\omega`.
        metric: :math:`\omega \mapsto H_\omega` (the identity by default).

    Example:
        >>> import torch
        >>> from bmo.problems.toy import Parametrised
        >>> D = Parametrised(lambda u, w: w * u, torch.tensor(0.5))
        >>> D(torch.ones(1)).detach()
        tensor([0.5000])
    """

    certified = "none"

    def __init__(
        self,
        step: Callable[[Tensor, Tensor], Tensor],
        omega: Tensor,
        metric: Callable[[Tensor], Metric] | None = None,
    ) -> None:
        super().__init__()
        self.omega = nn.Parameter(omega.clone())
        self.step, self._metric = step, metric

    @property
    def metric(self) -> Metric:
        return Identity() if self._metric is None else self._metric(self.omega)

    def forward(self, u: Tensor) -> Tensor:
        return self.step(u, self.omega)


def vector(*entries: float) -> Tensor:
    """A point in double precision."""
    return torch.tensor(entries, dtype=torch.float64)


def half_square(u: Tensor, center: Tensor | float) -> Tensor:
    r""":math:`\tfrac12|u - c|^2`, one value for each point."""
    return 0.5 * (u - center).square().sum(-1)
