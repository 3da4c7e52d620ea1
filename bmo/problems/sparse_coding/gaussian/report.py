"""From parts to one record: rows for the tables, curves for the figures, weights beside it.

The record is an experiment of its own, ``sparse-coding-gaussian``, beside ``sparse-coding`` (the
images): a record is written by one command and holds one list of settings, seeds and data, and the
two benches share none of them. The key ``bench`` of every row's setting tells them apart as well.
"""

from __future__ import annotations

import statistics
from pathlib import Path
from typing import Any

from torch import Tensor

from bmo.problems.asked import command
from bmo.problems.reporting import publish
from bmo.problems.sparse_coding.gaussian.draws import evaluation_sets
from bmo.problems.sparse_coding.gaussian.pieces import MANY, Pieces
from bmo.problems.sparse_coding.gaussian.racing import costs
from bmo.problems.sparse_coding.gaussian.settings import (
    CERTIFIED,
    CLASSICAL,
    LAYERWISE,
    LEARNED,
    settings_of,
)
from bmo.record import Record, load_weights, provenance_now, row, save_weights

EXPERIMENT = "sparse-coding-gaussian"
_METRICS = {"nmse": "nmse_db", "residual": "relative_residual",
            "residual_max": "relative_residual_max", "bound_share": "bound_share"}  # fmt: skip

#: (noise, method, rule) → what was measured on each set, one for each seed; the rule is how a
#: classical method's numbers were chosen, ``None`` for a learned one.
Runs = dict[tuple[str, str, str | None], list[dict[str, Any]]]
Parts = dict[tuple[str, str], list[dict[str, Any]]]


def collect(pieces: Pieces) -> Parts:
    """Every part of the run, computed if it is not there yet: (noise, method) → one per seed."""
    s = pieces.settings
    pairs = [(method, noise) for noise in s.noises for method in s.methods_of(noise)]
    return {
        (noise, method): [pieces.result(noise, method, k) for k in s.seeds_of(method, noise)]
        for method, noise in pairs
    }


def runs_of(parts: Parts) -> Runs:
    """The same, with the two choices of a classical method told apart."""
    runs: Runs = {}
    for (noise, method), found in parts.items():
        if method in CLASSICAL:
            for rule, run in found[0]["rules"].items():
                runs[noise, method, rule] = [run]
        else:
            runs[noise, method, None] = found
    return runs


def certificate(method: str) -> str:
    """How it is known that a method converges: for every parameter, for these, or not at all."""
    if method in CERTIFIED:
        return "by construction"
    return "checked" if method in CLASSICAL else "none"


def rows_of(pieces: Pieces, parts: Parts) -> list[dict[str, Any]]:
    """The tables: each metric at the table's depths on every set, and what a method costs."""
    depths, table, rows = list(pieces.settings.depths), pieces.settings.table_depths, []
    for (noise, method, rule), found in runs_of(parts).items():
        base = {"bench": "gaussian", "noise": noise, "certified": certificate(method)}
        base |= {} if rule is None else {"chosen_by": rule}
        base |= {"beyond": "last layer repeated"} if method in LAYERWISE else {}
        for name in found[0]["sets"]:
            results = [run["sets"][name] for run in found if name in run["sets"]]
            for depth in table:
                setting = {**base, "set": name, "depth": depth}
                for key, metric in _METRICS.items():
                    if key in results[0]:
                        values = [r[key][depths.index(depth)] for r in results]
                        rows.append(row(method, setting, metric, values))
            rows.append(row(method, {**base, "set": name}, "diverged",
                            [r["diverged"] for r in results]))  # fmt: skip
        rows.append(row(method, base, "products_per_step", found[0]["products"]))
    return rows + cost_rows(pieces, parts) + differences(pieces, parts)


def cost_rows(pieces: Pieces, parts: Parts) -> list[dict[str, Any]]:
    """Numbers, time of training, and the way to each error that a method reached (first seed).

    Steps and the way are timed at the first noise level alone.
    """
    rows = []
    for (noise, method), found in parts.items():
        setting = {"bench": "gaussian", "noise": noise}
        if method in LEARNED:
            rows.append(row(method, setting, "parameters", found[0]["parameters"]))
            seconds = [one["training_seconds"] for one in found]
            rows.append(row(method, setting, "training_seconds", seconds))
        if noise != pieces.settings.noises[0]:
            continue
        part = costs(pieces, noise, method)
        if method in LEARNED:
            step = part["training_step"]
            rows.append(row(method, setting, "core_seconds_per_training_step", step))
        for rule, race in part["races"].items():
            for run in race:
                at = {**setting, "target": run["target"], "codes": pieces.settings.raced}
                at |= {"chosen_by": rule} if rule else {}
                rows.append(row(method, at, "steps_to_target", run["steps"]))
                rows.append(row(method, at, "core_seconds_to_target", run["seconds"]))
    return rows


