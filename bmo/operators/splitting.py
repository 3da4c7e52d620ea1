r"""Douglas-Rachford, ADMM in its one-variable form, half-quadratic splitting.

Book: chapter 4. All three are nonexpansive in a multiple of the identity.
"""

from __future__ import annotations

from torch import Tensor

from bmo.errors import MetricError
from bmo.metric import Identity, Metric, Scaled, exact
from bmo.operators.base import Operator, Preparing
from bmo.operators.subproblem import Solvable, Subproblem, require_positive, subproblem


class DouglasRachford(Preparing):
    r"""The reflections of Douglas and Rachford, :math:`D = R_gR_f`.

    With :math:`R_f = 2\,\mathrm{prox}_{\tau f} - I`. Nonexpansive in the Euclidean metric for
    every :math:`\tau > 0`. ``GKM(D, 0.5)`` is the textbook method, another :math:`\alpha` its
    relaxed form. A fixed point :math:`z` is not the solution: :meth:`solution` is, and
    :math:`z \mapsto \ell(\mathrm{prox}_{\tau f}(z))` need not be convex, so take the two-block
    form (:class:`~bmo.operators.LinearisedADMM`) where an upper objective must be. Book: chapter
    4, "Douglas-Rachford, and ADMM once more".

    Args:
        f: A Prox or a quadratic function.
        g: A Prox or a quadratic function.
        tau: :math:`\tau > 0`.
        check: Refuse a violated condition.

    Raises:
        ConditionError: :math:`\tau \le 0`.

    Example:
        >>> import torch, bmo
        >>> f = bmo.prox.SquaredL2(1.0, center=torch.tensor([3.0, 0.5]))
        >>> D = bmo.operators.DouglasRachford(f, bmo.prox.L1(1.0), tau=1.0)
        >>> z = bmo.GKM(D, 0.5).iterate(torch.zeros(2), tol=1e-7).value
        >>> D.solution(z).round(decimals=4)
        tensor([2., 0.])
    """

    def __init__(
        self, f: Solvable, g: Solvable, tau: float | Tensor = 1.0, check: bool = True
    ) -> None:
        super().__init__()
        self.f, self.g = f, g
        self.check = check
        self.certified = "checked" if check else "none"
        self._tau = exact(tau)
        self.prepare()

    def _number(self) -> Tensor:
        r""":math:`\tau` at the current parameters."""
        return self._tau

    def _compute(self) -> tuple[Subproblem, Subproblem]:
        tau = self._number()
        if self.check:
            require_positive(tau, "tau")
        metric = Scaled(1 / tau, check=False)
        return subproblem(self.f, metric), subproblem(self.g, metric)

    @property
    def metric(self) -> Metric:
        return Identity()

    def solution(self, z: Tensor) -> Tensor:
        r""":math:`\mathrm{prox}_{\tau f}(z)`: the minimiser of f + g if z is a fixed point."""
        return self.prepare()[0](z)

    def forward(self, z: Tensor) -> Tensor:
        prox_f, prox_g = self.prepare()
        w = 2 * prox_f(z) - z
        return 2 * prox_g(w) - w


class ADMM(DouglasRachford):
    r"""ADMM for :math:`\min f(x) + g(y)`, :math:`x = y`, in the one variable :math:`w = x + d`.

    With the scaled multiplier d, the three lines :math:`x^+ = \mathrm{prox}_{f/\beta}(y - d)`,
    :math:`y^+ = \mathrm{prox}_{g/\beta}(x^+ + d)`, :math:`d^+ = d + x^+ - y^+` are
    :math:`w^+ = \tfrac12(I + R_fR_g)w`. So :math:`D = R_fR_g` is nonexpansive in the Euclidean
    metric for every penalty :math:`\beta > 0`, and ``GKM(D, 0.5)`` is ADMM. Book: chapter 4.

    Args:
        f: A Prox or a quadratic function.
        g: A Prox or a quadratic function.
        beta: The penalty :math:`\beta = 1/\tau > 0`.
        check: Refuse a violated condition.

    Raises:
        ConditionError: :math:`\beta \le 0`.

    Example:
        >>> import torch, bmo
        >>> f = bmo.prox.SquaredL2(1.0, center=torch.tensor([3.0, 0.5]))
        >>> D = bmo.operators.ADMM(f, bmo.prox.L1(1.0), beta=1.0)
        >>> w = bmo.GKM(D, 0.5).iterate(torch.zeros(2), tol=1e-7).value
        >>> y, d = D.variables(w)
        >>> y.round(decimals=4)
        tensor([2., 0.])
    """

    def __init__(
        self, f: Solvable, g: Solvable, beta: float | Tensor = 1.0, check: bool = True
    ) -> None:
        number = exact(beta)
        if check:
            require_positive(number, "beta")
        super().__init__(g, f, 1 / number, check)

    def variables(self, w: Tensor) -> tuple[Tensor, Tensor]:
        """The pair (y, d) of the textbook form that belongs to w; d is the scaled multiplier."""
        y = self.solution(w)
        return y, w - y


class HalfQuadratic(Preparing):
    r"""Half-quadratic splitting with a network, :math:`D = \mathrm{prox}_{\tau f} \circ N`.

    Nonexpansive in the Euclidean metric if N is; any :math:`\tau > 0`. Book: chapter 4,
    "Steps with networks".

    Args:
        f: The data term: a Prox or a quadratic function.
        network: :math:`N`, an operator nonexpansive in the Euclidean metric.
        tau: :math:`\tau > 0`.
        check: Refuse a violated condition.

    Raises:
        ConditionError: :math:`\tau \le 0`.
        MetricError: The network is claimed in another metric.

    Example:
        >>> import torch, bmo
        >>> N = bmo.operators.Lambda(lambda u: 0 * u, bmo.metric.Identity())
        >>> f = bmo.prox.SquaredL2(1.0, center=torch.tensor([3.0]))
        >>> bmo.operators.HalfQuadratic(f, N, tau=2.0)(torch.zeros(1))
        tensor([2.])
    """

    def __init__(
        self, f: Solvable, network: Operator, tau: float | Tensor = 1.0, check: bool = True
    ) -> None:
        super().__init__()
        self.f, self.network = f, network
        self.check = check
        self.certified = network.certified if check else "none"
        self._tau = exact(tau)
        if check:
            require_euclidean(network)
        self.prepare()

    def _number(self) -> Tensor:
        r""":math:`\tau` at the current parameters."""
        return self._tau

    def _depends(self) -> list[Tensor]:
        return [*self.f.parameters(), *self.f.buffers()]

    def _compute(self) -> Subproblem:
        tau = self._number()
        if self.check:
            require_positive(tau, "tau")
        dims = self.network.metric.event_dims
        return subproblem(self.f, Scaled(1 / tau, dims, check=False))

    @property
    def metric(self) -> Metric:
        return Identity(self.network.metric.event_dims)

    @property
    def averaged(self) -> float:
        a = self.network.averaged
        return 1.0 if a >= 1 else 1 / (2 - a)  # kappa = k/(k + 1) with k = (1 - a)/a: 1/(1 + kappa)

    def forward(self, u: Tensor) -> Tensor:
        return self.prepare()(self.network(u))


def require_euclidean(operator: Operator) -> None:
    """Refuse an operator whose claim is not in a multiple of the identity."""
    weights = operator.metric.weights()
    if weights is None or weights.numel() != 1:
        raise MetricError(
            "a network nonexpansive in the Euclidean metric",
            f"{type(operator).__name__} in {type(operator.metric).__name__}",
            "use a network certified there (bmo.networks)",
            operator,
        )
