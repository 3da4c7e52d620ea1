"""Carry the project's address from pyproject.toml to every page that prints it.

    .venv/bin/python tests/tools/sync_address.py

The address stands under ``[project.urls]`` in pyproject.toml and is changed
there alone. `make book` runs this tool; a test fails when a page lags behind.
"""

from __future__ import annotations

import sys
import tomllib
from pathlib import Path

import yaml
from bookfiles import ROOT, text_files


def address(root: Path = ROOT) -> str:
    """Return the address that pyproject.toml states."""
    project = tomllib.loads((root / "pyproject.toml").read_text("utf8"))["project"]
    return str(project["urls"]["Repository"])


def printed(root: Path = ROOT) -> str:
    """Return the address that the book was last built with."""
    config = yaml.safe_load((root / "_config.yml").read_text("utf8"))
    return str(config["repository"]["url"])


def sync(root: Path = ROOT) -> list[str]:
    """Replace the printed address by the stated one; return the files that changed.

    The form without the host (``OWNER/bmo-book``, as in a Colab link) changes, too.
    """
    old, new = printed(root), address(root)
    if old == new:
        return []
    pairs = [(old, new), (short(old), short(new))]
    changed = []
    for path in text_files(root):
        if path == root / "pyproject.toml":
            continue
        before = path.read_text("utf8")
        after = before
        for was, now in pairs:
            after = after.replace(was, now)
        if after != before:
            path.write_text(after, "utf8")
            changed.append(path.relative_to(root).as_posix())
    return changed


def short(url: str) -> str:
    """Return the last two parts of an address: owner and name."""
    return "/".join(url.rstrip("/").split("/")[-2:])


if __name__ == "__main__":
    for name in sync():
        print(f"{name}: address changed", file=sys.stderr)
