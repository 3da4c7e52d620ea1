"""Every metric against its dense matrix, and every way to ask for something that is no metric."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pytest
import torch
from torch import Tensor

import bmo
from bmo.errors import MetricError, ShapeError
from bmo.metric import (
    Block,
    Dense,
    Diagonal,
    Functional,
    Identity,
    Metric,
    PrimalDual,
    Scaled,
    Spectral,
    exact,
    require_same_kind,
)
from tests.instances import F64, generator, normal, spd


@dataclass
class Case:
    metric: Metric
    shape: tuple[int, ...]
    dense: np.ndarray


def even_symbol(g: torch.Generator, *shape: int) -> Tensor:
    """A positive even symbol: the squared modulus of a real kernel's transform, plus a little."""
    return torch.fft.fft2(normal(g, *shape)).abs().square() + 0.1


def fourier_matrix(symbol: np.ndarray) -> np.ndarray:
    """F* diag(h) F, with F written out entry by entry."""
    height, width = symbol.shape
    rows = np.exp(-2j * np.pi * np.outer(np.arange(height), np.arange(height)) / height)
    columns = np.exp(-2j * np.pi * np.outer(np.arange(width), np.arange(width)) / width)
    F = np.kron(rows, columns) / np.sqrt(height * width)
    return (F.conj().T @ np.diag(symbol.flatten()) @ F).real


def blkdiag(*blocks: np.ndarray) -> np.ndarray:
    n = sum(len(b) for b in blocks)
    out, at = np.zeros((n, n)), 0
    for b in blocks:
        out[at : at + len(b), at : at + len(b)] = b
        at += len(b)
    return out


def cases() -> dict[str, Case]:
    g = generator(1)
    d, H, K = normal(g, 5).abs() + 0.1, spd(g, 5), normal(g, 2, 3)
    one, each = even_symbol(g, 4, 5), even_symbol(g, 2, 4, 3)
    tau, sigma = 0.4, 0.6 / float(torch.linalg.matrix_norm(K, 2) ** 2)
    pd = np.block(
        [[np.eye(3) / tau, -K.numpy().T], [-K.numpy(), np.eye(2) / sigma]],
    )
    image_d = normal(g, 2, 1, 1).abs() + 0.2
    nested = Block([2, 5, 5], [Scaled(0.7), Diagonal(d), PrimalDual(K, tau, sigma)])
    images = Block([1, 2], [Spectral(one), Scaled(3.0, event_dims=3)], dim=-3)
    return {
        "identity": Case(Identity(), (3,), np.eye(3)),
        "scaled": Case(Scaled(0.3), (3,), 0.3 * np.eye(3)),
        "diagonal": Case(Diagonal(d), (5,), np.diag(d.numpy())),
        "channels": Case(
            Diagonal(image_d, event_dims=3),
            (2, 3, 2),
            np.diag(np.repeat(image_d.flatten().numpy(), 6)),
        ),
        "dense": Case(Dense(H), (5,), H.numpy()),
        "block": Case(nested, (12,), blkdiag(0.7 * np.eye(2), np.diag(d.numpy()), pd)),
        "image block": Case(
            images, (3, 4, 5), blkdiag(fourier_matrix(one.numpy()), 3 * np.eye(40))
        ),
        "spectral": Case(
            Spectral(each),
            (2, 4, 3),
            blkdiag(*(fourier_matrix(s) for s in each.numpy())),
        ),
        "primal-dual": Case(PrimalDual(K, tau, sigma), (5,), pd),
        "functional": Case(Functional(lambda u: u @ H, *Dense(H).bounds()), (5,), H.numpy()),
        "functional image": Case(
            Functional(Spectral(one).apply, *Spectral(one).bounds(), event_dims=3),
            (1, 4, 5),
            fourier_matrix(one.numpy()),
        ),
    }


CASES = cases()
WITH_FACTOR = [name for name in CASES if not name.startswith("functional")]


def rows(case: Case, matrix: np.ndarray, u: Tensor) -> Tensor:
    """The matrix applied to every point of a batch."""
    flat = u.reshape(-1, len(matrix)).numpy()
    return torch.from_numpy(flat @ matrix.T).reshape(u.shape)


@pytest.mark.parametrize("name", CASES)
def test_apply_solve_and_products_are_those_of_the_matrix(name: str) -> None:
    case, g = CASES[name], generator(2)
    metric = case.metric
    u, v = normal(g, 2, 3, *case.shape), normal(g, 2, 3, *case.shape)
    torch.testing.assert_close(metric.apply(u), rows(case, case.dense, u), rtol=1e-12, atol=1e-12)
    inverse = rows(case, np.linalg.inv(case.dense), u)
    torch.testing.assert_close(metric.solve(u), inverse, rtol=1e-9, atol=1e-9)
    n = len(case.dense)
    expected = (rows(case, case.dense, v) * u).reshape(2, 3, n).sum(-1)
    torch.testing.assert_close(metric.inner(u, v), expected, rtol=1e-11, atol=1e-11)
    square = (rows(case, case.dense, u - v) * (u - v)).reshape(2, 3, n).sum(-1)
    torch.testing.assert_close(metric.distance(u, v), square.sqrt(), rtol=1e-11, atol=0.0)
    torch.testing.assert_close(
        metric.matrix(case.shape), torch.from_numpy(case.dense), rtol=1e-12, atol=1e-12
    )


