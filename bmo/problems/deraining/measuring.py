r"""Testing: T alone is iterated from its start (``bmo-h``: with its anchor); clean images measure.

Book: chapter 12. :func:`trajectory` takes no clean image; what it returns cannot depend on one.
PSNR and SSIM are those of :func:`bmo.baselines.deraining.measuring.score`.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from bmo.baselines.deraining.measuring import score
from bmo.measure import psnr, to_uint8, y_channel
from bmo.problems.deraining.methods import RainRemover
from bmo.problems.tested import drop

#: Pixels have size one: beyond this a method has left every sensible range, and is held.
DIVERGED = 1e3
#: What stands for a residual that is not finite.
ENDLESS = 1e30


@dataclass(frozen=True)
class Seen:
    r"""What a run left at each depth.

    Attributes:
        images: Backgrounds, shape (depths, B, 3, H, W); what diverged is held at its last image.
        residuals: :math:`\|u - Tu\|_H/\|u\|_H`, shape (depths, B).
        diverged: Whether every sensible range was left.
    """

    images: Tensor
    residuals: Tensor
    diverged: bool


@torch.no_grad()
def trajectory(model: RainRemover, rainy: Tensor, depths: Sequence[int]) -> Seen:
    """Run T alone (``bmo-h``: with its anchor, the start) and look at it at some depths.

    Args:
        model: The method.
        rainy: O, shape (B, 3, H, W).
        depths: Increasing numbers of steps; 0 is the start.

    Example:
        >>> from bmo.problems.deraining import PAGE, build
        >>> seen = trajectory(build("bmo", PAGE), torch.rand(1, 3, 16, 16), (0, 2))
        >>> tuple(seen.images.shape)
        (2, 1, 3, 16, 16)
    """
    u, T = model.open(rainy)
    start, done, lost = u, 0, False
    images, residuals = [], []
    for depth in depths:
        if not lost:
            new = model.onward(T, u, start, done, depth)
            lost = not float(new.abs().max()) < DIVERGED
            u = u if lost else new
        r = T.residual(u) / T.metric.norm(u)
        r = torch.full_like(r, ENDLESS) if lost else r
        done = depth
        images.append(u[:, :3])
        residuals.append(r.nan_to_num(nan=ENDLESS, posinf=ENDLESS).clamp_max(ENDLESS))
    return Seen(torch.stack(images), torch.stack(residuals), lost)


def measure_pair(
    model: RainRemover, rainy: Tensor, clean: Tensor, depths: Sequence[int]
) -> dict[str, list[float]]:
    """PSNR and SSIM on Y and on RGB, and the residual, of one image (3, H, W) at each depth."""
    seen = trajectory(model, rainy[None].to(model.device), depths)
    each = [score(images[0], clean) for images in seen.images.cpu()]
    found = {key: [values[key] for values in each] for key in each[0]}
    return {**found, "residual": seen.residuals[:, 0].double().cpu().tolist()}


def converge(
    model: RainRemover, pairs: Sequence[tuple[Tensor, Tensor]], crop: int, depths: Sequence[int]
) -> list[dict[str, Any]]:
    """PSNR on Y and residual at each depth, on the middle parts of pairs (rainy, clean)."""

    def middles(which: int) -> Tensor:
        found = []
        for pair in pairs:
            top, left = ((length - crop) // 2 for length in pair[which].shape[1:])
            found.append(pair[which][:, top : top + crop, left : left + crop])
        return torch.stack(found)

    seen, clean = trajectory(model, middles(0).to(model.device), depths), to_uint8(middles(1))
    results = []
    for k, truth in enumerate(clean):
        images = to_uint8(seen.images[:, k].cpu())
        values = [float(psnr(y_channel(image), y_channel(truth))) for image in images]
        residual = seen.residuals[:, k].double().cpu().tolist()
        results.append({"psnr": values, "residual": residual, "drop": drop(values),
                        "diverged": seen.diverged})  # fmt: skip
    return results


@torch.no_grad()
def cost(model: RainRemover, rainy: Tensor, steps: int = 10) -> dict[str, float]:
    """Seconds of processor time of the start and of one step, for one image (3, H, W)."""
    began = time.process_time()
    u, T = model.open(rainy[None].to(model.device))
    ready = time.process_time()
    for _ in range(steps):
        u = T(u)
    return {"start": ready - began, "step": (time.process_time() - ready) / steps}


def worth(model: RainRemover, pairs: Sequence[tuple[Tensor, Tensor]], depth: int) -> float:
    """Mean PSNR on Y of the stored images after a number of steps, over pairs (rainy, clean)."""
    found = []
    for rainy, clean in pairs:
        restored = model.restore(rainy[None].to(model.device), depth)[0].cpu()
        found.append(float(psnr(y_channel(to_uint8(restored)), y_channel(to_uint8(clean)))))
    return sum(found) / len(found)
