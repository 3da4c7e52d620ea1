"""Tables of the reproduction report on the runs: what was asked, what was set, what it cost.

Source: the records, the lines of poster and abstract, and which chapters there are.
``report.py`` writes these tables with its own.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from methods_table import grid

from bmo.record import Record, read

FOLDER = Path("notebooks/recorded")
#: Experiment, by the start of its name → the number of its chapter.
CHAPTERS = {
    "bench": "09",
    "sparse": "10",
    "deconvolution": "11",
    "deraining": "12",
    "rain": "12",
    "certificates": "14",
}
#: Task → the number of its chapter, and the lines of poster and abstract that name it.
TASKS = {
    "sparse coding": ("10", ("P13", "P14", "A8")),
    "image deconvolution": ("11", ("P12", "A9")),
    "rain streak removal": ("12", ("P15", "A10")),
}
SETTINGS = {
    "steps K": "iterations",
    "α": "alpha",
    "μ": "mu",
    "s": "s",
    "p": "p",
    "updates": "steps",
    "batch": "batch",
}


def records(root: Path) -> Iterator[Record]:
    """Return every recorded run, by chapter and name."""
    found = [read(path) for path in (root / FOLDER).glob("*.json")]
    yield from sorted(found, key=lambda run: (number(run.experiment), run.experiment, run.profile))


def number(experiment: str) -> str:
    """Return the number of an experiment's chapter, or nothing."""
    return next((at for start, at in CHAPTERS.items() if experiment.startswith(start)), "")


def chapter(root: Path, at: str) -> str:
    """Return a link to the chapter with this number, in few letters, if there is one."""
    found = sorted((root / "book").glob(f"{at}-*.md")) if at else []
    return f"{{doc}}`{int(at)} <{found[0].stem}>`" if found else "–"


def time(seconds: float) -> str:
    """Return a time that a reader can feel."""
    if seconds < 100:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 6000 else f"{seconds / 3600:.1f} h"


def runs(root: Path) -> str:
    """Return what each recorded run took, all of them together, and on which devices."""
    rows, total = [], 0.0
    devices: dict[str, list[str]] = {}
    for run in records(root):
        total += run.seconds
        devices.setdefault(run.device, []).append(f"`{run.experiment}.{run.profile}`")
        row = [f"`{run.experiment}.{run.profile}`", chapter(root, number(run.experiment))]
        row += [str(len(run.seeds) or "–"), str(len(run.data) or "–")]
        rows.append([*row, time(run.seconds)])
    rows.append(["all", "", "", "", time(total)])
    where = [f"{device}: {', '.join(names)}." for device, names in devices.items()]
    where = [f"All on {device}." for device in devices] if len(devices) == 1 else where
    table = grid(["run", "chapter", "seeds", "data files", "time"], rows)
    return "\n".join([table.rstrip("\n"), "", *where, ""])


def several(value: Any) -> str:
    """Return a setting in a word: one value, or from the least to the largest."""
    if isinstance(value, dict):
        value = list(value.values())
    if not isinstance(value, list):
        return "–" if value is None else f"{value:,}"
    ends = sorted({min(value), max(value)})
    return " – ".join(f"{end:,}" for end in ends)


def depths(at: dict[str, Any]) -> list[int]:
    """Return every K that a method of the run was trained at."""
    found = [at["iterations"], *at.get("deeper", [])[:1]]
    if any(budget.get("deep") for budget in at.get("budgets", {}).values()):
        found.append(at["deep_iterations"])
    return [*found, *([at["referring"]["iterations"]] if "referring" in at else [])]


def settings(root: Path) -> str:
    """Return the hyper-parameters of each run that learns through Algorithm 1."""
    rows = []
    for run in records(root):
        at = dict(run.settings)
        if "mu" not in at or "iterations" not in at:
            continue
        at["iterations"] = depths(at)
        if "budgets" in at:
            at["steps"] = [sum(budget.values()) for budget in at["budgets"].values()]
        rows.append(
            [f"`{run.experiment}.{run.profile}`"]
            + [several(at.get(name)) for name in SETTINGS.values()]
        )
    return grid(["run", *SETTINGS], rows)


def tasks(root: Path, lines: list[dict[str, Any]], ledger: list[dict[str, Any]]) -> str:
    """Return each task of the paper: its chapter, and how far its claims have got."""
    status = {entry["id"]: entry["status"] for entry in ledger}
    claims = {line["line"]: line["claims"] for line in lines}
    rows = []
    for task, (at, names) in TASKS.items():
        said = "; ".join(
            f"{name}: {', '.join(dict.fromkeys(status[claim] for claim in claims[name]))}"
            for name in sorted(names, key=lambda name: (name[0] != "P", int(name[1:])))
        )
        rows.append([task, chapter(root, at), re.sub(r"\s+", " ", said)])
    return grid(["task", "chapter", "how far its lines have got"], rows)
