r"""Patches of gray images: drawn at random for training, cut and put together for testing.

Book: chapter 10. A patch is a row of :math:`m = p^2` numbers.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from bmo.errors import DataError, ShapeError


class PatchBank:
    """All patches of some images, drawn uniformly without copying them out.

    Args:
        images: Gray images (H, W) on [0, 1], of any sizes.
        size: p, the side of a patch.

    Raises:
        DataError: No image, or one smaller than a patch.

    Example:
        >>> bank = PatchBank([torch.zeros(8, 9), torch.ones(8, 8)], size=8)
        >>> len(bank), bank.draw(2, torch.Generator().manual_seed(0)).shape
        (3, torch.Size([2, 64]))
    """

    def __init__(self, images: Sequence[Tensor], size: int) -> None:
        if not images or any(i.dim() != 2 or min(i.shape) < size for i in images):
            shapes = [tuple(i.shape) for i in images if i.dim() != 2 or min(i.shape) < size]
            raise DataError(
                f"gray images of at least {size}x{size} pixels",
                f"shapes {shapes}" if images else "no image",
                "use larger images or smaller patches",
                shapes,
            )
        self.size = size
        self.pixels = torch.cat([i.flatten() for i in images])
        counts = torch.tensor([i.numel() for i in images])
        self.offsets = counts.cumsum(0) - counts
        self.widths = torch.tensor([i.shape[1] for i in images])
        places = [(i.shape[0] - size + 1) * (i.shape[1] - size + 1) for i in images]
        self.ends = torch.tensor(places).cumsum(0)

    def __len__(self) -> int:
        return int(self.ends[-1])

    def draw(self, count: int, generator: torch.Generator) -> Tensor:
        """Draw ``count`` patches with replacement, shape (count, p²)."""
        return self.take(torch.randint(len(self), (count,), generator=generator))

    def take(self, numbers: Tensor) -> Tensor:
        """The patches with these numbers (0 .. len - 1), shape (count, p²)."""
        image = torch.searchsorted(self.ends, numbers, right=True)
        before = torch.cat([self.ends.new_zeros(1), self.ends[:-1]])[image]
        width = self.widths[image]
        columns = width - self.size + 1
        row, column = (numbers - before) // columns, (numbers - before) % columns
        inside = torch.arange(self.size)
        rows = (row[:, None] + inside)[:, :, None] * width[:, None, None]
        places = self.offsets[image][:, None, None] + rows + (column[:, None] + inside)[:, None, :]
        return self.pixels[places].flatten(1)


def _starts(length: int, size: int, stride: int) -> list[int]:
    """Where patches begin: every ``stride``, and one at the very end; nothing is left out."""
    last = length - size
    return [*range(0, last, stride), last]


def cut(image: Tensor, size: int, stride: int) -> Tensor:
    """Cut an image into patches that cover it, shape (count, p²).

    Raises:
        ShapeError: The image is not (H, W) or smaller than a patch, or the stride leaves gaps.

    Example:
        >>> cut(torch.zeros(20, 16), size=16, stride=16).shape
        torch.Size([2, 256])
    """
    if image.dim() != 2 or min(image.shape) < size or not 1 <= stride <= size:
        raise ShapeError(
            f"an image (H, W) of at least {size}x{size} and 1 <= stride <= {size}",
            f"shape {tuple(image.shape)}, stride {stride}",
            "use a larger image or a shorter stride",
            tuple(image.shape),
        )
    rows = _starts(image.shape[0], size, stride)
    columns = _starts(image.shape[1], size, stride)
    pieces = [image[r : r + size, c : c + size].flatten() for r in rows for c in columns]
    return torch.stack(pieces)


def join(patches: Tensor, shape: tuple[int, int], stride: int) -> Tensor:
    """Put patches back: every pixel is the mean of the patches that cover it.

    Args:
        patches: What :func:`cut` returned (changed or not), shape (..., count, p²).
        shape: (H, W) of the image.
        stride: The one used for cutting.

    Raises:
        ShapeError: The number of patches does not belong to the shape.

    Example:
        >>> u = torch.rand(20, 17, dtype=torch.float64)
        >>> bool(torch.allclose(join(cut(u, 8, 4), (20, 17), 4), u))
        True
    """
    size = round(patches.shape[-1] ** 0.5)
    rows, columns = _starts(shape[0], size, stride), _starts(shape[1], size, stride)
    if patches.shape[-2:] != (len(rows) * len(columns), size * size):
        raise ShapeError(
            f"{len(rows) * len(columns)} patches for an image {shape}",
            f"shape {tuple(patches.shape)}",
            "use the image size and stride of the cut",
            tuple(patches.shape),
        )
    grid = patches.reshape(*patches.shape[:-2], len(rows), len(columns), size, size)
    total, count = patches.new_zeros(*patches.shape[:-2], *shape), patches.new_zeros(shape)
    for i, r in enumerate(rows):
        for j, c in enumerate(columns):
            total[..., r : r + size, c : c + size] += grid[..., i, j, :, :]
            count[r : r + size, c : c + size] += 1
    return total / count
