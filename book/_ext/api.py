"""Appendix B: docstrings as pages of the book.

Docstrings are written for a terminal, too. So they name a chapter by its number; here this becomes
a link. And they name classes by the module that a reader meets or by the one that holds them;
either finds its entry.
"""

from __future__ import annotations

import importlib
import pkgutil
import re
from pathlib import Path
from typing import Any

from docutils.nodes import Element, TextElement
from sphinx.addnodes import pending_xref
from sphinx.application import Sphinx
from sphinx.environment import BuildEnvironment
from sphinx.util.nodes import make_refnode

SECTION = re.compile(r"^(Args|Attributes|Returns|Raises|Yields|Example):$")
CHAPTER = re.compile(r"\b([Cc]hapter) (\d{1,2})\b(?!\.\d)")


def linked(lines: list[str], pages: dict[int, str]) -> list[str]:
    """Return a docstring in which each chapter that the book has is a link to its page."""

    def link(match: re.Match[str]) -> str:
        page = pages.get(int(match.group(2)))
        return f":doc:`{match.group(0)} </{page}>`" if page else match.group(0)

    code = re.compile(r"^\s*(>>>|\.\.\.)")
    return [line if code.match(line) else CHAPTER.sub(link, line) for line in lines]


def chapters(app: Sphinx) -> dict[int, str]:
    """Return the page of each chapter, by its number."""
    found = {}
    for path in sorted((Path(app.srcdir) / "book").glob("[0-9][0-9]-*.md")):
        found[int(path.name[:2])] = f"book/{path.stem}"
    return found


#: Docstrings of properties, as they were before napoleon read them.
BEFORE: dict[str, list[str]] = {}


def chapters_linked(
    app: Sphinx, what: str, name: str, found: Any, options: Any, lines: list[str]
) -> None:
    """Rewrite a docstring in place."""
    lines[:] = linked(lines, chapters(app))
    if what == "property" and not any(SECTION.match(line) for line in lines):
        BEFORE[name] = list(lines)


def properties_kept(
    app: Sphinx, what: str, name: str, found: Any, options: Any, lines: list[str]
) -> None:
    """Undo what napoleon does to a property: it takes "a constant: 1 if" for a type."""
    if what == "property" and name in BEFORE:
        lines[:] = BEFORE.pop(name)


def skip(app: Sphinx, what: str, name: str, found: Any, skipped: bool, options: Any) -> bool | None:
    """Leave out what a named tuple says of its fields by itself; its docstring says more."""
    text = getattr(found, "__doc__", None) or ""
    return True if text.startswith("Alias for field number") else None


def value_of(path: str) -> Any:
    """Return what a dotted name of the package stands for, or nothing."""
    if path.partition(".")[0] != "bmo":
        return None
    value: Any = importlib.import_module("bmo")
    for at, part in enumerate(path.split(".")[1:], 2):
        if not hasattr(value, part):
            try:
                importlib.import_module(".".join(path.split(".")[:at]))
            except ImportError:
                return None
        value = getattr(value, part)
    return value


def holders(module: str, within: str) -> list[str]:
    """Return where a short name may be looked up: its class and the modules that hold it."""
    found = [f"{module}.{within}", module] if within else [module]
    inner = value_of(f"{module}.{within}") or value_of(within) if within else None
    found += [kind.__module__ for kind in getattr(inner, "__mro__", ())]
    found += [f"{kind.__module__}.{kind.__qualname__}" for kind in getattr(inner, "__mro__", ())]
    parts = getattr(value_of(module), "__path__", [])
    found += [f"{module}.{part.name}" for part in pkgutil.iter_modules(parts)]
    return [name for name in found if name.startswith("bmo")]


def elsewhere(
    app: Sphinx, env: BuildEnvironment, node: pending_xref, shown: TextElement
) -> Element | None:
    """Find the entry of a name that another module shows; leave inner names as plain code."""
    if node.get("refdomain") != "py":
        return None
    target = str(node["reftarget"])
    if target.startswith("builtins."):
        return shown
    module, within = node.get("py:module") or "bmo", node.get("py:class") or ""
    for path in [target, *(f"{holder}.{target}" for holder in holders(module, within))]:
        value = value_of(path)
        if value is None:
            continue
        own = f"{getattr(value, '__module__', '')}.{getattr(value, '__qualname__', '')}"
        entry = env.domaindata["py"]["objects"].get(own)
        if entry is None:
            return shown
        return make_refnode(app.builder, node["refdoc"], entry.docname, entry.node_id, shown)
    return None if "." in target else shown  # an attribute that is set when an object is made


def setup(app: Sphinx) -> dict[str, bool]:
    """Run before and after napoleon reads a docstring, and where Sphinx finds no entry."""
    app.connect("autodoc-process-docstring", chapters_linked, priority=100)
    app.connect("autodoc-process-docstring", properties_kept, priority=900)
    app.connect("autodoc-skip-member", skip)
    app.connect("missing-reference", elsewhere)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
