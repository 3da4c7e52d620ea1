"""Where the parts of an experiment are kept, each as one file with its sha256. Book: chapter 10.

Of several processes (:mod:`bmo.parallel`) the first one makes, writes and reads a part; the others
wait and are told what it says. So no two of them can disagree on what is there.
"""

from __future__ import annotations

import hashlib
import json
import re
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Generic, Protocol, TypeVar

from bmo import parallel
from bmo.errors import TrainingError
from bmo.files import write_atomic

Part = dict[str, Any]
_HEAD, _DIGEST = b'{"sha256": "', re.compile(rb"[0-9a-f]{64}")


class Listed(Protocol):
    """Settings that can be listed."""

    def as_dict(self) -> dict[str, Any]:
        """Plain JSON."""


AnySettings = TypeVar("AnySettings", bound=Listed)


class Shelf(Generic[AnySettings]):
    """Parts by name, in a folder.

    Args:
        settings: What they are made with.
        folder: Where they are kept.
        resume: Use parts that are there already; otherwise only parts of this very run.
        progress: Show bars while a part is made (default: only in a terminal).
        device: Where a part is computed, of the experiments that can choose.
        deadline: Reading of ``time.monotonic()`` after which no training begins another step.
    """

    def __init__(
        self,
        settings: AnySettings,
        folder: Path,
        resume: bool = False,
        progress: bool | None = None,
        device: str = "cpu",
        deadline: float | None = None,
    ) -> None:
        self.settings, self.folder, self.resume = settings, folder, resume
        self.progress, self.device, self.deadline = progress, device, deadline
        self.made: set[str] = set()

    def relevant(self, name: str, known: dict[str, Any]) -> dict[str, Any]:
        """The settings that a part depends on, out of all that are known: not which others are."""
        return {k: v for k, v in known.items() if k not in ("noises", "methods", "seeds")}

    def kept(self, name: str) -> Part | None:
        """A part that is there and may be used.

        Raises:
            TrainingError: It is damaged, or of a run with other settings.
        """
        path = self.folder / f"{name}.json"
        usable = path.exists() and (self.resume or name in self.made)
        mine = path.read_bytes() if usable and parallel.main_process() else None
        content = parallel.from_first(mine)
        if content is None:
            return None
        try:
            part: Part = json.loads(_opened(content))
        except ValueError as problem:
            raise TrainingError(
                f"a whole file {path}",
                str(problem),
                f"delete {path} to compute it again",
                str(path),
            ) from problem
        wanted = self.relevant(name, json.loads(json.dumps(self.settings.as_dict())))
        if self.relevant(name, part.get("settings", {})) != wanted:
            raise TrainingError(
                "parts of a run with the same settings",
                f"{path} of another run",
                "choose another --out, or leave --resume out",
                str(path),
            )
        return part

    def keep(self, name: str, started: float, make: Callable[[], Part]) -> Part:
        """Make a part in the first process, write it with the seconds that it took, and tell all.

        Args:
            name: Of the part.
            started: ``time.monotonic()`` when the work began.
            make: Returns what the part holds; it runs in the first process alone, so it must not
                wait for the others.
        """
        content = None
        if parallel.main_process():
            part = {**make(), "settings": self.settings.as_dict()}
            part["seconds"] = time.monotonic() - started
            content = json.dumps(part, allow_nan=False).encode()
            write_atomic(self.folder / f"{name}.json", _sealed(content), TrainingError)
        self.made.add(name)
        return dict(json.loads(parallel.from_first(content) or b"{}"))


def _sealed(content: bytes) -> bytes:
    """A JSON object with the sha256 of its bytes as its first field."""
    return _HEAD + hashlib.sha256(content).hexdigest().encode() + b'", ' + content[1:]


def _opened(raw: bytes) -> bytes:
    """What was sealed; an object of an older version, without such a field, as it is.

    Raises:
        ValueError: It was altered or truncated.
    """
    if not raw.startswith(_HEAD) and not _DIGEST.fullmatch(raw[12:76]):
        return raw
    content = b"{" + raw[79:]
    if raw != _sealed(content):
        raise ValueError("another sha256: altered or truncated")
    return content
