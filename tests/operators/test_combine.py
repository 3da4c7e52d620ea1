"""Composition, combination, stacking, change of metric: against matrices; and binding of data."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

import bmo
from bmo.errors import ConditionError, MetricError
from bmo.metric import Dense, Diagonal, Functional, Identity, Metric, Scaled
from bmo.operators import Combination, Composition, Conjugate, Lambda, Stack, Unrelaxed
from tests.operators.ratios import jacobian, norm_in

f64 = torch.float64


def spd(n: int) -> Tensor:
    half = torch.randn(n, n, dtype=f64)
    return half @ half.mT + 0.1 * torch.eye(n, dtype=f64)


def isometry(H: Metric, n: int, a: float = 1.0) -> tuple[Lambda, Tensor]:
    """An a-averaged linear map (1 - a)I + a R^-1 Q R with a random rotation Q, and its matrix."""
    q, _ = torch.linalg.qr(torch.randn(n, n, dtype=f64))
    eye = torch.eye(n, dtype=f64)
    M = (1 - a) * eye + a * H.unfactor(H.factor(eye) @ q.mT).mT  # points are rows
    return Lambda(lambda u: u @ M.mT, H, a), M


def averaged_exactly(D: bmo.operators.Operator, n: int) -> bool:
    """Whether I + (D - I)/a is nonexpansive in the metric of D."""
    u = torch.zeros(n, dtype=f64)
    N = Lambda(lambda x: x + (D(x) - x) / D.averaged, D.metric)
    return norm_in(jacobian(N, u), D.metric) <= 1 + 1e-10


@pytest.mark.parametrize("kind", ["dense", "identity"])
def test_composition_and_combination(kind: str) -> None:
    for _ in range(20):
        H = Dense(spd(4)) if kind == "dense" else Identity()
        (first, A), (second, B) = isometry(H, 4, 0.7), isometry(H, 4, 0.4)
        u = torch.randn(3, 4, dtype=f64)
        both = Composition(first, second)
        assert torch.allclose(both(u), u @ (A @ B).mT, atol=1e-10)
        k1, k2 = 0.3 / 0.7, 0.6 / 0.4
        assert both.averaged == pytest.approx(1 / (1 + k1 * k2 / (k1 + k2)))
        mean = Combination([first, second], [0.25, 0.75])
        assert torch.allclose(mean(u), u @ (0.25 * A + 0.75 * B).mT, atol=1e-10)
        assert mean.averaged == pytest.approx(0.25 * 0.7 + 0.75 * 0.4)
        assert averaged_exactly(both, 4) and averaged_exactly(mean, 4)
        assert both.metric is H and mean.metric is H
    assert Composition(first, isometry(H, 4)[0]).averaged == 1.0


def test_stack() -> None:
    H, G = Dense(spd(3)), Scaled(2.0)
    (first, A), (second, B) = isometry(H, 3, 0.6), isometry(G, 2, 0.9)
    D = Stack([3, 2], [first, second])
    u = torch.randn(4, 5, dtype=f64)
    assert torch.allclose(D(u), u @ torch.block_diag(A, B).mT, atol=1e-10)
    assert D.averaged == 0.9 and averaged_exactly(D, 5)
    assert D.metric.bounds() == (min(H.bounds()[0], 2.0), max(H.bounds()[1], 2.0))


def test_conjugate_is_nonexpansive_where_the_network_is_not() -> None:
    H = Dense(torch.tensor([[1.0, 0.9], [0.9, 1.0]], dtype=f64))
    relu, u = Lambda(torch.relu, Identity()), torch.tensor([1.0, -1.0], dtype=f64)
    assert norm_in(jacobian(relu, u), H) > 2.2
    D = Conjugate(relu, H)
    L = torch.linalg.cholesky(H.matrix((2,)))
    assert torch.allclose(D(u), torch.linalg.solve(L.mT, torch.relu(L.mT @ u)))
    assert norm_in(jacobian(D, u), H) <= 1 + 1e-12
    f = bmo.LeastSquares(torch.eye(2, dtype=f64), u)
    numerical = bmo.ProximalGradient(f, metric=H.__class__(2 * spd(2)), check=False)
    assert Conjugate(relu, numerical).metric is numerical.metric  # follows a learned metric


def test_conjugate_of_an_averaged_network() -> None:
    D = Conjugate(isometry(Identity(), 3, 0.4)[0], Dense(spd(3)))
    assert D.averaged == 0.4 and averaged_exactly(D, 3)


def test_unrelaxed() -> None:
    H = Dense(spd(3))
    F, _ = isometry(H, 3, 0.4)
    D = Unrelaxed(F)
    u = torch.randn(3, dtype=f64)
    assert norm_in(jacobian(D, u), D.metric) == pytest.approx(1.0, abs=1e-10)
    assert torch.allclose(bmo.GKM(D, F.averaged)(u), F(u), atol=1e-12)


def test_certificates_are_as_weak_as_the_weakest_part() -> None:
    free = Lambda(lambda u: u, Identity())
    f = bmo.LeastSquares(torch.eye(2, dtype=f64), torch.zeros(2, dtype=f64))
    checked = bmo.ProximalGradient(f, step=1.0)
    proved = bmo.networks.CertifiedDense(2, 4, 2).double()
    assert Composition(checked, proved).certified == "checked"
    assert Combination([proved, free], [0.5, 0.5]).certified == "none"
    assert Composition(proved, proved, check=False).certified == "none"
    assert Stack([2, 2], [proved, proved]).certified == "by construction"


def test_refusals() -> None:
    eye, two = Lambda(lambda u: u, Identity()), Lambda(lambda u: u, Scaled(2.0))
    d = Lambda(lambda u: u, Diagonal(torch.tensor([1.0, 3.0], dtype=f64)))
    skewed = Lambda(lambda u: u, Dense(spd(2)))
    spectral = Lambda(lambda u: u, Identity(3))
    for other in (two, d, skewed, spectral):
        with pytest.raises(MetricError, match="common metric"):
            Composition(eye, other)
        with pytest.raises(MetricError, match="common metric"):
            Combination([eye, other], [0.5, 0.5])
    with pytest.raises(MetricError, match="multiple of the identity"):
        Conjugate(skewed, Identity())
    for weights in ([0.5, 0.4], [1.5, -0.5], [1.0]):
        with pytest.raises(ConditionError, match="sum to 1"):
            Combination([eye, eye], weights)
    with pytest.raises(ConditionError, match="averaged"):
        Unrelaxed(eye)
    for a in (0.0, 1.1):
        with pytest.raises(ConditionError, match="constant"):
            Lambda(lambda u: u, Identity(), averaged=a)


def test_equal_metrics_of_different_kinds_agree() -> None:
    H = spd(3)
    dense = Lambda(lambda u: u, Dense(H))
    function = Lambda(lambda u: u, Functional(lambda u: u @ H, 0.01, 100.0))
    Composition(dense, Lambda(lambda u: u, Dense(H.clone())))
    Composition(dense, function)


def test_bind_reaches_a_part_and_leaves_the_original() -> None:
    f = bmo.LeastSquares(torch.eye(2, dtype=f64), torch.zeros(2, dtype=f64))
    D = Composition(Lambda(lambda u: u, Identity()), bmo.ProximalGradient(f, step=1.0))
    b = torch.tensor([1.0, 2.0], dtype=f64)
    assert torch.equal(D.bind(b=b)(torch.zeros(2, dtype=f64)), b)
    assert torch.equal(D(torch.ones(2, dtype=f64)), torch.zeros(2, dtype=f64))
    with pytest.raises(ConditionError, match="'A', 'b'"):
        D.bind(c=b)


def test_bind_reaches_every_part_of_a_composition_and_of_a_mean() -> None:
    b = torch.tensor([1.0, -2.0], dtype=f64)
    parts = [
        bmo.ProximalGradient(bmo.LeastSquares(torch.eye(2, dtype=f64), c), step=0.5)
        for c in (b, 2 * b)
    ]
    for joined, zero in ((Composition(*parts), 0.75), (Combination(parts, [0.5, 0.5]), 0.5)):
        u, new = torch.zeros(2, dtype=f64), torch.tensor([4.0, 8.0], dtype=f64)
        before = joined(u)
        assert torch.allclose(joined.bind(b=new)(u), zero * new)
        assert torch.equal(joined(u), before)
        with pytest.raises(ConditionError, match="'A', 'b'"):
            joined.bind(b=new, c=new)
