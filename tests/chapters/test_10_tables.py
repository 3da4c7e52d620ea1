"""The tables of the Gaussian bench: every cell is a row of the record, whatever it holds."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import pytest
import sparse_table
from bookfiles import ROOT

from bmo.record import Record, read, row, write


@pytest.fixture(scope="module")
def page() -> Record:
    return read(ROOT / sparse_table.FOLDER / sparse_table.GAUSSIAN)


def network(noise: str, error: float, lost: float = 0.0) -> list[dict[str, Any]]:
    """Rows of a network with layers of its own, as the bench writes them, of two seeds."""
    base = {"bench": "gaussian", "noise": noise, "certified": "none"}
    base |= {"beyond": "last layer repeated"}
    at = {**base, "set": "trained"}
    rows = [row("ena-alista", {**at, "depth": d}, "nmse_db", [error - 1, error + 1])
            for d in sparse_table.DEPTHS]  # fmt: skip
    rows += [row("ena-alista", {**at, "depth": d}, "relative_residual", 3e-5)
             for d in sparse_table.DEPTHS]  # fmt: skip
    rows += [row("ena-alista", at, "diverged", lost)]
    rows += [row("ena-alista", base, "products_per_step", 2.0)]
    learned = {"bench": "gaussian", "noise": noise}
    rows += [row("ena-alista", learned, "parameters", 32)]
    rows += [row("ena-alista", learned, "training_seconds", [70.0, 73.0])]
    rows += [row("ena-alista", learned, "core_seconds_per_training_step", 0.0412)]
    return rows


def raced(method: str, noise: str, target: float, steps: int, seconds: float, **more: Any):
    at = {"bench": "gaussian", "noise": noise, "target": target, "codes": 200, **more}
    return [row(method, at, "steps_to_target", steps),
            row(method, at, "core_seconds_to_target", seconds)]  # fmt: skip


def with_rows(page: Record, *more: dict[str, Any]) -> Record:
    return dataclasses.replace(page, rows=[*page.rows, *more])


def lines(text: str, method: str) -> list[list[str]]:
    """The cells of each line of a method."""
    found = [line.strip("| ").split(" | ") for line in text.splitlines()]
    return [cells for cells in found if cells[0].startswith(f"`{method}`")]


def test_errors_and_costs_are_rows_of_the_record(page: Record) -> None:
    errors, costs = lines(sparse_table.gaussian(page), "bmo")
    for cell, depth in zip(errors[1:4], sparse_table.DEPTHS, strict=True):
        value = page.value(method="bmo", metric="nmse_db", set="trained", depth=depth)
        assert cell == f"{value:.2f}"
    assert errors[5] == "by construction"
    assert costs[1] == "2" and costs[2] == "10,200"
    step = page.value(method="bmo", metric="core_seconds_per_training_step")
    assert costs[3:5] == [f"{400 * step:.0f} s", f"{1000 * step:.0f} ms"] and step > 0.001
    assert len(lines(sparse_table.gaussian(page), "unh-admm")) == 4
    assert "†" not in sparse_table.gaussian(page)


def test_repeated_layers_are_marked_and_seeds_have_a_spread(page: Record) -> None:
    text = sparse_table.gaussian(with_rows(page, *network("30db", -28.0)))
    errors, costs = lines(text, "ena-alista")
    assert errors == ["`ena-alista`†", *["-28.00 ± 1.41"] * 3, "3e-05", "none"]
    assert costs[:5] == ["`ena-alista`†", "2", "32", "16 s", "41 ms"]
    assert sparse_table.LAYERS in text
    lost = sparse_table.gaussian(with_rows(page, *network("30db", 90.0, lost=0.1)))
    assert lines(lost, "ena-alista")[0][3:5] == ["lost", "–"]


def test_a_race_has_steps_and_time_or_nothing(page: Record) -> None:
    kept = [r for r in page.rows if "seconds" not in r["metric"] and "target" not in r["metric"]]
    found = with_rows(
        dataclasses.replace(page, rows=kept),
        *raced("bmo", "30db", -10.0, 14, 0.0214),
        *raced("unh-admm", "30db", -10.0, 5, 0.007, chosen_by="nmse"),
        *raced("unh-admm", "30db", -20.0, 12, 0.0166, chosen_by="nmse"),
    )
    text = sparse_table.gaussian(found)
    assert "| to -10 dB | to -20 dB |" in text
    assert lines(text, "bmo")[1][3:] == ["–", "–", "14 (21 ms)", "–"]
    by_error, by_cost = lines(text, "unh-admm")[2:]
    assert by_error[5:] == ["5 (7 ms)", "12 (17 ms)"] and by_cost[5:] == ["–", "–"]


def test_noise_levels_stand_apart(page: Record) -> None:
    clean = [{**r, "setting": {**r["setting"], "noise": "noiseless"}} for r in page.rows]
    for r in clean:
        if r["method"] == "gkm" and r["metric"] == "nmse_db" and r["setting"]["depth"] == 16:
            r["value"] = -77.0
    text = sparse_table.gaussian(with_rows(page, *clean))
    noisy, quiet = text.split("**No noise.**")
    assert noisy.startswith("**Noise at 30 dB.**")
    assert "-77.00" in quiet and "-77.00" not in noisy
    shifts = sparse_table.shifts(with_rows(page, *clean))
    assert shifts == sparse_table.shifts(page)


def test_the_large_instance_has_tables_once_it_is_recorded(tmp_path: Path, page: Record) -> None:
    for folder in ("notebooks/recorded", "book/_generated"):
        (tmp_path / folder).mkdir(parents=True)
    kept, place = ROOT / sparse_table.FOLDER, tmp_path / sparse_table.FOLDER
    for name in (sparse_table.GAUSSIAN, sparse_table.IMAGES):
        (place / name).write_bytes((kept / name).read_bytes())
    assert len(sparse_table.tables(tmp_path)) == 3
    large = dataclasses.replace(page, profile="full")
    write(large, place)
    made = {path.name: text for path, text in sparse_table.tables(tmp_path).items()}
    assert made["sparse-gaussian-full.txt"] == sparse_table.gaussian(large)
    assert made["sparse-shifts-full.txt"] == sparse_table.shifts(large)
