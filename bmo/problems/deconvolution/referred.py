r"""Methods that begin at a public denoiser's restoration, and whose loop is trained around it.

Book: chapter 11, "A loop that is trained around a reference". r is the mean of several runs of
FFDNet in DPIR's schedule. It is the start, the guide and the centre of D_net: no free network
changes it. What is learned is how far the data may move the image away from r: by frequency, by
brightness and colour (the weight of the data step), and by filter (masks and thresholds).
"""

from __future__ import annotations

import torch
from torch import Tensor

from bmo.operators import FourierColourStep, FourierWeight, Operator
from bmo.operators.colour_step import opponent
from bmo.problems.deconvolution.centred import CentredPotential
from bmo.problems.deconvolution.methods import KNOTS, Deblurrer, Distance
from bmo.problems.deconvolution.restorer import Public, Restorer
from bmo.problems.deconvolution.settings import Settings

#: Signs of the four Haar filters on 2 x 2 pixels: the mean, and three differences.
SIGNS = (
    ((1, 1), (1, 1)),
    ((1, 1), (-1, -1)),
    ((1, -1), (1, -1)),
    ((1, -1), (-1, 1)),
)
#: Filters of the frame: four shifts, four filters, three colours.
FEATURES = 48


def haar_frame() -> Tensor:
    r"""Undecimated Haar filters of brightness and colour differences, as a tight frame.

    .. math:: V^\top V = I

    They read images cut into 2 x 2 pieces (:func:`~bmo.networks.maps.to_pieces`).

    Returns:
        Shape (48, 12, 3, 3).

    Example:
        >>> frame = haar_frame()
        >>> frame.shape, round(float(frame.square().sum()), 4)  # the trace of V^T V
        (torch.Size([48, 12, 3, 3]), 12.0)
    """
    found = torch.zeros(2, 2, len(SIGNS), 3, 3, 4, 3, 3)  # shift, filter, colour; colour, place
    colours = opponent(found)
    for down in range(2):
        for right in range(2):
            for n, signs in enumerate(SIGNS):
                for a in range(2):
                    for b in range(2):
                        y, x = down + a, right + b
                        place = 2 * (y % 2) + x % 2
                        found[down, right, n, :, :, place, 1 + y // 2, 1 + x // 2] = (
                            signs[a][b] / 4 * colours
                        )
    return found.reshape(FEATURES, 12, 3, 3)


def surroundings() -> CentredPotential:
    """A potential step around the guide, with the frame as its filters."""
    net = CentredPotential(FEATURES, 1, (), (), parts=("threshold", "mask"))
    with torch.no_grad():
        net.kernels[0].copy_(haar_frame()).requires_grad_(False)
    return net


class ReferredDeblurrer(Deblurrer):
    r"""Begins at r, restored by others, and stays around it.

    At the start of training :math:`D_{net}(u) \approx r` for every u near r. So the fixed point is
    :math:`(P + K^\top K)^{-1}(Pr + K^\top b)`, one data step at r.

    Args:
        name: Its name.
        settings: Of the experiment (``referring``, ``alpha``, ``s``).
        mu: Weight of the upper step in hyper-training.
        restorer: Observations to r, no parameter of the method: the mean of several runs of FFDNet.
    """

    def __init__(
        self,
        name: str,
        settings: Settings,
        mu: float = 0.0,
        restorer: Restorer | None = None,
    ) -> None:
        of = settings.referring
        super().__init__(name, surroundings(), settings, mu)
        for unused in ("wiener", "first", "last", "ratio", "loop"):
            delattr(self, unused)  # there are no rounds
        self.restorer: Restorer = restorer or Public(of.orders)
        self.iterations, self.back = of.iterations, of.back
        luma, chroma = (
            FourierWeight(value, knots=KNOTS, per_sigma=True) for value in (of.luma, of.chroma)
        )
        self.data = FourierColourStep(self.data.symbol, torch.zeros(3, 1, 2), luma, chroma)

    def rest(self, sigma: Tensor) -> Tensor:
        """The level of D_net: that of the noise."""
        return sigma

    def begin(
        self, observed: Tensor, symbol: Tensor, sigma: Tensor, restored: Tensor | None = None
    ) -> Tensor:
        r""":math:`u^0 = r`; it knows the observation alone.

        Args:
            observed: b, shape (B, 3, H, W).
            symbol: Of the blur, shape (B, 1, H, W//2 + 1).
            sigma: Noise levels on [0, 1], shape (B, 1, 1, 1).
            restored: r if it is known, as in training.
        """
        return self.restorer(observed, symbol, sigma) if restored is None else restored

    def loss(self, batch: tuple[Tensor, ...]) -> Tensor:
        r"""The root error of :math:`u^K` relative to that of r, a mean over images.

        The loop is trained from b, far from where it starts when it is tested: so a map that
        moves little is of no use, and what it learns is a fixed point.
        """
        upper, r = Distance(batch[0]), self.begin(*batch[1:])
        u = self.reach(batch[1], self.map(r, *batch[1:4]), upper)
        return (upper.roots(u) / upper.roots(r)).mean()

    def denoise(self, level: Tensor, guide: Tensor) -> Operator:
        """D_net around the guide."""
        return self.denoiser.bind(sigma=level, guide=guide)
