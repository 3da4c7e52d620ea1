"""The command line, ``python -m bmo``: train, evaluate, restore, bench, peers, certificates, ...

Every mistake ends in one line that says what is required, what was given and what to do, and
in exit code 2. An interrupted training exits with 130 and can be resumed.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import NoReturn

import torch

from bmo import record
from bmo.bench import command as bench
from bmo.errors import BMOError, TrainingError, require_whole
from bmo.performance import experiment as certificates
from bmo.problems import command as training
from bmo.problems.deconvolution import peers_report as peers
from bmo.problems.sparse_coding import METHODS, NOISES, measuring, settings_of
from bmo.problems.sparse_coding.gaussian import panels
from bmo.problems.sparse_coding.pictures import load
from bmo.problems.sparse_coding.trained import trained
from bmo.restore import command as restoring

RECORDED = Path("notebooks") / "recorded"
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
_PANELS = """\
What each number does on the small Gaussian bench: short trainings, and the search for BMO-H.

Example:
  python -m bmo panels --out runs/sparse-panels.page
"""
_RECORDS = """\
The recorded results of a folder.

  list       name, methods and provenance of each record (each is validated on reading)
  validate   read every record and verify it; say which are good
  seal       write the sha256 of every record and weights file into the package (after a new run)
"""


class _Parser(argparse.ArgumentParser):
    """A parser whose errors are one line, as all others are."""

    def error(self, message: str) -> NoReturn:
        text = " ".join(message.split())
        raise BMOError("arguments that the command knows", text, f"see {self.prog} --help", text)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; returns the exit code.

    Example:
        >>> main(["train", "sparse-coding", "--seeds", "-1"])
        2
    """
    # Codes that decay to zero pass through subnormal numbers, which are a hundred times slower.
    torch.set_flush_denormal(True)
    try:
        options = parser().parse_args(arguments)
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
    top = _Parser(
        prog="python -m bmo",
        description="Bilevel Meta Optimization: train, evaluate, restore, time, keep records.",
    )
    commands = top.add_subparsers(dest="command", required=True, metavar="COMMAND")
    training.add_arguments(_command(commands, "train", training.HELP))
    _add_evaluate(commands)
    restoring.add_arguments(_command(commands, "restore", restoring.HELP))
    bench.add_arguments(_command(commands, "bench", bench.HELP))
    peers.add_arguments(_command(commands, "peers", peers.HELP))
    _add_certificates(commands)
    _add_panels(commands)
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


def _add_evaluate(commands: Commands) -> None:  # type: ignore[valid-type]
    evaluate = _command(commands, "evaluate", _EVALUATE)
    evaluate.add_argument("experiment", choices=("sparse-coding",))
    evaluate.add_argument("--profile", choices=record.COMMON, default="page")
    evaluate.add_argument("--noise", choices=NOISES, default=NOISES[0])
    evaluate.add_argument("--method", choices=METHODS[:3], default=METHODS[0])
    evaluate.add_argument("--depths", nargs="+", type=int, default=[16, 64, 256, 1000])
    evaluate.add_argument("--seed", type=int, default=0, help="of the noise (default: 0)")
    evaluate.set_defaults(run=run_evaluate)


def _add_certificates(commands: Commands) -> None:  # type: ignore[valid-type]
    certify = _command(commands, "certificates", _CERTIFICATES)
    certify.add_argument("--profile", choices=record.COMMON, default="page")
    certify.add_argument("--out", type=Path, help="folder (default: runs/certificates.<profile>)")
    certify.set_defaults(run=run_certificates)


def _add_panels(commands: Commands) -> None:  # type: ignore[valid-type]
    shown = _command(commands, "panels", _PANELS)
    shown.add_argument("--out", type=Path, default=Path("runs/sparse-panels.page"))
    shown.set_defaults(run=lambda options: print(f"record: {panels.save(options.out)}"))


def _add_records(commands: Commands) -> None:  # type: ignore[valid-type]
    records = _command(commands, "records", _RECORDS)
    records.add_argument("action", nargs="?", choices=("list", "validate", "seal"), default="list")
    records.add_argument("--folder", type=Path, default=RECORDED, help=f"default: {RECORDED}")
    records.add_argument("--seal", action="store_true", help="the same as seal")
    records.set_defaults(run=run_records)


def run_evaluate(options: argparse.Namespace) -> None:
    """Restore the test images with recorded weights and print one line for each depth."""
    depths = sorted(set(options.depths))
    if depths[0] < 0:
        raise TrainingError("depths >= 0", f"{depths[0]}", "count steps of T", depths[0])
    require_whole("--seed", options.seed)
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
    paths = sorted(record.require_folder(options.folder).glob("*.json"))
    if not paths:
        print(f"no record in {options.folder}")
    for path in paths:
        found = record.read(path)
        if options.action == "validate":
            print(f"good: {path} ({len(found.rows)} rows, {len(found.curves)} curves)")
        else:
            print(f"{found.name}: {record.provenance(found)}")
