r"""The worst cases of Algorithm 1 and of BMO-H, with a merely convex upper objective.

Book: chapter 14, "Performance-estimation certificates".
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from bmo.bounds.ranges import require_half_open, require_open, require_positive
from bmo.errors import DomainError
from bmo.performance.certificate import Certificate, certify, new, nonexpansive, origin, pepit, zero

MEASURES = ("value", "residual")


def loop_worst_case(
    steps: Sequence[float],
    alpha: float,
    mu: float,
    *,
    measure: str = "value",
    anchored: bool = False,
    lipschitz: float = 1.0,
    slope: float = 1.0,
) -> Certificate:
    r"""The worst case after K = ``len(steps)`` inner steps, over runs that meet no projection.

    The class: :math:`\bar u \in S`, U the unit ball around it, :math:`u^0 \in U`,
    :math:`D : U \to U` nonexpansive, :math:`\ell` convex with an ``lipschitz``-Lipschitz
    gradient g and :math:`\|g\| \le` ``slope`` at :math:`\bar u` and at the iterates, all in the
    metric of H, in every dimension; and no projection of the run has anything to do. Measured is

    * ``value``: :math:`\ell(u^K)-\ell(\bar u)`;
    * ``residual``: :math:`\|u^K-Tu^K\|^2`, the square.

    Args:
        steps: :math:`s_1,\dots,s_K > 0`; for BMO-H they are usually equal.
        alpha: In (0, 1).
        mu: In [0, 1).
        measure: ``"value"`` or ``"residual"``.
        anchored: BMO-H instead of Algorithm 1.
        lipschitz: :math:`L_H > 0`.
        slope: :math:`G > 0`.

    Raises:
        DomainError: An argument is outside its range.
        CertificateError: The extra ``certificates`` is not installed.

    Book: chapter 14, "Performance-estimation certificates".

    Example:
        >>> from bmo.performance import loop_worst_case
        >>> round(loop_worst_case([1.0, 1.0], 0.5, 0.5).bound, 5)
        0.25
    """
    alpha, mu = require_open("alpha", alpha, 0.0, 1.0), require_half_open("mu", mu, 0.0, 1.0)
    if measure not in MEASURES:
        raise DomainError(f"measure: {' or '.join(MEASURES)}", measure, "choose one", measure)
    slope, run = require_positive("slope", slope), _Run(lipschitz, slope)
    u = run.start
    for k, s in enumerate(steps, 1):
        moved, g, _ = run.look(u)
        Tu = (1 - alpha) * u + alpha * moved
        u = (1 - mu) * Tu + mu * (u - require_positive("s", s) * g)
        run.problem.add_constraint(u**2 <= 1)
        if anchored:
            u = run.start / (k + 1) + k / (k + 1) * u
    moved, _, value = run.look(u)
    measured = value if measure == "value" else alpha**2 * (u - moved) ** 2
    # u^0 and the K + 1 images are in the unit ball; the K + 2 gradients are not above the slope.
    trace = (len(steps) + 2) * (1 + slope**2)
    scale = len(steps) + 1.0 if measure == "value" else 1.0
    # By convexity |l(u) - l(0)| <= slope |u|.
    return certify(run.problem, measured, trace, height=slope, scale=scale)


class _Run:
    r"""A problem with :math:`\bar u = 0`, its map D, its objective, and the start."""

    def __init__(self, lipschitz: float, slope: float) -> None:
        self.problem, self.slope = new(), slope
        self.D = nonexpansive(self.problem)
        convex = pepit("PEPit.functions").SmoothConvexFunction
        self.upper = self.problem.declare_function(
            convex, L=require_positive("lipschitz", lipschitz)
        )
        gradient = pepit("PEPit").Point()
        self.upper.add_point((origin(), gradient, zero()))
        self.problem.add_constraint(gradient**2 <= slope**2)
        self.start = self.problem.set_initial_point()
        self.problem.set_initial_condition(self.start**2 <= 1)

    def look(self, u: Any) -> tuple[Any, Any, Any]:
        r"""Du, the gradient and the value at u."""
        gradient, value = self.upper.oracle(u)
        self.problem.add_constraint(gradient**2 <= self.slope**2)
        return self.D.gradient(u), gradient, value
