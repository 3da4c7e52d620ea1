"""What the processes of tests/test_torchrun.py do, and the same for a process on its own.

As a program: `parallel_work.py TASK FOLDER [STEP TO DIE AT]`; a task is gradients, report or train.
"""

from __future__ import annotations

import json
import os
import signal
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any
from unittest.mock import patch

import torch
from torch import Tensor, nn

from bmo import Inner, cli, parallel, record, train
from bmo.hypergradient import hypergradient
from bmo.problems import sparse_coding as sc
from bmo.problems.benches import BENCHES
from bmo.problems.sparse_coding import pieces
from bmo.schedules import schedule

PLAN = train.Plan(steps=20, rate=0.01, seed=3, warmup=3, clip=0.5, every=5)
#: Batches that two and three processes can share evenly, and not.
EVEN, UNEVEN = 12, 13
OUTLIERS = 4
TINY = {
    "noises": ("gaussian",),
    "methods": ("bmo", "unh-ista"),
    "size": 4,
    "atoms": 24,
    "steps": 3,
    "batch": 9,
    "rates": (1e-3, 1e-2),
    "search_steps": 1,
    "dictionary_batches": 1,
    "validation": 20,
    "penalties": (0.1,),
    "outliers": (1.0,),
    "iterations": 3,
    "stride": 4,
    "depths": (1, 3, 16),
    "table_depths": (3, 16),
    "exact_patches": 4,
}


def model() -> sc.Restorer:
    """Sparse coding of patches of 16 pixels in float64, through the aggregated loop."""
    draws = torch.Generator().manual_seed(1)
    A = torch.randn(16, 24, generator=draws, dtype=torch.float64)
    A = A / A.norm(dim=0)
    D = sc.Coder(A, A.new_zeros(16), 0.05, ridge=0.1)
    return sc.Restorer(D, A, "gaussian", 0.9, 0.3, schedule(1.0, p=1.0), iterations=8)


def batch_of(generator: torch.Generator, count: int = UNEVEN) -> tuple[Tensor, Tensor]:
    """Clean and noisy patches; the last few are far from the others, so that weights matter."""
    clean = torch.rand(count, 16, generator=generator, dtype=torch.float64)
    clean[-OUTLIERS:] *= 5
    return clean, sc.corrupt(clean, "gaussian", generator)


def flat(gradients: dict[str, Tensor]) -> Tensor:
    """All gradients in one vector."""
    return torch.cat([g.flatten() for g in gradients.values()])


class Estimate(nn.Module):
    """The hypergradient of a slice of a batch, by `hypergradient`."""

    def __init__(self) -> None:
        super().__init__()
        self.restorer = model()

    def forward(self, clean: Tensor, observed: Tensor) -> dict[str, Tensor]:
        found, level = self.restorer, sc.centre(observed, "gaussian")
        inner = Inner(found.map(observed - level), found.mu, found.steps)
        upper, omega = found.upper(clean - level), dict(found.named_parameters())
        result = hypergradient(inner, found.start(observed), upper, found.iterations, omega)
        assert all(p.grad is None for p in found.parameters())
        return result.gradients


def estimated(count: int) -> Tensor:
    """The hypergradient of a batch, averaged over the processes."""
    part, weight = parallel.shard(batch_of(train.generator_of(0, 0), count))
    return flat(parallel.average(Estimate()(*part), weight))


def silent() -> Tensor:
    """The same, if one left the average to DistributedDataParallel: it does nothing."""
    module: nn.Module = Estimate()
    if parallel.world().size > 1:
        module = nn.parallel.DistributedDataParallel(module)
    part, _ = parallel.shard(batch_of(train.generator_of(0, 0), EVEN))
    return flat(module(*part))


class Loss(nn.Module):
    """A module that calls the inner loop, as a user would wrap it."""

    def __init__(self) -> None:
        super().__init__()
        self.restorer = model()

    def forward(self, clean: Tensor, observed: Tensor) -> Tensor:
        return self.restorer.loss((clean, observed))


def wrapped(count: int) -> Tensor:
    """The same gradient by `.backward()`; several processes use DistributedDataParallel."""
    module: nn.Module = Loss()
    size = parallel.world().size
    part, weight = parallel.shard(batch_of(train.generator_of(0, 0), count))
    if size > 1:
        module = nn.parallel.DistributedDataParallel(module)
    (module(*part) * (weight * size)).backward()
    return flat({n: p.grad for n, p in module.named_parameters() if p.grad is not None})


def trained(folder: Path, dies_at: int | None = None) -> dict[str, Any]:
    """A short training with dropout on the parameters; one process may kill itself on the way."""
    torch.manual_seed(5 + parallel.world().rank)  # what the others drew must not matter
    found, calls = model(), []

    def loss(batch: tuple[Tensor, Tensor]) -> Tensor:
        calls.append(1)
        if len(calls) == dies_at and parallel.world().rank == 1:
            os.kill(os.getpid(), signal.SIGKILL)
        kept = nn.functional.dropout(found.decoder, 0.1)
        return found.loss(batch) + 0.01 * kept.square().sum()

    losses = train.train(found, loss, batch_of, PLAN, folder, resume=True, progress=False)
    return {"losses": losses, "omega": flat({n: p.detach() for n, p in found.named_parameters()})}


def recorded(folder: Path) -> dict[str, float]:
    """The whole experiment from the command line, on one small picture; then resumed."""
    draws = torch.Generator().manual_seed(0)
    image = nn.functional.interpolate(
        torch.rand(1, 1, 12, 12, generator=draws), scale_factor=2, mode="bilinear"
    )[0, 0]
    bank = sc.PatchBank([image], 4)
    pictures = pieces.Pictures(bank, bank, {"one": image}, ["scikit-image/camera.png"])
    settings = sc.Settings("page", seeds=(0,), **TINY)  # type: ignore[arg-type]
    arguments = ["train", "sparse-coding", "--out", str(folder)]
    bench = replace(BENCHES["sparse-coding"], settings_of=lambda profile: settings)
    with (
        patch.dict(BENCHES, {"sparse-coding": bench}),
        patch.object(pieces, "load", lambda settings: pictures),
    ):
        codes = [cli.main(arguments), cli.main([*arguments, "--resume"])]
    assert codes == [0, 0]
    made = record.read(folder / "sparse-coding.page.json")
    found = {
        f"{r['method']} {r['setting']} {r['metric']}": float(r["value"])
        for r in made.rows
        if "psnr" in r["metric"]
    }
    return {**found, made.command: 0.0}


def gradients() -> dict[str, Any]:
    """The gradients that must not depend on the number of processes."""
    return {"even": estimated(EVEN), "uneven": estimated(UNEVEN)}


def report(folder: Path) -> dict[str, Any]:
    """Everything that must not depend on it."""
    return {
        **gradients(),
        "wrapped even": wrapped(EVEN),
        "wrapped uneven": wrapped(UNEVEN),
        "silent": silent(),
        **trained(folder / "training"),
        "record": recorded(folder / "experiment"),
    }


def main(task: str, folder: Path, dies_at: str = "") -> None:
    """Do one task in every process, and leave a file of each."""
    torch.set_num_threads(1)
    with parallel.session(120) as here:
        (folder / f"pid{here.rank}.json").write_text(json.dumps(os.getpid()))
        if task == "gradients":
            found = gradients()
        elif task == "report":
            found = report(folder)
        else:
            found = trained(folder / "training", int(dies_at) if dies_at else None)
        torch.save(found, folder / f"{task}{here.rank}.pt")


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]), *sys.argv[3:])
