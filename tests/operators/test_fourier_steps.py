"""Fourier data steps and their denoisers: constants, dense references, derivatives, binding."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

import bmo
from bmo import errors
from bmo.metric import HalfSpectral, Identity, Metric, Spectral
from bmo.networks import CertifiedConv
from bmo.operators import (
    FourierDataStep,
    FourierDouglasRachford,
    FourierGradientStep,
    FourierHalfQuadratic,
    FourierStart,
    FourierWeight,
    Lambda,
)
from bmo.problems.deconvolution import Blur, motion_kernels
from bmo.sets import Box

f64 = torch.float64
STEPS = {"prox": FourierDataStep, "gradient": FourierGradientStep}
KINDS = ("euclidean", "weight")


@pytest.fixture(autouse=True)
def double(seeded: None) -> None:
    torch.set_default_dtype(f64)


def problem(shape: tuple[int, int] = (8, 9), count: int = 2, colours: int = 1) -> dict[str, Tensor]:
    """Random motion kernels, one an image, and noisy observations at different levels."""
    blur = Blur(motion_kernels(torch.Generator().manual_seed(7), count, 5), shape)
    u = torch.rand(count, colours, *shape)
    sigma = torch.linspace(0.01, 0.03, count).reshape(-1, 1, 1, 1)
    return {"symbol": blur.symbol, "b": blur(u) + sigma * torch.randn_like(u), "sigma": sigma}


def weight(knots: int = 4, per_sigma: bool = True, size: float = 0.5) -> FourierWeight:
    p = FourierWeight(0.05, knots, per_sigma)
    with torch.no_grad():
        for raw in p.parameters():
            raw.add_(size * torch.randn_like(raw))
    return p


def step(kind: str, metric: str, **options: Any) -> Any:
    data = problem(**options)
    return STEPS[kind](data["symbol"], data["b"], weight(), data["sigma"], metric)


def spectrum(shape: tuple[int, int], decades: float = 2.0) -> Metric:
    """A random metric that has nothing to do with the data step."""
    h = 10 ** (decades * torch.rand(1, *shape))
    return Spectral((h + h.flip(-2, -1).roll((1, 1), (-2, -1))) / 2)


def dense(D: Any, shape: tuple[int, ...]) -> tuple[Tensor, Tensor]:
    """Matrix and constant of an affine map of single images."""
    n = int(torch.Size(shape).numel())
    eye = torch.eye(n).reshape(n, *shape)
    with torch.no_grad():
        c = D(torch.zeros(shape))
        return (torch.stack([D(e) for e in eye]) - c).reshape(n, n).mT, c.flatten()


@pytest.mark.parametrize("kind", STEPS)
@pytest.mark.parametrize("shape", [(8, 9), (7, 8)])
def test_averaged_in_every_fourier_metric_with_the_exact_constant(
    kind: str, shape: tuple[int, int]
) -> None:
    data = problem(shape, 1)
    D = STEPS[kind](data["symbol"], data["b"], weight()).prepared()
    a, q = D.averaged, D.factor
    for metric in (Identity(3), D.metric, spectrum(shape), spectrum(shape, 6.0)):
        for claim in ((a, True), (0.99 * a, False)):
            found = bmo.certify.averaged(
                D, claim[0], metric, shape=(1, 1, *shape), trials=12, ascent=40
            )
            assert found.holds is claim[1], (claim, found)
        G = dense(lambda u: D(u[None])[0], (1, *shape))[0]
        eye = torch.eye(len(G)).reshape(-1, 1, *shape)
        R, inverse = (part.flatten(1).mT for part in (metric.factor(eye), metric.unfactor(eye)))
        assert float(torch.linalg.matrix_norm(R @ G @ inverse, 2)) == pytest.approx(q, rel=1e-8)


@pytest.mark.parametrize("kind", STEPS)
@pytest.mark.parametrize("knots", [1, 5])
@pytest.mark.parametrize("raw", [1e3, -1e3, 0.0, "mixed"])
def test_feasible_for_every_raw_value(kind: str, knots: int, raw: Any) -> None:
    data, p = problem(), FourierWeight(0.1, knots, per_sigma=True)
    with torch.no_grad():
        for value in p.parameters():
            mixed = torch.where(torch.rand_like(value) < 0.5, 1e3, -1e3)
            value.copy_(mixed if raw == "mixed" else torch.full_like(value, raw))
    D = STEPS[kind](data["symbol"], data["b"], p, data["sigma"], "weight").prepared()
    assert 0 <= D.averaged <= (0.5 if kind == "prox" else 1.0) + 1e-12
    low, high = D.metric.bounds()
    assert low == pytest.approx(1.0)
    assert high <= 1e9 * (1 + 1e-12)
    ends = D.spectrum().detach()
    assert 1e-6 * (1 - 1e-12) <= float(ends.min()) <= float(ends.max()) <= 1e3 * (1 + 1e-12)
    found = bmo.certify.nonexpansive(D, shape=(2, 1, 8, 9), trials=6, ascent=5, tol=1e-6)
    assert found.holds


def test_the_condition_of_the_gradient_step_is_exact() -> None:
    """A little beyond |k|^2 = 2p the plain gradient step expands; the step itself sits on it."""
    data = problem((8, 9), 1)
    D = FourierGradientStep(data["symbol"], data["b"], 1e-3).prepared()
    assert D.averaged == pytest.approx(1.0)  # the free weight is far too small
    p = float(D.prepare()[2].detach())
    assert p == pytest.approx(float(data["symbol"].abs().square().max()) / 2)
    blur = Blur(motion_kernels(torch.Generator().manual_seed(7), 1, 5), (8, 9))
    beyond = Lambda(lambda u: u - blur.adjoint(blur(u) - data["b"]) / (0.99 * p), Identity(3))
    assert not bmo.certify.nonexpansive(beyond, shape=(1, 8, 9), trials=8, ascent=10).holds
    u = torch.rand(1, 1, 8, 9)
    by_hand = u - blur.adjoint(blur(u) - data["b"]) / p
    assert torch.allclose(D(u), by_hand, atol=1e-12)
    assert FourierGradientStep(data["symbol"], data["b"], 3.0).averaged == pytest.approx(1 / 6)


@pytest.mark.parametrize("shape", [(8, 8), (7, 6)])
def test_the_data_step_solves_its_subproblem(shape: tuple[int, int]) -> None:
    """Against dense matrices: (P + K^T K)^{-1} (P u + K^T b)."""
    data = problem(shape, 1)
    D = FourierDataStep(data["symbol"], data["b"], weight(), data["sigma"], "weight")
    blur = Blur(motion_kernels(torch.Generator().manual_seed(7), 1, 5), shape)
    K = dense(lambda u: blur(u[None])[0], (1, *shape))[0]
    p = D.spectrum().detach()[0]
    P = HalfSpectral(p.expand(1, shape[0], shape[1] // 2 + 1), shape[1]).matrix((1, *shape))
    u = torch.randn(1, 1, *shape)
    right = P @ u.flatten() + K.mT @ data["b"].flatten()
    assert torch.allclose(D(u).flatten(), torch.linalg.solve(P + K.mT @ K, right), atol=1e-10)
    ours = D.metric.matrix((1, *shape))
    assert torch.allclose(ours, P / P.diagonal().new_tensor(float(p.min())), atol=1e-9)


def test_the_start_is_the_tikhonov_solution() -> None:
    data = problem((8, 8), 1)
    S = FourierStart(data["symbol"], data["b"], weight(), data["sigma"])
    blur = Blur(motion_kernels(torch.Generator().manual_seed(7), 1, 5), (8, 8))
    u0 = S.start().detach().requires_grad_()
    half = HalfSpectral(S.spectrum().detach(), 8)
    cost = (blur(u0) - data["b"]).square().sum() / 2 + half.inner(u0, u0).sum() / 2
    (gradient,) = torch.autograd.grad(cost, u0)
    assert float(gradient.abs().max()) <= 1e-12
    with pytest.raises(errors.ConditionError, match="a FourierStart"):
        FourierHalfQuadratic(
            FourierDataStep(data["symbol"], data["b"]), CertifiedConv(1, 2, 1)
        ).initial()


def affine(scale: float, averaged: float) -> Lambda:
    return Lambda(lambda u: scale * u + 0.1 * torch.cos(torch.arange(u.shape[-1])), Identity(3),
                  averaged)  # fmt: skip


@pytest.mark.parametrize("metric", KINDS)
@pytest.mark.parametrize("form", [FourierHalfQuadratic, FourierDouglasRachford])
def test_fixed_points_against_a_dense_solve(form: Any, metric: str) -> None:
    data = problem((8, 8), 1)
    D = form(
        FourierDataStep(data["symbol"], data["b"], weight(), data["sigma"], metric),
        affine(0.6, 0.5),
    )
    G, c = dense(lambda u: D(u[None])[0], (1, 8, 8))
    expected = torch.linalg.solve(torch.eye(64) - G, c)
    run = bmo.GKM(D.prepared(), 0.5).iterate(torch.zeros(1, 1, 8, 8), 20_000, tol=1e-13)
    assert run.converged
    assert torch.allclose(run.value.flatten(), expected, atol=1e-9)


@pytest.mark.parametrize("metric", KINDS)
@pytest.mark.parametrize("form", [FourierHalfQuadratic, FourierDouglasRachford])
def test_with_a_network_nonexpansive_in_its_metric(form: Any, metric: str) -> None:
    for seed in range(3):
        torch.manual_seed(seed)
        data = step("prox", metric, colours=3)
        network = CertifiedConv(3, 4, 2, averaged=0.5).to(f64)
        with torch.no_grad():
            for parameter in network.parameters():
                parameter.add_(torch.randn_like(parameter))
        D = form(data, network).prepared()
        assert D.certified == "by construction"
        found = bmo.certify.nonexpansive(D, shape=(2, 3, 8, 9), trials=8, ascent=8)
        assert found.holds, found
        if form is FourierHalfQuadratic:
            assert D.averaged < 1
            assert bmo.certify.averaged(D, D.averaged, shape=(2, 3, 8, 9), trials=8, ascent=8).holds


def test_a_network_that_is_not_carried_into_the_metric_expands() -> None:
    """The Euclidean one is harmless in I, and not in P: that is why N_P is needed."""
    data = problem((8, 8), 1)
    p = FourierWeight(torch.logspace(-5, 2, 6), 6)
    D = FourierDataStep(data["symbol"], data["b"], p, metric="weight")
    relu = Lambda(torch.relu, Identity(3))
    composed = Lambda(lambda u: D(torch.relu(u)), D.metric)
    found = bmo.certify.nonexpansive(composed, shape=(1, 1, 8, 8), trials=12, ascent=40)
    assert found.measured > 1.05
    carried = FourierHalfQuadratic(D, relu).prepared()
    assert bmo.certify.nonexpansive(carried, shape=(1, 1, 8, 8), trials=12, ascent=40).holds


@pytest.mark.parametrize("kind", STEPS)
@pytest.mark.parametrize("metric", KINDS)
def test_derivatives_through_the_loop(kind: str, metric: str) -> None:
    """Six steps of the bound operator, in every parameter, the start's included."""
    data = problem((5, 5), 2)
    D = FourierHalfQuadratic(
        STEPS[kind](data["symbol"], data["b"], weight(3), data["sigma"], metric),
        CertifiedConv(1, 2, 2, activation="relu").to(f64),
        FourierStart(data["symbol"], data["b"], weight(2), data["sigma"]),
    )
    with torch.no_grad():
        for p in D.denoiser.parameters():  # away from the start, where a max is a tie
            p.add_(0.3 * torch.randn_like(p))
    names = [name for name, _ in D.named_parameters()]

    def run(*values: Tensor) -> Tensor:
        def loop(operator: Any) -> Tensor:
            T = bmo.GKM(operator.prepared(), 0.7)
            u = T.operator.initial()
            for _ in range(6):
                u = T(u)
            return u + T.metric.solve(u)

        return torch.func.functional_call(
            _Call(D, loop), {f"operator.{n}": v for n, v in zip(names, values, strict=True)}
        )

    start = [p.detach().clone().requires_grad_() for p in D.parameters()]
    assert torch.autograd.gradcheck(run, start, rtol=1e-4, atol=1e-7)


