r"""Training images in one small file: halved, 8 bits, with the sha256 of every original inside.

A training run reads each image many times, on a machine that may hold nothing else. :func:`pack`
reads the verified originals once and writes one safetensors file; :func:`unpack` reads it back and
refuses it if a pixel was altered or if it was made from other files than the registry knows. The
file is never part of the project.

A halved pixel is the mean of a square of four: it has half the noise of the original, and none of
the block edges of a compressed one.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors import torch as safetensors
from torch import Tensor
from torch.nn import functional

from bmo.data.reading import images
from bmo.data.registry import data_file
from bmo.errors import DataError, ShapeError
from bmo.files import cache_folder, write_atomic
from bmo.measure import to_uint8

#: A packed file may not be larger than this, in bytes: it has to travel to where it is used.
LARGEST = 40_000_000
#: The sets of the book's image experiments that may be trained on; no test image is in them.
TRAINING_SETS = ("bsds500_train_clean", "bsds500_test")
FILE = "packed/training.safetensors"


def halved(image: Tensor) -> Tensor:
    r"""Means over squares of four pixels; an odd last row or column is left out.

    Args:
        image: Shape (C, H, W), floating point.

    Returns:
        Shape (C, H // 2, W // 2).

    Raises:
        ShapeError: Not (C, H, W), or smaller than one square.

    Example:
        >>> halved(torch.tensor([[[0.0, 1.0, 9.0], [1.0, 2.0, 9.0]]]))
        tensor([[[1.]]])
    """
    if image.dim() != 3 or min(image.shape[-2:]) < 2:
        raise ShapeError(
            "an image (C, H, W) of at least 2x2 pixels",
            f"shape {tuple(image.shape)}",
            "add the axis of channels, or leave it as it is",
            tuple(image.shape),
        )
    return functional.avg_pool2d(image[None], 2)[0]


def pack(found: Iterable[tuple[str, Tensor]], path: Path | str) -> Path:
    """Write images, halved to 8 bits, into one file with the digests of their originals.

    Args:
        found: (registered name, image (C, H, W) on [0, 1]) each, as :func:`bmo.data.images` yields.
        path: The file to write, whole or not at all.

    Raises:
        DataError: No image, a name that the registry does not know, more than 40 MB, or a folder
            that cannot be written.
    """
    pixels = {name: to_uint8(halved(image)) for name, image in found}
    sources = {name: data_file(name).sha256 for name in pixels}
    if not pixels:
        raise DataError("at least one image", "none", "name a set that has images", 0)
    about = {"sources": json.dumps(sources, sort_keys=True), "pixels": _digest(pixels)}
    content = safetensors.save({k: v.contiguous() for k, v in pixels.items()}, about)
    if len(content) > LARGEST:
        raise DataError(
            f"at most {LARGEST} bytes", f"{len(content)} bytes", "pack fewer images", len(content)
        )
    return write_atomic(Path(path), content)


def unpack(path: Path | str) -> dict[str, Tensor]:
    """Read a packed file: registered name → uint8 image (C, H, W), sorted by name.

    Raises:
        DataError: Missing, not a packed file, altered, or made from other originals than the
            registry knows.
    """
    path = Path(path)
    try:
        with safe_open(path, "pt") as store:
            about = store.metadata() or {}
            pixels = {name: store.get_tensor(name) for name in sorted(store.keys())}
        sources = json.loads(about["sources"])
        digest = about["pixels"]
    except (OSError, SafetensorError, KeyError, ValueError) as problem:
        raise DataError(
            f"a packed file {path}", f"{problem}", f"delete {path}: it is made again", str(path)
        ) from problem
    _require_whole(path, pixels, sources, digest)
    return pixels


def _require_whole(
    path: Path, pixels: Mapping[str, Tensor], sources: dict[str, Any], digest: str
) -> None:
    altered = sorted(k for k in sources if k not in pixels or data_file(k).sha256 != sources[k])
    if altered or set(pixels) != set(sources) or _digest(pixels) != digest:
        raise DataError(
            "the pixels that were packed, of originals that the registry knows",
            f"{path}, altered{f' in {altered[0]}' if altered else ''}",
            f"delete {path}: it is made again",
            str(path),
        )


def training_images() -> dict[str, Tensor]:
    """The packed training images; packed first, into the cache, where no packed file is found.

    Looked for in the folder that BMO_DATA names, then in the cache.

    Raises:
        DataError: A file is altered; or an original is not here and not to be had.
    """
    return unpack(find_packed())


def find_packed() -> Path:
    """Where the packed training images are, after packing them if need be."""
    offline = os.environ.get("BMO_DATA")
    for folder in ([Path(offline).expanduser()] if offline else []) + [cache_folder()]:
        if (folder / FILE).is_file():
            return folder / FILE
    found = (pair for group in TRAINING_SETS for pair in images(group, torch.float32))
    return pack(found, cache_folder() / FILE)


def _digest(pixels: Mapping[str, Tensor]) -> str:
    """sha256 of all names, shapes and pixels, in the order of the names."""
    digest = hashlib.sha256()
    for name in sorted(pixels):
        digest.update(f"{name} {tuple(pixels[name].shape)}".encode())
        digest.update(pixels[name].contiguous().numpy().tobytes())
    return digest.hexdigest()
