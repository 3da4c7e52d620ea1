"""The record ``deraining-peers``: methods of others on every test pair, beside published figures.

Book: chapter 12.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from bmo import data
from bmo.baselines.deraining.directional import CHOSEN
from bmo.baselines.deraining.measuring import KEYS, read
from bmo.baselines.deraining.pairs import COUNT, DATASETS, names
from bmo.baselines.deraining.progressive import METHODS, file_name
from bmo.errors import DataError
from bmo.record import Record, provenance_now, row, write

EXPERIMENT = "deraining-peers"
#: Method of the command → its name in the record, with the class in front.
ROWS = {
    "input": "input",
    "directional": "unh-directional",
    **{m: f"ena-{m}" for m in METHODS},
}
CHANNELS = {"y": "Y", "rgb": "RGB"}
#: What a method of a published row was trained on: the pairs of each set, one mix for all, no pair.
OWN, MIX, NONE = "own pairs", "one mix", "no pairs"
#: PSNR in dB and SSIM on Y as repositories print them: method → (training, citation, figures).
PUBLISHED: dict[str, tuple[str, str, dict[str, tuple[float, float]]]] = {
    "gmm": (NONE, "li2016layer", {"rain100l": (28.66, 0.865), "rain100h": (15.05, 0.425)}),
    "jorder": (OWN, "yang2017joint", {"rain100l": (36.61, 0.974), "rain100h": (26.54, 0.835)}),
    "rescan": (OWN, "li2018recurrent", {"rain100h": (28.88, 0.866)}),
    "prn": (OWN, "ren2019prenet", {"rain100l": (36.99, 0.977), "rain100h": (28.07, 0.884)}),
    "prenet": (OWN, "ren2019prenet", {"rain100l": (37.48, 0.979), "rain100h": (29.46, 0.899)}),
    "rcdnet": (OWN, "wang2020rcdnet", {"rain100l": (40.00, 0.9860), "rain100h": (31.28, 0.9093)}),
    "restormer": (
        MIX,
        "zamir2022restormer",
        {"rain100l": (39.1023, 0.9787), "rain100h": (31.4804, 0.9056)},
    ),
}

Results = dict[tuple[str, str], dict[int, dict[str, float]]]


def collect(folder: Path, methods: Sequence[str]) -> Results:
    """The results of every pair: (method, set) → number → values.

    Raises:
        DataError: A pair was not measured yet.
    """
    results = {}
    for method in methods:
        for dataset in DATASETS:
            found = read(folder / f"{dataset}.{method}.json")
            missing = sorted(set(range(1, COUNT + 1)) - set(found))
            if missing:
                raise DataError(
                    f"all {COUNT} pairs of {dataset} for {method}",
                    f"{len(missing)} of them are missing",
                    "run the command without --pairs",
                    missing,
                )
            results[method, dataset] = {n: found[n] for n in sorted(found)}
    return results


def lost_by_cutting(folder: Path, results: Results) -> list[dict[str, Any]]:
    """What a network loses when its images are cut to 8 bits, on the pairs where that was tried.

    The row's count says how many pairs these are.
    """
    rows = []
    for (method, dataset), found in results.items():
        tried = read(folder / f"{dataset}.{method}-cut.json") if method in METHODS else {}
        for key in KEYS if tried else ():
            metric, _, channel = key.partition("_")
            lost = [found[n][key] - tried[n][key] for n in sorted(tried)]
            setting = {"dataset": dataset, "channel": CHANNELS[channel]}
            rows.append(row(ROWS[method], setting, f"{metric} lost by cutting", lost))
    return rows


def rows_of(results: Results) -> list[dict[str, Any]]:
    """Mean and deviation over the pairs; seconds a pair; then the published figures.

    The directional model is convex, and ADMM converges for every value of its numbers.
    """
    rows = []
    for (method, dataset), found in results.items():
        for key in KEYS:
            metric, _, channel = key.partition("_")
            setting = {"dataset": dataset, "channel": CHANNELS[channel]}
            setting["certified"] = "by construction" if method == "directional" else "none"
            rows.append(row(ROWS[method], setting, metric, [v[key] for v in found.values()]))
        seconds = [v["seconds"] for v in found.values()]
        rows.append(row(ROWS[method], {"dataset": dataset}, "seconds", seconds))
    return rows + published_rows()


def published_rows() -> list[dict[str, Any]]:
    """What others print, with what they trained on and the work that the method is from."""
    rows = []
    for method, (training, citation, figures) in PUBLISHED.items():
        for dataset, values in figures.items():
            setting = {"dataset": dataset, "channel": "Y", "training": training}
            for metric, value in zip(("psnr", "ssim"), values, strict=True):
                cited = {**setting, "citation": citation}
                rows.append(row(method, cited, metric, value, source="published"))
    return rows


def curves_of(results: Results) -> dict[str, list[float]]:
    """The values of each pair, in the order of their numbers."""
    return {
        f"{key}/{dataset}/{ROWS[method]}": [v[key] for v in found.values()]
        for (method, dataset), found in results.items()
        for key in KEYS
    }


def files_of(methods: Sequence[str]) -> list[str]:
    """Every file of the run."""
    images = [name for d in DATASETS for n in range(1, COUNT + 1) for name in names(d, n)]
    weights = [file_name(m, d) for m in methods if m in METHODS for d in DATASETS]
    return list(dict.fromkeys([*images, *weights]))


def save(folder: Path, methods: Sequence[str]) -> Path:
    """Assemble the record of a folder of results, and write it there.

    Raises:
        DataError: A pair was not measured yet.
    """
    results = collect(folder, methods)
    command = f"python -m bmo.baselines.deraining.command --method {' '.join(methods)} --record"
    record = Record(
        **{**provenance_now(), "command": command},
        experiment=EXPERIMENT,
        profile="full",
        settings={
            "methods": list(methods),
            "pairs": COUNT,
            "directional": {name: asdict(weights) for name, weights in CHOSEN.items()},
            "measure": "colours rounded to 8 bits; Y of BT.601, rounded; SSIM with a Gaussian",
        },
        seeds=[],
        data=data.hashes(files_of(methods)),
        seconds=sum(v["seconds"] for found in results.values() for v in found.values()),
        rows=rows_of(results) + lost_by_cutting(folder, results),
        curves=curves_of(results),
    )
    return write(record, folder)