class _Call(torch.nn.Module):
    """A function of an operator as a module, so that its parameters can be replaced."""

    def __init__(self, operator: torch.nn.Module, function: Any) -> None:
        super().__init__()
        self.operator, self.function = operator, function

    def forward(self) -> Tensor:
        return self.function(self.operator)


def test_hypergradients_by_the_implicit_method_agree_with_reverse_mode() -> None:
    data = problem((6, 6), 1)
    D = FourierHalfQuadratic(
        FourierDataStep(data["symbol"], data["b"], weight(3, False)), affine(0.5, 0.75)
    )
    inner = bmo.Inner(bmo.GKM(D, 0.9), mu=0.0)
    truth = torch.rand(1, 1, 6, 6)

    def loss(u: Tensor, *rest: object) -> Tensor:
        return (u - truth).square().sum((-3, -2, -1)) / 2

    u = inner(torch.zeros(1, 1, 6, 6), loss, 400)
    (found,) = torch.autograd.grad(loss(u).sum(), D.data.weight.raw)
    v = u.detach().requires_grad_()
    (out,) = torch.autograd.grad(loss(v).sum(), v)
    G = dense(lambda x: D(x[None])[0], (1, 6, 6))[0]
    adjoint = torch.linalg.solve(torch.eye(36) - G.mT, out.flatten()).reshape(v.shape)
    (implicit,) = torch.autograd.grad(D(v.detach()), D.data.weight.raw, adjoint)
    assert torch.allclose(found, implicit, rtol=1e-6)


