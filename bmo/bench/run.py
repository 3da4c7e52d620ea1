"""One run of the benchmark: the cases of a profile, each method checked, weighed and timed."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

from bmo.bench import measure, references
from bmo.bench.aggregated import Aggregated
from bmo.bench.measure import Clock, Spread
from bmo.bench.methods import Gradient, Method, Registry
from bmo.bench.problems import Parts, Problem, Smooth, Sparse

TARGETS = Path(__file__).with_name("targets.json")


@dataclass(frozen=True)
class Case:
    """A problem and the kinds of gradient that are computed on it."""

    make: Callable[[], Problem]
    name: str
    steps: int
    kinds: tuple[str, ...] = ("unrolled",)


def _p1(steps: int, kinds: tuple[str, ...] = ("unrolled",)) -> Case:
    return Case(lambda: Smooth(steps), "P1", steps, kinds)


def _p2(steps: int, kinds: tuple[str, ...] = ("unrolled",)) -> Case:
    return Case(lambda: Sparse(steps), "P2", steps, kinds)


def _p3(on: type[Smooth] | type[Sparse], steps: int, anchored: bool = False) -> Case:
    def make() -> Problem:
        return Aggregated(on(steps, diagonal=True), anchored=anchored)

    return Case(make, "P3", steps)


BOTH = ("unrolled", "implicit")
CASES: dict[str, tuple[Case, ...]] = {
    "page": (_p1(50, BOTH), _p2(16), _p3(Smooth, 50), _p3(Sparse, 16)),
    "full": (
        *(_p1(50), _p1(200, BOTH), _p1(1000)),
        *(_p2(16), _p2(64), _p2(256, BOTH)),
        *(_p3(Smooth, 200), _p3(Smooth, 200, True), _p3(Sparse, 64), _p3(Sparse, 64, True)),
    ),
}
ROUNDS = {"page": 7, "full": 9}


@dataclass(frozen=True)
class Row:
    """What was measured of one method on one problem.

    Attributes:
        setting: The problem, with the kind of the gradient.
        method: Its name.
        ratio: CPU time over that of the plain forward.
        peak: Bytes, or None where torch's allocator does not see them.
        error: Relative error of the gradient against the exact one.
        goals: Metric → (what it should be at most, whether it is).
    """

    setting: dict[str, str | int]
    method: str
    ratio: Spread
    peak: int | None
    error: float
    goals: dict[str, tuple[float, bool]] = field(default_factory=dict)


@dataclass
class Results:
    """The rows of a run, the forward's seconds for each problem, and what failed and why."""

    rows: list[Row] = field(default_factory=list)
    forwards: list[tuple[dict[str, str | int], Spread]] = field(default_factory=list)
    failed: dict[str, str] = field(default_factory=dict)


@cache
def targets() -> dict[str, list[dict[str, Any]]]:
    """The targets and the limits that are printed beside the measured figures.

    Example:
        >>> [g["at_most"] for g in targets()["goals"] if g["goal"] == "P3 aggregated"]
        [2.9]
    """
    content: dict[str, list[dict[str, Any]]] = json.loads(TARGETS.read_text("utf-8"))
    return content


def judged(method: Method, steps: int, measured: dict[str, float]) -> dict[str, tuple[float, bool]]:
    """The targets of a method at K, each with whether it is met.

    Args:
        method: Its ``goal`` is looked up.
        steps: K.
        measured: Metric → figure; for the ratio, the lower end of its interval.
    """
    return {
        goal["metric"]: (goal["at_most"], measured[goal["metric"]] <= goal["at_most"])
        for goal in targets()["goals"]
        if goal["goal"] == method.goal
        and goal.get("K", steps) == steps
        and goal["metric"] in measured
    }


def run_case(
    case: Case,
    registry: Registry,
    rounds: int,
    results: Results,
    clock: Clock,
) -> list[Row]:
    """Measure every method on one case; new rows are returned, and entered into the results."""
    problem, new = case.make(), []
    problem.forward()
    for kind in [kind for kind in case.kinds if registry.chosen(problem, kind)]:
        exact = _exact(problem, kind)
        setting = {**problem.setting, "kind": kind}
        calls: dict[str, Gradient] = {}
        weighed: dict[str, tuple[Method, float, int | None]] = {}
        for method in registry.chosen(problem, kind):
            try:
                nearest = method.instead(problem) if method.instead else problem
                call = method.prepare(nearest)
                wanted = exact if nearest is problem else _exact(nearest, kind)
                wrong = references.error(call(), wanted)
                peak = measure.peak_bytes(call) if method.memory else None
            except Exception as problem_of_peer:  # a peer's failure is a result, too
                where = " ".join(str(v) for v in setting.values())
                results.failed[f"{where} {method.name}"] = short(problem_of_peer)
                continue
            calls[method.name], weighed[method.name] = call, (method, wrong, peak)
        ratios, bases = measure.interleaved(problem.forward, calls, rounds, clock)
        results.forwards.append((setting, measure.spread(bases)))
        for name, (method, wrong, peak) in weighed.items():
            ratio = measure.spread(ratios[name])
            figures = {"ratio": ratio.low, "error": wrong}
            if peak is not None:
                figures["peak MiB"] = peak / measure.MIB
            goals = judged(method, problem.steps, figures)
            new.append(Row(setting, name, ratio, peak, wrong, goals))
    results.rows += new
    return new


def chosen_cases(
    profile: str, problems: Sequence[str] | None, depths: Sequence[int] | None
) -> list[Case]:
    """The cases of a profile, or those of them with the named problems and K.

    Example:
        >>> [case.steps for case in chosen_cases("full", ["P2"], None)]
        [16, 64, 256]
    """
    return [
        case
        for case in CASES[profile]
        if (not problems or case.name in problems) and (not depths or case.steps in depths)
    ]


def _exact(problem: Problem, kind: str) -> Parts:
    if kind == "implicit" and isinstance(problem, Smooth | Sparse):
        return references.implicit(problem)
    return references.unrolled(problem)


def short(problem: Exception) -> str:
    """A failure in one line of at most 160 characters.

    Example:
        >>> short(ValueError("no such thing"))
        'ValueError: no such thing'
    """
    text = " ".join(f"{type(problem).__name__}: {problem}".split())
    return text if len(text) <= 160 else text[:157] + "..."
