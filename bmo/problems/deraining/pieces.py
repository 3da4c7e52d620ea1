r"""The parts of the experiment that can be computed, kept and resumed on their own.

Book: chapter 12. layers (synthetic rain) → guide (the free network alone, one for all methods) →
trained (one for each method: the whole :math:`\omega`, by Algorithm 1) → measured on the tables
and on the convergence cases. Every part is a function of the settings alone; a training that runs
out of time leaves a checkpoint, and the next call goes on from there.
"""

from __future__ import annotations

import time
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import Any

from safetensors import torch as safetensors
from torch import Generator, Tensor

from bmo import train
from bmo.errors import TrainingError
from bmo.files import write_atomic
from bmo.problems.deraining import pictures
from bmo.problems.deraining.draws import Pairs, Weather, held_out, make_layers
from bmo.problems.deraining.measuring import converge, cost, measure_pair, worth
from bmo.problems.deraining.methods import RainRemover, build
from bmo.problems.deraining.settings import Settings
from bmo.problems.learned import adam
from bmo.problems.shelf import Part
from bmo.problems.tested import Tested
from bmo.record import load_weights, save_weights

#: What each kind of part depends on, beside what the kinds before it do.
_LAYERS = ("profile", "layers", "layer_side", "light", "strong")
_GUIDE = ("widths", "blocks", "features", "maps", "bfloat16", "side", "guide_batch", "heavy",
          "borrowed", "gain", "guide_steps", "guide_rate", "warmup", "clip",
          "held_out")  # fmt: skip
_TRAINED = ("kernel_side", "threshold", "share", "iterations", "back", "alpha", "s", "batch",
            "rain_weight", "steps", "rate", "number_rate")  # fmt: skip
_TESTED = ("side_held_out", "pairs", "cases", "crop", "depths", "case_depths")
_KEYS = {
    "layers": {*_LAYERS},
    "guide": {*_LAYERS, *_GUIDE},
    "trained": {*_LAYERS, *_GUIDE, *_TRAINED},
}
#: How the names of raw numbers end.
NUMBERS = ("raw", "numbers")
#: Seeds of the batches of the two trainings differ by this.
APART = 1


