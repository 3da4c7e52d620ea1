"""Write the tables "Which one, when" of chapter 9.

    .venv/bin/python tests/tools/methods_table.py

Sources: what each estimator says of itself (the registry), what notebook 9 has measured, and, where
there is one, the recorded benchmark. `make book` runs it, and a test compares.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from bookfiles import ROOT, rewrite

from bmo.hypergradient import METHODS, validity
from bmo.record import Record, provenance, read

GENERATED = Path("book/_generated")
NOTEBOOK = Path("notebooks/09-hypergradients.ipynb")
RECORD = Path("notebooks/recorded/bench.full.json")
TIMED = {"P1": 200, "P2": 256}  # problem and K of the columns with times
HEAD = ["method", "against $\\nabla\\varphi_K$", "against $\\nabla\\varphi$", "peak KiB", "work"]


def glued(root: Path = ROOT) -> dict[str, str]:
    """Return what the notebook has stored, by name."""
    notebook = json.loads((root / NOTEBOOK).read_text("utf8"))
    found = {}
    for cell in notebook["cells"]:
        for output in cell.get("outputs", []):
            name = output.get("metadata", {}).get("scrapbook", {}).get("name")
            if name:
                (text,) = output["data"].values()
                found[name] = "".join(text).strip("'")
    return found


def times(record: Record | None) -> dict[str, dict[str, str]]:
    """Return for each timed problem the median ratio of each of our methods that was recorded."""
    columns: dict[str, dict[str, str]] = {}
    for problem, K in TIMED.items() if record else ():
        for row in record.rows if record else ():
            setting: dict[str, Any] = row["setting"]
            name = row["method"].removeprefix("bmo ")
            here = setting.get("problem") == problem and setting.get("K") == K
            if here and row["metric"] == "ratio" and name in METHODS and name != row["method"]:
                column = columns.setdefault(f"time, {problem}, K = {K}", {})
                column[name] = f"{row['value']:.2f}"
    return columns


def benchmark(record: Record) -> str:
    """Return a table for each problem and kind, fastest first, and where they come from."""
    cells: dict[str, dict[str, dict[str, float]]] = {}
    for row in record.rows:
        title = ", ".join(f"{key} {value}" for key, value in row["setting"].items())
        cells.setdefault(title, {}).setdefault(row["method"], {})[row["metric"]] = row["value"]
    parts = []
    for title, methods in cells.items():
        timed = {name: found for name, found in methods.items() if "ratio" in found}
        rows = [
            [
                name,
                f"{found['ratio']:.2f}",
                f"{found['ratio low']:.2f} – {found['ratio high']:.2f}",
                f"{found['peak MiB']:.1f}" if "peak MiB" in found else "–",
                f"{found['error']:.0e}",
                f"{found['ratio target']:.2f}" if "ratio target" in found else "",
            ]
            for name, found in sorted(timed.items(), key=lambda pair: pair[1]["ratio"])
        ]
        head = ["method", "× forward", "95 %", "peak MiB", "error", "target"]
        parts.append(f"**{title.removeprefix('problem ')}**\n\n{grid(head, rows)}")
    for word in ("missing", "failed"):
        lost = record.settings.get(word, {})
        parts += [f"*{word}*: {name}: {why}\n" for name, why in lost.items()]
    return "\n".join([*parts, provenance(record)]) + "\n"


def grid(head: list[str], rows: list[list[str]]) -> str:
    """Return a table in Markdown."""
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines) + "\n"


def tables(root: Path = ROOT) -> dict[Path, str]:
    """Return the text of both files."""
    values = glued(root)
    record = read(root / RECORD) if (root / RECORD).is_file() else None
    columns = times(record)
    measured = [
        [
            f"`{name}`",
            *values[f"hyper_table_{name.replace('-', '_')}"].split(" | "),
            *(column.get(name, "–") for column in columns.values()),
        ]
        for name in METHODS
    ]
    said = [[f"`{name}`", validity(name)] for name in METHODS]
    made = {
        GENERATED / "hyper-validity.txt": grid(["method", "valid when"], said),
        GENERATED / "hyper-measured.txt": grid([*HEAD, *columns], measured),
    }
    return made if record is None else {**made, GENERATED / "hyper-bench.txt": benchmark(record)}


def write(root: Path = ROOT) -> list[str]:
    """Write what has changed; return the names of these files."""
    return rewrite(tables(root), root)


if __name__ == "__main__":
    print(write() or "unchanged")
