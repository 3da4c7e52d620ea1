r"""Testing: T alone is iterated from its start; the clean images only measure.

Book: chapter 11. :func:`trajectory` takes no clean image; what it returns cannot depend on one.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from bmo.problems.deconvolution.blur import symbol_of
from bmo.problems.deconvolution.methods import Deblurrer
from bmo.problems.deconvolution.protocol import level, observe, score, similarity

#: Pixels have size one: beyond this a method has left every sensible range, and is held.
DIVERGED = 1e3
#: What stands for a residual that is not finite, and the PSNR of what diverged.
ENDLESS, LOST = 1e30, 0.0


@dataclass(frozen=True)
class Seen:
    r"""What a run left at each depth.

    Attributes:
        images: Shape (depths, B, C, H, W); a batch that diverged is held at its last image.
        residuals: :math:`\|u - Tu\|/\|u\|`, shape (depths, B).
        diverged: Whether every sensible range was left.
    """

    images: Tensor
    residuals: Tensor
    diverged: bool


@torch.no_grad()
def trajectory(
    model: Deblurrer,
    observed: Tensor,
    symbol: Tensor,
    sigma: Tensor,
    depths: Sequence[int],
    resolution: float = 0.0,
) -> Seen:
    """Run T alone and look at it at some depths.

    Args:
        model: The method.
        observed: b, shape (B, C, H, W).
        symbol: Of the blur, shape (B, 1, H, W//2 + 1).
        sigma: Noise levels on [0, 1], shape (B, 1, 1, 1).
        depths: Increasing numbers of steps; 0 is the start.
        resolution: Stop once all relative residuals are below this.

    Example:
        >>> import torch
        >>> from bmo.problems import deconvolution as dec
        >>> model = dec.build("gkm", dec.PAGE)
        >>> kernel, b = torch.full((3, 3), 1 / 9), torch.rand(1, 3, 16, 16)
        >>> symbol, sigma = dec.symbol_of(kernel[None], (16, 16)), torch.full((1, 1, 1, 1), 0.01)
        >>> dec.trajectory(model, b, symbol, sigma, [0, 2]).images.shape
        torch.Size([2, 1, 3, 16, 16])
    """
    u = model.begin(observed, symbol, sigma)
    T, done, lost = model.map(u, observed, symbol, sigma), 0, False
    images, residuals = [], []
    r = torch.full((len(u),), ENDLESS).to(u)
    for depth in depths:
        if not lost and not bool((r <= resolution).all()):
            new = T.iterate(u, iterations=depth - done, throw=False).value
            lost = not float(new.abs().max()) < DIVERGED
            u = u if lost else new
            r = torch.full_like(r, ENDLESS) if lost else T.residual(u) / T.metric.norm(u)
        done = depth
        images.append(u)
        residuals.append(r.nan_to_num(nan=ENDLESS, posinf=ENDLESS).clamp_max(ENDLESS))
    return Seen(torch.stack(images), torch.stack(residuals), lost)


def observation(
    image: Tensor, kernel: Tensor, percent: float, seeds: Sequence[int]
) -> tuple[Tensor, Tensor, Tensor]:
    """The observations of an image for some seeds, as a batch in float32: b, symbol, sigma."""
    b = torch.stack([observe(image, kernel, percent, seed) for seed in seeds]).float()
    shape = (image.shape[-2], image.shape[-1])
    symbol = symbol_of(kernel, shape).to(torch.complex64).expand(len(b), -1, -1, -1)
    return b, symbol, torch.full((len(b), 1, 1, 1), level(percent))


def scores(
    model: Deblurrer,
    image: Tensor,
    kernel: Tensor,
    percent: float,
    seeds: Sequence[int],
    depths: Sequence[int],
    resolution: float = 0.0,
) -> dict[str, Any]:
    """PSNR, SSIM and relative residual of each seed at each depth: lists (seeds, depths).

    Example:
        >>> import torch
        >>> from bmo.problems import deconvolution as dec
        >>> model, kernel = dec.build("gkm", dec.PAGE), torch.ones(1, 1, dtype=torch.float64)
        >>> found = dec.scores(model, torch.rand(3, 16, 16), kernel, 1.0, seeds=[0], depths=[0, 2])
        >>> len(found["psnr"]), len(found["psnr"][0])
        (1, 2)
    """
    b, symbol, sigma = (t.to(model.device) for t in observation(image, kernel, percent, seeds))
    found = trajectory(model, b, symbol, sigma, depths, resolution)
    truth = image.float().expand_as(found.images[0])
    each = [(score(u, truth), similarity(u, truth)) for u in found.images.cpu()]
    return {
        "psnr": torch.stack([p for p, _ in each], 1).tolist(),
        "ssim": torch.stack([q for _, q in each], 1).tolist(),
        "residual": found.residuals.mT.double().cpu().tolist(),
        "diverged": found.diverged,
    }


@torch.no_grad()
def cost(model: Deblurrer, given: Sequence[Tensor], steps: int = 20) -> dict[str, float]:
    """Seconds of processor time of the start and of one step, for one image (b, symbol, sigma)."""
    one = [t[:1] for t in given]
    began = time.process_time()
    u = model.begin(*one)
    T = model.map(u, *one)
    ready = time.process_time()
    for _ in range(steps):
        u = T(u)
    done = time.process_time()
    return {"start": ready - began, "step": (done - ready) / steps}


def mean_psnr(restored: Tensor, clean: Tensor) -> float:
    """Mean PSNR of the stored images (for choices on held-out pictures)."""
    return float(score(torch.nan_to_num(restored), clean).mean())
