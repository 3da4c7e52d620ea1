"""Deterministic costs: bytes alive at a time, and operations, of any piece of torch code."""

from __future__ import annotations

import weakref
from collections import Counter
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode


class Cost(TorchDispatchMode):
    """Counts operations, and the bytes of all tensors made inside that are still alive.

    Attributes:
        peak: The most bytes that were alive at a time.
        alive: Those that are alive now.
        operations: How often each operation ran.
        products: Multiplications in matrix products.
    """

    def __init__(self) -> None:
        super().__init__()
        self.alive = self.peak = self.products = 0
        self.operations: Counter[str] = Counter()
        self._seen: set[int] = set()

    def __torch_dispatch__(
        self, func: Any, types: Any, args: Any = (), kwargs: Any = None
    ) -> Any:  # fmt: skip
        out = func(*args, **(kwargs or {}))
        name = func.overloadpacket.__name__
        self.operations[name] += 1
        if name in ("mm", "mv", "addmm", "addmv", "addmm_"):
            left, right = [a for a in args if isinstance(a, Tensor)][-2:]
            self.products += left.numel() * (right.shape[-1] if right.dim() == 2 else 1)
        for t in out if isinstance(out, (tuple, list)) else (out,):
            if isinstance(t, Tensor):
                self._note(t)
        return out

    def _note(self, t: Tensor) -> None:
        storage = t.untyped_storage()
        key, size = id(storage), storage.nbytes()
        if key in self._seen:
            return
        self._seen.add(key)
        self.alive += size
        self.peak = max(self.peak, self.alive)
        weakref.finalize(storage, self._forget, key, size)

    def _forget(self, key: int, size: int) -> None:
        self._seen.discard(key)
        self.alive -= size


def slope(x: list[int], y: list[int]) -> float:
    """The slope of y over x in log-log, by least squares."""
    logs = torch.tensor([x, y], dtype=torch.float64).log()
    a, b = logs - logs.mean(-1, keepdim=True)
    return float((a * b).sum() / (a * a).sum())
