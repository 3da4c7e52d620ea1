"""A training killed at a random moment and resumed ends with the same numbers, bit by bit."""

from __future__ import annotations

import random
import signal
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

from bmo.checkpoint import state_of
from bmo.train import CHECKPOINT
from tests.reliability import work
from tests.reliability.common import Figure, processes, scratch

Task = Callable[..., None]
#: A moment is drawn up to this share of the time that a whole run takes.
SHARE = 0.95


def finished(task: Task, folder: Path, resume: bool) -> tuple[str, float]:
    """Run to the end; what came out, and the seconds after the start was announced."""
    (folder / work.STARTED).unlink(missing_ok=True)
    process = processes().Process(target=task, args=(folder, resume))
    process.start()
    began = _announced(folder)
    process.join()
    if process.exitcode:
        raise RuntimeError(f"{task.__name__} ended with exit code {process.exitcode}")
    return (folder / work.RESULT).read_text(), time.monotonic() - began


def killed(task: Task, folder: Path, moment: float) -> bool:
    """Start or go on, and kill after so many seconds; whether it was still at work."""
    (folder / work.STARTED).unlink(missing_ok=True)
    process = processes().Process(target=task, args=(folder,))
    process.start()
    _announced(folder)
    time.sleep(moment)
    process.kill()
    process.join()
    return process.exitcode == -signal.SIGKILL


def _announced(folder: Path) -> float:
    end = time.monotonic() + 120
    while not (folder / work.STARTED).exists():
        if time.monotonic() > end:
            raise RuntimeError("the training does not start")
        time.sleep(0.001)
    return time.monotonic()


def state(folder: Path) -> str:
    """What a killed training left."""
    path = folder / CHECKPOINT
    steps = len(state_of(path.read_bytes())["losses"]) if path.exists() else 0
    half = any(folder.glob(".*.part"))
    at = "no step kept" if not steps else "some steps kept" if steps < work.PLAN.steps else "all"
    return f"{at}, {'while it wrote' if half else 'between two writes'}"


def once(task: Task, count: int, seed: int, left: Counter[str] | None = None) -> list[str]:
    """Kill so many runs, each at one random moment, and resume each; the runs that differ."""
    draws, faults, done = random.Random(seed), [], 0
    with scratch() as place:
        straight, seconds = finished(task, place / "straight", False)
        for attempt in range(20 * count):
            folder = place / f"{attempt}"
            if not killed(task, folder, draws.uniform(0, SHARE * seconds)):
                continue  # it was faster than the first one
            done += 1
            if left is not None:
                left[state(folder)] += 1
            if finished(task, folder, True)[0] != straight:
                faults.append(f"run {done} of {task.__name__}")
            if done == count:
                return faults
    raise RuntimeError(f"only {done} of {count} runs could be killed in time")


def again(seed: int, patience: float = 0.15) -> tuple[int, list[str]]:
    """Kill one run over and over until it is through: how often, and whether it differs."""
    draws = random.Random(seed)
    with scratch() as place:
        straight, seconds = finished(work.trained, place / "straight", False)
        folder, kills = place / "often", 0
        while killed(work.trained, folder, draws.uniform(0, patience * seconds)):
            kills += 1
            if kills > 500:
                raise RuntimeError("a run that is killed so often never ends")
        same = (folder / work.RESULT).read_text() == straight
    return kills, [] if same else [f"after {kills} kills in a row"]


def figures(runs: int = 50, commands: int = 5, often: int = 1) -> Iterator[Figure]:
    """Runs killed once, a run killed over and over, and the command line."""
    left: Counter[str] = Counter()
    yield Figure(
        "kills", "runs killed once and resumed", runs, tuple(once(work.trained, runs, 0, left))
    )
    for what, count in sorted(left.items()):
        yield Figure("kills", f"of these, killed with {what}", count)
    for seed in range(often):
        kills, faults = again(seed)
        yield Figure("kills", "kills in a row of one run", kills, tuple(faults))
    if commands:
        faults = once(work.commanded, commands, 1)
        yield Figure("kills", "commands killed once and resumed", commands, tuple(faults))
