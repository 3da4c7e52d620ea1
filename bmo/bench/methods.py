"""What is timed: a method prepares one problem and returns a call that gives its hypergradient.

Ours and plain torch register themselves below; peers stand in files of their own, outside of the
package, and are loaded from a folder.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import Tensor

from bmo.bench.problems import Problem
from bmo.errors import DomainError

Gradient = Callable[[], dict[str, Tensor]]
Prepare = Callable[[Problem], Gradient]
KINDS = ("unrolled", "implicit")


@dataclass(frozen=True)
class Method:
    """A way to compute a hypergradient.

    Attributes:
        name: Begins with its class: ``bmo ...``, ``torch ...`` or the peer's name.
        kind: ``"unrolled"`` (judged by the adjoint of the K steps) or ``"implicit"`` (judged by
            the implicit function theorem at the fixed point).
        problems: Names of the problems that it can express.
        prepare: Problem → call; what it does is not timed, what the call does is.
        goal: Name of its target in ``targets.json``, if it is ours.
        instead: Problem → the nearest problem that it can express, where this one is out of its
            reach; its gradient is then judged on that one, and its name says so.
        memory: Whether torch's allocator sees all of its memory.
    """

    name: str
    kind: str
    problems: tuple[str, ...]
    prepare: Prepare
    goal: str | None = None
    instead: Callable[[Problem], Problem] | None = None
    memory: bool = True

    def fits(self, problem: Problem, kind: str) -> bool:
        """Whether it is run on this problem, for this kind of gradient."""
        return kind == self.kind and problem.name in self.problems


class Registry:
    """Methods in the order in which they were entered, and what could not be loaded."""

    def __init__(self) -> None:
        self.methods: list[Method] = []
        self.missing: dict[str, str] = {}

    def enter(
        self, name: str, kind: str, problems: tuple[str, ...], **options: Any
    ) -> Callable[[Prepare], Prepare]:
        """Decorate a ``prepare`` function to enter it.

        Raises:
            DomainError: The name is taken for that kind and problem, or the kind is unknown.
        """
        if kind not in KINDS:
            raise DomainError(f"a kind of {', '.join(KINDS)}", repr(kind), "choose one", kind)
        for other in self.methods:
            if other.name == name and other.kind == kind and set(other.problems) & set(problems):
                raise DomainError("a new name", f"{name!r}, which is taken", "choose another", name)

        def add(prepare: Prepare) -> Prepare:
            self.methods.append(Method(name, kind, problems, prepare, **options))
            return prepare

        return add

    def load(self, folder: Path | str) -> None:
        """Run every adapter of a folder: ``available()`` tells why not, ``register(self)`` enters.

        Raises:
            DomainError: There is no adapter in the folder.
        """
        paths = sorted(Path(folder).glob("[a-z]*.py"))
        if not paths:
            raise DomainError("a folder with adapters", f"{folder}", "tests/bench/peers", folder)
        for path in paths:
            spec = importlib.util.spec_from_file_location(f"bmo_bench_{path.stem}", path)
            if spec is None or spec.loader is None:
                raise DomainError("a Python file", str(path), "remove it", path)
            adapter = importlib.util.module_from_spec(spec)
            spec.loader.exec_module(adapter)
            reason = adapter.available()
            if reason is None:
                adapter.register(self)
            else:
                self.missing[path.stem.replace("_", "-")] = reason

    def chosen(self, problem: Problem, kind: str) -> list[Method]:
        """The methods for this problem and kind."""
        return [method for method in self.methods if method.fits(problem, kind)]


def missing_package(module: str, install: str) -> str | None:
    """None if the module can be found, otherwise what to install.

    Example:
        >>> missing_package("json", "json")
        >>> missing_package("no_such_module", "pip install it")
        'not installed (pip install it)'
    """
    return None if importlib.util.find_spec(module) else f"not installed ({install})"