def test_binding_reaches_every_part_and_shares_parameters() -> None:
    small, large = problem((6, 6), 1), problem((9, 8), 3)
    D = FourierHalfQuadratic(
        FourierDataStep(small["symbol"], small["b"], weight(), small["sigma"], "weight"),
        Guided(),
        FourierStart(small["symbol"], small["b"], 0.01, small["sigma"]),
    )
    bound = D.bind(**large)
    assert bound(torch.zeros(3, 1, 9, 8)).shape == (3, 1, 9, 8)
    assert D(torch.zeros(1, 1, 6, 6)).shape == (1, 1, 6, 6)  # the old one is as it was
    assert torch.equal(bound.denoiser.guide, bound.initial())
    assert torch.equal(bound.denoiser.sigma, large["sigma"])
    for i in range(3):  # a batch is nothing but its images, kernels and levels included
        alone = D.bind(**{name: value[i : i + 1] for name, value in large.items()})
        u = torch.rand(1, 1, 9, 8)
        assert torch.allclose(bound(u.expand(3, 1, 9, 8))[i], alone(u)[0], atol=1e-12)
    given = D.bind(**large, guide=torch.zeros(3, 1, 9, 8))
    assert float(given.prepared().denoiser.guide.abs().max()) == 0
    assert torch.equal(given.bind(**large).denoiser.guide, bound.denoiser.guide)
    with pytest.raises(errors.ConditionError, match="one of the data"):
        D.bind(image=large["b"])
    before = bound(large["b"])
    with torch.no_grad():
        D.data.weight.raw.add_(1.0)
    assert not torch.allclose(D.bind(**large)(large["b"]), before)
    assert torch.allclose(D.bind(**large)(large["b"]), bound(large["b"]))  # shared, and noticed


