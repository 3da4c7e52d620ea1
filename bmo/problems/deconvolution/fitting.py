r"""What the baselines take from training pictures: a spectrum, weights, a mixture, a network.

Book: chapter 11. Pictures of BSDS alone, random motion kernels, both noise levels; the test set is
never seen. ``python -m bmo.problems.deconvolution.fitting`` prints the spectrum and what each
weight gives on the held pictures, and writes the mixture and the network into ``runs/``.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from pathlib import Path

import torch
from torch import Tensor

from bmo.baselines.restoration import (
    FDN,
    PatchMixture,
    Restorer,
    TotalVariation,
    WaveletPrior,
    expectation_maximisation,
    fit_spectrum,
)
from bmo.data import images
from bmo.problems.deconvolution.blur import symbol_of
from bmo.problems.deconvolution.kernels import motion_kernel
from bmo.problems.deconvolution.protocol import score
from bmo.problems.sparse_coding.patches import PatchBank
from bmo.record import save_weights

#: The set that is learned from, and the noise levels of the tables on the scale [0, 1].
TRAINING, LEVELS = "bsds500_train_clean", (0.01, 0.03)
#: Every so-maniest training picture is kept to choose numbers on; the network never sees them.
HELD = 22

Batch = tuple[Tensor, Tensor, Tensor, Tensor]


def pictures(held: bool, dtype: torch.dtype = torch.float32) -> list[Tensor]:
    """The training pictures, (3, H, W) on [0, 1]: those to choose numbers on, or the others."""
    every = [image for _, image in images(TRAINING, dtype)]
    return [image for n, image in enumerate(every) if (n % HELD == 0) == held]


def held_out(found: Sequence[Tensor], sigma: float, side: int = 192, seed: int = 0) -> Batch:
    """One blurred middle of each held picture, a kernel each: clean, seen, symbols, noise."""
    draws = torch.Generator().manual_seed(seed)
    middles = [middle(image, side) for image in found]
    return observed(torch.stack(middles), torch.full((len(found), 1, 1, 1), sigma), draws)


def middle(image: Tensor, side: int) -> Tensor:
    """The square in the middle of a picture."""
    top, left = (image.shape[-2] - side) // 2, (image.shape[-1] - side) // 2
    return image[:, top : top + side, left : left + side]


def observed(clean: Tensor, sigma: Tensor, draws: torch.Generator) -> Batch:
    """Blur each image with a random motion kernel, add noise: clean, seen, symbols, noise."""
    size = (clean.shape[-2], clean.shape[-1])
    kernels = [motion_kernel(draws) for _ in clean]
    symbols = torch.stack([symbol_of(kernel, size) for kernel in kernels])
    symbols = symbols.to(torch.complex64 if clean.dtype == torch.float32 else torch.complex128)
    blurred = torch.fft.irfft2(torch.fft.rfft2(clean) * symbols, s=size)
    noise = torch.randn(clean.shape, generator=draws, dtype=torch.float64).to(clean)
    return clean, blurred + sigma.to(clean) * noise, symbols, sigma.to(clean)


def crops(found: Sequence[Tensor], count: int, side: int, draws: torch.Generator) -> Tensor:
    """Random squares of random pictures, mirrored and turned at random."""

    def number(top: int) -> int:
        return int(torch.randint(top, (), generator=draws))

    taken = []
    for _ in range(count):
        image = found[number(len(found))]
        top, left = number(image.shape[-2] - side + 1), number(image.shape[-1] - side + 1)
        part = image[:, top : top + side, left : left + side]
        part = part.rot90(number(4), (-2, -1))
        taken.append(part.flip(-1) if number(2) else part)
    return torch.stack(taken)


def fit_mixture(
    count: int = 100, patches: int = 150_000, iterations: int = 20, seed: int = 0
) -> PatchMixture:
    """The mixture of EPLL: 8x8 patches of every colour of the training pictures, mean removed."""
    bank = PatchBank([colour for image in pictures(held=False) for colour in image], size=8)
    x = bank.draw(patches, torch.Generator().manual_seed(seed))
    return expectation_maximisation(x - x.mean(-1, keepdim=True), count, iterations, seed)[0]


def train_network(
    net: FDN,
    found: Sequence[Tensor],
    steps: int,
    batch: int = 2,
    side: int = 96,
    rate: float = 2e-3,
    seed: int = 0,
    say: Callable[[str], None] | None = None,
) -> FDN:
    r"""Train on random crops, kernels and both noise levels, for the mean PSNR.

    The loss is the mean of :math:`\log_{10}` of each image's squared error after the last stage,
    and half of it, on average, after the others; Adam, its rate falling to zero as half a cosine.

    Args:
        net: Changed in place.
        found: Pictures, larger than the crops.
        steps: Number of Adam steps.
        batch: Crops in a step; every other one has 3 % noise.
        side: Of a crop.
        rate: The first rate.
        seed: Of everything that is drawn here.
        say: Told the loss now and then.
    """
    draws = torch.Generator().manual_seed(seed)
    optimiser = torch.optim.Adam(net.parameters(), rate)
    falling = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, steps)
    sigma = torch.tensor([LEVELS[n % 2] for n in range(batch)])[:, None, None, None]
    started = time.process_time()
    for step in range(steps):
        clean, b, symbols, noise = observed(crops(found, batch, side, draws), sigma, draws)
        errors = [u - clean for u in net.states(b, symbols, noise)]
        logs = torch.stack([e.square().mean((1, 2, 3)).log10().mean() for e in errors])
        optimiser.zero_grad()
        (logs[-1] + 0.5 * logs[:-1].mean()).backward()
        torch.nn.utils.clip_grad_norm_(net.parameters(), 1.0)
        optimiser.step()
        falling.step()
        if say and step % 50 == 0:
            levels = " ".join(f"{-10 * float(value.detach()):.2f}" for value in logs)
            say(f"step {step}: {levels} dB, {time.process_time() - started:.0f} s")
    return net


def candidates(sigma: float) -> dict[str, Restorer]:
    """What was compared on the held pictures to choose the weights of TV and of the wavelets."""
    low = sigma == LEVELS[0]
    found: dict[str, Restorer] = {}
    for weight in (1.3e-3, 1.5e-3, 1.7e-3, 2e-3) if low else (5.5e-3, 6.5e-3, 7.5e-3, 9e-3):
        found[f"tv {weight:g}"] = TotalVariation(weight, weight)
    pairs = ((0.1, 0.016), (0.2, 0.008), (0.3, 0.006)), ((0.4, 0.015), (0.6, 0.01), (1.0, 0.008))
    for pull, cut in pairs[0 if low else 1]:
        found[f"wavelets {pull:g} {cut:g}"] = WaveletPrior(cut, cut, pull, pull)
    return found


def compare(found: Sequence[Tensor], sigma: float, side: int = 192) -> dict[str, float]:
    """Mean PSNR of each candidate on the middles of the held pictures."""
    clean, b, symbols, noise = held_out(found, sigma, side)
    return {
        name: float(score(method.restore(b, symbols, noise), clean).mean())
        for name, method in candidates(sigma).items()
    }


def main(folder: Path) -> None:
    """Everything again; ten minutes on one core."""
    held, others = pictures(held=True), pictures(held=False)
    print("spectrum", fit_spectrum([middle(image, 256) for image in others]))
    for sigma in LEVELS:
        print(sigma, compare(held, sigma))
    mixture = fit_mixture()
    kept = {"weights": mixture.weights, "covariances": mixture.covariances}
    save_weights(kept, folder / "deconvolution-classical.full.epll.safetensors")
    torch.manual_seed(0)
    net = train_network(FDN(), others, steps=300, say=print)
    save_weights(net, folder / "deconvolution-classical.full.fdn.safetensors")


if __name__ == "__main__":
    main(Path("runs") / "deconvolution-classical.full")
