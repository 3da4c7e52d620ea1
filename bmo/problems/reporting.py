"""What the reports of all experiments share: parts gathered, files written."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from bmo import parallel
from bmo.problems.shelf import Part
from bmo.problems.tested import Tested
from bmo.record import Record, load_weights, save_weights, write

#: Method → (tables, cases).
Parts = dict[str, tuple[Part, Part]]


def collect(pieces: Tested[Any], noise: str) -> Parts:
    """Every part of the run, computed if it is not there yet: method → (tables, cases)."""
    s = pieces.settings
    return {
        method: (pieces.result(noise, method, seed), pieces.converged(method, seed))
        for method in s.methods
        for seed in s.seeds[:1]
    }


def save_each(pieces: Tested[Any], parts: Parts, experiment: str, folder: Path) -> None:
    """The weights of the methods of the first seed, each in a file of its own."""
    s = pieces.settings
    for method, (found, _) in parts.items():
        own = pieces.folder / f"trained.{method}.seed{s.seeds[0]}.safetensors"
        save_weights(
            load_weights(own, found["weights"]),
            folder / f"{experiment}.{s.profile}.{method}.safetensors",
        )


def publish(record: Record, folder: Path, save_all_weights: Callable[[], None]) -> Path:
    """Write the weights and the record: of several processes all must call it, the first one does.

    Returns:
        Path of the record.
    """
    if parallel.main_process():
        save_all_weights()
        write(record, folder)
    parallel.from_first(b"")  # the files are there when any process returns
    return folder / f"{record.name}.json"