class Guided(bmo.operators.Operator):
    """A denoiser that sees the noise level and the guide, as the networks of chapter 5 may."""

    certified = "by construction"

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("sigma", torch.zeros(1, 1, 1))
        self.register_buffer("guide", None)

    @property
    def metric(self) -> Metric:
        return Identity(3)

    def forward(self, u: Tensor) -> Tensor:
        return u / (1 + self.sigma) if self.guide is None else (u + self.guide) / 2


def test_conversions_keep_the_symbol_complex() -> None:
    data = problem()
    D = FourierHalfQuadratic(
        FourierDataStep(data["symbol"], data["b"], weight(), data["sigma"], "weight"),
        CertifiedConv(1, 2, 1).to(f64),
    )
    u = torch.rand(2, 1, 8, 9)
    before = D(u)
    single = D.to(torch.float32)
    assert single.data.symbol.dtype == torch.complex64
    after = single.prepared()(u.float())
    assert after.dtype == torch.float32
    assert torch.allclose(before, after.double(), atol=1e-4)
    assert bmo.GKM(single.double().prepared(), 0.5).iterate(u, 3).iterations == 3


def test_a_spectrum_is_one_function_for_every_size() -> None:
    """Values at common frequencies agree; even; and hats sum to one."""
    p = weight(5, per_sigma=False)
    like = torch.zeros(())
    small, large = p((6, 8), like).detach(), p((12, 16), like).detach()
    assert torch.allclose(small, large[:, ::2, ::2], rtol=1e-12)
    whole = torch.fft.fft2(torch.fft.irfft2(p((7, 8), like).detach(), s=(7, 8)))
    assert float(whole.imag.abs().max()) <= 1e-12 * float(whole.real.max())
    assert torch.allclose(whole.real[..., :5], p((7, 8), like).detach())
    knots = torch.tensor([0.01, 0.1, 1.0, 10.0])
    ends = FourierWeight(knots, 4)((8, 8), like).detach()
    assert float(ends[0, 0, 0]) == pytest.approx(0.01)
    assert float(ends[0, 4, 4]) == pytest.approx(10.0)
    level = FourierWeight(0.1, per_sigma=True)
    with torch.no_grad():
        level.exponent.fill_(0.3)
    two = level((4, 4), like, torch.tensor([0.01, 0.02, 0.04]).reshape(3, 1, 1, 1)).flatten()
    assert float(two[1].detach()) == pytest.approx(0.1)
    assert bool((two.diff() > 0).all())


