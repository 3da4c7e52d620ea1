"""Chapter 11: each statement on small images, against dense matrices."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor

import bmo
from bmo.certify import averaged, nonexpansive
from bmo.metric import HalfSpectral, Identity, Metric
from bmo.networks import CertifiedConv
from bmo.operators import (
    FourierColourStep,
    FourierDataStep,
    FourierDouglasRachford,
    FourierGradientStep,
    FourierHalfQuadratic,
    FourierWeight,
    Lambda,
)
from bmo.problems.deconvolution import Blur, motion_kernel
from bmo.sets import Box

SIDES = (6, 7)
EVENT = (1, *SIDES)


def matrix(function: Callable[[Tensor], Tensor]) -> tuple[Tensor, Tensor]:
    """Matrix and constant of an affine map, column by column."""
    n = int(torch.Size(EVENT).numel())
    with torch.no_grad():
        constant = function(torch.zeros(EVENT)).flatten()
        columns = [function(e.reshape(EVENT)).flatten() - constant for e in torch.eye(n)]
    return torch.stack(columns, 1), constant


def blur() -> Blur:
    return Blur(motion_kernel(torch.Generator().manual_seed(2), 5), SIDES)


def random_metric(seed: int, decades: float = 3.0) -> Metric:
    torch.manual_seed(seed)
    h = 10 ** (decades * torch.rand(EVENT))
    even = (h + h.flip(-2, -1).roll((1, 1), (-2, -1))) / 2
    return HalfSpectral(even[..., : SIDES[1] // 2 + 1], SIDES[1])


def norm_in(G: Tensor, metric: Metric) -> float:
    """The norm of a matrix in a metric, from the dense matrix of the metric alone."""
    values, vectors = torch.linalg.eigh(metric.matrix(EVENT).detach())
    R = vectors @ values.sqrt().diag() @ vectors.mT
    return float(torch.linalg.matrix_norm(R @ G @ torch.linalg.inv(R), 2))


def step(
    kind: type = FourierDataStep, metric: str = "weight", start: float = 0.05
) -> FourierDataStep:
    torch.manual_seed(1)
    p = FourierWeight(start, knots=4)
    with torch.no_grad():
        p.raw.add_(0.5 * torch.randn(4))
    made: FourierDataStep = kind(blur().symbol, torch.rand(EVENT), p, 0.02, metric)
    return made.prepared()


def test_the_blur() -> None:
    K, zero = matrix(blur())
    back, _ = matrix(blur().adjoint)
    assert float(zero.abs().max()) == 0
    assert torch.allclose(back, K.mT, atol=1e-14)
    values = torch.linalg.svdvals(K)
    assert float(values[0]) == pytest.approx(1.0, abs=1e-12)
    half = blur().symbol.abs()
    full = torch.cat([half, half[..., 1:].flip(-1).roll(0)], -1)[..., : SIDES[1]]
    assert torch.allclose(full.flatten().sort().values, values.sort().values, atol=1e-12)


def test_one_constant_in_every_metric() -> None:
    for kind in (FourierDataStep, FourierGradientStep):
        D = step(kind)
        G, _ = matrix(D)
        eye = torch.eye(len(G))
        for metric in (Identity(3), D.metric, random_metric(0), random_metric(1)):
            assert norm_in(G, metric) == pytest.approx(D.factor, rel=1e-8)
            assert norm_in(eye + (G - eye) / D.averaged, metric) == pytest.approx(1.0, rel=1e-8)
            less = 0.98 * D.averaged
            assert norm_in(eye + (G - eye) / less, metric) > 1.01
    H = random_metric(0).matrix(EVENT)  # a metric that is not diagonal in the Fourier domain
    torch.manual_seed(0)
    d = (10 ** (2 * torch.rand(len(H)))).sqrt()
    assert float(torch.linalg.matrix_norm(d[:, None] * matrix(step())[0] / d, 2)) > 1.05


def test_the_data_step() -> None:
    D = step()
    K, _ = matrix(blur())
    p = D.spectrum().detach()
    P = HalfSpectral(p, SIDES[1]).matrix(EVENT)
    G, c = matrix(D)
    assert torch.allclose(G, torch.linalg.solve(P + K.mT @ K, P), atol=1e-10)
    assert torch.allclose(c, torch.linalg.solve(P + K.mT @ K, K.mT @ D.b.flatten()), atol=1e-10)
    assert D.averaged < 0.5
    power = blur().symbol.abs().square()
    assert D.factor == pytest.approx(float((p / (p + power)).max()), rel=1e-12)
    assert D.factor < 1
    even = Blur(torch.tensor([[0.25, 0.5, 0.25]]), (8, 8))  # a zero at the highest frequency
    assert FourierDataStep(even.symbol, torch.rand(1, 8, 8), 0.1).factor == 1.0


def test_brightness_and_colour() -> None:
    torch.manual_seed(3)
    weights = [FourierWeight(start, knots=4) for start in (0.05, 2.0)]
    with torch.no_grad():
        for p in weights:
            p.raw.add_(torch.randn_like(p.raw))
    b = torch.rand(3, *SIDES)
    D = FourierColourStep(blur().symbol, b, *weights)
    mixed = torch.tensor([[1.0, 1, 1], [1, -1, 0], [1, 1, -2]])
    mixed = mixed / mixed.norm(dim=1, keepdim=True)
    u = torch.rand(3, *SIDES)
    parts = [
        FourierDataStep(blur().symbol, bright[None], p)(w[None])[0]
        for bright, w, p in zip(
            torch.einsum("ij,jhw->ihw", mixed, b),
            torch.einsum("ij,jhw->ihw", mixed, u),
            (weights[0], weights[1], weights[1]),
            strict=True,
        )
    ]
    assert torch.allclose(D(u), torch.einsum("ji,jhw->ihw", mixed, torch.stack(parts)), atol=1e-12)
    power = blur().symbol.abs().square()
    spectra = [p(SIDES, b).detach() for p in weights]
    factors = [p / (p + power) for p in spectra]
    assert D.factor == pytest.approx(max(float(f.max()) for f in factors), rel=1e-12)
    assert D.averaged == pytest.approx(max(float(1 - f.min()) / 2 for f in factors), rel=1e-12)
    assert D.averaged < 0.5
    search = {"shape": (3, *SIDES), "trials": 12, "ascent": 40}
    assert averaged(D.prepared(), D.averaged, Identity(3), **search).holds
    assert not averaged(D.prepared(), 0.97 * D.averaged, Identity(3), **search).holds
    skew = torch.tensor([[1.0, 0.9, 0], [0, 1, 0], [0, 0, 1]])  # a mixture that is no isometry
    loose = Lambda(
        lambda w: torch.einsum("ij,...jhw->...ihw", torch.linalg.inv(skew),
                               D(torch.einsum("ij,...jhw->...ihw", skew, w))), Identity(3)
    )  # fmt: skip
    assert not nonexpansive(loose, shape=(3, *SIDES), trials=12, ascent=40).holds


def test_the_condition_is_exact() -> None:
    K, _ = matrix(blur())
    eye = torch.eye(len(K))
    D = step(FourierGradientStep, start=0.001)
    p = D.prepare()[2].detach()
    for part, expands in ((1.0, False), (0.98, True)):
        P = HalfSpectral(part * p, SIDES[1]).matrix(EVENT)
        G = eye - torch.linalg.solve(P, K.mT @ K)
        for metric in (Identity(3), random_metric(0)):
            assert (norm_in(G, metric) > 1 + 1e-9) is expands
    assert D.averaged == pytest.approx(1.0)
    assert torch.allclose(matrix(D)[0], eye - torch.linalg.solve(
        HalfSpectral(p, SIDES[1]).matrix(EVENT), K.mT @ K), atol=1e-9)  # fmt: skip
    assert step(FourierGradientStep, start=30.0).averaged < 1


def test_the_weight_for_every_raw_value_and_size() -> None:
    weight = FourierWeight(0.1, knots=5, per_sigma=True, low=1e-4, high=10.0)
    like = torch.zeros(())
    for seed in range(20):
        torch.manual_seed(seed)
        with torch.no_grad():
            for raw in weight.parameters():
                raw.copy_(torch.randn_like(raw) * 10 ** float(3 * torch.rand(())))
        sigma = torch.tensor([1e-4, 0.02, 0.5]).reshape(3, 1, 1, 1)
        small = weight((6, 7), like, sigma).detach()
        large = weight((12, 21), like, sigma).detach()
        assert 1e-4 * (1 - 1e-9) <= float(small.min()) <= float(small.max()) <= 10 * (1 + 1e-9)
        assert torch.allclose(small, large[..., ::2, ::3][..., :4], rtol=1e-9)
        whole = torch.fft.fft2(torch.fft.irfft2(small.to(torch.complex128), s=(6, 7)))
        assert torch.allclose(whole.real[..., :4], small, rtol=1e-9)


def test_it_always_converges() -> None:
    torch.manual_seed(3)
    network = CertifiedConv(1, 4, 2, averaged=0.9)
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.add_(torch.randn_like(parameter))
    D = FourierHalfQuadratic(step(start=0.01), network).prepared()
    assert bmo.certify.contraction(D, shape=EVENT, trials=12, ascent=10).measured <= D.data.factor
    T, q = bmo.GKM(D, 0.5), D.data.factor
    u, v = 10 * torch.randn(2, 200, *EVENT)
    ratio = T.metric.norm(T(u) - T(v)) / T.metric.norm(u - v)
    assert float(ratio.detach().max()) <= 0.5 + 0.5 * q
    one, two = (T.iterate(start, 3000, tol=1e-10).value for start in (u[0], v[0]))
    assert torch.allclose(one, two, atol=1e-7)  # one fixed point, from every start

    stripes = 0.1 * (-1.0) ** torch.arange(8)
    push = Lambda(lambda x: x + stripes, Identity(3))
    even = Blur(torch.tensor([[0.25, 0.5, 0.25]]), (8, 8))
    data = FourierDataStep(even.symbol, torch.full((1, 8, 8), 0.5), 0.1)
    flat = torch.full((1, 8, 8), 0.5)
    free = bmo.GKM(FourierHalfQuadratic(data, push), 0.5)
    sizes = [float(free.iterate(flat, k).value.abs().max()) for k in (100, 200, 400)]
    assert sizes == pytest.approx([5.5, 10.5, 20.5])  # unbounded, at a constant pace
    held = bmo.GKM(FourierHalfQuadratic(data, push, domain=Box(0, 1)), 0.5)
    assert held.iterate(flat, 200, tol=1e-12).converged


def clipped(u: Tensor) -> Tensor:
    """The gradient of a smoothed total variation, 2-Lipschitz."""
    right, down = ((u.roll(-1, axis) - u).clamp(-0.05, 0.05) for axis in (-1, -2))
    return (right.roll(1, -1) - right + down.roll(1, -2) - down) / 4


@pytest.mark.parametrize("metric", ["euclidean", "weight"])
def test_what_the_fixed_point_minimises(metric: str) -> None:
    """The gradient is built from dense matrices; a Euclidean metric needs a constant weight."""
    data = step(start=0.01) if metric == "weight" else FourierDataStep(
        blur().symbol, torch.rand(EVENT), 0.02)  # fmt: skip
    N = Lambda(lambda u: u - clipped(u), Identity(3))
    u = bmo.GKM(FourierHalfQuadratic(data, N), 0.9).iterate(data.b, 20_000, tol=1e-12).value
    K, _ = matrix(blur())
    p = data.spectrum().detach()
    P = HalfSpectral(p.expand(1, SIDES[0], SIDES[1] // 2 + 1), SIDES[1]).matrix(EVENT)
    lam = float(p.min())
    values, vectors = torch.linalg.eigh(P / lam)
    R = vectors @ values.sqrt().diag() @ vectors.mT
    prior = R @ clipped((R @ u.flatten()).reshape(EVENT)).flatten()
    gradient = K.mT @ (K @ u.flatten() - data.b.flatten()) + lam * prior
    assert float(gradient.detach().abs().max()) <= 1e-9
    assert float((lam * prior).abs().max()) > 1e-4  # the prior acts


def test_douglas_rachford() -> None:
    data = step()
    half = Lambda(lambda u: u / 1.5, Identity(3), averaged=0.5)  # the prox of |.|^2 / 4
    D = FourierDouglasRachford(data, half).prepared()
    G, _ = matrix(D)
    p, power = data.spectrum().detach(), blur().symbol.abs().square()
    q = float(((p - power).abs() / (p + power)).max())
    reflection = 2 * matrix(data)[0] - torch.eye(len(G))
    assert norm_in(reflection, D.metric) == pytest.approx(q, rel=1e-8)
    assert norm_in(G, D.metric) <= q < 1
    z = bmo.GKM(D, 0.5).iterate(data.b, 20_000, tol=1e-13).value
    K, _ = matrix(blur())
    P = HalfSpectral(p, SIDES[1]).matrix(EVENT)
    exact = torch.linalg.solve(K.mT @ K + P / 2, K.mT @ data.b.flatten())  # lam phi(Ru) = |u|_P^2/4
    assert torch.allclose(D.solution(z).detach().flatten(), exact, atol=1e-9)
    torch.manual_seed(0)
    a, b = torch.randn(2, 50, *EVENT)

    def upper(x: Tensor) -> Tensor:
        return D.solution(x).abs().flatten(1).sum(1)

    with torch.no_grad():
        assert bool((upper((a + b) / 2) <= (upper(a) + upper(b)) / 2 + 1e-9).all())
