"""A record for readers: a table of its rows, and its provenance in one sentence."""

from __future__ import annotations

import html
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

from bmo.errors import RecordError
from bmo.record.schema import Record, field_of

_PUBLISHED = "† as published by its authors, not measured here."


def provenance(record: Record) -> str:
    """Where a record comes from, in one sentence.

    Source: the record's own fields; nothing is added.

    An example: :func:`bmo.record.table`.
    """
    day = datetime.fromisoformat(record.created).date().isoformat()
    versions = [f"{name} {version}" for name, version in record.versions.items()]
    parts = [f"commit {record.commit[:12]}" if record.commit else "no commit stated", *versions]
    if record.seeds:
        parts.append(_counted("seed", record.seeds))
    if record.data:
        parts.append(f"{len(record.data)} data file{'s' * (len(record.data) > 1)}")
    return (
        f"Recorded {day} on {record.device} in {record.seconds:.0f} s by "
        f"`{record.command}` ({'; '.join(parts)})."
    )


def _counted(word: str, values: Sequence[int]) -> str:
    return f"{word}{'s' * (len(values) > 1)} {', '.join(map(str, values))}"


def table(
    record: Record,
    rows: str | Sequence[str] = "method",
    cols: str | Sequence[str] = "metric",
    *,
    where: Mapping[str, Any] | None = None,
    style: str = "markdown",
    digits: int = 2,
) -> str:
    """The results as a table, followed by their provenance.

    Args:
        record: Where the rows come from.
        rows: What tells the lines apart: fields of a row (``method``, ``metric``,
            ``source``) or keys of its setting (``depth``, ...).
        cols: What tells the columns apart.
        where: Only rows with these values, as in :meth:`Record.select`.
        style: ``"markdown"``, ``"html"`` or ``"plain"``.
        digits: Digits after the point.

    Returns:
        Text. Each cell is ``value ± standard deviation``; published figures carry a dagger.

    Raises:
        RecordError: Unknown style, no row left, or two rows in one cell.

    Example:
        >>> from bmo.record.schema import row
        >>> record = Record("bench", "page", "2026-01-31T12:00:00Z", "python -m bmo bench", {},
        ...     [0], [], "CPU", {}, None, 1.0, [row("bmo", {}, "PSNR dB", [30.0, 31.0])])
        >>> print(table(record, style="plain"))
        method  PSNR dB
        bmo     30.50 ± 0.71
        <BLANKLINE>
        Recorded 2026-01-31 on CPU in 1 s by `python -m bmo bench` (no commit stated; seed 0).
    """
    if style not in _STYLES:
        raise RecordError(f"a style of {', '.join(_STYLES)}", repr(style), "choose one", style)
    down, across = ([k] if isinstance(k, str) else list(k) for k in (rows, cols))
    chosen = record.select(**(where or {}))
    cells = _cells(chosen, down, across, digits)
    if not cells:
        raise RecordError(f"a row with {dict(where or {})}", "none", "choose other fields", where)
    lines = list(dict.fromkeys(line for line, _ in cells))
    columns = list(dict.fromkeys(column for _, column in cells))
    grid = [[*down, *(", ".join(column) for column in columns)]]
    grid += [[*line, *(cells.get((line, c), "–") for c in columns)] for line in lines]
    notes = [_PUBLISHED] if any(r["source"] == "published" for r in chosen) else []
    return _STYLES[style](grid, [*notes, provenance(record)])


_Label = tuple[str, ...]


def _cells(
    chosen: list[dict[str, Any]], down: list[str], across: list[str], digits: int
) -> dict[tuple[_Label, _Label], str]:
    cells: dict[tuple[_Label, _Label], str] = {}
    for entry in chosen:
        place = (_label(entry, down), _label(entry, across))
        if place in cells:
            keys = sorted(set(entry["setting"]) - {*down, *across})
            raise RecordError(
                "one row for each cell",
                f"two rows at {', '.join(place[0] + place[1])}",
                f"tell them apart by where=, rows= or cols= ({', '.join(keys) or 'source'})",
                place,
            )
        cells[place] = _cell(entry, digits)
    return cells


def _label(entry: dict[str, Any], keys: list[str]) -> _Label:
    values = (field_of(entry, key) for key in keys)
    return tuple("–" if value is None else str(value) for value in values)


def _cell(entry: dict[str, Any], digits: int) -> str:
    spread = "" if entry["std"] is None else f" ± {entry['std']:.{digits}f}"
    dagger = "†" if entry["source"] == "published" else ""
    return f"{entry['value']:.{digits}f}{spread}{dagger}"


def _markdown(grid: list[list[str]], notes: list[str]) -> str:
    safe = [[cell.replace("|", "\\|") for cell in line] for line in grid]
    safe.insert(1, ["---"] * len(grid[0]))
    return "\n".join("| " + " | ".join(line) + " |" for line in safe) + "\n\n" + "\n\n".join(notes)


def _html(grid: list[list[str]], notes: list[str]) -> str:
    def line(cells: list[str], tag: str) -> str:
        return "<tr>" + "".join(f"<{tag}>{html.escape(c)}</{tag}>" for c in cells) + "</tr>"

    body = "\n".join(line(cells, "td") for cells in grid[1:])
    below = "\n".join(f"<p>{html.escape(note)}</p>" for note in notes)
    head = line(grid[0], "th")
    return f"<table>\n<thead>{head}</thead>\n<tbody>\n{body}\n</tbody>\n</table>\n{below}"


def _plain(grid: list[list[str]], notes: list[str]) -> str:
    widths = [max(len(cell) for cell in column) for column in zip(*grid, strict=True)]
    lines = (
        "  ".join(c.ljust(w) for c, w in zip(line, widths, strict=True)).rstrip() for line in grid
    )
    return "\n".join(lines) + "\n\n" + "\n".join(notes)


_STYLES = {"markdown": _markdown, "html": _html, "plain": _plain}
