r"""The parts of the experiment that can be computed, kept and resumed on their own.

Book: chapter 11. denoiser (one for each architecture and budget) → trained (one for each method)
→ measured on the tables and on the convergence cases. Every part is a function of the settings
alone; a training that runs out of time leaves a checkpoint, and the next call goes on from there.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from bmo.problems.deconvolution.measuring import cost, mean_psnr, scores
from bmo.problems.deconvolution.methods import Deblurrer
from bmo.problems.deconvolution.pictures import test_kernels
from bmo.problems.deconvolution.referred import ReferredDeblurrer
from bmo.problems.deconvolution.remembered import Remembered
from bmo.problems.deconvolution.settings import CORRECTED, REFERRED, Settings
from bmo.problems.deconvolution.training import Training
from bmo.problems.shelf import Part
from bmo.problems.tested import Tested, drop

#: What a denoiser depends on, and what deblurring depends on beside it; the rest is testing.
_DENOISING = ("profile", "features", "blocks", "widths", "map_widths", "free_widths", "side",
              "denoising_batch", "levels", "denoising_rate", "warmup", "clip", "held_out",
              "side_held_out")  # fmt: skip
_TRAINING = ("rounds", "iterations", "deep_iterations", "back", "alpha", "s", "batch", "percents",
             "rate", "deep_rate", "number_rate")  # fmt: skip
#: What a file of restored crops depends on, beside its number.
_RESTORING = ("profile", "held_out", "percents", "correcting")
#: The same of crops with a reference, and of a loop that is trained around one.
_REFERRING = ("profile", "held_out", "referring")
_AROUND = ("profile", "held_out", "referring", "alpha", "s", "batch", "warmup", "clip")
_TESTING = ("kernel", "test_percents", "noise_seeds", "crop", "cases", "depths", "resolution")


class Pieces(Training, Tested[Settings]):
    """The parts, computed when first asked for and kept on the shelf."""

    def relevant(self, name: str, known: dict[str, Any]) -> dict[str, Any]:
        """The settings that a part depends on; of ``mu`` and ``budgets`` what is its own."""
        kind, rest = name.split(".", 1)
        if kind == "restored":
            found = {key: value for key, value in known.items() if key in _RESTORING}
            of = found.get("correcting") or {}
            return {**found, "correcting": {key: of.get(key) for key in ("count", "side")}}
        if kind == "referred":
            found = {key: value for key, value in known.items() if key in _REFERRING}
            of, own = found.get("referring") or {}, ("orders", "count", "side", "percents")
            return {**found, "referring": {key: of.get(key) for key in own}}
        method = rest.rsplit(".seed", 1)[0]
        keys = {*_DENOISING} if kind == "denoiser" else {*_DENOISING, *_TRAINING}
        keys = {*_AROUND} if method in REFERRED else keys
        keys |= {*_TESTING} if kind in ("tables", "cases") else set()
        found = {key: value for key, value in known.items() if key in keys}
        if kind != "denoiser":
            found["budget"] = budget = known.get("budgets", {}).get(method) or {}
            if method in CORRECTED:
                found["correcting"] = known.get("correcting")
            if not budget.get("deep"):
                found = {k: v for k, v in found.items() if not k.startswith("deep_")}
            found["mu"] = known.get("mu") if method.startswith("bmo") else 0
        return found

    def tables(self, model: Deblurrer) -> Part:
        """PSNR, SSIM and residual on the test images, and on held-out ones."""
        s = self.settings
        kernel = test_kernels(s)[s.kernel]
        with self.remembering(model):
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

    @contextmanager
    def remembering(self, model: Deblurrer) -> Iterator[None]:
        """Methods with one restorer share its answers on the test pictures."""
        if not isinstance(model, ReferredDeblurrer):
            yield
            return
        asked = model.restorer
        name = f"asked.{self.settings.referring.orders}"
        model.restorer = Remembered(asked, self.folder / name, self.resume)
        try:
            yield
        finally:
            model.restorer = asked

    def cases(self, model: Deblurrer) -> list[dict[str, Any]]:
        """PSNR and residual on crops of the test images: one entry for each case."""
        s, every, found = self.settings, test_kernels(self.settings), []
        for image, kernel, percent in s.cases:
            clean = self.pictures.test[image]
            top, left = ((length - s.crop) // 2 for length in clean.shape[1:])
            part = clean[:, top : top + s.crop, left : left + s.crop].contiguous()
            with self.remembering(model):
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
