r"""Deblur a picture, or remove its rain: T alone, from the observation.

Book: chapters 11 and 12, "Your own picture". The weights are those of a record; they are found,
or fetched, and verified. Nothing is learned here, and no clean picture is asked for.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from bmo.errors import DomainError, ShapeError, require_whole
from bmo.problems import deconvolution, deraining
from bmo.problems.asked import require_device
from bmo.problems.deconvolution.blur import symbol_of
from bmo.problems.deconvolution.checks import (
    double_kernel,
    require_colours,
    require_image,
    require_kernel,
)
from bmo.problems.deconvolution.measuring import Seen
from bmo.problems.deconvolution.protocol import level
from bmo.problems.deconvolution.trained import trained as trained_deblurrer
from bmo.problems.deraining.measuring import Seen as RainSeen
from bmo.problems.deraining.trained import trained as trained_remover
from bmo.restore.edges import narrow, widen

#: What lies beyond the border of a blurred picture: its opposite border, or more of the scene.
EDGES = ("circular", "open")
#: Steps after which a result is looked at, where nothing else is asked for.
DEPTHS = (16, 1000)


@dataclass(frozen=True)
class Restoration:
    r"""What T made of one picture.

    Attributes:
        depths: Numbers of steps, increasing.
        images: The picture after each of them, shape (depths, C, H, W), cut to [0, 1].
        residuals: :math:`\|u - Tu\|_H/\|u\|_H` after each of them, shape (depths,).
        certified: ``"by construction"`` where T converges for every picture, else ``"none"``.
        diverged: Whether the values left every sensible range; they are held where they were.

    An example: :func:`bmo.restore.deblur`.
    """

    depths: tuple[int, ...]
    images: Tensor
    residuals: Tensor
    certified: str
    diverged: bool

    @property
    def image(self) -> Tensor:
        """The picture after the last step, shape (C, H, W)."""
        return self.images[-1]


def deblur(
    observed: Tensor,
    kernel: Tensor,
    noise: float,
    method: str = "bmo-long",
    profile: str = "small",
    depths: Sequence[int] = DEPTHS,
    device: str = "cpu",
    edges: str = "circular",
) -> Restoration:
    r"""Undo a known blur, :math:`b = k \circledast u + \sigma\varepsilon`.

    The convolution is circular. A photograph was blurred with what lies outside it; with
    ``edges="open"`` its border is repeated and tapered first (:func:`~bmo.restore.edges.widen`),
    and cut off at the end. A gray picture is restored as one of three equal colours.

    Args:
        observed: :math:`b`, shape (C, H, W), C = 1 or 3; about on [0, 1], not cut.
        kernel: :math:`k`, shape (h, w): odd sides, entries >= 0 that sum to 1.
        noise: :math:`\sigma` in percent of the range, > 0. The training saw 0.5 to 4 percent.
        method: Out of those of the record ``deconvolution.<profile>``.
        profile: Whose record.
        depths: Numbers of steps to look at.
        device: Where to compute.
        edges: ``"circular"`` or ``"open"``.

    Raises:
        ShapeError: No single picture, or a kernel that does not fit it.
        DomainError: A kernel that is none, noise out of range, bad depths, or other edges.
        NonFiniteError: NaN or infinity in picture or kernel.
        RecordError: The method is not in the record, or its weights are not to be had.
        TrainingError: No such device.

    Example:
        >>> import torch
        >>> from bmo.restore import deblur
        >>> draw = torch.Generator().manual_seed(0)
        >>> b, k = torch.rand(3, 24, 32, generator=draw), torch.full((3, 3), 1 / 9)
        >>> found = deblur(b, k, noise=1.0, depths=(0, 4))
        >>> tuple(found.images.shape), found.certified
        ((2, 3, 24, 32), 'by construction')
    """
    wanted, device = _depths(depths), require_device(device)
    _require_one(observed, "observed picture", free=True)
    if not noise > 0:
        raise DomainError("noise > 0, in percent", f"{noise}", "estimate it; 1 is usual", noise)
    if edges not in EDGES:
        raise DomainError(f"edges out of {EDGES}", repr(edges), "choose one", edges)
    k = _kernel(kernel, observed)
    wide = widen(observed, k) if edges == "open" else observed
    symbol = symbol_of(k, (wide.shape[-2], wide.shape[-1])).to(device, torch.complex64)
    sigma = torch.full((1, 1, 1, 1), level(noise), device=device)
    model = trained_deblurrer(profile, method).to(device)
    seen = deconvolution.trajectory(model, _coloured(wide).to(device), symbol, sigma, wanted)
    images = narrow(seen.images, k) if edges == "open" else seen.images
    return _kept(wanted, replace(seen, images=images), method in deconvolution.CERTIFIED, observed)


def derain(
    rainy: Tensor,
    method: str = "bmo",
    profile: str = "small",
    depths: Sequence[int] = DEPTHS,
    device: str = "cpu",
) -> Restoration:
    r"""Take the streaks of rain out of a picture.

    Args:
        rainy: :math:`O`, shape (C, H, W), C = 1 or 3, on [0, 1]. A gray picture is restored as one
            of three equal colours.
        method: Out of those of the record ``deraining.<profile>``.
        profile: Whose record.
        depths: Numbers of steps to look at.
        device: Where to compute.

    Raises:
        ShapeError: No single picture.
        DomainError: Values outside [0, 1], or bad depths.
        NonFiniteError: NaN or infinity.
        RecordError: The method is not in the record, or its weights are not to be had.
        TrainingError: No such device.

    Example:
        >>> import torch
        >>> from bmo.restore import derain
        >>> found = derain(torch.full((1, 16, 16), 0.5), depths=(4,))
        >>> tuple(found.image.shape), found.certified
        ((1, 16, 16), 'by construction')
    """
    wanted, device = _depths(depths), require_device(device)
    _require_one(rainy, "rainy picture")
    model = trained_remover(profile, method).to(device)
    seen = deraining.trajectory(model, _coloured(rainy).to(device), wanted)
    return _kept(wanted, seen, method in deraining.CERTIFIED, rainy)


def _depths(depths: Sequence[int]) -> tuple[int, ...]:
    wanted = tuple(sorted({require_whole("depths", depth) for depth in depths}))
    if not wanted:
        raise DomainError("at least one depth", "none", "16, say", depths)
    return wanted


def _kernel(kernel: Tensor, observed: Tensor) -> Tensor:
    """One kernel (h, w) that fits the picture, in float64."""
    if len(require_kernel(kernel, (observed.shape[-2], observed.shape[-1]))) != 1:
        raise ShapeError("one kernel (h, w)", f"{len(kernel)} kernels", "one call each", kernel)
    return double_kernel(kernel).reshape(kernel.shape[-2:])


def _require_one(image: Tensor, name: str, free: bool = False) -> None:
    """One picture (C, H, W); its values are on [0, 1] unless they are free."""
    if not isinstance(image, Tensor) or image.dim() != 3:
        shape = tuple(image.shape) if isinstance(image, Tensor) else type(image).__name__
        raise ShapeError(f"{name}: a tensor (C, H, W)", f"{shape}", "one call for each", image)
    (require_colours if free else require_image)(image, name)


def _coloured(image: Tensor) -> Tensor:
    """A batch of one picture with three colours, float32."""
    return image.float().expand(3, -1, -1)[None].contiguous()


def _kept(depths: tuple[int, ...], seen: Seen | RainSeen, known: bool, like: Tensor) -> Restoration:
    found = seen.images[:, 0].clamp(0, 1).to(like)
    if len(like) == 1:
        found = found.mean(1, keepdim=True)
    certified = "by construction" if known else "none"
    return Restoration(depths, found, seen.residuals[:, 0].to(like), certified, seen.diverged)
