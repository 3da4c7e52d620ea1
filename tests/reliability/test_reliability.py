"""A quick version of each part of the harness; and each part notices what it is there for."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

from bmo import checkpoint, record
from bmo.errors import BMOError, DomainError, RecordError
from bmo.problems import shelf
from bmo.record import store
from tests.reliability import __main__ as harness
from tests.reliability import bad_commands, calls, damage, disk, kills, twice, work, writers
from tests.reliability.common import Figure

ROOT = Path(__file__).resolve().parents[2]


def held(figures) -> int:
    """Nothing failed; how much was tried."""
    found = list(figures)
    assert [fault for figure in found for fault in figure.faults] == []
    assert all(figure.tried for figure in found)
    return sum(figure.tried for figure in found)


# ---- bad calls -------------------------------------------------------------------------------


@pytest.mark.parametrize("what", calls.TABLES)
def test_every_bad_call_ends_in_a_clear_error(what: str) -> None:
    faults = {name: calls.verdict(call) for name, call in calls.TABLES[what].items()}
    assert {name: fault for name, fault in faults.items() if fault} == {}


def test_there_are_more_than_a_hundred_bad_calls_and_no_two_alike() -> None:
    names = [name for table in calls.TABLES.values() for name in table]
    assert len(names) == len(set(names)) > 200
    lines = [tuple(line) for line in bad_commands.LINES.values()]
    assert len(lines) == len(set(lines))


def fails(error: Exception):
    """A call that ends in this error."""

    def call() -> None:
        raise error

    return call


@pytest.mark.parametrize(
    ("call", "fault"),
    [
        (lambda: None, "no error"),
        (fails(TypeError("bad operand")), "TypeError: bad operand"),
        (fails(BMOError("this", "that", "do so")), "an error of no kind"),
        (fails(DomainError("this", "that", " ")), "it does not say what is remedy"),
        (fails(DomainError("this", "this", "do so")), "what was given is what is required"),
        (fails(DomainError("this", "that" * 900, "do so")), " letters"),
        (lambda: bad_commands.refused(["records", "--help"]), "SystemExit"),
        (fails(DomainError("this", "that", "do so")), ""),
    ],
)
def test_an_unclear_error_is_noticed(call, fault: str) -> None:
    found = calls.verdict(call)
    assert fault in found and bool(fault) == bool(found)


# ---- kills -----------------------------------------------------------------------------------


def test_a_killed_training_resumes_to_the_same_bits() -> None:
    assert kills.once(work.trained, 2, seed=11) == []


def test_the_killed_training_depends_on_everything_that_is_resumed(tmp_path: Path) -> None:
    work.trained(tmp_path / "a", False)
    whole = (tmp_path / "a" / work.RESULT).read_text()
    path = tmp_path / "a" / "checkpoint.pt"
    for name, spoil in {
        "losses": lambda state: state["losses"][:-5],
        "random": lambda state: torch.get_rng_state(),
    }.items():
        kept = checkpoint.state_of(path.read_bytes())
        torch.manual_seed(99)
        kept[name] = spoil(kept)
        kept["losses"] = kept["losses"][:-5]
        folder = tmp_path / name
        folder.mkdir()
        torch.save(kept, folder / "checkpoint.pt")
        work.trained(folder)
        assert (folder / work.RESULT).read_text() != whole


# ---- damage ----------------------------------------------------------------------------------


def test_every_altered_byte_is_refused() -> None:
    assert held(damage.figures(bits=1, every=149, whole=False)) > 1000


def test_what_a_lenient_reader_forgives_is_refused(tmp_path: Path) -> None:
    kinds = {kind.what: kind for kind in damage.small(tmp_path)}
    for what in ("a record", "a part of a run"):
        count, faults = kinds[what].faults(damage.blanks(kinds[what].good))
        assert count > 50 and faults == ()


def test_an_accepted_damage_is_noticed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(store, "_own_digest", lambda payload: payload.get("sha256"))
    monkeypatch.setattr(shelf, "_opened", lambda raw: b"{" + raw[79:])
    monkeypatch.setattr(store.json, "loads", json.loads)
    kinds = {kind.what: kind for kind in damage.small(tmp_path) if kind.what != "a record"}
    part = kinds["a part of a run"]
    count, faults = part.faults(damage.flips(part.good, range(len(part.good)), 1, 0))
    assert 0 < len(faults) < count


# ---- disk ------------------------------------------------------------------------------------


@pytest.mark.parametrize("spoilt", [disk.full, disk.closed])
def test_a_refused_write_leaves_the_old_file_and_nothing_else(spoilt) -> None:
    assert spoilt(list(disk.WRITES)) == []


def test_a_write_that_is_not_refused_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(disk, "LIMIT", 100_000_000)
    assert "a part of a run: no error" in disk.full(["a part of a run"])


# ---- writers ---------------------------------------------------------------------------------


def test_two_writers_leave_one_of_the_two() -> None:
    held(f for f in writers.figures(rounds=8) if f.tried)


def test_a_mixed_file_is_noticed(tmp_path: Path) -> None:
    one, other = writers.version(0), writers.version(1)
    path = record.write(one, tmp_path)
    first = path.read_bytes()
    assert writers._fault(path, [one, other], "now") == []
    record.write(other, tmp_path)
    path.write_bytes(first + path.read_bytes()[len(first) :])
    assert "JSON" in writers._fault(path, [one, other], "now")[0]
    record.write(writers.version(2), tmp_path)
    assert writers._fault(path, [one, other], "now") == ["now: neither of the two"]


# ---- notebooks -------------------------------------------------------------------------------


def test_a_notebook_has_the_same_digits_with_two_threads() -> None:
    path = ROOT / "notebooks" / "02-metrics.ipynb"
    assert twice.differ(path.stem, twice.run(path, 2), twice.stored(path), False) == []


def test_another_digit_or_picture_is_noticed() -> None:
    path = ROOT / "notebooks" / "00-start.ipynb"
    one, other = twice.stored(path), twice.stored(path)
    assert twice.differ("x", one, other, True) == []
    for output in (o for cell in other for o in cell if "data" in o):
        if "image/png" in output["data"]:
            output["data"]["image/png"] = output["data"]["image/png"].swapcase()
    assert twice.differ("x", one, other, False) == [] != twice.differ("x", one, other, True)
    cell = next(cell for cell in other for o in cell if o["output_type"] == "stream")
    text = next(o for o in cell if o["output_type"] == "stream")
    text["text"] = text["text"].replace("1", "2")
    assert twice.differ("x", one, other, False) == [f"x, cell {other.index(cell)}"]


# ---- the record ------------------------------------------------------------------------------


def test_the_harness_keeps_its_parts_and_writes_the_record(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    parts = {
        "calls": lambda: [Figure("calls", "bad calls", 100)],
        "notebook 01": lambda: [Figure("notebooks", "cells", 10)],
        "notebook 02": lambda: [Figure("notebooks", "cells", 5, ("02, cell 3",))],
    }
    monkeypatch.setattr(harness, "PARTS", parts)
    out = ["--out", str(tmp_path)]
    assert harness.main([*out, "--part", "calls"]) == 0
    assert "1 of 3 parts" in capsys.readouterr().out
    monkeypatch.setitem(parts, "calls", fails(AssertionError("made again")))
    assert harness.main([*out, "--resume"]) == 1
    shown = capsys.readouterr().out
    assert "calls: bad calls: 100 of 100" in shown and "NOT: 02, cell 3" in shown
    found = record.read(tmp_path / "reliability.full.json")
    assert found.value(what="cells", metric="tried") == 15
    assert found.value(what="cells", metric="held") == 14


@pytest.fixture(scope="module")
def recorded() -> record.Record:
    """The recorded figures."""
    return record.read(ROOT / "notebooks/recorded/reliability.full.json")


@pytest.mark.parametrize(
    ("part", "least"),
    [("calls", 200), ("kills", 50), ("damage", 10_000), ("disk", 12), ("writers", 100)],
)
def test_the_recorded_figures_all_held(recorded: record.Record, part: str, least: int) -> None:
    tried = recorded.select(part=part, metric="tried")
    assert sum(r["value"] for r in tried) >= least
    for r in tried:
        held = recorded.value(part=part, what=r["setting"]["what"], metric="held")
        assert held == r["value"], r["setting"]["what"]


def test_recorded_notebooks_have_the_same_digits(recorded: record.Record) -> None:
    tried = recorded.select(part="notebooks", metric="tried")
    assert len(tried) == 2 and all(r["value"] >= 10 for r in tried)
    assert [r["value"] for r in recorded.select(part="notebooks", metric="held")] == [
        r["value"] for r in tried
    ]


def test_every_notebook_but_the_harness_own_is_in_the_record(recorded: record.Record) -> None:
    run = {n.removeprefix("notebook ") for n in recorded.settings["seconds"] if " " in n}
    assert run == {p.stem for p in (ROOT / "notebooks").glob("*.ipynb")} - {"reliability"}


def test_a_newcomer_waits_as_long_as_the_readme_says(recorded: record.Record) -> None:
    """From a fresh clone with no package at hand to the first picture of the built book."""
    (seconds,) = [r["value"] for r in recorded.select(part="newcomer", metric="seconds")]
    assert 150 < seconds < 210 and "about three minutes" in (ROOT / "README.md").read_text("utf8")


def test_a_record_of_another_version_is_refused() -> None:
    with pytest.raises(RecordError):
        record.find("reliability.small")
