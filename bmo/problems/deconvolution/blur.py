r"""Circular blur by the Fourier transform: :math:`b = k \circledast u` and its adjoint.

Book: chapter 11, "The problem".
"""

from __future__ import annotations

import torch
from torch import Tensor

from bmo.errors import ShapeError
from bmo.problems.deconvolution.checks import require_batch, require_colours, require_kernel


def symbol_of(kernel: Tensor, shape: tuple[int, int]) -> Tensor:
    r"""The symbol :math:`\hat k(\xi)` of a kernel, in the order of :func:`torch.fft.rfft2`.

    The kernel is laid on an empty image with its centre at pixel (0, 0), then transformed.

    Args:
        kernel: Shape (h, w), (B, h, w) or (B, 1, h, w), odd sides, >= 0, sum 1.
        shape: Height and width (H, W) of the image.

    Returns:
        Complex, shape (1, H, W//2 + 1), or (B, 1, H, W//2 + 1) for a batch.

    Raises:
        ShapeError: An even side, or a kernel larger than the image.
        DomainError: A negative entry, or the sum is not 1.

    Example:
        >>> symbol_of(torch.full((3, 3), 1 / 9), (8, 8)).shape
        torch.Size([1, 8, 5])
    """
    many = kernel.dim() > 2
    batch = require_kernel(kernel, shape)
    h, w = batch.shape[-2:]
    canvas = batch.new_zeros(len(batch), 1, *shape)
    canvas[:, 0, :h, :w] = batch
    symbol = torch.fft.rfft2(canvas.roll((-(h // 2), -(w // 2)), (-2, -1)))
    return symbol if many else symbol[0]


class Blur:
    r"""The blur :math:`Ku = k \circledast u`, a true convolution with circular boundary.

    .. math:: (Ku)_i = \sum_j k_j\,u_{i-j}, \qquad K = F^*\mathrm{diag}(\hat k)F

    with the centre of the kernel at :math:`j = 0` and pixels counted around the border. This is
    ``scipy.ndimage.convolve(u, k, mode="wrap")``. The kernel acts on each colour alike. As
    :math:`k \ge 0` sums to 1, :math:`\|K\| = \hat k(0) = 1`. Book: chapter 11, "The problem".

    Args:
        kernel: Shape (h, w) for one kernel; (B, h, w) or (B, 1, h, w) for one kernel an image.
        shape: Height and width (H, W) of the images.

    Attributes:
        symbol: :math:`\hat k`, complex, shape (1, H, W//2 + 1) or (B, 1, H, W//2 + 1).

    Raises:
        ShapeError: An even side, or a kernel larger than the image.
        DomainError: A negative entry, or the sum is not 1.

    Example:
        >>> blur = Blur(torch.full((3, 3), 1 / 9, dtype=torch.float64), (8, 8))
        >>> u = torch.rand(3, 8, 8, dtype=torch.float64)
        >>> v = torch.rand(3, 8, 8, dtype=torch.float64)
        >>> bool(torch.isclose((blur(u) * v).sum(), (u * blur.adjoint(v)).sum()))
        True
    """

    def __init__(self, kernel: Tensor, shape: tuple[int, int]) -> None:
        self.shape = (int(shape[0]), int(shape[1]))
        self.symbol = symbol_of(kernel, self.shape)

    def _multiply(self, u: Tensor, symbol: Tensor) -> Tensor:
        require_colours(u, "image")
        if u.shape[-2:] != self.shape:
            raise ShapeError(
                f"images of {self.shape[0]} x {self.shape[1]}",
                f"shape {tuple(u.shape)}",
                "build the blur for this size",
                u,
            )
        require_batch(len(symbol) if symbol.dim() == 4 else 1, len(u) if u.dim() == 4 else 1)
        return torch.fft.irfft2(torch.fft.rfft2(u) * symbol, s=self.shape)

    def __call__(self, u: Tensor) -> Tensor:
        r""":math:`Ku`, shape of ``u``: (C, H, W) or (B, C, H, W)."""
        return self._multiply(u, self.symbol)

    def adjoint(self, v: Tensor) -> Tensor:
        r""":math:`K^\top v`: the multiplier :math:`\overline{\hat k}`, the kernel turned around."""
        return self._multiply(v, self.symbol.conj())
