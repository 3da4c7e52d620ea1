"""Records on disk: written whole, verified on reading, found beside a notebook or far away."""

from __future__ import annotations

import difflib
import hashlib
import json
import os
from dataclasses import fields
from pathlib import Path
from typing import Any
from urllib.parse import quote

from bmo.errors import RecordError
from bmo.files import cache_folder, check, download, sha256_of, write_atomic
from bmo.record.origin import project_address, project_version
from bmo.record.schema import Record

#: File name → sha256 of every committed record, shipped inside the package.
INDEX = Path(__file__).resolve().parent.parent / "records.json"
_GITHUB = "https://github.com/"
_RAW = "https://raw.githubusercontent.com/"


def write(record: Record, folder: Path | str) -> Path:
    """Write ``<experiment>.<profile>.json`` as a whole, with a sha256 of its own content.

    Two processes that write the same record leave one of the two, complete.

    Raises:
        RecordError: The record is malformed, or the folder cannot be made or written.

    An example: :func:`bmo.record.read`.
    """
    if not isinstance(record, Record):
        raise RecordError("a Record", type(record).__name__, "make one: Record(...)", record)
    record.validate()
    payload = record.as_dict()
    payload["sha256"] = _own_digest(payload)
    path = Path(folder) / f"{record.name}.json"
    return write_atomic(path, _layout(payload).encode("utf-8"), RecordError)


def read(path: Path | str) -> Record:
    """Read a record and verify it: its content by its sha256, and every byte of its layout.

    So a change that leaves the numbers as they are, a space for a line's end, is refused too.

    Raises:
        RecordError: Missing, not JSON (truncated, say), altered since it was written, or
            malformed; the error names the field.

    Example:
        >>> import tempfile
        >>> from bmo.record import Record, read, row, write
        >>> record = Record("bench", "page", "2026-01-31T12:00:00Z", "python -m bmo bench", {},
        ...     [0], [], "CPU", {}, None, 1.0, [row("bmo", {}, "PSNR dB", [30.0, 31.0])])
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     path = write(record, folder)
        ...     path.name, read(path).rows == record.rows
        ('bench.page.json', True)
    """
    path = Path(path)
    try:
        raw = path.read_bytes()
        payload = json.loads(raw.decode("utf-8"), parse_constant=_refuse)
    except OSError as problem:
        raise RecordError(
            f"a readable record {path}", str(problem), "run its command, or fetch it", str(path)
        ) from problem
    except (ValueError, RecursionError) as problem:
        raise RecordError(
            f"a whole JSON file {path}", str(problem), "fetch it again", str(path)
        ) from problem
    if not isinstance(payload, dict):
        raise RecordError("a JSON object", type(payload).__name__, "fetch it again", str(path))
    stated = payload.pop("sha256", None)
    found = _own_digest(payload)
    if stated != found:
        raise RecordError(
            f"{path.name} as it was written, sha256 {stated}",
            f"content with sha256 {found}: altered",
            "fetch it again, or run its command; records are never edited by hand",
            str(path),
        )
    record = _from_payload(payload, path)
    if _layout({**payload, "sha256": stated}).encode("utf-8") != raw:
        raise RecordError(
            f"{path.name} as it was written, byte for byte",
            "the same content in another layout: altered",
            "fetch it again, or run its command; records are never edited by hand",
            str(path),
        )
    return record


def _from_payload(payload: dict[str, Any], path: Path) -> Record:
    known = [f.name for f in fields(Record)]
    wrong = sorted(set(payload) ^ set(known))
    if wrong:
        raise RecordError(
            f"the fields {', '.join(known)}",
            f"{path.name} differs in {', '.join(wrong)}",
            f"mend the field {wrong[0]}",
            wrong,
        )
    record = Record(**payload)
    if path.name != f"{record.name}.json":
        raise RecordError(f"the file name {record.name}.json", path.name, "rename it", str(path))
    return record


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


def sealed(index: Path = INDEX) -> dict[str, str]:
    """File name → sha256 of the records that this version knows.

    Raises:
        RecordError: The index is missing or malformed.

    Example:
        >>> all(len(sha256) == 64 for sha256 in sealed().values())
        True
    """
    try:
        known = json.loads(index.read_text(encoding="utf-8"))
    except (OSError, ValueError) as problem:
        raise RecordError(
            f"the index {index}", str(problem), "python -m bmo records --seal", str(index)
        ) from problem
    if not isinstance(known, dict):
        raise RecordError("a JSON object", type(known).__name__, "seal again", str(index))
    return {str(name): str(sha256) for name, sha256 in known.items()}


def seal(folder: Path | str, index: Path = INDEX) -> dict[str, str]:
    """Write the index: the sha256 of every record and weights file of a folder.

    Each record is read first, so a malformed one is never sealed.

    Args:
        folder: Where the records lie, ``notebooks/recorded``.
        index: The file to write.

    Returns:
        File name → sha256.

    Raises:
        RecordError: There is no such folder, a record is malformed or altered, or the index
            cannot be written.

    An example: :func:`bmo.record.sealed`.
    """
    known = {}
    for path in sorted(require_folder(folder).iterdir()):
        if path.suffix == ".json":
            read(path)
        if path.suffix in (".json", ".safetensors"):
            known[path.name] = sha256_of(path)
    write_atomic(index, (json.dumps(known, indent=1) + "\n").encode("utf-8"), RecordError)
    return known


def require_folder(folder: Path | str) -> Path:
    """A folder that is there.

    Raises:
        RecordError: It is not.

    Example:
        >>> require_folder("no-such-folder")  # doctest: +ELLIPSIS
        Traceback (most recent call last):
        ...
        bmo.errors.RecordError: required: a folder of records; got: no-such-folder: none; ...
    """
    if not Path(folder).is_dir():
        raise RecordError(
            "a folder of records", f"{folder}: none", "correct its name (--folder)", str(folder)
        )
    return Path(folder)


def _own_digest(payload: dict[str, Any]) -> str:
    """sha256 of the canonical form: keys sorted, no spaces, without the sha256 itself."""
    text = json.dumps(payload, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    return hashlib.sha256(text.encode("utf-8")).hexdigest()


def _layout(payload: dict[str, Any]) -> str:
    """JSON with one row, one file, one setting or one curve on a line: short and diffable."""
    lines = []
    for key, value in payload.items():
        if isinstance(value, list) and value and isinstance(value[0], dict):
            body = "[\n  " + ",\n  ".join(_json(v) for v in value) + "\n ]"
        elif isinstance(value, dict) and value:
            inside = (f"{_json(k)}: {_json(v)}" for k, v in value.items())
            body = "{\n  " + ",\n  ".join(inside) + "\n }"
        else:
            body = _json(value)
        lines.append(f" {_json(key)}: {body}")
    return "{\n" + ",\n".join(lines) + "\n}\n"


def _json(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False, allow_nan=False)


def _refuse(constant: str) -> float:
    raise ValueError(f"{constant} is not JSON")
