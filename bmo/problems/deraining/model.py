r"""Rain removal: the map to run, the upper objective, and hyper-training's loss.

Book: chapter 12. The upper objective sees the clean image X and is used for hyper-training only:

.. math:: \ell(u) = \tfrac12\|B - X\|^2 + \tfrac\rho2\|CM - (O - X)\|^2 .
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn

from bmo.errors import DomainError
from bmo.gkm import GKM
from bmo.inner import Inner
from bmo.problems.deraining.derainer import Derainer
from bmo.schedules import Schedule


class Deraining(nn.Module):
    r"""An operator with all that hyper-training and testing need.

    :meth:`loss` hyper-trains through the aggregated loop and needs clean images; :meth:`restore`
    iterates T alone and never sees any.

    Args:
        operator: The step D on :math:`u = (B, M)`.
        alpha: Relaxation of T in (0, 1).
        mu: Weight of the upper step in hyper-training.
        steps: :math:`s_k`.
        iterations: K of hyper-training.
        rain_weight: :math:`\rho \ge 0`, the weight of the rain layer in the upper objective.

    Raises:
        DomainError: :math:`\rho` is negative.

    Example:
        >>> from bmo.problems.deraining.step import RainStep
        >>> step = RainStep(torch.eye(3)[None] / 3, torch.zeros(3, 8, 8), threshold=0.1)
        >>> model = Deraining(Derainer(step), alpha=0.9, mu=0.3, iterations=3)
        >>> model.restore(torch.rand(2, 3, 8, 8), [1, 4]).shape
        torch.Size([2, 2, 3, 8, 8])
    """

    def __init__(
        self,
        operator: Derainer,
        alpha: float,
        mu: float = 0.0,
        steps: Schedule | float = 1.0,
        iterations: int = 10,
        rain_weight: float = 0.0,
    ) -> None:
        super().__init__()
        if not rain_weight >= 0:
            raise DomainError("a weight >= 0", f"{rain_weight}", "0 leaves the rain out")
        self.operator, self.alpha, self.mu = operator, alpha, mu
        self.steps, self.iterations, self.rain_weight = steps, iterations, rain_weight

    def map(self, rainy: Tensor) -> GKM:
        """T for the observation ``rainy``, shape (..., c, H, W)."""
        return GKM(self.operator.bind(b=rainy), self.alpha)

    def upper(self, clean: Tensor, rainy: Tensor) -> Callable[[Tensor], Tensor]:
        r""":math:`\ell`, one number for each image."""
        streaks = (rainy - clean).mean(-3, keepdim=True)

        def value(u: Tensor) -> Tensor:
            background, _ = self.operator.step.split(u)
            found = (background - clean).square().sum((-3, -2, -1))
            if self.rain_weight:
                gap = (self.operator.step.rain(u) - streaks).square().sum((-3, -2, -1))
                found = found + self.rain_weight * gap
            return 0.5 * found

        return value

    def loss(self, batch: tuple[Tensor, Tensor]) -> Tensor:
        r"""Mean of :math:`\ell(u^K)` over (clean, rainy) images: hyper-training's objective."""
        clean, rainy = batch
        training, upper = self.map(rainy), self.upper(clean, rainy)
        start = self.operator.step.bind(b=rainy).start()
        inner = Inner(training, self.mu, self.steps)
        return upper(inner(start, upper, self.iterations)).mean()

    @torch.no_grad()
    def restore(self, rainy: Tensor, depths: Sequence[int]) -> Tensor:
        """Backgrounds after each of the depths (sorted), by T alone: shape (depths, ..., c, H, W).

        Nothing but the observation is used.
        """
        training, out, done = self.map(rainy), [], 0
        u = self.operator.step.bind(b=rainy).start()
        for depth in sorted(depths):
            u = training.iterate(u, iterations=depth - done).value
            done = depth
            out.append(self.operator.step.split(u)[0])
        return torch.stack(out)
