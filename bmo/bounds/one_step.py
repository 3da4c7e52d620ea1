r"""One step of Algorithm 1, :math:`u^k = F_{s_k}(u^{k-1})`: Lemmas 2, 2+ and 5.

Book: chapter 6 (Lemma 5: chapter 7). Norms are those of :math:`H_\omega`. ``slope`` is
:math:`G = \max_U\|g\|`, ``alpha`` and ``mu`` are those of the scheme, ``step`` is :math:`s_k`, and
"gap" means :math:`\ell(\cdot)-\ell(\bar u)` at a fixed point :math:`\bar u` of T in U.
"""

from __future__ import annotations

from bmo.bounds.ranges import (
    require_finite,
    require_half_open,
    require_nonnegative,
    require_open,
    require_positive,
)
from bmo.errors import ConditionError


def relaxation(alpha: float, mu: float) -> float:
    r""":math:`c = (1-\mu)(1-\alpha)/\alpha`, the weight of the residual in Lemmas 2 and 2+.

    Example:
        >>> from bmo import bounds
        >>> bounds.relaxation(0.5, 0.5)
        0.5
    """
    require_open("alpha", alpha, 0.0, 1.0), require_half_open("mu", mu, 0.0, 1.0)
    return (1 - mu) * (1 - alpha) / alpha


def one_step(
    distance: float,
    residual: float,
    gap: float,
    step: float,
    alpha: float,
    mu: float,
    slope: float,
) -> float:
    r"""The right side of Lemma 2, a bound on :math:`\|u^k-\bar u\|^2`, for any step.

    .. math:: \|u^{k-1}-\bar u\|^2 - c\,r_{k-1}^2
              - 2\mu s_k(\ell(u^{k-1})-\ell(\bar u)) + \mu s_k^2G^2

    Args:
        distance: :math:`\|u^{k-1}-\bar u\|`.
        residual: :math:`r_{k-1} = \|u^{k-1}-Tu^{k-1}\|`.
        gap: :math:`\ell(u^{k-1})-\ell(\bar u)`, of any sign.
        step: :math:`s_k > 0`.
        alpha: In (0, 1).
        mu: In [0, 1).
        slope: :math:`G \ge \|g(u^{k-1})\|`.

    Raises:
        DomainError: An argument is outside its range.

    Book: chapter 6, Lemma 2.

    Example:
        >>> from bmo import bounds
        >>> bounds.one_step(1.0, 0.5, 0.0, step=1.0, alpha=0.5, mu=0.5, slope=0.0)
        0.875
    """
    c, s = relaxation(alpha, mu), require_positive("step", step)
    require_nonnegative("distance", distance), require_nonnegative("residual", residual)
    square = mu * s**2 * require_nonnegative("slope", slope) ** 2
    return distance**2 - c * residual**2 - 2 * mu * s * require_finite("gap", gap) + square


def one_step_sharp(
    distance: float,
    residual: float,
    gap_after: float,
    step: float,
    alpha: float,
    mu: float,
    lipschitz: float,
    moved: float = 0.0,
) -> float:
    r"""The right side of Lemma 2+, a bound on :math:`\|u^k-\bar u\|^2` without a term in G.

    .. math:: \|u^{k-1}-\bar u\|^2 - c\,r_{k-1}^2 - 2\mu s_k(\ell(u^k)-\ell(\bar u))
              - \mu(1-s_kL_H)\|u^k-u^{k-1}\|^2

    The statement leaves the last term out (``moved=0``); its proof gives it.

    Args:
        distance: :math:`\|u^{k-1}-\bar u\|`.
        residual: :math:`r_{k-1}`.
        gap_after: :math:`\ell(u^k)-\ell(\bar u)`: at the *new* point.
        step: :math:`s_k \le 1/L_H`.
        alpha: In (0, 1).
        mu: In [0, 1).
        lipschitz: :math:`L_H \ge 0`, Lipschitz constant of g in the metric.
        moved: :math:`\|u^k-u^{k-1}\|`.

    Raises:
        DomainError: An argument is outside its range.
        ConditionError: The step is longer than :math:`1/L_H`.

    Book: chapter 6, Lemma 2+.

    Example:
        >>> from bmo import bounds
        >>> bounds.one_step_sharp(1.0, 0.5, 0.25, step=1.0, alpha=0.5, mu=0.5, lipschitz=1.0)
        0.625
    """
    c, product = relaxation(alpha, mu), require_positive("step", step) * lipschitz
    require_nonnegative("distance", distance), require_nonnegative("residual", residual)
    if not 0 <= product <= 1 + 1e-12:
        raise ConditionError("0 <= step * L_H <= 1", f"{product:.6g}", "shorten the step", product)
    kept = mu * max(0.0, 1 - product) * require_nonnegative("moved", moved) ** 2
    gained = 2 * mu * step * require_finite("gap_after", gap_after)
    return distance**2 - c * residual**2 - gained - kept


def fixed_point_decrease(distance: float, moved: float, alpha: float, mu: float) -> float:
    r"""The right side of Lemma 5, a bound on the squared distance after the step.

    .. math:: \|F_su-z_s\|^2 \le \|u-z_s\|^2-(1-\mu)(1-\alpha)\|u-F_su\|^2

    Args:
        distance: :math:`\|u-z_s\|` to a fixed point of :math:`F_s`, :math:`s \le 2/L_H`.
        moved: :math:`\|u-F_su\|`.
        alpha: In (0, 1).
        mu: In [0, 1).

    Raises:
        DomainError: An argument is outside its range.

    Book: chapter 7, Lemma 5.

    Example:
        >>> from bmo import bounds
        >>> bounds.fixed_point_decrease(1.0, 1.0, alpha=0.5, mu=0.5)
        0.75
    """
    weight = alpha * relaxation(alpha, mu)
    require_nonnegative("distance", distance), require_nonnegative("moved", moved)
    return distance**2 - weight * moved**2
