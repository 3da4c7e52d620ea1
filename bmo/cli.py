"""The command line, ``python -m bmo``: train, evaluate, bench, certificates, records.

Every mistake ends in one line that says what is required, what was given and what to do, and
in exit code 2. An interrupted training exits with 130 and can be resumed.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import torch

from bmo import parallel, record
from bmo.bench import command as bench
from bmo.errors import BMOError, TrainingError
from bmo.performance import experiment as certificates
from bmo.problems.sparse_coding import METHODS, NOISES, Settings, measuring, settings_of
from bmo.problems.sparse_coding.pictures import load
from bmo.problems.sparse_coding.pieces import Pieces
from bmo.problems.sparse_coding.report import save
from bmo.problems.sparse_coding.trained import trained

EXPERIMENTS = ("sparse-coding",)
#: Seconds that processes wait for one that works alone: it tests on all images, say.
PATIENCE = 6 * 3600.0
RECORDED = Path("notebooks") / "recorded"
_TRAIN = """\
Hyper-train the methods of an experiment, test them, and write the record.

Profiles (they never follow the hardware):
  page   pictures inside scikit-image's wheel, small patches; about a minute on two cores
  full   BSDS training images, tested on Set14 (from the folder BMO_DATA, else downloaded)

Parts are kept in --out as they are finished. With --resume a later call goes on where an earlier
one stopped and ends with the same numbers. --noise, --method and --seeds compute only some of the
parts (several calls may share one folder); the record is written by a call without them.

torchrun shares every batch among processes. The numbers are those of one process but for rounding.
If one process dies, all stop; the same command with --resume goes on from the last checkpoint.

Examples:
  python -m bmo train sparse-coding --profile page
  python -m bmo train sparse-coding --profile full --out runs/full --noise gaussian
  python -m bmo train sparse-coding --profile full --out runs/full --resume
  torchrun --standalone --nproc-per-node 2 -m bmo train sparse-coding --profile page
"""
_EVALUATE = """\
Run a recorded method on the test images of a profile: T alone, from u0 = 0, without ground truth.

Example:
  python -m bmo evaluate sparse-coding --profile page --noise gaussian --method bmo --depths 16 1000
"""
_CERTIFICATES = """\
Certify worst cases by semidefinite programming, and write the record (extra: certificates).

Profiles:
  page   a few points, in seconds
  full   the grid of the book, in some minutes

Example:
  python -m bmo certificates --profile full
"""
_RECORDS = """\
The recorded results of a folder.

  list       name, methods and provenance of each record (each is validated on reading)
  validate   read every record and verify it; say which are good
  seal       write the sha256 of every record and weights file into the package (after a new run)
