"""Start here: its figure's claim on another draw, its code, and its table of claims."""

from __future__ import annotations

import re
from typing import Any

import claims
import claims_table
import pytest
import torch
from bookfiles import ROOT

import bmo
from bmo.baselines.unrolled import TiedLISTA

PAGE = (ROOT / "book/00-start.md").read_text("utf8")
K, FAR = 16, 400


class Problem:
    """Sparse codes seen through a random matrix: another size, another seed than the notebook's."""

    def __init__(self) -> None:
        rng = torch.Generator().manual_seed(7)
        A = torch.randn(40, 80, dtype=torch.float64, generator=rng)
        self.A = A / A.norm(dim=0)
        self.rng = rng

    def draw(self, count: int) -> tuple[torch.Tensor, torch.Tensor]:
        support = torch.rand(count, 80, generator=self.rng, dtype=torch.float64) < 0.1
        code = support * torch.randn(count, 80, generator=self.rng, dtype=torch.float64)
        noise = torch.randn(count, 40, generator=self.rng, dtype=torch.float64)
        return code, code @ self.A.mT + 0.03 * noise


def error(u: torch.Tensor, code: torch.Tensor) -> float:
    return float(10 * torch.log10((u - code).square().sum() / code.square().sum()))


def learned(problem: Problem, D: Any, mu: float, alpha: float, rate: float) -> Any:
    """Learn D by Algorithm 1 (mu = 0, alpha = 1: plain unrolling of a network)."""
    optimizer = torch.optim.Adam([w for w in D.parameters() if w.requires_grad], rate)
    fade = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, 150)
    for _ in range(150):
        code, b = problem.draw(48)

        def upper(u: torch.Tensor, code: torch.Tensor = code) -> torch.Tensor:
            return 0.5 * (u - code).square().sum(-1)

        T = bmo.GKM(D.bind(b=b), alpha, check=alpha < 1)
        u = bmo.Inner(T, mu, bmo.schedule(5.0))(torch.zeros_like(code), upper, K)
        optimizer.zero_grad()
        upper(u).mean().backward()
        optimizer.step()
        fade.step()
    return D


@pytest.fixture(scope="module")
def found() -> dict[str, tuple[float, float, float]]:
    """For each way: error after 16 steps, error after 400, relative residual after 400."""
    torch.manual_seed(0)
    problem = Problem()
    A, (_, b) = problem.A, problem.draw(2)
    forward = bmo.operators.LearnedForwardBackward
    unh = forward(A, b, threshold=0.05, learn=())
    own = forward(A, b, threshold=0.1, learn=("W", "p", "theta"))
    ways = {
        "unh": (unh, 0.9),
        "ena": (learned(problem, TiedLISTA(A, b, threshold=0.1), 0.0, 1.0, 1e-3), 1.0),
        "bmo": (learned(problem, own, 0.3, 0.9, 1e-2), 0.9),
    }
    code, b = problem.draw(100)
    result = {}
    for name, (D, alpha) in ways.items():
        T = bmo.GKM(D.bind(b=b), alpha, check=alpha < 1)
        short = T.iterate(torch.zeros_like(code), K).value
        long = T.iterate(torch.zeros_like(code), FAR, throw=False).value
        residual = float((T.residual(long).norm() / T.metric.norm(long).norm()).detach())
        result[name] = (error(short, code), error(long, code), residual)
    return result


def test_one_figure(found: dict[str, tuple[float, float, float]]) -> None:
    unh, ena, own = found["unh"], found["ena"], found["bmo"]
    assert ena[0] < unh[0] - 1 and own[0] < unh[0] - 1  # hyper-training pays at 16 steps
    assert ena[1] > 0 and ena[2] > 1e-2  # ENA is lost beyond
    assert own[1] < own[0] - 2 and own[2] < 1e-3 and unh[2] < 1e-2  # the other two converge


def test_bmo_is_nonexpansive_whatever_is_learned() -> None:
    problem = Problem()
    _, b = problem.draw(1)
    D = bmo.operators.LearnedForwardBackward(problem.A, b[0], threshold=0.1)
    for weight in D.parameters():
        weight.data.add_(3 * torch.randn_like(weight))
    assert bmo.certify.nonexpansive(D, size=80, trials=16, ascent=10).holds
    wild = TiedLISTA(problem.A, b[0], threshold=0.1)
    for weight in wild.parameters():
        weight.data.add_(3 * torch.randn_like(weight))
    assert not bmo.certify.nonexpansive(wild, size=80, trials=16, ascent=10).holds


def test_the_page_shows_the_example_of_the_readme() -> None:
    """The README's own test runs it; here it must be that example, and the only one."""
    assert PAGE.count("{literalinclude} ../README.md") == 1
    assert "{code-block} python" not in PAGE
    readme = (ROOT / "README.md").read_text("utf8")
    assert readme.count("```python") == 1
    for name in ("operators.LearnedForwardBackward", "GKM", "Inner", "schedule"):
        assert f"bmo.{name}(" in readme and f"<bmo.{name}>" in PAGE


def test_the_status_table_is_that_of_the_ledger() -> None:
    stored = (ROOT / claims_table.STATUS).read_text("utf8")
    assert stored == claims_table.table(ROOT), "run tests/tools/claims_table.py"
    entries = claims.ledger(ROOT)
    rows = re.findall(r"^\| (?!claim |---)", stored, re.MULTILINE)
    assert len(rows) == len(entries)
    assert f"**{len(entries)} claims" in stored
