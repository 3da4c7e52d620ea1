r"""The parts of the experiment that can be computed, kept and resumed on their own.

Book: chapter 10. dictionary → start (one for each noise) → rate (one for each noise and method)
→ trained and measured (one for each noise, method and seed). Every part is a function of the
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
from bmo.baselines.unrolled import TiedLISTA
from bmo.problems.shelf import Part, Shelf
from bmo.problems.sparse_coding.dictionary import flatten_spectrum, learn_dictionary
from bmo.problems.sparse_coding.measuring import exact_residuals, measure, noisy_images, patch_psnr
from bmo.problems.sparse_coding.model import Coder, Restorer, stacked
from bmo.problems.sparse_coding.noise import corrupt
from bmo.problems.sparse_coding.patches import cut
from bmo.problems.sparse_coding.pictures import Pictures, load
from bmo.problems.sparse_coding.settings import Settings
from bmo.record import load_weights, save_weights
from bmo.schedules import schedule

_VALIDATION_SEED = 77


class Pieces(Shelf[Settings]):
    """The parts, computed when first asked for and kept on the shelf."""

    def relevant(self, name: str, known: dict[str, Any]) -> dict[str, Any]:
        """The settings that a part depends on: not which others there are, nor another's mu."""
        others = {"noises", "methods", "seeds"} | (set() if "bmo" in name else {"mu", "s", "p"})
        if name.startswith(("dictionary", "start")) or "unh" in name:
            others |= {"alpha", "ridge", "steps", "batch", "rates", "search_steps", "warmup"}
        return {key: value for key, value in known.items() if key not in others}

    @cached_property
    def pictures(self) -> Pictures:
        """The images of the profile."""
        return load(self.settings)

    @cached_property
    def dictionary(self) -> Tensor:
        """The dictionary that every method starts from."""
        path = self.folder / "dictionary.safetensors"
        started, s = time.monotonic(), self.settings

        def make() -> Part:
            A = learn_dictionary(self.pictures.train, s.atoms, s.dictionary_batches)
            return {"sha256": save_weights({"dictionary": A}, path)}

        part = self.kept("dictionary") or self.keep("dictionary", started, make)
        return load_weights(path, part["sha256"])["dictionary"]

    def held_out(self, noise: str) -> tuple[Tensor, Tensor]:
        """Held-out (clean, observed) patches: every choice is made on these."""
        draws = train.generator_of(_VALIDATION_SEED, 0)
        clean = self.pictures.validation.draw(self.settings.validation, draws)
        return clean, corrupt(clean, noise, draws)

    def classical(
        self, noise: str, flatten: float, penalty: float, outlier: float, ista_step: float
    ) -> Restorer:
        """ISTA (undamped), with its dictionary as decoder; nothing is learned."""
        A = flatten_spectrum(self.dictionary, flatten)
        G = stacked(A, noise, outlier)
        step = ista_step / float(torch.linalg.matrix_norm(G, 2)) ** 2
        D = Coder(G, G.new_zeros(G.shape[0]), penalty, step=step, learn=())
        return Restorer(D, A, noise, alpha=1.0, learn_decoder=False)

    def search(self, noise: str) -> dict[str, Any]:
        r"""The dictionary, :math:`\lambda`, c and step best for ISTA at depth K, held out."""
        clean, observed = self.held_out(noise)
        s, best = self.settings, {"psnr": -float("inf")}
        for flatten in s.flattens:
            for outlier in s.outliers if noise == "salt-pepper" else (1.0,):
                for penalty in s.penalties:
                    for ista_step in s.ista_steps:
                        chosen = dict(
                            flatten=flatten, penalty=penalty, outlier=outlier, ista_step=ista_step
                        )
                        model = self.classical(noise, **chosen)
                        score = patch_psnr(model, clean, observed, s.iterations)
                        if score > best["psnr"]:
                            best = {"psnr": score, **chosen}
        return best

    def start(self, noise: str) -> dict[str, Any]:
        """The chosen ISTA; the learned methods start from its dictionary, penalty and c."""
        name = f"start.{noise}"
        part = self.kept(name)
        if part is None:
            started, _ = time.monotonic(), self.dictionary  # made by all, before one goes on alone
            part = self.keep(name, started, lambda: {"chosen": self.search(noise)})
        return part

    def model(self, noise: str, method: str, seed: int = 0) -> Restorer:
        """A fresh model of a method, at its start (the same for every seed)."""
        at, s = self.start(noise)["chosen"], self.settings
        if method == "unh-ista":
            return self.classical(noise, **{k: v for k, v in at.items() if k != "psnr"})
        A = flatten_spectrum(self.dictionary, at["flatten"])
        G = stacked(A, noise, at["outlier"])
        b, longest = G.new_zeros(G.shape[0]), 2 / float(torch.linalg.matrix_norm(G, 2)) ** 2
        step = 0.999 * longest
        if method == "ena-lista":
            lista = TiedLISTA(G, b, at["penalty"], step=longest / 2)
            return Restorer(lista, A, noise, alpha=1.0, iterations=s.iterations)
        D = Coder(G, b, at["penalty"], ridge=s.ridge, step=step)
        mu = s.mu[noise] if method == "bmo" else 0.0
        return Restorer(D, A, noise, s.alpha, mu, schedule(s.s[noise], s.p), s.iterations)

    def fit(
        self, noise: str, method: str, seed: int, rate: float, steps: int, folder: Path | None
    ) -> tuple[Restorer, list[float]]:
        """Hyper-train; the batches depend on the seed and the step alone."""
        model, s = self.model(noise, method), self.settings

        def sample(generator: torch.Generator) -> tuple[Tensor, Tensor]:
            clean = self.pictures.train.draw(s.batch, generator)
            return clean, corrupt(clean, noise, generator)

        plan = train.Plan(steps, rate, seed=seed, warmup=min(s.warmup, steps // 2))
        label = f"{noise} {method} seed {seed} rate {rate:g}"
        losses = train.train(
            model,
            model.loss,
            sample,
            plan,
            folder,
            self.resume,
            progress=self.progress,
            label=label,
        )
        return model, losses

    def rate(self, noise: str, method: str) -> dict[str, Any]:
        """The learning rate: best held-out PSNR at depth K after a short run of seed 0."""
        name = f"rate.{noise}.{method}"
        part = self.kept(name)
        if part is None:
            started, s, scores = time.monotonic(), self.settings, {}
            clean, observed = self.held_out(noise)
            for rate in s.rates:
                model, _ = self.fit(noise, method, 0, rate, s.search_steps, None)
                scores[rate] = patch_psnr(model, clean, observed, s.iterations)
            best = max(scores, key=lambda r: scores[r])
            tried = {f"{r:g}": v for r, v in scores.items()}
            part = self.keep(name, started, lambda: {"rate": best, "tried": tried})
        return part

    def result(self, noise: str, method: str, seed: int) -> dict[str, Any]:
        """One trained and measured method."""
        name = f"{noise}.{method}.seed{seed}"
        part = self.kept(name)
        if part is not None:
            return part
        s, started = self.settings, time.monotonic()
        losses: list[float] = []
        if method == "unh-ista":
            model = self.model(noise, method)
        else:
            rate = self.rate(noise, method)["rate"]
            started = time.monotonic()
            model, losses = self.fit(noise, method, seed, rate, s.steps, self.folder / name)
        return self.keep(name, started, lambda: self.measured(name, model, losses, noise, seed))

    def measured(
        self, name: str, model: Restorer, losses: list[float], noise: str, seed: int
    ) -> Part:
        """Write the weights; measure on held-out and on test images."""
        weights = {k: v for k, v in model.state_dict().items() if not k.endswith("operator.b")}
        digest = save_weights(weights, self.folder / f"{name}.safetensors")
        clean, observed = self.held_out(noise)
        held_out = patch_psnr(model, clean, observed, self.settings.iterations)
        scores = self.test(model, noise, seed)
        return {"losses": losses, "weights": digest, "held_out": held_out, **scores}

    def test(self, model: Restorer, noise: str, seed: int) -> dict[str, Any]:
        """Measure on the test images; in float64 on some patches for the first seed."""
        s, clean = self.settings, self.pictures.test
        noisy = noisy_images(clean, noise, seed)
        scores = measure(model, clean, noisy, s.depths, s.stride, s.resolution, s.table_depths)
        if seed == s.seeds[0]:
            patches = torch.cat([cut(i, s.size, s.stride) for i in noisy.values()])
            some = patches[:: max(1, len(patches) // s.exact_patches)][: s.exact_patches]
            scores["residual_exact"] = exact_residuals(model, some, s.depths)
        return scores
