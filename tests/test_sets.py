"""Projections in a metric against independent solutions, their laws and their derivatives."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from scipy.optimize import brentq
from torch import Tensor

import bmo
from bmo.errors import DomainError, MetricError
from bmo.metric import Block, Dense, Diagonal, Identity, Scaled
from bmo.sets import Ball, Box, Nonnegative, Product, Whole
from tests.instances import F64, box_by_enumeration, generator, normal, spd

LOW, HIGH = torch.tensor([-1.0, 0.0, -0.5], dtype=F64), torch.tensor([1.0, 0.5, 2.0], dtype=F64)


def ball_by_multiplier(H: np.ndarray, u: np.ndarray, c: np.ndarray, r: float) -> np.ndarray:
    """Solve |x - c| = r on (H + lambda I)(x - c) = H (u - c), in the eigenbasis of H."""
    if np.linalg.norm(u - c) <= r:
        return u
    eig, V = np.linalg.eigh(H)
    w = eig * (V.T @ (u - c))

    def excess(t: float) -> float:
        return float(np.linalg.norm(w / (eig + t)) - r)

    t = brentq(excess, 0.0, np.linalg.norm(w) / r + 1.0, xtol=1e-15, rtol=1e-15)
    return c + V @ (w / (eig + t))


@pytest.mark.parametrize("seed", range(8))
def test_boxes_and_the_orthant_in_a_dense_metric(seed: int) -> None:
    g = generator(seed)
    H, u = spd(g, 3, cond=50.0), 3 * normal(g, 6, 3)
    ends = [(LOW, HIGH, Box(LOW, HIGH))]
    ends.append((torch.zeros(3, dtype=F64), torch.full((3,), math.inf).to(F64), Nonnegative()))
    for low, high, domain in ends:
        found = domain.project(u, Dense(H), 1e-13)
        for x, y in zip(found, u, strict=True):
            expected = box_by_enumeration(H.numpy(), y.numpy(), low.numpy(), high.numpy())
            np.testing.assert_allclose(x.numpy(), expected, rtol=0, atol=1e-9)


@pytest.mark.parametrize("seed", range(8))
def test_the_ball_in_dense_and_diagonal_metrics(seed: int) -> None:
    g = generator(seed)
    center = normal(g, 4)
    domain = Ball(1.3, center)
    u = center + 2 * normal(g, 5, 4)
    H, d = spd(g, 4, cond=50.0), normal(g, 4).abs() + 0.1
    for metric, matrix in [(Dense(H), H), (Diagonal(d), torch.diag(d)), (Identity(), torch.eye(4))]:
        found = domain.project(u, metric, 1e-13)
        for x, y in zip(found, u, strict=True):
            expected = ball_by_multiplier(
                matrix.numpy().astype(float), y.numpy(), center.numpy(), 1.3
            )
            np.testing.assert_allclose(x.numpy(), expected, rtol=0, atol=1e-9)


def test_a_diagonal_metric_does_not_move_the_projection_on_a_box() -> None:
    u = torch.tensor([3.0, -1.0, 1.0], dtype=F64)
    metric = Diagonal(torch.tensor([1.0, 50.0, 0.1], dtype=F64))
    found = Box(LOW, HIGH).project(u, metric)
    assert torch.equal(found, torch.tensor([1.0, 0.0, 1.0], dtype=F64))


def test_products_are_projected_block_by_block() -> None:
    g = generator(3)
    H = spd(g, 2)
    domain = Product([2, 3], [Ball(1.0), Box(LOW, HIGH)])
    u = 4 * normal(g, 5, 5)
    found = domain.project(u, Block([2, 3], [Dense(H), Identity()]))
    torch.testing.assert_close(
        found[:, :2], Ball(1.0).project(u[:, :2], Dense(H)), rtol=0, atol=1e-12
    )
    torch.testing.assert_close(found[:, 2:], torch.clamp(u[:, 2:], LOW, HIGH), rtol=0, atol=0)
    # across blocks that the metric couples, only the whole problem is right
    coupled = Dense(spd(g, 5, cond=20.0))
    assert bmo.certify.projection(domain, coupled).holds
    weights = Diagonal(torch.tensor([1.0, 9.0, 1.0, 2.0, 3.0], dtype=F64))
    assert bmo.certify.projection(domain, weights).holds
    separable = Product([2, 3], [Box(0.0, 1.0), Whole()])
    expected = torch.cat([u[:, :2].clamp(0, 1), u[:, 2:]], -1)
    assert torch.equal(separable.project(u, Scaled(2.0)), expected)
    assert separable.diagonal(u, weights.d) is None or torch.equal(
        separable.project(u, weights), expected
    )


def every_set() -> dict[str, bmo.sets.Set]:
    return {
        "whole": Whole(),
        "box": Box(LOW, HIGH),
        "half-infinite": Box(torch.tensor([-math.inf, 0.0, -1.0], dtype=F64), 1.0),
        "orthant": Nonnegative(),
        "ball": Ball(0.8, torch.tensor([1.0, 0.0, -1.0], dtype=F64)),
        "product": Product([1, 2], [Nonnegative(), Ball(1.0)]),
    }


@pytest.mark.parametrize("name", every_set())
def test_the_law_of_projections(name: str) -> None:
    domain, g = every_set()[name], generator(7)
    for metric in (Identity(), Diagonal(normal(g, 3).abs() + 0.1), Dense(spd(g, 3, cond=30.0))):
        assert bmo.certify.projection(domain, metric, n=3), name
        x = domain.project(3 * normal(g, 10, 3), metric, 1e-12)
        torch.testing.assert_close(domain.project(x, metric, 1e-12), x, rtol=0, atol=1e-8)


def test_the_law_notices_a_wrong_projection() -> None:
    class Clipped(Box):
        def project(self, u: Tensor, metric: bmo.metric.Metric, tol: float = 1e-10) -> Tensor:
            return self.nearest(u)  # the Euclidean one, in whatever metric

    H = Dense(torch.tensor([[2.0, 1.0], [1.0, 2.0]], dtype=F64))
    assert not bmo.certify.projection(Clipped(-1.0, 1.0), H)


def test_the_wrong_metric_leads_elsewhere() -> None:
    """H = [[2, 1], [1, 2]], U = {u_2 <= 0}: the counterexample of the chapter on failures."""
    H = Dense(torch.tensor([[2.0, 1.0], [1.0, 2.0]], dtype=F64))
    U = Box(torch.full((2,), -math.inf, dtype=F64), torch.tensor([math.inf, 0.0], dtype=F64))
    u = torch.tensor([0.0, 1.0], dtype=F64)
    expected = torch.tensor([0.5, 0.0], dtype=F64)  # slides along the edge by H_12 / H_11
    torch.testing.assert_close(U.project(u, H), expected, rtol=0, atol=1e-9)
    assert torch.equal(U.project(u, Identity()), torch.zeros(2, dtype=F64))


@pytest.mark.parametrize("name", ["box", "ball", "product"])
def test_derivatives_in_the_point_and_in_the_metric(name: str) -> None:
    domain, g = every_set()[name], generator(11)
    H, u = spd(g, 3, cond=5.0), 2 * normal(g, 4, 3)

    def project(u: Tensor, H: Tensor) -> Tensor:
        return domain.project(u, Dense((H + H.mT) / 2), 1e-13)

    inputs = (u.requires_grad_(), H.requires_grad_())
    assert torch.autograd.gradcheck(project, inputs, atol=1e-6, check_undefined_grad=False)


def test_derivative_in_a_diagonal_metric() -> None:
    domain, g = Ball(0.7), generator(12)
    u, d = 2 * normal(g, 3, 3), normal(g, 3).abs() + 0.5

    def project(u: Tensor, d: Tensor) -> Tensor:
        return domain.project(u, Diagonal(d), 1e-13)

    inputs = (u.requires_grad_(), d.requires_grad_())
    assert torch.autograd.gradcheck(project, inputs, atol=1e-6, check_undefined_grad=False)


def test_the_projected_point_itself_can_be_differentiated() -> None:
    """What hangs on the result twice (the next step, and its own gradient) adds up correctly."""
    domain, H = Box(-0.5, 0.5), Dense(torch.tensor([[2.0, 1.0], [1.0, 2.0]], dtype=F64))
    u = torch.tensor([0.2, 2.0], dtype=F64, requires_grad=True)
    x = domain.project(u, H, 1e-13)
    (inner,) = torch.autograd.grad(x.square().sum(), x, create_graph=True)
    torch.testing.assert_close(inner, 2 * x, rtol=1e-14, atol=0)
    (grad,) = torch.autograd.grad((inner * x).sum(), u)
    h = 1e-6
    for i in range(2):
        e = torch.zeros(2, dtype=F64)
        e[i] = h
        plus, minus = (domain.project(u.detach() + t * e, H, 1e-13) for t in (1, -1))
        assert float((2 * plus @ plus - 2 * minus @ minus) / (2 * h)) == pytest.approx(
            float(grad[i]), abs=1e-7
        )


def test_forward_derivatives_through_a_zero_dual() -> None:
    """J d by differentiating J^T w at w = 0, as power iterations and implicit methods do."""
    g = generator(13)
    domain, H = Box(-1.0, 1.0), Dense(spd(g, 4, cond=10.0))
    u, d = 2 * normal(g, 3, 4), normal(g, 3, 4)
    point = u.clone().requires_grad_()
    x = domain.project(point, H, 1e-13)
    w = torch.zeros_like(x, requires_grad=True)
    (pulled,) = torch.autograd.grad(x, point, w, create_graph=True)
    (forward,) = torch.autograd.grad(pulled, w, d)
    h = 1e-6
    plus, minus = (domain.project(u + t * h * d, H, 1e-13) for t in (1, -1))
    torch.testing.assert_close(forward, (plus - minus) / (2 * h), rtol=0, atol=1e-6)


def test_membership() -> None:
    inside = torch.tensor([[0.5, 0.2, 0.0], [2.0, 0.2, 0.0]], dtype=F64)
    assert Box(LOW, HIGH).contains(inside).tolist() == [True, False]
    assert Ball(1.0).contains(inside).tolist() == [True, False]
    assert Ball(2.0, center=1.0).contains(inside).tolist() == [True, True]
    assert Whole().contains(torch.tensor([[1.0], [math.nan]])).tolist() == [True, False]
    both = Product([1, 2], [Box(0.0, 1.0), Ball(1.0)])
    assert both.contains(inside).tolist() == [True, False]
    assert Nonnegative().contains(torch.tensor([-1e-10], dtype=F64)).item()
    assert not Nonnegative().contains(torch.tensor([-1e-8], dtype=F64)).item()


def test_float32() -> None:
    H = Dense(spd(generator(14), 3, cond=5.0).float())
    u = 3 * torch.randn(4, 3)
    domain = Box(-0.5, 0.5)
    x = domain.project(u, H, 1e-4)
    assert x.dtype == torch.float32
    exact = domain.project(u.double(), Dense(H._matrix.double()), 1e-12)
    torch.testing.assert_close(x.double(), exact, rtol=0, atol=2e-3)
    assert Ball(1.0).project(u, Identity()).dtype == torch.float32


def test_a_ball_in_compiled_code() -> None:
    u = 3 * normal(generator(15), 4, 3)
    compiled = torch.compile(Ball(1.0).nearest, backend="aot_eager")
    torch.testing.assert_close(compiled(u), Ball(1.0).nearest(u), rtol=1e-14, atol=0)


@pytest.mark.parametrize(
    "build",
    [
        lambda: Box(1.0, 0.0),
        lambda: Box(torch.tensor([0.0, math.nan]), 1.0),
        lambda: Ball(0.0),
        lambda: Ball(math.inf),
        lambda: Ball(math.nan),
        lambda: Product([1], []),
        lambda: Product([1, 1], [Whole()]),
        lambda: Product([1, 1], [Whole(), Whole()]).nearest(torch.ones(3)),
    ],
)
def test_what_is_no_set_is_refused(build) -> None:
    with pytest.raises(DomainError):
        build()


def test_a_metric_of_another_size_is_refused() -> None:
    with pytest.raises(MetricError, match="length 2"):
        Box(0.0, 1.0).project(torch.ones(3), Dense(torch.eye(2)))


def test_a_tolerance_that_cannot_be_reached_is_said() -> None:
    H = Dense(spd(generator(16), 4, cond=2.0).float())
    with pytest.raises(MetricError, match="loosen tol"):
        Ball(1.0).project(5 * torch.randn(2, 4), H, 1e-30)
