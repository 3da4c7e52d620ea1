"""One result object for every iteration: the value, whether it converged, and what happened."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum

import torch
from torch import Tensor


class Status(StrEnum):
    """How an iteration ended.

    Example:
        >>> from bmo import Status
        >>> Status.CONVERGED.value
        'converged: the residual reached the tolerance'
    """

    CONVERGED = "converged: the residual reached the tolerance"
    FINISHED = "finished: the asked number of steps was done"
    LIMIT = "stopped at the step limit before the tolerance was reached"
    NONFINITE = "stopped: an iterate was not finite"


@dataclass(frozen=True)
class Result:
    """What an iteration returned.

    Attributes:
        value: Last iterate (the last *finite* one if an iterate was not finite).
        status: How it ended.
        iterations: Number of finite iterates after the first.
        residuals: Shape (steps, batch...): the residual before each step, in the metric.
        trace: Named lists of what an observer returned at each step.

    Example:
        >>> import torch, bmo
        >>> D = bmo.operators.Lambda(lambda u: u / 2, bmo.metric.Identity())
        >>> bmo.GKM(D, alpha=0.5).iterate(torch.ones(1), iterations=3).status.name
        'FINISHED'
    """

    value: Tensor
    status: Status
    iterations: int
    residuals: Tensor
    trace: dict[str, list[Tensor]] = field(default_factory=dict)

    @property
    def converged(self) -> bool:
        """Whether the asked tolerance was reached."""
        return self.status is Status.CONVERGED

    def traced(self, name: str) -> Tensor:
        """One observed quantity, stacked over the steps: shape (steps, ...)."""
        return torch.stack(self.trace[name])
