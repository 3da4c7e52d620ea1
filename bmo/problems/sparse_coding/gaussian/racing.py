r"""How many steps, and how long, until the error is below a target.

Book: chapter 10. Steps are counted on the same codes for all methods. Seconds are those that a core
has worked (what else runs on the machine does not count) for a run of so many steps from zero, what
is prepared for the data included; they belong to one machine, steps to none.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from bmo.baselines import Unrolled
from bmo.measure import nmse_db
from bmo.problems.sparse_coding.gaussian.classical import RULES
from bmo.problems.sparse_coding.gaussian.draws import Data, evaluation_sets
from bmo.problems.sparse_coding.gaussian.pieces import Pieces
from bmo.problems.sparse_coding.gaussian.settings import CLASSICAL

#: Runs of which the shortest counts: a disturbance makes a run longer, and never shorter.
RUNS = 3
#: Steps of Adam over which the time of one is taken.
TIMED = 10


@torch.no_grad()
def first_steps(
    net: Unrolled, data: Data, targets: Sequence[float], most: int
) -> dict[float, int | None]:
    """The first number of steps with an error of at most each target, ``None`` if there is none.

    Args:
        net: The method; it sees the observations alone.
        data: Codes and observations.
        targets: NMSE in dB.
        most: The largest number of steps.

    Example:
        >>> from bmo.baselines import ISTA
        >>> data = Data(torch.ones(1, 2), 2 * torch.ones(1, 2))  # A = 2I: the step 1/8 halves
        >>> net = ISTA(2 * torch.eye(2), penalty=1e-9, step=0.125)
        >>> first_steps(net, data, [-6.0, -12.0, -500.0], most=9)
        {-6.0: 1, -12.0: 2, -500.0: None}
    """
    found: dict[float, int | None] = dict.fromkeys(targets)
    for k, u in enumerate(net.iterates(data.observed, most), 1):
        error = float(nmse_db(u, data.codes)) if bool(torch.isfinite(u).all()) else float("inf")
        for target in targets:
            if found[target] is None and error <= target:
                found[target] = k
        if None not in found.values() or error == float("inf"):
            break
    return found


@torch.no_grad()
def seconds_of(net: Unrolled, observed: Tensor, depth: int, runs: int = RUNS) -> float:
    """Core seconds of a run, the least of several."""
    taken = []
    for _ in range(runs):
        started = time.process_time()
        net(observed, depth)
        taken.append(time.process_time() - started)
    return min(taken)


def race(net: Unrolled, data: Data, targets: Sequence[float], most: int) -> list[dict[str, Any]]:
    """Steps and core seconds to each target that is reached, as plain numbers."""
    steps = first_steps(net, data, targets, most)
    return [
        {"target": target, "steps": k, "seconds": seconds_of(net, data.observed, k)}
        for target, k in steps.items()
        if k is not None
    ]


def runners(pieces: Pieces, noise: str, method: str) -> dict[str, Unrolled]:
    """A method as it is tested, one for each rule of choice (``""``: it is learned)."""
    if method in CLASSICAL:
        chosen = pieces.choices(noise)[method]
        return {rule: pieces.classical(method, chosen[rule]) for rule in RULES}
    # the last checkpoint is that of the finished training
    model, _, _ = pieces.trained(noise, method, pieces.settings.seeds[0], resume=True)
    return {"": model.double().net}


def training_step(pieces: Pieces, noise: str, method: str) -> float | None:
    """Core seconds of a step of Adam on one batch; ``None`` if nothing is learned."""
    if method in CLASSICAL:
        return None
    rate = pieces.rate(noise, method)["rate"]
    taken: dict[int, list[float]] = {1: [], 1 + TIMED: []}
    for _ in range(RUNS):
        for steps, found in taken.items():
            started = time.process_time()
            pieces.fit(noise, method, 0, rate, steps, None)
            found.append(time.process_time() - started)
    return (min(taken[1 + TIMED]) - min(taken[1])) / TIMED


def costs(pieces: Pieces, noise: str, method: str) -> dict[str, Any]:
    """What a method costs, for its first seed, kept as a part of its own.

    Returns:
        ``races``: rule of choice → what :func:`race` says; ``training_step``: core seconds.
    """
    name, s = f"costs.{noise}.{method}", pieces.settings
    part = pieces.kept(name)
    if part is None:
        pieces.result(noise, method, s.seeds[0])
        started, taken = time.monotonic(), training_step(pieces, noise, method)
        nets = runners(pieces, noise, method)
        data = evaluation_sets(pieces.dictionary, noise, s)["trained"]
        few = Data(data.codes[: s.raced], data.observed[: s.raced])

        def run() -> dict[str, Any]:
            races = {k: race(net, few, s.targets, s.depths[-1]) for k, net in nets.items()}
            return {"races": races, "training_step": taken}

        part = pieces.keep(name, started, run)
    return part
