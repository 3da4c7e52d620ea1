"""Appendix B: every public name is on a page, and has an example."""

from __future__ import annotations

import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import api_pages
import public
import pytest
from bookfiles import HTML, ROOT, page

import bmo

PAGES = public.pages()
SHOWN = [
    (name, item) for name, rooms in PAGES.items() for items in rooms.values() for item in items
]


def entries(name: str) -> dict[str, Any]:
    """Return the entries of a built page by their dotted names."""
    soup = page(HTML / "book" / f"{name}.html").soup
    return {str(tag["id"]): tag.find_parent("dl") for tag in soup.select("dt.sig[id]")}


def test_the_generated_files_are_what_the_docstrings_give() -> None:
    for path, text in api_pages.tables().items():
        assert (ROOT / path).read_text("utf8") == text, f"{path}: run tests/tools/api_pages.py"


def test_every_room_of_the_package_is_on_a_page_or_inside() -> None:
    rooms = {path.stem for path in (ROOT / "bmo").iterdir() if path.suffix == ".py"}
    rooms |= {path.parent.name for path in (ROOT / "bmo").glob("*/__init__.py")}
    on_pages = {name.split(".")[0] for names in public.PAGES.values() for name in names}
    assert rooms - {"__init__", "__main__"} == on_pages | public.INSIDE
    assert not on_pages & public.INSIDE


def test_every_package_that_lists_its_names_is_on_a_page() -> None:
    listed = {
        ".".join(path.parent.relative_to(ROOT / "bmo").parts)
        for path in (ROOT / "bmo").glob("*/**/__init__.py")
        if "__all__" in path.read_text("utf8")
    }
    on_pages = {name for names in public.PAGES.values() for name in names}
    assert {name for name in listed if name.split(".")[0] not in public.INSIDE} <= on_pages


def test_every_name_of_the_package_itself_is_on_the_first_page() -> None:
    linked = page(HTML / "book" / "b-api.html").soup.select("table.api-names a")
    assert [tag.get_text() for tag in linked] == [f"bmo.{name}" for name in bmo.__all__]
    assert all(str(tag["href"]).startswith("b-api-") for tag in linked)


def test_every_public_name_has_its_entry() -> None:
    homes, built = public.homes(), {name: entries(name) for name in PAGES}
    everywhere = {full for found in built.values() for full in found}
    missing = []
    for name, item in SHOWN:
        home = homes.get(id(item.value))
        full = home.full if home else item.full
        if full not in everywhere or (home is None and full not in built[name]):
            missing.append(full)
    assert missing == []


def test_every_function_and_class_has_an_example() -> None:
    found = {item.full for _, item in SHOWN if item.kind != "data" and not public.example(item)}
    assert sorted(found) == []


def test_an_example_of_its_own_is_on_the_page_with_its_output() -> None:
    shown = {full: tag for name in PAGES for full, tag in entries(name).items()}
    homes = public.homes()
    for _, item in SHOWN:
        text = public.doc(item.value) if item.kind != "data" else ""
        if "Example:" in text and ">>>" in text:
            full = homes[id(item.value)].full
            assert "&gt;&gt;&gt;" in str(shown[full]), full
    norm = entries("b-api-metrics")["bmo.metric.Scaled"].get_text()
    assert "bmo.metric.Scaled(4.0).norm" in norm and "tensor(10.)" in norm


def test_every_argument_error_and_formula_is_typeset() -> None:
    found = entries("b-api-loop")["bmo.GKM"]
    assert "Raises" in found.get_text() and "DomainError" in found.get_text()
    assert found.select("span.math")
    assert ":math:" not in page(HTML / "book" / "b-api-loop.html").soup.get_text()


@pytest.mark.parametrize("name", sorted(PAGES))
def test_nothing_of_the_markup_is_left_as_text(name: str) -> None:
    text = page(HTML / "book" / f"{name}.html").soup.find("article").get_text()  # type: ignore[union-attr]
    for mark in (":math:", ":class:", ":func:", ":meth:", ":mod:", "Args:"):
        assert mark not in text, mark


def test_a_chapter_that_a_docstring_names_is_a_link() -> None:
    linked = entries("b-api-bounds")["bmo.bounds.km_residual"].select("a[href]")
    assert any(str(tag["href"]).startswith("03-km.html") for tag in linked)


def nothing() -> None:
    """Do nothing."""


def test_a_name_without_an_example_is_found() -> None:
    assert public.example(public.Name("here", "nothing", nothing)) is None


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("Do it.\n\nAn example: :func:`~bmo.schedule`.", True),
        ("Do it.\n\nAn example: :class:`bmo.metric.Metric`.", False),
    ],
)
def test_a_pointer_to_an_example_is_followed(text: str, found: bool) -> None:
    def pointing() -> None: ...

    pointing.__doc__ = text
    assert (public.example(public.Name("here", "pointing", pointing)) is not None) is found


def test_a_pointer_to_nothing_is_an_error() -> None:
    def pointing() -> None: ...

    pointing.__doc__ = "Do it.\n\nAn example: :func:`bmo.nowhere`."
    with pytest.raises(LookupError, match="bmo.nowhere"):
        public.example(public.Name("here", "pointing", pointing))


def test_names_of_a_module_without_a_list_are_those_it_defines(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    made = ModuleType("bmo.made")
    made.mine, made.theirs, made._hidden = (  # type: ignore[attr-defined]
        type("mine", (), {"__module__": "bmo.made"}),
        Path,
        nothing,
    )
    monkeypatch.setitem(sys.modules, "bmo.made", made)
    assert [item.name for item in public.names("made")] == ["mine"]