def test_the_box_gives_fixed_points_where_there_were_none() -> None:
    """A kernel with a zero, and a denoiser that pushes there: without the box no fixed point."""
    k = torch.tensor([[0.25, 0.5, 0.25]])
    blur = Blur(k, (8, 8))
    b = torch.full((1, 1, 8, 8), 0.5)
    wave = 0.1 * (-1.0) ** torch.arange(8)
    push = Lambda(lambda u: u + wave, Identity(3))
    data = FourierDataStep(blur.symbol, b, 0.1)
    assert data.factor == 1.0
    free = bmo.GKM(FourierHalfQuadratic(data, push), 0.5).iterate(b, 400)
    assert float(free.value.abs().max()) == pytest.approx(400 * 0.05 + 0.5, rel=0.01)
    assert float(free.residuals[-1]) == pytest.approx(float(free.residuals[0]), rel=1e-9)
    D = FourierHalfQuadratic(data, push, domain=Box(0.0, 1.0))
    held = bmo.GKM(D, 0.5).iterate(b, 20_000, tol=1e-12)
    assert held.converged
    assert D.averaged == 1.0
    firm = FourierHalfQuadratic(data, affine(0.5, 0.5), domain=Box(0.0, 1.0))
    total = data.averaged / (1 - data.averaged) + 1 + 1
    assert firm.averaged == pytest.approx(total / (1 + total))


