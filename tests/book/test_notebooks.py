"""The stored notebooks: run from a fresh start, free of faults, figures with words."""

from __future__ import annotations

from pathlib import Path

import checks
import pytest
import sync_address
from bookfiles import code_cells, load, notebooks, toc_pages

from bmo.notebook import FIRST_CELL

each = pytest.mark.parametrize("path", notebooks(), ids=lambda path: path.stem)


def test_every_notebook_of_the_toc_is_there() -> None:
    listed = {name.removeprefix("notebooks/") for name in toc_pages() if "notebooks/" in name}
    assert {path.stem for path in notebooks()} == listed


@each
def test_every_code_cell_was_run_in_order_without_error(path: Path) -> None:
    assert checks.unproved_cells(load(path)) == []


@each
def test_every_figure_has_a_caption_and_words_for_those_who_cannot_see_it(path: Path) -> None:
    assert checks.bare_figures(load(path)) == []


@each
def test_the_first_cell_installs_the_package_in_colab(path: Path) -> None:
    first = load(path).cells[0]
    assert first.source == FIRST_CELL.format(address=sync_address.address()).rstrip("\n")
    assert first.metadata.tags == ["remove-cell"]


@each
def test_the_last_code_cell_prints_verdicts(path: Path) -> None:
    last = code_cells(load(path))[-1]
    assert "verdicts" in last.metadata.get("tags", [])
    printed = "".join(output.get("text", "") for output in last.outputs)
    lines = printed.splitlines()
    assert lines[0].split() == ["claim", "measured", "guaranteed", "holds"]
    assert len(lines) > 1
    assert all(line.endswith(" yes") for line in lines[1:])


@each
def test_markdown_cells_use_nothing_that_colab_does_not_know(path: Path) -> None:
    text = "\n".join(cell.source for cell in load(path).cells if cell.cell_type == "markdown")
    assert "{prf:" not in text
    assert "{eq}" not in text
    assert "{cite}" not in text
    assert ":::" not in text
