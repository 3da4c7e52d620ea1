r"""How the methods are trained: denoisers, then deblurring, each a part that can be resumed.

Book: chapter 11. A batch depends on the seed and the step alone.
"""

from __future__ import annotations

import itertools
import time
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from torch import Generator, Tensor

from bmo import train
from bmo.problems.deconvolution import restored
from bmo.problems.deconvolution.budgets import Correcting, Referring
from bmo.problems.deconvolution.building import build
from bmo.problems.deconvolution.corrected import CorrectedDeblurrer
from bmo.problems.deconvolution.draws import ImageBank, Pairs, blurred, held_out, noisy, spread
from bmo.problems.deconvolution.measuring import mean_psnr
from bmo.problems.deconvolution.methods import Deblurrer
from bmo.problems.deconvolution.pictures import Pictures, load
from bmo.problems.deconvolution.referred import ReferredDeblurrer
from bmo.problems.deconvolution.restorer import Restorer
from bmo.problems.deconvolution.settings import Settings
from bmo.problems.learned import adam
from bmo.problems.shelf import Part, Shelf
from bmo.record import load_weights, save_weights

#: How the names of raw numbers end.
NUMBERS = ("raw", "exponent")
#: Seed of the first file of restored crops: those to be corrected, and those to be referred to.
RESTORED = {"restored": 2**41, "referred": 2**42}


