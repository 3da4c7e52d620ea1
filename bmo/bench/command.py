"""``python -m bmo bench``."""

from __future__ import annotations

import argparse
import time
from pathlib import Path

import torch

from bmo import record
from bmo.bench import ours, plain
from bmo.bench.methods import Registry
from bmo.bench.report import as_record, table
from bmo.bench.run import CASES, ROUNDS, Results, chosen_cases, run_case
from bmo.errors import DomainError

HELP = """\
Time hypergradients beside their peers: CPU time over that of the plain forward, peak memory, error.

Profiles (they never follow the hardware):
  page   small K; a minute or two
  full   every K of P1, P2 and P3; about half an hour

Peers are adapters in a folder, one file each; what is not installed is named. `make bench` installs
them into an environment of their own and runs all of this in it. A run of a whole profile writes
the record; one with --problem, --K or --method only prints.

Examples:
  python -m bmo bench --profile page
  python -m bmo bench --profile full --peers tests/bench/peers
  python -m bmo bench --profile full --problem P2 --K 64 --method "bmo reverse" torch
"""


def add_arguments(bench: argparse.ArgumentParser) -> None:
    """The options of ``bench``."""
    bench.add_argument("--profile", choices=record.PROFILES, default="page")
    bench.add_argument("--peers", type=Path, help="folder with the adapters of peers")
    bench.add_argument("--problem", nargs="+", choices=("P1", "P2", "P3"), help="only these")
    bench.add_argument("--K", nargs="+", type=int, help="only these numbers of steps")
    bench.add_argument("--method", nargs="+", help="only these methods, by the start of the name")
    bench.add_argument("--rounds", type=int, help=f"default: {ROUNDS}")
    bench.add_argument("--out", type=Path, default=Path("notebooks") / "recorded")
    bench.set_defaults(run=run)


def run(options: argparse.Namespace) -> None:
    """Measure, print each table as it is finished, and write the record of a whole run.

    Raises:
        DomainError: Nothing was chosen, or too few rounds for an interval.
    """
    torch.set_num_threads(1)
    rounds = ROUNDS[options.profile] if options.rounds is None else options.rounds
    if rounds < 6:
        raise DomainError("6 rounds or more", f"{rounds}", "an interval needs them", rounds)
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
    if options.problem or options.K or options.method:
        print("no record: a part of the profile was measured")
        return
    made = as_record(results, registry, options.profile, rounds, time.perf_counter() - start)
    print(f"record: {record.write(made, options.out)}")


def registered(peers: Path | None) -> Registry:
    """Our methods, plain torch, and the peers of a folder."""
    registry = Registry()
    ours.register(registry)
    plain.register(registry)
    if peers is not None:
        registry.load(peers)
    return registry
