"""``python -m bmo bench``."""

from __future__ import annotations

import argparse
import time
from pathlib import Path

import torch

from bmo import record
from bmo.bench import against, ours, plain
from bmo.bench.device import DEVICES, require_device
from bmo.bench.methods import Registry
from bmo.bench.report import as_record, table
from bmo.bench.run import CASES, ROUNDS, Results, chosen_cases, run_case
from bmo.errors import DomainError

HELP = """\
Time hypergradients beside their peers: CPU time over that of the plain forward, peak memory, error.

Profiles (they never follow the hardware):
  page   small K; a minute or two
  full   every K of P1, P2 and P3; about half an hour

With --products, and always on a GPU, P2 is timed by the clock on the wall over its matrix products
alone: as it is called, with compiled steps, as a CUDA graph, and both. Record: bench-gpu.

Peers are adapters in a folder, one file each; what is not installed is named. `make bench` installs
them into an environment of their own and runs all of this in it. A run of a whole profile writes
the record; one with --problem, --K or --method only prints.

Examples:
  python -m bmo bench --profile page
  python -m bmo bench --profile full --peers tests/bench/peers
  python -m bmo bench --profile full --problem P2 --K 64 --method "bmo reverse" torch
  python -m bmo bench --device cuda --profile full
"""


def add_arguments(bench: argparse.ArgumentParser) -> None:
    """The options of ``bench``."""
    bench.add_argument("--profile", choices=record.COMMON, default="page")
    bench.add_argument("--peers", type=Path, help="folder with the adapters of peers")
    bench.add_argument("--problem", nargs="+", choices=("P1", "P2", "P3"), help="only these")
    bench.add_argument("--K", nargs="+", type=int, help="only these numbers of steps")
    bench.add_argument("--method", nargs="+", help="only these methods, by the start of the name")
    bench.add_argument("--rounds", type=int, help=f"default: {ROUNDS}")
    bench.add_argument("--device", choices=DEVICES, default="cpu", help="default: cpu")
    bench.add_argument("--products", action="store_true", help="over the matrix products alone")
    bench.add_argument("--batch", nargs="+", type=int, help="only these batches (of --products)")
    bench.add_argument("--out", type=Path, default=Path("notebooks") / "recorded")
    bench.set_defaults(run=run)


def run(options: argparse.Namespace) -> None:
    """Measure, print each table as it is finished, and write the record of a whole run.

    Raises:
        DomainError: Nothing was chosen, too few rounds for an interval, or no such device.
    """
    torch.set_num_threads(1)
    rounds = ROUNDS[options.profile] if options.rounds is None else options.rounds
    if rounds < 6:
        raise DomainError("6 rounds or more", f"{rounds}", "an interval needs them", rounds)
    if options.products or options.device != "cpu" or options.batch:
        run_products(options, rounds)
    else:
        run_peers(options, rounds)


def run_products(options: argparse.Namespace, rounds: int) -> None:
    """P2 over its matrix products, on any device.

    Raises:
        DomainError: The device is not there, or there is nothing to do on it.
    """
    device = require_device(options.device)
    if options.problem not in (None, ["P2"]) or options.method or options.peers:
        raise DomainError(
            "P2 and our own ways alone",
            "--problem, --method or --peers",
            "leave them out beside --products, --batch or --device cuda",
        )
    sizes = against.chosen_sizes(options.profile, options.K, options.batch)
    if not sizes:
        known = sorted({f"K={s.steps} batch={s.batch}" for s in against.SIZES[options.profile]})
        raise DomainError(f"some of {', '.join(known)}", "nothing", "choose others", options.K)
    made = against.run(sizes, device, options.profile, rounds)
    whole = len(sizes) == len(against.SIZES[options.profile])
    _keep(made if whole else None, options.out)


def run_peers(options: argparse.Namespace, rounds: int) -> None:
    """Every method and peer over the plain forward, on the CPU.

    Raises:
        DomainError: Nothing was chosen.
    """
    registry = registered(options.peers)
    if options.method:
        starts = tuple(options.method)
        registry.methods = [m for m in registry.methods if m.name.startswith(starts)]
    cases = chosen_cases(options.profile, options.problem, options.K)
    if not cases or not registry.methods:
        known = sorted({f"{case.name} K={case.steps}" for case in CASES[options.profile]})
        raise DomainError(f"some of {', '.join(known)}", "nothing", "choose others", options.K)
    for name, why in registry.missing.items():
        print(f"missing: {name}: {why}")
    results, start = Results(), time.perf_counter()
    for case in cases:
        before = len(results.forwards)
        new = run_case(case, registry, rounds, results, time.process_time)
        for setting, forward in results.forwards[before:]:
            rows = [row for row in new if row.setting == setting]
            if rows:
                print(f"\n{table(rows, forward)}", flush=True)
    for where, why in results.failed.items():
        print(f"failed: {where}: {why}")
    part = options.problem or options.K or options.method
    spent = time.perf_counter() - start
    _keep(
        None if part else as_record(results, registry, options.profile, rounds, spent), options.out
    )


def _keep(made: record.Record | None, folder: Path) -> None:
    if made is None:
        print("no record: a part of the profile was measured")
    else:
        print(f"record: {record.write(made, folder)}")


def registered(peers: Path | None) -> Registry:
    """Our methods, plain torch, and the peers of a folder."""
    registry = Registry()
    ours.register(registry)
    plain.register(registry)
    if peers is not None:
        registry.load(peers)
    return registry
