"""Records found by name: beside a notebook, in the cache, or at the project's address."""

from __future__ import annotations

import difflib
import os
from pathlib import Path
from urllib.parse import quote

from bmo.errors import RecordError
from bmo.files import cache_folder, check, download
from bmo.record.index import sealed
from bmo.record.origin import project_address, project_version
from bmo.record.schema import Record
from bmo.record.store import read

_GITHUB = "https://github.com/"
_RAW = "https://raw.githubusercontent.com/"


def find(name: str) -> Record:
    """A record by its name, such as ``"sparse-coding.full"``.

    Looks in ``recorded`` and ``notebooks/recorded`` below the current folder; else fetches
    it from the project's address at the installed version, verified by the sha256 that the
    package ships.

    Raises:
        RecordError: Unknown, not to be had, altered or malformed.

    An example: :func:`bmo.record.read`.
    """
    return read(find_file(f"{name}.json"))


def find_file(file: str) -> Path:
    """Path of a record or weights file: beside the notebook, in the cache, or downloaded.

    A copy from the project's address is verified against the sha256 inside the package. A
    copy beside the notebook may be newer than the package: its reader verifies it.

    Raises:
        RecordError: Unknown, not to be had, or altered.
    """
    for folder in (Path("recorded"), Path("notebooks") / "recorded"):
        if (folder / file).is_file():
            return folder / file
    sha256 = sealed().get(file)
    if sha256 is None:
        raise RecordError(
            "a record beside the notebook, or one that this version knows",
            f"{file}; the nearest known: {', '.join(_near(file, sealed())) or 'none'}",
            "run the command that makes it, or install the version that has it",
            file,
        )
    # The digest is in the path, so another version's file is never in the way.
    path = cache_folder() / "records" / sha256[:16] / file
    url = record_url(file)
    if path.exists():
        return check(path, sha256, source=url, error=RecordError)
    return download(url, path, sha256, error=RecordError)


def _near(file: str, known: dict[str, str]) -> list[str]:
    """At most six known names, the most similar first."""
    return difflib.get_close_matches(file, known, n=6, cutoff=0.0)


def record_url(file: str) -> str:
    """Address of a recorded file at the installed version.

    The environment variable BMO_RECORDS_URL names another folder, for a mirror or a fork.

    Raises:
        RecordError: The package is not installed, or is not published on GitHub.

    Example:
        >>> from unittest.mock import patch
        >>> with patch.dict("os.environ", BMO_RECORDS_URL="https://example.org/recorded"):
        ...     record_url("bench.full.json")
        'https://example.org/recorded/bench.full.json'
    """
    base = os.environ.get("BMO_RECORDS_URL")
    if not base:
        address = project_address()
        if not address.startswith(_GITHUB):
            raise RecordError(
                f"an address below {_GITHUB}", address, "set BMO_RECORDS_URL", address
            )
        place = address.removeprefix(_GITHUB)
        base = f"{_RAW}{place}/v{project_version()}/notebooks/recorded"
    return f"{base.rstrip('/')}/{quote(file)}"
