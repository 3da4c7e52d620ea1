"""Notebooks run twice give the same digits: a new run beside the stored one, and two threads."""

from __future__ import annotations

import copy
import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from unittest.mock import patch

import nbformat
from nbclient import NotebookClient

from tests.reliability.common import Figure

ROOT = Path(__file__).resolve().parents[2]
PICTURES = ("image/png", "image/svg+xml", "image/jpeg")
#: Seconds for one cell, on a machine that has much else to do.
TIMEOUT = 6 * 3600


def run(path: Path, threads: int) -> list[list[Any]]:
    """The outputs of each code cell, from a fresh kernel with so many threads.

    ``setup()`` asks for one thread; where two are wanted, they are asked for after it.
    """
    notebook = nbformat.read(path, as_version=4)
    asked = [cell for cell in notebook.cells if re.search(r"^setup\(", cell.source, re.M)]
    if not asked:
        raise ValueError(f"{path.name} never calls setup()")
    for cell in asked:
        cell.source = re.sub(
            r"^(setup\(.*\))$",
            rf"\1\n__import__('torch').set_num_threads({threads})",
            cell.source,
            flags=re.M,
        )
    last = nbformat.v4.new_code_cell('print(__import__("torch").get_num_threads())')
    notebook.cells.append(last)
    place = {"metadata": {"path": str(path.parent)}}
    with patch.dict(os.environ, OMP_NUM_THREADS=str(threads)):
        os.environ.pop("MPLBACKEND", None)  # or the kernels would not draw
        NotebookClient(notebook, timeout=TIMEOUT, kernel_name="python3", resources=place).execute()
    if last.outputs[0]["text"].strip() != str(threads):
        raise ValueError(f"{path.name} did not run with {threads} threads")
    return [cell.outputs for cell in notebook.cells[:-1] if cell.cell_type == "code"]


def stored(path: Path) -> list[list[Any]]:
    """The outputs that the notebook holds."""
    notebook = nbformat.read(path, as_version=4)
    return [cell.outputs for cell in notebook.cells if cell.cell_type == "code"]


def seen(outputs: list[Any], pictures: bool) -> tuple[str, dict[str, list[str]]]:
    """What a cell printed, and what it showed, by its kind."""
    printed = "".join(o["text"] for o in outputs if o["output_type"] == "stream")
    shown: dict[str, list[str]] = {}
    for output in outputs:
        for kind, value in copy.deepcopy(dict(output.get("data", {}))).items():
            if pictures or kind not in PICTURES:
                shown.setdefault(kind, []).append(str(value))
    return printed, shown


def differ(name: str, one: list[list[Any]], other: list[list[Any]], pictures: bool) -> list[str]:
    """The cells of two runs that differ, in words."""
    if len(one) != len(other):
        return [f"{name}: {len(one)} cells and {len(other)}"]
    return [
        f"{name}, cell {k}"
        for k, (a, b) in enumerate(zip(one, other, strict=True))
        if seen(a, pictures) != seen(b, pictures)
    ]


def notebooks() -> list[Path]:
    """All notebooks but the one that shows these very figures."""
    found = sorted((ROOT / "notebooks").glob("*.ipynb"))
    return [path for path in found if path.stem != "reliability"]


def compared(path: Path) -> Iterator[Figure]:
    """The cells of a notebook: run again beside the stored run, and once more with two threads."""
    again = run(path, 1)
    for what, other, pictures in (
        ("cells run again: digits and pictures as stored", stored(path), True),
        ("cells run with two threads: the same digits", run(path, 2), False),
    ):
        found = tuple(differ(path.stem, again, other, pictures))
        yield Figure("notebooks", what, len(again), found)
