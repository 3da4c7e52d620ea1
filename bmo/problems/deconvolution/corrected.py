r"""Methods that begin where a public denoiser has ended: its restoration, corrected.

Book: chapter 11, "A better reference". Lines 1 and 2 of the algorithm are replaced: the first image
is FFDNet's in DPIR's schedule, and a free network corrects it. The loop is what it was, so T is
nonexpansive for every observation and every :math:`\omega`: the denoiser is asked before the first
step, and what it says stands still.
"""

from __future__ import annotations

import torch
from torch import Tensor

from bmo.networks import UBody
from bmo.operators import FourierWeight
from bmo.problems.deconvolution.centred import CentredPotential
from bmo.problems.deconvolution.methods import KNOTS, Deblurrer, Distance, data_steps
from bmo.problems.deconvolution.restorer import Public, Restorer
from bmo.problems.deconvolution.settings import Settings

#: The noise level that the correcting network sees as zero.
MIDDLE = 0.02


class CorrectedDeblurrer(Deblurrer):
    r"""Begins at :math:`u^0 = (p + K^\top K)^{-1}(p(z - C) + K^\top b)`, z restored by others.

    C is a free network (:class:`~bmo.networks.UBody`). It reads z, the data step at z, the Wiener
    image and :math:`\log(\sigma/0.02)`. Here :math:`p = r/\text{last}^2`.

    Args:
        name: Its name.
        denoiser: :math:`D_{net}`, as in :class:`Deblurrer`.
        settings: Of the experiment (``correcting`` in place of ``rounds``).
        mu: Weight of the upper step in hyper-training.
        restorer: Observations to z, no parameter of the method: FFDNet in DPIR's schedule.
    """

    def __init__(
        self,
        name: str,
        denoiser: CentredPotential,
        settings: Settings,
        mu: float = 0.0,
        restorer: Restorer | None = None,
    ) -> None:
        super().__init__(name, denoiser, settings, mu)
        self.restorer, self.centred = (
            restorer or Public(1),
            (denoiser,),
        )  # a tuple: it is known already
        self.correction = UBody(3 * 3 + 1, 3, settings.correcting.widths)
        with torch.no_grad():  # z is changed little at first
            self.correction.tail.weight.mul_(0.1)
        self.first.requires_grad_(False)  # there are no rounds

    def levels(self, sigma: Tensor) -> list[Tensor]:
        """The level of the loop; there are no rounds."""
        return [self.last() * sigma]

    def begin(
        self, observed: Tensor, symbol: Tensor, sigma: Tensor, restored: Tensor | None = None
    ) -> Tensor:
        r""":math:`u^0`; it knows the observation alone.

        Args:
            observed: b, shape (B, 3, H, W).
            symbol: Of the blur, shape (B, 1, H, W//2 + 1).
            sigma: Noise levels on [0, 1], shape (B, 1, 1, 1).
            restored: z if it is known, as in training.
        """
        z = self.restorer(observed, symbol, sigma) if restored is None else restored
        solve, p = data_steps(observed, symbol), self.ratio() / self.last().square()
        level = (sigma / MIDDLE).log().expand(-1, 1, *z.shape[-2:])
        known = [z, solve(z, p), solve(None, self.wiener() * sigma.square()), level]
        return solve(z - self.correction(torch.cat(known, 1)), p)

    @torch.no_grad()
    def quicken(self) -> None:
        """The loop stays where the start is: r is the start, and the data step moves little.

        R, which was trained to denoise, says 0; a data step with a small weight would bring the
        noise back.
        """
        super().quicken()
        weight = FourierWeight(self.settings.correcting.weight, knots=KNOTS, per_sigma=True)
        self.data.weight.load_state_dict(weight.state_dict())
        free = self.centred[0].reference
        for p in () if free is None else free.tail.parameters():
            p.zero_()

    def loss(self, batch: tuple[Tensor, ...]) -> Tensor:
        """The mean root error of the start: C learns, the loop does not."""
        return Distance(batch[0]).root(self.begin(*batch[1:]))
