"""The package's copy of the claims ledger: read, or refused in words."""

from __future__ import annotations

from pathlib import Path

import pytest

from bmo import ledger
from bmo.errors import RecordError


def test_every_claim_has_its_fields() -> None:
    fields = {"id", "statement", "kind", "source", "status", "page"}
    assert all(set(claim) == fields for claim in ledger.claims())
    names = {claim["id"] for claim in ledger.claims()}
    assert all(set(line["claims"]) <= names for line in ledger.published())


@pytest.mark.parametrize("text", [None, "", "{", "{}", "[]", '{"claims": 3}'])
def test_a_broken_copy_is_refused(tmp_path: Path, text: str | None) -> None:
    copy = tmp_path / "claims.json"
    if text is not None:
        copy.write_text(text, "utf8")
    with pytest.raises(RecordError, match="make book") as caught:
        ledger.claims(copy)
    assert caught.value.value is not None
