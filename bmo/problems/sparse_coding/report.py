"""From parts to one record: rows for the tables, curves for the figures, weights beside it."""

from __future__ import annotations

import statistics
from pathlib import Path
from typing import Any

from torch import Tensor

from bmo import data
from bmo.problems.asked import command
from bmo.problems.reporting import publish
from bmo.problems.sparse_coding.pieces import Pieces
from bmo.problems.sparse_coding.settings import LEARNED, settings_of
from bmo.record import Record, load_weights, provenance_now, row, save_weights

EXPERIMENT = "sparse-coding"
CERTIFIED = {"ena-lista": "none", "unh-ista": "checked"}
_METRICS = {"psnr": "psnr", "ssim": "ssim", "residual": "relative_residual"}

Parts = dict[tuple[str, str], list[dict[str, Any]]]


def collect(pieces: Pieces) -> Parts:
    """Every part of the run, computed if it is not there yet: (noise, method) → one per seed."""
    s = pieces.settings
    pairs = [(noise, method) for noise in s.noises for method in s.methods]
    return {pair: [pieces.result(*pair, seed) for seed in s.seeds_of(pair[1])] for pair in pairs}


def rows_of(pieces: Pieces, parts: Parts) -> list[dict[str, Any]]:
    """The table: each metric at the table's depths, the best depth, and bmo minus gkm."""
    depths, table, rows = list(pieces.settings.depths), pieces.settings.table_depths, []
    for (noise, method), found in parts.items():
        base = {"bench": "images", "noise": noise}
        certified = CERTIFIED.get(method, "by construction")
        for at, depth in enumerate(table):
            setting = {**base, "depth": depth, "certified": certified}
            for key, metric in _METRICS.items():
                place = at if key == "ssim" else depths.index(depth)
                rows.append(row(method, setting, metric, [part[key][place] for part in found]))
        rows.append(_best(method, {**base, "certified": certified}, depths, found))
    return rows + _differences(pieces, parts)


def _best(
    method: str, base: dict[str, Any], depths: list[int], found: list[dict[str, Any]]
) -> dict[str, Any]:
    """PSNR at the depth where its mean is largest: what stopping at the right moment would give."""
    means = [statistics.fmean(column) for column in zip(*(p["psnr"] for p in found), strict=True)]
    at = means.index(max(means))
    return row(method, {**base, "depth": depths[at]}, "psnr_best", [p["psnr"][at] for p in found])


def _differences(pieces: Pieces, parts: Parts) -> list[dict[str, Any]]:
    """PSNR of mu > 0 minus mu = 0, seed by seed (the same batches and the same test noise)."""
    depths, rows = list(pieces.settings.depths), []
    for noise in pieces.settings.noises:
        pair = [parts.get((noise, method)) for method in ("bmo", "gkm")]
        if pair[0] is None or pair[1] is None:
            continue
        for depth in pieces.settings.table_depths:
            at = depths.index(depth)
            values = [a["psnr"][at] - b["psnr"][at] for a, b in zip(*pair, strict=True)]
            setting = {"bench": "images", "noise": noise, "depth": depth, "certified": None}
            rows.append(row("bmo minus gkm", setting, "psnr_difference", values))
    return rows


def curves_of(pieces: Pieces, parts: Parts) -> dict[str, list[float]]:
    """Means over seeds at each depth, and what the aggregated loop saw in training."""
    curves: dict[str, list[float]] = {"depth": [float(d) for d in pieces.settings.depths]}
    for (noise, method), found in parts.items():
        for key in ("psnr", "residual", "residual_90"):
            columns = zip(*(part[key] for part in found), strict=True)
            curves[f"{key}/{noise}/{method}"] = [statistics.fmean(c) for c in columns]
        curves[f"residual in float64, some patches/{noise}/{method}"] = found[0]["residual_exact"]
        if method in LEARNED:
            loop = "aggregated loop, sees the clean patch" if method == "bmo" else "the map alone"
            curves[f"training loss ({loop})/{noise}/{method}"] = found[0]["losses"]
    return curves


def chosen(pieces: Pieces) -> dict[str, Any]:
    """What was chosen on held-out patches, and what else was tried."""
    s, out = pieces.settings, {}
    for noise in s.noises:
        out[noise] = {
            "unh-ista, and the start of the learned methods": pieces.start(noise)["chosen"],
            "learning rates (held-out PSNR at K after a short run)": {
                m: pieces.rate(noise, m)["tried"] for m in s.methods if m in LEARNED
            },
            "learning rate": {m: pieces.rate(noise, m)["rate"] for m in s.methods if m in LEARNED},
        }
    return out


def save(pieces: Pieces, folder: Path) -> Path:
    """Assemble the record and the weights of the first seed, and write them.

    Of several processes all must call it; the first one writes.

    Returns:
        Path of the record.
    """
    s, parts = pieces.settings, collect(pieces)
    everything = [p for found in parts.values() for p in found]
    everything += [pieces.start(noise) for noise in s.noises]
    everything += [pieces.rate(n, m) for n in s.noises for m in s.methods if m in LEARNED]
    record = Record(
        **{
            **provenance_now(),
            "command": command("sparse-coding", s, settings_of),
        },
        experiment=EXPERIMENT,
        profile=s.profile,
        settings={
            **s.as_dict(),
            "chosen": chosen(pieces),
            "tested": "T alone from u0 = 0: no upper objective, mu = 0, one omega at every step",
        },
        seeds=list(s.seeds),
        data=data.hashes(pieces.pictures.files),
        seconds=sum(part["seconds"] for part in everything),
        rows=rows_of(pieces, parts),
        curves=curves_of(pieces, parts),
    )
    dictionary = pieces.dictionary  # asked for by all, before one goes on alone

    def save_all_weights() -> None:
        for noise in s.noises:
            _save_weights(pieces, parts, dictionary, noise, folder)

    return publish(record, folder, save_all_weights)


def _save_weights(
    pieces: Pieces, parts: Parts, dictionary: Tensor, noise: str, folder: Path
) -> None:
    """The learned methods of the first seed, with the dictionary, in one file for each noise."""
    weights = {"dictionary": dictionary}
    for method in [m for m in pieces.settings.methods if m in LEARNED]:
        name = f"{noise}.{method}.seed{pieces.settings.seeds[0]}"
        digest = parts[noise, method][0]["weights"]
        found = load_weights(pieces.folder / f"{name}.safetensors", digest)
        weights |= {f"{method}/{key}": value for key, value in found.items()}
    save_weights(weights, folder / f"{EXPERIMENT}.{pieces.settings.profile}.{noise}.safetensors")
