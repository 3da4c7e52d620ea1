r"""The worst cases of two iterations of a nonexpansive map, over all such maps.

The metric does not matter: :math:`x = H^{1/2}u` turns the inner product of H into the Euclidean
one, and a map that is nonexpansive in H into a nonexpansive one. Book: chapters 3 and 14.
"""

from __future__ import annotations

from bmo.bounds.ranges import require_count, require_open
from bmo.performance.certificate import Certificate, certify, new, nonexpansive


def km_worst_case(alpha: float, k: int) -> Certificate:
    r"""The largest :math:`r_k^2` of :math:`u^{k+1}=(1-\alpha)u^k+\alpha Du^k`.

    .. math:: \max\{\|u^k-Tu^k\|^2 : D \text{ nonexpansive},\ \mathrm{dist}(u^0,\mathrm{Fix}D)\le1\}

    in every dimension. Compare :func:`bmo.bounds.km_worst`.

    Args:
        alpha: In (0, 1).
        k: Number of steps done, >= 0.

    Raises:
        DomainError: An argument is outside its range.
        CertificateError: The extra ``certificates`` is not installed.

    Book: chapter 3, "Is it ever slower? A theorem and a conjecture".

    Example:
        >>> from bmo.performance import km_worst_case
        >>> round(km_worst_case(0.5, 1).bound, 6)
        0.25
    """
    alpha, k = require_open("alpha", alpha, 0.0, 1.0), require_count("k", k)
    problem = new()
    D, u = nonexpansive(problem), problem.set_initial_point()
    problem.set_initial_condition(u**2 <= 1)
    for _ in range(k):
        u = (1 - alpha) * u + alpha * D.gradient(u)
    # u^0 and the k + 1 images: none is longer than 1.
    return certify(problem, alpha**2 * (u - D.gradient(u)) ** 2, k + 2, scale=(k + 1) / alpha**2)


def halpern_worst_case(k: int) -> Certificate:
    r"""The largest :math:`\|w^k-Fw^k\|^2` of the anchored iteration of a nonexpansive F.

    .. math:: w^k = \tfrac1{k+1}w^0+\tfrac k{k+1}Fw^{k-1},\quad
              \mathrm{dist}(w^0,\mathrm{Fix}F)\le1

    Compare ``bounds.anchored_move(k, 1.0) ** 2``.

    Args:
        k: Number of steps done, >= 0.

    Raises:
        DomainError: An argument is outside its range.
        CertificateError: The extra ``certificates`` is not installed.

    Book: chapter 14, Theorem H (a).

    Example:
        >>> from bmo.performance import halpern_worst_case
        >>> round(halpern_worst_case(1).bound, 6)
        1.0
    """
    k = require_count("k", k)
    problem = new()
    F, start = nonexpansive(problem), problem.set_initial_point()
    problem.set_initial_condition(start**2 <= 1)
    w = start
    for j in range(1, k + 1):
        w = start / (j + 1) + j / (j + 1) * F.gradient(w)
    return certify(problem, (w - F.gradient(w)) ** 2, trace=k + 2)
