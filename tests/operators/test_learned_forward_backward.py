"""The learned proximal gradient step keeps its condition for every raw value."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import Tensor

import bmo
from bmo.errors import ConditionError, NonFiniteError, ShapeError
from bmo.operators import LearnedForwardBackward, largest_eigenvalue
from tests.instances import set_raw
from tests.operators.ratios import worst_ratio

f64 = torch.float64


def make(
    m: int = 6, n: int = 9, dtype: torch.dtype = f64, **kwargs: object
) -> tuple[Tensor, Tensor, LearnedForwardBackward]:
    A, b = torch.randn(m, n, dtype=dtype), torch.randn(m, dtype=dtype)
    return A, b, LearnedForwardBackward(A, b, threshold=0.3, **kwargs)


@pytest.mark.parametrize("n", [9, 30])  # one square product, two thin ones
def test_starts_as_ista(n: int) -> None:
    A, b, D = make(n=n)
    u = v = torch.randn(n, dtype=f64)
    L = torch.linalg.eigvalsh(A.mT @ A)[-1]
    bound = D.bind(b=b)
    for _ in range(20):
        z = v - A.mT @ (A @ v - b) / L
        v = torch.sign(z) * torch.clamp(z.abs() - 0.3 / L, min=0)
        u = bound(u)
    assert torch.allclose(u, v, atol=1e-12, rtol=0)
    assert D.averaged == pytest.approx(1 / 1.5)


def test_equals_the_formula_with_learned_values() -> None:
    A, b, D = make()
    set_raw(D, "random")
    G, W, p, theta = D.G, D.W, D.metric.weights(), D.theta()
    u = v = torch.randn(9, dtype=f64)
    for _ in range(20):
        z = v - (G.mT @ (G @ v) - W @ b) / p
        v = torch.sign(z) * torch.clamp(z.abs() - theta / p, min=0)
        u = D(u)
    assert torch.allclose(u, v, atol=1e-11 * float(v.detach().abs().max()), rtol=0)


@pytest.mark.parametrize("norm", ["exact", "power"])
@pytest.mark.parametrize("kind", ["1e3", "-1e3", "0", "mixed", "random"])
def test_feasible_for_every_raw_value(kind: str, norm: str) -> None:
    for _ in range(10 if kind in ("random", "mixed") else 1):
        _, _, D = make(norm=norm)
        set_raw(D, kind)
        p = D.metric.weights()
        assert p is not None and bool((p > 0).all())
        curvature = torch.linalg.eigvalsh(D.G.mT @ D.G / (p[:, None] * p).sqrt())[-1]
        assert float(curvature.detach()) <= 2 * (1 + 1e-12)
        assert worst_ratio(D, 9) <= 1 + 1e-10
        assert 0.5 <= D.averaged <= 1


def test_power_bound_is_above_and_close() -> None:
    for rank in (1, 5, 40):
        B = torch.randn(40, rank, dtype=f64)
        M = B @ B.mT
        exact = torch.linalg.eigvalsh(M)[-1]
        assert torch.allclose(largest_eigenvalue(M), exact, rtol=1e-12)
        bound = largest_eigenvalue(M, "power")
        assert exact * (1 - 1e-13) <= bound <= exact * 40 ** (1 / 1024)
    flat = largest_eigenvalue(torch.eye(40, dtype=f64), "power")
    assert float(flat) == pytest.approx(40 ** (1 / 1024), rel=1e-12)  # the bound is sharp
    assert float(largest_eigenvalue(torch.zeros(3, 3), "power")) < 1e-30


@pytest.mark.parametrize("norm", ["exact", "power"])
@pytest.mark.parametrize("step", [None, 0.02])
def test_gradients(norm: str, step: float | None) -> None:
    A, b, D = make(3, 4, norm=norm)
    with torch.no_grad():
        D.weight.raw.add_(-1.5 if step is None else 1.5)  # the max active, and not
    names = [name for name, _ in D.named_parameters()]
    u = 3 * torch.randn(2, 4, dtype=f64)

    def run(*values: Tensor) -> Tensor:
        return torch.func.functional_call(D, dict(zip(names, values, strict=True)), (u,))

    values = [p.detach().clone().requires_grad_() for p in D.parameters()]
    assert torch.autograd.gradcheck(run, values)


def test_bound_operator_follows_its_parameters() -> None:
    A, b, D = make()
    u, batch = torch.randn(5, 9, dtype=f64), torch.randn(5, 6, dtype=f64)
    with torch.no_grad():
        bound = D.bind(b=batch)
    fresh = torch.stack([D.bind(b=row)(x) for row, x in zip(batch, u, strict=True)])
    assert torch.allclose(bound(u), fresh, atol=1e-13)
    assert bound(u).requires_grad  # prepared without gradients, used with them
    with torch.no_grad():
        D.G.mul_(1.1)
    assert torch.allclose(bound(u), D.bind(b=batch)(u), atol=1e-13)
    assert torch.allclose(copy.deepcopy(bound)(u), bound(u), atol=1e-13)
    assert torch.equal(D.b, b)


def test_one_decomposition_for_a_loop(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each loop computes once what its steps share, so each has a backward pass of its own."""
    _, b, D = make()
    bound, counted = D.bind(b=b), []
    compute = LearnedForwardBackward._compute
    monkeypatch.setattr(
        LearnedForwardBackward, "_compute", lambda self: counted.append(1) or compute(self)
    )
    inner = bmo.Inner(bmo.GKM(bound, alpha=0.9), mu=0.3, steps=0.1, check=False)
    for passes in (1, 2):
        u = inner(torch.zeros(9, dtype=f64), lambda x: (x - 1).square().sum(-1), iterations=4)
        u.square().sum().backward()
        assert len(counted) == passes
    assert all(p.grad is not None for p in D.parameters())


