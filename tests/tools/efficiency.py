"""Write the table "Time to equal quality" of chapter 15.

    .venv/bin/python tests/tools/efficiency.py

Source: the large record of chapter 10. `make book` runs it, and a test compares.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from bookfiles import ROOT, rewrite
from methods_table import GENERATED, grid

from bmo.record import Record, provenance, read

RECORD = Path("notebooks/recorded/sparse-coding-gaussian.full.json")
TABLE = GENERATED / "report-efficiency.txt"
LAYERS = ["ena-lista", "ena-lista-cp", "ena-lista-cpss", "ena-alista", "ena-tista", "ena-dladmm"]
#: Which methods make a family; the first one is what the others are measured by.
FAMILIES = {
    "classical, tuned": ["unh-ista", "unh-fista", "unh-ladmm", "unh-pdhg", "unh-admm"],
    "ISTA and FISTA alone": ["unh-ista", "unh-fista"],
    "networks, one map": ["ena-lista-tied", "ena-lista-cp-tied", "ena-deq"],
    "networks, 16 layers": LAYERS,
    r"certified, $\mu=0$": ["gkm", "gkm-ladmm", "gkm-admm"],
    "BMO": ["bmo", "bmo-ladmm", "bmo-fb-net", "bmo-admm"],
    "BMO, thin products": ["bmo", "bmo-ladmm", "bmo-fb-net"],
    "BMO, pilot": ["bmo-deep-pilot-ladmm", "bmo-pilot-admm"],
}


def targets(record: Record) -> list[float]:
    """Return the errors that were raced to, in dB."""
    raced = record.select(metric="core_seconds_to_target")
    return list(dict.fromkeys(row["setting"]["target"] for row in raced))


def quickest(record: Record, names: list[str], target: float) -> tuple[str, float, float] | None:
    """Return the method of a family that is there first, its steps and its seconds."""
    found = []
    for row in record.select(metric="core_seconds_to_target", target=target):
        if row["method"] in names:
            (steps,) = [
                other["value"]
                for other in record.select(metric="steps_to_target", target=target)
                if other["method"] == row["method"] and other["setting"] == row["setting"]
            ]
            found.append((row["method"], steps, row["value"]))
    return min(found, key=lambda item: item[2]) if found else None


def best(record: Record, names: list[str], depth: int = 16) -> float:
    """Return the smallest error of a family after so many steps."""
    rows = record.select(metric="nmse_db", noise="30db", set="trained", depth=depth)
    return min(row["value"] for row in rows if row["method"] in names)


def table(record: Record) -> str:
    """Return for each family the quickest method to each error, and its best error at 16 steps."""
    goals, lines = targets(record), []
    for family, names in FAMILIES.items():
        cells = [family]
        for goal in goals:
            found: Any = quickest(record, names, goal)
            first = quickest(record, next(iter(FAMILIES.values())), goal)
            if found is None or first is None:
                cells += ["not reached", "–", "–"]
                continue
            name, steps, seconds = found
            ratio = seconds / first[2]
            cells += [f"`{name}`, {steps:.0f}", f"{1000 * seconds:.0f} ms", f"{ratio:.2f}"]
        lines.append([*cells, f"{best(record, names):.2f}"])
    head = ["family"]
    for goal in goals:
        head += [f"to {goal:g} dB, steps", "time", "ratio"]
    return f"{grid([*head, 'dB at 16'], lines)}\n{provenance(record)}\n"


def write(root: Path = ROOT) -> list[str]:
    """Write what has changed; return the names of these files."""
    return rewrite({TABLE: table(read(root / RECORD))}, root)


if __name__ == "__main__":
    print(write() or "unchanged")
