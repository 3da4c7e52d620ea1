"""Parts of an experiment that trains its methods first: each method on tables and on cases.

Book: chapters 11 and 12. The tables hold what is compared. The cases are run far past the trained
depth, to see whether a method converges.
"""

from __future__ import annotations

import time
from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any

from bmo.problems.shelf import AnySettings, Part, Shelf


class Tested(Shelf[AnySettings], ABC):
    """Parts ``tables.<method>.seed<seed>`` and ``cases.<method>.seed<seed>``.

    Subclasses give ``trained(method, seed)``, ``tables(model)`` and ``cases(model)``.
    """

    @abstractmethod
    def trained(self, method: str, seed: int) -> tuple[Any, Part]:
        """A trained method, and what is known of its training."""

    @abstractmethod
    def tables(self, model: Any) -> Part:
        """What is measured for the tables."""

    @abstractmethod
    def cases(self, model: Any) -> Any:
        """What is measured on the convergence cases."""

    def result(self, noise: str, method: str, seed: int) -> Part:
        """One trained method, measured for the tables."""
        name = f"tables.{method}.seed{seed}"
        part = self.kept(name)
        if part is None:
            (model, about), started = self.trained(method, seed), time.monotonic()
            own = {k: v for k, v in about.items() if k not in ("settings", "seconds")}
            part = self.keep(name, started, lambda: {**own, **self.tables(model)})
        return part

    def converged(self, method: str, seed: int) -> Part:
        """The same far past the trained depth, on the convergence cases."""
        name = f"cases.{method}.seed{seed}"
        part = self.kept(name)
        if part is None:
            (model, _), started = self.trained(method, seed), time.monotonic()
            part = self.keep(name, started, lambda: {"cases": self.cases(model)})
        return part


def drop(values: Sequence[float]) -> float:
    """How far the last PSNR lies below the best one, in dB.

    Example:
        >>> drop([20.0, 31.5, 31.0])
        0.5
    """
    return max(values) - values[-1]
