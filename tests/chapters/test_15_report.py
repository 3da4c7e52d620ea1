"""Chapter 15: its tables are what their sources give, and every line of the poster is answered."""

from __future__ import annotations

import dataclasses
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import claims
import pytest
import report
import report_runs
import yaml
from bookfiles import ROOT, load

from bmo import ledger
from bmo.record import read, write

# What the poster (P) and the abstract (A) say, in a word or two each; P1 is a motivation.
SAID = {
    "P1": "white boxes",
    "P2": "(UNH) minimise f + g and ignore ℓ",
    "P3": "(ENA) minimise ℓ and ignore f + g",
    "P4": "separate training",
    "P5": "hierarchical problem",
    "P6": "more general than traditional bilevel",
    "P7": "both numerical and a network",
    "P8": "correction matrix H",
    "P9": "Theorem 1 (1)",
    "P10": "Theorem 1 (2)",
    "P11": "Theorem 2",
    "P12": "Deconvolution",
    "P13": "joint convergence",
    "P14": "untrained layers",
    "P15": "Rain streak",
    "P16": "general form of various ODL methods",
    "P17": "true solution",
    "P18": "convergence analysis of both",
    "A1": "fixed during training",
    "A2": "impossible",
    "A3": "unifies existing ODL methods",
    "A4": "together",
    "A5": "approximation quality",
    "A6": "stationary analysis",
    "A7": "efficiency",
    "A8": "sparse coding",
    "A9": "deconvolution",
    "A10": "rain streak",
}
PAPER = ("poster", "abstract")
RECORD = "deconvolution.small"
TEXTS = report.texts()


def test_every_generated_file_is_what_its_sources_give() -> None:
    assert report.stale() == [], "run tests/tools/report.py"


def test_every_line_of_poster_and_abstract_is_there_and_answered() -> None:
    lines = {line["line"]: line for line in report.sources().lines}
    assert list(lines) == list(SAID)
    known = {entry["id"]: entry for entry in claims.ledger(ROOT)}
    for name, words in SAID.items():
        line = lines[name]
        assert set(line) == {"line", "source", "says", "claims", "note"}
        assert words in line["says"] and len(line["note"]) > 5
        assert line["source"] == ("poster" if name.startswith("P") else "abstract")
        answers = [known[claim] for claim in line["claims"]]
        assert any(entry["source"] in PAPER for entry in answers) or name == "P1", name
    named = {claim for line in lines.values() for claim in line["claims"]}
    theirs = {name for name, entry in known.items() if entry["source"] in PAPER}
    assert theirs <= named


def test_every_status_is_explained_and_every_table_is_on_the_page() -> None:
    page = (ROOT / "book/15-report.md").read_text("utf8")
    start = (ROOT / "book/00-start.md").read_text("utf8")
    assert set(report.ORDER) == claims.STATUSES
    assert set(report.NAMES) == claims.SOURCES
    for status in claims.STATUSES:
        assert f"| *{status}* |" in page
    for status in {entry["status"] for entry in claims.ledger(ROOT)}:
        assert f"*{status}*:" in start
    for path in TEXTS:
        if path.suffix == ".txt":
            assert f"{{include}} _generated/{path.name}" in page


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """The sources and what is made of them, in a place where they can be spoiled."""
    names = ["book/claims.yml", "book/published.yml"]
    for pattern in ("notebooks/recorded/*.json", "book/[0-9]*.md"):
        names += [path.relative_to(ROOT).as_posix() for path in ROOT.glob(pattern)]
    for name in [*names, *(path.as_posix() for path in TEXTS)]:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(ROOT / name, tmp_path / name)
    return tmp_path


def test_the_copy_has_nothing_stale(tree: Path) -> None:
    assert report.stale(tree) == []


def changed(name: str, old: str, new: str) -> Callable[[Path], None]:
    def change(tree: Path) -> None:
        text = (tree / name).read_text("utf8")
        assert old in text
        (tree / name).write_text(text.replace(old, new, 1), "utf8")

    return change


def without(tree: Path, part: Callable[[Any], Any]) -> None:
    (tree / "book/claims.yml").write_text(yaml.safe_dump(part(claims.ledger(tree))), "utf8")


def removed(tree: Path) -> None:
    without(tree, lambda entries: [e for e in entries if e["id"] != "km-branch"])


def other_status(tree: Path) -> None:
    def change(entries: Any) -> Any:
        next(e for e in entries if e["id"] == "start-images-mu")["status"] = "measured"
        return entries

    without(tree, change)


def slower(tree: Path) -> None:
    folder = tree / "notebooks/recorded"
    record = read(folder / "bench.full.json")
    write(dataclasses.replace(record, seconds=record.seconds + 1e5), folder)


