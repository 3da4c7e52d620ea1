"""The claims ledger has no orphan: neither a claim without its page, proof, cell and test, nor a
theorem without its claim."""

from __future__ import annotations

import ast
import re
from pathlib import Path
from typing import Any

import yaml
from bookfiles import load

KINDS = {
    *("theorem", "proposition", "lemma", "corollary", "conjecture"),
    *("counterexample", "table", "figure", "experiment"),
}
SOURCES = {"poster", "abstract", "ours", "literature"}
STATUSES = {
    *("proved and verified", "proved", "measured", "literature"),
    *("conjectured", "partly", "not reproduced", "refuted", "open"),
}
# These may stand without evidence: quoted, guessed, proved only, or not yet examined.
WITHOUT_EVIDENCE = {"literature", "conjectured", "proved", "open"}
FIELDS = {"id", "statement", "kind", "source", "stated", "proved", "notebook", "test", "status"}
CLAIMS = re.compile(
    r"\{prf:(?:theorem|proposition|lemma|corollary|conjecture)\}[^\n]*\n((?::[^\n]*\n)*)"
)
LABEL = re.compile(r"^\s*:(?:label|name): *(\S+)|^\s*\((\S+)\)=", re.MULTILINE)


def ledger(root: Path) -> list[dict[str, Any]]:
    """Read the ledger."""
    # The loader in C reads the same and is ten times as fast; not every PyYAML has it.
    loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
    text = (root / "book/claims.yml").read_text("utf8")
    entries: list[dict[str, Any]] = yaml.load(text, Loader=loader)
    return entries


def labels(page: Path) -> set[str]:
    """Return every label of a page."""
    if not page.is_file():
        return set()
    return {first or second for first, second in LABEL.findall(page.read_text("utf8"))}


def claimed(root: Path) -> list[str]:
    """Return ``book/page.md#label`` for each theorem-like block; an unlabelled one has no label."""
    found = []
    for page in sorted((root / "book").glob("*.md")):
        for options in CLAIMS.findall(page.read_text("utf8")):
            label = re.search(r":label: *(\S+)", options)
            found.append(f"book/{page.name}#{label.group(1) if label else ''}")
    return found


def tests_of(path: Path) -> set[str]:
    """Return the tests of a file, as pytest names them (without parameters)."""
    if not path.is_file():
        return set()
    names = set()
    for node in ast.parse(path.read_text("utf8")).body:
        if isinstance(node, ast.FunctionDef) and node.name.startswith("test"):
            names.add(node.name)
        elif isinstance(node, ast.ClassDef):
            names |= {f"{node.name}::{item.name}" for item in node.body if hasattr(item, "name")}
    return names


def tags_of(path: Path) -> set[str]:
    """Return the cell tags of a notebook."""
    if not path.is_file():
        return set()
    return {tag for cell in load(path).cells for tag in cell.metadata.get("tags", [])}


def shape(entry: dict[str, Any]) -> list[str]:
    """Return what is wrong with an entry by itself."""
    if set(entry) != FIELDS:
        return [f"fields {sorted(set(entry) ^ FIELDS)} missing or unknown"]
    found = [
        f"{field}: {entry[field]!r} is not one of {sorted(allowed)}"
        for field, allowed in (("kind", KINDS), ("source", SOURCES), ("status", STATUSES))
        if entry[field] not in allowed
    ]
    if entry["status"].startswith("proved") and entry["proved"] is None:
        found.append("status says proved, but no proof is named")
    if entry["status"] in ("open", "conjectured") and entry["proved"] is not None:
        found.append(f"status says {entry['status']}, but a proof is named")
    if entry["status"] not in WITHOUT_EVIDENCE:
        found += [f"{field} is not named" for field in ("notebook", "test") if not entry[field]]
    return found


def targets(root: Path, entry: dict[str, Any]) -> list[str]:
    """Return the places that an entry names and that do not exist."""
    found = []
    for field in ("stated", "proved"):
        if entry[field] is not None:
            page, _, label = entry[field].partition("#")
            if label not in labels(root / page):
                found.append(f"{field}: no {entry[field]}")
    if entry["notebook"] is not None:
        name, _, tag = entry["notebook"].partition("#")
        if tag not in tags_of(root / "notebooks" / name):
            found.append(f"notebook: no {entry['notebook']}")
    if entry["test"] is not None:
        name, _, test = entry["test"].partition("::")
        if test not in tests_of(root / name):
            found.append(f"test: no {entry['test']}")
    return found


def orphans(root: Path) -> list[str]:
    """Return every fault of the ledger, in words."""
    entries = ledger(root)
    found = []
    for entry in entries:
        faults = shape(entry) or targets(root, entry)
        found += [f"{entry.get('id', entry)}: {fault}" for fault in faults]
    ids = [str(entry.get("id")) for entry in entries]
    found += [f"{name}: twice in the ledger" for name in sorted(set(ids)) if ids.count(name) > 1]
    stated = {entry.get("stated") for entry in entries}
    found += [f"{place}: not in the ledger" for place in claimed(root) if place not in stated]
    return found
