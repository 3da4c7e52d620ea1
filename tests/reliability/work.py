"""The training that the harness kills: small, with draws of its own, a checkpoint at every step."""

from __future__ import annotations

import contextlib
import hashlib
import io
import json
from dataclasses import replace
from pathlib import Path

import torch
from torch import Tensor, nn

import bmo
from bmo import cli, data
from bmo.problems.benches import BENCHES
from bmo.problems.sparse_coding.gaussian import PAGE
from bmo.train import Plan, train

PLAN = Plan(steps=24, rate=0.02, seed=3, warmup=4, clip=1.0, every=1)
STARTED, RESULT = "started", "result.txt"
BENCH = "sparse-coding-gaussian"


def _warm() -> None:
    """Load now what torch loads at the first step of an optimizer: forked processes have it."""
    torch.set_num_threads(1)
    weight = nn.Parameter(torch.ones(1))
    weight.grad = torch.ones(1)
    torch.optim.Adam([weight]).step()


_warm()


class Learner(nn.Module):
    """Steps 3 to 8 of Algorithm 1 on random codes; dropout draws from torch's own generator."""

    def __init__(self) -> None:
        super().__init__()
        rng = data.generator(7)
        self.A = torch.randn(12, 24, generator=rng, dtype=torch.float64) / 12**0.5
        zero = torch.zeros(12, dtype=torch.float64)
        D = bmo.operators.LearnedForwardBackward(self.A, zero, 0.1)
        self.operator, self.drop = D, nn.Dropout(0.2)

    def loss(self, codes: Tensor) -> Tensor:
        """The error after four steps."""
        b = self.drop(codes) @ self.A.mT
        inner = bmo.Inner(bmo.GKM(self.operator.bind(b=b), 0.9), mu=0.3)
        u = inner(torch.zeros_like(codes), lambda u: (u - codes).square().sum(-1), 4)
        return (u - codes).square().mean()


def sample(rng: torch.Generator) -> Tensor:
    """Eight sparse codes."""
    return data.sparse_codes(8, 24, 0.2, rng)


def trained(folder: Path, resume: bool = True) -> None:
    """Train, from the checkpoint if there is one, and write what came out, bit by bit."""
    torch.set_num_threads(1)
    torch.manual_seed(5)
    model = Learner()
    folder.mkdir(parents=True, exist_ok=True)
    (folder / STARTED).touch()
    losses = train(model, model.loss, sample, PLAN, folder, resume, progress=False)
    weights = hashlib.sha256()
    for name, tensor in sorted(model.state_dict().items()):
        weights.update(name.encode() + tensor.numpy().tobytes())
    found = {"losses": [loss.hex() for loss in losses], "weights": weights.hexdigest()}
    (folder / RESULT).write_text(json.dumps(found))


def commanded(folder: Path, resume: bool = True) -> None:
    """The command ``python -m bmo train`` with its page made small; one part of it."""
    torch.set_num_threads(1)
    small = replace(PAGE, rows=12, atoms=24, steps=60, batch=16, search_steps=4, validation=32,
                    tuned=32, test=64, shifted=32, depths=(0, 16), table_depths=(16,), warmup=2,
                    raced=8, noises=("30db",), methods=("gkm",), seeds=(0,))  # fmt: skip
    BENCHES[BENCH] = replace(BENCHES[BENCH], settings_of=lambda profile: small)
    folder.mkdir(parents=True, exist_ok=True)
    (folder / STARTED).touch()
    asked = ["--out", str(folder), "--noise", "30db", "--method", "gkm", "--seeds", "0"]
    with contextlib.redirect_stdout(io.StringIO()):
        code = cli.main(["train", BENCH, *asked, *["--resume"] * resume])
    parts = {p.name: json.loads(p.read_text()) for p in sorted(folder.glob("*.json"))}
    for part in parts.values():  # what a clock decides
        for name in ("seconds", "training_seconds", "sha256"):
            part.pop(name, None)
    (folder / RESULT).write_text(json.dumps({"code": code, **parts}, sort_keys=True))
