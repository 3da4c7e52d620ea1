r"""A pilot run: what it finds in an observation sets the weights of the penalty, once for all.

Book: chapter 10, "What may depend on the observation". A map :math:`T(\cdot\,; \omega, b)` that is
averaged for every b stays so if :math:`\theta` depends on b. So the first few steps, the pilot, may
look at b in any way; the weights that they leave are then fixed, and the steps after them converge.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn

from bmo.baselines import Repeated
from bmo.baselines.base import State, require_depth
from bmo.errors import ConditionError
from bmo.gkm import GKM
from bmo.operators import LearnedForwardBackward, LearnedSparseADMM, LearnedSparseLADMM
from bmo.parameters import Positive

#: :math:`\epsilon` at the start: coefficients have size one.
SMALL = 0.05
Step = LearnedForwardBackward | LearnedSparseADMM | LearnedSparseLADMM


@dataclass(frozen=True)
class Found:
    """What a pilot run left.

    Attributes:
        points: The point after each of its steps.
        weights: Of the penalty, for the steps after it, shape (..., n).
    """

    points: list[Tensor]
    weights: Tensor


class Pilot(nn.Module):
    r"""A few steps whose thresholds change, and the weights that they leave.

    Stage j takes ``lengths[j]`` steps of the relaxed map. Then, with the size :math:`a_i` of each
    entry before its threshold and a learned :math:`\epsilon_i > 0`,

    .. math:: w_i = \frac{2\epsilon_i}{a_i + \epsilon_i} \in (0, 2],

    so that what is large is shrunk little. In the pilot the threshold of step k is that of the map
    times :math:`w_i`, times a learned number of the step and one of the stage and entry.

    Args:
        size: n, the length of a code.
        lengths: Steps of each stage.

    Raises:
        ConditionError: There is no stage, or one without a step.

    Example:
        >>> D = LearnedSparseADMM(torch.eye(2), torch.zeros(2), threshold=0.1)
        >>> found = Pilot(2, (3, 2))(D, torch.tensor([1.0, 0.0]), torch.zeros(6), 0.9)
        >>> len(found.points), bool(found.weights[0] < found.weights[1])
        (5, True)
    """

    def __init__(self, size: int, lengths: Sequence[int]) -> None:
        super().__init__()
        if not lengths or min(lengths) < 1:
            raise ConditionError(
                "stages of at least one step each", f"{tuple(lengths)}", "leave empty stages out"
            )
        self.lengths, self.steps = tuple(lengths), sum(lengths)
        self.pace = nn.ModuleList([Positive(torch.ones(count), low=1e-3) for count in lengths])
        self.stage = nn.ModuleList([Positive(torch.ones(size), low=1e-3) for _ in lengths])
        self.small = nn.ModuleList([Positive(torch.ones(size), low=1e-3) for _ in lengths])

    def forward(self, operator: Step, b: Tensor, z: Tensor, alpha: float) -> Found:
        """Run the pilot on observations ``b`` from the point z."""
        D = operator.bind(b=b)
        plain: Any = D.prepare()
        at, points = plain, []
        for pace, stage, small in zip(self.pace, self.stage, self.small, strict=True):
            for number in pace():
                relaxed = replace(at, threshold=at.threshold * stage() * number)
                z = torch.lerp(z, D.step(z, relaxed), alpha)
                points.append(z)
            weights = self.weigh(D.magnitude(z, plain), SMALL * small())
            at = replace(plain, threshold=plain.threshold * weights)
            z = D.warm(z, at)
            points[-1] = z
        return Found(points, weights)

    @staticmethod
    def weigh(size: Tensor, small: Tensor) -> Tensor:
        r""":math:`w = 2\epsilon/(a + \epsilon)`.

        Example:
            >>> Pilot.weigh(torch.tensor([0.0, 0.1, 1.9]), torch.tensor(0.1))
            tensor([2.0000, 1.0000, 0.1000])
        """
        return 2 * small / (size + small)


class PilotedRun(Repeated):
    """The pilot's steps, then the certified map with the weights that they left.

    Args:
        pilot: The pilot run.
        plain: The map as a method; its operator has data named ``weights``.
    """

    def __init__(self, pilot: Pilot, plain: Repeated) -> None:
        super().__init__(
            plain.map, plain.size, plain.name, plain.products, plain.depth, plain._read
        )
        self.pilot, self.free = pilot, pilot.steps

    def fixed(self, b: Tensor) -> tuple[GKM, list[Tensor]]:
        """The map for these observations, and the points of the pilot: the last one starts it."""
        operator: Any = self.map.operator
        found = self.pilot(operator, b, self.start(b)[0], self.map.alpha)
        return self.map.bind(b=b, weights=found.weights), found.points

    def states(self, b: Tensor, depth: int | None = None) -> Iterator[State]:
        T, points = self.fixed(b)
        total = self.depth if depth is None else require_depth(depth)
        for z in points[:total]:
            yield (z,)
        for _ in range(total - self.free):
            z = T(z)
            yield (z,)
