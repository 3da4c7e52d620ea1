"""Formulas and the punctuation around them: one piece, and nothing lost."""

from __future__ import annotations

import typography
from bookfiles import html_pages, page
from docutils import nodes
from docutils.utils import new_document


def paragraph(*parts: str) -> nodes.paragraph:
    """A line of text in which the parts between are formulas, by turns."""
    line = nodes.paragraph()
    for number, part in enumerate(parts):
        line += nodes.math(text=part) if number % 2 else nodes.Text(part)
    return line


def test_a_formula_keeps_its_comma_and_its_bracket() -> None:
    document = new_document("page")
    line = paragraph("for (", "u", "), all ", "v", " and ", "w", ".")
    document += line
    before = line.astext()
    typography.keep(None, document)
    assert line.astext() == before
    pieces = [piece.astext() for piece in line.findall(nodes.inline)]
    assert pieces == ["(u),", "w."]
    assert [formula.astext() for formula in line.findall(nodes.math)] == ["u", "v", "w"]


def test_a_title_is_left_alone() -> None:
    document = new_document("page")
    title = nodes.title("", "", nodes.Text("on "), nodes.math(text="u"), nodes.Text("."))
    document += title
    typography.keep(None, document)
    assert list(document.findall(nodes.inline)) == []


def test_the_built_pages_have_such_pieces() -> None:
    found = [piece for path in html_pages() for piece in page(path).soup.select("span.keep")]
    assert len(found) > 500
    assert all(len(piece.select("span.math")) == 1 for piece in found)