def differences(pieces: Pieces, parts: Parts) -> list[dict[str, Any]]:
    """NMSE with mu > 0 minus that with mu = 0, seed by seed (the same training and test codes)."""
    depths, rows = list(pieces.settings.depths), []
    for (noise, method), found in parts.items():
        other = parts.get((noise, method.replace("bmo-h", "gkm").replace("bmo", "gkm")))
        if not method.startswith("bmo") or other is None:
            continue
        for depth in pieces.settings.table_depths:
            at = depths.index(depth)
            values = [a["sets"]["trained"]["nmse"][at] - b["sets"]["trained"]["nmse"][at]
                      for a, b in zip(found, other, strict=True)]  # fmt: skip
            setting = {"bench": "gaussian", "noise": noise, "depth": depth, "set": "trained"}
            rows.append(row(f"{method} minus mu = 0", setting, "nmse_difference_db", values))
    return rows


def curves_of(pieces: Pieces, parts: Parts) -> dict[str, list[float]]:
    """Means over seeds at each depth, and what the aggregated loop saw in training."""
    curves: dict[str, list[float]] = {"depth": [float(d) for d in pieces.settings.depths]}
    for (noise, method, rule), found in runs_of(parts).items():
        label = method if rule is None else f"{method}, chosen by {rule}"
        for name in found[0]["sets"]:
            results = [run["sets"][name] for run in found if name in run["sets"]]
            for key in _METRICS:
                if key in results[0]:
                    columns = zip(*(r[key] for r in results), strict=True)
                    curves[f"{key}/{noise}/{name}/{label}"] = [statistics.fmean(c) for c in columns]
        if rule is None:
            curves[f"training loss/{noise}/{label}"] = found[0]["losses"]
    return curves


def chosen(pieces: Pieces) -> dict[str, Any]:
    """What was chosen on held-out codes, and what else was tried."""
    s = pieces.settings
    levels = {noise: [m for m in s.methods_of(noise) if m in LEARNED] for noise in s.noises}
    return {
        noise: {
            "classical (also the start of the learned methods)": pieces.choices(noise),
            "learning rates (held-out NMSE at K after a short run)": {
                m: pieces.rate(noise, m)["tried"] for m in learned
            },
            "learning rate": {m: pieces.rate(noise, m)["rate"] for m in learned},
            "learning rate of each seed, where it is another": {
                m: rates for m in learned if (rates := others(pieces, noise, m))
            },
        }
        for noise, learned in levels.items()
    }


def others(pieces: Pieces, noise: str, method: str) -> dict[str, float]:
    """Seed → rate of training, where the rate that was chosen turned out to be too high."""
    chosen, seeds = pieces.rate(noise, method)["rate"], pieces.settings.seeds_of(method, noise)
    used = {f"{k}": pieces.result(noise, method, k).get("rate", chosen) for k in seeds}
    return {seed: rate for seed, rate in used.items() if rate != chosen}


def save(pieces: Pieces, folder: Path) -> Path:
    """Assemble the record and the weights of the first seed, and write them.

    Of several processes all must call it; the first one writes.

    Returns:
        Path of the record.
    """
    s, parts = pieces.settings, collect(pieces)
    everything = [p for found in parts.values() for p in found]
    everything += [pieces.rate(n, m) for n in s.noises for m in s.methods_of(n) if m in LEARNED]
    sets = {n: evaluation_sets(pieces.dictionary, n, s) for n in s.noises}
    record = Record(
        **{
            **provenance_now(),
            "command": command(EXPERIMENT, s, settings_of),
        },
        experiment=EXPERIMENT,
        profile=s.profile,
        settings={
            **s.as_dict(),
            "chosen": chosen(pieces),
            "tested": "T alone from u0 = 0: no upper objective, mu = 0, one omega at every step",
            "networks": "all layers trained at once on the last code (chosen by us), one rate for "
            "all parameters; ena-tista is told the noise and the prior of training in every test",
            "weights left out": f"of networks with more than {MANY:,} numbers",
        },
        seeds=list(s.seeds),
        data=[
            {"file": f"test codes and observations, {noise}, {name}", "sha256": data.sha256()}
            for noise, found in sets.items()
            for name, data in found.items()
        ],
        seconds=sum(part["seconds"] for part in everything),
        rows=rows_of(pieces, parts),
        curves=curves_of(pieces, parts),
    )

    def save_all_weights() -> None:
        for noise in s.noises:
            save_weights_of(pieces, parts, noise, folder)

    return publish(record, folder, save_all_weights)


def save_weights_of(pieces: Pieces, parts: Parts, noise: str, folder: Path) -> None:
    """The learned methods of the first seed in one file for each noise level."""
    s = pieces.settings
    weights: dict[str, Tensor] = {}
    for method in [m for m in s.methods_of(noise) if m in LEARNED]:
        name = f"{noise}.{method}.seed{s.seeds[0]}"
        digest = parts[noise, method][0]["weights"]
        if digest is None:  # too many to be carried
            continue
        found = load_weights(pieces.folder / f"{name}.safetensors", digest)
        weights |= {f"{method}/{key}": value.float() for key, value in found.items()}
    if weights:
        save_weights(weights, folder / f"{EXPERIMENT}.{s.profile}.{noise}.safetensors")
