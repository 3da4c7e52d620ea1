r"""Stationarity: how far :math:`u^k`, its Jacobian and each hypergradient are from their limits.

Book: chapter 8. Norms are those of :math:`H_\omega` (for a Jacobian: the operator norm from the
Euclidean norm of :math:`\omega`). ``rho`` is the Lipschitz constant of T, ``q`` that of the inner
step, ``slope`` is :math:`G^* = \|g(u^*)\|`, and ``steps`` lists :math:`s_1, \dots, s_k`.
"""

from __future__ import annotations

from collections.abc import Sequence

from bmo.bounds.ranges import (
    require_count,
    require_half_open,
    require_nonnegative,
    require_positive,
)


def inner_contraction(rho: float, mu: float) -> float:
    r""":math:`q = (1-\mu)\rho + \mu`, a Lipschitz constant of :math:`F_s` for s at most 2/L_H.

    Book: chapter 8, Theorem (stationarity).

    Example:
        >>> from bmo import bounds
        >>> bounds.inner_contraction(0.5, 0.5)
        0.75
    """
    require_half_open("rho", rho, 0.0, 1.0), require_half_open("mu", mu, 0.0, 1.0)
    return (1 - mu) * rho + mu


def step_memory(q: float, steps: Sequence[float]) -> float:
    r""":math:`m_k = \sum_{j\le k} q^{k-j}s_j`: what is left of all upper steps.

    Book: chapter 8, Lemma (memory).

    Example:
        >>> from bmo import bounds
        >>> bounds.step_memory(0.5, [1.0, 0.5])
        1.0
    """
    require_half_open("q", q, 0.0, 1.0)
    total = 0.0
    for s in steps:
        total = q * total + require_positive("step", s)
    return total


def step_memory_limit(q: float, last: float) -> float:
    r""":math:`s_k/(1-q)^2 \ge m_k` for every schedule :math:`s/(k+1)^p`, p in [0, 1].

    Book: chapter 8, Lemma (memory).

    Example:
        >>> from bmo import bounds
        >>> bounds.step_memory_limit(0.5, 0.5)
        2.0
    """
    return require_positive("last", last) / (1 - require_half_open("q", q, 0.0, 1.0)) ** 2


def fixed_point_distance(
    start: float, q: float, mu: float, slope: float, steps: Sequence[float]
) -> float:
    r"""Part (a): :math:`\|u^k-u^*\| \le q^k\|u^0-u^*\| + \mu G^*m_k`, k the number of steps.

    Args:
        start: :math:`\|u^0-u^*\|`.
        q: Lipschitz constant of the inner step, in [0, 1).
        mu: In [0, 1).
        slope: :math:`G^*`.
        steps: :math:`s_1, \dots, s_k`, any positive numbers of at most :math:`2/L_H`.

    Raises:
        DomainError: An argument is outside its range.

    Book: chapter 8, Theorem (stationarity), (a).

    Example:
        >>> from bmo import bounds
        >>> bounds.fixed_point_distance(1.0, q=0.5, mu=0.5, slope=1.0, steps=[1.0, 0.5])
        0.75
    """
    require_half_open("mu", mu, 0.0, 1.0), require_nonnegative("slope", slope)
    pushed = mu * slope * step_memory(q, steps)
    return float(q ** len(steps) * require_nonnegative("start", start) + pushed)


def jacobian_distance(
    start_jacobian: float,
    start: float,
    q: float,
    mu: float,
    slope: float,
    steps: Sequence[float],
    variation: float,
    push: float,
) -> float:
    r"""Part (b): a bound on :math:`\|J_k-J^*\|`, summed step by step.

    .. math:: q^k\|J_0-J^*\| + \sum_{j\le k}q^{k-j}\bigl[(1-\mu)\Lambda\,d_{j-1}+\mu s_jC\bigr]

    with :math:`d_j` the bound of part (a). For :math:`\mu=0` this is
    :math:`\rho^k\|J_0-J^*\| + k\rho^{k-1}\Lambda\|u^0-u^*\|`.

    Args:
        start_jacobian: :math:`\|J_0-J^*\|`.
        start: :math:`\|u^0-u^*\|`.
        q: In [0, 1).
        mu: In [0, 1).
        slope: :math:`G^*`.
        steps: :math:`s_1, \dots, s_k`.
        variation: :math:`\Lambda`, how fast the derivatives of T change away from :math:`u^*`.
        push: :math:`C`, the size of the upper step's part of the recursion.

    Raises:
        DomainError: An argument is outside its range.

    Book: chapter 8, Theorem (stationarity), (b).

    Example:
        >>> from bmo import bounds
        >>> bounds.jacobian_distance(1.0, 1.0, 0.5, 0.0, 0.0, [1.0, 1.0], variation=1.0, push=0.0)
        1.25
    """
    require_half_open("q", q, 0.0, 1.0), require_half_open("mu", mu, 0.0, 1.0)
    require_nonnegative("variation", variation), require_nonnegative("push", push)
    require_nonnegative("slope", slope)
    total = require_nonnegative("start_jacobian", start_jacobian)
    distance = require_nonnegative("start", start)
    for s in steps:
        total = q * total + (1 - mu) * variation * distance
        total += mu * require_positive("step", s) * push
        distance = q * distance + mu * slope * s
    return total


