"""Folders of training pairs, laid out as RainTrainL and RainTrainH are: rain-K and norain-K.

The pairs lie together in one folder, or in two folders ``rain`` (or ``rainy``) and ``norain``.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import torch
from torch import Tensor

from bmo.data.reading import decode
from bmo.errors import DataError

ENDINGS = (".png", ".jpg", ".jpeg", ".bmp")


def folder_pairs(folder: Path | str) -> list[tuple[Path, Path]]:
    """The pairs (rainy, clean) of a folder, in the order of their numbers.

    Args:
        folder: Holds ``rain-1.png``, ``norain-1.png``, ...; or folders ``rain`` (or ``rainy``) and
            ``norain`` whose images end in the same numbers.

    Raises:
        DataError: No such folder, no pair in it, or an image without its partner.

    Example:
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as name:
        ...     for stem in ("rain-2", "norain-2", "rain-10", "norain-10"):
        ...         _ = (Path(name) / f"{stem}.png").write_bytes(b"")
        ...     [rainy.name for rainy, _ in folder_pairs(name)]
        ['rain-2.png', 'rain-10.png']
    """
    root = Path(folder)
    if not root.is_dir():
        raise DataError("a folder of pairs", f"{root} is not there", "correct its name", str(root))
    rainy, clean = _numbered(root, ("rain", "rainy")), _numbered(root, ("norain",))
    alone = sorted(set(rainy) ^ set(clean))
    if alone or not rainy:
        raise DataError(
            "images rain-K and norain-K for the same numbers K",
            f"numbers without a partner: {alone[:5]}" if alone else f"no pair in {root}",
            "complete the folder",
            str(root),
        )
    return [(rainy[number], clean[number]) for number in sorted(rainy)]


def _numbered(root: Path, kinds: tuple[str, ...]) -> dict[int, Path]:
    """Number → image, for images whose name or whose folder says their kind."""
    found: dict[int, Path] = {}
    for path in sorted(root.rglob("*")):
        match = re.fullmatch(r"([a-z]*)-?(\d+)", path.stem)
        if path.suffix.lower() not in ENDINGS or match is None:
            continue
        kind = match.group(1) or path.parent.name
        if kind not in kinds:
            continue
        number = int(match.group(2))
        if number in found:
            raise DataError(
                "one image for each number", f"{found[number]} and {path}", "remove one", str(path)
            )
        found[number] = path
    return found


def load_pairs(
    folder: Path | str, dtype: torch.dtype = torch.float32
) -> Iterator[tuple[Tensor, Tensor]]:
    """Yield the pairs of a folder as tensors (3, H, W) on [0, 1]: rainy, clean.

    Raises:
        DataError: As :func:`folder_pairs`; or an image cannot be read, or two differ in size.

    An example: :func:`bmo.problems.deraining.folder_pairs`.
    """
    for first, second in folder_pairs(folder):
        rainy, clean = decode(first, dtype), decode(second, dtype)
        if rainy.shape != clean.shape:
            raise DataError(
                "images of one size",
                f"{first.name} {tuple(rainy.shape)}, {second.name} {tuple(clean.shape)}",
                "check the pair",
                str(first),
            )
        yield rainy, clean
