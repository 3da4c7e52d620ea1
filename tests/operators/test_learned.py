"""Learned steps keep their condition for every raw value; gradients, batches, compiling."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor

import bmo
from bmo import operators, prox, sets, smooth
from bmo.metric import Identity
from bmo.networks import CertifiedDense
from bmo.operators import Operator
from tests.instances import set_raw
from tests.operators.ratios import worst_ratio

f64 = torch.float64


def least_squares(dtype: torch.dtype = f64) -> smooth.LeastSquares:
    return smooth.LeastSquares(torch.randn(3, 4, dtype=dtype), torch.randn(3, dtype=dtype))


def l1(dtype: torch.dtype = f64) -> prox.L1:
    return prox.L1(torch.tensor(0.3, dtype=dtype), learn=True)


def box() -> prox.Prox:
    return prox.Indicator(sets.Nonnegative())


MAKE: dict[str, Callable[[torch.dtype], tuple[Operator, int]]] = {
    "gradient": lambda t: (operators.LearnedProximalGradient(least_squares(t), l1(t)), 4),
    "diagonal": lambda t: (operators.LearnedProximalGradient(least_squares(t), l1(t), size=4), 4),
    "alm": lambda t: (
        operators.LearnedALM(
            l1(t), torch.randn(2, 4, dtype=t), torch.randn(2, dtype=t), learn_matrix=True
        ),
        6,
    ),
    "two_blocks": lambda t: (
        operators.LearnedLinearisedADMM(
            l1(t),
            l1(t),
            torch.randn(2, 3, dtype=t),
            torch.randn(2, 2, dtype=t),
            torch.randn(2, dtype=t),
            learn_matrices=True,
        ),
        7,
    ),
    "pdhg": lambda t: (
        operators.LearnedPDHG(least_squares(t), l1(t), torch.randn(2, 4, dtype=t), True),
        6,
    ),
    "dr": lambda t: (operators.LearnedDouglasRachford(least_squares(t), l1(t)), 4),
    "admm": lambda t: (operators.LearnedADMM(least_squares(t), l1(t)), 4),
    "sparse_admm": lambda t: (
        operators.LearnedSparseADMM(
            torch.randn(2, 3, dtype=t), torch.randn(2, dtype=t), 0.3, 0.7, 0.2
        ),
        9,
    ),
    "sparse_ladmm": lambda t: (
        operators.LearnedSparseLADMM(torch.randn(2, 3, dtype=t), torch.randn(2, dtype=t), 0.3),
        5,
    ),
    "equilibrium": lambda t: (operators.LearnedMonotoneEquilibrium(4, 2, box(), dtype=t), 4),
    "red": lambda t: (operators.LearnedRED(least_squares(t), CertifiedDense(4, 4, 2).to(t)), 4),
}


@pytest.mark.parametrize("name", MAKE)
@pytest.mark.parametrize("kind", ["1e3", "-1e3", "0", "mixed", "random"])
def test_feasible_for_every_raw_value(name: str, kind: str) -> None:
    for _ in range(20 if kind in ("mixed", "random") else 1):
        D, n = MAKE[name](f64)
        set_raw(D, kind, (-1.0, 1.5))
        low, high = D.metric.bounds()
        assert 0 < low <= high < float("inf")
        assert worst_ratio(D.prepared(), n) <= 1 + 1e-10 * max(1.0, (high / low) ** 0.5 * 1e-4)
        assert D.averaged <= 1


@pytest.mark.parametrize("name", MAKE)
def test_certified_by_construction(name: str) -> None:
    D, n = MAKE[name](f64)
    assert D.certified == "by construction"
    assert all(p.requires_grad for p in D.parameters())
    assert bmo.certify.nonexpansive(D.prepared(), size=n, trials=16, ascent=10).holds


@pytest.mark.parametrize("name", MAKE)
def test_gradients_against_finite_differences(name: str) -> None:
    D, n = MAKE[name](f64)
    with torch.no_grad():
        for p in D.parameters():  # away from the start, where a max may be a tie
            p.add_(0.3 * torch.randn_like(p))
    u = 2 * torch.randn(2, n, dtype=f64)
    names = [key for key, _ in D.named_parameters()]

    def run(*values: Tensor) -> Tensor:
        return torch.func.functional_call(D, dict(zip(names, values, strict=True)), (u,))

    assert torch.autograd.gradcheck(
        run, [p.detach().clone().requires_grad_() for p in D.parameters()]
    )


@pytest.mark.parametrize("name", MAKE)
def test_prepared_equals_unprepared_and_shares_parameters(name: str) -> None:
    D, n = MAKE[name](f64)
    u = torch.randn(3, n, dtype=f64)
    ready = D.prepared()
    assert torch.allclose(ready(u), D(u), atol=1e-12)
    ready(ready(u)).square().sum().backward()
    assert any(p.grad is not None and bool((p.grad != 0).any()) for p in D.parameters())
    torch.optim.SGD(D.parameters(), 0.1).step()
    assert torch.allclose(ready(u), D(u), atol=1e-12)  # computed anew after the step


@pytest.mark.parametrize("name", MAKE)
def test_single_precision(name: str) -> None:
    D, n = MAKE[name](torch.float32)
    u = torch.randn(2, n)
    assert D(u).dtype == torch.float32
    single = D(u).detach().double()
    assert torch.allclose(D.double()(u.double()), single, atol=1e-4)


# torch hides this warning of its own compiler by a hook that "error" filters never reach
@pytest.mark.filterwarnings("ignore:The .grad attribute of a Tensor")
@pytest.mark.parametrize("name", ["gradient", "alm", "pdhg"])
def test_compiles(name: str) -> None:
    D, n = MAKE[name](torch.float32)
    u, ready = torch.randn(3, n), D.prepared()
    compiled = torch.compile(ready, backend="aot_eager", fullgraph=True)
    assert torch.allclose(compiled(u), ready(u), atol=1e-5)
    compiled(u).square().sum().backward()
    assert any(p.grad is not None for p in D.parameters())


def test_batches_of_data() -> None:
    A, B = torch.randn(2, 4, dtype=f64), torch.randn(2, 3, dtype=f64)
    b = torch.randn(2, dtype=f64)
    many = torch.randn(5, 2, dtype=f64)
    g, Q = prox.L1(0.3), smooth.Quadratic(torch.eye(4, dtype=f64), torch.zeros(4, dtype=f64))
    for D, n in (
        (operators.LinearisedALM(g, A, b), 6),
        (operators.ProximalALM(Q, A, b), 6),
        (operators.LinearisedADMM(g, g, A, B, b), 9),
        (operators.ProximalADMM(Q, Q, A, A, b, P_v=0.1), 10),
        (operators.LearnedALM(g, A, b), 6),
    ):
        z = torch.randn(5, n, dtype=f64)
        each = torch.stack([D.bind(b=row)(x) for row, x in zip(many, z, strict=True)])
        assert torch.allclose(D.bind(b=many)(z), each, atol=1e-12)


def test_data_of_a_part() -> None:
    f = least_squares()
    D = operators.HalfQuadratic(f, operators.Lambda(lambda u: u, Identity()), 0.5)
    b = torch.randn(6, 3, dtype=f64)
    u = torch.randn(6, 4, dtype=f64)
    exact = torch.linalg.solve(torch.eye(4, dtype=f64) + 0.5 * f.A.mT @ f.A, (u + 0.5 * b @ f.A).mT)
    assert torch.allclose(D.bind(b=b)(u), exact.mT, atol=1e-12)


def test_images_half_quadratic() -> None:
    """Points with three axes: a network on images, and a proximal operator entry by entry."""
    N = bmo.networks.CertifiedConv(1, 4, 2).double()
    D = operators.HalfQuadratic(prox.SquaredL2(1.0), N, 0.5)
    u = torch.randn(2, 1, 8, 8, dtype=f64)
    assert torch.allclose(D(u), N(u) / 1.5, atol=1e-12)
    assert D.metric.event_dims == 3 and D.certified == "by construction"
    assert D.averaged == pytest.approx(1 / 1.5)
