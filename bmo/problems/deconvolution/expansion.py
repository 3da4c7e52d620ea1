r"""Public denoisers drive images apart: lower bounds on the norms of their derivatives.

Book: chapter 11, "The rows of others". ``python -m bmo.problems.deconvolution.expansion`` writes
the record into ``runs/``. A norm above 1 at one point shows that a map is not nonexpansive.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

from bmo import data
from bmo.baselines.denoisers import Denoiser, FFDNet, SimpleCNN
from bmo.problems.deconvolution.peers import derivative
from bmo.record import Record, provenance_now, row, write

EXPERIMENT = "deconvolution-denoisers"
IMAGES = ("butterfly", "leaves", "starfish")
#: Noise level of image and denoiser in units of 1/255; side of the crop; steps of power iteration.
LEVEL, SIDE, STEPS = 15, 64, 20


def denoisers() -> Mapping[str, Denoiser]:
    """The networks with their published weights."""
    return {
        "ffdnet-colour": FFDNet.pretrained(3),
        "ffdnet-gray": FFDNet.pretrained(1),
        "simplecnn": SimpleCNN.pretrained(LEVEL),
    }


def measure(nets: Mapping[str, Denoiser], images: Sequence[str] = IMAGES) -> list[dict[str, Any]]:
    r"""A lower bound on :math:`\|N'(u)\|` for each network, at the noisy corner of each image."""
    rows = []
    for name, net in nets.items():
        for image in images:
            u = data.load_image(f"set3c/{image}.png", torch.float32)[:, :SIDE, :SIDE]
            u = u[None] if net.channels == 3 else u.mean(0)[None, None]
            draws = torch.Generator().manual_seed(0)
            noisy = u + LEVEL / 255 * torch.randn(u.shape, generator=draws)
            norm = derivative(net, noisy, LEVEL / 255, STEPS)
            setting = {"image": image, "level": LEVEL, "side": SIDE, "certified": "none"}
            rows.append(row(name, setting, "derivative_norm", norm))
    return rows


def save(folder: Path | str, rows: list[dict[str, Any]], seconds: float) -> Path:
    """Write the record; returns its path."""
    record = Record(
        **{**provenance_now(), "command": f"python -m {__spec__.name}"},
        experiment=EXPERIMENT,
        profile="full",
        settings={"level": LEVEL, "side": SIDE, "steps": STEPS, "images": list(IMAGES)},
        seeds=[0],
        data=data.hashes([f"set3c/{name}.png" for name in IMAGES]),
        seconds=seconds,
        rows=rows,
    )
    return write(record, folder)


if __name__ == "__main__":
    started = time.process_time()
    found = measure(denoisers())
    print(save(Path("runs") / f"{EXPERIMENT}.full", found, time.process_time() - started))
