r"""How time and memory are measured.

* Time is CPU time of the process, one thread. Rounds run every call once, in a shuffled order,
  between two runs of the plain forward; a round's ratio is time over the mean of these two.
  Whatever slows the machine for a while slows both.
* A figure is the median over the rounds, with the interval between two order statistics that
  holds the true median with 95 % probability, whatever the distribution.
* Memory is counted where it is allocated: the profiler of torch reports each allocation and each
  release, and the peak of their running sum is exact to the byte. On a GPU, torch's own
  counter is read.

Book: chapter 9.
"""

from __future__ import annotations

import gc
import json
import math
import random
import statistics
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch.profiler import ProfilerActivity, profile

from bmo.errors import DomainError

Call = Callable[[], Any]
Clock = Callable[[], float]
MIB = 2**20


@dataclass(frozen=True)
class Spread:
    """A median with its interval.

    Attributes:
        median: Of the values.
        low: Lower end of the interval.
        high: Upper end.
        n: Number of values.
    """

    median: float
    low: float
    high: float
    n: int

    def meets(self, target: float) -> bool:
        """Whether the interval reaches down to the target."""
        return self.low <= target


def spread(values: Sequence[float], level: float = 0.95) -> Spread:
    """The median, and the tightest pair of order statistics that holds the true one at ``level``.

    The true median lies below the j-th smallest of n values with the probability that n coins show
    fewer than j heads. At least six values are needed for 95 %.

    Raises:
        DomainError: Too few values.

    Example:
        >>> spread([1.0, 2.0, 3.0, 4.0, 5.0, 6.0])
        Spread(median=3.5, low=1.0, high=6.0, n=6)
    """
    n, ordered = len(values), sorted(values)
    cut = -1
    tail = 0.0
    while cut + 1 < n / 2:
        tail += math.comb(n, cut + 1) / 2**n
        if 2 * tail > 1 - level:
            break
        cut += 1
    if cut < 0:
        raise DomainError(f"enough rounds for {level:.0%}", f"{n}", "take six or more", n)
    return Spread(statistics.median(ordered), ordered[cut], ordered[n - 1 - cut], n)


def seconds(call: Call, clock: Clock = time.process_time) -> float:
    """CPU seconds of one call; the garbage collector runs before it, not in it."""
    gc.collect()
    was_on = gc.isenabled()
    gc.disable()
    try:
        start = clock()
        call()
        return clock() - start
    finally:
        if was_on:
            gc.enable()


def interleaved(
    base: Call,
    calls: Mapping[str, Call],
    rounds: int,
    clock: Clock = time.process_time,
    seed: int = 0,
) -> tuple[dict[str, list[float]], list[float]]:
    """Time all calls in rounds that the base opens and closes.

    Args:
        base: What the times are divided by.
        calls: By name.
        rounds: How often each runs.
        clock: Gives seconds.
        seed: Of the order in a round.

    Returns:
        The ratios by name, one for each round, and the seconds of the base, one for each round.

    Example:
        >>> ticks = iter(range(100))
        >>> found, base = interleaved(lambda: 0, {"a": lambda: 0}, 2, lambda: float(next(ticks)))
        >>> found["a"], base
        ([1.0, 1.0], [1.0, 1.0])
    """
    order, names = random.Random(seed), list(calls)
    ratios: dict[str, list[float]] = {name: [] for name in names}
    bases = []
    gc.collect()
    gc.freeze()  # what lives now is not looked at again before each call
    try:
        for _ in range(rounds):
            opening = seconds(base, clock)
            order.shuffle(names)
            times = {name: seconds(calls[name], clock) for name in names}
            bases.append((opening + seconds(base, clock)) / 2)
            for name, value in times.items():
                ratios[name].append(value / bases[-1])
    finally:
        gc.unfreeze()
    return ratios, bases


def peak_bytes(call: Call, device: torch.device | str = "cpu") -> int:
    """Largest number of bytes that torch held at one time for this call, beyond those before.

    Example:
        >>> peak_bytes(lambda: torch.empty(1000, dtype=torch.float64))
        8000
    """
    gc.collect()
    if torch.device(device).type == "cuda":
        return _cuda_peak(call)
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as run:
        call()
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "trace.json"
        run.export_chrome_trace(str(path))
        events = json.loads(path.read_text("utf-8", errors="replace"))["traceEvents"]
    return running_peak(events)


def running_peak(events: Sequence[Mapping[str, Any]]) -> int:
    """Peak of the running sum of the allocations in a trace.

    Example:
        >>> one = {"name": "[memory]", "ts": 1, "args": {"Bytes": 8, "Device Type": 0}}
        >>> running_peak([one, {**one, "ts": 2}, {**one, "ts": 3, "args": {"Bytes": -16}}])
        16
    """
    memory = [event for event in events if event.get("name") == "[memory]"]
    held = peak = 0
    for event in sorted(memory, key=lambda event: float(event["ts"])):  # ties keep their order
        held += int(event["args"]["Bytes"])
        peak = max(peak, held)
    return peak


def _cuda_peak(call: Call) -> int:
    torch.cuda.synchronize()
    before = torch.cuda.memory_allocated()
    torch.cuda.reset_peak_memory_stats()
    call()
    torch.cuda.synchronize()
    return int(torch.cuda.max_memory_allocated() - before)
