r"""Faster rates of Algorithm 1: under a linear error bound (EB), and for strongly convex l (S).

Book: chapter 7. Norms are those of :math:`H_\omega`; ``slope`` is :math:`G`, ``diameter`` is
:math:`\Delta`, ``kappa`` is the constant of the error bound
:math:`\mathrm{dist}(u,S)\le\kappa\,r(u)`, ``strength`` is the modulus m of strong convexity.
"""

from __future__ import annotations

import math

from bmo.bounds.one_step import relaxation
from bmo.bounds.ranges import (
    require_closed,
    require_count,
    require_half_open,
    require_nonnegative,
    require_open,
    require_positive,
)
from bmo.errors import ConditionError


def error_bound_factor(alpha: float, mu: float, kappa: float) -> float:
    r""":math:`\eta = \sqrt{1-(c+\mu(1-\mu))/\kappa^2}`: one step shrinks dist(u, S) by it.

    Args:
        alpha: In (0, 1).
        mu: In [0, 1).
        kappa: :math:`\kappa > 0`.

    Raises:
        DomainError: An argument is outside its range.
        ConditionError: ``kappa`` is too small to be an error bound of any map but a trivial one.

    Book: chapter 7, Theorem EB.

    Example:
        >>> from bmo import bounds
        >>> bounds.error_bound_factor(0.5, 0.5, 1.0)
        0.5
    """
    square = 1 - (relaxation(alpha, mu) + mu * (1 - mu)) / require_positive("kappa", kappa) ** 2
    if square < -1e-12:
        raise ConditionError(
            "kappa^2 >= c + mu (1 - mu)", f"kappa = {kappa:.6g}", "take a larger kappa", kappa
        )
    return math.sqrt(max(0.0, square))


def error_bound_distance(
    k: int,
    s: float,
    p: float,
    *,
    alpha: float,
    mu: float,
    kappa: float,
    diameter: float,
    slope: float,
) -> float:
    r"""Theorem EB (i): :math:`\mathrm{dist}(u^k,S)\le\Gamma s_k` for :math:`s_k=s/(k+1)^p`.

    .. math:: \Gamma = \frac{\Delta}{s(1-\eta)}+\frac{\mu G}{(1-\eta)^2}

    The residual is at most :math:`2\alpha` times as much.

    Args:
        k: Number of steps done, >= 0.
        s: Scale of the schedule, > 0; no upper limit.
        p: In (0, 1].
        alpha: In (0, 1).
        mu: In [0, 1).
        kappa: :math:`\kappa > 0`.
        diameter: :math:`\Delta \ge 0`.
        slope: :math:`G \ge 0`.

    Raises:
        DomainError: An argument is outside its range.

    Book: chapter 7, Theorem EB.

    Example:
        >>> from bmo import bounds
        >>> bounds.error_bound_distance(1, 1.0, 1.0, alpha=0.5, mu=0.5, kappa=1.0, diameter=1.0,
        ...                             slope=1.0)
        2.0
    """
    eta, n = error_bound_factor(alpha, mu, kappa), require_count("k", k) + 1
    require_half_open("1 - p", 1 - p, 0.0, 1.0)
    start = require_nonnegative("diameter", diameter) / (require_positive("s", s) * (1 - eta))
    drift = mu * require_nonnegative("slope", slope) / (1 - eta) ** 2
    return (start + drift) * s / n**p


def error_bound_gap(
    k: int,
    s: float,
    p: float,
    *,
    alpha: float,
    mu: float,
    kappa: float,
    diameter: float,
    slope: float,
) -> float:
    r"""Theorem EB (ii): a bound on :math:`\varphi_K-\varphi` from above, K = ``k``.

    .. math:: \frac{\Delta^2}{\mu s}(K+1)^{-(1-p)}
              + \frac{4^ps}{(K+1)^p}\Bigl[G\Gamma(1+\ln K)+\frac{\Gamma^2}{2\mu}\Bigr]

    From below, :math:`\varphi_K-\varphi\ge-G\Gamma s_K`, by ``error_bound_distance``.

    Args:
        k: :math:`K \ge 1`.
        s: Scale of the schedule, with :math:`s_1 = s/2^p \le 1/L_H`.
        p: In (0, 1].
        alpha: In (0, 1).
        mu: In (0, 1).
        kappa: :math:`\kappa > 0`.
        diameter: :math:`\Delta \ge 0`.
        slope: :math:`G \ge 0`.

    Raises:
        DomainError: An argument is outside its range.

    Book: chapter 7, Theorem EB.

    Example:
        >>> from bmo import bounds
        >>> bounds.error_bound_gap(1, 1.0, 1.0, alpha=0.5, mu=0.5, kappa=1.0, diameter=1.0,
        ...                        slope=0.0)
        10.0
    """
    require_open("mu", mu, 0.0, 1.0), require_positive("K", require_count("k", k))
    at = error_bound_distance(
        k, s, p, alpha=alpha, mu=mu, kappa=kappa, diameter=diameter, slope=slope
    )
    gamma = at * (k + 1) ** p / s
    first = diameter**2 / (mu * s) / (k + 1) ** (1 - p)
    bracket = slope * gamma * (1 + math.log(k)) + gamma**2 / (2 * mu)
    return first + 4**p * s / (k + 1) ** p * bracket


