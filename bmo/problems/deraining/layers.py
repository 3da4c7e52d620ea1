r"""The rain layer :math:`\sum_nC_n\circledast M_n`, its adjoint, and how much it can amplify.

Book: chapter 12. A streak brightens red, green and blue alike, so the kernels :math:`C_n` are grey
and each map :math:`M_n` serves all channels. Convolutions are circular.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.nn import functional

from bmo.errors import ConditionError, ShapeError


def require_kernels(kernels: Tensor) -> int:
    """Refuse anything but square kernels (N, k, k) with an odd side; return (k - 1)/2."""
    if kernels.dim() != 3 or kernels.shape[1] != kernels.shape[2] or kernels.shape[1] % 2 == 0:
        raise ShapeError(
            "kernels of shape (N, k, k), k odd", f"{tuple(kernels.shape)}", "pad them", kernels
        )
    return kernels.shape[1] // 2


def _wrapped(x: Tensor, reach: int) -> Tensor:
    """A batch of images with a circular margin."""
    if min(x.shape[-2:]) < reach:
        raise ShapeError(
            f"images of at least {reach} pixels a side", f"{tuple(x.shape)}", "pad them", x
        )
    images = x.reshape(-1, *x.shape[-3:])
    return functional.pad(images, (reach,) * 4, mode="circular") if reach else images


def rain_layer(kernels: Tensor, maps: Tensor) -> Tensor:
    r"""The rain :math:`\sum_nC_n\circledast M_n` that rain maps make.

    .. math:: (C_n\circledast M_n)(x) = \sum_sC_n(s)M_n(x-s)

    Args:
        kernels: C, shape (N, k, k), the middle entry is :math:`s = 0`.
        maps: M, shape (..., N, H, W).

    Returns:
        Shape (..., 1, H, W).

    Raises:
        ShapeError: The kernels are not square with an odd side, or an image is smaller than half
            of one.

    Example:
        >>> import torch
        >>> streak = torch.tensor([[[1.0, 0, 0], [0, 1, 0], [0, 0, 1]]])
        >>> drop = torch.zeros(1, 5, 5)
        >>> drop[0, 2, 2] = 1
        >>> rain_layer(streak, drop).nonzero()[:, 1:].tolist()
        [[1, 1], [2, 2], [3, 3]]
    """
    reach = require_kernels(kernels)
    rain = functional.conv2d(_wrapped(maps, reach), kernels.flip(1, 2)[None])
    return rain.reshape(*maps.shape[:-3], *rain.shape[-3:])


def rain_adjoint(kernels: Tensor, rain: Tensor) -> Tensor:
    r"""The adjoint of :func:`rain_layer`: from (..., 1, H, W) to (..., N, H, W).

    Example:
        >>> import torch
        >>> C, M, R = torch.randn(2, 3, 3), torch.randn(2, 4, 5), torch.randn(1, 4, 5)
        >>> gap = (rain_layer(C, M) * R).sum() - (M * rain_adjoint(C, R)).sum()
        >>> bool(gap.abs() < 1e-4)
        True
    """
    reach = require_kernels(kernels)
    maps = functional.conv2d(_wrapped(rain, reach), kernels[:, None])
    return maps.reshape(*rain.shape[:-3], *maps.shape[-3:])


def symbols(kernels: Tensor, height: int, width: int) -> Tensor:
    r"""The symbols :math:`\hat C_n(\theta)` at the frequencies of a circular (height, width) image.

    Half of the columns are enough, since :math:`|\hat C_n(-\theta)| = |\hat C_n(\theta)|`. An image
    smaller than a kernel is no exception: the kernel wraps around.

    Returns:
        Complex, shape (N, height, width // 2 + 1).

    Example:
        >>> import torch
        >>> from bmo.problems import deraining as rain
        >>> rain.symbols(torch.ones(2, 3, 3) / 9, 8, 8).shape
        torch.Size([2, 8, 5])
    """
    reach = require_kernels(kernels)
    at = torch.arange(-reach, reach + 1, dtype=kernels.dtype, device=kernels.device)

    def waves(length: int, count: int) -> Tensor:
        steps = torch.arange(count, dtype=kernels.dtype, device=kernels.device)
        angle = -2 * math.pi / length * torch.outer(steps, at)
        return torch.complex(angle.cos(), angle.sin())

    rows, columns = waves(height, height), waves(width, width // 2 + 1)
    return rows @ kernels.to(rows.dtype) @ columns.mT


def curvature(
    kernels: Tensor, background: Tensor, rain: Tensor, channels: int, shape: tuple[int, int]
) -> Tensor:
    r"""The largest eigenvalue of the Hessian in the metric, for images of one size: exact.

    With :math:`K = [I, C]` and :math:`H = \mathrm{blkdiag}(p_BI, \mathrm{diag}(p_n))`,

    .. math:: \lambda_{\max}(H^{-1/2}K^\top KH^{-1/2}) =
        \frac1{p_B} + c\,\max_\theta\sum_n\frac{|\hat C_n(\theta)|^2}{p_n}

    where c is the number of colour channels and :math:`\theta` runs through the frequencies of the
    image. Book: chapter 12.

    Args:
        kernels: C, shape (N, k, k).
        background: :math:`p_B > 0`, a number.
        rain: :math:`p_n > 0`, shape (N,).
        channels: c.
        shape: (H, W) of the image.

    Example:
        >>> import torch
        >>> C = torch.full((1, 3, 3), 1 / 9)  # a blur: its symbol is 1 at frequency 0
        >>> round(float(curvature(C, torch.tensor(2.0), torch.ones(1), 1, (8, 8))), 6)
        1.5
    """
    power = symbols(kernels, *shape).abs().square()
    return 1 / background + channels * (power / rain[:, None, None]).sum(0).amax()


def curvature_bound(
    kernels: Tensor, background: Tensor, rain: Tensor, channels: int, grid: int = 128
) -> Tensor:
    r"""A bound on :func:`curvature` for images of every size, large and small.

    On a grid of :math:`m\times m` frequencies, :math:`m > 2d`, kernels of side :math:`2d+1`,

    .. math:: \sup_\theta q(\theta) \le \cos(\pi d/m)^{-4}\max_{\text{grid}}q(\theta),
        \qquad q(\theta) = \sum_n|\hat C_n(\theta)|^2/p_n.

    *Proof.* q is nonnegative and a real trigonometric polynomial of degree 2d in each of its two
    variables. In one variable let its largest value be 1, at :math:`\theta_0`. Then
    :math:`2q-1` lies in [-1, 1], and by the inequality of Bernstein and Szego
    :math:`2q(\theta)-1 \ge \cos(2d|\theta-\theta_0|)` as long as
    :math:`2d|\theta-\theta_0| \le \pi`, that is :math:`q \ge \cos^2(d|\theta-\theta_0|)`. A grid
    point is at most :math:`\pi/m` away. Apply this to one variable, then to the other. ∎

    Args:
        kernels: C, shape (N, k, k).
        background: :math:`p_B > 0`, a number.
        rain: :math:`p_n > 0`, shape (N,).
        channels: c.
        grid: m; 128 costs at most 2 % for kernels of side 9.

    Raises:
        ConditionError: The grid is too coarse.

    Example:
        >>> import torch
        >>> C = torch.full((1, 3, 3), 1 / 9)
        >>> round(float(curvature_bound(C, torch.tensor(2.0), torch.ones(1), 1)), 4)
        1.5012
    """
    degree = require_kernels(kernels)
    if grid <= 2 * degree:
        raise ConditionError(f"grid > 2d = {2 * degree}", f"{grid}", "refine the grid", grid)
    power = symbols(kernels, grid, grid).abs().square()
    top = (power / rain[:, None, None]).sum(0).amax()
    return 1 / background + channels * top / math.cos(math.pi * degree / grid) ** 4
