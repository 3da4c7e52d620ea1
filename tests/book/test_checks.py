"""The checks of the book find the fault that they are for: each is planted once, in a copy."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import checks
import claims
import floors
import nbformat
import pytest
import run_notebooks
from bookfiles import ROOT, load
from nbformat.v4 import new_code_cell, new_notebook, new_output

LEDGER = """
- id: rate
  statement: It falls.
  kind: theorem
  source: ours
  stated: book/one.md#thm-rate
  proved: book/one.md#proof-rate
  notebook: one.ipynb#rate
  test: tests/test_one.py::test_rate
  status: proved and verified
"""
CHAPTER = """# One

:::{prf:theorem} Rate
:label: thm-rate

It falls.
:::

:::::{dropdown} Proof
:name: proof-rate

Clear.
:::::
"""


def write(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, "utf8")


@pytest.fixture
def book(tmp_path: Path) -> Path:
    """A book of one chapter with one claim, without a fault."""
    write(tmp_path / "book/one.md", CHAPTER)
    write(tmp_path / "book/claims.yml", LEDGER)
    write(tmp_path / "tests/test_one.py", "def test_rate():\n    pass\n")
    cell = new_code_cell("1", metadata={"tags": ["rate"]})
    write(tmp_path / "notebooks/one.ipynb", nbformat.writes(new_notebook(cells=[cell])))
    return tmp_path


def test_a_ledger_without_fault_has_no_orphan(book: Path) -> None:
    assert claims.orphans(book) == []


OPEN = """
- id: later
  statement: It is fast.
  kind: experiment
  source: abstract
  stated: book/one.md#thm-rate
  proved: null
  notebook: null
  test: null
  status: open
