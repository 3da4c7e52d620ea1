r"""The value :math:`\varphi` of the random problems: a decomposition, a bisection, a certificate.

Nothing here iterates an operator of the book. Book: chapter 7.
"""

from __future__ import annotations

import numpy as np

from bmo.problems.family_steps import Array

__all__ = ["least_in_ball", "possible_descent"]


def least_in_ball(B: Array, d: Array, center: Array, radius: float) -> Array:
    r"""Minimise :math:`\tfrac12|Bt-d|^2` over :math:`|t-c|\le R`, by the SVD and bisection.

    Example:
        >>> import numpy as np
        >>> least_in_ball(np.eye(1), np.array([3.0]), np.zeros(1), 1.0).round(12)
        array([1.])
    """
    U, sigma, Wt = np.linalg.svd(B, full_matrices=False)
    keep = sigma > 1e-12 * max(1.0, float(sigma.max(initial=0.0)))
    U, sigma, Wt = U[:, keep], sigma[keep], Wt[keep]
    c = sigma * (U.T @ (d - B @ center))

    def length(weight: float) -> float:
        return float(np.linalg.norm(c / (sigma**2 + weight)))

    low = high = 0.0
    if length(0.0) > radius:
        high = float(np.linalg.norm(c)) / radius
        for _ in range(200):
            mid = (low + high) / 2
            low, high = (mid, high) if length(mid) > radius else (low, mid)
    best: Array = center + Wt.T @ (c / (sigma**2 + high))
    return best


def possible_descent(gradient: Array, t: Array, center: Array, radius: float) -> float:
    r"""How much a convex function can fall from t within the ball :math:`|t'-c|\le R`, at most.

    .. math:: \max_{|t'-c|\le R}\langle g, t-t'\rangle = \langle g, t-c\rangle + R|g|.

    It lies above its tangent, so its value at t exceeds its least value by no more than this.

    Args:
        gradient: :math:`g`, the gradient at t.
        t: A point of the ball.
        center: :math:`c`.
        radius: :math:`R`.

    Example:
        >>> import numpy as np
        >>> possible_descent(np.array([-2.0]), np.array([1.0]), np.zeros(1), 1.0)
        0.0
    """
    return float(gradient @ (t - center) + radius * np.linalg.norm(gradient))
