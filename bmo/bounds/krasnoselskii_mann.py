r"""Bounds on the residual :math:`r_k = \|u^k - Tu^k\|_H` of :math:`u^{k+1} = Tu^k`.

Book: chapter 3. Here :math:`T = (1-\alpha)I + \alpha D` with :math:`D` nonexpansive in :math:`H`.
"""

from __future__ import annotations

import math

from bmo.bounds.ranges import require_count, require_nonnegative, require_open
from bmo.errors import ConditionError


def _alpha(alpha: float) -> float:
    return require_open("alpha", alpha, 0.0, 1.0)


def averagedness_decrease(distance: float, moved: float, alpha: float) -> float:
    r"""The right side of Proposition 1(b), for an averaged map.

    .. math:: \|Tu-Tv\|^2 \le \|u-v\|^2 - \tfrac{1-\alpha}{\alpha}\|(I-T)u-(I-T)v\|^2

    Args:
        distance: :math:`\|u - v\|_H`.
        moved: :math:`\|(I-T)u - (I-T)v\|_H`; with :math:`v` a fixed point this is :math:`r(u)`.
        alpha: In (0, 1).

    Returns:
        The bound on the *squared* distance :math:`\|Tu - Tv\|_H^2`.

    Raises:
        DomainError: An argument is outside its range.

    Book: chapter 3, Proposition 1(b).

    Example:
        >>> from bmo import bounds
        >>> bounds.averagedness_decrease(1.0, 1.0, alpha=0.5)
        0.0
    """
    kappa = (1 - _alpha(alpha)) / alpha
    square = require_nonnegative("moved", moved) ** 2
    return require_nonnegative("distance", distance) ** 2 - kappa * square


def km_residual(alpha: float, k: int, distance: float) -> float:
    r""":math:`r_k \le \sqrt{\alpha/((1-\alpha)(k+1))}\;\mathrm{dist}_H(u^0, S)`.

    Args:
        alpha: In (0, 1).
        k: Number of steps done, >= 0.
        distance: :math:`\mathrm{dist}_H(u^0, S) \ge 0`.

    Raises:
        DomainError: An argument is outside its range.

    Book: chapter 3, Proposition 1(c).

    Example:
        >>> from bmo import bounds
        >>> bounds.km_residual(0.5, 3, 1.0)
        0.5
    """
    rate = _alpha(alpha) / ((1 - alpha) * (require_count("k", k) + 1))
    return math.sqrt(rate) * require_nonnegative("distance", distance)


def km_line(alpha: float, k: int) -> float:
    r""":math:`r_k^2 = (2\alpha/(1+2\alpha k))^2` of the extremal instance on the line.

    It is :math:`D(x) = x - 2\sigma\,\mathrm{sign}(x)` for :math:`|x| \ge \sigma`, :math:`-x` below,
    :math:`\sigma = 1/(1+2\alpha k)`, from :math:`x^0 = 1`. Book: chapter 3, sharp constants.

    Example:
        >>> from bmo import bounds
        >>> bounds.km_line(0.5, 1)
        0.25
    """
    return (2 * _alpha(alpha) / (1 + 2 * alpha * require_count("k", k))) ** 2


def km_rotation(alpha: float, k: int) -> float:
    r""":math:`r_k^2 = \max_{0\le y\le 4}\alpha^2 y(1-\alpha(1-\alpha)y)^k` of the worst rotation.

    A rotation by :math:`\theta` has :math:`y = 2(1-\cos\theta)`; the start has length 1. The
    maximum lies at :math:`y = 1/(\alpha(1-\alpha)(k+1))`, or at 4 if that is larger.
    Book: chapter 3, sharp constants.

    Example:
        >>> from bmo import bounds
        >>> bounds.km_rotation(0.5, 0)
        1.0
    """
    beta, k = _alpha(alpha) * (1 - alpha), require_count("k", k)
    y = min(4.0, 1 / (beta * (k + 1)))
    return alpha**2 * y * (1 - beta * y) ** k


def km_worst(alpha: float, k: int) -> float:
    r""":math:`W(\alpha,k)`: the larger of :func:`km_line` and :func:`km_rotation`.

    It is attained, so no bound on :math:`r_k^2` at distance 1 can be smaller. That none needs to
    be larger is Lieder's theorem for :math:`\alpha \ge 1/2` and a conjecture below, certified
    numerically on a grid. Book: chapter 3, sharp constants.

    Returns:
        :math:`W(\alpha,k)`, a bound on :math:`r_k^2 / \mathrm{dist}_H(u^0, S)^2`.

    Example:
        >>> from bmo import bounds
        >>> round(bounds.km_worst(0.5, 2), 6)
        0.148148
    """
    return max(km_line(alpha, k), km_rotation(alpha, k))


def km_tight(alpha: float, k: int, distance: float) -> float:
    r"""The tight form of Proposition 1(c) for all large k.

    .. math:: r_k \le \sqrt{\tfrac{\alpha}{1-\alpha}\,\tfrac{k^k}{(k+1)^{k+1}}}
              \;\mathrm{dist}_H(u^0,S)

    It is better than :func:`km_residual` by up to :math:`\sqrt e`.

    Args:
        alpha: In (0, 1).
        k: So large that :math:`4\alpha(1-\alpha)(k+1) \ge 1` and the rotation is the worst case.
        distance: :math:`\mathrm{dist}_H(u^0, S) \ge 0`.

    Raises:
        DomainError: An argument is outside its range.
        ConditionError: ``k`` is too small for this form; :func:`km_worst` has every k.

    Book: chapter 3 (a theorem of Lieder for :math:`\alpha\ge 1/2`, a conjecture below).

    Example:
        >>> from bmo import bounds
        >>> bounds.km_tight(0.5, 1, 1.0)
        0.5
    """
    rotation, line = km_rotation(alpha, k), km_line(alpha, k)
    interior = 4 * alpha * (1 - alpha) * (k + 1)
    if interior < 1 - 1e-12 or rotation < line * (1 - 1e-12):
        raise ConditionError(
            "4 alpha (1 - alpha) (k + 1) >= 1 and km_rotation >= km_line",
            f"{interior:.4g}, {rotation:.4g} against {line:.4g} at alpha = {alpha}, k = {k}",
            "use sqrt(km_worst(alpha, k)), which holds for every k",
            k,
        )
    rate = alpha / (1 - alpha) * (k / (k + 1)) ** k / (k + 1)
    return math.sqrt(rate) * require_nonnegative("distance", distance)
