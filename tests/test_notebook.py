"""bmo.notebook: verdicts, glue, the fixed start, the first cell."""

from __future__ import annotations

import math
import random
from pathlib import Path

import matplotlib as mpl
import nbformat
import numpy as np
import pytest
import torch
from nbclient import NotebookClient
from nbformat.v4 import new_code_cell, new_notebook

from bmo.errors import DomainError
from bmo.notebook import Verdict, VerdictError, digits, first_cell, glue, setup, verdicts

NAN = float("nan")
INF = float("inf")


@pytest.mark.parametrize(
    ("measured", "guaranteed", "relation", "tolerance", "holds"),
    [
        (0.5, 1.0, "<=", 0.0, True),
        (1.0, 1.0, "<=", 0.0, True),
        (1.0, 1.0, "<", 0.0, False),
        (1.0, 1.0, ">=", 0.0, True),
        (1.0, 1.0, ">", 0.0, False),
        (2.0, 1.0, ">", 0.0, True),
        (2.0, 1.0, "<=", 0.0, False),
        (1.0 + 1e-10, 1.0, "<=", 1e-9, True),
        (1.0 + 1e-8, 1.0, "<=", 1e-9, False),
        (1.0 - 1e-10, 1.0, ">=", 1e-9, True),
        (1.0, 1.0 + 1e-10, "=", 1e-9, True),
        (1.0, 1.0 + 1e-8, "=", 1e-9, False),
        (1000.0, 1000.0 + 1e-7, "=", 1e-9, True),
        (1e-10, 0.0, "=", 1e-9, True),
        (INF, INF, "=", 0.0, True),
        (INF, 1.0, "<=", 1e-9, False),
        (1.0, INF, "<=", 0.0, True),
        (1.0, INF, "=", 1e-9, False),
        (NAN, 1.0, "<=", 1.0, False),
        (NAN, 1.0, ">=", 1.0, False),
        (NAN, NAN, "=", 1.0, False),
        (1.0, NAN, "<=", 1.0, False),
    ],
)
def test_a_verdict_holds_exactly_when_its_relation_does(
    measured: float, guaranteed: float, relation: str, tolerance: float, holds: bool
) -> None:
    assert Verdict("claim", measured, guaranteed, relation, tolerance).holds is holds  # type: ignore[arg-type]


def test_an_unknown_relation_is_refused() -> None:
    with pytest.raises(DomainError) as caught:
        _ = Verdict("claim", 1.0, 2.0, "~").holds  # type: ignore[arg-type]
    assert caught.value.value == "~"
    with pytest.raises(DomainError):
        _ = Verdict("claim", 2.0, 2.0, "~").holds  # type: ignore[arg-type]


def test_a_claim_that_does_not_hold_stops_the_notebook_after_the_table(
    capsys: pytest.CaptureFixture[str],
) -> None:
    with pytest.raises(VerdictError, match="second: 3.0 <= 2.0") as caught:
        verdicts([("first", 1.0, 2.0), ("second", 3.0, 2.0)])
    lines = capsys.readouterr().out.splitlines()
    assert lines[1].split() == ["first", "1.00", "<=", "2.00", "yes"]
    assert lines[2].split() == ["second", "3.00", "<=", "2.00", "NO"]
    assert [row.claim for row in caught.value.value] == ["second"]


def test_no_verdict_at_all_is_refused() -> None:
    with pytest.raises(DomainError):
        verdicts([])


def test_the_columns_of_the_table_are_aligned(capsys: pytest.CaptureFixture[str]) -> None:
    verdicts([("x" * 40, 1e-3, 123456.0), ("y", -2.5e-7, INF, "<")])
    lines = capsys.readouterr().out.splitlines()
    assert len({len(line) for line in lines[1:]}) == 1
    assert lines[0].index("holds") == lines[1].index("yes")


@pytest.mark.parametrize(
    ("value", "text"),
    [
        *[(0.0, "0"), (-0.0, "0"), (1.0, "1.00"), (-1.0, "-1.00"), (123.0, "123")],
        *[(0.001, "0.00100"), (0.000999, "9.99e-04"), (99999.0, "1.00e+05"), (9e-13, "~0")],
        *[(-9e-13, "~0"), (2e-12, "2.00e-12"), (INF, "inf"), (-INF, "-inf"), (NAN, "nan")],
    ],
)
def test_digits(value: float, text: str) -> None:
    assert digits(value) == text


def test_digits_round_to_the_number_itself() -> None:
    generator = random.Random(0)
    for _ in range(200):
        value = generator.choice([-1, 1]) * 10 ** generator.uniform(-11, 11)
        assert math.isclose(float(digits(value, 4)), value, rel_tol=5.1e-4)


def test_setup_makes_numbers_repeatable() -> None:
    threads = torch.get_num_threads()
    with mpl.rc_context():
        setup(7)
        first = torch.rand(3), np.random.rand(3)
        setup(7)
        assert torch.equal(first[0], torch.rand(3))
        assert np.array_equal(first[1], np.random.rand(3))
        assert first[0].dtype == torch.float64
        assert torch.get_num_threads() == 1
        assert mpl.rcParams["figure.dpi"] == 160
    torch.set_num_threads(threads)


def test_a_negative_seed_is_refused() -> None:
    with pytest.raises(DomainError):
        setup(-1)


def test_the_first_cell_is_python_that_does_nothing_outside_of_colab() -> None:
    text = first_cell().replace("%pip", "raise SystemExit  # pip")
    exec(compile(text, "first cell", "exec"), {})
    assert first_cell().endswith('"')


def test_glue_outside_of_jupyter_does_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    glue(value=1.0)
    assert capsys.readouterr().out == ""


def test_glue_stores_what_the_book_reads(tmp_path: Path) -> None:
    source = (
        "import numpy, torch\nfrom bmo.notebook import glue\n"
        "glue(rate=0.5, count=3, word='yes', one=torch.tensor(0.25), other=numpy.float64(2 / 3))"
    )
    notebook = new_notebook(cells=[new_code_cell(source)])
    NotebookClient(notebook, resources={"metadata": {"path": str(tmp_path)}}).execute()
    nbformat.validate(notebook)
    stored = {
        output.metadata.scrapbook.name: output.data["application/papermill.record/text/plain"]
        for output in notebook.cells[0].outputs
    }
    expected = {"rate": "0.5", "count": "3", "word": "'yes'", "one": "0.25", "other": "0.666667"}
    assert stored == expected
    assert all(
        set(output.data) <= {"application/papermill.record/text/plain"}
        for output in notebook.cells[0].outputs
    )
