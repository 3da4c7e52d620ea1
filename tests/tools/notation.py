r"""Write appendix A: every letter, what it is, where it is defined, and its names in code.

    .venv/bin/python tests/tools/notation.py

What a letter is stands in ``book/notation.yml``. Its names in code come from the docstrings: an
argument, attribute, method or property whose description begins with a formula bears the letter of
that formula (``iterations: :math:`K`, inner steps.``). `make book` runs this, and a test compares.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any, NamedTuple

import public
import yaml
from bookfiles import ROOT, rewrite
from claims_table import ROLES

NOTATION = Path("book/notation.yml")
GENERATED = Path("book/_generated/a-notation.txt")
#: Where the letters of the theory are; other modules have letters of their own.
ROOMS = [
    *("gkm", "inner", "schedules", "solve", "hypergradient", "result"),
    *("operators", "parameters", "metric", "sets", "prox", "smooth", "bounds", "certify"),
    *("problems.toy", "problems.families"),
]
ENTRY = re.compile(r"^    (\w+): (?::math:`([^`]+)`)?")
WHOLE = re.compile(r"^:math:`([^`]+)`")
RANGE = re.compile(r"\s*(?:\\ge|\\le|\\in|\\succ|=|<|>|\\dots|,\s*\\).*$")
LETTER = re.compile(
    r"^(?:\\(?:bar|hat|mathcal|tilde) ?\{?)?(?:\\[a-zA-Z]+|[a-zA-Z])\}?"
    r"(?:[_^](?:\{[^}]*\}|\\[a-zA-Z]+|\*|[a-zA-Z0-9]))*$"
)


class Use(NamedTuple):
    """A letter of a docstring: its formula, the public name that bears it, the argument if any."""

    formula: str
    name: str
    argument: str | None


def sections(text: str) -> list[str]:
    """Return the lines of ``Args:`` and ``Attributes:``."""
    found, inside = [], False
    for line in text.splitlines():
        if line and not line.startswith(" "):
            inside = line in ("Args:", "Attributes:")
        elif inside:
            found.append(line)
    return found


def uses_in(text: str, name: str) -> list[Use]:
    """Return the letters that one docstring maps."""
    whole = WHOLE.match(text)
    found = [Use(whole.group(1), name, None)] if whole else []
    matches = (ENTRY.match(line) for line in sections(text))
    return found + [Use(m.group(2) or "", name, m.group(1)) for m in matches if m]


def uses() -> list[Use]:
    """Return the letters of all public docstrings, each once."""
    homes, found = public.homes(), []
    for room in ROOMS:
        for item in public.names(room):
            home = homes.get(id(item.value))
            if home is None or home.room != room:
                continue
            found += uses_in(public.doc(item.value), home.full)
            if item.kind == "class":
                for key, text in public.members(item.value).items():
                    found += uses_in(text, f"{home.full}.{key}")
    return found


def letter(formula: str) -> str:
    """Return a formula without its range: ``K`` for ``K \\ge 1``."""
    return RANGE.sub("", formula).strip()


def entries(root: Path = ROOT) -> list[dict[str, Any]]:
    """Return the entries of the notation, in order."""
    found: list[dict[str, Any]] = []
    for group in yaml.safe_load((root / NOTATION).read_text("utf8")):
        found += [{"group": group["group"], **entry} for entry in group["letters"]]
    return found


def bears(entry: dict[str, Any], use: Use) -> bool:
    """Tell whether a use is one of an entry: same letter, in the modules it speaks of."""
    spelled = {entry["symbol"], *entry.get("spelled", [])}
    named = not use.formula and use.argument in entry.get("named", [])
    if not named and not {use.formula, letter(use.formula)} & spelled:
        return False
    return any(use.name.startswith(f"bmo.{room}") for room in entry.get("within", [""]))


def unlisted(root: Path = ROOT) -> list[str]:
    """Return the letters of docstrings that no entry explains."""
    listed = entries(root)
    return [
        f"{use.name}({use.argument or ''}): {use.formula}"
        for use in uses()
        if LETTER.match(letter(use.formula)) and not any(bears(entry, use) for entry in listed)
    ]


def shown(found: list[Use], most: int = 4) -> str:
    """Return names in code with links, those with the same argument together."""
    parts: dict[str | None, list[str]] = {}
    for use in found:
        word = use.name.removeprefix("bmo.")
        parts.setdefault(use.argument, []).append(f"{{py:obj}}`{word} <{use.name}>`")
    words = []
    for argument, names in parts.items():
        more = f" and {len(names) - most} more" if len(names) > most else ""
        listed = ", ".join(dict.fromkeys(names[:most])) + more
        words.append(f"`{argument}` of {listed}" if argument else listed)
    return "; ".join(words)


def row(entry: dict[str, Any], found: list[Use]) -> str:
    """Return a line of the table."""
    role = ROLES.get(entry["where"].partition("-")[0])
    place = f"{{{role}}}`{entry['where']}`" if role else f"{{ref}}`{entry['where']}`"
    place = place if role == "eq" else f"({place})"  # an equation brings its own
    code = shown(found) or entry.get("code", "–")
    return f"| ${entry['symbol']}$ | {entry['is']} {place} | {code} |"


def table(root: Path = ROOT) -> str:
    """Return a table for each group."""
    known, parts = uses(), []
    group = None
    for entry in entries(root):
        if entry["group"] != group:
            group = entry["group"]
            parts += ["", f"## {group}", "", "| letter | what it is, and where | in `bmo` |"]
            parts += ["| --- | --- | --- |"]
        parts.append(row(entry, [use for use in known if bears(entry, use)]))
    return "\n".join(parts[1:]) + "\n"


def write(root: Path = ROOT) -> list[str]:
    """Write what has changed; return the names of these files."""
    return rewrite({GENERATED: table(root)}, root)


if __name__ == "__main__":
    print(write() or "unchanged")
