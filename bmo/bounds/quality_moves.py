r"""How far a step of Algorithm 1 still moves, and what follows: Theorem A+.

Book: chapter 7. Norms are those of :math:`H_\omega`; the letters are those of ``quality.py``.
"""

from __future__ import annotations

import math

from bmo.bounds.quality import map_relaxation, require_window
from bmo.bounds.ranges import require_closed, require_count, require_nonnegative, require_positive


def move_window(
    k: int,
    window: int,
    change: float,
    *,
    alpha: float,
    mu: float,
    diameter: float,
    slope: float,
) -> float:
    r"""Theorem A+: a bound on :math:`e_k = \|u^{k+1}-u^k\|`, the same for every :math:`\omega`.

    .. math:: e_k \le \sqrt{\frac{\Delta^2+2\mu G\Delta w\sigma+\mu^2G^2w\sigma^2}{c_Fw}}
              + 2\mu G\sigma

    ``residual_from_step`` and ``upper_gap`` turn it into bounds on the residual and the value.

    Args:
        k: Number of steps done, >= 0.
        window: :math:`w`, in 1, ..., k + 1.
        change: :math:`\sigma = s_{k-w+2} - s_{k+1} \ge 0`.
        alpha: In (0, 1).
        mu: In [0, 1).
        diameter: :math:`\Delta \ge 0`.
        slope: :math:`G \ge 0`.

    Raises:
        DomainError: An argument is outside its range.

    Book: chapter 7, Theorem A+.

    Example:
        >>> from bmo import bounds
        >>> bounds.move_window(3, 4, 0.0, alpha=0.5, mu=0.5, diameter=1.0, slope=1.0)
        1.0
    """
    c, w, d = map_relaxation(alpha, mu), require_window(window, k), diameter
    drift = mu * require_nonnegative("slope", slope) * require_nonnegative("change", change)
    square = require_nonnegative("diameter", d) ** 2 + 2 * drift * d * w + drift**2 * w
    return math.sqrt(square / (c * w)) + 2 * drift


def move_constant(k: int, *, alpha: float, mu: float, diameter: float) -> float:
    r"""Theorem A+ for a constant step: :math:`e_k \le \Delta/\sqrt{c_F(k+1)}`.

    Book: chapter 7, the corollary on constant steps.

    Example:
        >>> from bmo import bounds
        >>> bounds.move_constant(3, alpha=0.5, mu=0.5, diameter=1.0)
        1.0
    """
    return move_window(k, k + 1, 0.0, alpha=alpha, mu=mu, diameter=diameter, slope=0.0)


def power_window(k: int, p: float) -> int:
    r""":math:`w = \min(\lceil(k+1)^{(1+p)/2}\rceil, \lceil(k+1)/2\rceil)`, for :math:`s/(k+1)^p`.

    Raises:
        DomainError: ``p`` is outside [0, 1] or ``k`` is no count.

    Book: chapter 7, the corollary on power schedules.

    Example:
        >>> from bmo import bounds
        >>> bounds.power_window(99, 0.5), bounds.power_window(9999, 0.5)
        (32, 1000)
    """
    n = require_count("k", k) + 1
    power = n ** ((1 + require_closed("p", p, 0.0, 1.0)) / 2)
    return min(math.ceil(power - 1e-9), math.ceil(n / 2))


def move_power(
    k: int, s: float, p: float, *, alpha: float, mu: float, diameter: float, slope: float
) -> float:
    r"""Theorem A+ for :math:`s_k = s/(k+1)^p`, in closed form: :math:`e_k = O(k^{-(1+p)/4})`.

    .. math:: e_k \le \sqrt{\tfrac2{c_F}}\,\frac{\Delta+\mu GQ}{(k+1)^{(1+p)/4}}
              + \frac{4\mu GQ}{(k+1)^{(1+p)/2}}, \qquad Q = 2^{2+p}ps

    Args:
        k: Number of steps done, >= 0.
        s: Scale of the schedule, at most :math:`2^{1+p}/L_H`.
        p: In [0, 1].
        alpha: In (0, 1).
        mu: In [0, 1).
        diameter: :math:`\Delta \ge 0`.
        slope: :math:`G \ge 0`.

    Raises:
        DomainError: An argument is outside its range.

    Book: chapter 7, the corollary on power schedules.

    Example:
        >>> from bmo import bounds
        >>> bounds.move_power(15, 1.0, 1.0, alpha=0.5, mu=0.5, diameter=1.0, slope=0.0) == 0.5**0.5
        True
    """
    c, n = map_relaxation(alpha, mu), require_count("k", k) + 1
    q = 2 ** (2 + require_closed("p", p, 0.0, 1.0)) * p * require_positive("s", s)
    drift = mu * require_nonnegative("slope", slope) * q
    lead = math.sqrt(2 / c) * (require_nonnegative("diameter", diameter) + drift)
    return lead / n ** ((1 + p) / 4) + 4 * drift / n ** ((1 + p) / 2)
