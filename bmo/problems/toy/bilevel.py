r"""Bilevel problems solved by hand: solution set, value function and its minimiser.

Book: chapters 1, 6, 7 and 9.
"""

from __future__ import annotations

import torch
from torch import Tensor

from bmo.errors import DomainError
from bmo.metric import Diagonal
from bmo.problems.toy.base import Bilevel, Parametrised, half_square, vector
from bmo.sets import Box, Whole


def singleton_failure() -> Bilevel:
    r"""Training first and hyper-training through it is not enough: the two-stage answer is wrong.

    .. math:: D(u, \omega) = (\omega, u_2), \quad \Omega = [0, 3/2], \quad
              \ell(u;\omega) = \tfrac12(\omega - u_2)^2 + \tfrac12(u_1 - 1)^2

    :math:`S(\omega) = \{(\omega, t) : t \in \mathbb{R}\}` is a line, not a point, and the best of
    its points is :math:`(\omega, \omega)`: :math:`\varphi(\omega) = \tfrac12(\omega - 1)^2`,
    minimiser 1. Plain training (:math:`\mu = 0`) from :math:`u^0 = 0` never moves :math:`u_2`:
    with :math:`c = 1 - (1-\alpha)^K` it minimises
    :math:`\tfrac12\omega^2 + \tfrac12(c\,\omega - 1)^2`, at :math:`\omega = c/(1 + c^2) \to 1/2`.
    Example of Liu et al. (bilevel descent aggregation). Book: chapters 1 and 6.

    Example:
        >>> import torch
        >>> from bmo.problems import toy
        >>> problem = toy.singleton_failure()
        >>> problem.value(torch.tensor([0.5])), problem.best_omega
        (tensor(0.1250), tensor([1.], dtype=torch.float64))
    """

    def replace_first(u: Tensor, w: Tensor) -> Tensor:
        return torch.stack([w[0].expand_as(u[..., 0]), u[..., 1]], -1)

    operator = Parametrised(replace_first, vector(0.0))

    def upper(u: Tensor) -> Tensor:
        return 0.5 * (operator.omega[0] - u[..., 1]).square() + 0.5 * (u[..., 0] - 1).square()

    return Bilevel(
        operator=operator,
        upper=upper,
        start=vector(0.0, 0.0),
        domain=Box(-2.0, 2.0),
        parameter_domain=Box(0.0, 1.5),
        best=lambda w: torch.cat([w, w]),
        nearest=replace_first,
        value=lambda w: half_square(w, 1.0),
        gradient=lambda w: w - 1,
        best_omega=vector(1.0),
    )


def discontinuous_value() -> Bilevel:
    r"""A value function that jumps: :math:`\varphi(0) = 0`, :math:`\varphi = 1/2` elsewhere.

    .. math:: U = [-1, 1], \quad \Omega = [0, 1], \quad D(u, \omega) = (1 - \omega)u, \quad
              \ell(u) = \tfrac12(u - 1)^2

    :math:`S(0) = U` and :math:`S(\omega) = \{0\}` otherwise. So no :math:`\varphi_K` that is
    continuous converges uniformly; the minimiser 0 is where the jump is. Book: chapters 6 and 7.

    Example:
        >>> import torch
        >>> from bmo.problems import toy
        >>> problem = toy.discontinuous_value()
        >>> problem.value(torch.tensor([0.0])), problem.value(torch.tensor([0.1]))
        (tensor(0.), tensor(0.5000))
    """

    def nearest(u: Tensor, w: Tensor) -> Tensor:
        return torch.where(w == 0, u.clamp(-1, 1), torch.zeros_like(u))

    return Bilevel(
        operator=Parametrised(lambda u, w: (1 - w) * u, vector(0.5)),
        upper=lambda u: half_square(u, 1.0),
        start=vector(0.0),
        domain=Box(-1.0, 1.0),
        parameter_domain=Box(0.0, 1.0),
        best=lambda w: (w == 0).to(w),
        nearest=nearest,
        value=lambda w: torch.where(w == 0, 0.0, 0.5).to(w).sum(-1),
        gradient=torch.zeros_like,
        best_omega=vector(0.0),
    )


