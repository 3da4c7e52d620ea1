r"""A data step that believes brightness and colour differences by different weights.

Book: chapter 11, Proposition "Brightness and colour".
"""

from __future__ import annotations

import torch
from torch import Tensor

from bmo.errors import ConditionError, ShapeError
from bmo.operators.data_step import FourierDataStep
from bmo.operators.fourier_weight import FourierWeight

#: Brightness, and two differences of colours; the rows are orthogonal, with these lengths.
ROWS, LENGTHS = ((1.0, 1.0, 1.0), (1.0, -1.0, 0.0), (1.0, 1.0, -2.0)), (3.0, 2.0, 6.0)


def opponent(like: Tensor) -> Tensor:
    r"""The orthogonal matrix O whose first row is brightness, shape (3, 3).

    Example:
        >>> O = opponent(torch.zeros((), dtype=torch.float64))
        >>> bool(torch.allclose(O @ O.mT, torch.eye(3, dtype=O.dtype)))
        True
    """
    rows = torch.tensor(ROWS, dtype=like.dtype, device=like.device)
    lengths = torch.tensor(LENGTHS, dtype=like.dtype, device=like.device)
    return rows / lengths.sqrt()[:, None]


class FourierColourStep(FourierDataStep):
    r"""The proximal data step with one weight for brightness, and one for colour differences.

    .. math::
        D(u) = (P + K^\top K)^{-1}(Pu + K^\top b), \qquad
        P = O^\top F^*\mathrm{diag}(p_1, p_2, p_2)F\,O

    O is :func:`opponent`. A blur treats the three channels alike, so it commutes with O, and all
    that is true of :class:`FourierDataStep` stays true: firmly nonexpansive in the Euclidean
    metric, for every :math:`p_1, p_2 > 0`. With :math:`p_1 = p_2` it is that step. Book: chapter
    11, Proposition "Brightness and colour".

    Args:
        symbol: :math:`\hat k`, complex, (1, H, W//2 + 1), or (B, 1, H, W//2 + 1).
        b: Observation, shape (3, H, W) or (B, 3, H, W).
        weight: :math:`p_1`: where a learned number starts, or a
            :class:`~bmo.operators.FourierWeight`.
        chroma: :math:`p_2`, likewise.
        sigma: Noise level on [0, 1], a number or shape (B, 1, 1, 1).

    Raises:
        ShapeError: The observation has other channels than three.
        ConditionError: Another metric than the Euclidean one is asked for.

    Example:
        >>> import torch, bmo
        >>> symbol = torch.ones(1, 4, 3, dtype=torch.complex64)  # no blur
        >>> b = torch.tensor([1.0, 0.0, 0.0]).reshape(3, 1, 1).expand(3, 4, 4)
        >>> D = bmo.operators.FourierColourStep(symbol, b, weight=1e-5, chroma=999.0)
        >>> D(torch.zeros(3, 4, 4)).detach()[:, 0, 0]  # brightness is believed, colour is not
        tensor([0.3340, 0.3330, 0.3330])
    """

    def __init__(
        self,
        symbol: Tensor,
        b: Tensor,
        weight: float | FourierWeight = 0.1,
        chroma: float | FourierWeight = 1.0,
        sigma: float | Tensor = 0.01,
        metric: str = "euclidean",
    ) -> None:
        if metric != "euclidean":
            raise ConditionError("the Euclidean metric", repr(metric), "leave metric out", metric)
        super().__init__(symbol, b, weight, sigma)
        self.chroma = chroma if isinstance(chroma, FourierWeight) else FourierWeight(chroma).to(b)

    def spectrum(self) -> Tensor:
        r""":math:`(p_1, p_2, p_2)`, shape (..., 3, H, W//2 + 1), or (..., 3, 1, 1) for numbers."""
        if self.b.shape[-3] != 3:
            raise ShapeError(
                "b of shape (3, H, W) or (B, 3, H, W)",
                f"{tuple(self.b.shape)}",
                "FourierDataStep takes any channels",
                self.b,
            )
        luma, chroma = super().spectrum(), self.chroma(self.shape, self.b, self.sigma)
        luma, chroma = torch.broadcast_tensors(luma, chroma)
        return torch.cat([luma, chroma, chroma], -3)

    def _into(self, u: Tensor) -> Tensor:
        return torch.einsum("ij,...jhw->...ihw", opponent(u), u)

    def _out(self, u: Tensor) -> Tensor:
        return torch.einsum("ji,...jhw->...ihw", opponent(u), u)
