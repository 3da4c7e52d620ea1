"""What is public in `bmo`, page by page of appendix B, and how its docstrings speak.

A name is public if a module that is listed here names it in ``__all__``, or, where a module has
none, defines it without a leading underscore.
"""

from __future__ import annotations

import ast
import importlib
import inspect
import re
from pathlib import Path
from types import ModuleType
from typing import Any, NamedTuple

from bmo import errors

#: The modules of each page, in reading order.
PAGES = {
    "b-api-loop": ["gkm", "inner", "schedules", "solve", "hypergradient", "train", "result"],
    "b-api-operators": ["operators", "networks", "parameters", "kernels"],
    "b-api-metrics": ["metric", "sets", "prox", "smooth"],
    "b-api-bounds": ["bounds", "certify", "performance"],
    "b-api-problems": [
        *("problems", "problems.toy", "problems.families", "problems.family_values"),
        *("problems.sparse_coding", "problems.sparse_coding.gaussian"),
        *("problems.deconvolution", "problems.deraining", "restore"),
    ],
    "b-api-baselines": [
        *("baselines", "baselines.denoisers", "baselines.restoration", "baselines.deraining"),
    ],
    "b-api-records": ["data", "measure", "record", "ledger", "parallel", "notebook", "errors"],
}
#: Below the command line: run by it, and not called by a reader.
INSIDE = {"bench", "checkpoint", "cli", "files", "fused", "plotting"}


class Name(NamedTuple):
    """A public name: the module that shows it, the name, what it is."""

    module: str
    name: str
    value: Any

    @property
    def full(self) -> str:
        """The dotted name."""
        return f"{self.module}.{self.name}"

    @property
    def kind(self) -> str:
        """``class``, ``exception``, ``function`` or ``data``."""
        if inspect.isclass(self.value):
            return "exception" if issubclass(self.value, BaseException) else "class"
        return "function" if inspect.isroutine(self.value) else "data"


def module(name: str) -> ModuleType:
    """Import a module by its name below `bmo`."""
    return importlib.import_module(f"bmo.{name}" if name else "bmo")


def names(name: str) -> list[Name]:
    """Return the public names of a module: first its own order, then nothing else."""
    found = module(name)
    listed = getattr(found, "__all__", None)
    if listed is None:
        listed = [
            key
            for key, value in vars(found).items()
            if not key.startswith("_") and getattr(value, "__module__", None) == found.__name__
        ]
    shown = [Name(found.__name__, key, getattr(found, key)) for key in listed]
    return [item for item in shown if not inspect.ismodule(item.value)]


def pages() -> dict[str, dict[str, list[Name]]]:
    """Return the public names of each page, by module; what two modules show is in both."""
    return {page: {name: names(name) for name in rooms} for page, rooms in PAGES.items()}


class Home(NamedTuple):
    """Where a class or function has its entry: under this name, in the part of this module."""

    full: str
    room: str


def homes() -> dict[int, Home]:
    """Return the home of each class and function: where it is shown first.

    What `bmo` itself shows is entered by that short name.
    """
    found: dict[int, Home] = {}
    top = {id(item.value): item.full for item in names("")}
    for rooms in pages().values():
        for room, items in rooms.items():
            for item in items:
                if item.kind != "data":
                    full = top.get(id(item.value), item.full)
                    found.setdefault(id(item.value), Home(full, room))
    return found


def doc(value: Any) -> str:
    """Return a docstring of its own (not an inherited one), without its indentation."""
    return inspect.cleandoc(getattr(value, "__doc__", None) or "")


def summary(value: Any) -> str:
    """Return the first paragraph of a docstring, in one line."""
    return " ".join(doc(value).split("\n\n")[0].split())


def members(value: type) -> dict[str, str]:
    """Return the docstrings of a class's own public methods and properties."""
    found = {}
    for key, item in vars(value).items():
        function = item.fget if isinstance(item, property) else getattr(item, "__func__", item)
        if not key.startswith("_") and (inspect.isroutine(function) or hasattr(item, "func")):
            text = doc(getattr(item, "func", function))
            if text:
                found[key] = text
    return found


POINTER = re.compile(r"An example:\s+:\w+:`~?([\w.]+)`")


def example(item: Name) -> str | None:
    """Return the docstring that holds a name's example; a docstring may point to another's."""
    texts = [doc(item.value)]
    if inspect.isclass(item.value):
        texts += members(item.value).values()
    for text in texts:
        if ">>>" in text:
            return text
    if item.kind == "exception" and item.value is not errors.BMOError:
        return example(Name("bmo.errors", "BMOError", errors.BMOError))  # made and printed alike
    pointed = POINTER.search(texts[0])
    if pointed is None:
        return None
    text = doc(resolve(pointed.group(1)))
    return text if ">>>" in text else None


def resolve(path: str) -> Any:
    """Return what a dotted name stands for.

    Raises:
        LookupError: There is nothing of that name.
    """
    first, *parts = path.split(".")
    value: Any = importlib.import_module(first)
    for at, part in enumerate(parts, 2):
        if not hasattr(value, part):  # a module that nothing has imported yet
            try:
                importlib.import_module(".".join(path.split(".")[:at]))
            except ImportError:
                raise LookupError(path) from None
        value = getattr(value, part)
    return value


def comments(name: str) -> dict[str, str]:
    """Return what is said of a module's constants: the ``#:`` lines above, or a string below."""
    path = Path(str(module(name).__file__))
    source = path.read_text("utf8")
    lines, found = source.splitlines(), {}
    body = ast.parse(source).body
    for node, after in zip(body, [*body[1:], None], strict=True):
        target = node.targets[0] if isinstance(node, ast.Assign) else getattr(node, "target", None)
        if not isinstance(target, ast.Name):
            continue
        above: list[str] = []
        row = node.lineno - 2
        while row >= 0 and lines[row].startswith("#:"):
            above.insert(0, lines[row][2:].strip())
            row -= 1
        if isinstance(after, ast.Expr) and isinstance(after.value, ast.Constant):
            above.append(" ".join(str(after.value.value).split()))
        found[target.id] = " ".join(above)
    return found
