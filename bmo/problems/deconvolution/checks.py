"""What a deconvolution refuses: bad kernels, bad images, and pairs that do not fit."""

from __future__ import annotations

import torch
from torch import Tensor

from bmo.errors import DomainError, NonFiniteError, ShapeError


def require_kernel(kernel: Tensor, sides: tuple[int, int] | None = None) -> Tensor:
    """Refuse a kernel that is no blur kernel; return it as a batch (B or 1, h, w).

    Args:
        kernel: Shape (h, w), (B, h, w) or (B, 1, h, w): odd sides, entries >= 0 that sum to 1.
        sides: Height and width of the image, which the kernel must not exceed.

    Raises:
        ShapeError: Not floating point, another number of axes, an even side, or larger than the
            image.
        NonFiniteError: NaN or infinity.
        DomainError: A negative entry, or the sum is not 1.

    Example:
        >>> require_kernel(torch.full((3, 3), 1 / 9)).shape
        torch.Size([1, 3, 3])
    """
    if not kernel.is_floating_point() or not 2 <= kernel.dim() <= 4 or kernel.numel() == 0:
        raise ShapeError(
            "a floating-point kernel (h, w), (B, h, w) or (B, 1, h, w)",
            f"{kernel.dtype} of shape {tuple(kernel.shape)}",
            "convert it, or take one kernel for each image",
            kernel,
        )
    if kernel.dim() == 4:
        if kernel.shape[1] != 1:
            raise ShapeError(
                "one kernel for all colours, (B, 1, h, w)",
                f"shape {tuple(kernel.shape)}",
                "blur colours with different kernels one by one",
                kernel,
            )
        kernel = kernel.squeeze(1)
    batch = kernel if kernel.dim() == 3 else kernel.unsqueeze(0)
    _require_sides(batch, sides)
    _require_weights(batch)
    return batch


def _require_sides(kernel: Tensor, sides: tuple[int, int] | None) -> None:
    h, w = kernel.shape[-2:]
    if h % 2 == 0 or w % 2 == 0:
        raise ShapeError(
            "a kernel with odd sides, which has a centre",
            f"{h} x {w}",
            "pad it by a row or a column of zeros",
            kernel,
        )
    if sides is not None and (h > sides[0] or w > sides[1]):
        raise ShapeError(
            f"a kernel no larger than the image, {sides[0]} x {sides[1]}",
            f"{h} x {w}",
            "take a larger image, or cut the kernel",
            kernel,
        )


def _require_weights(kernel: Tensor) -> None:
    if not bool(torch.isfinite(kernel).all()):
        raise NonFiniteError("a finite kernel", "NaN or infinity", "repair the kernel", kernel)
    least = float(kernel.min())
    if least < 0:
        raise DomainError("a kernel >= 0", f"an entry {least:.3g}", "clip and normalise it", kernel)
    gaps = kernel.double().sum((-2, -1)) - 1
    gap = float(gaps[gaps.abs().argmax()])
    if abs(gap) > 1e3 * torch.finfo(kernel.dtype).eps:
        raise DomainError(
            f"a {str(kernel.dtype).removeprefix('torch.')} kernel that sums to 1",
            f"a sum of {1 + gap:.12g}",
            "divide it by its sum",
            kernel,
        )


def double_kernel(kernel: Tensor) -> Tensor:
    """A kernel in float64; one of less precision is divided by its sum again.

    Args:
        kernel: As :func:`require_kernel` wants it, in its own precision.

    Returns:
        The shape of the kernel.

    Example:
        >>> float(double_kernel(torch.full((3, 3), 1 / 9)).sum() - 1)
        0.0
    """
    require_kernel(kernel)
    if kernel.dtype == torch.float64:
        return kernel
    exact = kernel.double()
    return exact / exact.sum((-2, -1), keepdim=True)


