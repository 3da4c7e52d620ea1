r"""Step-size schedules :math:`s_1 \ge s_2 \ge \dots > 0` of Algorithm 1.

Book: chapter 6. The theorems ask for nonincreasing :math:`s_k \to 0` with
:math:`\sum s_k = \infty`; the default :math:`s_k = s/(k+1)^p` with :math:`0 < p \le 1` has both.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

from bmo.errors import ScheduleError, require_number

__all__ = ["PowerSchedule", "Schedule", "as_steps", "schedule"]

Schedule = Callable[[int], float]


class PowerSchedule:
    r""":math:`s_k = s/(k+1)^p`, :math:`k = 1, 2, \dots`; made by :func:`schedule`.

    An example: :func:`bmo.schedule`.
    """

    def __init__(self, s: float, p: float) -> None:
        self.s, self.p = s, p

    def __call__(self, k: int) -> float:
        return self.s / (k + 1) ** self.p

    def __repr__(self) -> str:
        return f"schedule({self.s:g}, p={self.p:g})"


def schedule(s: float, p: float = 1.0) -> PowerSchedule:
    r""":math:`s_k = s/(k+1)^p`.

    Args:
        s: :math:`s > 0`, the scale (the first step is :math:`s/2^p`).
        p: :math:`p \in [0, 1]`, the exponent; 0 is a constant step, which leaves a bias of order s.

    Raises:
        ScheduleError: ``s`` is not finite and positive, or ``p`` is outside [0, 1].

    Example:
        >>> import bmo
        >>> steps = bmo.schedule(1.0)
        >>> steps(1), steps(3)
        (0.5, 0.25)
    """
    if not 0 < require_number("s", s) < math.inf:
        raise ScheduleError("a scale s > 0", f"s = {s}", "0.5 / L is a start", s)
    if not 0 <= require_number("p", p) <= 1:
        raise ScheduleError(
            "an exponent p in [0, 1]",
            f"p = {p}",
            "use p <= 1: with p > 1 the steps have a finite sum and stop short of the solution",
            p,
        )
    return PowerSchedule(float(s), float(p))


def as_steps(steps: Schedule | Sequence[float] | float, count: int) -> list[float]:
    r"""The numbers :math:`s_1, \dots, s_K`, checked to be positive and nonincreasing.

    Args:
        steps: A function of k = 1, 2, ..., a sequence of at least ``count`` numbers, or one number.
        count: :math:`K`.

    Raises:
        ScheduleError: A step is not finite and positive, or larger than the one before, or
            missing; or ``count`` is negative.

    Example:
        >>> from bmo.schedules import as_steps
        >>> as_steps(0.5, 3)
        [0.5, 0.5, 0.5]
    """
    if not require_number("K", count) >= 0 or count != int(count):
        raise ScheduleError("a number of steps >= 0", f"{count}", "0 returns the start", count)
    if callable(steps):
        values = [require_number(f"s_{k}", steps(k)) for k in range(1, count + 1)]
    elif isinstance(steps, (int, float)):
        values = [float(steps)] * count
    else:
        values = [require_number(f"s_{k}", s) for k, s in enumerate(steps, 1)][:count]
    if len(values) < count:
        raise ScheduleError(
            f"{count} step sizes", f"{len(values)}", "give one for each step, or a function of k"
        )
    for k, s in enumerate(values, 1):
        if not 0 < s < math.inf:
            raise ScheduleError("positive steps", f"s_{k} = {s}", "bmo.schedule(s) is positive", s)
        if k > 1 and s > values[k - 2] * (1 + 1e-12):
            raise ScheduleError(
                "nonincreasing steps",
                f"s_{k} = {s:g} after s_{k - 1} = {values[k - 2]:g}",
                "sort them, or use bmo.schedule(s, p)",
                s,
            )
    return values
