r"""How moves and residuals drift from step to step, and what a move says of the gap: Lemmas 3, 4.

Book: chapter 6. Norms are those of :math:`H_\omega`; letters as in :mod:`bmo.bounds.one_step`.
"""

from __future__ import annotations

from bmo.bounds.ranges import (
    require_finite,
    require_half_open,
    require_nonnegative,
    require_open,
    require_positive,
)


def step_drift(earlier: float, mu: float, slope: float, first: float, last: float) -> float:
    r"""Lemma 3: :math:`e_k \le e_j + \mu G(s_{j+1}-s_{k+1})`, with :math:`e_k=\|u^{k+1}-u^k\|`.

    The steps must not increase from :math:`s_{j+1}` to :math:`s_{k+1}`.

    Args:
        earlier: :math:`e_j`, :math:`j \le k`.
        mu: In [0, 1).
        slope: :math:`G`.
        first: :math:`s_{j+1}`, at most :math:`2/L_H`.
        last: :math:`s_{k+1} \le s_{j+1}`.

    Raises:
        DomainError: An argument is outside its range (``last`` above ``first``, say).

    Book: chapter 6, Lemma 3.

    Example:
        >>> from bmo import bounds
        >>> bounds.step_drift(1.0, mu=0.5, slope=2.0, first=0.5, last=0.25)
        1.25
    """
    require_half_open("mu", mu, 0.0, 1.0), require_positive("last", last)
    require_half_open("first", first, last, float("inf"))
    drift = mu * require_nonnegative("slope", slope) * (first - last)
    return require_nonnegative("earlier", earlier) + drift


def residual_from_step(moved: float, mu: float, slope: float, step: float) -> float:
    r"""Lemma 3: :math:`r_k \le (e_k+\mu Gs_{k+1})/(1-\mu)`.

    Args:
        moved: :math:`e_k = \|u^{k+1}-u^k\|`.
        mu: In [0, 1).
        slope: :math:`G`.
        step: :math:`s_{k+1}`.

    Raises:
        DomainError: An argument is outside its range.

    Book: chapter 6, Lemma 3.

    Example:
        >>> from bmo import bounds
        >>> bounds.residual_from_step(1.0, mu=0.5, slope=2.0, step=1.0)
        4.0
    """
    require_half_open("mu", mu, 0.0, 1.0)
    moved = require_nonnegative("moved", moved)
    drift = mu * require_nonnegative("slope", slope) * require_positive("step", step)
    return (moved + drift) / (1 - mu)


def residual_drift(earlier: float, mu: float, slope: float, first: float) -> float:
    r"""Lemma 3: :math:`r_k \le r_j + 2\mu Gs_{j+1}/(1-\mu)` for :math:`k \ge j`.

    The steps must not increase.

    Args:
        earlier: :math:`r_j`.
        mu: In [0, 1).
        slope: :math:`G`.
        first: :math:`s_{j+1}`, at most :math:`2/L_H`.

    Raises:
        DomainError: An argument is outside its range.

    Book: chapter 6, Lemma 3.

    Example:
        >>> from bmo import bounds
        >>> bounds.residual_drift(1.0, mu=0.5, slope=2.0, first=0.5)
        3.0
    """
    require_half_open("mu", mu, 0.0, 1.0), require_nonnegative("earlier", earlier)
    drift = 2 * mu * require_nonnegative("slope", slope) * require_positive("first", first)
    return earlier + drift / (1 - mu)


def upper_gap(moved: float, distance: float, mu: float, slope: float, step: float) -> float:
    r"""Lemma 4: :math:`\ell(u)-\ell(\bar u) \le E(\|u-\bar u\|/(\mu s)+G)`, for every step.

    Args:
        moved: :math:`E = \|u-F_s(u)\|`.
        distance: :math:`\|u-\bar u\|`, or the diameter of U.
        mu: In (0, 1).
        slope: :math:`G \ge \|g(u)\|`.
        step: :math:`s > 0`.

    Raises:
        DomainError: An argument is outside its range (``mu`` must not be 0).

    Book: chapter 6, Lemma 4.

    Example:
        >>> from bmo import bounds
        >>> bounds.upper_gap(0.5, 1.0, mu=0.5, slope=2.0, step=1.0)
        2.0
    """
    product = require_open("mu", mu, 0.0, 1.0) * require_positive("step", step)
    reach = require_nonnegative("distance", distance) / product
    return require_nonnegative("moved", moved) * (reach + require_nonnegative("slope", slope))


def upper_gap_sharp(moved: float, inner: float, mu: float, slope: float, step: float) -> float:
    r"""Lemma 4 before its last estimate.

    .. math:: \ell(u)-\ell(\bar u)
              \le \tfrac{1}{\mu s}\bigl(\langle M_u,u-\bar u\rangle+\mu sGE-\tfrac12E^2\bigr)

    Args:
        moved: :math:`E = \|M_u\|`, :math:`M_u = u-F_s(u)`.
        inner: :math:`\langle M_u, u-\bar u\rangle_H`.
        mu: In (0, 1).
        slope: :math:`G \ge \|g(u)\|`.
        step: :math:`s > 0`.

    Raises:
        DomainError: An argument is outside its range.

    Book: chapter 6, Lemma 4.

    Example:
        >>> from bmo import bounds
        >>> bounds.upper_gap_sharp(1.0, 1.0, mu=0.5, slope=0.0, step=1.0)
        1.0
    """
    product = require_open("mu", mu, 0.0, 1.0) * require_positive("step", step)
    moved, slope = require_nonnegative("moved", moved), require_nonnegative("slope", slope)
    return (require_finite("inner", inner) + product * slope * moved - moved**2 / 2) / product
