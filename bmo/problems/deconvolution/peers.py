r"""The plug-and-play peers: FFDNet and IRCNN with their weights, on the protocol of the tables.

Book: chapter 11. Nothing is trained here. What the stationary scheme has to be told (its level
for each noise level) was chosen on training images with random kernels, see :class:`Settings`.
"""

from __future__ import annotations

import math
import time
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import cache
from typing import Any

import torch
from torch import Tensor

from bmo import data
from bmo.baselines.denoisers import DPIR, IRCNN, Denoiser, FFDNet, IRCNNGray, Scheduled, stationary
from bmo.certify.jacobian import jacobian
from bmo.errors import DomainError
from bmo.metric import Identity
from bmo.problems.deconvolution.blur import symbol_of
from bmo.problems.deconvolution.kernels import levin
from bmo.problems.deconvolution.protocol import level, observe, score, similarity
from bmo.problems.profiles import Profiled, of_profile
from bmo.problems.shelf import Part, Shelf

METHODS = ("pnp-ffdnet-dpir", "pnp-ffdnet-ircnn", "pnp-ircnn-gray-dpir", "pnp-ffdnet-stationary")
IMAGES = ("butterfly", "leaves", "starfish")
#: (image, kernel, noise in percent): each image with each kernel, each noise level six times.
CASES = tuple((IMAGES[n // 8], n % 8, (0.5, 1.0, 3.0, 5.0)[(n + n // 8) % 4]) for n in range(24))
#: Pixels have size one: an iterate beyond this has diverged.
DIVERGED = 1e3
#: What stands for a residual that is not finite.
ENDLESS = 1e30


@dataclass(frozen=True)
class Settings(Profiled):
    r"""What is measured.

    Attributes:
        profile: ``"page"`` (crops, one seed) or ``"full"``.
        methods: Out of :data:`METHODS`.
        seeds: Of the noise.
        images: Of Set3C.
        side: Side of the middle part that is taken; 256 is all of it.
        kernel: Index of the kernel of Levin et al.
        percents: Noise levels of the tables.
        last: Last level of IRCNN's schedule for each of them.
        levels: Noise in percent → level of the stationary denoiser. Chosen together with w (out
            of 0.15, 0.23, 0.4) by PSNR after 20 to 30 steps on two training images with random
            kernels: out of 7 to 15 (1 %), 14 to 24 (3 %), 5 to 9 (0.5 %), 24 and 32 (5 %).
        weight: w of the stationary scheme in the tables.
        steps: Its steps there.
        early: An earlier step of it that stands in the tables, too.
        cases: Of the convergence test.
        crop: Side of its images.
        weights: Its w: the one of the tables, and a smaller one.
        long: Its steps.
        depths: Where it is recorded.
        power: Steps of the power iteration for the norm of the derivative.
    """

    methods: tuple[str, ...] = METHODS
    seeds: tuple[int, ...] = (0, 1, 2, 3, 4)
    images: tuple[str, ...] = IMAGES
    side: int = 256
    kernel: int = 3
    percents: tuple[float, ...] = (1.0, 3.0)
    last: dict[str, float] = field(default_factory=lambda: {"1.0": 5.0, "3.0": 13.0})
    levels: dict[str, float] = field(
        default_factory=lambda: {"0.5": 7.0, "1.0": 12.0, "3.0": 18.0, "5.0": 24.0}
    )
    weight: float = 0.23
    steps: int = 60
    early: int = 10
    cases: tuple[tuple[str, int, float], ...] = CASES
    crop: int = 128
    weights: tuple[float, ...] = (0.23, 0.15)
    long: int = 1000
    depths: tuple[int, ...] = (1, 2, 4, 8, 10, 16, 32, 64, 128, 256, 512, 1000)
    power: int = 20


FULL = Settings("full")
PAGE = replace(
    FULL, profile="page", seeds=(0,), side=64, cases=CASES[:2], crop=64, long=32, depths=(8, 16, 32)
)


def settings_of(profile: str) -> Settings:
    """The settings of a profile.

    Raises:
        DomainError: Another name.

    Example:
        >>> settings_of("full").seeds
        (0, 1, 2, 3, 4)
    """
    return of_profile(profile, PAGE, FULL)


@cache
def denoiser(name: str) -> Denoiser:
    """The network of a method, read once."""
    return IRCNNGray.pretrained() if "ircnn-gray" in name else FFDNet.pretrained(3)


def restorer(method: str, percent: float, s: Settings) -> Scheduled:
    """A method at a noise level.

    Raises:
        DomainError: Another method.
    """
    schedules = {
        "pnp-ffdnet-dpir": lambda: DPIR,
        "pnp-ircnn-gray-dpir": lambda: DPIR,
        "pnp-ffdnet-ircnn": lambda: replace(IRCNN, last=s.last[str(float(percent))]),
        "pnp-ffdnet-stationary": lambda: stationary(
            s.levels[str(float(percent))], s.weight, s.steps
        ),
    }
    if method not in schedules:
        raise DomainError(f"a method of {', '.join(METHODS)}", method, "choose one", method)
    return Scheduled(denoiser(method), schedules[method]())


class Pieces(Shelf[Settings]):
    """The parts of the run: one for each restored image, one for each convergence case."""

    def relevant(self, name: str, known: dict[str, Any]) -> dict[str, Any]:
        """A part depends on these settings alone, and on what its name says."""
        if name.startswith("case."):
            keys = {"levels", "crop", "long", "power"}
        elif "stationary" in name:
            keys = {"side", "kernel", "levels", "weight", "steps", "early"}
        else:
            keys = {"side", "kernel", "last"}
        return {key: value for key, value in known.items() if key in keys}

    def picture(self, name: str, side: int) -> Tensor:
        """The middle part of an image of Set3C, float64."""
        image = data.load_image(f"set3c/{name}.png")
        top, left = ((n - side) // 2 for n in image.shape[-2:])
        return image[:, top : top + side, left : left + side]

    def observation(
        self, image: Tensor, kernel: int, percent: float, seed: int
    ) -> tuple[Tensor, Tensor]:
        """The observation and the symbol of the kernel, in float32."""
        k = levin()[kernel]
        symbol = symbol_of(k, (image.shape[-2], image.shape[-1])).to(torch.complex64)
        return observe(image, k, percent, seed)[None].float(), symbol

    def result(self, method: str, percent: float, name: str, seed: int) -> Part:
        """PSNR and SSIM of one restored image at its depths."""
        part = f"{method}.{percent:g}.{name}.{seed}"
        found = self.kept(part)
        if found is not None:
            return found
        started, s = time.monotonic(), self.settings
        image = self.picture(name, s.side)
        b, symbol = self.observation(image, s.kernel, percent, seed)
        run = restorer(method, percent, s)
        depths = {run.schedule.steps, *([s.early] if "stationary" in method else [])}
        seen = {}
        for n, z in enumerate(run.iterates(b, symbol, level(percent)), 1):
            if n in depths:
                z = z[0].double()
                seen[str(n)] = {"psnr": float(score(z, image)), "ssim": float(similarity(z, image))}
        return self.keep(part, started, lambda: {"depths": seen})

    def case(self, name: str, kernel: int, percent: float, weight: float) -> Part:
        """The stationary scheme for very many steps: PSNR, residual, and a derivative."""
        part = f"case.{weight:g}.{name}.{kernel}.{percent:g}"
        found = self.kept(part)
        if found is not None:
            return found
        started, s = time.monotonic(), self.settings
        image = self.picture(name, s.crop)
        b, symbol = self.observation(image, kernel, percent, 0)
        schedule = stationary(s.levels[str(float(percent))], weight, s.long)
        net = denoiser("pnp-ffdnet-stationary")
        run = followed(Scheduled(net, schedule), b, symbol, level(percent), image)
        norms = {
            where: derivative(net, u, schedule.first / 255, s.power)
            for where, u in (("observation", b), ("clean image", image[None].float()))
        }
        return self.keep(part, started, lambda: {**run, "derivative": norms})


def followed(run: Scheduled, b: Tensor, symbol: Tensor, sigma: float, image: Tensor) -> Part:
    r"""PSNR and :math:`\|z^{n+1} - z^n\|/\|z^n\|` at every step; ends early where z diverged."""
    psnr, residual, z = [], [], b
    for new in run.iterates(b, symbol, sigma):
        if not float(new.abs().max()) < DIVERGED:  # also NaN
            break
        residual.append(float((new - z).norm() / z.norm()))
        psnr.append(float(score(new[0].double(), image)))
        z = new
    return {"psnr": psnr, "residual": residual, "diverged": len(psnr) < run.schedule.steps}


def derivative(net: Denoiser, u: Tensor, level: float, steps: int) -> float:
    r"""A lower bound on :math:`\|N'(u)\|`, by power iteration: above 1, N is not nonexpansive."""
    start = torch.randn(u.shape, generator=torch.Generator().manual_seed(0), dtype=u.dtype)
    norm, _ = jacobian(lambda x: net(x, level), Identity(3), u, start, steps)
    return float(norm.max())


def every_case(s: Settings) -> list[tuple[str, int, float, float]]:
    """(image, kernel, noise in percent, w) of all convergence cases."""
    return [(*case, weight) for weight in s.weights for case in s.cases]


def at(values: Sequence[float], depths: Sequence[int], lost: float) -> list[float]:
    """Values at some steps; ``lost`` from where the run had diverged."""
    shown = [values[d - 1] if d <= len(values) else lost for d in depths]
    return [x if math.isfinite(x) else lost for x in shown]
