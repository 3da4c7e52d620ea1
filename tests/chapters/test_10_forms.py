"""Chapter 10: a network as the step, alone, before and after the forward-backward step."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from bmo.certify import nonexpansive
from bmo.operators import Lambda
from bmo.problems.sparse_coding import gaussian as bench

SMALL = replace(bench.PAGE, rows=8, atoms=14)
START = {"unh-ista": {"penalty": 0.2}}
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
        D = moved(name, seed).operator.bind(b=b)
        found = nonexpansive(D, size=14, trials=8, ascent=10, seed=seed)
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
