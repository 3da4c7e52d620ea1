"""A docstring that names a chapter's section names one that is there."""

from __future__ import annotations

import re

from bookfiles import ROOT

CITED = re.compile(r"(?:chapter|appendix)\s+(\d+|[a-z]),\s+\"([^\"]+)\"", re.IGNORECASE)
HEADING = re.compile(r"^#+ +(.+?) *$", re.MULTILINE)


def headings() -> dict[str, set[str]]:
    """Return the headings of each chapter, by its number, and of each appendix, by its letter."""
    pages = {page.name.split("-")[0].lstrip("0"): page for page in (ROOT / "book").glob("*-*.md")}
    return {
        name.lower(): {plain(h) for h in HEADING.findall(page.read_text("utf8"))}
        for name, page in pages.items()
    }


def plain(text: str) -> str:
    """Return a heading as a docstring can write it: plain letters, no marks."""
    letters = text.replace("–", "-").replace("ũ", "u")
    return re.sub(r"\s+", " ", letters.replace("`", "").replace("$", "")).strip()


def missing() -> list[str]:
    """Return every citation of a section that a chapter does not have."""
    there, found = headings(), []
    for path in sorted((ROOT / "bmo").rglob("*.py")):
        for number, title in CITED.findall(path.read_text("utf8")):
            chapter = there.get(number.lower())
            if chapter is not None and plain(title) not in chapter:
                found.append(f"{path.relative_to(ROOT)}: chapter {number}, {plain(title)!r}")
    return found


def test_cited_sections_exist() -> None:
    assert missing() == []


def test_a_heading_is_compared_as_plain_text() -> None:
    assert plain("Condat–Vũ  and `PDHG`") == "Condat-Vu and PDHG"
