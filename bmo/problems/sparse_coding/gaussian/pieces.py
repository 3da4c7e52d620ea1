r"""The parts of the bench that can be computed, kept and resumed on their own.

Book: chapter 10. choices (one for each noise level) → rate (one for each level and learned method)
→ trained and measured (one for each level, method and seed). Every part is a function of the
settings alone, so parts may be computed by several processes, in any order.
"""

from __future__ import annotations

import time
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from bmo import train
from bmo.baselines import Unrolled
from bmo.problems.shelf import Part, Shelf
from bmo.problems.sparse_coding.gaussian.classical import RULES, choose, classical_method
from bmo.problems.sparse_coding.gaussian.draws import (
    Data,
    evaluation_sets,
    gaussian_dictionary,
    held_out,
    observe,
)
from bmo.problems.sparse_coding.gaussian.measuring import measure, validation_nmse
from bmo.problems.sparse_coding.gaussian.methods import Contender, build
from bmo.problems.sparse_coding.gaussian.settings import CERTIFIED, CLASSICAL, LEVELS, Settings
from bmo.record import save_weights

#: What a part does not depend on: which other parts there are, and how they are tested.
_CHOICES = ("profile", "rows", "atoms", "density", "iterations", "validation", "tuned", "double",
            "penalties", "scales", "relaxations", "ratios", "lengths")  # fmt: skip
_TRAINING = ("alpha", "proximal", "mu", "s", "p", "steps", "batch", "rates", "number_rate",
             "search_steps", "warmup")  # fmt: skip


