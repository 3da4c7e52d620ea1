r"""How much a map is averaged, and how long a step may be. Book: chapters 2 and 4.

A map is a-averaged in H if it is :math:`(1-a)I + aN` with :math:`N` nonexpansive in H.
"""

from __future__ import annotations

import math

from bmo.bounds.ranges import (
    require_averaged,
    require_closed,
    require_half_open,
    require_nonnegative,
    require_open,
    require_positive,
)
from bmo.errors import ConditionError


def composition_averaged(a1: float, a2: float) -> float:
    r""":math:`(a_1+a_2-2a_1a_2)/(1-a_1a_2)` for :math:`T_1\circ T_2` in one metric.

    Args:
        a1: Constant of :math:`T_1`, in (0, 1].
        a2: Constant of :math:`T_2`, in (0, 1].

    Raises:
        DomainError: A constant is outside (0, 1].

    Book: chapter 2, composition.

    Example:
        >>> from bmo import bounds
        >>> round(bounds.composition_averaged(0.5, 0.5), 12)
        0.666666666667
    """
    require_averaged("a1", a1), require_averaged("a2", a2)
    if max(a1, a2) == 1:
        return 1.0
    return (a1 + a2 - 2 * a1 * a2) / (1 - a1 * a2)


def projected_averaged(a: float) -> float:
    r""":math:`1/(2-a)`: an a-averaged map followed by a projection in the same metric.

    The same number as ``composition_averaged(0.5, a)``, since projections are 1/2-averaged.
    Book: chapter 2, a projected step.

    Example:
        >>> from bmo import bounds
        >>> bounds.projected_averaged(1.0)
        1.0
    """
    return 1 / (2 - require_averaged("a", a))


def forward_backward_averaged(delta: float) -> float:
    r""":math:`1/(2-\delta)`: the step :math:`(Q+M)^{-1}(Q-C)` where C has curvature 2 delta in Q.

    Args:
        delta: In [0, 1]; 0 means no forward part, 1 the longest step that is nonexpansive.

    Raises:
        DomainError: ``delta`` is outside [0, 1].

    Book: chapter 4, Lemma FB.

    Example:
        >>> from bmo import bounds
        >>> bounds.forward_backward_averaged(0.0)
        0.5
    """
    return 1 / (2 - require_closed("delta", delta, 0.0, 1.0))


def gradient_alpha(step: float, lipschitz: float) -> float:
    r""":math:`\alpha = \tau L/2`: gradient descent :math:`I-\tau\nabla f` is GKM with this alpha.

    Also the averagedness of :math:`I - sg` in H (Lemma 0.2), with :math:`L_H` in place of L.

    Args:
        step: :math:`\tau > 0`.
        lipschitz: :math:`L > 0`; the step is at most :math:`2/L`.

    Raises:
        DomainError: An argument is not positive.
        ConditionError: The step is longer than 2/L.

    Book: chapter 4, "Numerical steps".

    Example:
        >>> from bmo import bounds
        >>> bounds.gradient_alpha(1.0, 1.0)
        0.5
    """
    a = require_positive("step", step) * require_positive("lipschitz", lipschitz) / 2
    if a > 1 + 1e-12:
        raise ConditionError("step <= 2 / L", f"step * L / 2 = {a:.6g}", "shorten the step", a)
    return min(a, 1.0)


def ista_alpha(step: float, L: float) -> float:
    r""":math:`\alpha = 2/(4-\tau L)`: ISTA with step :math:`\tau < 2/L` is GKM with this alpha.

    Its D is :math:`I + (F-I)/\alpha` with :math:`F = \mathrm{prox}_{\tau g}(I-\tau\nabla f)`.

    Raises:
        DomainError: An argument is not positive.
        ConditionError: ``step >= 2 / L`` (at 2/L it is nonexpansive, but not averaged).

    Book: chapter 4, "Numerical steps".

    Example:
        >>> from bmo import bounds
        >>> bounds.ista_alpha(0.0001, 0.0001) > 0.5
        True
        >>> round(bounds.ista_alpha(1.0, 1.0), 12)
        0.666666666667
    """
    delta = gradient_alpha(step, L)
    if delta >= 1:
        raise ConditionError("step < 2 / L", "step = 2 / L", "shorten the step a little", step)
    return forward_backward_averaged(delta)


