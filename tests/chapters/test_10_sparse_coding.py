"""Chapter 10: the three learned steps against independent ones, and what the record says."""

from __future__ import annotations

import dataclasses
import inspect
from pathlib import Path

import pytest
import sparse_table
import torch
from bookfiles import ROOT
from torch import Tensor

import bmo
from bmo.baselines import ADMM, ISTA
from bmo.measure import nmse_db
from bmo.operators import LearnedForwardBackward, LearnedSparseADMM, LearnedSparseLADMM
from bmo.operators.spectral import largest_eigenvalue
from bmo.problems.sparse_coding import gaussian as bench
from bmo.problems.sparse_coding.gaussian.methods import CodeError, Contender
from bmo.record import Record, read

CERTIFIED = ("gkm", "bmo", "bmo-admm", "gkm-pilot-admm", "bmo-pilot-admm")
DEPTHS = (16, 64, 1000)
START = {
    "unh-ista": {"penalty": 0.2},
    "unh-ladmm": {"penalty": 0.01, "beta": 0.01},
    "unh-admm": {"penalty": 0.01, "rho": 0.03},
}


@pytest.fixture(scope="module")
def page() -> Record:
    """The recorded run of the small instance."""
    return read(ROOT / "notebooks/recorded/sparse-coding-gaussian.page.json")


def moved(D: torch.nn.Module, seed: int, size: float = 1.0) -> torch.nn.Module:
    """The operator at parameters that no training would give."""
    rng = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for raw in D.parameters():
            raw += size * torch.randn(raw.shape, generator=rng)
    return D


def pair(size: int, count: int = 300) -> tuple[Tensor, Tensor]:
    rng = torch.Generator().manual_seed(1)
    u, v = torch.randn(2, count, size, generator=rng)
    return u, v


M, N = 6, 9


def step(kind: str, seed: int) -> tuple[torch.nn.Module, int]:
    A = bench.gaussian_dictionary(M, N)
    b = torch.randn(M, generator=torch.Generator().manual_seed(seed))
    made: dict[str, tuple[torch.nn.Module, int]] = {
        "fb": (LearnedForwardBackward(A, b, 0.3), N),
        "ladmm": (LearnedSparseLADMM(A, b, 0.3), N + M),
        "admm": (LearnedSparseADMM(A, b, 0.3), 3 * N),
    }
    D, size = made[kind]
    return moved(D, seed), size


@pytest.mark.parametrize("kind", ["fb", "ladmm", "admm"])
def test_nonexpansive_for_every_parameter(kind: str) -> None:
    """Propositions: in its own metric, and in general in no other."""
    euclidean = 0.0
    for seed in range(6):
        D, size = step(kind, seed)
        u, v = pair(size)
        with torch.no_grad():
            change, before = D(u) - D(v), u - v
            assert float((D.metric.norm(change) / D.metric.norm(before)).max()) <= 1 + 1e-12
            euclidean = max(euclidean, float((change.norm(dim=1) / before.norm(dim=1)).max()))
        assert bmo.certify.nonexpansive(D, size=size, trials=8, ascent=5).holds
    assert euclidean > 1.05


def test_the_averaging_constant_of_the_learned_step() -> None:
    """With a = 1/(2 - delta), I + (D - I)/a is nonexpansive in P; and p follows G."""
    for seed in range(4):
        D, size = step("fb", seed)
        u, v = pair(size)
        with torch.no_grad():
            stretched = (u - v) + ((D(u) - u) - (D(v) - v)) / D.averaged
            assert float((D.metric.norm(stretched) / D.metric.norm(u - v)).max()) <= 1 + 1e-12
            p = D.prepare().p
            top = torch.linalg.eigvalsh(D.G.mT @ D.G / (p[:, None] * p).sqrt())[-1]
            assert float(top) <= 2 + 1e-12


def test_the_smooth_bound_lies_above_the_norm() -> None:
    for seed in range(5):
        G = torch.randn(7, 12, generator=torch.Generator().manual_seed(seed))
        exact = torch.linalg.eigvalsh(G @ G.mT)[-1]
        ratio = float(largest_eigenvalue(G @ G.mT, "power") / exact)
        assert 1 - 1e-12 <= ratio <= 7 ** (1 / 1024) + 1e-12


def minimiser(gram: Tensor, linear: Tensor, theta: Tensor) -> Tensor:
    """Of u'Qu/2 - c'u + sum theta|u| by coordinate descent: none of the book's steps."""
    u = torch.zeros_like(linear)
    for _ in range(4000):
        for i in range(len(u)):
            rest = linear[i] - gram[i] @ u + gram[i, i] * u[i]
            u[i] = rest.sign() * (rest.abs() - theta[i]).clamp_min(0) / gram[i, i]
    return u