"""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; returns the exit code.

    Example:
        >>> main(["train", "sparse-coding", "--seeds", "-1"])
        2
    """
    options = parser().parse_args(arguments)
    # Codes that decay to zero pass through subnormal numbers, which are a hundred times slower.
    torch.set_flush_denormal(True)
    try:
        options.run(options)
    except BMOError as problem:
        print(f"bmo: {problem}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("bmo: interrupted; the same command with --resume goes on", file=sys.stderr)
        return 130
    finally:
        torch.set_flush_denormal(False)
    return 0


def parser() -> argparse.ArgumentParser:
    """The parser of all commands."""
    top = argparse.ArgumentParser(
        prog="python -m bmo",
        description="Bilevel Meta Optimization: hyper-train, evaluate, time, look after records.",
    )
    commands = top.add_subparsers(dest="command", required=True, metavar="COMMAND")
    _add_train(commands)
    _add_evaluate(commands)
    bench.add_arguments(_command(commands, "bench", bench.HELP))
    _add_certificates(commands)
    _add_records(commands)
    return top


Commands = "argparse._SubParsersAction[argparse.ArgumentParser]"


def _command(commands: Commands, name: str, text: str) -> argparse.ArgumentParser:  # type: ignore[valid-type]
    return commands.add_parser(  # type: ignore[attr-defined]
        name,
        help=text.split("\n")[0],
        description=text,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )


def _add_train(commands: Commands) -> None:  # type: ignore[valid-type]
    train = _command(commands, "train", _TRAIN)
    train.add_argument("experiment", choices=EXPERIMENTS)
    train.add_argument("--profile", choices=record.PROFILES, default="page")
    train.add_argument("--out", type=Path, help="folder (default: runs/<experiment>.<profile>)")
    train.add_argument("--resume", action="store_true", help="use what is already in --out")
    train.add_argument("--noise", nargs="+", choices=NOISES, help="only these noises")
    train.add_argument("--method", nargs="+", choices=METHODS, help="only these methods")
    train.add_argument("--seeds", nargs="+", type=int, help="only these seeds")
    train.set_defaults(run=run_train)


def _add_evaluate(commands: Commands) -> None:  # type: ignore[valid-type]
    evaluate = _command(commands, "evaluate", _EVALUATE)
    evaluate.add_argument("experiment", choices=EXPERIMENTS)
    evaluate.add_argument("--profile", choices=record.PROFILES, default="page")
    evaluate.add_argument("--noise", choices=NOISES, default=NOISES[0])
    evaluate.add_argument("--method", choices=METHODS[:3], default=METHODS[0])
    evaluate.add_argument("--depths", nargs="+", type=int, default=[16, 64, 256, 1000])
    evaluate.add_argument("--seed", type=int, default=0, help="of the noise (default: 0)")
    evaluate.set_defaults(run=run_evaluate)


def _add_certificates(commands: Commands) -> None:  # type: ignore[valid-type]
    certify = _command(commands, "certificates", _CERTIFICATES)
    certify.add_argument("--profile", choices=record.PROFILES, default="page")
    certify.add_argument("--out", type=Path, help="folder (default: runs/certificates.<profile>)")
    certify.set_defaults(run=run_certificates)


def _add_records(commands: Commands) -> None:  # type: ignore[valid-type]
    records = _command(commands, "records", _RECORDS)
    records.add_argument("action", nargs="?", choices=("list", "validate", "seal"), default="list")
    records.add_argument("--folder", type=Path, default=RECORDED, help=f"default: {RECORDED}")
    records.add_argument("--seal", action="store_true", help="the same as seal")
    records.set_defaults(run=run_records)


def run_train(options: argparse.Namespace) -> None:
    """Compute the asked parts; write the record if none was left out."""
    settings = settings_of(options.profile)
    seeds = tuple(options.seeds or settings.seeds)
    unknown = sorted(set(seeds) - set(settings.seeds))
    if unknown:
        raise TrainingError(
            f"seeds out of {list(settings.seeds)} (profile {options.profile})",
            f"{unknown}",
            "leave --seeds out to run all of them",
            unknown,
        )
    with parallel.session(PATIENCE):
        _train(options, settings, seeds)


def _train(options: argparse.Namespace, settings: Settings, seeds: Sequence[int]) -> None:
    """Every process computes; the first one prints."""
    out = options.out or Path("runs") / f"{options.experiment}.{options.profile}"
    pieces = Pieces(settings, out, options.resume)
    for seed in seeds:
        for noise in options.noise or settings.noises:
            for method in options.method or settings.methods:
                if seed in settings.seeds_of(method):
                    part = pieces.result(noise, method, seed)
                    _say(_summary(noise, method, seed, part, settings.depths))
    if options.noise or options.method or options.seeds:
        _say(f"parts kept in {out}; a call without --noise, --method, --seeds writes the record")
        return
    path = save(pieces, out)
    shown = record.table(
        record.read(path), ["noise", "method"], "depth", where={"metric": "psnr"}, style="plain"
    )
    _say(f"PSNR in dB\n{shown}")
    _say(f"record: {path}")


def _say(text: str) -> None:
    """Print in the first process alone."""
    if parallel.main_process():
        print(text, flush=True)


def _summary(noise: str, method: str, seed: int, part: dict, depths: Sequence[int]) -> str:  # type: ignore[type-arg]
    shown = " ".join(f"{d}:{v:.2f}" for d, v in zip(depths, part["psnr"], strict=True) if d >= 16)
    return f"{noise} {method} seed {seed}: PSNR at depth {shown} ({part['seconds']:.0f} s)"


def run_evaluate(options: argparse.Namespace) -> None:
    """Restore the test images with recorded weights and print one line for each depth."""
    depths = sorted(set(options.depths))
    if depths[0] < 0:
        raise TrainingError("depths >= 0", f"{depths[0]}", "count steps of T", depths[0])
    name = f"{options.experiment}.{options.profile}"
    model = trained(name, options.noise, options.method)
    settings = settings_of(options.profile)
    clean = load(replace(settings)).test
    noisy = measuring.noisy_images(clean, options.noise, options.seed)
    found = measuring.measure(
        model, clean, noisy, depths, settings.stride, settings.resolution, depths
    )
    print(f"{options.method} on {options.noise}, {len(clean)} images, T alone from u0 = 0")
    print("depth   PSNR dB   SSIM     median |u - Tu|_H / |u|_H")
    for at, depth in enumerate(depths):
        values = found["psnr"][at], found["ssim"][at], found["residual"][at]
        print("{:5d}   {:7.2f}   {:.4f}   {:.1e}".format(depth, *values))


def run_certificates(options: argparse.Namespace) -> None:
    """Compute the certificates of a profile and write the record."""
    out = options.out or Path("runs") / f"certificates.{options.profile}"
    print(f"record: {certificates.save(options.profile, out)}")


def run_records(options: argparse.Namespace) -> None:
    """List, validate or seal the records of a folder."""
    if options.action == "seal" or options.seal:
        for file, sha256 in record.seal(options.folder).items():
            print(f"{sha256[:16]}  {file}")
        return
    paths = sorted(options.folder.glob("*.json")) if options.folder.is_dir() else []
    if not paths:
        print(f"no record in {options.folder}")
    for path in paths:
        found = record.read(path)
        if options.action == "validate":
            print(f"good: {path} ({len(found.rows)} rows, {len(found.curves)} curves)")
        else:
            print(f"{found.name}: {record.provenance(found)}")
