r"""The protocol of the deconvolution tables: how an observation is made, and how it is measured.

Book: chapter 11, "The problem". :math:`b = k \circledast u + \sigma\varepsilon`, circular, colour,
not clipped and not rounded; PSNR over all colours of the 8-bit image that would be stored.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from bmo.errors import ShapeError
from bmo.measure import psnr, ssim, to_uint8
from bmo.problems.deconvolution.blur import Blur
from bmo.problems.deconvolution.checks import (
    double_kernel,
    require_image,
    require_noise,
    require_pair,
)


def level(percent: float) -> float:
    r"""The noise level :math:`\sigma` on the scale [0, 1]: 1 % is 2.55/255 = 0.01.

    Raises:
        DomainError: Negative or not finite.

    Example:
        >>> level(3)
        0.03
    """
    require_noise(percent)
    return percent / 100


def noise(shape: tuple[int, ...], percent: float, seed: int = 0) -> Tensor:
    r""":math:`\sigma\varepsilon` of the protocol, float64, for one image (C, H, W).

    Drawn as an array (H, W, C) from ``numpy.random.RandomState(seed)``, as those who made the
    published tables did.

    Example:
        >>> noise((1, 1, 2), 1.0).flatten().tolist()  # RandomState(0): 1.764..., 0.400...
        [0.01764052345967664, 0.004001572083672233]
    """
    channels, height, width = shape
    draw = np.random.RandomState(seed).standard_normal((height, width, channels))
    return torch.from_numpy(np.ascontiguousarray(draw.transpose(2, 0, 1))) * level(percent)


def observe(image: Tensor, kernel: Tensor, sigma_percent: float, seed: int = 0) -> Tensor:
    r""":math:`b = k \circledast u + \sigma\varepsilon`, neither clipped nor rounded.

    Args:
        image: :math:`u`, shape (C, H, W), values on [0, 1].
        kernel: Shape (h, w), odd sides, >= 0, sum 1; taken to the dtype of the image.
        sigma_percent: Noise in percent of the range: 1 and 3 in the tables.
        seed: Of the noise, set anew for every image.

    Returns:
        :math:`b`, shape and dtype of the image; computed in float64.

    Raises:
        ShapeError: Not one floating-point image, or a kernel that does not fit.
        DomainError: Values outside [0, 1], an unnormalised kernel, or a negative noise level.

    Example:
        >>> u = torch.full((3, 16, 16), 0.5, dtype=torch.float64)
        >>> b = observe(u, torch.full((3, 3), 1 / 9, dtype=torch.float64), 1.0)
        >>> round(float((b - u).std()), 3)
        0.01
    """
    require_image(image)
    if image.dim() != 3:
        raise ShapeError(
            "one image (C, H, W): the seed is set anew for each",
            f"shape {tuple(image.shape)}",
            "observe the images one by one, then stack them",
            image,
        )
    blurred = Blur(double_kernel(kernel), (image.shape[-2], image.shape[-1]))(image.double())
    return (blurred + noise(tuple(image.shape), sigma_percent, seed)).to(image)


def score(estimate: Tensor, image: Tensor) -> Tensor:
    """PSNR in dB of the stored 8-bit image, over all colours, no border cut.

    Args:
        estimate: Floating point, shape (C, H, W) or (B, C, H, W); values may leave [0, 1].
        image: The ground truth, the same shape.

    Returns:
        float64, one number for each image.

    Raises:
        ShapeError: Gray against colour, or other shapes, dtypes or devices.

    Example:
        >>> u = torch.full((1, 8, 8), 0.5)
        >>> round(float(score(u + 0.1, u)), 2)  # 128 and 153 of 255: 26 steps would be 19.83
        20.17
    """
    require_pair(image, estimate)
    return psnr(to_uint8(estimate), to_uint8(image))


def similarity(estimate: Tensor, image: Tensor) -> Tensor:
    """SSIM of the stored 8-bit image, averaged over the colours; as :func:`score` otherwise.

    Example:
        >>> u = torch.rand(1, 16, 16)
        >>> float(similarity(u, u))
        1.0
    """
    require_pair(image, estimate)
    return ssim(to_uint8(estimate), to_uint8(image))
