"""Smooth functions: gradients by differentiation, curvature by dense eigenvalues."""

from __future__ import annotations

import math

import pytest
import torch

import bmo
from bmo.errors import NonFiniteError, ShapeError
from bmo.metric import Dense, Diagonal, Identity, Metric, Scaled
from bmo.smooth import Gradient, LeastSquares, Quadratic
from tests.instances import F64, generator, normal, spd, square_root

G = generator(0)
A, B = normal(G, 3, 4), normal(G, 3)
Q, C = spd(G, 4), normal(G, 4)
H = spd(G, 4, cond=50.0)
D = normal(G, 4).abs() + 0.1


def softplus(u: torch.Tensor) -> torch.Tensor:
    return torch.nn.functional.softplus(u @ A.mT).sum(-1)


FUNCTIONS = {
    "least squares": (LeastSquares(A, B), lambda u: ((A @ u - B) ** 2).sum() / 2, A.mT @ A),
    "quadratic": (Quadratic(Q, C), lambda u: u @ Q @ u / 2 - C @ u, Q),
    "gradient": (
        Gradient(softplus, float(torch.linalg.matrix_norm(A, 2)) ** 2 / 4),
        lambda u: torch.log1p(torch.exp(A @ u)).sum(),
        A.mT @ A / 4,
    ),
}


@pytest.mark.parametrize("name", FUNCTIONS)
def test_values_and_gradients(name: str) -> None:
    f, plain, _ = FUNCTIONS[name]
    u = normal(generator(1), 5, 4)
    values, gradients = f.value(u), f(u)
    for x, value, gradient in zip(u, values, gradients, strict=True):
        assert float(value) == pytest.approx(float(plain(x)), rel=1e-12)
        expected = torch.autograd.functional.jacobian(plain, x)
        torch.testing.assert_close(gradient.detach(), expected, rtol=1e-11, atol=1e-12)


@pytest.mark.parametrize("name", FUNCTIONS)
def test_gradients_can_be_differentiated_again(name: str) -> None:
    f = FUNCTIONS[name][0]
    u = normal(generator(2), 2, 4).requires_grad_()
    assert torch.autograd.gradcheck(f, (u,))
    with torch.no_grad():
        assert not f(u).requires_grad


METRICS: dict[str, tuple[Metric, torch.Tensor]] = {
    "identity": (Identity(), torch.eye(4, dtype=F64)),
    "scaled": (Scaled(0.3), 0.3 * torch.eye(4, dtype=F64)),
    "diagonal": (Diagonal(D), torch.diag(D)),
    "dense": (Dense(H), H),
}


@pytest.mark.parametrize("name", ["least squares", "quadratic"])
@pytest.mark.parametrize("metric", METRICS)
def test_curvature_in_a_metric(name: str, metric: str) -> None:
    f, _, hessian = FUNCTIONS[name]
    found, dense = METRICS[metric]
    back = torch.linalg.inv(square_root(dense))
    expected = torch.linalg.eigvalsh(back @ hessian @ back)[-1]
    torch.testing.assert_close(f.curvature(found), expected, rtol=1e-11, atol=0)


def test_a_known_lipschitz_constant_bounds_the_curvature() -> None:
    f, _, hessian = FUNCTIONS["gradient"]
    for found, dense in METRICS.values():
        back = torch.linalg.inv(square_root(dense))
        actual = float(torch.linalg.eigvalsh(back @ hessian @ back)[-1])
        assert float(f.curvature(found)) >= actual * (1 - 1e-12)
    assert float(Gradient(softplus, 0.1).curvature(Scaled(0.2))) == 0.1 / 0.2


def test_one_data_vector_for_each_point() -> None:
    b, u = normal(generator(3), 5, 3), normal(generator(4), 5, 4)
    together = LeastSquares(A, b)
    for i in range(5):
        alone = LeastSquares(A, b[i])
        torch.testing.assert_close(together(u)[i], alone(u[i]), rtol=1e-13, atol=1e-13)
        assert float(together.value(u)[i]) == pytest.approx(float(alone.value(u[i])), rel=1e-13)


def test_float32_and_compiled() -> None:
    f = LeastSquares(A.float(), B.float())
    assert f(torch.ones(4)).dtype == torch.float32
    u = normal(generator(5), 2, 4)
    compiled = torch.compile(LeastSquares(A, B), backend="aot_eager")
    torch.testing.assert_close(compiled(u), LeastSquares(A, B)(u), rtol=1e-14, atol=1e-14)


@pytest.mark.parametrize(
    ("A", "b"), [(A, torch.ones(4)), (A[0], torch.ones(1)), (A[None], B), (A, B[:1])]
)
def test_data_that_do_not_fit_are_refused(A: torch.Tensor, b: torch.Tensor) -> None:
    with pytest.raises(ShapeError, match="transpose A"):
        LeastSquares(A, b)


@pytest.mark.parametrize("bad", [math.nan, math.inf])
def test_data_that_are_not_finite_are_refused(bad: float) -> None:
    with pytest.raises(NonFiniteError, match="clean the data"):
        LeastSquares(A, torch.tensor([1.0, bad, 0.0], dtype=F64))
    with pytest.raises(NonFiniteError, match="clean the data"):
        LeastSquares(bad * A, B)
    assert not LeastSquares(A, torch.full((3,), bad, dtype=F64), check=False).b.isfinite().any()


@pytest.mark.parametrize(
    ("Q", "c"),
    [(torch.ones(2, 3), C), (Q, torch.ones(3)), (torch.tensor([[1.0, 1], [0, 1]]), C[:2])],
)
def test_quadratics_that_are_none_are_refused(Q: torch.Tensor, c: torch.Tensor) -> None:
    with pytest.raises(ShapeError, match="symmetric Q"):
        Quadratic(Q, c.to(Q))


def test_the_public_name() -> None:
    assert bmo.LeastSquares is LeastSquares
