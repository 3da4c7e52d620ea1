r"""The parts of the bench that can be computed, kept and resumed on their own.

Book: chapter 10. What is chosen and learned is in
:mod:`~bmo.problems.sparse_coding.gaussian.learning`; here it is measured (one part for each noise
level, method and seed). Every part is a function of the settings alone, so parts may be computed by
several processes, in any order.
"""

from __future__ import annotations

import time
from typing import Any

from bmo.baselines import Unrolled
from bmo.problems.shelf import Part
from bmo.problems.sparse_coding.gaussian.classical import RULES, classical_method
from bmo.problems.sparse_coding.gaussian.draws import evaluation_sets
from bmo.problems.sparse_coding.gaussian.learning import Learning
from bmo.problems.sparse_coding.gaussian.measuring import measure, validation_nmse
from bmo.problems.sparse_coding.gaussian.methods import Contender
from bmo.problems.sparse_coding.gaussian.networks import Network
from bmo.problems.sparse_coding.gaussian.settings import CLASSICAL
from bmo.record import save_weights

#: More learned numbers than this are not carried in the repository, but kept in the folder alone.
MANY = 1_000_000


class Pieces(Learning):
    """The parts, computed when first asked for and kept on the shelf."""

    def result(self, noise: str, method: str, seed: int) -> dict[str, Any]:
        """One trained and measured method."""
        name = f"{noise}.{method}.seed{seed}"
        part = self.kept(name)
        if part is not None:
            return part
        if method in CLASSICAL:
            chosen, started = self.choices(noise)[method], time.monotonic()
            return self.keep(name, started, lambda: self.frozen(noise, method, chosen))
        self.rate(noise, method)
        started = time.monotonic()
        model, losses, rate = self.trained(noise, method, seed)
        seconds = time.monotonic() - started
        trained = {"losses": losses, "training_seconds": seconds, "rate": rate}
        shifts = seed == self.settings.seeds[0]
        return self.keep(
            name, started, lambda: {**self.measured(name, model, noise, shifts), **trained}
        )

    def classical(self, method: str, chosen: dict[str, Any]) -> Unrolled:
        """A classical method with its frozen numbers."""
        return classical_method(method, self.dictionary, chosen, self.settings.iterations)

    def frozen(self, noise: str, method: str, chosen: dict[str, Any]) -> Part:
        """A classical method with its frozen numbers, once for each rule of choice."""
        runs = {}
        for rule in RULES:
            net = self.classical(method, chosen[rule])
            runs[rule] = {"sets": self.test(net, noise, True), "products": net.products}
        return {"rules": runs, "parameters": 0}

    def measured(self, name: str, model: Contender | Network, noise: str, shifts: bool) -> Part:
        """Write what was learned; measure on held-out codes, on the test set and its shifts."""
        learned = {k: p for k, p in model.named_parameters() if p.requires_grad}
        many = sum(p.numel() for p in learned.values()) > MANY
        path = self.folder / f"{name}.safetensors"
        digest = None if many else save_weights(learned, path)
        model.double()
        found = validation_nmse(model.net, self.held_out(noise), model.net.depth)
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
