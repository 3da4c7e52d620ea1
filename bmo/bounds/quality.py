r"""How well :math:`u^k` and :math:`\varphi_k` of Algorithm 1 approximate: Theorem A, averages.

Book: chapter 7. Norms are those of :math:`H_\omega`. ``slope`` is :math:`G = \max\|g\|`,
``diameter`` is :math:`\Delta`, ``oscillation`` is :math:`M`, the largest oscillation of
:math:`\ell(\cdot;\omega)` on U; each may be replaced by anything larger.
"""

from __future__ import annotations

import math

from bmo.bounds.one_step import relaxation
from bmo.bounds.ranges import (
    require_count,
    require_half_open,
    require_nonnegative,
    require_open,
    require_positive,
)
from bmo.errors import DomainError


def require_window(window: int, k: int) -> int:
    """Refuse a window that is not an integer in 1, ..., k + 1."""
    if require_count("window", window) < 1 or window > require_count("k", k) + 1:
        raise DomainError(
            f"a window in 1, ..., k + 1 = {k + 1}", f"window = {window}", "shorten it", window
        )
    return int(window)


def map_relaxation(alpha: float, mu: float) -> float:
    r""":math:`c_F = (1-\mu)(1-\alpha)`, the weight of :math:`\|u-F_su\|^2` in Lemma 5.

    Raises:
        DomainError: ``alpha`` is outside (0, 1) or ``mu`` outside [0, 1).

    Book: chapter 7, Lemma 5.

    Example:
        >>> from bmo import bounds
        >>> bounds.map_relaxation(0.5, 0.5)
        0.25
    """
    return alpha * relaxation(alpha, mu)


def uniform_residual(
    k: int,
    window: int,
    sigma: float,
    *,
    alpha: float,
    mu: float,
    diameter: float,
    slope: float,
    oscillation: float,
    sharp: bool = False,
) -> float:
    r"""Theorem A, window form: a bound on :math:`r_k`, the same for every :math:`\omega`.

    .. math:: r_k \le \sqrt{\tfrac1c\bigl(\tfrac{\Delta^2}{w} + 2\mu M\sigma + \mu G^2\sigma^2
              \bigr)} + \tfrac{2\mu G\sigma}{1-\mu}

    Args:
        k: Number of steps done, >= 0.
        window: :math:`w`, in 1, ..., k + 1.
        sigma: :math:`s_{k-w+2}`, the longest upper step of the window.
        alpha: In (0, 1).
        mu: In [0, 1).
        diameter: :math:`\Delta \ge 0`.
        slope: :math:`G \ge 0`.
        oscillation: :math:`M \ge 0`.
        sharp: The steps are at most :math:`1/L_H`; then the term in :math:`\sigma^2` is dropped.

    Raises:
        DomainError: An argument is outside its range.

    Book: chapter 7, Theorem A.

    Example:
        >>> from bmo import bounds
        >>> bounds.uniform_residual(3, 4, 0.0, alpha=0.5, mu=0.5, diameter=1.0, slope=1.0,
        ...                         oscillation=1.0) == 0.5**0.5
        True
    """
    c, w, sigma = relaxation(alpha, mu), require_window(window, k), require_nonnegative("s", sigma)
    G, M = require_nonnegative("slope", slope), require_nonnegative("oscillation", oscillation)
    square = require_nonnegative("diameter", diameter) ** 2 / w + 2 * mu * M * sigma
    if not sharp:
        square += mu * (G * sigma) ** 2
    return math.sqrt(square / c) + 2 * mu * G * sigma / (1 - mu)


def uniform_residual_harmonic(
    k: int,
    s: float,
    *,
    alpha: float,
    mu: float,
    diameter: float,
    slope: float,
    oscillation: float,
    sharp: bool = False,
) -> float:
    r"""Theorem A for :math:`s_k = s/(k+1)`: :math:`r_k = O(1/\sqrt k)`, for every :math:`\omega`.

    .. math:: r_k \le \sqrt{\frac{2\bigl(\Delta^2+2\mu Ms\ln2+\mu G^2s^2/(k+2)\bigr)}{c(k+1)}}
              + \frac{4\mu Gs}{(1-\mu)(k+4)}

    Args:
        k: Number of steps done, >= 0.
        s: At most :math:`4/L_H`.
        alpha: In (0, 1).
        mu: In [0, 1).
        diameter: :math:`\Delta \ge 0`.
        slope: :math:`G \ge 0`.
        oscillation: :math:`M \ge 0`.
        sharp: ``s`` is at most :math:`2/L_H`; then the term in G² is dropped.

    Raises:
        DomainError: An argument is outside its range.

    Book: chapter 7, Theorem A.

    Example:
        >>> from bmo import bounds
        >>> bounds.uniform_residual_harmonic(7, 1e-9, alpha=0.5, mu=0.5, diameter=1.0, slope=0.0,
        ...                                  oscillation=0.0) == 0.5**0.5
        True
    """
    c, s, k = relaxation(alpha, mu), require_positive("s", s), require_count("k", k)
    G, M = require_nonnegative("slope", slope), require_nonnegative("oscillation", oscillation)
    square = require_nonnegative("diameter", diameter) ** 2 + 2 * mu * M * s * math.log(2)
    if not sharp:
        square += mu * (G * s) ** 2 / (k + 2)
    return math.sqrt(2 * square / (c * (k + 1))) + 4 * mu * G * s / ((1 - mu) * (k + 4))


def ergodic_gap(distance: float, mu: float, total: float) -> float:
    r""":math:`\mathrm{dist}(u^0,S^*)^2/(2\mu\sum_{k\le K}s_k)`, a bound on the mean value gap.

    Args:
        distance: :math:`\mathrm{dist}(u^0,S^*(\omega)) \ge 0`.
        mu: In (0, 1).
        total: :math:`\sum_{k\le K}s_k > 0`, each :math:`s_k \le 1/L_H`.

    Raises:
        DomainError: An argument is outside its range.

    Book: chapter 7, the ergodic rate.

    Example:
        >>> from bmo import bounds
        >>> bounds.ergodic_gap(1.0, 0.5, 2.0)
        0.5
    """
    weight = 2 * require_open("mu", mu, 0.0, 1.0) * require_positive("total", total)
    return require_nonnegative("distance", distance) ** 2 / weight


def gap_below(slope: float, kappa: float, residual: float, theta: float = 1.0) -> float:
    r""":math:`G\kappa r^\theta`: how far :math:`\ell(u)` may lie *below* :math:`\varphi`.

    Args:
        slope: :math:`G \ge 0`.
        kappa: With :math:`\mathrm{dist}(u,S)\le\kappa\,r(u)^\theta`.
        residual: :math:`r(u) \ge 0`.
        theta: In (0, 1].

    Raises:
        DomainError: An argument is outside its range.

    Book: chapter 7, "From below".

    Example:
        >>> from bmo import bounds
        >>> bounds.gap_below(2.0, 3.0, 0.5)
        3.0
    """
    require_half_open("1 - theta", 1 - theta, 0.0, 1.0)
    scale = require_nonnegative("slope", slope) * require_positive("kappa", kappa)
    return scale * require_nonnegative("residual", residual) ** theta