def strong_offset(strength: float, lipschitz: float, mu: float) -> int:
    r""":math:`k_0 = \lceil(m+L_H)/(\mu m)\rceil`, the head start of the schedule in Theorem S.

    Args:
        strength: :math:`m > 0`.
        lipschitz: :math:`L_H \ge m`.
        mu: In (0, 1).

    Raises:
        DomainError: An argument is outside its range.

    Book: chapter 7, Theorem S.

    Example:
        >>> from bmo import bounds
        >>> bounds.strong_offset(1.0, 3.0, 0.5)
        8
    """
    require_half_open("lipschitz", lipschitz, require_positive("strength", strength), math.inf)
    return math.ceil((strength + lipschitz) / (require_open("mu", mu, 0.0, 1.0) * strength) - 1e-9)


def strong_step(k: int, p: float, *, strength: float, lipschitz: float, mu: float) -> float:
    r"""The upper step :math:`s_k` of Theorem S.

    :math:`\frac{2}{\mu m(k+k_0)}` for p = 1, and
    :math:`\frac{2}{m+L_H}\bigl(\frac{1+k_0}{k+k_0}\bigr)^p` for p in [0, 1).

    Args:
        k: Index of the step, >= 1.
        p: In [0, 1].
        strength: :math:`m > 0`.
        lipschitz: :math:`L_H \ge m`.
        mu: In (0, 1).

    Raises:
        DomainError: An argument is outside its range.

    Book: chapter 7, Theorem S.

    Example:
        >>> from bmo import bounds
        >>> bounds.strong_step(2, 1.0, strength=1.0, lipschitz=3.0, mu=0.5)
        0.4
    """
    k0, k = strong_offset(strength, lipschitz, mu), require_count("k", k)
    require_positive("k", k), require_closed("p", p, 0.0, 1.0)
    if p == 1:
        return 2 / (mu * strength * (k + k0))
    return 2 / (strength + lipschitz) * ((1 + k0) / (k + k0)) ** p


def strong_move(
    k: int,
    p: float,
    *,
    strength: float,
    lipschitz: float,
    mu: float,
    diameter: float,
    slope: float,
) -> float:
    r"""Theorem S: :math:`e_k = \|u^{k+1}-u^k\| = O(1/k)` with the steps of :func:`strong_step`.

    For p = 1, :math:`\bigl[\frac{k_0(k_0+1)\Delta+2Gk/m}{k+k_0}\bigr]/(k+k_0+1)`; for p < 1,
    :math:`\max\bigl((k_0+1)\Delta, 4Gp/m\bigr)/(k+k_0+1)`.

    Args:
        k: Number of steps done, >= 0.
        p: In [0, 1].
        strength: :math:`m > 0`.
        lipschitz: :math:`L_H \ge m`.
        mu: In (0, 1).
        diameter: :math:`\Delta \ge 0`.
        slope: :math:`G \ge 0`.

    Raises:
        DomainError: An argument is outside its range.

    Book: chapter 7, Theorem S.

    Example:
        >>> from bmo import bounds
        >>> bounds.strong_move(0, 1.0, strength=1.0, lipschitz=1.0, mu=0.5, diameter=1.0, slope=9.0)
        1.0
    """
    k0, k = strong_offset(strength, lipschitz, mu), require_count("k", k)
    require_closed("p", p, 0.0, 1.0)
    d, G = require_nonnegative("diameter", diameter), require_nonnegative("slope", slope)
    if p == 1:
        return (k0 * (k0 + 1) * d + 2 * G * k / strength) / ((k + k0) * (k + k0 + 1))
    return max((k0 + 1) * d, 4 * G * p / strength) / (k + k0 + 1)
