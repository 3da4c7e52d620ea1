"""Chapter 15, time to equal quality: what the page says is what the record says."""

from __future__ import annotations

import dataclasses
from typing import Any

import efficiency
import pytest
from bookfiles import ROOT

from bmo.record import Record, read

CLASSICAL = efficiency.FAMILIES["classical, tuned"]


@pytest.fixture(scope="module")
def record() -> Record:
    return read(ROOT / efficiency.RECORD)


def seconds(record: Record, family: str, target: float) -> float:
    rows = record.select(metric="core_seconds_to_target", target=target)
    return min(row["value"] for row in rows if row["method"] in efficiency.FAMILIES[family])


@pytest.mark.parametrize("target", [-10.0, -20.0])
def test_tuned_admm_needs_less_time_than_any_bmo(record: Record, target: float) -> None:
    admm = min(
        row["value"]
        for row in record.select(metric="core_seconds_to_target", target=target)
        if row["method"] == "unh-admm"
    )
    for family in ("BMO", "BMO, thin products", "BMO, pilot"):
        assert admm < 0.7 * seconds(record, family, target)
    assert efficiency.best(record, ["bmo-pilot-admm"]) < efficiency.best(record, CLASSICAL) - 4


@pytest.mark.parametrize(("target", "least"), [(-10.0, 1.2), (-20.0, 3.5)])
def test_bmo_is_quicker_than_first_order_methods_alone(
    record: Record, target: float, least: float
) -> None:
    slow = seconds(record, "ISTA and FISTA alone", target)
    assert slow > least * seconds(record, "BMO", target)


def test_the_table_is_the_records(record: Record) -> None:
    assert (ROOT / efficiency.TABLE).read_text("utf8") == efficiency.table(record)
    assert efficiency.TABLE.name in (ROOT / "book/15-report.md").read_text("utf8")
    listed = {name for names in efficiency.FAMILIES.values() for name in names}
    raced = {row["method"] for row in record.select(metric="core_seconds_to_target")}
    assert {name for name in raced - listed if not name.startswith("gkm-")} == set()


def test_a_cell_follows_the_record(record: Record) -> None:
    def half(row: dict[str, Any]) -> dict[str, Any]:
        mine = row["method"] == "bmo-admm" and row["metric"] == "core_seconds_to_target"
        return {**row, "value": row["value"] / 10} if mine else row

    changed = efficiency.table(dataclasses.replace(record, rows=[half(r) for r in record.rows]))
    before = efficiency.table(record)
    (new,) = [line for line in changed.splitlines() if line.startswith("| BMO |")]
    (old,) = [line for line in before.splitlines() if line.startswith("| BMO |")]
    assert new != old and float(new.split(" | ")[3]) == pytest.approx(
        float(old.split(" | ")[3]) / 10, abs=0.01
    )


def test_a_target_that_is_not_reached_says_so(record: Record) -> None:
    kept = [
        r
        for r in record.rows
        if r["method"] not in ("bmo", "bmo-ladmm", "bmo-fb-net") or r["metric"] == "nmse_db"
    ]
    text = efficiency.table(dataclasses.replace(record, rows=kept))
    (line,) = [line for line in text.splitlines() if line.startswith("| BMO, thin products |")]
    assert line.count("not reached") == 2
