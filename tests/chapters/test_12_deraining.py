"""Chapter 12: the records say what the page says, and the map is certified."""

from __future__ import annotations

import dataclasses
import shutil
from pathlib import Path

import pytest
import rain_table
import torch
import yaml
from bookfiles import ROOT

from bmo.baselines.deraining import directional, report
from bmo.certify import nonexpansive
from bmo.problems.deraining import Derainer
from bmo.problems.deraining.methods import build
from bmo.problems.deraining.settings import settings_of
from bmo.record import read, write

PEERS = read(ROOT / rain_table.FOLDER / rain_table.PEERS)


def test_the_tables_are_what_the_records_give() -> None:
    page = (ROOT / "book/12-deraining.md").read_text("utf8")
    for path, text in rain_table.tables().items():
        assert (ROOT / path).read_text("utf8") == text, "make book writes it again"
        assert f"{{include}} _generated/{path.name}" in page
    readme = (ROOT / "README.md").read_text("utf8")
    assert rain_table.PLACE.search(readme) and rain_table.written(readme) == readme


def test_the_tables_follow_the_records(tmp_path: Path) -> None:
    (tmp_path / "book/_generated").mkdir(parents=True)
    shutil.copy(ROOT / "README.md", tmp_path / "README.md")
    assert len(rain_table.write(tmp_path)) == 4 and rain_table.write(tmp_path) == []
    for text in rain_table.tables(tmp_path).values():
        assert text.count("not yet run") >= 1  # no record, no number
        assert not any(digit in text for digit in "3456789")
    assert rain_table.ours(tmp_path) is None
    folder = tmp_path / rain_table.FOLDER
    folder.mkdir(parents=True)
    shutil.copy(ROOT / rain_table.FOLDER / rain_table.PEERS, folder / rain_table.PEERS)
    assert len(rain_table.write(tmp_path)) == 3
    rows = [dict(row) for row in PEERS.rows]
    for row in rows:
        if row["method"] == "ena-prenet" and row["metric"] == "psnr":
            row["value"] = 12.25
    write(dataclasses.replace(PEERS, rows=rows), folder)
    assert rain_table.write(tmp_path) == ["book/_generated/rain-table.txt", "README.md"]


def test_the_published_rows_are_those_of_the_report() -> None:
    (printed,) = (
        figure
        for figure in yaml.safe_load((ROOT / "book/published.yml").read_text("utf8"))["figures"]
        if figure["id"] == "deraining"
    )
    for name, *cells in printed["rows"]:
        for dataset, cell in zip(rain_table.SETS, cells, strict=True):
            values = [
                PEERS.value(source="published", method=name.lower(), dataset=dataset, metric=metric)
                for metric in ("psnr", "ssim")
            ]
            assert [float(v) for v in cell.split(" / ")] == values


@pytest.mark.parametrize(
    ("method", "dataset", "psnr", "ssim"),
    [
        ("input", "rain100l", 26.90, 0.838),
        ("input", "rain100h", 13.55, 0.378),
        ("ena-prenet", "rain100l", 37.42, 0.978),
        ("ena-prenet", "rain100h", 29.45, 0.898),
    ],
)
def test_the_harness(method: str, dataset: str, psnr: float, ssim: float) -> None:
    """All 100 pairs; a separate implementation, which cut images to 8 bits, has given these."""
    where = {"method": method, "dataset": dataset, "channel": "Y"}
    for metric, want, tolerance in (("psnr", psnr, 0.05), ("ssim", ssim, 1e-3)):
        values = PEERS.curves[f"{metric}_y/{dataset}/{method}"]
        found = PEERS.value(**where, metric=metric)
        assert len(values) == 100
        assert found == pytest.approx(sum(values) / 100)
        cut = PEERS.select(**where, metric=f"{metric} lost by cutting")
        assert len(cut) == (method != "input")
        for row in cut:
            assert row["n"] >= 10
            found -= row["value"]
        assert found == pytest.approx(want, abs=tolerance)


def test_the_peers_have_their_provenance() -> None:
    assert PEERS.settings["pairs"] == 100 and PEERS.commit and "dirty" not in PEERS.commit
    files = {entry["file"] for entry in PEERS.data}
    assert files == set(report.files_of(PEERS.settings["methods"]))
    chosen = {name: dataclasses.asdict(w) for name, w in directional.CHOSEN.items()}
    assert PEERS.settings["directional"] == chosen
    assert [r for r in PEERS.rows if r["source"] == "published"] == report.published_rows()


def test_the_map_is_nonexpansive_whatever_its_numbers() -> None:
    """The step for one photograph: as it starts, and with wild numbers in its certified parts."""
    model = build("bmo", dataclasses.replace(settings_of("page"), bfloat16=False)).double()
    torch.manual_seed(0)
    rainy = torch.rand(1, 3, 12, 16)
    search = {"shape": (1, 3 + model.settings.maps, 12, 16), "trials": 4, "ascent": 8, "scale": 0.3}
    for wild in (0.0, 1.0, 30.0):
        with torch.no_grad():
            for raw in [*model.step.parameters(), *model.pull.parameters()]:
                raw.add_(wild * torch.randn_like(raw))
            told = model.guide(rainy)
        D = Derainer(
            model.step.bind(b=rainy, w=told.attention),
            model.pull.bind(reference=told.reference, parts=told.parts),
        )
        assert D.certified == "by construction"
        assert nonexpansive(D.prepared(), **search).measured <= 1 + 1e-9


def test_filters_that_are_not_divided_expand() -> None:
    """The same step without its constraint, with filters three times as large."""
    model = build("ena", dataclasses.replace(settings_of("page"), bfloat16=False)).double()
    rainy = torch.rand(1, 3, 12, 16, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        model.pull.filters.mul_(3)
        told = model.guide(rainy)
    D = Derainer(
        model.step.bind(b=rainy, w=told.attention),
        model.pull.bind(reference=told.reference, parts=told.parts),
    )
    assert D.certified == "none"
    search = {"shape": (1, 3 + model.settings.maps, 12, 16), "trials": 4, "ascent": 8, "scale": 0.3}
    assert nonexpansive(D.prepared(), **search).measured > 1.5