def test_learns_only_what_it_should() -> None:
    _, _, D = make(learn=("p", "theta"))
    assert {n for n, p in D.named_parameters() if p.requires_grad} == {"weight.raw", "theta.raw"}


# torch hides this warning of its own compiler by a hook that "error" filters never reach
@pytest.mark.filterwarnings("ignore:The .grad attribute of a Tensor")
def test_single_precision_and_compile() -> None:
    _, b, D = make(dtype=torch.float32)
    u = torch.randn(3, 9)
    for operator in (D, D.bind(b=torch.stack([b, b, b]))):
        compiled = torch.compile(operator, backend="aot_eager", fullgraph=True)
        assert compiled(u).dtype == torch.float32
        assert torch.allclose(compiled(u), operator(u), atol=1e-6)
    double = D.double()
    assert double(u.double()).dtype == f64


def test_refusals() -> None:
    A, b = torch.randn(3, 4, dtype=f64), torch.randn(3, dtype=f64)
    top = float(torch.linalg.matrix_norm(A, 2)) ** 2
    for step in (2.02 / top, 0.0, -1.0):
        with pytest.raises(ConditionError, match="step"):
            LearnedForwardBackward(A, b, 1.0, step=step)
    with pytest.raises(ConditionError, match="learn"):
        LearnedForwardBackward(A, b, 1.0, learn=("Q",))
    with pytest.raises(ConditionError, match="norm"):
        LearnedForwardBackward(A, b, 1.0, norm="guess")
    with pytest.raises(ConditionError, match="method"):
        largest_eigenvalue(A, "guess")
    with pytest.raises(ConditionError, match="not zero"):
        LearnedForwardBackward(0 * A, b, 1.0)
    with pytest.raises(ShapeError):
        LearnedForwardBackward(A.mT, b, 1.0)
    with pytest.raises(NonFiniteError):
        LearnedForwardBackward(A, b * torch.nan, 1.0)
