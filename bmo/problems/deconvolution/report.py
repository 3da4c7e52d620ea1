"""The record of the experiment: tables, convergence cases, curves and provenance.

Book: chapter 11. Everything that it says was measured by iterating T alone. What others printed
for the same images, kernel and noise stands in the record ``deconvolution-peers``.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from bmo import data
from bmo.problems.asked import command
from bmo.problems.deconvolution.pieces import Pieces
from bmo.problems.deconvolution.settings import CERTIFIED, settings_of
from bmo.problems.reporting import Parts, collect, publish, save_each
from bmo.problems.tested import drop
from bmo.record import Record, provenance_now, row

EXPERIMENT = "deconvolution"
_METRICS = {"psnr": "psnr", "ssim": "ssim", "residual": "relative_residual"}


def certificate(method: str) -> str:
    """How it is known that a method converges: for every parameter, or not at all."""
    return "by construction" if method in CERTIFIED else "none"


def rows_of(pieces: Pieces, parts: Parts) -> list[dict[str, Any]]:
    """The tables: each metric at the table's depths on every image; costs; convergence."""
    s, rows = pieces.settings, []
    for method, (found, cases) in parts.items():
        known = {"certified": certificate(method)}
        for cell, runs in found["cells"].items():
            image, percent = cell.split("/")
            base = {"image": image, "sigma_percent": float(percent), "kernel": s.kernel, **known}
            for depth in s.table_depths:
                at = list(s.depths).index(depth)
                for key, metric in _METRICS.items():
                    values = [run[at] for run in runs[key]]
                    rows.append(row(method, {**base, "depth": depth}, metric, values))
            drops = [drop(run) for run in runs["psnr"]]
            rows.append(row(method, {**base, "depth": s.depths[-1]}, "psnr_drop", drops))
        rows += costs(method, found) + convergence(method, cases["cases"], known, s.depths[-1])
    return rows


def costs(method: str, found: dict[str, Any]) -> list[dict[str, Any]]:
    """What a method needs, and how it did on held-out images."""
    keys = {"parameters": "parameters", "held_out": "held_out_psnr"}
    rows = [row(method, {}, metric, found[key]) for key, metric in keys.items()]
    return rows + [row(method, {}, f"seconds_{k}", v) for k, v in found["cost"].items()]


def convergence(
    method: str, cases: list[dict[str, Any]], known: dict[str, Any], depth: int
) -> list[dict[str, Any]]:
    """The residual and the loss of PSNR at the last depth, for every case and at worst."""
    rows = []
    for case in cases:
        setting = {"case": f"{case['image']}/{case['kernel']}/{case['percent']:g}", **known}
        setting["depth"] = depth
        rows.append(row(method, setting, "psnr_drop", case["drop"]))
        rows.append(row(method, setting, "relative_residual", case["residual"][-1]))
    worst = {**known, "depth": depth, "case": "worst of all"}
    rows.append(row(method, worst, "psnr_drop", max(c["drop"] for c in cases)))
    rows.append(row(method, worst, "relative_residual", max(c["residual"][-1] for c in cases)))
    rows.append(row(method, worst, "diverged", sum(c["diverged"] for c in cases)))
    return rows


def curves_of(pieces: Pieces, parts: Parts) -> dict[str, list[float]]:
    """Means over noise seeds at each depth, the worst cases, and the losses of training."""
    curves: dict[str, list[float]] = {"depth": [float(d) for d in pieces.settings.depths]}
    for method, (found, cases) in parts.items():
        for cell, runs in found["cells"].items():
            for key in ("psnr", "residual"):
                columns = zip(*runs[key], strict=True)
                curves[f"{key}/{cell}/{method}"] = [sum(c) / len(c) for c in columns]
        residuals = zip(*(case["residual"] for case in cases["cases"]), strict=True)
        curves[f"largest residual of the cases/{method}"] = [max(r) for r in residuals]
        for case in cases["cases"]:
            name = f"{case['image']}/{case['kernel']}/{case['percent']:g}"
            curves[f"case psnr/{name}/{method}"] = case["psnr"]
        for key, label in (("denoising", "denoising loss"), ("losses", "training loss")):
            if found[key]:
                curves[f"{label}/{method}"] = found[key]
    return curves


def save(pieces: Pieces, folder: Path) -> Path:
    """Assemble the record and the weights of the first seed, and write them.

    Of several processes all must call it; the first one writes.

    Returns:
        Path of the record.
    """
    s, parts = pieces.settings, collect(pieces, "gaussian")
    record = Record(
        **{**provenance_now(), "command": command(EXPERIMENT, s, settings_of)},
        experiment=EXPERIMENT,
        profile=s.profile,
        settings={
            **s.as_dict(),
            "chosen": {method: found["chosen"] for method, (found, _) in parts.items()},
            "tested": "T alone from its start: no upper objective, mu = 0, one omega at every step",
        },
        seeds=list(s.seeds),
        data=data.hashes(pieces.pictures.files),
        seconds=sum(
            found["seconds"] + found["training_seconds"] + cases["seconds"]
            for found, cases in parts.values()
        ),
        rows=rows_of(pieces, parts),
        curves=curves_of(pieces, parts),
    )
    return publish(record, folder, lambda: save_each(pieces, parts, EXPERIMENT, folder))
