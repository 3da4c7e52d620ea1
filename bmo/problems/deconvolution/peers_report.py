"""The record ``deconvolution-peers``: measured peers beside the published table.

Book: chapter 11.
"""

from __future__ import annotations

import argparse
from dataclasses import replace
from pathlib import Path
from typing import Any

from bmo import data
from bmo.problems.deconvolution.peers import (
    ENDLESS,
    METHODS,
    Pieces,
    Settings,
    at,
    every_case,
    settings_of,
)
from bmo.record import Record, provenance_now, read, row, table, write
from bmo.record.checks import COMMON

EXPERIMENT = "deconvolution-peers"
#: PSNR in dB as the poster of Liu et al. (2022) prints it: method → percent → one for each image.
PUBLISHED = {
    "epll": {1.0: (20.55, 19.22, 24.84), 3.0: (18.64, 17.54, 22.47)},
    "fdn": {1.0: (27.40, 26.51, 27.48), 3.0: (24.27, 23.53, 24.71)},
    "ircnn": {1.0: (32.74, 33.22, 33.53), 3.0: (28.53, 28.45, 28.42)},
    "ircnn+": {1.0: (32.48, 33.59, 32.18), 3.0: (28.40, 28.14, 28.20)},
    "dpir": {1.0: (34.18, 35.12, 33.91), 3.0: (29.45, 30.27, 29.46)},
    "bmo": {1.0: (33.67, 35.39, 33.98), 3.0: (29.46, 30.69, 29.64)},
}
CITATION = "liu2022bmo"
HELP = """\
Restore Set3C with denoisers that others trained, and write the record deconvolution-peers.

Profiles (which never follow the hardware):
  page   middle parts, one seed, two convergence cases; a minute
  full   five seeds, and 48 cases of 1,000 steps on 128x128 crops; an hour on one core

Needs Set3C, the kernels of Levin et al. and the weights of FFDNet and IRCNN (from the folder
BMO_DATA, else downloaded), and the package h5py. Parts are kept in --out as they are finished; with
--resume a later call goes on. --method computes some tables only, and writes no record; with
--record it writes one of those tables, without the convergence cases.

Example:
  python -m bmo peers --profile full --out runs/peers --resume
"""


def rows_of(pieces: Pieces) -> list[dict[str, Any]]:
    """Mean and deviation over noise seeds, the convergence cases, and the published figures."""
    s, rows = pieces.settings, []
    for method in s.methods:
        for percent in s.percents:
            for name in s.images:
                parts = [pieces.result(method, percent, name, seed) for seed in s.seeds]
                for depth in parts[0]["depths"]:
                    setting = _setting(name, percent, s.kernel, int(depth), s.side)
                    for metric in ("psnr", "ssim"):
                        values = [part["depths"][depth][metric] for part in parts]
                        rows.append(row(method, setting, metric, values))
    for case in every_case(s):
        rows += case_rows(pieces, case)
    return rows + published_rows()


def _setting(name: str, percent: float, kernel: int, depth: int, side: int) -> dict[str, Any]:
    setting = {"image": name, "sigma_percent": percent, "kernel": kernel, "depth": depth}
    return {**setting, "side": side, "certified": "none"}


def case_rows(pieces: Pieces, case: tuple[str, int, float, float]) -> list[dict[str, Any]]:
    """One convergence case: where it ends, what it lost, and the norm of the derivative."""
    (name, kernel, percent, weight), s, part = case, pieces.settings, pieces.case(*case)
    setting = _setting(name, percent, kernel, s.long, s.crop)
    setting |= {"test": "convergence", "weight": weight}
    best = max(part["psnr"], default=0.0)
    last = 0.0 if part["diverged"] else part["psnr"][-1]
    values = {
        "psnr": last,
        "psnr_best": best,
        "depth_of_best": part["psnr"].index(best) + 1 if part["psnr"] else 0,
        "psnr_lost": best - last,
        "relative_residual": at(part["residual"], [s.long], ENDLESS)[0],
        "diverged": float(part["diverged"]),
    } | {f"derivative_norm, {where}": norm for where, norm in part["derivative"].items()}
    return [row("pnp-ffdnet-stationary", setting, key, value) for key, value in values.items()]