B, SYMBOL = torch.zeros(2, 1, 8, 8, dtype=f64), torch.ones(2, 1, 8, 5, dtype=torch.complex128)
BAD: dict[str, tuple[Any, type[errors.BMOError], str]] = {
    "metric": (lambda: FourierDataStep(SYMBOL, B, metric="l2"), errors.ConditionError, "metric"),
    "b": (lambda: FourierDataStep(SYMBOL, B[0, 0]), errors.ShapeError, "b: floating"),
    "symbol": (lambda: FourierDataStep(SYMBOL[..., :4], B), errors.ShapeError, "symbol: "),
    "precision": (lambda: FourierDataStep(SYMBOL, B.float()), errors.ShapeError, "complex64"),
    "batch": (
        lambda: FourierDataStep(SYMBOL, B).bind(b=B[:1].expand(3, 1, 8, 8)),
        errors.ShapeError,
        "one for each image",
    ),
    "single": (lambda: FourierDataStep(SYMBOL, B[0]), errors.ShapeError, "one for each image"),
    "sigma": (
        lambda: FourierDataStep(SYMBOL, B, sigma=torch.ones(3)),
        errors.ShapeError,
        "sigma: one",
    ),
    "no noise": (lambda: FourierDataStep(SYMBOL, B, sigma=0.0), errors.DomainError, "sigma > 0"),
    "nan": (lambda: FourierDataStep(SYMBOL, B * torch.nan), errors.NonFiniteError, "finite b"),
    "image": (
        lambda: FourierDataStep(SYMBOL, B)(torch.zeros(2, 1, 8, 7, dtype=f64)),
        errors.ShapeError,
        "their own b",
    ),
    "knots": (lambda: FourierWeight(0.1, 0), errors.ConditionError, "one knot"),
    "values": (lambda: FourierWeight(torch.ones(2), 3), errors.ShapeError, "start value"),
    "range": (lambda: FourierWeight(-1.0), errors.DomainError, "start values"),
    "level": (
        lambda: FourierWeight(0.1, per_sigma=True)((8, 8), B),
        errors.ConditionError,
        "noise level",
    ),
    "half": (lambda: HalfSpectral(torch.ones(1, 4, 4), 4), errors.MetricError, "half a spectrum"),
    "positive": (lambda: HalfSpectral(-torch.ones(1, 4, 3), 4), errors.MetricError, "symbol"),
    "size": (
        lambda: HalfSpectral(torch.ones(1, 4, 3), 4).apply(torch.zeros(1, 6, 4)),
        errors.MetricError,
        "images of",
    ),
    "denoiser": (
        lambda: FourierHalfQuadratic(
            FourierDataStep(SYMBOL, B), Lambda(torch.relu, spectrum((8, 8)))
        ),
        errors.MetricError,
        "Euclidean",
    ),
    "firm": (
        lambda: FourierDouglasRachford(FourierDataStep(SYMBOL, B), affine(1.0, 0.9)),
        errors.ConditionError,
        "firmly nonexpansive denoiser",
    ),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_input_is_refused(case: str) -> None:
    make, kind, words = BAD[case]
    with pytest.raises(kind, match=words) as caught:
        make()
    assert caught.value.remedy


def test_half_spectral_is_spectral() -> None:
    for shape in ((6, 8), (7, 5)):
        full = spectrum(shape)
        half = HalfSpectral(full.symbol[..., : shape[1] // 2 + 1], shape[1])  # type: ignore[attr-defined]
        u = torch.randn(2, 1, *shape)
        for act in ("apply", "solve", "factor", "unfactor", "norm"):
            assert torch.allclose(getattr(half, act)(u), getattr(full, act)(u), atol=1e-10)
        assert half.bounds() == pytest.approx(full.bounds())
        assert half.event_shape() == (1, *shape)
        assert bmo.certify.metric_is_spd(half, shape=(1, *shape)).holds
