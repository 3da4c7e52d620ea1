"""Write the tables of the reproduction report, and the package's copy of the ledger.

    .venv/bin/python tests/tools/report.py

Sources: the ledger, the lines of poster and abstract (``book/published.yml``), the records.
`make book` runs it, and a test compares every file with what it would write.
"""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import Any, NamedTuple

import deconv_table
import rain_table
import readme_table
import report_runs
import yaml
from bookfiles import ROOT, differing, rewrite
from claims import ledger
from claims_table import cell, link

from bmo.record import Record, provenance, read

PUBLISHED = Path("book/published.yml")
COPY = Path("bmo/claims.json")
GENERATED = Path("book/_generated")
ORDER = [
    *("proved and verified", "proved", "measured", "literature"),
    *("partly", "conjectured", "not reproduced", "refuted", "open"),
]
NAMES = {"poster": "poster", "abstract": "abstract", "ours": "this book", "literature": "others"}
UNSETTLED = {
    "partly": "Partly",
    "not reproduced": "Not reproduced",
    "refuted": "Refuted",
    "conjectured": "Conjectured",
    "open": "Open",
}


class Sources(NamedTuple):
    """What the report is made of: the ledger, what others have printed, and the record."""

    ledger: list[dict[str, Any]]
    lines: list[dict[str, Any]]
    figures: list[dict[str, Any]]
    record: Record
    examined: dict[str, list[str]]


def sources(root: Path = ROOT) -> Sources:
    """Read them."""
    printed = yaml.safe_load((root / PUBLISHED).read_text("utf8"))
    record = read(root / readme_table.RECORD)
    examined = {"deconvolution": deconv_table.ours(root), "deraining": rain_table.ours(root) or []}
    return Sources(ledger(root), printed["lines"], printed["figures"], record, examined)


def grid(head: list[str], rows: list[list[str]]) -> str:
    """Return a table in Markdown."""
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines) + "\n"


def counts(made: Sources) -> str:
    """Return how many claims of each source have which status."""
    count = Counter((entry["status"], entry["source"]) for entry in made.ledger)
    of_status = Counter(entry["status"] for entry in made.ledger)
    rows = [
        [status, *(str(count[status, source] or "–") for source in NAMES), str(of_status[status])]
        for status in ORDER
        if of_status[status]
    ]
    of_source = Counter(entry["source"] for entry in made.ledger)
    rows.append(["all", *(str(of_source[source]) for source in NAMES), str(len(made.ledger))])
    return grid(["status", *NAMES.values(), "all"], rows)


def evidence(entry: dict[str, Any]) -> str:
    """Return where a claim stands; for one that stands on the report itself, what supports it."""
    if place(entry) != "15-report":
        return link(entry)
    if entry["proved"]:
        return f"{{ref}}`proof <{entry['proved'].partition('#')[2]}>`"
    if entry["notebook"]:
        name = entry["notebook"].partition(".ipynb#")[0]
        return f"{{doc}}`notebook {int(name[:2])} <../notebooks/{name}>`"
    return ""


def verdict(answers: list[dict[str, Any]]) -> str:
    """Return the statuses of some claims, each with its evidence."""
    parts = []
    for status in dict.fromkeys(entry["status"] for entry in answers):
        found = [evidence(entry) for entry in answers if entry["status"] == status]
        where = ", ".join(dict.fromkeys(filter(None, found)))
        parts.append(f"{status} ({where})" if where else status)
    return "; ".join(parts) or "–"


def lines(made: Sources, source: str) -> str:
    """Return what one source says, line by line, and what came of it."""
    known = {entry["id"]: entry for entry in made.ledger}
    rows = []
    for line in made.lines:
        if line["source"] == source:
            answers = [known[name] for name in line["claims"]]
            said, note = cell(line["says"]), cell(line["note"])
            rows.append([line["line"], said, verdict(answers), note])
    return grid(["", "what it says", "status", "remark"], rows)


def unsettled(made: Sources) -> str:
    """Return every claim that is not settled, by status."""
    rows = [
        [
            UNSETTLED[status],
            cell(entry["statement"]),
            NAMES[entry["source"]],
            evidence(entry) or "–",
        ]
        for status in UNSETTLED
        for entry in made.ledger
        if entry["status"] == status
    ]
    return grid(["status", "claim", "of", "where"], rows)


def measured(made: Sources) -> str:
    """Return the record's numbers on sparse coding, and where they come from."""
    record = made.record
    rows = [
        [name, words]
        + [
            f"{readme_table.value(record, method, noise, depth, 'psnr'):.2f}"
            for depth in (16, 64, 256, 1000)
        ]
        + [readme_table.small(readme_table.value(record, method, noise, 1000, "relative_residual"))]
        for noise, name in readme_table.NOISES.items()
        for method, words in readme_table.METHODS.items()
    ]
    head = ["noise", "method", "16 steps", "64", "256", "1,000", "residual at 1,000"]
    return grid(head, rows) + f"\n{provenance(record)}\n"


def figures(made: Sources) -> str:
    """Return the figures that others printed, with a line for ours."""
    parts = []
    for figure in made.figures:
        rows = [
            [f"{value:.2f}" if isinstance(value, float) else value for value in row]
            for row in figure["rows"]
        ]
        if figure["ours"]:
            found = made.examined.get(figure["id"]) or ["not yet examined"] * (len(rows[0]) - 1)
            rows.append(["**this book**", *found])
        parts.append(f"**{figure['title']}.**\n\n{grid(figure['columns'], rows)}")
        parts.append(f"{figure['note']}\n")
    return "\n".join(parts)


def copy(made: Sources) -> str:
    """Return the package's copy of the ledger: one claim, one line."""
    fields = ("id", "statement", "kind", "source", "status")
    parts = {
        "claims": [
            {**{field: entry[field].strip() for field in fields}, "page": place(entry)}
            for entry in made.ledger
        ],
        "published": made.lines,
    }
    blocks = (
        f' "{name}": [\n  '
        + ",\n  ".join(json.dumps(item, ensure_ascii=False) for item in items)
        + "\n ]"
        for name, items in parts.items()
    )
    return "{\n" + ",\n".join(blocks) + "\n}\n"


def place(entry: dict[str, Any]) -> str:
    """Return the page of a claim, such as ``03-km``."""
    return Path(entry["stated"].partition("#")[0]).stem


def texts(root: Path = ROOT) -> dict[Path, str]:
    """Return every generated file and its text."""
    made = sources(root)
    return {
        GENERATED / "report-counts.txt": counts(made),
        GENERATED / "report-poster.txt": lines(made, "poster"),
        GENERATED / "report-abstract.txt": lines(made, "abstract"),
        GENERATED / "report-unsettled.txt": unsettled(made),
        GENERATED / "report-measured.txt": measured(made),
        GENERATED / "report-published.txt": figures(made),
        GENERATED / "report-runs.txt": report_runs.runs(root),
        GENERATED / "report-settings.txt": report_runs.settings(root),
        GENERATED / "report-tasks.txt": report_runs.tasks(root, made.lines, made.ledger),
        COPY: copy(made),
    }


def stale(root: Path = ROOT) -> list[str]:
    """Return the names of the files that are not what their sources give."""
    return [path.as_posix() for path in differing(texts(root), root)]


def write(root: Path = ROOT) -> list[str]:
    """Write what is stale; return it."""
    return rewrite(texts(root), root)


if __name__ == "__main__":
    print("\n".join(f"{name}: written" for name in write()) or "all unchanged")
