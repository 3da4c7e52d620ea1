"""The test pairs of Rain100L and Rain100H: a rainy image and its clean background.

Yang, Tan, Feng, Liu, Guo, Yan: Deep Joint Rain Detection and Removal from a Single Image, CVPR
2017. Both sets have 100 pairs over the same backgrounds. Images of Rain100H lack the last row and
the last column, so its clean image is the top left part of the one of Rain100L.
"""

from __future__ import annotations

import torch
from torch import Tensor

from bmo.data import load_image
from bmo.errors import DataError, DomainError

DATASETS = ("rain100l", "rain100h")
COUNT = 100


def names(dataset: str, number: int) -> tuple[str, str]:
    """Registered names of the rainy and of the clean image of a pair.

    Args:
        dataset: ``"rain100l"`` or ``"rain100h"``.
        number: 1 to 100.

    Raises:
        DomainError: No such set, or no such pair.

    Example:
        >>> names("rain100h", 7)
        ('rain100h_test/rain/7.png', 'rain100l_test/norain/norain-007.png')
    """
    if dataset not in DATASETS or not 1 <= number <= COUNT:
        raise DomainError(
            f"a set out of {DATASETS}, a pair from 1 to {COUNT}",
            f"{dataset!r}, {number}",
            "correct it",
            (dataset, number),
        )
    clean = f"rain100l_test/norain/norain-{number:03d}.png"
    if dataset == "rain100l":
        return f"rain100l_test/rain/rain-{number:03d}.png", clean
    return f"rain100h_test/rain/{number}.png", clean


def pair(dataset: str, number: int, dtype: torch.dtype = torch.float32) -> tuple[Tensor, Tensor]:
    """The rainy and the clean image of a test pair, verified by sha256.

    Args:
        dataset: ``"rain100l"`` or ``"rain100h"``.
        number: 1 to 100.
        dtype: float32 or float64.

    Returns:
        Two tensors (3, H, W) on [0, 1] of one shape.

    Raises:
        DomainError: No such pair.
        DataError: A file is missing or altered.

    An example: :func:`bmo.data.locate`.
    """
    rainy, clean = (load_image(name, dtype) for name in names(dataset, number))
    return rainy, fitted(clean, rainy)


def fitted(clean: Tensor, rainy: Tensor) -> Tensor:
    """The top left part of the clean image that the rainy one shows.

    Raises:
        DataError: The clean image is smaller, or larger by more than one row or column.

    Example:
        >>> fitted(torch.zeros(3, 5, 4), torch.zeros(3, 4, 4)).shape
        torch.Size([3, 4, 4])
    """
    gaps = [c - r for c, r in zip(clean.shape[-2:], rainy.shape[-2:], strict=True)]
    if min(gaps) < 0 or max(gaps) > 1:
        raise DataError(
            "a clean image of the size of the rainy one, or one pixel more",
            f"{tuple(clean.shape)} and {tuple(rainy.shape)}",
            "check the pair",
            gaps,
        )
    return clean[..., : rainy.shape[-2], : rainy.shape[-1]]
