"""Chapter 10: a network as the step, alone, before and after the forward-backward step."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from bookfiles import ROOT

from bmo.certify import nonexpansive
from bmo.operators import Lambda
from bmo.problems.sparse_coding import gaussian as bench
from bmo.record import read

SMALL = replace(bench.PAGE, rows=8, atoms=14)
START = {"unh-ista": {"penalty": 0.2}, "unh-ladmm": {"penalty": 0.05, "beta": 0.1}}
F64 = torch.float64


def moved(name: str, seed: int) -> bench.Contender:
    """A form of the step at parameters that no training would give."""
    model = bench.build(name, bench.gaussian_dictionary(8, 14), START, SMALL)
    rng = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for raw in model.operator.parameters():
            raw += torch.randn(raw.shape, generator=rng, dtype=F64)
    return model


@pytest.mark.parametrize("name", bench.NETTED)
def test_nonexpansive_for_every_parameter(name: str) -> None:
    """Each b has its own fixed points, and every map is nonexpansive in its metric."""
    worst = 0.0
    for seed in range(5):
        b = torch.randn(8, generator=torch.Generator().manual_seed(seed), dtype=F64)
        model = moved(name, seed)
        D = model.operator.bind(b=b)
        found = nonexpansive(D, size=model.size, trials=8, ascent=10, seed=seed)
        worst = max(worst, found.measured)
        assert found.holds and D.certified == "by construction"
    assert worst > 0.3  # it is no test of a constant


def test_the_matrix_undivided_expands() -> None:
    """What the division by the norm is for."""
    D = moved("bmo-net", 1).operator
    u, v = 30 * torch.randn(2, 300, 14, dtype=F64, generator=torch.Generator().manual_seed(2))
    V = D.V.detach()
    free = (u - v) @ V.mT
    assert float(torch.linalg.matrix_norm(V, 2)) > 2
    assert float((free.norm(dim=1) / (u - v).norm(dim=1)).max()) > 2


def test_the_network_has_to_be_carried_into_the_metric_of_the_step() -> None:
    model = moved("bmo-fb-net", 3)
    with torch.no_grad():  # weights of the metric that differ
        model.operator.parts[0].weight.raw.mul_(4)
    b = torch.randn(8, generator=torch.Generator().manual_seed(3), dtype=F64)
    step, carried = model.operator.bind(b=b).parts
    plain = Lambda(carried.operator, step.metric)
    assert nonexpansive(plain, size=14, trials=8, ascent=10).measured > 1.2
    assert nonexpansive(carried, size=14, trials=8, ascent=10).holds


def test_beside_linearised_admm_it_is_carried_into_its_first_block() -> None:
    """In P^(1/2)u it is nonexpansive in blkdiag(P, 1/beta); in u itself it is not."""
    model = moved("bmo-ladmm-net", 3)
    with torch.no_grad():  # weights of the metric that differ
        model.operator.parts[0].p.raw.mul_(4)
    b = torch.randn(8, generator=torch.Generator().manual_seed(3), dtype=F64)
    step, carried = model.operator.bind(b=b).parts

    def plain(z: torch.Tensor) -> torch.Tensor:
        return torch.cat([carried.network(z[..., :14]), z[..., 14:]], -1)

    assert nonexpansive(Lambda(plain, step.metric), size=22, trials=8, ascent=10).measured > 1.2
    assert nonexpansive(carried, size=22, trials=8, ascent=10).holds
    assert carried.certified == "by construction"


def test_what_the_forms_reach() -> None:
    """Small instance, one seed: alone behind at 16; before or after the step ahead at the end."""
    page = read(ROOT / "notebooks/recorded/sparse-coding-gaussian.page.json")

    def error(method: str, depth: int) -> float:
        return page.value(method=method, metric="nmse_db", set="trained", depth=depth)

    step = {k: error("bmo", k) for k in (16, 64, 1000)}
    assert 1 < error("bmo-net", 16) - step[16] < 2
    assert -0.5 < error("bmo-net", 1000) - step[1000] < -0.2
    twice = page.curves["nmse/30db/trained/bmo"][page.settings["depths"].index(32)]
    for name, gain in (("bmo-fb-net", 0.96), ("bmo-net-fb", 0.68)):
        assert step[1000] - error(name, 1000) == pytest.approx(gain, abs=0.01)
        assert abs(error(name, 16) - twice) < 0.3  # with as many products
    for name in bench.NETTED:
        rows = page.select(method=name, metric="diverged")
        assert len(rows) == 6 and all(r["value"] == 0 for r in rows)
        for r in rows:
            at = {"method": name, "set": r["setting"]["set"], "depth": 1000}
            assert page.value(metric="bound_share", **at) < 1
            slow = name == "bmo-ladmm-net"
            assert page.value(metric="relative_residual", **at) < (1e-6 if slow else 1e-8)
    for depth, loss in ((16, 0.1), (64, 0.6), (1000, 0.7)):  # and before linearised ADMM: nothing
        assert loss < error("bmo-ladmm-net", depth) - error("bmo-ladmm", depth) < loss + 0.2