@pytest.mark.parametrize("kind", ["fb", "ladmm", "admm"])
def test_fixed_points_are_minimisers(kind: str) -> None:
    A = torch.randn(8, 4, generator=torch.Generator().manual_seed(2))
    b = torch.randn(8, generator=torch.Generator().manual_seed(3))
    made = {"fb": LearnedForwardBackward, "ladmm": LearnedSparseLADMM, "admm": LearnedSparseADMM}
    D = moved(made[kind](A, b, 0.5), 4, size=0.2)
    with torch.no_grad():
        at = D.prepare()
        gram = D.G.mT @ D.G
        if kind == "fb":
            linear, theta, size = D.W @ b, at.threshold * at.p, 4
        elif kind == "ladmm":
            linear, theta, size = D.G.mT @ b + at.p * (D.B @ b), at.threshold * at.p, 12
        else:
            M_ = gram + torch.diag(at.q + at.beta)
            linear, theta, size = M_ @ (D.B @ b), at.threshold * at.beta, 12
        found = bmo.GKM(D, 0.9).iterate(torch.zeros(size), 40000, tol=1e-13).value
        wanted = minimiser(gram, linear, theta)
        code = found if kind == "fb" else D.code(found)
        assert float((code - wanted).abs().max()) < 1e-8 and float(wanted.abs().max()) > 0.05
        if kind == "ladmm":
            assert torch.allclose(found[4:], D.G @ wanted - b, atol=1e-8)
        if kind == "admm":
            assert torch.allclose(found[8:], linear - gram @ wanted, atol=1e-8)


def test_a_step_without_a_fixed_point_walks_away() -> None:
    """Exercise: nonexpansive, and u grows by alpha/p for ever."""
    D = LearnedForwardBackward(torch.eye(1), torch.ones(1), 1.0)
    with torch.no_grad():
        D.G.zero_()
        D.W.fill_(2.0)
    T, u = bmo.GKM(D, 0.5), torch.zeros(1)
    p = float(D.prepare().p.detach())
    with torch.no_grad():
        for k in range(1, 50):
            u = T(u)
            assert float(u) == pytest.approx(0.5 * k / p, rel=1e-6)


def small(**changes: object) -> bench.Settings:
    return dataclasses.replace(bench.PAGE, rows=20, atoms=40, test=100, **changes)  # type: ignore[arg-type]


def trained(name: str, steps: int, fuse: bool) -> tuple[Contender, Tensor]:
    s = small()
    A = bench.gaussian_dictionary(s.rows, s.atoms)
    model = bench.build(name, A, START, s)
    model.inner["fuse"] = fuse
    chosen = [p for p in model.parameters() if p.requires_grad]
    adam = torch.optim.Adam(chosen, 3e-3)
    for seed in range(steps):
        data = bench.observe(A, 32, 0.1, 30.0, torch.Generator().manual_seed(seed))
        adam.zero_grad()
        model.loss((data.codes, data.observed)).backward()
        adam.step()
    return model, A


@pytest.mark.parametrize("name", ["bmo", "bmo-ladmm", "bmo-admm", "ena-lista-tied"])
def test_training_does_not_magnify_rounding(name: str) -> None:
    """Two trainings that differ by rounding agree to 1e-6 dB."""
    errors = []
    for fuse in (True, False):
        model, A = trained(name, 25, fuse)
        data = bench.observe(A, 50, 0.1, 30.0, torch.Generator().manual_seed(999))
        with torch.no_grad():
            errors.append(float(nmse_db(model.net(data.observed), data.codes)))
    assert abs(errors[0] - errors[1]) < 1e-6


def test_a_tested_iteration_sees_no_code() -> None:
    assert "codes" not in inspect.signature(bench.trajectory).parameters
    model, A = trained("bmo", 30, True)
    data = bench.observe(A, 100, 0.1, 30.0, torch.Generator().manual_seed(7))
    inner = model.loop(model.map.bind(b=data.observed), **model.inner)
    with torch.no_grad():
        honest = float(nmse_db(model.net(data.observed), data.codes))
        told = inner(model.start(data.observed), CodeError(data.codes), 16)
        assert float(nmse_db(told, data.codes)) < honest - 0.5


def test_joint_convergence() -> None:
    """ENA and BMO lower |grad phi_K|; only what is certified converges in u."""
    for name, certified in (("bmo", True), ("ena-lista-tied", False)):
        s = small()
        A = bench.gaussian_dictionary(s.rows, s.atoms)
        model = bench.build(name, A, START, s)
        data = bench.observe(A, 100, 0.1, 30.0, torch.Generator().manual_seed(0))
        chosen = [p for p in model.parameters() if p.requires_grad]
        adam = torch.optim.Adam(chosen, 3e-3)
        fade = torch.optim.lr_scheduler.CosineAnnealingLR(adam, 100)
        sizes = []
        for _ in range(100):
            adam.zero_grad()
            model.loss((data.codes, data.observed)).backward()
            sizes.append(float(sum(p.grad.square().sum() for p in chosen)) ** 0.5)  # type: ignore[union-attr, misc]
            adam.step()
            fade.step()
        assert sizes[-1] < 0.2 * sizes[0]
        found = bench.trajectory(model.net, data.observed, (16, 1000))
        settled = float(found.residuals[1].median()) < 1e-6
        assert settled is certified and (found.diverged == 0) is certified


def error(page: Record, method: str, depth: int, rule: str | None = None, on: str = "trained"):
    return page.value(method=method, metric="nmse_db", depth=depth, set=on, chosen_by=rule)


