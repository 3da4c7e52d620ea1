"""Bad command lines: each ends in one line on the error stream and exit code 2."""

from __future__ import annotations

import contextlib
import io
import tempfile
from collections.abc import Callable
from pathlib import Path

from bmo import cli
from bmo.errors import BMOError

NOWHERE = str(Path(tempfile.gettempdir()) / "bmo-no-such-folder")
LINES: dict[str, list[str]] = {
    "no command": [],
    "a command that is not known": ["fly"],
    "train without an experiment": ["train"],
    "train, experiment unknown": ["train", "alchemy"],
    "train, profile unknown": ["train", "sparse-coding", "--profile", "huge"],
    "train, noise unknown": ["train", "sparse-coding", "--noise", "pink"],
    "train, method unknown": ["train", "sparse-coding", "--method", "magic"],
    "train, noise of another experiment": ["train", "sparse-coding", "--noise", "30db"],
    "train, a seed that is not in the profile": ["train", "sparse-coding", "--seeds", "77"],
    "train, a seed that is no number": ["train", "sparse-coding", "--seeds", "x"],
    "train, a device that is not here": ["train", "deconvolution", "--device", "abacus"],
    "train, a device where none can be chosen": ["train", "sparse-coding", "--device", "cuda"],
    "train, minutes that are no number": ["train", "deconvolution", "--minutes", "soon"],
    "train, minutes negative": ["train", "deconvolution", "--minutes", "-5"],
    "train, an option that is not known": ["train", "sparse-coding", "--fast"],
    "evaluate, depth negative": ["evaluate", "sparse-coding", "--depths", "-3"],
    "evaluate, seed negative": ["evaluate", "sparse-coding", "--seed", "-1"],
    "evaluate, no depth": ["evaluate", "sparse-coding", "--depths"],
    "evaluate, an experiment without weights": ["evaluate", "deconvolution"],
    "restore, experiment unknown": ["restore", "sparse-coding", "a.png"],
    "restore, no picture": ["restore", "deraining"],
    "restore, a picture that is not there": ["restore", "deraining", f"{NOWHERE}/a.png"],
    "restore, a result that is no png": ["restore", "deraining", "a.png", "--out", "b.jpg"],
    "restore, noise that is no number": ["restore", "deconvolution", "a.png", "--noise", "some"],
    "bench, profile unknown": ["bench", "--profile", "huge"],
    "bench, peers of a missing folder": ["bench", "--peers", NOWHERE],
    "certificates, profile unknown": ["certificates", "--profile", "small"],
    "records of a missing folder": ["records", "--folder", NOWHERE],
    "records, action unknown": ["records", "burn"],
    "seal a missing folder": ["records", "seal", "--folder", NOWHERE],
}


def said(arguments: list[str]) -> tuple[int, str]:
    """Exit code and error stream of a command line."""
    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        code = cli.main(arguments)
    return code, err.getvalue()


class Unclear(Exception):
    """A command line that went on, or said more or less than one line."""


def refused(arguments: list[str]) -> None:
    """Run a bad command line; raise what it said as an error of the package."""
    code, text = said(arguments)
    parts = text.strip().removeprefix("bmo: required: ").replace("; remedy: ", "; got: ")
    told = parts.split("; got: ")
    if code != 2 or text.count("\n") != 1 or len(told) != 3:
        raise Unclear(f"exit code {code}: {text!r}")
    raise CommandError(*told, arguments)


class CommandError(BMOError):
    """What the command line said."""


def _call(arguments: list[str]) -> Callable[[], None]:
    return lambda: refused(arguments)


COMMANDS = {name: _call(arguments) for name, arguments in LINES.items()}
