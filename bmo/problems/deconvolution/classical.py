"""The baselines without a denoiser, measured: Wiener, total variation, wavelets, EPLL, FDN.

Book: chapter 11. The record ``deconvolution-classical``; its rows have the shape of those of the
chapter's other records. ``python -m bmo.problems.deconvolution.classical`` writes it.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from bmo import data
from bmo.baselines.restoration import (
    EPLL,
    FDN,
    PatchMixture,
    Restorer,
    TotalVariation,
    WaveletPrior,
    Wiener,
)
from bmo.data import load_image
from bmo.problems.deconvolution.blur import symbol_of
from bmo.problems.deconvolution.kernels import levin
from bmo.problems.deconvolution.protocol import level, observe, score, similarity
from bmo.record import Record, find_weights, provenance_now, row, write

EXPERIMENT = "deconvolution-classical"
IMAGES, KERNEL = ("butterfly", "leaves", "starfish"), 3
PERCENTS, SEEDS = (1.0, 3.0), (0, 1, 2, 3, 4)
METHODS = ("unh-wiener", "unh-wavelets", "unh-tv", "unh-epll", "ena-fdn")
#: How it is known where a method ends; Wiener and total variation solve convex problems.
CERTIFIED = {
    "unh-wiener": "by construction",
    "unh-wavelets": "by construction",
    "unh-tv": "by construction",
    "unh-epll": "none",
    "ena-fdn": "none",
}

Measured = dict[tuple[str, float, str], dict[str, list[float]]]


def restorer(name: str) -> Restorer:
    """One of :data:`METHODS`, as it was fitted; EPLL and FDN read their recorded weights.

    Example:
        >>> restorer("unh-tv").steps
        100
    """
    if name == "unh-epll":
        kept = find_weights(f"{EXPERIMENT}.full.epll")
        return EPLL(PatchMixture(kept["weights"], kept["covariances"]))
    if name == "ena-fdn":
        net = FDN()
        net.load_state_dict(find_weights(f"{EXPERIMENT}.full.fdn"))
        return net
    makers: Mapping[str, type[Restorer]] = {
        "unh-wiener": Wiener, "unh-wavelets": WaveletPrior, "unh-tv": TotalVariation,
    }  # fmt: skip
    return makers[name]()


def restored(
    method: Restorer, image: Tensor, kernel: Tensor, percent: float, seed: int
) -> dict[str, float]:
    """Blur one image by the protocol, restore it in float32, and measure.

    Args:
        method: What restores.
        image: Float64, shape (C, H, W).
        kernel: Shape (h, w).
        percent: Noise level.
        seed: Of the noise.

    Returns:
        ``psnr`` in dB and ``ssim``.
    """
    b = observe(image, kernel, percent, seed).float()[None]
    symbol = symbol_of(kernel, (image.shape[-2], image.shape[-1])).to(torch.complex64)
    estimate = method.restore(b, symbol, level(percent))[0].to(image)
    return {
        "psnr": float(score(estimate, image)),
        "ssim": float(similarity(estimate, image)),
    }


def measure(
    methods: Sequence[str] = METHODS,
    images: Sequence[str] = IMAGES,
    percents: Sequence[float] = PERCENTS,
    seeds: Sequence[int] = SEEDS,
) -> Measured:
    """Every method on Set3C under the kernel of the tables: one number for each seed."""
    kernel, found = levin()[KERNEL], {}
    for name in methods:
        method = restorer(name)
        for percent in percents:
            for image in images:
                clean = load_image(f"set3c/{image}.png")
                runs = [restored(method, clean, kernel, percent, seed) for seed in seeds]
                found[name, percent, image] = {k: [run[k] for run in runs] for k in runs[0]}
    return found


def rows(found: Measured) -> list[dict[str, Any]]:
    """Mean and deviation over the seeds, in the shape of :func:`bmo.record.row`."""
    return [
        row(
            name,
            {
                "image": image,
                "sigma_percent": percent,
                "kernel": KERNEL,
                "certified": CERTIFIED[name],
            },
            metric,
            values,
        )
        for (name, percent, image), metrics in found.items()
        for metric, values in metrics.items()
    ]


def save(folder: Path | str, found: Measured, seconds: float) -> Path:
    """Write the record; returns its path."""
    files = [f"set3c/{name}.png" for name in IMAGES]
    record = Record(
        **{**provenance_now(), "command": f"python -m {__spec__.name}"},
        experiment=EXPERIMENT,
        profile="full",
        settings={
            "timed": "processor time",
            "kernel": KERNEL, "images": list(IMAGES), "percents": list(PERCENTS),
            "methods": sorted({name for name, _, _ in found}),
        },
        seeds=list(SEEDS),
        data=data.hashes([*files, "levin09/Levin09.mat"]),
        seconds=seconds,
        rows=rows(found),
    )  # fmt: skip
    return write(record, folder)


if __name__ == "__main__":
    started = time.process_time()
    measured = measure()
    print(save(Path("runs") / f"{EXPERIMENT}.full", measured, time.process_time() - started))
