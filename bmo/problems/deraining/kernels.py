"""Rain kernels to start from: oriented line segments, or those published with RCDNet.

Book: chapter 12.
"""

from __future__ import annotations

import math

import numpy as np
import torch
from torch import Tensor

from bmo.data import locate
from bmo.data.packages import package
from bmo.errors import DomainError


def line_kernel(side: int, angle: float, length: float, width: float = 0.6) -> Tensor:
    """A line segment through the middle, with a Gaussian profile across it; sums to one.

    Args:
        side: Side of the kernel, odd.
        angle: Degrees from the vertical; positive leans to the right at the top.
        length: Length of the segment in pixels, > 0.
        width: Standard deviation across the segment in pixels, > 0.

    Returns:
        float64, shape (side, side), nonnegative.

    Raises:
        DomainError: The side is even, or a length is not positive.

    Example:
        >>> line_kernel(3, 0.0, 3.0, 0.1).round(decimals=2).tolist()
        [[0.0, 0.33, 0.0], [0.0, 0.33, 0.0], [0.0, 0.33, 0.0]]
    """
    if side < 1 or side % 2 == 0 or not (length > 0 and width > 0):
        raise DomainError(
            "an odd side, length and width > 0", f"{side}, {length}, {width}", "correct it", side
        )
    at = torch.arange(side, dtype=torch.float64) - side // 2
    row, column = torch.meshgrid(at, at, indexing="ij")
    sine, cosine = math.sin(math.radians(angle)), math.cos(math.radians(angle))
    along, across = column * sine - row * cosine, column * cosine + row * sine
    beyond = (along.abs() - (length - 1) / 2).clamp_min(0.0)  # ends fade over one pixel
    kernel = torch.exp(-0.5 * (across / width) ** 2) * (1 - beyond).clamp_min(0.0)
    return kernel / kernel.sum()


def line_kernels(count: int, side: int = 9, spread: float = 60.0) -> Tensor:
    """Line segments of evenly spread angles, as a start for the kernels C.

    Args:
        count: N.
        side: Side of the kernels, odd.
        spread: The largest angle from the vertical in degrees.

    Returns:
        float64, shape (count, side, side); each sums to one.

    Raises:
        DomainError: No kernel, or an even side.

    Example:
        >>> line_kernels(4).shape
        torch.Size([4, 9, 9])
    """
    if count < 1:
        raise DomainError("at least one kernel", f"{count}", "enlarge the number", count)
    angles = torch.linspace(-spread, spread, count) if count > 1 else torch.zeros(1)
    return torch.stack([line_kernel(side, float(a), float(side)) for a in angles])


def published_kernels() -> Tensor:
    """The 32 kernels of side 9 from which RCDNet starts, grey (the mean of their colours).

    Wang, Xie, Zhao, Meng: A Model-driven Deep Neural Network for Single Image Rain Removal, CVPR
    2020.

    Returns:
        float64, shape (32, 9, 9).

    Raises:
        DataError: The package scipy is not installed, or the file is missing or altered.

    An example: :func:`bmo.data.locate`.
    """
    path = locate("rcdnet/init_kernel.mat")
    matlab = package("scipy.io", "the package scipy, to read a MATLAB file", "pip install scipy")
    colours = np.asarray(matlab.loadmat(path)["C9"], dtype=np.float64)
    return torch.from_numpy(colours.mean(0))
