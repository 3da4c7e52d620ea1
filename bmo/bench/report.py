"""The benchmark's results as a table for the terminal and as a record."""

from __future__ import annotations

from typing import Any

from bmo import record
from bmo.bench.measure import MIB, Spread
from bmo.bench.methods import Registry
from bmo.bench.run import Results, Row, targets

EXPERIMENT = "bench"
_HEAD = ["95 % interval", "peak MiB", "error", "target"]


def table(rows: list[Row], forward: Spread) -> str:
    """The rows of one problem and kind, fastest first."""
    setting = rows[0].setting
    limit = next(
        (
            item["text"]
            for item in targets()["limits"]
            if all(setting.get(key) == item[key] for key in ("problem", "kind"))
        ),
        "not known",
    )
    spent = f"plain forward {forward.median:.3g} s of CPU time; limit: {limit}"
    return aligned(rows, "× forward", spent)


def aligned(rows: list[Row], ratio: str, spent: str) -> str:
    """A title, what was spent, and the rows, fastest first; ``ratio`` heads the column."""
    named = ("K", "on", "batch")
    title = "  ".join(f"{k} {v}" if k in named else str(v) for k, v in rows[0].setting.items())
    ordered = sorted(rows, key=lambda row: row.ratio.median)
    lines = [["method", ratio, *_HEAD], *(_cells(row) for row in ordered)]
    widths = [max(len(cell) for cell in column) for column in zip(*lines, strict=True)]
    shown = [
        "  ".join(c.ljust(w) for c, w in zip(line, widths, strict=True)).rstrip() for line in lines
    ]
    return "\n".join([title, spent, *shown, ""])


def _cells(row: Row) -> list[str]:
    goals = [
        f"{metric} ≤ {bound:g} {'met' if met else 'MISSED'}"
        for metric, (bound, met) in row.goals.items()
    ]
    return [
        row.method,
        f"{row.ratio.median:.2f}",
        f"{row.ratio.low:.2f} – {row.ratio.high:.2f}",
        "–" if row.peak is None else f"{row.peak / MIB:.2f}",
        f"{row.error:.0e}",
        ", ".join(goals),
    ]


def tables(results: Results) -> str:
    """All tables, then what failed."""
    shown = []
    for setting, forward in results.forwards:
        rows = [row for row in results.rows if row.setting == setting]
        if rows:
            shown.append(table(rows, forward))
    shown += [f"failed: {where}: {why}" for where, why in results.failed.items()]
    return "\n".join(shown)


def as_record(
    results: Results, registry: Registry, profile: str, rounds: int, seconds: float
) -> record.Record:
    """The record of a whole run: ``ratio`` with its interval, ``peak MiB`` and ``error``.

    Raises:
        RecordError: Nothing was measured, or a figure is not finite.
    """
    settings = {
        "rounds": rounds,
        "measure": "CPU time over that of the plain forward, interleaved, median, 95 % interval",
        "missing": registry.missing,
        "failed": results.failed,
    }
    return record.Record(
        **record.provenance_now(),
        experiment=EXPERIMENT,
        profile=profile,
        settings=settings,
        seeds=[0],
        data=[],
        seconds=seconds,
        rows=recorded(results, "forward"),
    )


def recorded(results: Results, base: str) -> list[dict[str, Any]]:
    """The rows of a record; ``base`` names what the times were divided by."""
    rows: list[dict[str, Any]] = []
    for setting, spent in results.forwards:
        rows += _spread_rows(base, setting, "seconds", spent)
    for row in results.rows:
        rows += _spread_rows(row.method, row.setting, "ratio", row.ratio)
        rows.append(record.row(row.method, row.setting, "error", row.error))
        if row.peak is not None:
            rows.append(record.row(row.method, row.setting, "peak MiB", row.peak / MIB))
        for metric, (bound, _) in row.goals.items():
            rows.append(record.row(row.method, row.setting, f"{metric} target", bound))
    return rows


def _spread_rows(method: str, setting: dict[str, Any], metric: str, found: Spread) -> list[Any]:
    return [
        record.row(method, setting, metric, found.median, n=found.n),
        record.row(method, setting, f"{metric} low", found.low, n=found.n),
        record.row(method, setting, f"{metric} high", found.high, n=found.n),
    ]