def test_certified_layers_stay_and_free_ones_are_lost(page: Record) -> None:
    sets = {r["setting"]["set"] for r in page.select(metric="diverged", method="bmo")}
    assert len(sets) == 6
    for name in sets:
        for method in CERTIFIED:
            assert page.value(method=method, metric="diverged", set=name) == 0
            for depth in DEPTHS:
                where = {"method": method, "set": name, "depth": depth}
                assert page.value(metric="bound_share", **where) <= 1
            slow = 1e-8 if method in ("gkm", "bmo") else 1e-5
            assert page.value(metric="relative_residual", **where) <= slow
        assert page.value(method="ena-lista-tied", metric="diverged", set=name) > 0.4
        assert error(page, "ena-lista-tied", 1000, on=name) > 100
    assert page.value(method="bmo", metric="relative_residual", depth=1000, set="trained") < 1e-8
    assert error(page, "ena-lista-tied", 64) > 0 > error(page, "ena-lista-tied", 16)
    assert error(page, "bmo", 16) < error(page, "ena-lista-tied", 16) + 0.5


def test_what_the_upper_step_gains(page: Record) -> None:
    """A little at every depth, on the small instance, for one seed."""
    gains = [error(page, "gkm", k) - error(page, "bmo", k) for k in DEPTHS]
    assert 0.1 < gains[0] < 0.3 and 0.3 < gains[1] < gains[2] + 0.1 < 0.6
    assert page.seeds == [0]


def test_the_admm_step_is_ahead_of_tuned_admm(page: Record) -> None:
    for depth in DEPTHS:
        for rule in ("nmse", "f+g"):
            assert error(page, "bmo-admm", depth) < error(page, "unh-admm", depth, rule) - 0.3
    off = "dictionary off by 10 %"
    assert error(page, "bmo-admm", 1000, on=off) > error(page, "unh-admm", 1000, "nmse", off)


def test_what_did_not_come_out(page: Record) -> None:
    """Forward-backward BMO is behind tuned ADMM, linearised ADMM, PDHG, and patient ISTA."""
    assert error(page, "bmo", 16) > error(page, "unh-admm", 16, "nmse") + 10
    assert error(page, "bmo", 1000) > error(page, "unh-ista", 1000, "f+g") + 5
    chosen = page.settings["chosen"]["30db"]
    tuned = chosen["classical (also the start of the learned methods)"]
    for name, printed in (("unh-ladmm", -17.7), ("unh-pdhg", -17.5)):
        assert round(tuned[name]["nmse"]["score"], 1) == printed
    assert error(page, "bmo", 16) > -17
    # two choices at an edge of their search, as the page says
    assert tuned["unh-ista"]["nmse"]["penalty"] == max(page.settings["penalties"])
    assert chosen["learning rate"]["bmo-admm"] == min(page.settings["rates"])


def test_four_mistakes_are_as_large_as_the_page_says() -> None:
    s = bench.PAGE
    A = bench.gaussian_dictionary(s.rows, s.atoms)
    test = bench.evaluation_sets(A, "30db", dataclasses.replace(s, test=100))["trained"]
    length = 1.9 / float(torch.linalg.matrix_norm(A, 2)) ** 2

    def at(net: torch.nn.Module, depth: int) -> float:
        return float(nmse_db(net(test.observed, depth), test.codes))

    with torch.no_grad():
        frozen = at(ISTA(A, 0.2, length), 1000)
        best = min(at(ISTA(A, lam, length), 1000) for lam in (0.006, 0.01, 0.03))
        assert frozen - best > 11
        untuned, tuned = at(ADMM(A, 0.2, 1.0), 16), at(ADMM(A, 0.01, 0.03), 16)
        assert untuned - tuned > 12


def test_the_tables_are_what_the_records_give() -> None:
    page = (ROOT / "book/10-sparse-coding.md").read_text("utf8")
    for path, text in sparse_table.tables().items():
        assert (ROOT / path).read_text("utf8") == text, "make book writes it again"
        assert f"{{include}} _generated/{path.name}" in page


def test_the_tables_follow_the_records(tmp_path: Path, page: Record) -> None:
    for folder in ("notebooks/recorded", "book/_generated"):
        (tmp_path / folder).mkdir(parents=True)
    rows = [dict(r) for r in page.rows]
    for r in rows:
        at = r["setting"]
        if r["method"] == "bmo" and r["metric"] == "nmse_db" and at["depth"] == 1000:
            r["value"] = 1.25
    other = dataclasses.replace(page, rows=rows)
    assert "| 1.25 |" in sparse_table.gaussian(other)
    assert "| 1.2 |" in sparse_table.shifts(other)
    assert "| 1.25 |" not in sparse_table.gaussian(page)
    kept = ROOT / sparse_table.FOLDER
    for name in (sparse_table.GAUSSIAN, sparse_table.IMAGES):
        (tmp_path / sparse_table.FOLDER / name).write_bytes((kept / name).read_bytes())
    assert len(sparse_table.write(tmp_path)) == 3 and sparse_table.write(tmp_path) == []
