"""A bound on the norm of a convolution, for images of every size. Book: chapter 5."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from bmo.errors import ConditionError, ShapeError


def circular_bound(kernel: Tensor, grid: int = 16) -> Tensor:
    r"""A bound on the norm of a circular convolution, valid for images of every size.

    The convolution is block-diagonal under the Fourier transform, with blocks :math:`W(\theta)`,
    the symbol, at the frequencies of the image. So its norm is at most
    :math:`\sup_\theta\|W(\theta)\|`. Let d be the degree: the kernel has the side :math:`2d + 1`.
    On a grid of :math:`M \times M` frequencies, :math:`M > 2d`,

    .. math:: \sup_\theta\|W(\theta)\| \le \cos(\pi d/M)^{-2}\max_{\text{grid}}\|W(\theta)\|.

    *Proof.* Centre the kernel (a phase, which changes no norm). For unit vectors x, y the
    function :math:`q(\theta) = \mathrm{Re}\,x^*W(\theta)y` is a real trigonometric polynomial of
    degree d in each of its two variables, and :math:`\|W(\theta)\| = \max_{x, y}q(\theta)`. In
    one variable let :math:`|q| \le q(\theta_0) = 1`. By the inequality of Bernstein and Szego,
    :math:`q'^2 + d^2q^2 \le d^2`, the slope of :math:`\arccos q` is at most d, so
    :math:`q(\theta) \ge \cos(d|\theta - \theta_0|)` where :math:`d|\theta - \theta_0| \le \pi`. A
    grid point is at most :math:`\pi/M` away, and there :math:`q \ge \cos(\pi d/M) > 0`. (If the
    largest modulus is attained at a negative value, exchange x and -x.) Apply this to the first
    variable with the second one fixed, then to the second on the grid of the first: one factor
    for each. ∎

    Args:
        kernel: Shape (c_out, c_in, 2d + 1, 2d + 1).
        grid: M; 16 costs at most 4 % for a 3x3 kernel, 32 at most 1 %.

    Returns:
        The bound, differentiable in the kernel.

    Book: chapter 5, Theorem "A bound from a grid"; the constant is the best possible.

    Raises:
        ShapeError: The kernel's sides are not odd and equal.
        ConditionError: The grid is too coarse, :math:`M \le 2d`.

    Example:
        >>> import torch
        >>> from bmo.networks import circular_bound
        >>> blur = torch.full((1, 1, 3, 3), 1 / 9)  # its norm is 1, at frequency zero
        >>> round(float(circular_bound(blur, grid=32)), 4)
        1.0097
    """
    if kernel.dim() != 4 or kernel.shape[2] != kernel.shape[3] or kernel.shape[2] % 2 == 0:
        raise ShapeError(
            "a kernel (c_out, c_in, k, k), k odd", f"shape {tuple(kernel.shape)}", "pad it", kernel
        )
    degree = (kernel.shape[2] - 1) // 2
    if grid <= 2 * degree:
        raise ConditionError(f"grid > 2d = {2 * degree}", f"{grid}", "refine the grid", grid)
    symbol = torch.fft.rfft2(kernel, s=(grid, grid)).flatten(2).permute(2, 0, 1)  # (grid, out, in)
    if symbol.shape[1] > symbol.shape[2]:
        symbol = symbol.mT
    with torch.no_grad():  # where the norm is largest, and its left singular vector
        at = torch.linalg.eigvalsh(symbol @ symbol.mH)[:, -1].argmax().reshape(1)
        worst = symbol.index_select(0, at)[0]
        x = torch.linalg.eigh(worst @ worst.mH)[1][:, -1]
    top = torch.linalg.vector_norm(x.conj() @ symbol.index_select(0, at)[0])
    return top / math.cos(math.pi * degree / grid) ** 2
