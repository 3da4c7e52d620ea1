"""The command ``python -m bmo train``: computes parts of a bench, and writes its record."""

from __future__ import annotations

import argparse
import math
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from bmo import parallel, record
from bmo.errors import TrainingError
from bmo.problems.asked import require_device
from bmo.problems.benches import BENCHES, Bench
from bmo.train import OutOfTime

#: Seconds that processes wait for one that works alone: it tests on all images, say.
PATIENCE = 6 * 3600.0
HELP = """\
Hyper-train the methods of an experiment, test them, and write the record.

Experiments and their profiles (which never follow the hardware):
  sparse-coding            page   pictures inside scikit-image's wheel, small patches; a minute
                           full   BSDS training images, tested on Set14 (from the folder BMO_DATA,
                                  else downloaded)
  sparse-coding-gaussian   page   a random 50x100 dictionary; a minute on one core
                           full   250x500, with every method, noise level and shift; a network
                                  with 16 different layers goes on by repeating the last one
  deconvolution            page   colour pictures inside scikit-image's wheel; a minute on one core
                           small  BSDS training images, tested on Set3C with the kernels of Levin
                                  et al.; small networks, an hour or two of one core
                           full   the same data, large networks; for one GPU, --device cuda
  deraining                page   the same pictures with synthetic rain; a minute on one core
                           small  BSDS training images with synthetic rain, tested on Rain100L and
                                  Rain100H; an hour or so of one core
                           full   the same data, large networks; for one GPU, --device cuda

Parts are kept in --out as they are finished. With --resume a later call goes on where an earlier
one stopped and ends with the same numbers. --noise, --method and --seeds compute only some of the
parts (several calls may share one folder); the record is written by a call without them, or with
--record for those parts alone.

--minutes ends a training after so much time, with a checkpoint; --resume goes on from there. So a
long run can be cut into pieces of a few minutes each. (deconvolution, deraining)

torchrun shares every batch among processes. The numbers are those of one process but for rounding.
If one process dies, all stop; the same command with --resume goes on from the last checkpoint.

Examples:
  python -m bmo train sparse-coding --profile page
  python -m bmo train sparse-coding-gaussian --profile full --noise 30db --method bmo gkm
  python -m bmo train sparse-coding-gaussian --profile full --method ena-alista ena-tista --record
  python -m bmo train sparse-coding --profile full --out runs/full --noise gaussian
  python -m bmo train sparse-coding --profile full --out runs/full --resume
  torchrun --standalone --nproc-per-node 2 -m bmo train sparse-coding --profile page
"""


_PARTS = ("noises", "methods")


def add_arguments(train: argparse.ArgumentParser) -> None:
    """The options of ``train``."""
    noises, methods = ([x for b in BENCHES.values() for x in getattr(b, key)] for key in _PARTS)
    train.add_argument("experiment", choices=BENCHES)
    train.add_argument("--profile", choices=record.PROFILES, default="page")
    train.add_argument("--out", type=Path, help="folder (default: runs/<experiment>.<profile>)")
    train.add_argument("--resume", action="store_true", help="use what is already in --out")
    train.add_argument("--noise", nargs="+", choices=noises, help="only these noises")
    train.add_argument("--method", nargs="+", choices=methods, help="only these methods")
    train.add_argument("--seeds", nargs="+", type=int, help="only these seeds")
    train.add_argument("--record", action="store_true", help="write a record of these parts alone")
    train.add_argument("--device", default="cpu", help="such as cuda (deconvolution, deraining)")
    train.add_argument("--minutes", type=float, help="stop then; go on with --resume")
    train.set_defaults(run=run)


def run(options: argparse.Namespace) -> None:
    """Compute the asked parts; write the record if none was left out."""
    bench = BENCHES[options.experiment]
    settings = bench.settings_of(options.profile)
    where = f"of {options.experiment}, profile {options.profile}"
    for name, asked in (
        ("seeds", options.seeds),
        *zip(_PARTS, (options.noise, options.method), strict=True),
    ):
        known = getattr(settings, name)
        unknown = sorted(set(asked or ()) - set(known))
        if unknown:
            raise TrainingError(
                f"{name} out of {list(known)} ({where})",
                f"{unknown}",
                "leave the option out to run all of them",
                unknown,
            )
    if options.record and options.seeds and settings.seeds[0] not in options.seeds:
        raise TrainingError(
            f"seed {settings.seeds[0]} in a record", f"{options.seeds}", "add it", options.seeds
        )
    where_to = {}
    if options.device != "cpu" or options.minutes is not None:
        where_to = _where_and_when(options, bench)
    with parallel.session(PATIENCE):
        try:
            _train(options, bench, settings, where_to)
        except OutOfTime as pause:
            _say(f"time is over: {pause}; the same command with --resume goes on")


def _where_and_when(options: argparse.Namespace, bench: Bench) -> dict[str, Any]:
    """The device and the deadline of an experiment that can choose them."""
    if not bench.movable:
        raise TrainingError(
            "an experiment that can choose a device and an end",
            options.experiment,
            "leave --device and --minutes out",
            options.experiment,
        )
    require_device(options.device)
    if options.minutes is not None and not 0 < options.minutes < math.inf:
        raise TrainingError("--minutes > 0", f"{options.minutes}", "5, say", options.minutes)
    end = None if options.minutes is None else time.monotonic() + 60 * options.minutes
    return {"device": options.device, "deadline": end}


def _train(
    options: argparse.Namespace, bench: Bench, settings: Any, where_to: dict[str, Any]
) -> None:
    """Every process computes; the first one prints."""
    out = options.out or Path("runs") / f"{options.experiment}.{options.profile}"
    asked = {"seeds": options.seeds, "noises": options.noise, "methods": options.method}
    if options.record:  # in the order of the settings, whose first seed is tested most
        chosen = {
            k: tuple(x for x in getattr(settings, k) if x in v) for k, v in asked.items() if v
        }
        settings = replace(settings, **chosen)
    levels = tuple(x for x in settings.noises if x in (options.noise or settings.noises))
    wanted = replace(settings, noises=levels)
    pieces = bench.pieces(settings, out, options.resume, **where_to)
    for seed in options.seeds or settings.seeds:
        for noise in levels:
            for method in options.method or settings.methods:
                if seed in wanted.seeds_of(method, noise):
                    part = pieces.result(noise, method, seed)
                    # the others hold what is learned, not what was measured
                    values = bench.values(part) if parallel.main_process() else {}
                    for label, shown in values.items():
                        name = f"{noise} {method}{label} seed {seed}"
                        _say(_summary(name, bench, settings.depths, shown, part["seconds"]))
    if any(asked.values()) and not options.record:
        _say(f"parts kept in {out}; a call without --noise, --method, --seeds writes the record")
        return
    path = bench.save(pieces, out)
    if parallel.main_process():
        found = record.read(path)
        table = record.table(found, bench.down, "depth", where=bench.shown, style="plain")
        _say(f"{bench.unit}\n{table}\nrecord: {path}")


def _say(text: str) -> None:
    """Print in the first process alone."""
    if parallel.main_process():
        print(text, flush=True)


def _summary(
    name: str, bench: Bench, depths: Sequence[int], values: Sequence[float], seconds: float
) -> str:
    chosen = [d for d in depths if d >= 16] or depths[-1:]
    shown = " ".join(f"{d}:{v:.2f}" for d, v in zip(depths, values, strict=True) if d in chosen)
    return f"{name}: {bench.unit.split(' in ')[0]} at depth {shown} ({seconds:.0f} s)"
