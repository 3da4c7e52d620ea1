"""Measure a method on a test set: ``python -m bmo.baselines.deraining.command``.

The results of each image are kept in one file for a method and a set; the same command goes on
where it was stopped.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from functools import partial
from pathlib import Path

from bmo.baselines.deraining.directional import CHOSEN, directional
from bmo.baselines.deraining.measuring import KEYS, Restorer, mean, measure_set
from bmo.baselines.deraining.pairs import COUNT, DATASETS
from bmo.baselines.deraining.progressive import CUT, METHODS, cut, published
from bmo.baselines.deraining.report import save
from bmo.errors import BMOError

CHOICES = ("input", "directional", *METHODS, *CUT)


def restorer(method: str, dataset: str) -> Restorer:
    """The method by its name; a network has the weights that were trained for the set."""
    if method in CUT:
        return cut(published(CUT[method], dataset))
    if method == "input":
        return lambda rainy: rainy
    if method == "directional":
        return partial(directional, weights=CHOSEN[dataset])
    return published(method, dataset)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; returns the exit code, 2 for a mistake.

    Example:
        >>> main(["--method", "input", "--pairs", "0"])
        2
    """
    options = parser().parse_args(arguments)
    try:
        for dataset in options.dataset:
            for method in options.method:
                file = options.out / f"{dataset}.{method}.json"
                numbers = options.pairs or range(1, COUNT + 1)
                restore = restorer(method, dataset)
                found = measure_set(restore, dataset, numbers, file, lambda s: print(s, flush=True))
                values = " ".join(f"{key} {mean(found)[key]:.4f}" for key in KEYS)
                print(f"{method} on {dataset}, {len(found)} images: {values}", flush=True)
        if options.record:
            print(f"record: {save(options.out, options.method)}")
    except BMOError as problem:
        print(f"bmo: {problem}", file=sys.stderr)
        return 2
    return 0


def parser() -> argparse.ArgumentParser:
    """The parser of the command."""
    top = argparse.ArgumentParser(description=__doc__)
    top.add_argument("--method", nargs="+", choices=CHOICES, default=["input"])
    top.add_argument("--dataset", nargs="+", choices=DATASETS, default=list(DATASETS))
    top.add_argument("--pairs", nargs="+", type=int, help="numbers of pairs (default: all)")
    top.add_argument("--out", type=Path, default=Path("runs/deraining"), help="folder of results")
    top.add_argument("--record", action="store_true", help="write a record (needs every pair)")
    return top


if __name__ == "__main__":
    sys.exit(main())
