r"""A picture whose scene goes on beyond its border, made ready for a circular blur."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

from bmo.problems.deconvolution import Blur
from bmo.problems.deconvolution.checks import double_kernel, require_colours


def taper(observed: Tensor, kernel: Tensor) -> Tensor:
    r"""Lead the borders of a blurred picture into each other.

    A photograph was blurred with what lies outside it; the circular model takes the opposite border
    instead, and answers with ripples. Near the border the picture is therefore replaced by its own
    circular blur,

    .. math:: \tilde b = w\,b + (1-w)\,(k \circledast b), \qquad
              w_{ij} = \bigl(1 - r_1(i)\bigr)\bigl(1 - r_2(j)\bigr),

    where :math:`r_1` and :math:`r_2` are the circular autocorrelations of the row sums and of the
    column sums of :math:`k`, divided by their values at 0. So w is 0 on the border, and 1 where the
    kernel no longer reaches it.

    Args:
        observed: :math:`b`, shape (C, H, W), floating point.
        kernel: :math:`k`, shape (h, w): odd sides, entries >= 0 that sum to 1.

    Returns:
        :math:`\tilde b`, shape and dtype of ``observed``.

    Raises:
        ShapeError, DomainError, NonFiniteError: A picture or a kernel that is none.

    Source: the idea of the function ``edgetaper`` of MATLAB's Image Processing Toolbox.

    Example:
        >>> import torch
        >>> from bmo.restore import taper
        >>> ramp = torch.linspace(0, 1, 16, dtype=torch.float64).expand(1, 16, 16)
        >>> soft = taper(ramp, torch.full((3, 3), 1 / 9, dtype=torch.float64))
        >>> torch.equal(soft[..., 3:-3, 3:-3], ramp[..., 3:-3, 3:-3])
        True
    """
    require_colours(observed, "observed picture")
    sides = (observed.shape[-2], observed.shape[-1])
    k = double_kernel(kernel)
    image = observed.double()
    weight = torch.outer(*(_inside(k.sum(1 - axis), sides[axis]) for axis in (0, 1)))
    return torch.lerp(Blur(k, sides)(image), image, weight).to(observed)


def widen(observed: Tensor, kernel: Tensor) -> Tensor:
    r"""Repeat the border half a kernel outwards, then :func:`taper`: (C, H + h // 2 * 2, ...).

    What lies outside a photograph is not known. A border that is repeated is nearer to it than the
    opposite border is.

    Args:
        observed: :math:`b`, shape (C, H, W), floating point.
        kernel: :math:`k`, shape (h, w): odd sides, entries >= 0 that sum to 1.

    Example:
        >>> import torch
        >>> widen(torch.rand(3, 16, 20), torch.full((3, 5), 1 / 15)).shape
        torch.Size([3, 18, 24])
    """
    h, w = (side // 2 for side in kernel.shape[-2:])
    return taper(functional.pad(observed[None], (w, w, h, h), mode="replicate")[0], kernel)


def narrow(images: Tensor, kernel: Tensor) -> Tensor:
    """Cut off what :func:`widen` had put on.

    Example:
        >>> import torch
        >>> narrow(torch.rand(3, 18, 24), torch.full((3, 5), 1 / 15)).shape
        torch.Size([3, 16, 20])
    """
    h, w = (side // 2 for side in kernel.shape[-2:])
    return images[..., h : images.shape[-2] - h, w : images.shape[-1] - w]


def _inside(profile: Tensor, side: int) -> Tensor:
    r""":math:`1 - r` for one axis: 0 at both ends, 1 away from them."""
    power = torch.fft.rfft(profile, n=side).abs().square()
    found = torch.fft.irfft(power, n=side)
    # the first and the last row are both the border
    wrapped = torch.maximum(found, found.roll(-1))
    return (1 - wrapped / found[0]).clamp(0, 1)
