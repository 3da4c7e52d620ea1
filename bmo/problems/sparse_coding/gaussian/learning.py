r"""What is chosen and what is learned in the bench, as parts that are kept and resumed.

Book: chapter 10. Choices (one for each noise level) → learning rate (one for each level and learned
method) → training (one for each level, method and seed).
"""

from __future__ import annotations

import copy
import time
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from bmo import train
from bmo.errors import TrainingError
from bmo.problems.shelf import Shelf
from bmo.problems.sparse_coding.gaussian.classical import choose
from bmo.problems.sparse_coding.gaussian.draws import (
    Data,
    gaussian_dictionary,
    held_out,
    observe,
)
from bmo.problems.sparse_coding.gaussian.measuring import ENDLESS, validation_nmse
from bmo.problems.sparse_coding.gaussian.methods import Contender, build
from bmo.problems.sparse_coding.gaussian.networks import Network, network
from bmo.problems.sparse_coding.gaussian.settings import (
    CERTIFIED,
    DEEP,
    LEVELS,
    NETWORKS,
    PILOTED,
    Settings,
)

#: What a part does not depend on: which other parts there are, and how they are tested.
_CHOICES = ("profile", "rows", "atoms", "density", "iterations", "validation", "tuned", "double",
            "penalties", "scales", "relaxations", "ratios", "lengths")  # fmt: skip
_TRAINING = ("alpha", "proximal", "mu", "s", "p", "steps", "batch", "rates", "number_rate",
             "search_steps", "warmup")  # fmt: skip
_NETWORKS = ("percent", "most", "evaluations", "clip")


class Learning(Shelf[Settings]):
    """Choices, learning rates and trainings; made when first asked for."""

    def relevant(self, name: str, known: dict[str, Any]) -> dict[str, Any]:
        """The settings that a part depends on; of ``mu``, ``s`` and ``alpha`` its own entry."""
        keys = {*_CHOICES}
        parts = name.split(".")
        keys |= {"smaller"} if "noiseless" in parts else set()
        method = next((p for p in parts if p in CERTIFIED or p.startswith("ena-")), "")
        if method:
            keys |= {*_TRAINING, *(_NETWORKS if method in NETWORKS else ())}
            keys |= {"pilot"} if method in PILOTED else {"deeper"} if method in DEEP else set()
        if parts[0] not in ("choices", "rate"):
            keys |= {"test", "shifted", "shift_levels", "shift_densities", "perturbations",
                     "depths", "resolution"}  # fmt: skip
        if parts[0] == "costs":
            keys |= {"targets", "raced"}
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
            s, data = self.settings, self.held_out(noise)
            part = self.keep(name, started, lambda: {"chosen": choose(A, data, s, noise)})
        return dict(part["chosen"])

    def model(self, noise: str, method: str) -> Contender | Network:
        """A fresh model of a learned method, at its start (the same for every seed)."""
        start = {name: found["nmse"] for name, found in self.choices(noise).items()}
        A = self.dictionary.to(self.dtype)
        if method in NETWORKS:
            return network(method, A, start, noise, self.settings)
        return build(method, A, start, self.settings)

    def fit(
        self,
        noise: str,
        method: str,
        seed: int,
        rate: float,
        steps: int,
        folder: Path | None,
        resume: bool = False,
    ) -> tuple[Contender | Network, list[float]]:
        """Hyper-train; the codes depend on the noise level, the seed and the step alone."""
        free = method in NETWORKS
        model, s, A = self.model(noise, method), self.settings, self.dictionary.to(self.dtype)

        def sample(generator: torch.Generator) -> tuple[Tensor, Tensor]:
            fresh = observe(A, s.batch, s.density, LEVELS[noise], generator)
            return fresh.codes, fresh.observed

        clip = s.clip if free else None
        plan = train.Plan(steps, rate, seed=seed, warmup=min(s.warmup, steps // 2), clip=clip)
        label = f"{noise} {method} seed {seed} rate {rate:g}"
        losses = train.train(
            model,
            model.loss,
            sample,
            plan,
            folder,
            self.resume or resume,
            optimizer(model, rate, rate if free else s.number_rate),
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
                scores[rate] = self.tried(noise, method, rate, data)
            best = min(scores, key=lambda r: scores[r])
            tried = {f"{r:g}": v for r, v in scores.items()}
            part = self.keep(name, started, lambda: {"rate": best, "tried": tried})
        return part

    def tried(self, noise: str, method: str, rate: float, data: Data) -> float:
        """The held-out error after a short run; a network may be lost at a high rate."""
        try:
            model, _ = self.fit(noise, method, 0, rate, self.settings.search_steps, None)
        except TrainingError as problem:
            if problem.required != train.FINITE:
                raise
            return ENDLESS
        return held_out_error(model, data)

    def trained(
        self, noise: str, method: str, seed: int, resume: bool = False
    ) -> tuple[Contender | Network, list[float], float]:
        """Hyper-train at the rate that was chosen; return that rate, too.

        A network that is lost in the long training, or ends it behind its own short run, has taken
        too high a rate. It takes the next best one.
        """
        name, part = f"{noise}.{method}.seed{seed}", self.rate(noise, method)
        scores = {float(rate): score for rate, score in part["tried"].items()}
        rates = sorted(scores, key=lambda rate: scores[rate])[: None if method in NETWORKS else 1]
        steps, data = self.settings.steps, self.held_out(noise)
        for rate in rates:
            folder = self.folder / (name if rate == rates[0] else f"{name}.rate{rate:g}")
            try:
                model, losses = self.fit(noise, method, seed, rate, steps, folder, resume)
            except TrainingError as problem:
                if problem.required != train.FINITE or rate == rates[-1]:
                    raise
                continue
            if rate == rates[-1] or held_out_error(model, data) <= scores[rate]:
                break
        return model, losses, rate


def held_out_error(model: Contender | Network, data: Data) -> float:
    """NMSE in dB at the trained depth, in float64; the model stays as it is."""
    net = copy.deepcopy(model).double().net
    return validation_nmse(net, data, net.depth)


def optimizer(model: torch.nn.Module, rate: float, number_rate: float) -> torch.optim.Adam:
    """Adam with one rate for matrices and another for raw numbers, which have the size of one."""
    learned = [p for p in model.parameters() if p.requires_grad]
    matrices = [p for p in learned if p.dim() > 1]
    numbers = [p for p in learned if p.dim() < 2]
    groups = [{"params": matrices, "lr": rate}, {"params": numbers, "lr": number_rate}]
    return torch.optim.Adam([group for group in groups if group["params"]])