@pytest.mark.parametrize("name", WITH_FACTOR)
def test_the_factor_squares_to_the_matrix(name: str) -> None:
    case = CASES[name]
    n = len(case.dense)
    eye = torch.eye(n, dtype=F64).reshape(n, *case.shape)
    R = case.metric.factor(eye).reshape(n, n).mT.numpy()
    np.testing.assert_allclose(R.T @ R, case.dense, rtol=1e-11, atol=1e-11)
    back = case.metric.unfactor(case.metric.factor(eye))
    torch.testing.assert_close(back, eye, rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("name", CASES)
def test_bounds_and_weights(name: str) -> None:
    case = CASES[name]
    eig = np.linalg.eigvalsh(case.dense)
    assert case.metric.bounds() == pytest.approx((eig[0], eig[-1]), rel=1e-9)
    weights = case.metric.weights()
    if weights is not None:
        wide = weights.to(F64).expand(case.shape).flatten().numpy()
        np.testing.assert_allclose(np.diag(wide), case.dense, rtol=1e-15)
    else:
        assert name in {"dense", "block", "image block", "spectral", "primal-dual"} or (
            name.startswith("functional")
        )


def test_the_weights_of_a_diagonal_block_metric() -> None:
    d = torch.tensor([2.0, 5.0], dtype=F64)
    weights = Block([2, 2], [Diagonal(d), Scaled(0.1)]).weights()
    assert weights is not None
    torch.testing.assert_close(
        weights, torch.tensor([2.0, 5.0, 0.1, 0.1], dtype=F64), rtol=0, atol=0
    )


def test_gradients_reach_the_parameters() -> None:
    g = generator(3)
    u, A = normal(g, 2, 4), spd(g, 4)
    d, K = normal(g, 4).abs() + 0.5, normal(g, 2, 2)
    base = normal(g, 3, 3)

    def diagonal(d: Tensor) -> Tensor:
        H = Diagonal(d)
        return torch.cat([H.apply(u), H.solve(u), H.unfactor(H.factor(u) ** 2)])

    def dense(A: Tensor) -> Tensor:
        H = Dense((A + A.mT) / 2)
        return torch.cat([H.apply(u), H.solve(u), H.factor(u), H.unfactor(u)])

    def primal_dual(tau: Tensor, sigma: Tensor) -> Tensor:
        H = PrimalDual(K, tau, sigma)
        return torch.cat([H.apply(u), H.solve(u), H.factor(u), H.unfactor(u)])

    def spectral(k: Tensor) -> Tensor:
        H = Spectral(torch.fft.fft2(k).abs().square() + 0.5)
        x = u[0, :3].repeat(3, 1)[None]
        return torch.cat([H.apply(x), H.solve(x), H.factor(x), H.unfactor(x)])

    assert torch.autograd.gradcheck(diagonal, d.requires_grad_())
    assert torch.autograd.gradcheck(dense, A.requires_grad_())
    steps = torch.tensor(0.1, dtype=F64), torch.tensor(0.2, dtype=F64)
    assert torch.autograd.gradcheck(primal_dual, tuple(s.requires_grad_() for s in steps))
    assert torch.autograd.gradcheck(spectral, base.requires_grad_())


def test_float32_points_keep_their_dtype() -> None:
    for name in ("identity", "scaled", "block"):
        case = CASES[name]
        metric = case.metric
        if name == "block":
            metric = Block([2, 10], [Scaled(0.7), Scaled(1.0)])
        u = torch.randn(2, *case.shape)
        for f in (metric.apply, metric.solve, metric.factor, metric.unfactor, metric.norm):
            assert f(u).dtype == torch.float32
    H = Dense(spd(generator(4), 3).float())
    u = torch.randn(3)
    torch.testing.assert_close(H.solve(H.apply(u)), u, rtol=1e-3, atol=1e-4)
    assert Scaled(1).weight.dtype == F64


def test_python_numbers_lose_no_digits() -> None:
    assert Scaled(0.1).bounds() == (0.1, 0.1)
    assert exact(0.1).item() == 0.1 and exact(torch.tensor(2)).dtype == F64
    kept = torch.tensor(0.1)
    assert exact(kept) is kept


@pytest.mark.parametrize("name", ["diagonal", "dense", "primal-dual", "spectral"])
def test_compiled_as_in_eager_mode(name: str) -> None:
    case = CASES[name]
    u = normal(generator(5), 2, *case.shape)

    def both(u: Tensor) -> Tensor:
        return case.metric.solve(u) + case.metric.apply(u)

    compiled = torch.compile(both, backend="aot_eager")
    torch.testing.assert_close(compiled(u), both(u), rtol=1e-13, atol=1e-13)


NAN = float("nan")
ONE = torch.ones(2, dtype=F64)


@pytest.mark.parametrize(
    ("build", "says"),
    [
        (lambda: Scaled(0.0), "weight finite and > 0"),
        (lambda: Scaled(-1.0), "-1.0"),
        (lambda: Scaled(NAN), "nan"),
        (lambda: Scaled(float("inf")), "inf"),
        (lambda: Diagonal(torch.tensor([1.0, 0.0])), "diagonal weights"),
        (lambda: Diagonal(torch.tensor([1.0, NAN])), "nan"),
        (lambda: Diagonal(torch.tensor(1.0)), "use Scaled"),
        (lambda: Diagonal(torch.ones(2, 2)), "1 to 1 axes"),
        (lambda: Dense(torch.ones(2, 3)), "square"),
        (lambda: Dense(torch.ones(2)), "square"),
        (lambda: Dense(torch.tensor([[1.0, 0.5], [0.0, 1.0]])), "asymmetry 0.5"),
        (lambda: Dense(torch.tensor([[1.0, 2.0], [2.0, 1.0]])), "smallest eigenvalue -1"),
        (lambda: Dense(torch.tensor([[1.0, NAN], [NAN, 1.0]])), "symmetric"),
        (lambda: Dense(torch.zeros(2, 2)), "positive definite"),
        (lambda: Block([1], []), "one metric for each block"),
        (lambda: Block([1, 1], [Scaled(1.0), Scaled(1.0, event_dims=3)]), "event_dims"),
        (lambda: Spectral(torch.zeros(2, 2)), "symbol finite and > 0"),
        (lambda: Spectral(torch.tensor([[1.0, 2.0, 3.0]])), "even symbol"),
        (lambda: PrimalDual(torch.eye(2), 1.0, 1.0), r"tau \* sigma \* \|\|K\|\|\^2 < 1; got: 1"),
        (lambda: PrimalDual(torch.eye(2), -1.0, 1.0), "tau and sigma"),
        (lambda: Functional(lambda u: u, 0.0, 1.0), "lower"),
        (lambda: Functional(lambda u: u, 2.0, 1.0), "lower"),
    ],
)
def test_what_is_no_metric_is_refused(build, says: str) -> None:
    with pytest.raises(MetricError, match=says):
        build()


@pytest.mark.parametrize(
    "use",
    [
        lambda: Diagonal(ONE).norm(torch.ones(3, dtype=F64)),
        lambda: Diagonal(ONE).inner(torch.ones(3, dtype=F64), torch.ones(3, dtype=F64)),
        lambda: Dense(torch.eye(2)).norm(torch.ones(3)),
        lambda: Scaled(1.0, event_dims=3).norm(torch.ones(3)),
        lambda: Block([1, 1], [Identity(), Identity()]).apply(torch.ones(3)),
        lambda: PrimalDual(0.1 * torch.eye(2), 1.0, 1.0).apply(torch.ones(3)),
        lambda: Spectral(torch.ones(4, 4)).apply(torch.ones(1, 3, 4)),
    ],
)
def test_points_of_another_size_are_refused(use) -> None:
    with pytest.raises(MetricError):
        use()


def test_a_function_that_is_no_metric_does_not_solve() -> None:
    turn = torch.tensor([[0.0, 1.0], [-1.0, 0.0]], dtype=F64)
    H = Functional(lambda u: u @ turn, 0.5, 2.0)
    with pytest.raises(MetricError, match="conjugate gradients"):
        H.solve(ONE)
    with pytest.raises(MetricError, match="known only as a function"):
        H.factor(ONE)
    with pytest.raises(MetricError, match="known only as a function"):
        H.unfactor(ONE)
    assert torch.equal(H.solve(torch.zeros(2, dtype=F64)), torch.zeros(2, dtype=F64))


def test_bounds_that_are_too_narrow_are_noticed() -> None:
    d = torch.logspace(0, 8, 60, dtype=F64)
    with pytest.raises(MetricError, match="widen the bounds"):
        Functional(lambda u: d * u, 1.0, 1.0).solve(torch.ones(60, dtype=F64))


def test_dtype_and_device_must_agree() -> None:
    require_same_kind(torch.ones(1), torch.ones(1), "u0")
    with pytest.raises(ShapeError, match="float64"):
        require_same_kind(torch.ones(1), torch.ones(1, dtype=F64), "u0")
    with pytest.raises(ShapeError, match="meta"):
        require_same_kind(torch.ones(1), torch.ones(1, device="meta"), "u0")


def test_an_error_carries_what_was_wrong() -> None:
    bad = torch.tensor([[1.0, 2.0], [2.0, 1.0]])
    with pytest.raises(bmo.errors.BMOError) as caught:
        Dense(bad)
    assert caught.value.value is bad and isinstance(caught.value, ValueError)
