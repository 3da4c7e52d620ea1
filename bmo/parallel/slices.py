"""The part of a batch that a process works on. Book: chapter 9."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from torch import Tensor

from bmo.errors import ShapeError
from bmo.parallel.processes import world


def shard(batch: Any) -> tuple[Any, float]:
    r"""The slice of a batch that this process works on, and its weight :math:`n_r/N`.

    Lengths differ by one point at most.

    Args:
        batch: A tensor whose first axis counts the points, or a tuple, list or dict of such
            tensors of equal length. On its own a process keeps it as it is, whatever it is.

    Raises:
        ShapeError: The batch cannot be cut, or has fewer points than there are processes.

    Example:
        >>> import torch
        >>> from unittest.mock import patch
        >>> from bmo.parallel import World
        >>> with patch("bmo.parallel.slices.world", lambda: World(rank=1, size=3)):
        ...     shard((torch.arange(8), torch.zeros(8, 2)))
        ((tensor([2, 3, 4]), tensor([[0., 0.],
                [0., 0.],
                [0., 0.]])), 0.375)
    """
    here = world()
    if here.size == 1:
        return batch, 1.0
    lengths = set(_lengths(batch))
    if len(lengths) != 1 or min(lengths) < here.size:
        raise ShapeError(
            f"a batch of at least {here.size} points, one for each process",
            f"tensors of lengths {sorted(lengths)}",
            "draw a larger batch, or start fewer processes",
            sorted(lengths),
        )
    total = lengths.pop()
    first, last = here.rank * total // here.size, (here.rank + 1) * total // here.size
    return _cut(batch, slice(first, last)), (last - first) / total


def _lengths(batch: Any) -> Iterator[int]:
    """Yield the lengths of all tensors of a batch."""
    if isinstance(batch, Tensor) and batch.dim():
        yield len(batch)
    elif isinstance(batch, (tuple, list, Mapping)):
        for item in batch.values() if isinstance(batch, Mapping) else batch:
            yield from _lengths(item)
    else:
        raise ShapeError(
            "a batch of tensors whose first axis counts the points",
            "a tensor without axes" if isinstance(batch, Tensor) else type(batch).__name__,
            "return tensors from sample, or a tuple, list or dict of them",
            batch,
        )


def _cut(batch: Any, part: slice) -> Any:
    """The same slice of all tensors of a batch."""
    if isinstance(batch, Tensor):
        return batch[part]
    if isinstance(batch, Mapping):
        return {key: _cut(item, part) for key, item in batch.items()}
    items = [_cut(item, part) for item in batch]
    return type(batch)(*items) if hasattr(batch, "_fields") else type(batch)(items)
