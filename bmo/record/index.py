"""The index of records that the package ships: file name → sha256."""

from __future__ import annotations

import json
from pathlib import Path

from bmo.errors import RecordError
from bmo.files import sha256_of, write_atomic
from bmo.record.store import read

#: File name → sha256 of every committed record, shipped inside the package.
INDEX = Path(__file__).resolve().parent.parent / "records.json"


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