def require_image(image: Tensor, name: str = "image") -> None:
    """Refuse what is no image of chapter 11.

    Args:
        image: Shape (C, H, W) or (B, C, H, W), C = 1 or 3, floating point on [0, 1].
        name: What to call it in the message.

    Raises:
        ShapeError: Not floating point, another number of axes, or another number of colours.
        NonFiniteError: NaN or infinity.
        DomainError: A value outside [0, 1].

    Example:
        >>> require_image(torch.full((3, 4, 4), 0.5))
        >>> require_image(torch.full((3, 4, 4), 128, dtype=torch.uint8))  # doctest: +ELLIPSIS
        Traceback (most recent call last):
        ...
        bmo.errors.ShapeError: required: ...; got: torch.uint8 of ...; remedy: ...
    """
    require_colours(image, name)
    low, high = float(image.min()), float(image.max())
    if low < 0 or high > 1:
        raise DomainError(
            f"{name} on [0, 1]", f"{low:.4g} .. {high:.4g}", "divide 8-bit values by 255", image
        )


def require_colours(image: Tensor, name: str) -> None:
    """Refuse a tensor that is no finite image or batch; the range of its values is free."""
    if not image.is_floating_point():
        raise ShapeError(
            f"{name}: a floating-point image",
            f"{image.dtype} of shape {tuple(image.shape)}",
            "divide 8-bit images by 255",
            image,
        )
    if image.dim() not in (3, 4) or image.shape[-3] not in (1, 3) or image.numel() == 0:
        raise ShapeError(
            f"{name} of shape (C, H, W) or (B, C, H, W), C = 1 (gray) or 3 (colour)",
            f"shape {tuple(image.shape)}",
            "put the colours before the height",
            image,
        )
    if not bool(torch.isfinite(image).all()):
        raise NonFiniteError(f"finite {name}", "NaN or infinity", "clean the data first", image)


def require_pair(image: Tensor, observation: Tensor) -> None:
    """Refuse an image and an observation of different kinds: gray with colour, other sizes.

    Raises:
        ShapeError: Colours, sides, batch, dtype or device differ.

    Example:
        >>> require_pair(torch.zeros(3, 4, 4), torch.zeros(1, 4, 4))  # doctest: +ELLIPSIS
        Traceback (most recent call last):
        ...
        bmo.errors.ShapeError: required: both gray or both colour; got: 3 and 1 ...; remedy: ...
    """
    colours = image.shape[-3], observation.shape[-3]
    if colours[0] != colours[1]:
        raise ShapeError(
            "both gray or both colour",
            f"{colours[0]} and {colours[1]} channels",
            "convert one: bmo.data.gray makes one channel of three",
            colours,
        )
    same_kind = image.dtype == observation.dtype and image.device == observation.device
    if image.shape != observation.shape or not same_kind:
        raise ShapeError(
            "image and observation of one shape, dtype and device",
            f"{tuple(image.shape)} {image.dtype} {image.device} and "
            f"{tuple(observation.shape)} {observation.dtype} {observation.device}",
            "cut or convert one of them",
            (tuple(image.shape), tuple(observation.shape)),
        )


def require_batch(kernels: int, images: int) -> None:
    """Refuse a batch of kernels that is neither one for all nor one for each image.

    Raises:
        ShapeError: The two numbers do not fit.

    Example:
        >>> require_batch(2, 3)  # doctest: +ELLIPSIS
        Traceback (most recent call last):
        ...
        bmo.errors.ShapeError: required: ... 3 images; got: 2 kernels; remedy: ...
    """
    if kernels not in (1, images):
        raise ShapeError(
            f"one kernel, or one for each of {images} images",
            f"{kernels} kernels",
            "repeat the kernels, or bind fewer images",
            (kernels, images),
        )


def require_noise(percent: float) -> None:
    """Refuse a noise level that is negative or not finite.

    Raises:
        DomainError: Out of range.

    Example:
        >>> require_noise(3.0)
    """
    if not 0 <= percent < float("inf"):
        raise DomainError("a noise level >= 0, in percent of 255", f"{percent}", "1 or 3 are usual")
