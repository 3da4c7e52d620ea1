"""Write the README's first table, that of the Gaussian bench, between its two markers.

    .venv/bin/python tests/tools/readme_gaussian.py

Source: the record of the large instance. A test compares the two.
"""

from __future__ import annotations

from pathlib import Path

from bookfiles import ROOT, between, rewrite

from bmo.record import Record, provenance, read

RECORD = Path("notebooks/recorded/sparse-coding-gaussian.full.json")
COMMAND = "python -m bmo train sparse-coding-gaussian --profile full --noise 30db"
DEPTHS = (16, 64, 1000)
#: Method, the rule by which the numbers of a classical one were chosen, and its words.
METHODS = (
    ("unh-ista", "nmse", "ISTA, tuned at 16 (UNH)"),
    ("unh-ista", "f+g", "ISTA, tuned for its limit (UNH)"),
    ("unh-admm", "nmse", "ADMM, tuned at 16 (UNH)"),
    ("ena-lista-tied", None, "LISTA, tied (ENA)"),
    ("ena-lista-cp-tied", None, "LISTA-CP, tied (ENA)"),
    ("ena-alista", None, "ALISTA, 16 different layers (ENA)"),
    ("bmo", None, "BMO, forward–backward step"),
    ("bmo-fb-net", None, "BMO, forward–backward step after a certified network"),
    ("bmo-ladmm", None, "BMO, linearised ADMM step"),
    ("bmo-deep-pilot-ladmm", None, "the same after a pilot run, trained at 32"),
    ("bmo-admm", None, "BMO, ADMM step"),
    ("gkm-pilot-admm", None, "the same, μ = 0, after a pilot run"),
)
WORDS = {"by construction": "yes", "checked": "for these numbers", "none": "no"}


def line(record: Record, method: str, rule: str | None, words: str) -> str:
    """Return the row of one method."""
    at = {"method": method, "chosen_by": rule, "noise": "30db", "set": "trained"}
    found = [record.select(metric="nmse_db", depth=depth, **at)[0] for depth in DEPTHS]
    cells = [f"{row['value']:.1f}" for row in found]
    if record.value(metric="diverged", **at) > 0:
        cells[-1] = "lost"
    sure = WORDS[found[0]["setting"]["certified"]]
    return f"| {words} | {' | '.join(cells)} | {sure} | `--method {method}` |"


def table(record: Record) -> str:
    """Return the table in Markdown, with a line on where its numbers come from."""
    lines = [
        "| method | 16 | 64 | 1,000 | certificate | option |",
        "| --- | --- | --- | --- | --- | --- |",
        *(line(record, *method) for method in METHODS),
    ]
    (source, _, rest) = provenance(record).partition(" by `")
    where = f"`{COMMAND}` with the option of the row. {source}{rest[rest.index('` ') + 1 :]}"
    return "\n".join([*lines, "", where, ""])


def written(text: str, record: Record) -> str:
    """Return the README with its table made anew."""
    return between(text, "gaussian", table(record))


def write(root: Path = ROOT) -> list[str]:
    """Write the README if its table has changed; return its name then."""
    text = (root / "README.md").read_text("utf8")
    return rewrite({Path("README.md"): written(text, read(root / RECORD))}, root)


if __name__ == "__main__":
    print(write() or "unchanged")