"""


def test_an_open_claim_needs_a_place_and_nothing_else(book: Path) -> None:
    write(book / "book/claims.yml", f"{LEDGER}{OPEN}")
    assert claims.orphans(book) == []
    write(book / "book/claims.yml", f"{LEDGER}{OPEN.replace('thm-rate', 'thm-none')}")
    assert claims.orphans(book) == ["later: stated: no book/one.md#thm-none"]
    write(book / "book/claims.yml", f"{LEDGER}{OPEN.replace('status: open', 'status: measured')}")
    assert claims.orphans(book) == ["later: notebook is not named", "later: test is not named"]


@pytest.mark.parametrize(
    ("file", "old", "new", "fault"),
    [
        ("book/claims.yml", "thm-rate", "thm-other", "stated: no book/one.md#thm-other"),
        ("book/claims.yml", "proof-rate", "proof-x", "proved: no book/one.md#proof-x"),
        ("book/claims.yml", "ipynb#rate", "ipynb#x", "notebook: no one.ipynb#x"),
        ("book/claims.yml", "test_rate", "test_x", "test: no tests/test_one.py::test_x"),
        ("book/claims.yml", "kind: theorem", "kind: hope", "'hope' is not one of"),
        ("book/claims.yml", "verified", "true", "'proved and true' is not one of"),
        ("book/claims.yml", "proved: book/one.md#proof-rate", "proved: null", "no proof"),
        (
            "book/claims.yml",
            "test: tests/test_one.py::test_rate",
            "test: null",
            "test is not named",
        ),
        ("book/claims.yml", "proved and verified", "open", "says open, but a proof"),
        ("book/claims.yml", "proved and verified", "conjectured", "conjectured, but a proof"),
        ("book/claims.yml", "source: ours", "source: hearsay", "'hearsay' is not one of"),
        ("book/claims.yml", "  source: ours\n", "", "missing or unknown"),
        ("book/claims.yml", "- id: rate", f"{LEDGER}\n- id: rate", "rate: twice"),
        ("book/one.md", "# One", "# One\n\n:::{prf:lemma} L\n:label: lem-a\n:::", "#lem-a: not in"),
        ("book/one.md", "# One", "# One\n\n:::{prf:lemma} L\n\nA.\n:::", "one.md#: not in"),
        ("tests/test_one.py", "test_rate", "other_rate", "test: no"),
    ],
)
def test_an_orphan_claim_is_found(book: Path, file: str, old: str, new: str, fault: str) -> None:
    text = (book / file).read_text("utf8")
    assert old in text
    write(book / file, text.replace(old, new, 1))
    assert any(fault in found for found in claims.orphans(book)), claims.orphans(book)


@pytest.fixture
def house(tmp_path: Path) -> Path:
    """A package of three floors, without a fault."""
    write(
        tmp_path / "how.md",
        "```text\nbmo/\n  roof.py  top\n  room/  middle\n  base.py  bottom\n```\n",
    )
    write(tmp_path / "bmo/__init__.py", "from bmo import roof\n")
    write(tmp_path / "bmo/roof.py", "from bmo.room.door import knock\nfrom bmo import base\n")
    write(tmp_path / "bmo/room/__init__.py", "from bmo.room.door import knock\n")
    write(tmp_path / "bmo/room/door.py", "def knock():\n    from bmo.base import x\n")
    write(tmp_path / "bmo/base.py", "x = 1\n")
    return tmp_path


def test_a_house_without_fault_stands(house: Path) -> None:
    assert floors.listed(house / "how.md") == ["roof", "room", "base"]
    assert floors.faults(house / "bmo", house / "how.md") == []


@pytest.mark.parametrize(
    ("file", "text", "fault"),
    [
        ("bmo/base.py", "import bmo.roof\n", "base imports roof, which is above it"),
        ("bmo/base.py", "def f():\n    from bmo import roof\n", "base imports roof"),
        ("bmo/base.py", "from .room.door import knock\n", "base imports room.door"),
        ("bmo/room/door.py", "from ..roof import y\n", "room.door imports roof"),
        ("bmo/base.py", "import bmo\n", "base imports the whole of bmo"),
        (
            "bmo/room/lock.py",
            "from bmo.room import door\nimport bmo.roof\n",
            "room.lock imports roof",
        ),
        ("bmo/attic.py", "", "attic: not on the page"),
        ("how.md", "```text\nbmo/\n  base.py  bottom\n```\n", "room: not on the page"),
    ],
)
def test_an_upward_import_is_found(house: Path, file: str, text: str, fault: str) -> None:
    write(house / file, text)
    found = floors.faults(house / "bmo", house / "how.md")
    assert any(fault in item for item in found), found


def test_a_circle_of_imports_is_found(house: Path) -> None:
    write(house / "bmo/room/lock.py", "from bmo.room import door\n")
    write(house / "bmo/room/door.py", "from bmo.room import lock\n")
    (fault,) = floors.faults(house / "bmo", house / "how.md")
    assert fault.startswith("imports in a circle")


def html(folder: Path, body: str, name: str = "page.html") -> Path:
    write(folder / name, f"<html><body><article>{body}</article></body></html>")
    return folder


@pytest.mark.parametrize(
    ("body", "fault"),
    [
        ('<a href="none.html">x</a>', "none.html: no such file"),
        ('<a href="#none">x</a>', "#none: no such anchor"),
        ('<a href="other.html#none">x</a>', "other.html#none: no such anchor"),
        ('<img src="none.png">', "none.png: no such file"),
    ],
)
def test_a_broken_link_is_found(tmp_path: Path, body: str, fault: str) -> None:
    html(tmp_path, '<p id="here"></p>', "other.html")
    html(tmp_path, '<a href="other.html#here">x</a><a href="https://example.org/none">x</a>')
    assert checks.broken_links(tmp_path) == []
    broken = tmp_path / "second"
    html(broken, '<p id="here"></p>', "other.html")
    (found,) = checks.broken_links(html(broken, body))
    assert fault in found


def test_a_page_that_is_not_built_is_found(tmp_path: Path) -> None:
    write(
        tmp_path / "_toc.yml",
        "root: a\nparts:\n- chapters:\n  - file: b\n    sections: [{file: c}]\n",
    )
    for name in ("a.html", "c.html", "d.html"):
        html(tmp_path / "html", "", name)
    found = checks.missing_pages(tmp_path, tmp_path / "html")
    assert found == ["b.html: not built", "d.html: not in _toc.yml"]


@pytest.mark.parametrize(
    ("tex", "accepted"),
    [
        (r"\(\norm{u}_H \le \R\)", True),
        (r"\[\begin{split}\begin{aligned} a &= b \\ &= c \end{aligned}\end{split}\]", True),
        (r"\begin{align} a &= b \end{align}", True),
        (r"\(\nrom{u}\)", False),
        (r"\(\frac{1}\)", False),
        (r"\[\left( x\]", False),
    ],
)
def test_a_formula_that_cannot_be_typeset_is_found(
    tmp_path: Path, tex: str, accepted: bool
) -> None:
    macros = {"R": "\\mathbb{R}", "norm": ["\\lVert #1 \\rVert", 1]}
    text = tex.replace("&", "&amp;").replace("<", "&lt;")
    wanted = checks.formulas(
        html(tmp_path, f'<div class="math"><span class="eqno">(1)</span>{text}</div>')
    )
    assert len(wanted) == 1
    assert (checks.refused_formulas(wanted, macros) == []) is accepted


@pytest.mark.parametrize("body", ["<p>Let $x$ be.</p>", r"<p>Let \alpha be.</p>"])
def test_a_formula_left_as_text_is_found(tmp_path: Path, body: str) -> None:
    kept = r'<code>$x$</code><span class="math">\(\alpha\)</span>'
    assert checks.raw_math(html(tmp_path, kept)) == []
    assert len(checks.raw_math(html(tmp_path / "second", body))) == 1


def run(source: str = "1", **changes: Any) -> Any:
    """A notebook of one cell that was run."""
    cell = new_code_cell(source, execution_count=1)
    cell.update(changes)
    kernel = {"kernelspec": {"name": "python3", "display_name": "Python 3"}}
    return new_notebook(cells=[cell], metadata={**kernel, "language_info": {"name": "python"}})


@pytest.mark.parametrize(
    ("changes", "fault"),
    [
        ({"execution_count": None}, "not executed"),
        ({"execution_count": 7}, "not executed in order"),
        ({"outputs": [new_output("error", ename="E", evalue="", traceback=[])]}, "0: E"),
        ({"metadata": {"execution": {}}}, "volatile"),
    ],
)
def test_an_unproved_cell_is_found(changes: dict[str, Any], fault: str) -> None:
    assert checks.unproved_cells(run()) == []
    (found,) = checks.unproved_cells(run(**nbformat.from_dict(changes)))
    assert fault in found


@pytest.mark.parametrize("what", ["caption", "name", "alt"])
def test_a_bare_figure_is_found(what: str) -> None:
    words = {"figure": {"caption": "c" * 30, "name": "fig-x"}, "image": {"alt": "a" * 30}}
    outputs = [new_output("display_data", data={"image/png": "x"})]
    whole = nbformat.from_dict({"metadata": {"mystnb": words}, "outputs": outputs})
    assert checks.bare_figures(run(**whole)) == []
    words["image" if what == "alt" else "figure"].pop(what)
    bare = nbformat.from_dict({"metadata": {"mystnb": words}, "outputs": outputs})
    assert checks.bare_figures(run(**bare)) == [f"code cell 0: a figure without {what}"]


def stream(text: str) -> Any:
    return new_output("stream", name="stdout", text=text)


@pytest.mark.parametrize(
    ("make", "passes"),
    [
        (lambda: run("print(0.125)", outputs=[stream("0.125\n")]), True),
        (lambda: run("print(0.125)", outputs=[stream("0.126\n")]), False),
        (lambda: run("print(1/0)"), False),
        (lambda: run("import sys; print(1, file=sys.stderr)"), False),
    ],
)
def test_a_wrong_stored_output_and_a_failing_cell_are_found(
    tmp_path: Path, make: Callable[[], Any], passes: bool
) -> None:
    nbformat.write(make(), tmp_path / "one.ipynb")
    strict = ["--nbval", "--nbval-current-env", f"--nbval-sanitize-with={ROOT}/tests/nbval.cfg"]
    answer = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", *strict, "one.ipynb"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
    )
    assert answer.returncode == (0 if passes else 1), answer.stdout


def write_notebook(path: Path, *sources: str) -> bytes:
    """Write a notebook whose cells have fixed names; return its bytes."""
    cells = [new_code_cell(text, id=f"cell-{number}") for number, text in enumerate(sources)]
    nbformat.write(new_notebook(cells=cells, metadata={"colab": {"time": 1}}), path)
    return path.read_bytes()


def test_two_runs_of_a_notebook_give_the_same_file(tmp_path: Path) -> None:
    path = tmp_path / "one.ipynb"
    before = write_notebook(path, "x = 0.5", "print(x)\nx")
    assert run_notebooks.main([str(path)]) == 0
    first = path.read_bytes()
    assert first != before
    assert checks.unproved_cells(load(path)) == []
    assert load(path).cells[1].outputs[0].text == "0.5\n"
    assert run_notebooks.main([str(path)]) == 0
    assert path.read_bytes() == first


def test_a_stream_is_stored_in_one_piece_however_it_arrives() -> None:
    error = new_output("stream", name="stderr", text="e")
    pieces = [stream("a"), stream("b\n"), error, stream("c")]
    assert [piece.text for piece in run_notebooks.joined(pieces)] == ["ab\n", "e", "c"]


def test_a_notebook_that_fails_is_left_as_it_was(tmp_path: Path) -> None:
    path = tmp_path / "one.ipynb"
    before = write_notebook(path, "x = 0.5", "print(x)", "1 / 0")
    assert run_notebooks.main([str(path)]) == 1
    assert path.read_bytes() == before
