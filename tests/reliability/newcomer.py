"""A newcomer's first minutes: a fresh clone, an empty package cache, `make book`, a picture."""

from __future__ import annotations

import os
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

from tests.reliability.common import Figure, scratch

ROOT = Path(__file__).resolve().parents[2]
PAGE = Path("_build/html/notebooks/00-start.html")


def figures() -> Iterator[Figure]:
    """One clone; the seconds until the page with the first picture is there."""
    kept = ("PATH", "HOME", "LANG", "TMPDIR")
    surroundings = {k: v for k, v in os.environ.items() if k in kept or k.startswith("PIP_")}
    with scratch() as folder:
        started, clone = time.monotonic(), folder / "bmo-book"
        subprocess.run(["git", "clone", "-q", str(ROOT), str(clone)], check=True)
        made = subprocess.run(
            ["make", "book"],
            cwd=clone,
            env={**surroundings, "PIP_NO_CACHE_DIR": "1"},
            capture_output=True,
            text=True,
        )
        seconds = time.monotonic() - started
        page = clone / PAGE
        shown = page.is_file() and "<img" in page.read_text("utf8")
        faults = () if made.returncode == 0 and shown else (made.stderr[-500:] or "no picture",)
        what = "clones with an empty package cache, to the first picture"
        yield Figure("newcomer", what, 1, faults, seconds)
