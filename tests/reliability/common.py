"""What all parts of the harness share: figures, processes to be killed, a scratch folder."""

from __future__ import annotations

import contextlib
import multiprocessing
import shutil
import tempfile
from collections.abc import Callable, Iterator
from multiprocessing.context import ForkServerContext
from pathlib import Path
from typing import Any, NamedTuple


class Figure(NamedTuple):
    """What was tried, how often, and how often it held.

    Args:
        part: Of the harness.
        what: In words.
        tried: How often.
        faults: Where it did not hold, in words.
        seconds: How long it took, where that is the point.
    """

    part: str
    what: str
    tried: int
    faults: tuple[str, ...] = ()
    seconds: float | None = None

    @property
    def held(self) -> int:
        """How often it held."""
        return self.tried - len(self.faults)


def processes() -> ForkServerContext:
    """Processes forked from one that has imported everything and has a single thread."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(
        ["tests.reliability.work", "tests.reliability.disk", "tests.reliability.writers"]
    )
    return context


@contextlib.contextmanager
def scratch() -> Iterator[Path]:
    """An empty folder that other users may enter; it is gone afterwards."""
    folder = Path(tempfile.mkdtemp(prefix="bmo-reliability-"))
    folder.chmod(0o755)
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def answer(context: ForkServerContext, task: Callable[..., Any], *arguments: Any) -> Any:
    """What a function returns in a process of its own."""
    mine, theirs = context.Pipe(duplex=False)
    process = context.Process(target=_send, args=(theirs, task, arguments))
    process.start()
    theirs.close()
    try:
        found = mine.recv()
    except EOFError:
        found = None
    process.join()
    if process.exitcode:
        raise RuntimeError(f"{task.__name__} ended with exit code {process.exitcode}")
    return found


def _send(pipe: Any, task: Callable[..., Any], arguments: tuple[Any, ...]) -> None:
    pipe.send(task(*arguments))
