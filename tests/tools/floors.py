"""Imports inside `bmo` go downwards.

The page "How this project is put together" lists the floors.
"""

from __future__ import annotations

import ast
import re
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

TOP = {"__init__", "__main__"}


def listed(page: Path) -> list[str]:
    """Return the floors in the order of the page: the top one first."""
    block = re.search(r"```text\n(bmo/.*?)```", page.read_text("utf8"), re.DOTALL)
    if block is None:
        return []
    return re.findall(r"^  ([a-z_]+)(?:\.py|/) ", block.group(1), re.MULTILINE)


def modules(package: Path) -> dict[str, Path]:
    """Return every module below ``bmo`` by its dotted name, without the leading ``bmo.``."""
    found = {}
    for path in sorted(package.rglob("*.py")):
        parts = path.relative_to(package).with_suffix("").parts
        name = ".".join(parts[:-1] if parts[-1] == "__init__" and parts[:-1] else parts)
        found[name] = path
    return found


def imported(path: Path, name: str) -> set[str]:
    """Return the modules of ``bmo`` that a file imports, wherever in the file it does so."""
    tree = ast.parse(path.read_text("utf8"))
    package = name.split(".") if path.name == "__init__.py" else name.split(".")[:-1]
    found: set[str] = set()
    for node in ast.walk(_without_types(tree)):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            base = ["bmo", *package[: len(package) - node.level + 1]] if node.level else []
            source = ".".join([*base, *([node.module] if node.module else [])])
            found |= {source, *(f"{source}.{alias.name}" for alias in node.names)}
    return {item.removeprefix("bmo.") for item in found if item == "bmo" or item.startswith("bmo.")}


def _without_types(tree: ast.Module) -> ast.Module:
    """Drop what stands under ``if TYPE_CHECKING``: it is never run."""
    for node in ast.walk(tree):
        if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING":
            node.body = [ast.Pass()]
    return tree


def faults(package: Path, page: Path) -> list[str]:
    """Return the imports that go upwards or in a circle, and floors that do not fit the page."""
    order = listed(page)
    known = modules(package)
    rooms = {name.split(".")[0] for name in known} - TOP
    found = [f"{room}: not on the page" for room in sorted(rooms - set(order))]
    found += [f"{room}: on the page, but not in bmo" for room in sorted(set(order) - rooms)]
    if found:
        return found
    graph: dict[str, set[str]] = {}
    for name, path in known.items():
        if name in TOP:
            continue
        floor = order.index(name.split(".")[0])
        wanted = imported(path, name)
        if "bmo" in wanted and not any(item in known for item in wanted - {"bmo"}):
            found.append(f"{name} imports the whole of bmo")
        inner = {item for item in wanted if item in known and item not in TOP and item != name}
        graph[name] = inner
        for item in sorted(inner):
            if order.index(item.split(".")[0]) < floor:
                found.append(f"{name} imports {item}, which is above it")
    try:
        TopologicalSorter(_leaves(graph)).prepare()
    except CycleError as error:
        found.append(f"imports in a circle: {' -> '.join(error.args[1])}")
    return found


def _leaves(graph: dict[str, set[str]]) -> dict[str, set[str]]:
    """Drop the edges from a module to its own package: ``from bmo.operators.base import x``."""
    return {
        name: {item for item in wanted if not name.startswith(f"{item}.")}
        for name, wanted in graph.items()
    }
