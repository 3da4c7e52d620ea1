"""Hypergradients of P2 over their matrix products alone: time, memory and error, on any device.

``python -m bmo bench --device cuda`` comes here. Book: chapter 9.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch

from bmo import record
from bmo.bench import measure, references
from bmo.bench.device import backend, clock_of, graphed
from bmo.bench.measure import Call, Clock
from bmo.bench.problems import Sparse
from bmo.bench.products import alone, moved
from bmo.bench.report import aligned, recorded
from bmo.bench.run import Results, Row, short, targets
from bmo.bench.ways import WAYS, Way

GOAL = "P2 over its products"


@dataclass(frozen=True)
class Size:
    """One case.

    Attributes:
        steps: K.
        batch: Signals.
        dtype: ``"float32"`` or ``"float64"``.
        m: Rows of Q.
        n: Unknowns.
    """

    steps: int
    batch: int
    dtype: str
    m: int = 250
    n: int = 500

    def problem(self, device: torch.device) -> Sparse:
        """P2 of this size on the device."""
        made = Sparse(self.steps, m=self.m, n=self.n, batch=self.batch)
        return moved(made, device, getattr(torch, self.dtype))

    def setting(self, device: torch.device) -> dict[str, str | int]:
        """How a record names it."""
        size: dict[str, str | int] = {"problem": "P2", "K": self.steps, "batch": self.batch}
        return {**size, "dtype": self.dtype, "device": device.type}


DTYPES = ("float32", "float64")
SIZES: dict[str, tuple[Size, ...]] = {
    "page": tuple(Size(16, 256, dtype) for dtype in DTYPES),
    "full": tuple(
        Size(K, batch, dtype) for dtype in DTYPES for K in (16, 64) for batch in (256, 4096, 16384)
    ),
}


def chosen_sizes(
    profile: str, depths: Sequence[int] | None, batches: Sequence[int] | None
) -> list[Size]:
    """The sizes of a profile, or those of them with these K and batches.

    Example:
        >>> [size.dtype for size in chosen_sizes("full", [64], [4096])]
        ['float32', 'float64']
    """
    return [
        size
        for size in SIZES[profile]
        if (not depths or size.steps in depths) and (not batches or size.batch in batches)
    ]


def target(size: Size, device: torch.device) -> float | None:
    """What the ratio should be at most, where anything was promised.

    Example:
        >>> target(Size(16, 4096, "float32"), torch.device("cuda"))
        1.25
        >>> target(Size(16, 256, "float32"), torch.device("cuda"))
    """
    for goal in targets()["goals"]:
        if goal["goal"] == GOAL and goal["device"] == device.type:
            return float(goal["at_most"]) if size.batch >= goal["batch from"] else None
    return None


def run_size(
    size: Size, device: torch.device, rounds: int, results: Results, clock: Clock
) -> list[Row]:
    """Measure every way at one size; new rows are returned, and entered into the results."""
    problem, setting = size.problem(device), size.setting(device)
    exact = references.unrolled(moved(problem, device, torch.float64))
    calls: dict[str, Call] = {}
    weighed: dict[str, tuple[float, int]] = {}
    torch.compiler.reset()  # sizes before this one must not make this one's shapes dynamic
    for way in WAYS:
        try:
            call, peak = _weighed(way, problem, device)
            found = {name: g.to(torch.float64) for name, g in call().items()}
        except Exception as why:  # a way that the device does not have is a result, too
            where = " ".join(str(value) for value in setting.values())
            results.failed[f"{where} {way.name}"] = short(why)
            continue
        calls[way.name], weighed[way.name] = call, (references.error(found, exact), peak)
    del exact
    base = alone(problem)
    if device.type == "cuda":
        base = graphed(base, device)  # launch overhead is no part of the products
    ratios, bases = measure.interleaved(base, calls, rounds, clock)
    results.forwards.append((setting, measure.spread(bases)))
    bound, new = target(size, device), []
    for name, (wrong, peak) in weighed.items():
        ratio = measure.spread(ratios[name])
        goals = {} if bound is None else {"ratio": (bound, ratio.meets(bound))}
        new.append(Row(setting, name, ratio, peak, wrong, goals))
    results.rows += new
    return new


def _weighed(way: Way, problem: Sparse, device: torch.device) -> tuple[Call, int]:
    """The call, and the peak of its memory once all is compiled."""
    if not way.captures:
        call = way.prepare(problem, device)
        call()
        return call, measure.peak_bytes(call, device)
    made: list[Call] = []
    peak = measure.peak_bytes(lambda: made.append(way.prepare(problem, device)), device)
    return made[0], peak


def run_sizes(
    sizes: Sequence[Size], device: torch.device, rounds: int, results: Results
) -> Iterator[list[Row]]:
    """The rows of each size as soon as they are measured."""
    clock = clock_of(device)
    for size in sizes:
        yield run_size(size, device, rounds, results, clock)
        if device.type == "cuda":
            torch.cuda.empty_cache()


def as_record(
    results: Results, profile: str, rounds: int, device: torch.device, seconds: float
) -> record.Record:
    """The record of a whole run: ``bench-gpu`` on a GPU, ``bench-products`` elsewhere."""
    return record.Record(
        **record.provenance_now(device),
        experiment="bench-gpu" if device.type == "cuda" else "bench-products",
        profile=profile,
        settings={
            "rounds": rounds,
            "measure": "wall-clock time, device-synchronised, over that of the 5K - 2 matrix "
            "products alone, interleaved, median, 95 % interval",
            "compiler": backend(),
            "matmul precision": torch.get_float32_matmul_precision(),
            "failed": results.failed,
        },
        seeds=[0],
        data=[],
        seconds=seconds,
        rows=recorded(results, "products alone"),
    )


def run(sizes: Sequence[Size], device: torch.device, profile: str, rounds: int) -> record.Record:
    """Measure, print each table as it is finished, and make the record.

    Raises:
        RecordError: Nothing could be measured.
    """
    results, start = Results(), time.perf_counter()
    for new in run_sizes(sizes, device, rounds, results):
        if new:
            spent = f"products alone {results.forwards[-1][1].median:.3g} s"
            print(f"\n{aligned(new, '× products', spent)}", flush=True)
    for where, why in results.failed.items():
        print(f"failed: {where}: {why}")
    seconds = time.perf_counter() - start
    return as_record(results, profile, rounds, device, seconds)