class Pieces(Shelf[Settings]):
    """The parts, computed when first asked for and kept on the shelf."""

    def relevant(self, name: str, known: dict[str, Any]) -> dict[str, Any]:
        """The settings that a part depends on; of ``mu``, ``s`` and ``alpha`` its own entry."""
        keys = {*_CHOICES}
        parts = name.split(".")
        method = next((p for p in parts if p in CERTIFIED or p.startswith("ena-")), "")
        if method:
            keys |= {*_TRAINING}
        if parts[0] not in ("choices", "rate"):
            keys |= {"test", "shifted", "shift_levels", "shift_densities", "perturbations",
                     "depths", "resolution"}  # fmt: skip
        found = {key: value for key, value in known.items() if key in keys}
        for key in ("mu", "s"):
            if key in found:
                found[key] = found[key].get(method)
        if method and method not in CERTIFIED:
            found.pop("alpha", None)
        return found

    @property
    def dtype(self) -> torch.dtype:
        """The precision of training."""
        return torch.float64 if self.settings.double else torch.float32

    @cached_property
    def dictionary(self) -> Tensor:
        """A, in float64."""
        return gaussian_dictionary(self.settings.rows, self.settings.atoms)

    def held_out(self, noise: str) -> Data:
        """Held-out codes: every choice is made on these."""
        return held_out(self.dictionary, noise, self.settings)

    def choices(self, noise: str) -> dict[str, Any]:
        """What was chosen for the classical methods; the learned ones start there."""
        name = f"choices.{noise}"
        part = self.kept(name)
        if part is None:
            started, A = time.monotonic(), self.dictionary.to(self.dtype)
            part = self.keep(
                name, started, lambda: {"chosen": choose(A, self.held_out(noise), self.settings)}
            )
        return dict(part["chosen"])

    def model(self, noise: str, method: str) -> Contender:
        """A fresh model of a learned method, at its start (the same for every seed)."""
        start = {name: found["nmse"] for name, found in self.choices(noise).items()}
        return build(method, self.dictionary.to(self.dtype), start, self.settings)

    def fit(
        self, noise: str, method: str, seed: int, rate: float, steps: int, folder: Path | None
    ) -> tuple[Contender, list[float]]:
        """Hyper-train; the codes depend on the noise level, the seed and the step alone."""
        model, s, A = self.model(noise, method), self.settings, self.dictionary.to(self.dtype)

        def sample(generator: torch.Generator) -> tuple[Tensor, Tensor]:
            fresh = observe(A, s.batch, s.density, LEVELS[noise], generator)
            return fresh.codes, fresh.observed

        plan = train.Plan(steps, rate, seed=seed, warmup=min(s.warmup, steps // 2))
        label = f"{noise} {method} seed {seed} rate {rate:g}"
        losses = train.train(
            model,
            model.loss,
            sample,
            plan,
            folder,
            self.resume,
            optimizer(model, rate, s.number_rate),
            progress=self.progress,
            label=label,
        )
        return model, losses

    def rate(self, noise: str, method: str) -> dict[str, Any]:
        """The learning rate: smallest held-out error at depth K after a short run of seed 0."""
        name = f"rate.{noise}.{method}"
        part = self.kept(name)
        if part is None:
            started, s, scores = time.monotonic(), self.settings, {}
            data = self.held_out(noise)
            for rate in s.rates:
                model, _ = self.fit(noise, method, 0, rate, s.search_steps, None)
                scores[rate] = validation_nmse(model.double().net, data, s.iterations)
            best = min(scores, key=lambda r: scores[r])
            tried = {f"{r:g}": v for r, v in scores.items()}
            part = self.keep(name, started, lambda: {"rate": best, "tried": tried})
        return part

    def result(self, noise: str, method: str, seed: int) -> dict[str, Any]:
        """One trained and measured method."""
        name = f"{noise}.{method}.seed{seed}"
        part = self.kept(name)
        if part is not None:
            return part
        if method in CLASSICAL:
            chosen, started = self.choices(noise)[method], time.monotonic()
            return self.keep(name, started, lambda: self.frozen(noise, method, chosen))
        rate, started = self.rate(noise, method)["rate"], time.monotonic()
        model, losses = self.fit(noise, method, seed, rate, self.settings.steps, self.folder / name)
        trained = {"losses": losses, "training_seconds": time.monotonic() - started}
        shifts = seed == self.settings.seeds[0]
        return self.keep(
            name, started, lambda: {**self.measured(name, model, noise, shifts), **trained}
        )

    def frozen(self, noise: str, method: str, chosen: dict[str, Any]) -> Part:
        """A classical method with its frozen numbers, once for each rule of choice."""
        runs = {}
        for rule in RULES:
            net = classical_method(method, self.dictionary, chosen[rule], self.settings.iterations)
            runs[rule] = {"sets": self.test(net, noise, True), "products": net.products}
        return {"rules": runs, "parameters": 0}

    def measured(self, name: str, model: Contender, noise: str, shifts: bool) -> Part:
        """Write what was learned; measure on held-out codes, on the test set and its shifts."""
        learned = {k: p for k, p in model.named_parameters() if p.requires_grad}
        digest = save_weights(learned, self.folder / f"{name}.safetensors")
        model.double()
        found = validation_nmse(model.net, self.held_out(noise), self.settings.iterations)
        return {
            "weights": digest,
            "held_out": found,
            "sets": self.test(model.net, noise, shifts),
            "products": model.products,
            "parameters": sum(p.numel() for p in learned.values()),
        }

    def test(self, net: Unrolled, noise: str, shifts: bool) -> dict[str, Any]:
        """Measure on the test set of a level, and on its shifts, in float64."""
        s = self.settings
        sets = evaluation_sets(self.dictionary, noise, s)
        chosen = {n: d for n, d in sets.items() if shifts or n == "trained"}
        return {name: measure(net, d, s.depths, s.resolution) for name, d in chosen.items()}


def optimizer(model: torch.nn.Module, rate: float, number_rate: float) -> torch.optim.Adam:
    """Adam with one rate for matrices and another for raw numbers, which have the size of one."""
    learned = [p for p in model.parameters() if p.requires_grad]
    matrices = [p for p in learned if p.dim() > 1]
    numbers = [p for p in learned if p.dim() < 2]
    groups = [{"params": matrices, "lr": rate}, {"params": numbers, "lr": number_rate}]
    return torch.optim.Adam([group for group in groups if group["params"]])
