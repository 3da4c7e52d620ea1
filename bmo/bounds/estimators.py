r"""Errors of hypergradient estimators, as errors of the Jacobian that each of them uses.

Book: chapter 8, Proposition (estimators). Norms are those of :math:`H_\omega`. Insert the result
as ``jacobian`` in :func:`bmo.bounds.hypergradient_distance` for the error of the hypergradient.
"""

from __future__ import annotations

import math

from bmo.bounds.ranges import require_count, require_half_open, require_nonnegative


def truncation(h: int, q: float, jacobian: float) -> float:
    r""":math:`q^h\|J_{K-h}\|`: what reverse mode loses when it stops after h steps.

    Args:
        h: Steps that are differentiated.
        q: Lipschitz constant of the inner step, :math:`(1-\mu)\rho+\mu`.
        jacobian: :math:`\|J_{K-h}\|`.

    Raises:
        DomainError: An argument is outside its range.

    Book: chapter 8, Proposition (estimators), (1).

    Example:
        >>> from bmo import bounds
        >>> bounds.truncation(2, 0.5, 1.0)
        0.25
    """
    power = require_half_open("q", q, 0.0, 1.0) ** require_count("h", h)
    return float(power * require_nonnegative("jacobian", jacobian))


def implicit(rho: float, variation: float, distance: float) -> float:
    r""":math:`\Lambda\|u-u^*\|/(1-\rho)`: the implicit Jacobian at a point u near :math:`u^*`.

    Args:
        rho: Lipschitz constant of T, in [0, 1).
        variation: :math:`\Lambda`.
        distance: :math:`\|u-u^*\|`.

    Raises:
        DomainError: An argument is outside its range.

    Book: chapter 8, Proposition (estimators), (2).

    Example:
        >>> from bmo import bounds
        >>> bounds.implicit(0.5, 1.0, 0.25)
        0.5
    """
    lag = require_nonnegative("variation", variation) * require_nonnegative("distance", distance)
    return lag / (1 - require_half_open("rho", rho, 0.0, 1.0))


def neumann(m: int, rho: float, sensitivity: float, variation: float, distance: float) -> float:
    r"""M terms of the Neumann series: :math:`\rho^m(\|J^*\|+\epsilon)+\epsilon`.

    Here :math:`\epsilon = \Lambda\|u-u^*\|/(1-\rho)` is the error of the exact implicit Jacobian.

    Args:
        m: Number of terms; 1 is the one-step estimator.
        rho: Lipschitz constant of T, in [0, 1).
        sensitivity: :math:`\|J^*\|`.
        variation: :math:`\Lambda`.
        distance: :math:`\|u-u^*\|`.

    Raises:
        DomainError: An argument is outside its range.

    Book: chapter 8, Proposition (estimators), (3).

    Example:
        >>> from bmo import bounds
        >>> bounds.neumann(2, 0.5, 1.0, 0.0, 1.0)
        0.25
    """
    off = implicit(rho, variation, distance)
    return float(
        rho ** require_count("m", m) * (require_nonnegative("sensitivity", sensitivity) + off) + off
    )


def cg_factor(m: int, rho: float) -> float:
    r""":math:`2\zeta^m/(1+\zeta^{2m})` with :math:`\zeta = \rho/(1+\sqrt{1-\rho^2})`.

    The energy error of conjugate gradients after m steps, relative to the start at 0, for
    eigenvalues of :math:`I-\partial_uT` in :math:`[1-\rho, 1+\rho]`, self-adjoint in H.

    Args:
        m: Number of steps.
        rho: In [0, 1).

    Raises:
        DomainError: An argument is outside its range.

    Book: chapter 8, Proposition (estimators), (4).

    Example:
        >>> from bmo import bounds
        >>> round(bounds.cg_factor(1, 0.6), 12)
        0.6
    """
    require_half_open("rho", rho, 0.0, 1.0)
    zeta = rho / (1 + math.sqrt(1 - rho**2))
    return float(2 * zeta ** require_count("m", m) / (1 + zeta ** (2 * m)))


def conjugate_gradient(m: int, rho: float, slope: float, jump: float) -> float:
    r""":math:`\|\partial_\omega T\|\,\|g\|\,\mathrm{factor}/(1-\rho)`: m steps against the solve.

    Args:
        m: Number of steps of conjugate gradients, from 0.
        rho: In [0, 1).
        slope: :math:`\|g(u)\|`.
        jump: :math:`\|\partial_\omega T(u)\|`.

    Raises:
        DomainError: An argument is outside its range.

    Book: chapter 8, Proposition (estimators), (4).

    Example:
        >>> from bmo import bounds
        >>> round(bounds.conjugate_gradient(1, 0.6, 2.0, 1.0), 12)
        3.0
    """
    size = require_nonnegative("slope", slope) * require_nonnegative("jump", jump)
    return cg_factor(m, rho) * size / (1 - rho)


def one_term(rho: float, sensitivity: float, variation: float, distance: float) -> float:
    r"""The one-step estimator: :math:`\rho\|J^*\|+\Lambda_\omega\|u-u^*\|`. It does not vanish.

    Args:
        rho: Lipschitz constant of T, in [0, 1).
        sensitivity: :math:`\|J^*\|`.
        variation: :math:`\Lambda_\omega`, Lipschitz constant of :math:`\partial_\omega T` in u.
        distance: :math:`\|u-u^*\|`.

    Raises:
        DomainError: An argument is outside its range.

    Book: chapter 8, Proposition (estimators), (5).

    Example:
        >>> from bmo import bounds
        >>> bounds.one_term(0.5, 2.0, 1.0, 0.25)
        1.25
    """
    lag = require_nonnegative("variation", variation) * require_nonnegative("distance", distance)
    size = require_nonnegative("sensitivity", sensitivity)
    return require_half_open("rho", rho, 0.0, 1.0) * size + lag
