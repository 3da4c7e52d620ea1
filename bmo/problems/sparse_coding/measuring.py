r"""Testing: T alone is iterated from :math:`u^0 = 0` on noisy images; the clean ones only measure.

Book: chapter 10. :func:`restore_image` takes no clean image; what it returns cannot depend on one.
Codes that decay to zero pass through subnormal numbers: ``torch.set_flush_denormal(True)`` makes
long runs much faster (the command line does so).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from bmo.gkm import GKM
from bmo.measure import psnr, ssim
from bmo.problems.sparse_coding.model import Restorer
from bmo.problems.sparse_coding.noise import centre, corrupt
from bmo.problems.sparse_coding.patches import cut, join
from bmo.train import generator_of

CHUNK = 512
#: Codes of patches on [0, 1] are of size one: beyond this a method has left every sensible range.
DIVERGED = 1e6


@torch.no_grad()
def iterate(
    model: Restorer, observed: Tensor, depths: Sequence[int], resolution: float = 0.0
) -> tuple[Tensor, Tensor]:
    r"""Run T alone on observed patches and look at it at some depths.

    Args:
        model: The operator and its decoder.
        observed: Patches, shape (count, m).
        depths: Increasing numbers of steps.
        resolution: Stop once all relative residuals of the batch are below this.

    Returns:
        Restored patches (depths, count, m) and relative residuals
        :math:`\|u - Tu\|_H/\|u\|_H` (depths, count). A batch with a coefficient above
        :data:`DIVERGED` or that is not finite any more is held where it is.

    Example:
        >>> import torch
        >>> from bmo.problems import sparse_coding as sparse
        >>> D = sparse.Coder(torch.eye(4), torch.zeros(4), threshold=0.1)
        >>> model = sparse.Restorer(D, torch.eye(4), "gaussian", alpha=0.9)
        >>> images, residuals = sparse.iterate(model, torch.ones(2, 4), [1, 2])
        >>> images.shape, residuals.shape
        (torch.Size([2, 2, 4]), torch.Size([2, 2]))
    """
    level = centre(observed, model.noise)
    b = observed - level
    T, u, done = model.map(b), model.start(b), 0
    images, residuals = [], []
    r = torch.full((len(b),), torch.inf).to(b)
    for depth in depths:
        if not bool((r <= resolution).all()) and float(u.abs().max()) < DIVERGED:
            u = T.iterate(u, iterations=depth - done, throw=False).value
            r = relative_residual(T, u)
        done = depth
        images.append(model.decode(u) + level)
        residuals.append(r)
    return torch.stack(images), torch.stack(residuals)


def relative_residual(T: GKM, u: Tensor) -> Tensor:
    r""":math:`\|u - Tu\|_H/\|u\|_H`, 0 where both vanish; 1e30 at most, where T overflows."""
    size = T.metric.norm(u)
    r = T.residual(u) / size.clamp_min(torch.finfo(u.dtype).tiny)
    return torch.nan_to_num(r, nan=1e30, posinf=1e30).clamp_max(1e30)


def restore_image(
    model: Restorer, noisy: Tensor, depths: Sequence[int], stride: int, resolution: float = 0.0
) -> tuple[Tensor, Tensor]:
    """Restore a noisy image (H, W), at some depths.

    Returns:
        Images (depths, H, W), cut to [0, 1], and relative residuals (depths, patches).

    The cut is part of the method: pixels are known to lie in [0, 1].

    Example:
        >>> import torch
        >>> from bmo.problems import sparse_coding as sparse
        >>> D = sparse.Coder(torch.eye(4), torch.zeros(4), threshold=0.1)
        >>> model = sparse.Restorer(D, torch.eye(4), "gaussian", alpha=0.9)
        >>> images, _ = sparse.restore_image(model, torch.full((4, 4), 0.5), [1, 2], stride=2)
        >>> images.shape
        torch.Size([2, 4, 4])
    """
    size = round(model.decoder.shape[0] ** 0.5)
    patches = cut(noisy, size, stride)
    parts = [iterate(model, p, depths, resolution) for p in patches.split(CHUNK)]
    restored = torch.cat([p[0] for p in parts], 1)
    shape = (noisy.shape[0], noisy.shape[1])
    image = join(torch.nan_to_num(restored), shape, stride).clamp(0, 1)
    return image, torch.cat([p[1] for p in parts], 1)


def noisy_images(clean: dict[str, Tensor], noise: str, seed: int) -> dict[str, Tensor]:
    """The test images as observed; each image and seed has its own draw."""
    return {
        name: corrupt(image, noise, generator_of(seed + 1000, number))
        for number, (name, image) in enumerate(clean.items())
    }


def measure(
    model: Restorer,
    clean: dict[str, Tensor],
    noisy: dict[str, Tensor],
    depths: Sequence[int],
    stride: int,
    resolution: float = 0.0,
    ssim_depths: Sequence[int] = (),
) -> dict[str, Any]:
    """PSNR (mean over images) and the relative residual at each depth, SSIM at some of them.

    Example:
        >>> import torch
        >>> from bmo.problems import sparse_coding as sparse
        >>> D = sparse.Coder(torch.eye(4), torch.zeros(4), threshold=0.1)
        >>> model = sparse.Restorer(D, torch.eye(4), "gaussian", alpha=0.9)
        >>> clean, noisy = torch.full((4, 4), 0.5), torch.full((4, 4), 0.25)
        >>> found = sparse.measure(model, {"a": clean}, {"a": noisy}, [1, 2], stride=2)
        >>> [round(value, 2) for value in found["psnr"]]
        [12.04, 12.04]
    """
    scores: dict[str, list[list[float]]] = {"psnr": [], "ssim": []}
    residuals = []
    for name, image in noisy.items():
        restored, r = restore_image(model, image, depths, stride, resolution)
        residuals.append(r)
        truth = clean[name].expand_as(restored)
        batch, truth = restored[:, None], truth[:, None]
        some = [list(depths).index(depth) for depth in ssim_depths]
        scores["psnr"].append(psnr(batch, truth).tolist())
        scores["ssim"].append(ssim(batch[some], truth[some]).tolist() if some else [])
    means = {k: torch.tensor(v, dtype=torch.float64).mean(0).tolist() for k, v in scores.items()}
    every = torch.cat(residuals, 1).double()
    return {
        **means,
        "residual": every.median(1).values.tolist(),
        "residual_90": every.quantile(0.9, 1).tolist(),
    }


def patch_psnr(model: Restorer, clean: Tensor, observed: Tensor, depth: int) -> float:
    """PSNR over a set of patches at one depth (for choices on held-out patches)."""
    restored, _ = iterate(model, observed, [depth])
    error = (torch.nan_to_num(restored[0]).clamp(0, 1) - clean).square().mean().clamp_min(1e-20)
    return float(-10 * torch.log10(error))


def exact_residuals(model: Restorer, noisy: Tensor, depths: Sequence[int]) -> list[float]:
    """Median relative residual of some patches in float64, through all the steps."""
    residuals = iterate(model.double(), noisy.double(), depths)[1]
    return residuals.median(1).values.tolist()
