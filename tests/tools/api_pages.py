"""Write appendix B: every public name, for Sphinx to fill in from the docstrings.

    .venv/bin/python tests/tools/api_pages.py

`make book` runs it, and a test compares. The pages themselves are short and written by hand; each
includes what is written here.
"""

from __future__ import annotations

from pathlib import Path

import public
from bookfiles import ROOT, rewrite
from public import Home, Name

GENERATED = Path("book/_generated")
DIRECTIVES = {"class": "autoclass", "exception": "autoexception", "function": "autofunction"}


def entry(item: Name, full: str) -> list[str]:
    """Return the directive for one name."""
    if item.kind == "data":
        return [f".. py:data:: {item.name}", *indented(["", said(item), ""])]
    options = ["   :members:"] * (item.kind == "class")
    return [f".. {DIRECTIVES[item.kind]}:: {full}", *options, ""]


def said(item: Name) -> str:
    """Return what is said of a constant, and its value if that is short."""
    text = constants(item.module).get(item.name, "")
    if type(item.value).__module__ in ("typing", "collections.abc", "types"):  # an alias of a type
        return f"{text} Stands for ``{item.value}``.".replace("torch.", "").strip()
    value = repr(item.value)
    shown = f"``{value}``" if len(value) < 160 and " at 0x" not in value else ""
    return (
        f"{text} {shown}".strip()
        or f"A :class:`~{type(item.value).__module__}.{type(item.value).__name__}`."
    )


def constants(name: str) -> dict[str, str]:
    """Return what is said of the constants that a package shows, wherever they are written."""
    found = public.comments(name.removeprefix("bmo").removeprefix("."))
    folder = Path(str(public.module(name.removeprefix("bmo.")).__file__))
    if folder.name == "__init__.py":
        for path in sorted(folder.parent.glob("*.py")):
            if path.name != "__init__.py":
                part = f"{name}.{path.stem}".removeprefix("bmo.")
                found = {**public.comments(part), **found}
    return found


def indented(lines: list[str]) -> list[str]:
    """Return lines as the content of a directive."""
    return [f"   {line}" if line else "" for line in lines]


def table(rows: list[tuple[str, str, str]]) -> list[str]:
    """Return a table of names, each with a link and a sentence."""
    if not rows:
        return []
    lines = [".. list-table::", "   :class: api-names", "   :widths: 30 70", ""]
    for name, full, text in rows:
        lines += [f"   * - :py:obj:`{name} <{full}>`", f"     - {text}"]
    return [*lines, ""]


def section(name: str, items: list[Name], homes: dict[int, Home]) -> str:
    """Return the part of one module."""
    rows, entries = [], []
    for item in items:
        home = homes.get(id(item.value), Home(item.full, name))
        text = said(item) if item.kind == "data" else public.summary(item.value)
        rows.append((item.name, home.full, text))
        if home.room == name:
            entries += entry(item, home.full)
    text = "\n".join([f".. automodule:: bmo.{name}", "", *table(rows), *entries])
    label = name.replace(".", "-").replace("_", "-")
    return f"(sec-api-{label})=\n## bmo.{name}\n\n````{{eval-rst}}\n{text}\n````\n"


def first(homes: dict[int, Home]) -> str:
    """Return the table of what `bmo` itself shows."""
    top = public.module("")
    rows = []
    for key in top.__all__:
        value = getattr(top, key)
        home = homes.get(id(value))
        rows.append((f"bmo.{key}", home.full if home else f"bmo.{key}", public.summary(value)))
    return "\n".join(["````{eval-rst}", *table(rows), "````"]) + "\n"


def tables(root: Path = ROOT) -> dict[Path, str]:
    """Return the text of the files."""
    homes = public.homes()
    found = {GENERATED / "b-api.txt": first(homes)}
    for page, rooms in public.pages().items():
        parts = [section(name, items, homes) for name, items in rooms.items()]
        found[GENERATED / f"{page}.txt"] = "\n".join(parts)
    return found


def write(root: Path = ROOT) -> list[str]:
    """Write what has changed; return the names of these files."""
    return rewrite(tables(root), root)


if __name__ == "__main__":
    print(write() or "unchanged")
