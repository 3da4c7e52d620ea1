"""Each family shows the order that its papers show, on a small instance and after a short training.

The order is published as figures (LISTA-CPSS, NeurIPS 2018; ALISTA, ICLR 2019) and as a table
(D-LADMM, ICML 2019, by depth). No value is compared, only who is ahead.
"""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Generator, Tensor

from bmo.baselines import ALISTA, DLADMM, LISTA, LISTACP, LISTACPSS, LinearisedADMM, Unrolled
from bmo.measure import nmse_db
from bmo.problems.sparse_coding.gaussian import gaussian_dictionary, observe
from bmo.train import Plan, train

Batch = tuple[Tensor, Tensor]


@pytest.fixture(autouse=True)
def single() -> None:
    """Trainings are short: single precision will do, and double costs twice as much."""
    torch.set_default_dtype(torch.float32)


def fit(net: Unrolled, loss: Callable[[Batch], Tensor], draw: Callable[[Generator], Batch],
        steps: int, rate: float) -> Unrolled:  # fmt: skip
    plan = Plan(steps, rate, warmup=10, clip=10.0)
    adam = torch.optim.Adam(net.parameters(), rate)
    train(net, loss, draw, plan, optimizer=adam, progress=False)
    return net


def test_the_lista_family_is_ordered_as_published() -> None:
    """Noiseless, layer 16: ALISTA and LISTA-CPSS ahead of LISTA-CP, and that of LISTA."""
    A = gaussian_dictionary(40, 80).float()

    def draw(rng: Generator, count: int = 64) -> Batch:
        data = observe(A, count, 0.1, None, rng)
        return data.codes, data.observed

    made: dict[str, Callable[[], Unrolled]] = {
        "lista": lambda: LISTA(A, 16, 0.1),
        "cp": lambda: LISTACP(A, 16, 0.1),
        "cpss": lambda: LISTACPSS(A, 16, 0.1),
        "alista": lambda: ALISTA(A, 16, 0.1, step=0.5),
    }
    x, b = draw(torch.Generator().manual_seed(12345), 400)
    error = {}
    for name, make in made.items():
        tried = []
        for rate in (1e-3, 1e-2):
            net = make()
            net = fit(
                net, lambda d, n=net: (n(d[1]) - d[0]).square().sum(-1).mean(), draw, 120, rate
            )  # type: ignore[misc]
            with torch.no_grad():
                tried.append(float(nmse_db(net(b), x)))
        error[name] = min(tried)
    assert error["cp"] < error["lista"] - 1
    assert error["cpss"] < error["cp"] - 2
    assert error["alista"] < error["cp"] - 4


def test_d_ladmm_gains_with_depth_and_on_the_method_that_it_unrolls() -> None:
    """min a|z|_1 + |b - Az|_1: 15 layers below 10 below 5, and 5 below 10 steps of its start."""
    A, alpha = gaussian_dictionary(32, 64).float(), 0.45

    def draw(rng: Generator, count: int = 64) -> Batch:
        data = observe(A, count, 0.1, None, rng)
        flips = torch.rand(data.observed.shape, generator=rng) < 0.1
        return data.codes, data.observed + flips * torch.randn(flips.shape, generator=rng)

    def objective(net: Unrolled, b: Tensor) -> Tensor:
        z = net(b)
        return (alpha * z.abs().sum(-1) + (z @ A.mT - b).abs().sum(-1)).mean()

    _, b = draw(torch.Generator().manual_seed(4321), 400)
    learned, frozen = {}, {}
    for depth in (5, 10, 15):
        net: Unrolled = DLADMM(A, depth, alpha, 1.0, fit="l1")
        with torch.no_grad():
            frozen[depth] = float(objective(net, b))
            again = float(objective(LinearisedADMM(A, alpha, 1.0, fit="l1", depth=depth), b))
            assert frozen[depth] == pytest.approx(again, rel=1e-5)
        net = fit(net, lambda d, n=net: objective(n, d[1]), draw, 100, 3e-3)  # type: ignore[misc]
        with torch.no_grad():
            learned[depth] = float(objective(net, b))
    assert learned[15] < learned[10] - 0.1 and learned[10] < learned[5] - 0.3
    assert learned[5] < frozen[10] and learned[10] < frozen[15]
