"""Records on disk: written whole, verified on reading."""

from __future__ import annotations

import hashlib
import json
from dataclasses import fields
from pathlib import Path
from typing import Any

from bmo.errors import RecordError
from bmo.files import write_atomic
from bmo.record.schema import Record


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
