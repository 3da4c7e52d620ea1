"""The README: its example runs as it stands, and its table is that of the record."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import readme_gaussian
import readme_table
import torch
from bookfiles import ROOT

from bmo.record import read

TEXT = (ROOT / "README.md").read_text("utf8")


def test_the_table_is_the_records() -> None:
    record = read(ROOT / readme_table.RECORD)
    assert readme_table.written(TEXT, record) == TEXT


def test_the_table_follows_the_record() -> None:
    record = read(ROOT / readme_table.RECORD)
    row = next(r for r in record.rows if r["metric"] == "psnr" and r["method"] == "bmo")
    row["value"] += 1.0
    assert readme_table.written(TEXT, record) != TEXT


def test_a_text_without_the_markers_is_refused() -> None:
    with pytest.raises(LookupError, match="results"):
        readme_table.written("# no table", read(ROOT / readme_table.RECORD))


def test_the_first_table_is_that_of_the_gaussian_bench() -> None:
    record = read(ROOT / readme_gaussian.RECORD)
    assert readme_gaussian.written(TEXT, record) == TEXT
    assert TEXT.index("<!-- gaussian -->") < TEXT.index("<!-- results -->")
    row = next(r for r in record.rows if r["metric"] == "nmse_db" and r["method"] == "bmo-admm")
    row["value"] += 1.0
    assert readme_gaussian.written(TEXT, record) != TEXT


def test_what_the_readme_says_of_the_upper_step() -> None:
    """0.1 to 0.9 dB gained after 1,000 steps; up to 0.9 dB lost at 16."""
    record = read(ROOT / readme_gaussian.RECORD)
    gains = {
        k: [
            -record.value(method=f"{m} minus mu = 0", depth=k, noise="30db")
            for m in ("bmo", "bmo-ladmm", "bmo-admm")
        ]
        for k in (16, 1000)
    }
    assert [f"{min(gains[1000]):.1f}", f"{max(gains[1000]):.1f}"] == ["0.1", "0.9"]
    assert f"{-min(gains[16]):.1f}" == "0.9"
    assert "gains 0.1 to 0.9 dB" in TEXT and "costs up to 0.9 dB at 16" in TEXT


def test_a_table_is_written_again_when_its_record_has_changed(tmp_path: Path) -> None:
    for maker in (readme_gaussian, readme_table):
        (tmp_path / maker.RECORD.parent).mkdir(parents=True, exist_ok=True)
        (tmp_path / maker.RECORD).write_bytes((ROOT / maker.RECORD).read_bytes())
    (tmp_path / "README.md").write_text(TEXT.replace("| -28.2 |", "| -29.2 |"), "utf8")
    assert readme_table.write(tmp_path) == []
    assert readme_gaussian.write(tmp_path) == ["README.md"]
    assert (tmp_path / "README.md").read_text("utf8") == TEXT


def test_what_the_readme_says_of_the_pilot_run() -> None:
    """Behind at 16, and from 64 on the best row of the table."""
    record = read(ROOT / readme_gaussian.RECORD)
    for depth in readme_gaussian.DEPTHS:
        at = {"metric": "nmse_db", "set": "trained", "noise": "30db", "depth": depth}
        found = {
            (method, rule): record.value(method=method, chosen_by=rule, **at)
            for method, rule, _ in readme_gaussian.METHODS
        }
        best = min(found, key=lambda row: found[row])
        assert (best == ("bmo-deep-pilot-ladmm", None)) == (depth >= 64)
    deep, plain = found["bmo-deep-pilot-ladmm", None], found["bmo-ladmm", None]
    assert deep < plain and "behind at 16, and from 64 on the best row of this table" in TEXT


def test_the_example_runs() -> None:
    (example,) = re.findall(r"```python\n(.*?)```", TEXT, re.DOTALL)
    names: dict[str, object] = {}
    exec(compile(example, "README.md", "exec"), names)
    step, found = names["D"], names["u_test"]
    assert isinstance(step, torch.nn.Module) and isinstance(found, torch.Tensor)
    slopes = [w.grad for w in step.parameters() if w.requires_grad]
    assert slopes and all(g is not None and bool(torch.isfinite(g).all()) for g in slopes)
    assert any(float(g.abs().max()) > 0 for g in slopes if g is not None)
    T = names["T"]
    assert T.residual(found).max().item() == pytest.approx(0.0, abs=1e-4)  # type: ignore[attr-defined]
