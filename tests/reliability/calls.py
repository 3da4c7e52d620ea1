"""A bad call ends in one clear error: what was required, what was given, what to do about it."""

from __future__ import annotations

import contextlib
import io
import warnings
from collections.abc import Callable, Iterator, Mapping

from bmo.errors import BMOError
from tests.reliability.bad_commands import COMMANDS
from tests.reliability.bad_data import DATA
from tests.reliability.bad_mathematics import MATHEMATICS
from tests.reliability.common import Figure

TABLES: dict[str, Mapping[str, Callable[[], object]]] = {
    "bad calls of the mathematics": MATHEMATICS,
    "bad calls of data, records and training": DATA,
    "bad command lines": COMMANDS,
}
#: An error longer than this is not read, letters.
LONGEST = 900


def verdict(call: Callable[[], object]) -> str:
    """Nothing for a clear error; otherwise what came instead."""
    with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
        warnings.simplefilter("ignore")
        try:
            call()
        except BMOError as error:
            return unclear(error)
        except (Exception, SystemExit) as error:
            return f"{type(error).__name__}: {error}"
    return "no error"


def unclear(error: BMOError) -> str:
    """What is wrong with an error; nothing for a clear one."""
    said = {"required": error.required, "got": error.got, "remedy": error.remedy}
    silent = [name for name, text in said.items() if not text.strip()]
    if silent:
        return f"it does not say what is {silent[0]}"
    if type(error) is BMOError:
        return "an error of no kind"
    if error.required == error.got:
        return "what was given is what is required"
    return "" if len(str(error)) <= LONGEST else f"{len(str(error))} letters"


def figures() -> Iterator[Figure]:
    """Every call of every table."""
    for what, table in TABLES.items():
        found = ((name, verdict(call)) for name, call in table.items())
        faults = tuple(f"{name}: {fault}" for name, fault in found if fault)
        yield Figure("calls", what, len(table), faults)
