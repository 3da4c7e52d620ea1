r"""The parts of the experiment that can be computed, kept and resumed on their own.

Book: chapter 11. denoiser (one for each architecture and budget) → trained (one for each method)
→ measured on the tables and on the convergence cases. Every part is a function of the settings
alone; a training that runs out of time leaves a checkpoint, and the next call goes on from there.
"""

from __future__ import annotations

import itertools
import time
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from torch import Generator, Tensor, nn

from bmo import train
from bmo.problems.deconvolution.draws import ImageBank, Pairs, blurred, held_out, noisy, spread
from bmo.problems.deconvolution.measuring import cost, drop, mean_psnr, scores
from bmo.problems.deconvolution.methods import Deblurrer, build
from bmo.problems.deconvolution.pictures import Pictures, load, test_kernels
from bmo.problems.deconvolution.settings import Settings
from bmo.problems.shelf import Part, Shelf
from bmo.record import load_weights, save_weights

#: What a denoiser depends on, and what deblurring depends on beside it; the rest is testing.
_DENOISING = ("profile", "features", "blocks", "widths", "map_widths", "free_widths", "side",
              "denoising_batch", "levels", "denoising_rate", "warmup", "clip", "held_out",
              "side_held_out")  # fmt: skip
_TRAINING = ("rounds", "iterations", "deep_iterations", "back", "alpha", "s", "batch", "percents",
             "rate", "deep_rate", "number_rate")  # fmt: skip
_TESTING = ("kernel", "test_percents", "noise_seeds", "crop", "cases", "depths", "resolution")


class Pieces(Shelf[Settings]):
    """The parts, computed when first asked for and kept on the shelf."""

    def relevant(self, name: str, known: dict[str, Any]) -> dict[str, Any]:
        """The settings that a part depends on; of ``mu`` and ``budgets`` what is its own."""
        kind, rest = name.split(".", 1)
        keys = {*_DENOISING} if kind == "denoiser" else {*_DENOISING, *_TRAINING}
        keys |= {*_TESTING} if kind in ("tables", "cases") else set()
        found = {key: value for key, value in known.items() if key in keys}
        if kind != "denoiser":
            method = rest.rsplit(".seed", 1)[0]
            found["budget"] = budget = known.get("budgets", {}).get(method) or {}
            if not budget.get("deep"):
                found = {k: v for k, v in found.items() if not k.startswith("deep_")}
            found["mu"] = known.get("mu") if method.startswith("bmo") else 0
        return found

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
        model.iterations = s.deep_iterations if what == "deepening" else s.iterations
        plan = train.Plan(steps, rate, seed, min(s.warmup, steps // 2), clip=s.clip, every=50)
        return train.train(
            model,
            model.denoising_loss if denoising else model.loss,
            self.noisy_patches if denoising else self.blurred_patches,
            plan,
            folder,
            self.resume,
            optimizer(model, rate, numbers),
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

    def trained(self, method: str, seed: int) -> tuple[Deblurrer, Part]:
        """A trained method: its denoiser, then deblurring (``pnp``: a few chosen numbers)."""
        name = f"trained.{method}.seed{seed}"
        part, model = self.kept(name), build(method, self.settings, seed).to(self.device)
        if part is None:
            before, started = self.denoiser(method, seed), time.monotonic()
            model.denoiser.load_state_dict(
                load_weights(self.folder / before["file"], before["weights"])
            )
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

    def result(self, noise: str, method: str, seed: int) -> Part:
        """One trained method, measured on the tables and on the convergence cases."""
        name = f"tables.{method}.seed{seed}"
        part = self.kept(name)
        if part is None:
            (model, about), started = self.trained(method, seed), time.monotonic()
            own = {k: v for k, v in about.items() if k not in ("settings", "seconds")}
            part = self.keep(name, started, lambda: {**own, **self.tables(model)})
        return part

    def tables(self, model: Deblurrer) -> Part:
        """PSNR, SSIM and residual on the test images, and on held-out ones."""
        s = self.settings
        kernel = test_kernels(s)[s.kernel]
        cells = {
            f"{image}/{percent:g}": scores(
                model, clean, kernel, percent, s.noise_seeds, s.depths, s.resolution
            )
            for image, clean in self.pictures.test.items()
            for percent in s.test_percents
        }
        clean, *given = self.to_device(*self.held_out)
        means = [[_mean(cell["psnr"], d) for cell in cells.values()] for d in range(len(s.depths))]
        return {
            "cells": cells,
            "psnr": [sum(values) / len(values) for values in means],
            "held_out": mean_psnr(model.restore(*given), clean),
            "cost": cost(model, given),
        }

    def converged(self, method: str, seed: int) -> Part:
        """PSNR and residual on every convergence case, on crops of the test images."""
        name = f"cases.{method}.seed{seed}"
        part = self.kept(name)
        if part is None:
            (model, _), started = self.trained(method, seed), time.monotonic()
            part = self.keep(name, started, lambda: {"cases": self.cases(model)})
        return part

    def cases(self, model: Deblurrer) -> list[dict[str, Any]]:
        """One entry for each case."""
        s, every, found = self.settings, test_kernels(self.settings), []
        for image, kernel, percent in s.cases:
            clean = self.pictures.test[image]
            top, left = ((length - s.crop) // 2 for length in clean.shape[1:])
            part = clean[:, top : top + s.crop, left : left + s.crop].contiguous()
            run = scores(
                model, part, every[kernel], percent, s.noise_seeds[:1], s.depths, s.resolution
            )
            one = {key: run[key][0] for key in ("psnr", "residual")}
            case = {"image": image, "kernel": kernel, "percent": percent}
            found.append({**case, **one, "diverged": run["diverged"], "drop": drop(one["psnr"])})
        return found


def _mean(runs: list[list[float]], depth: int) -> float:
    """The mean over noise seeds at one depth."""
    return sum(run[depth] for run in runs) / len(runs)


def optimizer(model: nn.Module, rate: float, number_rate: float) -> torch.optim.Adam:
    """Adam with one rate for networks and another for raw numbers, which have the size of one."""
    numbers: list[nn.Parameter] = []
    weights: list[nn.Parameter] = []
    for name, p in model.named_parameters():
        if p.requires_grad:
            (numbers if name.endswith(("raw", "exponent")) else weights).append(p)
    groups = [{"params": weights, "lr": rate}, {"params": numbers, "lr": number_rate}]
    return torch.optim.Adam(groups)
