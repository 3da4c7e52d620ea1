"""Appendix A: every letter of book and docstrings, with a place and a name that exist."""

from __future__ import annotations

import re
from pathlib import Path

import claims
import notation
import public
import pytest
import yaml
from bookfiles import ROOT, config

ENTRIES = notation.entries()
USES = notation.uses()
LABELS = {label for path in sorted((ROOT / "book").glob("*.md")) for label in claims.labels(path)}


def test_the_generated_table_is_what_docstrings_and_list_give() -> None:
    assert (ROOT / notation.GENERATED).read_text("utf8") == notation.table()
    assert notation.GENERATED.name in (ROOT / "book/a-notation.md").read_text("utf8")


def test_every_letter_of_a_docstring_is_in_the_list() -> None:
    assert notation.unlisted() == []


def test_every_macro_of_the_book_is_in_the_list() -> None:
    macros = config()["sphinx"]["config"]["mathjax3_config"]["tex"]["macros"]
    listed = {name for entry in ENTRIES for name in re.findall(r"\\([A-Za-z]+)", entry["symbol"])}
    assert set(macros) - listed == set()


@pytest.mark.parametrize("entry", ENTRIES, ids=lambda e: f"{e['symbol']} {e['where']}")
def test_a_letter_has_a_place_and_a_name(entry: dict[str, str]) -> None:
    assert entry["where"] in LABELS
    found = [use for use in USES if notation.bears(entry, use)]
    assert bool(found) != bool(entry.get("code")), "a name in the docstrings, or a word instead"
    for use in found:
        public.resolve(use.name)
        if use.argument:
            text = public.doc(public.resolve(use.name))
            assert re.search(rf"^ +{use.argument}: ", text, re.MULTILINE)


def test_the_letters_of_algorithm_1_have_their_names_in_code() -> None:
    found = {
        (entry["symbol"], use.name, use.argument)
        for entry in ENTRIES
        for use in USES
        if notation.bears(entry, use)
    }
    assert {
        (r"\alpha", "bmo.GKM", "alpha"),
        (r"\D", "bmo.GKM", "operator"),
        (r"\H", "bmo.GKM.metric", None),
        (r"\mu", "bmo.Inner", "mu"),
        ("s_k", "bmo.Inner", "steps"),
        ("U", "bmo.Inner", "domain"),
        ("K", "bmo.solve.solve", "iterations"),
        ("T", "bmo.solve.solve", "outer"),
        (r"\gamma", "bmo.solve.solve", "gamma"),
        (r"\om", "bmo.solve.solve", "parameters"),
        (r"\Proj", "bmo.sets.Set.project", None),
    } <= found


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("Make it.\n\nArgs:\n    n: :math:`K \\ge 0`, steps.\n", [("K", "n")]),
        ("Make it.\n\nArgs:\n    n: Steps :math:`K`.\n", [("", "n")]),
        (":math:`T(u)`, same shape.", [("T(u)", None)]),
        ("Make it.\n\nRaises:\n    Error: :math:`K` is bad.\n", []),
    ],
)
def test_a_letter_is_read_at_the_start_of_a_description(
    text: str, found: list[tuple[str, str | None]]
) -> None:
    uses = [(notation.letter(use.formula), use.argument) for use in notation.uses_in(text, "x")]
    assert uses == found


def test_a_letter_that_no_row_explains_is_found(tmp_path: Path) -> None:
    groups = yaml.safe_load((ROOT / notation.NOTATION).read_text("utf8"))
    for group in groups:
        group["letters"] = [entry for entry in group["letters"] if entry["symbol"] != r"\Delta"]
    (tmp_path / "book").mkdir()
    (tmp_path / notation.NOTATION).write_text(yaml.safe_dump(groups), "utf8")
    assert any(r"\Delta" in item for item in notation.unlisted(tmp_path))
