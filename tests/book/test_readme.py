"""The README: its example runs as it stands, and its table is that of the record."""

from __future__ import annotations

import re

import pytest
import readme_table
import torch
from bookfiles import ROOT

from bmo.record import read

TEXT = (ROOT / "README.md").read_text("utf8")


def test_the_table_is_the_records() -> None:
    record = read(ROOT / readme_table.RECORD)
    assert readme_table.PLACE.search(TEXT)
    assert readme_table.written(TEXT, record) == TEXT


def test_the_table_follows_the_record() -> None:
    record = read(ROOT / readme_table.RECORD)
    row = next(r for r in record.rows if r["metric"] == "psnr" and r["method"] == "bmo")
    row["value"] += 1.0
    assert readme_table.written(TEXT, record) != TEXT


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
