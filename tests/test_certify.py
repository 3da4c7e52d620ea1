"""Certificates: each claim that holds is let pass, each that fails is caught and shown."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import bmo
from bmo import certify
from bmo.certify.jacobian import jacobian
from bmo.certify.search import Sample
from bmo.errors import CertificateError, DomainError, NonFiniteError, ShapeError
from bmo.metric import Block, Dense, Diagonal, Functional, Identity, Scaled, Spectral
from bmo.operators import Lambda
from bmo.sets import Box
from tests.instances import F64, generator, nonexpansive_map, normal, spd, square_root

RELU_METRIC = Dense(torch.tensor([[1.0, 0.9], [0.9, 1.0]], dtype=F64))


def ratio(D, metric, where) -> float:
    """Recompute what the evidence claims from where it says it is."""
    u = where["u"]
    if "v" in where:
        v = where["v"]
        return float(metric.distance(D(u), D(v)) / metric.distance(u, v))
    d, h = where["direction"], 1e-6
    return float(metric.distance(D(u + h * d), D(u - h * d)) / metric.norm(2 * h * d))


# --- nonexpansive --------------------------------------------------------------------------------


@pytest.mark.parametrize("n", [3, 80])  # the whole Jacobian, and power iteration
def test_the_norm_of_a_matrix_is_found(n: int) -> None:
    g = generator(n)
    H = spd(g, n, cond=30.0)
    M = normal(g, n, n)
    root = square_root(H)
    norm = float(torch.linalg.matrix_norm(root @ M @ torch.linalg.inv(root), 2))
    D = Lambda(lambda u: u @ (M / norm).mT, Dense(H))
    found = certify.nonexpansive(D)
    assert found.holds
    assert found.measured == pytest.approx(1.0, abs=1e-10 if n == 3 else 2e-3)
    assert set(found.found) == {"random pairs", "ascent", "Jacobian"}
    assert found.found["random pairs"] < found.measured
    assert ratio(D, Dense(H), found.where) == pytest.approx(found.measured, rel=1e-6)
    long = Lambda(lambda u: 1.01 * D(u), Dense(H))
    assert not certify.nonexpansive(long).holds
    assert certify.nonexpansive(long, limit=1.02).holds


def test_relu_in_a_skew_metric() -> None:
    """Ratio sqrt(5) on the pair (1, -1), 0; 1/sqrt(0.19) at most; both found and shown."""
    D = Lambda(torch.relu, RELU_METRIC)
    u, v = torch.tensor([1.0, -1.0], dtype=F64), torch.zeros(2, dtype=F64)
    pair = float(RELU_METRIC.distance(D(u), D(v)) / RELU_METRIC.distance(u, v))
    assert pair == pytest.approx(math.sqrt(5), rel=1e-12)
    worst = 1 / math.sqrt(0.19)
    found = certify.nonexpansive(D)
    assert found.measured == pytest.approx(worst, rel=1e-9)
    assert found.found["ascent"] == pytest.approx(worst, rel=1e-3)
    assert ratio(D, RELU_METRIC, found.where) == pytest.approx(worst, rel=1e-6)
    pairs = certify.nonexpansive(D, ascent=0)
    assert set(pairs.found) == {"random pairs"} and 1 < pairs.measured <= worst
    assert ratio(D, RELU_METRIC, pairs.where) == pytest.approx(pairs.measured, rel=1e-9)
    with pytest.raises(CertificateError, match="nonexpansive in its metric") as caught:
        certify.require(found)
    assert caught.value.value is found
    assert certify.nonexpansive(D, metric=Identity(), size=2).holds


def test_power_iteration_and_the_whole_jacobian_agree() -> None:
    g = generator(5)
    H = spd(g, 6, cond=10.0)
    D = nonexpansive_map(g, H, torch.zeros(6, dtype=F64))
    u, d = normal(g, 4, 6), normal(g, 4, 6)
    exact, way = jacobian(D, Dense(H), u, d, 1)
    iterated, _ = jacobian(D, Dense(H), u, d, 4000, small=0)
    torch.testing.assert_close(iterated, exact, rtol=1e-6, atol=0)
    torch.testing.assert_close(Dense(H).norm(way), torch.ones(4, dtype=F64), rtol=1e-10, atol=0)
    J = torch.autograd.functional.jacobian(D, u[0])
    torch.testing.assert_close(Dense(H).norm(J @ way[0]), exact[0], rtol=1e-9, atol=0)


def test_the_ascent_finds_what_no_derivative_sees() -> None:
    """Slope 1 almost everywhere, and a jump that only a pair across it can show."""
    D = Lambda(lambda u: u + 0.5 * torch.sign(u - 0.8), Identity())
    found = certify.nonexpansive(D, size=1)
    assert not found.holds and found.method in {"ascent", "random pairs"}
    assert found.found["Jacobian"] == pytest.approx(1.0, abs=1e-12)


def test_random_maps_that_are_nonexpansive_pass() -> None:
    for seed in range(25):
        g = generator(seed)
        H = spd(g, 4, cond=1e4 if seed % 2 else 10.0)
        D = Lambda(nonexpansive_map(g, H, normal(g, 4)), Dense(H))
        found = certify.require(certify.nonexpansive(D, seed=seed, trials=24, ascent=10))
        assert found.measured <= 1 + 1e-10


def test_a_claim_on_a_set_looks_only_there() -> None:
    D = Lambda(lambda u: u**2 / 2, Identity())  # slope u: nonexpansive on [-1, 1] only
    inside = certify.nonexpansive(D, size=2, domain=Box(-1.0, 1.0), scale=3.0)
    assert inside.holds and inside.measured == pytest.approx(1.0, abs=2e-2)
    for point in inside.where.values():
        assert bool(Box(-1.0, 1.0).contains(point))
    assert not certify.nonexpansive(D, size=2, scale=3.0).holds


def test_images_batches_and_learned_maps() -> None:
    g = generator(6)
    symbol = torch.fft.fft2(normal(g, 4, 4)).abs().square() + 0.5
    H = Spectral(symbol)
    shift = Lambda(lambda u: u.roll(1, -1), H)  # commutes with the metric: an isometry
    found = certify.nonexpansive(shift, shape=(1, 4, 4), ascent=8)
    assert found.holds and found.measured == pytest.approx(1.0, abs=1e-11)
    assert found.where["u"].shape == (1, 4, 4)
    A = normal(g, 3, 4)
    L = float(torch.linalg.matrix_norm(A, 2) ** 2)
    f = bmo.LeastSquares(A, normal(g, 5, 3))
    bound = bmo.ProximalGradient(f, bmo.prox.L1(0.1), step=2 / L)
    found = certify.nonexpansive(bound, shape=(5, 4), trials=12)
    assert found.where["u"].shape == (4,) and found.measured == pytest.approx(1.0, abs=1e-10)
    linear = nn.Linear(3, 3).double()
    learned = certify.nonexpansive(Lambda(linear, Identity()), size=3)
    norm = float(torch.linalg.matrix_norm(linear.weight.detach(), 2))
    assert learned.measured == pytest.approx(norm, rel=1e-10)
    assert linear.weight.grad is None


def test_constant_maps_and_degenerate_jacobians() -> None:
    fixed = certify.nonexpansive(Lambda(lambda u: torch.zeros_like(u), Identity()), size=2)
    assert fixed.measured == 0.0
    flat = certify.nonexpansive(Lambda(lambda u: u.detach() * 0 + 1, Identity()), size=70)
    assert flat.measured == 0.0
    partial = Lambda(lambda u: torch.cat([u[..., :1], 0 * u[..., 1:]], -1), Identity())
    assert certify.nonexpansive(partial, size=70, trials=8).measured == pytest.approx(1.0)


def test_float32_and_the_dtype_of_the_metric() -> None:
    g = generator(7)
    H = spd(g, 3)
    D = Lambda(nonexpansive_map(g, H, torch.zeros(3, dtype=F64)), Dense(H))
    single = Lambda(lambda u: D(u.double()).float(), Block([3], [Dense(H.float())]))
    found = certify.nonexpansive(single)
    assert found.holds and found.where["u"].dtype == torch.float32
    assert not certify.nonexpansive(Lambda(lambda u: 1.01 * u, single.metric)).holds


def test_the_same_seed_gives_the_same_evidence() -> None:
    D = Lambda(torch.sin, Identity())
    before = torch.random.get_rng_state()
    one, two = (certify.nonexpansive(D, size=3, seed=4) for _ in range(2))
    assert one.found == two.found
    assert torch.equal(before, torch.random.get_rng_state())
    assert certify.nonexpansive(D, size=3, seed=5).found != one.found


def test_pairs_are_drawn_in_three_ways() -> None:
    u, v = Sample((4,), 30, 1.0, None, torch.empty(0, dtype=F64), 0).pairs()
    moved = ((u - v) != 0).sum(-1)
    assert moved[2::3].tolist() == [1] * 10 and moved[:2].tolist() == [4, 4]
    assert float((u - v)[1::3].norm()) < 0.1 * float((u - v)[::3].norm())


def test_questions_that_cannot_be_asked() -> None:
    D = Lambda(lambda u: u, Identity())
    with pytest.raises(ShapeError, match="pass size=n"):
        certify.nonexpansive(D)
    with pytest.raises(ShapeError, match="metric=bmo.metric.Identity"):
        certify.nonexpansive(lambda u: u, size=2)
    with pytest.raises(DomainError, match="trials >= 1"):
        certify.nonexpansive(D, size=2, trials=0)
    with pytest.raises(NonFiniteError, match="narrow scale or domain"):
        certify.nonexpansive(Lambda(lambda u: u.log(), Identity()), size=2)


# --- averaged, contraction -----------------------------------------------------------------------


def test_averagedness_is_sharp() -> None:
    g = generator(8)
    q, _ = torch.linalg.qr(normal(g, 4, 4))
    for a in (0.2, 0.6, 0.9):
        D = Lambda(lambda u, a=a: (1 - a) * u + a * u @ q, Identity())
        assert certify.averaged(D, a, size=4).measured == pytest.approx(1.0, abs=1e-10)
        assert not certify.averaged(D, 0.99 * a, size=4).holds
        assert certify.averaged(D, min(1.0, 1.01 * a), size=4).holds
    for a in (0.0, 1.1, math.nan):
        with pytest.raises(DomainError, match=r"a in \(0, 1\]"):
            certify.averaged(D, a, size=4)


def test_the_contraction_factor() -> None:
    d = torch.tensor([0.3, -0.8], dtype=F64)
    D = Lambda(lambda u: d * u, Identity())
    assert certify.contraction(D, size=2).measured == pytest.approx(0.8, abs=1e-10)
    T = bmo.GKM(D, 0.5)
    found = certify.contraction(T, size=2)
    assert found.holds and found.measured == pytest.approx(0.65, abs=1e-10)
    assert certify.contraction(T, factor=0.65, size=2).holds
    assert not certify.contraction(T, factor=0.64, size=2).holds
    assert not certify.contraction(Lambda(lambda u: -u, Identity()), size=2).holds


# --- traces and points ---------------------------------------------------------------------------


def test_fejer_monotone_traces_and_others() -> None:
    g = generator(9)
    H, center = spd(g, 3), normal(g, 3)
    T = bmo.GKM(Lambda(nonexpansive_map(g, H, center), Dense(H)), 0.6)
    run = T.iterate(normal(g, 5, 3), iterations=20, observe={"u": lambda u: u})
    assert certify.fejer(run.trace["u"], center, Dense(H)).holds
    assert certify.fejer(run.traced("u"), center, Dense(H)).holds
    path = torch.tensor([[2.0], [1.0], [1.5], [0.0]], dtype=F64)
    found = certify.fejer(path, torch.zeros(1, dtype=F64), Identity())
    assert not found.holds and found.measured == 0.25
    assert found.where["k"].item() == 1 and found.where["after"].item() == 1.5
    batch = torch.stack([path.flip(0) * 0 + 1, path], 1)
    found = certify.fejer(batch, torch.zeros(1, dtype=F64), Identity())
    assert found.measured == 0.25 and found.where["k"].item() == 1
    with pytest.raises(ShapeError, match="two iterates"):
        certify.fejer(path[:1], torch.zeros(1), Identity())


def test_residual_of_the_worst_point() -> None:
    T = bmo.GKM(Lambda(lambda u: 0 * u, Scaled(4.0)), 0.5)
    u = torch.tensor([[1.0], [-3.0], [2.0]], dtype=F64)
    found = certify.residual(T, u, limit=2.9)
    assert found.measured == 3.0 and not found.holds and found.where["u"].item() == -3.0
    assert certify.residual(T, u, limit=3.0).holds
    assert certify.residual(lambda u: u, u, metric=Identity()).measured == 0.0


# --- metrics -------------------------------------------------------------------------------------


def metrics_that_are_none() -> dict[str, bmo.metric.Metric]:
    g = generator(10)
    H = spd(g, 3, cond=10.0)
    low, high = Dense(H).bounds()
    tilt = H + torch.tensor([[0, 0.1, 0], [0, 0, 0], [0, 0, 0]], dtype=F64)
    q, _ = torch.linalg.qr(normal(g, 3, 3))
    thin = q @ torch.diag(torch.tensor([-1e-3, 1.0, 1.0], dtype=F64)) @ q.mT

    class WrongNorm(Dense):
        def norm(self, u: Tensor) -> Tensor:
            return u.norm(dim=-1)

    class WrongInverse(Dense):
        def solve(self, u: Tensor) -> Tensor:
            return u

    return {
        "symmetry": Functional(lambda u: u @ tilt, low, high),
        "positivity": Functional(lambda u: -u, 0.1, 1.0),
        "smallest eigenvalue": Functional(lambda u: u @ thin, 1e-3, 1.0),
        "bounds": Functional(lambda u: u @ H, 0.9 * high, high),
        "norm": WrongNorm(H),
        "inverse": WrongInverse(H),
    }


@pytest.mark.parametrize("law", metrics_that_are_none())
def test_what_is_no_metric_is_caught_by_its_law(law: str) -> None:
    metric = metrics_that_are_none()[law]
    found = certify.metric_is_spd(metric, n=3)
    assert not found.holds and found.found[law] > found.guaranteed
    assert found.where["u"].shape == (3,)
    if law not in {"bounds"}:  # a wrong bound also spoils the solve that relies on it
        assert found.method == law
    with pytest.raises(CertificateError, match="a metric"):
        certify.require(found)


def test_every_kind_of_metric_passes() -> None:
    from tests.test_metric import CASES

    for name, case in CASES.items():
        found = certify.metric_is_spd(case.metric, shape=case.shape)
        assert found.holds, (name, found)
    large = certify.metric_is_spd(Diagonal(torch.linspace(1, 2, 500, dtype=F64)))
    assert large.holds and large.found["smallest eigenvalue"] == 0.0


# --- convolutions --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("c_out", "c_in", "size", "height", "width"),
    [(1, 1, 3, 5, 4), (2, 3, 3, 4, 5), (3, 2, 5, 6, 5), (2, 2, 3, 2, 2), (1, 2, 1, 1, 3)],
)
def test_the_norm_of_a_circular_convolution_is_exact(c_out, c_in, size, height, width) -> None:
    """Against the dense matrix of the convolution, built pixel by pixel (wrapping around)."""
    kernel = normal(generator(size), c_out, c_in, size, size)
    matrix = np.zeros((c_out, height, width, c_in, height, width))
    for i in range(height):
        for j in range(width):
            for a in range(size):
                for b in range(size):
                    matrix[:, i, j, :, (i + a) % height, (j + b) % width] += kernel[
                        ..., a, b
                    ].numpy()
    dense = matrix.reshape(c_out * height * width, -1)
    found = certify.circular_norm(kernel, height, width)
    assert float(found) == pytest.approx(np.linalg.norm(dense, 2), rel=1e-12)


def test_it_is_the_norm_of_torch_convolutions() -> None:
    kernel = normal(generator(1), 2, 2, 3, 3)
    eye = torch.eye(32, dtype=F64).reshape(32, 2, 4, 4)
    padded = nn.functional.pad(eye, (1, 1, 1, 1), mode="circular")
    dense = nn.functional.conv2d(padded, kernel).reshape(32, 32)
    expected = torch.linalg.matrix_norm(dense, 2)
    torch.testing.assert_close(certify.circular_norm(kernel, 4, 4), expected, rtol=1e-12, atol=0)
    D = Lambda(
        lambda u: nn.functional.conv2d(nn.functional.pad(u, (1, 1, 1, 1), mode="circular"), kernel),
        Identity(event_dims=3),
    )
    found = certify.nonexpansive(D, shape=(2, 4, 4), trials=6, ascent=5)
    assert found.measured == pytest.approx(float(expected), rel=1e-10)


def test_the_norm_is_differentiable_and_checked() -> None:
    kernel = normal(generator(2), 2, 1, 3, 3).requires_grad_()
    assert torch.autograd.gradcheck(lambda k: certify.circular_norm(k, 4, 5), (kernel,))
    assert certify.circular_norm(kernel.detach().float(), 4, 5).dtype == torch.float32
    for bad, height in ((kernel[0], 4), (kernel, 0)):
        with pytest.raises(ShapeError, match="c_out, c_in, kh, kw"):
            certify.circular_norm(bad, height, 4)


# --- evidence ------------------------------------------------------------------------------------


def test_evidence_speaks() -> None:
    good = certify.Evidence("a claim", 0.5, 1.0, True, {}, "random pairs")
    bad = certify.Evidence("a claim", 1.5, 1.0, False, {}, "ascent")
    assert bool(good) and not bool(bad)
    assert str(good) == "a claim: 0.5 <= 1 holds (worst case found by random pairs)"
    assert str(bad) == "a claim: 1.5 <= 1 FAILS (worst case found by ascent)"
    assert certify.require(good) is good


def test_a_map_of_another_dtype_is_named() -> None:
    A = torch.tensor([[0.5, 0.0], [0.1, 0.5]])  # float32, in a closure
    D = bmo.operators.Lambda(lambda u: u @ A.mT, bmo.metric.Identity())
    with pytest.raises(ShapeError, match=r"float64.*pass the dtype that it works in"):
        bmo.certify.nonexpansive(D, size=2)
    found = bmo.certify.nonexpansive(D, size=2, dtype=torch.float32)
    assert found.holds and found.measured == pytest.approx(
        float(torch.linalg.matrix_norm(A.double(), 2)), rel=1e-3
    )

    def broken(u: torch.Tensor) -> torch.Tensor:
        raise RuntimeError("out of paper")

    with pytest.raises(RuntimeError, match="out of paper"):
        bmo.certify.nonexpansive(bmo.operators.Lambda(broken, bmo.metric.Identity()), size=2)