class Training(Shelf[Settings]):
    """The parts up to the trained methods, computed when first asked for and kept on the shelf."""

    @cached_property
    def pictures(self) -> Pictures:
        """The images of the profile."""
        return load(self.settings)

    @cached_property
    def bank(self) -> ImageBank:
        """What training patches are drawn of."""
        return ImageBank(self.pictures.train, self.settings.side)

    @cached_property
    def held_out(self) -> Pairs:
        """Held-out images, blurred by random kernels: every choice is made on these."""
        s = self.settings
        return held_out(self.pictures.held_out, s.side_held_out, s.test_percents)

    def to_device(self, *tensors: Tensor) -> Any:
        """The tensors where they are computed with."""
        return tuple(t.to(self.device) for t in tensors)

    def fit(self, model: Deblurrer, what: str, steps: int, seed: int, folder: Path) -> list[float]:
        """Train on denoising or on deblurring; a batch depends on the seed and the step alone."""
        s, denoising = self.settings, what == "denoising"
        rate = {"denoising": s.denoising_rate, "deblurring": s.rate, "deepening": s.deep_rate}[what]
        numbers = rate if denoising else s.number_rate * rate / s.rate
        if isinstance(model, ReferredDeblurrer):
            rate, numbers = s.referring.rate, s.referring.number_rate
        if what == "deepening":
            model.iterations = s.deep_iterations
        plan = train.Plan(steps, rate, seed, min(s.warmup, steps // 2), clip=s.clip, every=50)
        return train.train(
            model,
            model.denoising_loss if denoising else model.loss,
            self.noisy_patches if denoising else self.sampler(model),
            plan,
            folder,
            self.resume,
            adam(model, rate, numbers, NUMBERS),
            progress=self.progress,
            label=f"{what} {model.name} seed {seed}",
            deadline=self.deadline,
        )

    def noisy_patches(self, draws: Generator) -> tuple[Tensor, Tensor, Tensor]:
        """A batch of denoising: clean and noisy patches, and their levels."""
        clean = self.bank.draw(self.settings.denoising_batch, draws)
        level = spread(len(clean), *self.settings.levels, draws)
        clean, noise, level = self.to_device(clean, noisy(clean, level, draws), level)
        return clean, noise, level

    def blurred_patches(self, draws: Generator) -> Pairs:
        """A batch of deblurring."""
        clean = self.bank.draw(self.settings.batch, draws)
        low, high = (p / 100 for p in self.settings.percents)
        return Pairs(*self.to_device(*blurred(clean, spread(len(clean), low, high, draws), draws)))

    def sampler(self, model: Deblurrer) -> train.Sample:
        """What a method learns deblurring from."""
        if not isinstance(model, CorrectedDeblurrer | ReferredDeblurrer):
            return self.blurred_patches
        kind = "restored" if isinstance(model, CorrectedDeblurrer) else "referred"
        known = self.restorations(model.restorer, kind)
        return lambda draws: self.to_device(*restored.draw(known, self.settings.batch, draws))

    def restorations(self, restorer: Restorer, kind: str = "restored") -> dict[str, Tensor]:
        """All restored crops; they are made file by file where they are not there yet."""
        of: Correcting | Referring = self.settings.correcting
        levels = self.settings.percents
        if kind == "referred":
            of = self.settings.referring
            levels = of.percents
        found = [self.restored(f"{kind}.{n}", restorer, of, levels) for n in range(of.parts)]
        return {key: torch.cat([one[key] for one in found]) for key in found[0]}

    def restored(
        self,
        name: str,
        restorer: Restorer,
        of: Correcting | Referring,
        percents: tuple[float, float],
    ) -> dict[str, Tensor]:
        """One file of restored crops."""
        started, (kind, number) = time.monotonic(), name.split(".")
        path, part = self.folder / f"{name}.safetensors", self.kept(name)
        if part is None:
            if self.deadline is not None and started > self.deadline:
                raise train.OutOfTime(f"{name}: not begun")
            bank = ImageBank(self.pictures.train, of.side)
            draws = Generator().manual_seed(RESTORED[kind] + int(number))
            levels = (percents[0] / 100, percents[1] / 100)
            made = restored.make(bank, of.count, levels, restorer, draws)
            part = self.keep(name, started, lambda: {"weights": save_weights(made, path)})
        return load_weights(path, part["weights"])

    def denoiser(self, method: str, seed: int) -> Part:
        """A network trained on denoising alone; methods of one architecture and budget share it."""
        kind = {"ena": "free", "bmo-blind": "blind", "bmo-free": "unet"}.get(method, "centred")
        steps = self.settings.budgets[method].denoising
        name = f"denoiser.{kind}.{steps}.seed{seed}"
        part = self.kept(name)
        if part is not None:
            return part
        started, model = time.monotonic(), build(method, self.settings, seed).to(self.device)
        losses = self.fit(model, "denoising", steps, seed, self.folder / name)

        def make() -> Part:
            digest = save_weights(model.denoiser, self.folder / f"{name}.safetensors")
            return {"losses": losses, "weights": digest, "file": f"{name}.safetensors"}

        return self.keep(name, started, make)

    def before(self, model: Deblurrer, method: str, seed: int) -> Part:
        """Give the model its denoiser, if it has one that was trained; what that took."""
        if not self.settings.budgets[method].denoising:
            return {"seconds": 0.0, "losses": []}
        part = self.denoiser(method, seed)
        model.denoiser.load_state_dict(load_weights(self.folder / part["file"], part["weights"]))
        return part

    def trained(self, method: str, seed: int) -> tuple[Deblurrer, Part]:
        """A trained method: its denoiser, then deblurring (``pnp``: a few chosen numbers)."""
        name = f"trained.{method}.seed{seed}"
        part, model = self.kept(name), build(method, self.settings, seed).to(self.device)
        if part is None:
            before, started = self.before(model, method, seed), time.monotonic()
            losses, chosen = self.hyper_train(model, method, seed), {}
            if not losses:
                chosen = self.choose(model)
            seconds = before["seconds"] + time.monotonic() - started

            def make() -> Part:
                digest = save_weights(model.learned(), self.folder / f"{name}.safetensors")
                own = {"losses": losses, "denoising": before["losses"], "chosen": chosen}
                count = sum(p.numel() for p in model.parameters())
                return {**own, "weights": digest, "parameters": count, "training_seconds": seconds}

            part = self.keep(name, started, make)
        model.take(load_weights(self.folder / f"{name}.safetensors", part["weights"]))
        return model, part

    def hyper_train(self, model: Deblurrer, method: str, seed: int) -> list[float]:
        """Deblurring at depth K, then (where the budget says so) near the fixed point."""
        budget, name = self.settings.budgets[method], f"trained.{method}.seed{seed}"
        losses: list[float] = []
        for what, steps in (("deblurring", budget.steps), ("deepening", budget.deep)):
            if steps:
                folder = self.folder / (name if what == "deblurring" else f"{name}.deep")
                draws = seed + (1 if what == "deblurring" else 2)
                if what == "deepening":
                    model.quicken()
                losses += self.fit(model, what, steps, draws, folder)
        if isinstance(model, CorrectedDeblurrer):
            model.quicken()
        return losses

    @torch.no_grad()
    def choose(self, model: Deblurrer) -> dict[str, float]:
        """The numbers of plug-and-play that are best after K steps on held-out images."""
        clean, *given = self.to_device(*self.held_out)
        best: dict[str, float] = {"psnr": -float("inf")}
        for first, last, ratio in itertools.product(*self.settings.grid):
            numbers = {"first": first, "last": last, "ratio": ratio}
            model.set_numbers(**numbers)
            score = mean_psnr(model.restore(*given), clean)
            if score > best["psnr"]:
                best = {"psnr": score, **numbers}
        model.set_numbers(**{k: v for k, v in best.items() if k != "psnr"})
        return best
