"""Write the status of every claim, as a table that the start page includes.

    .venv/bin/python tests/tools/claims_table.py

`make book` runs it, and a test compares the file with the ledger, so the page cannot promise more
than the ledger holds.
"""

from __future__ import annotations

import re
from collections import Counter
from pathlib import Path
from typing import Any

from bookfiles import ROOT, rewrite
from claims import ledger

STATUS = Path("book/_generated/status.txt")
TITLE = re.compile(r"^# (.+)$", re.MULTILINE)
PROOF = ("thm", "prop", "lem", "cor", "conj", "ex", "rem", "def", "ass", "alg")
ROLES = {**dict.fromkeys(PROOF, "prf:ref"), "eq": "eq", "fig": "numref"}


def link(entry: dict[str, Any]) -> str:
    """Return a reference to the place where a claim is stated."""
    label = entry["stated"].partition("#")[2]
    role = ROLES.get(label.partition("-")[0])
    return f"{{{role}}}`{label}`" if role else f"{{ref}}`here <{label}>`"


def cell(text: str) -> str:
    """Return a text that cannot break a line of the table."""
    return " ".join(text.split()).replace("|", "\\|").rstrip(".")


def counted(entries: list[dict[str, Any]]) -> str:
    """Return how many claims have which status, in words."""
    counts = Counter(entry["status"] for entry in entries)
    return ", ".join(f"{number} {status}" for status, number in counts.most_common())


def table(root: Path = ROOT) -> str:
    """Return the counts of each status, then a folded table for each page, in reading order."""
    entries = ledger(root)
    lines = [f"**{len(entries)} claims so far:** {counted(entries)}."]
    for page in sorted({entry["stated"].partition("#")[0] for entry in entries}):
        here = [entry for entry in entries if entry["stated"].startswith(f"{page}#")]
        title = TITLE.search((root / page).read_text("utf8"))
        lines += ["", f":::{{dropdown}} {title.group(1) if title else page}: {counted(here)}", ""]
        lines += ["| claim | where | status |", "| --- | --- | --- |"]
        lines += [f"| {cell(e['statement'])} | {link(e)} | {e['status']} |" for e in here]
        lines += [":::"]
    return "\n".join(lines) + "\n"


def write(root: Path = ROOT) -> list[str]:
    """Write the table if it has changed; return its name then."""
    return rewrite({STATUS: table(root)}, root)


if __name__ == "__main__":
    print(write() or "unchanged")