def quadratic(n: int = 4, seed: int = 0) -> Bilevel:
    r"""Ridge regression with one learned weight for each coordinate; everything in closed form.

    .. math:: f(u, \omega) = \tfrac12|Au - b|^2 + \tfrac12\textstyle\sum_i e^{\omega_i}u_i^2, \quad
              u^*(\omega) = M^{-1}A^\top b, \quad M = A^\top A + \mathrm{diag}(e^\omega)

    D is the preconditioned gradient step in
    :math:`H_\omega = \mathrm{diag}(\|A\|^2 + e^{\omega_i})`, so the metric depends on
    :math:`\omega`: :math:`D(u) = u - H_\omega^{-1}(Mu - A^\top b)`, 1/2-averaged by Lemma FB, and
    a contraction since M is definite. With :math:`\ell(u) = \tfrac12|u - u^\dagger|^2`,
    :math:`\partial\varphi/\partial\omega_i = -e^{\omega_i}\,u^*_i\,(M^{-1}(u^* - u^\dagger))_i`.
    The target is :math:`u^\dagger = u^*(\omega^\dagger)`, so the minimiser is
    :math:`\omega^\dagger`, with value 0. Book: chapters 6 and 9.

    Args:
        n: Number of unknowns; A has shape (2n, n).
        seed: Seed of A, b and the minimiser.

    Raises:
        DomainError: n < 1.

    Example:
        >>> from bmo.problems import toy
        >>> problem = toy.quadratic(3)
        >>> float(problem.value(problem.best_omega))
        0.0
    """
    if n < 1:
        raise DomainError("n >= 1", f"n = {n}", "take n = 4", n)
    draw = torch.Generator().manual_seed(seed)
    A = torch.randn(2 * n, n, dtype=torch.float64, generator=draw) / (2 * n) ** 0.5
    b = torch.randn(2 * n, dtype=torch.float64, generator=draw)
    best_omega = torch.rand(n, dtype=torch.float64, generator=draw) - 0.5
    norm2, Atb = torch.linalg.matrix_norm(A, 2) ** 2, A.mT @ b

    def matrix(w: Tensor) -> Tensor:
        return A.mT @ A + torch.diag(w.exp())

    def solution(w: Tensor) -> Tensor:
        return torch.linalg.solve(matrix(w), Atb)

    def step(u: Tensor, w: Tensor) -> Tensor:
        return u - (u @ (A.mT @ A) + w.exp() * u - Atb) / (norm2 + w.exp())

    target = solution(best_omega)

    def gradient(w: Tensor) -> Tensor:
        u = solution(w)
        return -w.exp() * u * torch.linalg.solve(matrix(w), u - target)

    return Bilevel(
        operator=Parametrised(
            step, torch.zeros_like(target), lambda w: Diagonal(norm2 + w.exp(), check=False)
        ),
        upper=lambda u: half_square(u, target),
        start=torch.zeros_like(target),
        domain=Whole(),
        parameter_domain=Box(-3.0, 3.0),
        best=solution,
        nearest=lambda u, w: solution(w).expand_as(u),
        value=lambda w: half_square(solution(w), target),
        gradient=gradient,
        best_omega=best_omega,
    )


def box_least_squares(n: int = 4, seed: int = 0) -> Bilevel:
    r"""Least squares on a box, with the data learned; outside the box the projection is active.

    .. math:: D(u, \omega) = \mathrm{Proj}_{[0,1]^n}(u - a^2(u - \omega)), \quad
              S(\omega) = \{\mathrm{Proj}_{[0,1]^n}(\omega)\}, \quad \ell(u) = \tfrac12|u - t|^2

    with :math:`a_i^2 \in [1/4, 1]` and :math:`t_i \in [1/4, 3/4]`.
    :math:`\partial\varphi/\partial\omega_i = \omega_i - t_i` inside the box and 0 outside: a
    coordinate that starts outside is never learned. The minimiser is t. Book: chapters 6 and 9.

    Args:
        n: Number of unknowns.
        seed: Seed of a and t.

    Raises:
        DomainError: n < 1.

    Example:
        >>> import torch
        >>> from bmo.problems import toy
        >>> toy.box_least_squares(2).best(torch.tensor([1.4, 0.3]))
        tensor([1.0000, 0.3000])
    """
    if n < 1:
        raise DomainError("n >= 1", f"n = {n}", "take n = 4", n)
    draw = torch.Generator().manual_seed(seed)
    a2 = 0.25 + 0.75 * torch.rand(n, dtype=torch.float64, generator=draw)
    target = 0.25 + 0.5 * torch.rand(n, dtype=torch.float64, generator=draw)
    return Bilevel(
        operator=Parametrised(
            lambda u, w: (u - a2 * (u - w)).clamp(0, 1), torch.full_like(target, 0.5)
        ),
        upper=lambda u: half_square(u, target),
        start=torch.zeros_like(target),
        domain=Box(0.0, 1.0),
        parameter_domain=Box(-0.5, 1.5),
        best=lambda w: w.clamp(0, 1),
        nearest=lambda u, w: w.clamp(0, 1).expand_as(u),
        value=lambda w: half_square(w.clamp(0, 1), target),
        gradient=lambda w: torch.where((w > 0) & (w < 1), w - target, torch.zeros_like(w)),
        best_omega=target,
    )
