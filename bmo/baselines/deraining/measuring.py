"""PSNR and SSIM of a restored image, and of a whole test set, image by image.

The tables of the field measure on Y: the restored colours are rounded to 8 bits, their luma of
ITU-R BT.601 (range 16 to 235) is rounded, too, and PSNR and SSIM (Gaussian window) are taken of
that. RGB figures are those of the 8-bit colours.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import torch
from torch import Tensor

from bmo.baselines.deraining.pairs import pair
from bmo.errors import DataError
from bmo.files import write_atomic
from bmo.measure import psnr, ssim, to_uint8, y_channel

#: What is measured of each image.
KEYS = ("psnr_y", "ssim_y", "psnr_rgb", "ssim_rgb")
Restorer = Callable[[Tensor], Tensor]


def score(restored: Tensor, clean: Tensor) -> dict[str, float]:
    """PSNR (dB) and SSIM on Y and on RGB of one image (3, H, W) on [0, 1], both as 8 bits.

    Example:
        >>> black = torch.zeros(3, 16, 16)
        >>> round(score(black + 1 / 255, black)["psnr_rgb"], 2)
        48.13
    """
    images = to_uint8(restored), to_uint8(clean)
    lumas = y_channel(images[0]), y_channel(images[1])
    values = psnr(*lumas), ssim(*lumas), psnr(*images), ssim(*images)
    return {key: float(value) for key, value in zip(KEYS, values, strict=True)}


@torch.no_grad()
def measure_set(
    restore: Restorer,
    dataset: str,
    numbers: Sequence[int],
    file: Path,
    tell: Callable[[str], None] = lambda line: None,
) -> dict[int, dict[str, float]]:
    """Restore and measure pairs of a set; results are kept after each image.

    Pairs whose results stand in the file already are not computed again, so the same call goes on
    where it was stopped.

    Args:
        restore: From a batch (1, 3, H, W) of rainy images to restored ones.
        dataset: ``"rain100l"`` or ``"rain100h"``.
        numbers: Which pairs, 1 to 100.
        file: Where the results are kept, one file for a method and a set.
        tell: Called with one line for each new image.

    Returns:
        Number of the pair → its values and the ``seconds`` of the restoration, for the pairs asked
        for.

    Raises:
        DataError: An image is missing or altered, or the file of results is damaged.

    An example: :func:`bmo.baselines.deraining.score`.
    """
    found = read(file)
    for number in numbers:
        if number in found:
            continue
        rainy, clean = pair(dataset, number)
        started = time.perf_counter()
        restored = restore(rainy[None])[0]
        seconds = time.perf_counter() - started
        found[number] = {**score(restored, clean), "seconds": seconds}
        text = json.dumps({str(k): found[k] for k in sorted(found)}, indent=1)
        write_atomic(file, text.encode())
        tell(f"{dataset} {number}: " + " ".join(f"{found[number][key]:.4f}" for key in KEYS))
    return {number: found[number] for number in numbers}


def read(file: Path) -> dict[int, dict[str, float]]:
    """Results so far; none where there is no file.

    Raises:
        DataError: Not a file of results.
    """
    if not file.exists():
        return {}
    try:
        content = json.loads(file.read_text("utf8"))
        return {
            int(n): {key: float(v[key]) for key in (*KEYS, "seconds")} for n, v in content.items()
        }
    except (ValueError, KeyError, TypeError, AttributeError) as problem:
        raise DataError(
            f"results of images in {file}", f"{problem!r}", "delete it and start anew", str(file)
        ) from problem


def mean(found: dict[int, dict[str, float]]) -> dict[str, float]:
    """The mean of each value over the images.

    Example:
        >>> one, two = dict.fromkeys(KEYS, 1.0), dict.fromkeys(KEYS, 2.0)
        >>> mean({1: one, 2: two})["psnr_y"]
        1.5
    """
    return {key: sum(v[key] for v in found.values()) / len(found) for key in KEYS}