def jacobian_distance_limit(
    k: int,
    start_jacobian: float,
    start: float,
    q: float,
    mu: float,
    slope: float,
    last: float,
    variation: float,
    push: float,
) -> float:
    r"""Part (b) in closed form, for schedules :math:`s/(k+1)^p` with p in [0, 1].

    .. math:: q^k\|J_0-J^*\| + (1-\mu)\Lambda\Bigl[kq^{k-1}\|u^0-u^*\|
              +\frac{2\mu G^*s_k}{(1-q)^3}\Bigr] + \frac{\mu Cs_k}{(1-q)^2}

    Args:
        k: Number of steps, at least 1.
        start_jacobian: :math:`\|J_0-J^*\|`.
        start: :math:`\|u^0-u^*\|`.
        q: In [0, 1).
        mu: In [0, 1).
        slope: :math:`G^*`.
        last: :math:`s_k`.
        variation: :math:`\Lambda`.
        push: :math:`C`.

    Raises:
        DomainError: An argument is outside its range.

    Book: chapter 8, Theorem (stationarity), (b).

    Example:
        >>> from bmo import bounds
        >>> bounds.jacobian_distance_limit(2, 1.0, 1.0, 0.5, 0.0, 0.0, 1.0, 1.0, 0.0)
        1.25
    """
    require_positive("k", require_count("k", k)), require_half_open("mu", mu, 0.0, 1.0)
    require_nonnegative("start", start), require_nonnegative("start_jacobian", start_jacobian)
    require_nonnegative("slope", slope), require_nonnegative("variation", variation)
    memory = step_memory_limit(q, last)
    lagging = k * q ** (k - 1) * start + 2 * mu * slope * memory / (1 - q)
    pushed = mu * require_nonnegative("push", push) * memory
    return float(q**k * start_jacobian + (1 - mu) * variation * lagging + pushed)


def hypergradient_distance(
    jacobian: float,
    distance: float,
    slope: float,
    sensitivity: float,
    lipschitz: float,
    cross: float = 0.0,
) -> float:
    r"""Part (c): :math:`G^*D + (\|J^*\|+D)L_Hd + L_{u\omega}d`, for any estimate J of J*.

    Args:
        jacobian: :math:`D = \|J-J^*\|`.
        distance: :math:`d = \|u-u^*\|`.
        slope: :math:`G^*`.
        sensitivity: :math:`\|J^*\|`.
        lipschitz: :math:`L_H`, Lipschitz constant of g in the metric.
        cross: :math:`L_{u\omega}`, Lipschitz constant of :math:`\nabla_\omega\ell` in u.

    Raises:
        DomainError: An argument is outside its range.

    Book: chapter 8, Theorem (stationarity), (c).

    Example:
        >>> from bmo import bounds
        >>> bounds.hypergradient_distance(0.5, 1.0, slope=2.0, sensitivity=1.0, lipschitz=1.0)
        2.5
    """
    D, d = require_nonnegative("jacobian", jacobian), require_nonnegative("distance", distance)
    reach = require_nonnegative("sensitivity", sensitivity) + D
    bent = reach * require_nonnegative("lipschitz", lipschitz)
    return (
        require_nonnegative("slope", slope) * D + (bent + require_nonnegative("cross", cross)) * d
    )


def metric_term(mu: float, push: float, q: float, steps: Sequence[float]) -> float:
    r""":math:`\mu C_Hm_K`: how far :math:`J_K` moves if the derivative of the metric is left out.

    Args:
        mu: In [0, 1).
        push: :math:`C_H`, a bound on :math:`\|H^{-1}(\partial_\omega H)g\|` along the run.
        q: In [0, 1).
        steps: :math:`s_1, \dots, s_K`.

    Raises:
        DomainError: An argument is outside its range.

    Book: chapter 8, Proposition (derivative of the metric).

    Example:
        >>> from bmo import bounds
        >>> bounds.metric_term(0.5, 2.0, 0.5, [1.0, 0.5])
        1.0
    """
    require_half_open("mu", mu, 0.0, 1.0)
    return mu * require_nonnegative("push", push) * step_memory(q, steps)
