r"""What no memoryless loop can do (LB, LB2, LB3), and what the anchored loop does (H).

Book: chapter 14. Norms are those of :math:`H_\omega`; ``slope`` is :math:`G`, ``diameter`` is
:math:`\Delta`, :math:`\nu = (1-\mu)\alpha`.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

from bmo.bounds.ranges import (
    require_count,
    require_half_open,
    require_nonnegative,
    require_open,
    require_positive,
)
from bmo.errors import DomainError

GAP = math.exp(-0.5) / 2 - 0.25
r""":math:`c_0 = \tfrac12e^{-1/2}-\tfrac14`, the constant of Theorem LB2."""


def memoryless_residual(k: int) -> float:
    r"""Theorem LB: some rotation keeps :math:`\|u^k-Du^k\|` at least this large.

    .. math:: \sqrt{\tfrac{4}{k+1}\bigl(\tfrac{k}{k+1}\bigr)^k} \ge \frac{2}{\sqrt{e(k+1)}}

    The residual of :math:`T` is :math:`\alpha` times as much. Start at distance 1.

    Args:
        k: Number of steps done, >= 0.

    Raises:
        DomainError: ``k`` is not a count.

    Book: chapter 14, Theorem LB.

    Example:
        >>> from bmo import bounds
        >>> bounds.memoryless_residual(0), bounds.memoryless_residual(1)
        (2.0, 1.0)
    """
    k = require_count("k", k)
    return math.sqrt(4 / (k + 1) * (k / (k + 1)) ** k)


def memoryless_reach(steps: Sequence[float], alpha: float, mu: float) -> float:
    r"""The number :math:`P_K` of Theorem LB2, K = ``len(steps)``.

    .. math:: P_K = \min_{0\le m<K}\Bigl[\sum_{j\le m}s_j+\frac{s_{m+1}\sqrt{K+1}}{\nu}\Bigr]

    Args:
        steps: :math:`s_1\ge\dots\ge s_K>0`, K >= 1.
        alpha: In (0, 1).
        mu: In (0, 1).

    Raises:
        DomainError: An argument is outside its range, or the steps rise.

    Book: chapter 14, Theorem LB2.

    Example:
        >>> from bmo import bounds
        >>> bounds.memoryless_reach([1.0, 1.0, 1.0], 0.5, 0.5)
        8.0
    """
    nu = (1 - require_open("mu", mu, 0.0, 1.0)) * require_open("alpha", alpha, 0.0, 1.0)
    require_positive("K", len(steps))
    best, total, before = math.inf, 0.0, math.inf
    for s in steps:
        if not 0 < s <= before * (1 + 1e-12):
            raise DomainError("positive nonincreasing steps", f"{s} after {before}", "sort them", s)
        best = min(best, total + s * math.sqrt(len(steps) + 1) / nu)
        total, before = total + s, s
    return best


def memoryless_gap(steps: Sequence[float], alpha: float, mu: float) -> float:
    r"""Theorem LB2: :math:`\sup_\omega(\varphi_K-\varphi) \ge c_0\min(1, 1/(4\mu P_K))`.

    :math:`c_0 = \tfrac12e^{-1/2}-\tfrac14 > 0.05`; one instance with G = 1, for these steps.

    Args:
        steps: :math:`s_1\ge\dots\ge s_K>0`, K >= 1.
        alpha: In (0, 1).
        mu: In (0, 1).

    Raises:
        DomainError: An argument is outside its range, or the steps rise.

    Book: chapter 14, Theorem LB2.

    Example:
        >>> from bmo.bounds.beyond import GAP, memoryless_gap
        >>> round(memoryless_gap([1.0, 1.0, 1.0], 0.5, 0.5) / GAP, 6)
        0.0625
    """
    return GAP * min(1.0, 1 / (4 * mu * memoryless_reach(steps, alpha, mu)))


def memoryless_drift(k: int, step: float, alpha: float, mu: float) -> float:
    r"""Corollary LB3: :math:`\sup_\omega r_K\ge\alpha\max(\min(1,\mu s_K), 1/\sqrt{e(K+1)})`.

    Args:
        k: :math:`K \ge 1`.
        step: The last step :math:`s_K > 0`.
        alpha: In (0, 1).
        mu: In (0, 1).

    Raises:
        DomainError: An argument is outside its range.

    Book: chapter 14, Corollary LB3.

    Example:
        >>> from bmo import bounds
        >>> bounds.memoryless_drift(9999, 0.5, 0.5, 0.5)
        0.125
    """
    require_positive("K", require_count("k", k)), require_open("mu", mu, 0.0, 1.0)
    moved = min(1.0, mu * require_positive("step", step))
    return require_open("alpha", alpha, 0.0, 1.0) * max(moved, 1 / math.sqrt(math.e * (k + 1)))


def memoryless_both(k: int, alpha: float, mu: float) -> float:
    r"""Corollary LB3: with any constant step, residual or value gap is at least this large.

    .. math:: \min\Bigl(\alpha, c_0, \sqrt{\tfrac{\alpha c_0\nu}{4}}\,(K+1)^{-1/4}\Bigr)

    Args:
        k: :math:`K \ge 1`.
        alpha: In (0, 1).
        mu: In (0, 1).

    Raises:
        DomainError: An argument is outside its range.

    Book: chapter 14, Corollary LB3.

    Example:
        >>> from bmo import bounds
        >>> round(bounds.memoryless_both(15, 0.5, 0.5), 4)
        0.0204
    """
    require_positive("K", require_count("k", k))
    require_open("alpha", alpha, 0.0, 1.0), require_open("mu", mu, 0.0, 1.0)
    both = math.sqrt(alpha * GAP * (1 - mu) * alpha / 4) / (k + 1) ** 0.25
    return min(alpha, GAP, both)


def anchored_move(k: int, distance: float) -> float:
    r"""Theorem H (a): :math:`E_k = \|w^k-F_sw^k\| \le 2\|w^0-z_s\|/(k+1)`.

    Args:
        k: Number of steps done, >= 0.
        distance: :math:`\|w^0-z_s\|`, or :math:`\Delta`.

    Raises:
        DomainError: An argument is outside its range.

    Book: chapter 14, Theorem H.

    Example:
        >>> from bmo import bounds
        >>> bounds.anchored_move(3, 2.0)
        1.0
    """
    return 2 * require_nonnegative("distance", distance) / (require_count("k", k) + 1)


def anchored_residual(k: int, s: float, *, mu: float, diameter: float, slope: float) -> float:
    r"""Theorem H (b): :math:`r(w^k) \le \bigl(\frac{2\Delta}{k+1}+\mu Gs\bigr)/(1-\mu)`.

    Args:
        k: Number of steps done, >= 0.
        s: The step, :math:`0 < s \le 2/L_H`.
        mu: In [0, 1).
        diameter: :math:`\Delta \ge 0`.
        slope: :math:`G \ge 0`.

    Raises:
        DomainError: An argument is outside its range.

    Book: chapter 14, Theorem H.

    Example:
        >>> from bmo import bounds
        >>> bounds.anchored_residual(3, 1.0, mu=0.5, diameter=2.0, slope=1.0)
        3.0
    """
    mu = require_half_open("mu", mu, 0.0, 1.0)
    pull = mu * require_nonnegative("slope", slope) * require_positive("s", s)
    return (anchored_move(k, diameter) + pull) / (1 - mu)


def anchored_gap(
    k: int, s: float, *, mu: float, distance: float, slope: float, inactive: bool = False
) -> float:
    r"""Theorem H (c): :math:`\ell(w^k)-\ell(\bar u) \le (R+\mu sG)^2/(2\mu s(k+1))`.

    :math:`R = \|w^0-\bar u\|`. With ``inactive``, :math:`R^2/(2\mu sk)`, for
    :math:`k \ge 1`: the projection inside :math:`F_s(w^k)` does nothing.

    Args:
        k: Number of steps done, >= 0.
        s: The step, :math:`0 < s \le 2/L_H`.
        mu: In (0, 1).
        distance: :math:`R \ge 0`.
        slope: :math:`G \ge 0`.
        inactive: Whether that projection is inactive.

    Raises:
        DomainError: An argument is outside its range.

    Book: chapter 14, Theorem H.

    Example:
        >>> from bmo import bounds
        >>> bounds.anchored_gap(3, 1.0, mu=0.5, distance=1.5, slope=1.0)
        1.0
    """
    k, far = require_count("k", k), require_nonnegative("distance", distance)
    pull = require_open("mu", mu, 0.0, 1.0) * require_positive("s", s)
    if inactive:
        return far**2 / (2 * pull * require_positive("k", k))
    return (far + pull * require_nonnegative("slope", slope)) ** 2 / (2 * pull * (k + 1))
