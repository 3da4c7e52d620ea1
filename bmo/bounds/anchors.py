r"""Anchored loops: without blocks where T is nonexpansive, with Jacobians where it contracts.

Book: chapter 14. Norms are those of :math:`H_\omega`; ``slope`` is :math:`G`, in the contractive
case :math:`G^* = \|g(u^*)\|`; ``q`` is the Lipschitz constant of one step.
"""

from __future__ import annotations

from bmo.bounds.ranges import (
    require_count,
    require_half_open,
    require_nonnegative,
    require_positive,
)


def free_anchor_move(
    k: int, step: float, p: float, mu: float, diameter: float, slope: float
) -> float:
    r""":math:`\|w^{k+1}-w^k\| \le C/(k+1)^a` for weights :math:`k^{-a}` and steps :math:`sk^{-p}`.

    .. math:: a = \tfrac{1+p}2, \qquad
              C = \frac{2^{1+a}}{1-a^2}(a\Delta+\mu Gps)

    Add :math:`\Delta/(k+1)^a` to bound :math:`\|w^k-F_{s_{k+1}}w^k\|`.

    Args:
        k: Number of steps done, >= 0.
        step: :math:`s`, in :math:`(0, 2/L_H]`.
        p: In [0, 1).
        mu: In [0, 1).
        diameter: :math:`\Delta`.
        slope: :math:`G`.

    Raises:
        DomainError: An argument is outside its range.

    Book: chapter 14, Proposition (an anchor without blocks).

    Example:
        >>> from bmo import bounds
        >>> round(bounds.free_anchor_move(0, 1.0, 0.0, mu=0.5, diameter=0.75, slope=1.0), 12)
        1.414213562373
    """
    a = (1 + require_half_open("p", p, 0.0, 1.0)) / 2
    require_half_open("mu", mu, 0.0, 1.0)
    push = mu * require_nonnegative("slope", slope) * p * require_positive("step", step)
    pulled = a * require_nonnegative("diameter", diameter) + push
    return float(2 ** (1 + a) / (1 - a**2) * pulled / (require_count("k", k) + 1) ** a)


def anchored_distance(
    k: int, step: float, *, q: float, mu: float, start: float, slope: float
) -> float:
    r"""BMO-H on a contraction: how far :math:`w^k` is from :math:`u^*`, at most.

    .. math:: \frac{R}{k+1}\Bigl[\frac1{1-q}+\frac1{(1-q)^2}\Bigr]+\frac{\mu G^*s}{1-q}

    Args:
        k: Number of steps done, >= 1.
        step: The constant step :math:`s > 0`.
        q: In [0, 1).
        mu: In [0, 1).
        start: :math:`R = \|w^0-u^*\|`.
        slope: :math:`G^*`.

    Raises:
        DomainError: An argument is outside its range.

    Book: chapter 14, Proposition (stationarity with an anchor), (a).

    Example:
        >>> from bmo import bounds
        >>> bounds.anchored_distance(5, 0.5, q=0.5, mu=0.5, start=1.0, slope=1.0)
        1.5
    """
    left = 1 - require_half_open("q", q, 0.0, 1.0)
    require_half_open("mu", mu, 0.0, 1.0)
    push = mu * require_nonnegative("slope", slope) * require_positive("step", step)
    count = require_positive("k", require_count("k", k)) + 1
    return float(
        require_nonnegative("start", start) / count * (1 / left + 1 / left**2) + push / left
    )


def anchored_jacobian(
    k: int,
    step: float,
    *,
    q: float,
    mu: float,
    start: float,
    slope: float,
    start_jacobian: float,
    variation: float,
    push: float,
) -> float:
    r"""BMO-H on a contraction: how far the Jacobian of :math:`w^k` is from :math:`J^*`, at most.

    .. math:: \frac{\|J_0-J^*\|}{k+1}\Bigl[\frac1{1-q}+\frac1{(1-q)^2}\Bigr]
              +(1-\mu)\Lambda\Bigl[\frac{4R}{(k+1)(1-q)^3}+\frac{\mu G^*s}{(1-q)^2}\Bigr]
              +\frac{\mu Cs}{1-q}

    Args:
        k: Number of steps done, >= 1.
        step: The constant step :math:`s > 0`.
        q: In [0, 1).
        mu: In [0, 1).
        start: :math:`R = \|w^0-u^*\|`.
        slope: :math:`G^*`.
        start_jacobian: :math:`\|J_0-J^*\|`.
        variation: :math:`\Lambda`.
        push: :math:`C`.

    Raises:
        DomainError: An argument is outside its range.

    Book: chapter 14, Proposition (stationarity with an anchor), (b).

    Example:
        >>> from bmo import bounds
        >>> bounds.anchored_jacobian(7, 0.5, q=0.5, mu=0.5, start=1.0, slope=1.0,
        ...     start_jacobian=1.0, variation=1.0, push=1.0)
        3.75
    """
    far = anchored_distance(k, step, q=q, mu=mu, start=start_jacobian, slope=0.0)
    lagging = 4 * require_nonnegative("start", start) / ((k + 1) * (1 - q) ** 3)
    lagging += mu * require_nonnegative("slope", slope) * step / (1 - q) ** 2
    pushed = mu * require_nonnegative("push", push) * step / (1 - q)
    return float(far + (1 - mu) * require_nonnegative("variation", variation) * lagging + pushed)
