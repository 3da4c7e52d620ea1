"""The claims ledger as the package ships it: every claim of the book and its status.

The ledger itself is ``book/claims.yml``; ``make book`` writes this copy, and a test compares the
two. So a notebook can count the claims wherever it runs.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from bmo.errors import RecordError

#: The copy inside the package.
COPY = Path(__file__).with_name("claims.json")


def claims(copy: Path = COPY) -> list[dict[str, Any]]:
    """Every claim: ``id``, ``statement``, ``kind``, ``source``, ``status``, and its ``page``.

    Raises:
        RecordError: The copy is missing or malformed.

    Book: chapter 15.

    Example:
        >>> from bmo import ledger
        >>> {claim["source"] for claim in ledger.claims()} <= {
        ...     "poster", "abstract", "ours", "literature"}
        True
    """
    return _part("claims", copy)


def published(copy: Path = COPY) -> list[dict[str, Any]]:
    """Poster and abstract line by line: ``line``, ``says``, ``claims`` (their names), ``note``.

    Raises:
        RecordError: The copy is missing or malformed.

    Book: chapter 15.

    Example:
        >>> from bmo import ledger
        >>> ledger.published()[0]["line"]
        'P1'
    """
    return _part("published", copy)


def _part(name: str, copy: Path) -> list[dict[str, Any]]:
    try:
        found = json.loads(copy.read_text(encoding="utf-8"))[name]
    except (OSError, ValueError, KeyError, TypeError) as problem:
        raise RecordError(
            f"the list {name!r} in {copy.name}", repr(problem), "make book", str(copy)
        ) from problem
    if not isinstance(found, list):
        raise RecordError(f"a list {name!r}", type(found).__name__, "make book", str(copy))
    return found
