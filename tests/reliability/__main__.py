"""The whole harness: ``python -m tests.reliability``; prints its figures and writes the record.

Every part is kept as a file in ``--out`` as soon as it is finished. With ``--resume`` a later call
uses the parts that are there; with ``--part`` it computes only some. The record is written by a
call that has all of them, or with ``--record`` of those that are there.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import torch
from nbclient.exceptions import DeadKernelError

from bmo.errors import RecordError
from bmo.files import write_atomic
from bmo.record import Record, provenance_now, row, write
from bmo.record.origin import commit
from tests.reliability import calls, damage, disk, kills, newcomer, twice, writers
from tests.reliability.common import Figure

PARTS: dict[str, Callable[[], Iterable[Figure]]] = {
    "calls": calls.figures,
    "kills": kills.figures,
    "damage": damage.figures,
    "disk": disk.figures,
    "writers": writers.figures,
    "newcomer": newcomer.figures,
    **{f"notebook {p.stem}": lambda p=p: twice.compared(p) for p in twice.notebooks()},
}


def main(arguments: list[str] | None = None) -> int:
    """Run what is asked; the number of things that did not hold."""
    parser = argparse.ArgumentParser(prog="python -m tests.reliability", description=__doc__)
    parser.add_argument("--out", type=Path, default=Path("runs/reliability.full"))
    parser.add_argument("--resume", action="store_true")
    parser.add_argument("--record", action="store_true", help="write it with the parts there are")
    parser.add_argument("--part", nargs="+", help=f"starts of names: {', '.join(PARTS)}")
    options = parser.parse_args(arguments)
    torch.set_num_threads(1)
    starts = tuple(options.part or [""])
    for name in [name for name in PARTS if name.startswith(starts)]:
        if not (options.resume and _file(options.out, name).exists()):
            try:
                _keep(options.out, name)
            except DeadKernelError as problem:  # by something outside; a later call tries again
                print(f"{name}: {problem}", flush=True)
                continue
        for figure in _kept(options.out, name)["figures"]:
            print(f"{name}: {figure['what']}: {figure['held']} of {figure['tried']}", flush=True)
            print("".join(f"  NOT: {fault}\n" for fault in figure["faults"]), end="", flush=True)
    parts = [_kept(options.out, name) for name in PARTS if _file(options.out, name).exists()]
    if len(parts) == len(PARTS) or options.record:
        print(f"record: {write(as_record(parts), options.out)}")
    else:
        print(f"{len(parts)} of {len(PARTS)} parts are there; the record needs all")
    return sum(len(f["faults"]) for part in parts for f in part["figures"])


def _file(folder: Path, name: str) -> Path:
    return folder / f"{name.replace(' ', '.')}.part.json"


def _keep(folder: Path, name: str) -> None:
    started = time.monotonic()
    figures = [{**f._asdict(), "held": f.held} for f in PARTS[name]()]
    made = {
        "name": name,
        "figures": figures,
        "seconds": round(time.monotonic() - started, 1),
        "commit": commit(),
        "load": os.getloadavg()[0],
    }
    write_atomic(_file(folder, name), json.dumps(made, indent=1).encode(), RecordError)


def _kept(folder: Path, name: str) -> dict[str, Any]:
    made: dict[str, Any] = json.loads(_file(folder, name).read_text("utf8"))
    return made


def as_record(parts: list[dict[str, Any]]) -> Record:
    """All figures; those of the notebooks are summed over the notebooks."""
    sums: dict[tuple[str, str], list[int]] = {}
    for figure in [figure for part in parts for figure in part["figures"]]:
        total = sums.setdefault((figure["part"], figure["what"]), [0, 0])
        total[0], total[1] = total[0] + figure["tried"], total[1] + figure["held"]
    rows = [
        row("harness", {"part": part, "what": what}, metric, value)
        for (part, what), values in sums.items()
        for metric, value in zip(("tried", "held"), values, strict=True)
    ]
    rows += [
        row("harness", {"part": f["part"], "what": f["what"]}, "seconds", round(f["seconds"], 1))
        for part in parts
        for f in part["figures"]
        if f.get("seconds") is not None
    ]
    return Record(
        **{**provenance_now(), "command": "make reliability"},
        experiment="reliability",
        profile="full",
        settings={key: {p["name"]: p.get(key) for p in parts}
                  for key in ("seconds", "commit", "load")},
        seeds=[0],
        data=[],
        seconds=round(sum(p["seconds"] for p in parts), 1),
        rows=rows,
    )  # fmt: skip


if __name__ == "__main__":
    sys.exit(min(main(), 125))
