"""Chapter 10, "What may depend on the observation": the pilot, its weights, and what is left."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest
import torch
from bookfiles import ROOT

import bmo
from bmo.errors import DomainError
from bmo.problems.sparse_coding import gaussian as bench
from bmo.problems.sparse_coding.gaussian.methods import CodeError, Piloted
from bmo.problems.sparse_coding.gaussian.pieces import Pieces
from bmo.prox import soft
from bmo.record import Record, read

START = {
    "unh-ista": {"penalty": 0.1},
    "unh-ladmm": {"penalty": 0.01, "beta": 0.03},
    "unh-admm": {"penalty": 0.01, "rho": 0.03},
}
ROWS, ATOMS = 8, 14
SMALL = dataclasses.replace(bench.PAGE, rows=ROWS, atoms=ATOMS)
KINDS = ("gkm-pilot-admm", "gkm-pilot-ladmm", "gkm-pilot")


def model(name: str, seed: int, size: float = 0.3, matrices: bool = True) -> Piloted:
    """A method at parameters that no training would give, with its matrices or without them."""
    made = bench.build(name, bench.gaussian_dictionary(ROWS, ATOMS), START, SMALL)
    assert isinstance(made, Piloted)
    rng = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for raw in made.parameters():
            if matrices or raw.dim() < 2:
                raw += size * torch.randn(raw.shape, generator=rng)
    return made


def observed(count: int, seed: int = 3) -> bench.Data:
    A = bench.gaussian_dictionary(ROWS, ATOMS)
    return bench.observe(A, count, 0.2, 30.0, torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("name", KINDS)
def test_weights_of_the_observation_leave_the_certificate(name: str) -> None:
    """For each b: nonexpansive in one metric, settled, and below the bound from the pilot on."""
    for seed in range(3):
        made, b = model(name, seed), observed(4).observed
        with torch.no_grad():
            T, points = made.net.fixed(b)
            u, v = torch.randn(2, 300, made.size, generator=torch.Generator().manual_seed(seed))
            for row in range(4):
                D = made.net.fixed(b[row : row + 1])[0].operator
                ratio = D.metric.norm(D(u) - D(v)) / D.metric.norm(u - v)
                assert float(ratio.max()) <= 1 + 1e-12
            w = T.operator.weights
            assert w.shape == (4, ATOMS) and float((w[0] - w[1]).abs().max()) > 0.1
            assert 0 < float(w.min()) and float(w.max()) <= 2
            # a B or a metric that was moved far may leave no minimiser, and then nothing settles
            settling = model(name, seed, size=0.05, matrices=False)
            found = bench.trajectory(settling.net, b, (8, 16, 64, 4000))
        assert found.diverged == 0 and float(found.residuals[-1].max()) < 1e-9
        assert found.share is not None and float(found.share.max()) <= 1
        assert float(found.share[0]) == 0 < float(found.share[1])  # no bound for the pilot's steps


def test_weights_that_follow_the_iterate_expand() -> None:
    """Exercise: soft(u, theta(u)) expands where soft(u, theta(v)) does not."""
    theta, small = 0.1, 0.05

    def weighed(u: torch.Tensor, at: torch.Tensor) -> torch.Tensor:
        return soft(u, 2 * theta * small / (at.abs() + small))

    u, h = torch.linspace(0.1, 2.0, 500), 1e-4
    following = (weighed(u + h, u + h) - weighed(u, u)) / h
    fixed = (weighed(u + h, torch.tensor(0.3)) - weighed(u, torch.tensor(0.3))) / h
    assert float(following.max()) > 1.3 and float(fixed.max()) <= 1 + 1e-9
    on = u > 0.2
    wanted = 1 + 2 * theta * small / (u + small) ** 2
    assert torch.allclose(following[on], wanted[on], atol=1e-3)


@pytest.mark.parametrize("name", KINDS)
def test_sixteen_steps_are_the_pilots_and_the_maps(name: str) -> None:
    """Training and testing see the same u^16; the pilot's steps count; short runs are its own."""
    made, data = model(name, 1), observed(5)
    with torch.no_grad():
        loss = float(made.loss((data.codes, data.observed)))
        states = list(made.net.states(data.observed, 20))
        assert made.net.free == 12 and len(states) == 20
        error = float(CodeError(data.codes, made.first)(states[15][0]).mean())
        assert loss == pytest.approx(error, rel=1e-12)
        T, points = made.net.fixed(data.observed)
        assert torch.equal(states[11][0], points[-1])
        assert torch.allclose(states[12][0], T(points[-1]), atol=1e-14)
        assert len(list(made.net.states(data.observed, 7))) == 7


@pytest.mark.parametrize("name", ("bmo-pilot-admm", "gkm-pilot-ladmm", "bmo-pilot"))
def test_the_gradient_reaches_the_pilot(name: str) -> None:
    """By differences, along a direction in all parameters; with mu > 0, too."""
    made, data = model(name, 2), observed(6)
    chosen = [p for p in made.parameters() if p.requires_grad]
    gradients = torch.autograd.grad(made.loss((data.codes, data.observed)), chosen)
    assert all(float(g.abs().max()) > 0 for g in gradients)
    rng, h = torch.Generator().manual_seed(0), 1e-6
    way = [torch.randn(p.shape, generator=rng) for p in chosen]
    slope = float(sum((g * w).sum() for g, w in zip(gradients, way, strict=True)))
    values = []
    for sign in (1, -2):
        with torch.no_grad():
            for p, w in zip(chosen, way, strict=True):
                p += sign * h * w
            values.append(float(made.loss((data.codes, data.observed))))
    assert (values[0] - values[1]) / (2 * h) == pytest.approx(slope, rel=1e-4)


def test_weights_of_one_change_nothing() -> None:
    A, b = bench.gaussian_dictionary(ROWS, ATOMS), observed(3).observed
    for kind, size in ((bmo.operators.LearnedForwardBackward, ATOMS),
                       (bmo.operators.LearnedSparseADMM, 3 * ATOMS),
                       (bmo.operators.LearnedSparseLADMM, ROWS + ATOMS)):  # fmt: skip
        D = kind(A, b, 0.1)
        assert "weights" not in D.state_dict()
        z = torch.randn(3, size, generator=torch.Generator().manual_seed(0))
        assert torch.equal(D(z), D.bind(weights=torch.ones(3, ATOMS))(z))
        assert not torch.allclose(D(z), D.bind(weights=0.5 * torch.ones(3, ATOMS))(z))


def test_a_part_depends_on_the_pilot_only_where_there_is_one(tmp_path: Path) -> None:
    pieces, known = Pieces(SMALL, tmp_path), SMALL.as_dict()
    assert "pilot" in pieces.relevant("30db.gkm-pilot-admm.seed0", known)
    assert "pilot" not in pieces.relevant("30db.gkm-admm.seed0", known)
    with pytest.raises(DomainError):
        bench.build("gkm-pilot-net", bench.gaussian_dictionary(ROWS, ATOMS), START, SMALL)


def test_what_the_pilot_gains() -> None:
    page: Record = read(ROOT / "notebooks/recorded/sparse-coding-gaussian.page.json")

    def error(method: str, depth: int) -> float:
        return page.value(method=method, metric="nmse_db", depth=depth, set="trained")

    for depth in (16, 64, 1000):
        assert error("bmo-admm", depth) - error("gkm-pilot-admm", depth) > 2.5
        # mu > 0 in the four steps after the pilot costs something here, at every depth
        assert 0.5 < error("bmo-pilot-admm", depth) - error("gkm-pilot-admm", depth) < 1.5
