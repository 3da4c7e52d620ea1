r"""Training problems with a known answer: a step D, its metric, its fixed points.

Book: chapters 2, 3 and 6.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from bmo.errors import DomainError
from bmo.gkm import require_alpha
from bmo.metric import Dense, Identity
from bmo.operators import Lambda
from bmo.problems.toy.base import Training, half_square, vector
from bmo.sets import Box


def rotation(angle: float) -> Training:
    r"""The plane turned by an angle: :math:`D = R_\theta`, :math:`S = \{0\}`, :math:`|u^0| = 1`.

    .. math:: r_k^2 = \alpha^2 y\,(1 - \alpha(1-\alpha)y)^k, \quad y = 2(1 - \cos\theta)

    An extremal instance of the Krasnoselskii-Mann rate. Book: chapter 3.

    Args:
        angle: :math:`\theta`, not a multiple of :math:`2\pi`.

    Raises:
        DomainError: The angle is not finite, or D would be the identity.

    Example:
        >>> from bmo.problems import toy
        >>> problem = toy.rotation(3.141592653589793)  # D = -I
        >>> round(problem.residual(0.25, 2), 6)  # u^2 = 1/4, r = 2 alpha u
        0.125
    """
    y = 2 * (1 - math.cos(angle)) if math.isfinite(angle) else math.nan
    if not y > 0:
        raise DomainError("an angle that moves points", f"angle = {angle}", "take 0.2, say", angle)
    cos, sin = math.cos(angle), math.sin(angle)
    turn = torch.tensor([[cos, -sin], [sin, cos]], dtype=torch.float64)

    def residual(alpha: float, k: int) -> float:
        return alpha * math.sqrt(y * (1 - alpha * (1 - alpha) * y) ** k)

    step = Lambda(lambda u: u @ turn.mT, Identity())
    return Training(step, vector(1.0, 0.0), vector(0.0, 0.0), residual)


def line(alpha: float, k: int) -> Training:
    r"""The slowest map on the line for k steps: :math:`S = \{0\}`, :math:`u^0 = 1`.

    .. math:: D(x) = x - 2\sigma\,\mathrm{sgn}\,x \;(|x| \ge \sigma), \quad
              D(x) = -x \;(|x| \le \sigma), \quad \sigma = 1/(1 + 2\alpha k)

    The residual stays at :math:`r_0 = \dots = r_k = 2\alpha/(1 + 2\alpha k)`. Book: chapter 3.

    Args:
        alpha: Relaxation in (0, 1).
        k: Number of steps, at least 0.

    Raises:
        DomainError: An argument is out of range. (``residual`` raises it beyond k, too.)

    Example:
        >>> from bmo.problems import toy
        >>> toy.line(0.5, 3).residual(0.5, 3)
        0.25
    """
    require_alpha(alpha)
    if k < 0:
        raise DomainError("k >= 0", f"k = {k}", "count the steps from 0", k)
    sigma = 1 / (1 + 2 * alpha * k)

    def residual(a: float, j: int) -> float:
        if a != alpha or not 0 <= j <= k:
            raise DomainError(
                f"alpha = {alpha} and 0 <= k <= {k}", f"{a}, {j}", "build the line for them", (a, j)
            )
        return 2 * alpha * sigma

    step = Lambda(
        lambda x: torch.where(x.abs() >= sigma, x - 2 * sigma * torch.sign(x), -x), Identity()
    )
    return Training(step, vector(1.0), vector(0.0), residual)


def skewed_rotation(n: int = 6, seed: int = 0, condition: float = 100.0) -> Training:
    r"""A rotation seen through a metric, :math:`D = H^{-1/2}QH^{1/2}`: :math:`\|D\|_H = 1`.

    :math:`Q` turns n/2 random planes by angles between 0.3 and 2.8, so that 1 is no eigenvalue;
    the eigenvalues of :math:`H` run from 1 to ``condition``. In the Euclidean norm D expands.
    :math:`S = \{0\}`. Book: chapter 2.

    Args:
        n: Even dimension.
        seed: Seed of planes, angles and metric.
        condition: Condition number of H, at least 1.

    Raises:
        DomainError: n is odd or less than 2, or the condition number is below 1.

    Example:
        >>> import torch
        >>> from bmo.problems import toy
        >>> problem = toy.skewed_rotation(4, seed=0)
        >>> D, u = problem.operator, problem.start
        >>> round(float(D.metric.norm(D(u)) / D.metric.norm(u)), 9)
        1.0
    """
    if n < 2 or n % 2 or not 1 <= condition < math.inf:
        raise DomainError("even n >= 2, condition >= 1", f"{n}, {condition}", "take n = 6, 100", n)
    draw = torch.Generator().manual_seed(seed)

    def basis() -> Tensor:
        return torch.linalg.qr(torch.randn(n, n, dtype=torch.float64, generator=draw))[0]

    angles = 0.3 + 2.5 * torch.rand(n // 2, dtype=torch.float64, generator=draw)
    rows = [torch.stack([a.cos(), -a.sin(), a.sin(), a.cos()]).reshape(2, 2) for a in angles]
    planes, axes = basis(), basis()
    Q = planes @ torch.block_diag(*rows) @ planes.mT
    roots = torch.logspace(0, 0.5 * math.log10(condition), n, dtype=torch.float64)
    step = (axes / roots) @ axes.mT @ Q @ (axes * roots) @ axes.mT
    H = (axes * roots**2) @ axes.mT
    start = torch.randn(n, dtype=torch.float64, generator=draw)
    operator = Lambda(lambda u: u @ step.mT, Dense((H + H.mT) / 2))
    return Training(operator, start / start.norm(), torch.zeros_like(start))


def wrong_metric() -> Training:
    r"""Why the upper gradient is :math:`H^{-1}\nabla\ell`: the best fixed point is (0, 0).

    .. math:: H = \begin{pmatrix}2&1\\1&2\end{pmatrix}, \quad D(u) = (u_1 + \tfrac12u_2,\; 0), \quad
              \ell(u) = \tfrac12|u - (0, 1)|^2, \quad S = \mathbb{R}e_1

    D is the H-projection on the first axis. With :math:`\nabla\ell` instead of
    :math:`H^{-1}\nabla\ell` the loop solves :math:`(H\nabla\ell)_1 = 0` on S, which is (1/2, 0).
    Book: chapter 6.

    Example:
        >>> from bmo.problems import toy
        >>> toy.wrong_metric().solution
        tensor([0., 0.], dtype=torch.float64)
    """
    H = Dense(torch.tensor([[2.0, 1.0], [1.0, 2.0]], dtype=torch.float64))
    operator = Lambda(lambda u: torch.stack([u[..., 0] + u[..., 1] / 2, 0 * u[..., 1]], -1), H)
    return Training(
        operator, vector(1.0, 1.0), vector(0, 0), upper=lambda u: half_square(u, vector(0.0, 1.0))
    )


def wrong_projection() -> Training:
    r"""Why :math:`u^k` is projected in the metric: the best of :math:`u_2 \le 0` is (0, 0).

    :math:`H` and :math:`\ell` as in :func:`wrong_metric`, :math:`D = I`, so every point of U is
    fixed and :math:`\ell = 1/2` at best. With the Euclidean projection the loop ends in (-1/2,
    0), where :math:`\ell = 5/8`. Book: chapter 6.

    Example:
        >>> from bmo.problems import toy
        >>> toy.wrong_projection().upper(toy.wrong_projection().solution).item()
        0.5
    """
    H = Dense(torch.tensor([[2.0, 1.0], [1.0, 2.0]], dtype=torch.float64))
    half = Box(vector(-math.inf, -math.inf), vector(math.inf, 0.0))
    return Training(
        Lambda(lambda u: u, H),
        vector(1.0, -1.0),
        vector(0.0, 0.0),
        upper=lambda u: half_square(u, vector(0.0, 1.0)),
        domain=half,
    )


def constant_step() -> Training:
    r"""Why the steps must fall: :math:`D = 0`, :math:`\ell(u) = \tfrac12(u-1)^2`.

    Here :math:`S = \{0\}`. With a constant step s the loop converges to
    :math:`\mu s/((1-\mu)\alpha + \mu s)`, never to 0. Book: chapter 6.

    Example:
        >>> from bmo.problems import toy
        >>> toy.constant_step().solution
        tensor([0.], dtype=torch.float64)
    """
    return Training(
        Lambda(lambda u: 0 * u, Identity()),
        vector(1.0),
        vector(0.0),
        upper=lambda u: half_square(u, 1.0),
        domain=Box(-1.0, 1.0),
    )