def other_device(tree: Path) -> None:
    folder = tree / "notebooks/recorded"
    record = read(folder / "bench.full.json")
    write(dataclasses.replace(record, device="a lighthouse"), folder)


def test_devices_are_told_apart_where_there_are_several(tree: Path) -> None:
    other_device(tree)
    shown = report_runs.runs(tree)
    assert "a lighthouse: `bench.full`.\n" in shown and "All on" not in shown


def other_setting(tree: Path) -> None:
    folder = tree / "notebooks/recorded"
    record = read(folder / "sparse-panels.page.json")
    record.settings["alpha"] = 0.5
    write(record, folder)


def other_record(tree: Path) -> None:
    folder = tree / "notebooks/recorded"
    record = read(folder / "sparse-coding.full.json")
    row = next(r for r in record.rows if r["metric"] == "psnr" and r["method"] == "bmo")
    row["value"] += 1.0
    write(record, folder)


COUNTS, COPY = "book/_generated/report-counts.txt", "bmo/claims.json"
UNSETTLED = "book/_generated/report-unsettled.txt"
RUNS, SETTINGS = "book/_generated/report-runs.txt", "book/_generated/report-settings.txt"
TASKS = "book/_generated/report-tasks.txt"


@pytest.mark.parametrize(
    ("spoil", "files"),
    [
        (removed, {COUNTS, COPY}),
        (other_status, {COUNTS, COPY, UNSETTLED, "book/_generated/report-abstract.txt", TASKS}),
        (other_record, {"book/_generated/report-measured.txt"}),
        (
            changed("book/published.yml", "33.67", "34.67"),
            {"book/_generated/report-published.txt"},
        ),
        (
            changed("book/published.yml", "note: See P4.", "note: See P5."),
            {"book/_generated/report-abstract.txt", COPY},
        ),
        (changed(COUNTS, "| measured | ", "| measured | 1"), {COUNTS}),
        (lambda tree: (tree / COPY).unlink(), {COPY}),
        (slower, {RUNS}),
        (other_device, {RUNS}),
        (other_setting, {SETTINGS}),
        (lambda tree: (tree / "book/10-sparse-coding.md").unlink(), {RUNS, TASKS}),
    ],
)
def test_a_spoiled_source_or_table_is_found(
    tree: Path, spoil: Callable[[Path], None], files: set[str]
) -> None:
    spoil(tree)
    assert set(report.write(tree)) == files
    assert report.stale(tree) == []


def test_a_line_that_names_no_claim_of_the_ledger_is_refused(tree: Path) -> None:
    changed("book/published.yml", "claims: [poster-ena", "claims: [poster-nobody")(tree)
    with pytest.raises(KeyError, match="poster-nobody"):
        report.stale(tree)


def test_the_figure_counts_every_claim() -> None:
    """The package's copy is the ledger; the notebook's printed count is that of the ledger."""
    entries = claims.ledger(ROOT)
    assert [c["id"] for c in ledger.claims()] == [e["id"] for e in entries]
    assert [c["status"] for c in ledger.claims()] == [e["status"] for e in entries]
    assert ledger.published() == report.sources().lines
    printed = "".join(
        output.get("text", "")
        for cell in load(ROOT / "notebooks/15-report.ipynb").cells
        if "report-counts" in cell.metadata.get("tags", [])
        for output in cell.outputs
    )
    assert f"{len(entries)} claims in all" in printed, "run the notebook again"


def test_competitive_on_sparse_coding() -> None:
    """Ahead of the better of the two others on Gaussian noise, behind it on salt and pepper."""
    full = read(ROOT / "notebooks/recorded/sparse-coding.full.json")

    def psnr(method: str, noise: str, depth: int) -> float:
        return full.value(method=method, noise=noise, depth=depth, metric="psnr")

    for noise, sign in (("gaussian", 1), ("salt-pepper", -1)):
        for depth in (16, 1000):
            best = max(psnr(m, noise, depth) for m in ("unh-ista", "ena-lista"))
            assert sign * (psnr("bmo", noise, depth) - best) > 0.1


def test_the_posters_table() -> None:
    """What the page and the exercise say of it: best in five of six columns, 0.07 dB on average."""
    (table,) = (f for f in report.sources().figures if f["id"] == "deconvolution")
    rows = {name: values for name, *values in table["rows"]}
    others = [max(column) for column in zip(*(rows[n] for n in rows if n != "BMO"), strict=True)]
    assert sum(own > other for own, other in zip(rows["BMO"], others, strict=True)) == 5
    differences = [own - other for own, other in zip(rows["BMO"], rows["DPIR"], strict=True)]
    assert sum(differences) / 6 == pytest.approx(0.0733, abs=1e-4)
    solution = ", ".join(f"${d:.2f}$" for d in differences)
    assert solution in (ROOT / "book/15-report.md").read_text("utf8")
