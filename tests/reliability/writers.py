"""Two processes write one record at once: it is always one of the two, and valid."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from bmo import record
from bmo.errors import RecordError
from tests.reliability.bad_data import a_record
from tests.reliability.common import Figure, processes, scratch

#: Seconds after which a process that never comes is given up.
PATIENCE = 120.0


def version(writer: int) -> record.Record:
    """What a writer writes: a short record, and one that takes many blocks of a disk."""
    return a_record(seeds=[writer] * (1 + 4000 * writer))


def write_often(folder: Path, writer: int, rounds: int, gate: Any) -> None:
    """Write once in each round, at the same moment as the other."""
    made = version(writer)
    for _ in range(rounds):
        gate.wait(PATIENCE)
        record.write(made, folder)
        gate.wait(PATIENCE)


def figures(rounds: int = 100, reads: int = 3) -> Iterator[Figure]:
    """So many rounds; the file is read while they write, and after each round."""
    context, both = processes(), [version(0), version(1)]
    faults, seen, count = [], [0, 0], 0
    with scratch() as folder:
        gate = context.Barrier(3)
        writers = [
            context.Process(target=write_often, args=(folder, k, rounds, gate)) for k in (0, 1)
        ]
        for writer in writers:
            writer.start()
        path = folder / f"{both[0].name}.json"
        for number in range(rounds):
            gate.wait(PATIENCE)
            for _ in range(reads if number else 0):  # nothing is there before the first round
                count += 1
                faults += _fault(path, both, f"round {number}, while they wrote")
            gate.wait(PATIENCE)
            faults += (found := _fault(path, both, f"round {number}"))
            if not found:
                seen[both.index(record.read(path))] += 1
            if [p.name for p in folder.iterdir()] != [path.name]:
                faults.append(f"round {number}: something else was left")
        for writer in writers:
            writer.join()
    what = "rounds of two writers, the file read while they write and after"
    yield Figure("writers", what, rounds, tuple(faults))
    yield Figure("writers", "readings while they wrote", count)
    for writer, times in enumerate(seen):
        yield Figure("writers", f"rounds that writer {writer + 1} came last", times)


def _fault(path: Path, both: list[record.Record], when: str) -> list[str]:
    try:
        return [] if record.read(path) in both else [f"{when}: neither of the two"]
    except RecordError as problem:
        return [f"{when}: {problem}"]