class Pieces(Tested[Settings]):
    """The parts, computed when first asked for and kept on the shelf."""

    def relevant(self, name: str, known: dict[str, Any]) -> dict[str, Any]:
        """The settings that a part depends on; of ``mu`` what is its own."""
        kind = name.split(".", 1)[0]
        keys = _KEYS.get(kind, {*_LAYERS, *_GUIDE, *_TRAINED, *_TESTED})
        found = {key: value for key, value in known.items() if key in keys}
        if kind not in ("layers", "guide"):
            found["mu"] = known.get("mu") if ".bmo" in name else 0
        return found

    @cached_property
    def pictures(self) -> pictures.Pictures:
        """The images of the profile."""
        return pictures.load(self.settings)

    @cached_property
    def weather(self) -> Weather:
        """What training pairs are drawn of."""
        started, path = time.monotonic(), self.folder / "layers.safetensors"
        if self.kept("layers") is None:

            def make() -> Part:
                write_atomic(path, safetensors.save(make_layers(self.settings)), TrainingError)
                return {}

            self.keep("layers", started, make)
        layers = safetensors.load_file(path)
        return Weather(self.pictures.train, self.pictures.real, self.settings, layers)

    @cached_property
    def held_out(self) -> dict[str, Pairs]:
        """Held-out images with synthetic rain: every choice is made on these, and on real pairs."""
        return held_out(self.pictures.held_out, self.settings)

    def fit(self, model: RainRemover, alone: bool, seed: int, folder: Path) -> list[float]:
        """Train the guide alone, or the whole; a batch depends on the seed and the step alone."""
        s = self.settings
        steps, rate = (s.guide_steps, s.guide_rate) if alone else (s.steps, s.rate)
        batch = s.guide_batch if alone else s.batch
        plan = train.Plan(steps, rate, seed, min(s.warmup, steps // 10), clip=s.clip, every=50)

        def sample(draws: Generator) -> Pairs:
            return Pairs(*(t.to(self.device) for t in self.weather.draw(batch, draws)))

        return train.train(
            model,
            model.guide_loss if alone else model.loss,
            sample,
            plan,
            folder,
            self.resume,
            adam(model, rate, rate if alone else s.number_rate, NUMBERS),
            progress=self.progress,
            label=f"{'guide' if alone else model.name} seed {seed}",
            deadline=self.deadline,
        )

    def guide(self, seed: int) -> Part:
        """The free network, trained alone on the reference; every method starts from it."""
        name = f"guide.seed{seed}"
        part = self.kept(name)
        if part is not None:
            return part
        started = time.monotonic()
        model = build("bmo", self.settings, seed).to(self.device)
        losses = self.fit(model, True, seed, self.folder / name)

        def make() -> Part:
            path = self.folder / f"{name}.safetensors"
            digest = save_weights(model.guide, path)
            return {"losses": losses, "weights": digest, "held_out": self.worth(model, 0)}

        return self.keep(name, started, make)

    def worth(self, model: RainRemover, depth: int) -> dict[str, float]:
        """Mean PSNR on held-out images: synthetic rain of each kind, and real pairs."""
        sets = {k: list(zip(p.rainy, p.clean, strict=True)) for k, p in self.held_out.items()}
        if self.pictures.real_held_out:
            sets["real"] = self.pictures.real_held_out
        return {kind: worth(model, pairs, depth) for kind, pairs in sets.items()}

    def trained(self, method: str, seed: int) -> tuple[RainRemover, Part]:
        """A trained method: the guide alone, then the whole by Algorithm 1."""
        name = f"trained.{method}.seed{seed}"
        part, model = self.kept(name), build(method, self.settings, seed).to(self.device)
        path = self.folder / f"{name}.safetensors"
        if part is None:
            before, started = self.guide(seed), time.monotonic()
            own = self.folder / f"guide.seed{seed}.safetensors"
            model.guide.load_state_dict(load_weights(own, before["weights"]))
            losses = self.fit(model, False, seed + APART, self.folder / name)
            seconds = before["seconds"] + time.monotonic() - started

            def make() -> Part:
                count = sum(p.numel() for p in model.parameters())
                return {
                    "losses": losses,
                    "guide_losses": before["losses"],
                    "guide_held_out": before["held_out"],
                    "held_out": self.worth(model, self.settings.iterations),
                    "weights": save_weights(model.learned(), path),
                    "parameters": count,
                    "training_seconds": seconds,
                }

            part = self.keep(name, started, make)
        model.take(load_weights(path, part["weights"]))
        return model, part

    def tables(self, model: RainRemover) -> Part:
        """Every test pair at the depths of the tables: set → number → metric → values."""
        s = self.settings
        sets: dict[str, dict[str, Any]] = {}
        for dataset, number, rainy, clean in pictures.test_pairs(s):
            found = measure_pair(model, rainy, clean, s.depths)
            sets.setdefault(dataset, {})[str(number)] = found
        every = [one["psnr_y"] for found in sets.values() for one in found.values()]
        means = [sum(values) / len(every) for values in zip(*every, strict=True)]
        return {"sets": sets, "psnr": means, "cost": cost(model, rainy)}

    def cases(self, model: RainRemover) -> dict[str, dict[str, Any]]:
        """PSNR and residual on crops of test images: set → number of the pair → its run."""
        s = self.settings
        chosen = replace(s, pairs=s.cases)
        sets: dict[str, list[tuple[int, Tensor, Tensor]]] = {}
        for dataset, number, rainy, clean in pictures.test_pairs(chosen):
            sets.setdefault(dataset, []).append((number, rainy, clean))
        return {
            dataset: {
                str(number): run
                for (number, *_), run in zip(
                    found,
                    converge(model, [p[1:] for p in found], s.crop, s.case_depths),
                    strict=True,
                )
            }
            for dataset, found in sets.items()
        }
