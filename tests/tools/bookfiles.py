"""The files of the book: what is tracked, what the table of contents lists, what was built."""

from __future__ import annotations

import re
import subprocess
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

import nbformat
import yaml
from bs4 import BeautifulSoup

ROOT = Path(__file__).resolve().parents[2]
HTML = ROOT / "_build" / "html"
TEXT = {
    *(".bib", ".cff", ".cfg", ".css", ".ipynb", ".json", ".md", ".mjs", ".py", ".toml"),
    *(".txt", ".yaml", ".yml", ""),
}


def files(root: Path = ROOT) -> list[Path]:
    """Return the project's own files: what git tracks or would track, else what lies there."""
    listing = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        cwd=root,
        capture_output=True,
        text=True,
    )
    if listing.returncode == 0:
        found = [root / name for name in listing.stdout.split("\0") if name]
    else:
        hidden = {"_build", "__pycache__", ".venv", ".git"}
        found = [path for path in root.rglob("*") if not hidden & set(path.parts)]
    return sorted(path for path in set(found) if path.is_file())


def differing(made: dict[Path, str], root: Path = ROOT) -> dict[Path, str]:
    """Return those of the generated files that do not have this text."""
    return {
        path: text
        for path, text in made.items()
        if not (root / path).is_file() or (root / path).read_text("utf8") != text
    }


def rewrite(made: dict[Path, str], root: Path = ROOT) -> list[str]:
    """Write those of the generated files that have changed; return their names."""
    changed = differing(made, root)
    for path, text in changed.items():
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        (root / path).write_text(text, "utf8")
    return [path.as_posix() for path in changed]


def between(text: str, mark: str, made: str) -> str:
    """Return a text with what stands between its two markers made anew.

    Raises:
        LookupError: The markers are not there.
    """
    place = rf"(<!-- {mark} -->\n).*?(<!-- /{mark} -->)"
    new, count = re.subn(place, lambda m: m[1] + made + m[2], text, flags=re.DOTALL)
    if count == 0:
        raise LookupError(f"<!-- {mark} -->")
    return new


def text_files(root: Path = ROOT) -> list[Path]:
    """Return those of :func:`files` that hold text."""
    return [path for path in files(root) if path.suffix in TEXT]


def notebooks(root: Path = ROOT) -> list[Path]:
    """Return the notebooks in reading order of their names."""
    return sorted((root / "notebooks").glob("*.ipynb"))


def load(path: Path) -> Any:
    """Read a notebook."""
    return nbformat.read(path, as_version=4)


def code_cells(notebook: Any) -> list[Any]:
    """Return the code cells of a notebook."""
    return [cell for cell in notebook.cells if cell.cell_type == "code"]


def config(root: Path = ROOT) -> dict[str, Any]:
    """Return the book's configuration."""
    loaded: dict[str, Any] = yaml.safe_load((root / "_config.yml").read_text("utf8"))
    return loaded


def toc_pages(root: Path = ROOT) -> list[str]:
    """Return every page of the table of contents, without suffix, in reading order."""
    toc = yaml.safe_load((root / "_toc.yml").read_text("utf8"))
    pages = [toc["root"]]

    def walk(entries: list[dict[str, Any]]) -> None:
        for entry in entries:
            pages.append(entry["file"])
            walk(entry.get("sections", []))

    for part in toc["parts"]:
        walk(part["chapters"])
    return pages


class Page(NamedTuple):
    """A built page: its parsed tree, its anchors, and what it points to."""

    soup: BeautifulSoup
    anchors: frozenset[str]
    links: list[tuple[str, str]]


@cache
def page(path: Path) -> Page:
    """Parse a built page once."""
    soup = BeautifulSoup(path.read_text("utf8"), "html.parser")
    anchors = {str(tag["id"]) for tag in soup.find_all(id=True)}
    anchors |= {str(tag["name"]) for tag in soup.find_all("a", attrs={"name": True})}
    links = [
        (tag.name, str(tag.get("href") or tag.get("src")))
        for tag in soup.find_all(["a", "img", "script", "link", "source"])
        if tag.get("href") or tag.get("src")
    ]
    return Page(soup, frozenset(anchors), links)


def html_pages(html: Path = HTML) -> list[Path]:
    """Return the built pages of the book: without the theme's own files and the search page."""
    made = {"genindex.html", "index.html", "prf-prf.html", "py-modindex.html", "search.html"}
    return [
        path
        for path in sorted(html.rglob("*.html"))
        if "_static" not in path.parts and path.relative_to(html).as_posix() not in made
    ]
