"""The record of the experiment: tables, convergence cases, curves and provenance.

Book: chapter 12. Everything that it says was measured by iterating T alone, ``bmo-h`` with its
anchor: no upper objective, no clean image. What others reach on the same pairs stands in the record
``deraining-peers``.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from bmo import data
from bmo.problems.asked import command
from bmo.problems.deraining.pieces import Pieces
from bmo.problems.deraining.settings import CERTIFIED, settings_of
from bmo.problems.reporting import Parts, collect, publish, save_each
from bmo.record import Record, provenance_now, row

EXPERIMENT = "deraining"
#: What is iterated in every test, and what it is told.
TESTED = (
    "T alone from its start (bmo-h: with its anchor, the start): no upper objective, "
    "no clean image, one omega at every step"
)
#: Metric and channel of what was measured.
_METRICS = {
    "psnr_y": ("psnr", "Y"),
    "ssim_y": ("ssim", "Y"),
    "psnr_rgb": ("psnr", "RGB"),
    "ssim_rgb": ("ssim", "RGB"),
}


def certificate(method: str) -> str:
    """How it is known that a method converges: for every parameter, or not at all."""
    return "by construction" if method in CERTIFIED else "none"


def rows_of(pieces: Pieces, parts: Parts) -> list[dict[str, Any]]:
    """The tables: each metric at the table's depths on each set; costs; convergence."""
    s, rows = pieces.settings, []
    for method, (found, cases) in parts.items():
        known = {"certified": certificate(method)}
        for dataset, runs in found["sets"].items():
            for at, depth in enumerate(s.depths):
                base = {"dataset": dataset, "depth": depth, **known}
                for key, (metric, channel) in _METRICS.items():
                    values = [run[key][at] for run in runs.values()]
                    rows.append(row(method, {**base, "channel": channel}, metric, values))
                values = [run["residual"][at] for run in runs.values()]
                rows.append(row(method, base, "residual", values))
        rows += costs(method, found) + convergence(method, cases["cases"], known, s.case_depths[-1])
    return rows


def costs(method: str, found: dict[str, Any]) -> list[dict[str, Any]]:
    """What a method needs, and how it and its free network did on held-out images."""
    rows = [row(method, {}, "parameters", found["parameters"])]
    for kind, value in found["held_out"].items():
        rows.append(row(method, {"kind": kind}, "held_out_psnr", value))
        rows.append(row(method, {"kind": kind}, "guide_psnr", found["guide_held_out"][kind]))
    return rows + [row(method, {}, f"seconds_{k}", v) for k, v in found["cost"].items()]


def convergence(
    method: str, sets: dict[str, dict[str, Any]], known: dict[str, Any], depth: int
) -> list[dict[str, Any]]:
    """The residual and the loss of PSNR at the last depth: for every case, and at worst."""
    rows, every = [], []
    for dataset, runs in sets.items():
        for number, run in runs.items():
            setting = {"dataset": dataset, "case": number, "depth": depth, **known}
            rows.append(row(method, setting, "psnr_drop", run["drop"]))
            rows.append(row(method, setting, "relative_residual", run["residual"][-1]))
            every.append(run)
    worst = {"case": "worst of all", "depth": depth, **known}
    rows.append(row(method, worst, "psnr_drop", max(run["drop"] for run in every)))
    rows.append(row(method, worst, "relative_residual", max(r["residual"][-1] for r in every)))
    rows.append(row(method, worst, "diverged", sum(run["diverged"] for run in every)))
    return rows


def curves_of(pieces: Pieces, parts: Parts) -> dict[str, list[float]]:
    """PSNR of every test pair; means and the worst residual of the cases; losses of training."""
    curves: dict[str, list[float]] = {"depth": [float(d) for d in pieces.settings.case_depths]}
    for method, (found, cases) in parts.items():
        for dataset, runs in found["sets"].items():
            values = [run["psnr_y"][-1] for run in runs.values()]
            curves[f"psnr of every pair/{dataset}/{method}"] = values
        for dataset, runs in cases["cases"].items():
            for number, run in runs.items():
                curves[f"case psnr/{dataset}/{number}/{method}"] = run["psnr"]
            columns = zip(*(run["psnr"] for run in runs.values()), strict=True)
            curves[f"mean psnr of the cases/{dataset}/{method}"] = [
                sum(c) / len(c) for c in columns
            ]
        residuals = [run["residual"] for runs in cases["cases"].values() for run in runs.values()]
        worst = [max(column) for column in zip(*residuals, strict=True)]
        curves[f"largest residual of the cases/{method}"] = worst
        curves[f"training loss/{method}"] = found["losses"]
        curves["guide loss"] = thinned(found["guide_losses"])
    return curves


def thinned(values: list[float], most: int = 500) -> list[float]:
    """Means over equal stretches, at most ``most`` of them.

    Example:
        >>> thinned([1.0, 3.0, 5.0, 7.0], 2)
        [2.0, 6.0]
    """
    width = max(1, -(-len(values) // most))
    parts = [values[k : k + width] for k in range(0, len(values), width)]
    return [sum(part) / len(part) for part in parts]


def save(pieces: Pieces, folder: Path) -> Path:
    """Assemble the record and the weights of the first seed, and write them.

    Of several processes all must call it; the first one writes.

    Returns:
        Path of the record.
    """
    s, parts = pieces.settings, collect(pieces, "rain")
    shared = pieces.guide(s.seeds[0])["seconds"]  # one guide serves every method
    record = Record(
        **{**provenance_now(), "command": command(EXPERIMENT, s, settings_of)},
        experiment=EXPERIMENT,
        profile=s.profile,
        settings={
            **s.as_dict(),
            "tested": TESTED,
        },
        seeds=list(s.seeds),
        data=data.hashes(pieces.pictures.files),
        seconds=shared
        + sum(
            found["seconds"] + found["training_seconds"] - shared + cases["seconds"]
            for found, cases in parts.values()
        ),
        rows=rows_of(pieces, parts),
        curves=curves_of(pieces, parts),
    )
    return publish(record, folder, lambda: save_each(pieces, parts, EXPERIMENT, folder))