def published_rows() -> list[dict[str, Any]]:
    """The table of the poster, marked as published."""
    return [
        row(
            method,
            {"image": name, "sigma_percent": percent, "kernel": 3, "citation": CITATION},
            "psnr",
            value,
            source="published",
        )
        for method, levels in PUBLISHED.items()
        for percent, values in levels.items()
        for name, value in zip(("butterfly", "leaves", "starfish"), values, strict=True)
    ]


def curves_of(pieces: Pieces) -> dict[str, list[float]]:
    """PSNR and relative residual of each convergence case at the recorded steps."""
    s = pieces.settings
    curves = {"depth": [float(d) for d in s.depths]}
    for name, kernel, percent, weight in every_case(s):
        part = pieces.case(name, kernel, percent, weight)
        where = f"w = {weight:g}/{name}/{kernel}/{percent:g}"
        curves[f"psnr/{where}"] = at(part["psnr"], s.depths, 0.0)
        curves[f"residual/{where}"] = at(part["residual"], s.depths, ENDLESS)
    return curves


def files_of(s: Settings) -> list[str]:
    """Every file of the run."""
    images = [f"set3c/{name}.png" for name in s.images]
    weights = ["weights/ffdnet/ffdnet_color.pth"]
    gray = list(data.files("ircnn_gray")) if any("gray" in m for m in s.methods) else []
    return [*images, "levin09/Levin09.mat", *weights, *gray]


def command(s: Settings) -> str:
    """The command that repeats a run."""
    base = f"python -m bmo peers --profile {s.profile}"
    whole = s.cases == settings_of(s.profile).cases
    return base if whole else f"{base} --record --method {' '.join(s.methods)}"


def save(pieces: Pieces, folder: Path) -> Path:
    """Assemble the record and write it; returns its path."""
    s = pieces.settings
    found = [pieces.result(m, p, n, k)
             for m in s.methods for p in s.percents for n in s.images for k in s.seeds]  # fmt: skip
    found += [pieces.case(*case) for case in every_case(s)]
    record = Record(
        **{**provenance_now(), "command": command(s)},
        experiment=EXPERIMENT,
        profile=s.profile,
        settings=s.as_dict(),
        seeds=list(s.seeds),
        data=data.hashes(files_of(s)),
        seconds=sum(part["seconds"] for part in found),
        rows=rows_of(pieces),
        curves=curves_of(pieces),
    )
    return write(record, folder)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of ``peers``."""
    parser.add_argument("--profile", choices=COMMON, default="page")
    parser.add_argument("--out", type=Path, help=f"folder (default: runs/{EXPERIMENT}.<profile>)")
    parser.add_argument("--resume", action="store_true", help="use what is already in --out")
    parser.add_argument("--method", nargs="+", choices=METHODS, help="only these tables")
    parser.add_argument("--record", action="store_true", help="write a record of these alone")
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> None:
    """Compute the parts, one line for each; write the record unless some were left out."""
    s = settings_of(options.profile)
    out = options.out or Path("runs") / f"{EXPERIMENT}.{s.profile}"
    if options.method and options.record:  # what is shown and kept; a part does not depend on it
        asked = tuple(method for method in s.methods if method in options.method)
        s = replace(s, methods=asked, cases=())
    pieces = Pieces(s, out, options.resume)
    for method in options.method or s.methods:
        for percent in s.percents:
            for name in s.images:
                for seed in s.seeds:
                    part = pieces.result(method, percent, name, seed)
                    shown = " ".join(f"{d}:{v['psnr']:.2f}" for d, v in part["depths"].items())
                    print(f"{method} {name} {percent:g} % seed {seed}: PSNR at {shown}", flush=True)
    if options.method and not options.record:
        print(f"parts kept in {out}; a call without --method writes the record")
        return
    for case in every_case(s):
        part = pieces.case(*case)
        best, last = max(part["psnr"]), part["psnr"][-1]
        print(f"{case}: PSNR at best {best:.2f}, at last {last:.2f} dB", flush=True)
    path = save(pieces, out)
    wanted = {"metric": "psnr", "side": s.side, "test": None}
    down, across = ("method", "depth"), ("sigma_percent", "image")
    print(table(read(path), down, across, where=wanted, style="plain"))
    print(f"record: {path}")