def lista_alpha(a: float, norm: float | None = None) -> float:
    r""":math:`\alpha = 1/(2-a)`: LISTA :math:`S_\theta(W_2u + c)` with :math:`\|W_2-(1-a)I\|\le a`.

    The condition says that the affine part is a-averaged.

    Args:
        a: In (0, 1).
        norm: :math:`\|W_2-(1-a)I\|`, checked if given.

    Raises:
        DomainError: ``a`` is outside (0, 1).
        ConditionError: ``norm`` is larger than a.

    Book: chapter 4, "Numerical steps".

    Example:
        >>> from bmo import bounds
        >>> round(bounds.lista_alpha(0.5), 12)
        0.666666666667
    """
    alpha = 1 / (2 - require_open("a", a, 0.0, 1.0))
    if norm is not None and not norm <= a * (1 + 1e-12):
        raise ConditionError(
            f"||W_2 - (1 - a) I|| <= a = {a:g}", f"{norm:.6g}", "shrink W_2, or damp it", norm
        )
    return alpha


def red_alpha(step: float, L: float, weight: float) -> float:
    r""":math:`\alpha = \tau(L+2\lambda)/2` of RED with a nonexpansive denoiser.

    RED steps along :math:`\nabla f(u) + \lambda(u - \mathrm{Den}(u))`.

    Args:
        step: :math:`\tau > 0`, at most :math:`2/(L+2\lambda)`.
        L: Lipschitz constant of :math:`\nabla f`, >= 0.
        weight: :math:`\lambda \ge 0`; L and the weight are not both 0.

    Raises:
        DomainError: An argument is outside its range.
        ConditionError: The step is too long.

    Book: chapter 4, RED.

    Example:
        >>> from bmo import bounds
        >>> bounds.red_alpha(0.5, 1.0, 0.5)
        0.5
    """
    total = require_nonnegative("L", L) + 2 * require_nonnegative("weight", weight)
    return gradient_alpha(step, require_positive("L + 2 weight", total))


def monotone_step_limit(margin: float, norm: float) -> float:
    r""":math:`2m/\|I-W\|^2`: the longest step of a monotone equilibrium network.

    It is needed that :math:`\langle(I-W)w,w\rangle \ge m|w|^2` for all w; W need not be symmetric.

    Args:
        margin: :math:`m > 0`.
        norm: :math:`\|I-W\| \ge m`.

    Raises:
        DomainError: ``margin`` is not positive, or ``norm`` is below it.

    Book: chapter 4, monotone equilibrium.

    Example:
        >>> from bmo import bounds
        >>> bounds.monotone_step_limit(1.0, 2.0)
        0.5
    """
    require_half_open("norm", norm, require_positive("margin", margin), math.inf)
    return 2 * margin / norm**2


def upper_step_limit(low: float, lipschitz: float, sharp: bool = False) -> float:
    r"""The longest upper step: :math:`2\lambda_{lb}/L_\ell`, or half of it for Lemma 2+.

    Args:
        low: :math:`\lambda_{lb} > 0`, the smallest eigenvalue of H.
        lipschitz: :math:`L_\ell \ge 0`; 0 gives infinity.
        sharp: The limit of Lemma 2+ instead of that of Lemma 3.

    Raises:
        DomainError: An argument is outside its range.

    Book: chapter 6, Lemmas 2+ and 3.

    Example:
        >>> from bmo import bounds
        >>> bounds.upper_step_limit(1.0, 4.0)
        0.5
    """
    require_positive("low", low)
    if require_nonnegative("lipschitz", lipschitz) == 0:
        return math.inf
    return (1 if sharp else 2) * low / lipschitz


def aggregate_averaged(alpha: float, mu: float, step: float, lipschitz: float) -> float:
    r"""How averaged :math:`F_s = \mathrm{Proj}((1-\mu)T+\mu(I-sg))` is: :math:`1/(2-\bar\alpha)`.

    Here :math:`\bar\alpha = (1-\mu)\alpha + \mu sL_H/2`.

    Args:
        alpha: In (0, 1).
        mu: In [0, 1).
        step: :math:`s > 0`, at most :math:`2/L_H`.
        lipschitz: :math:`L_H > 0`, Lipschitz constant of g in the metric.

    Raises:
        DomainError: An argument is outside its range.
        ConditionError: The step is too long.

    Book: chapter 7, Lemma 5.

    Example:
        >>> from bmo import bounds
        >>> round(bounds.aggregate_averaged(0.5, 0.5, 1.0, 1.0), 12)
        0.666666666667
    """
    require_open("alpha", alpha, 0.0, 1.0), require_half_open("mu", mu, 0.0, 1.0)
    return projected_averaged((1 - mu) * alpha + mu * gradient_alpha(step, lipschitz))
