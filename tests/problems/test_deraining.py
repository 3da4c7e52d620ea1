"""Rain removal: the layers, their exact curvature, and a step feasible for every raw value."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from scipy.io import savemat
from scipy.optimize import lsq_linear
from torch import Tensor, nn

import bmo
from bmo.errors import (
    ConditionError,
    DataError,
    DomainError,
    MetricError,
    NonFiniteError,
    ShapeError,
)
from bmo.networks import CertifiedConv, CertifiedPotential, UBody
from bmo.problems import deraining
from bmo.problems.deraining import Derainer, Deraining, RainStep, kernels
from tests.instances import set_raw

f64 = torch.float64


def dense(kernels: Tensor, channels: int, height: int, width: int) -> Tensor:
    """K = [I, C] as a matrix, entry by entry from the definition of a circular convolution."""
    count, side, _ = kernels.shape
    pixels = height * width
    K = torch.zeros(channels * pixels, (channels + count) * pixels, dtype=f64)
    K[:, : channels * pixels] = torch.eye(channels * pixels, dtype=f64)
    offsets = range(-(side // 2), side // 2 + 1)
    for n, i, j in itertools.product(range(count), range(height), range(width)):
        for s, t in itertools.product(offsets, offsets):
            to = ((i + s) % height) * width + (j + t) % width
            value = kernels[n, s + side // 2, t + side // 2]
            for c in range(channels):
                K[c * pixels + to, (channels + n) * pixels + i * width + j] += value
    return K


def make(
    channels: int = 2, maps: int = 2, shape: tuple[int, int] = (4, 5), **options: object
) -> RainStep:
    kernels = torch.randn(maps, 3, 3, dtype=f64)
    b = torch.rand(channels, *shape, dtype=f64)
    return RainStep(kernels, b, **{"threshold": 0.05, **options})  # type: ignore[arg-type]


@pytest.mark.parametrize("shape", [(4, 5), (3, 3), (7, 6)])
def test_layer_and_adjoint_are_the_dense_matrix(shape: tuple[int, int]) -> None:
    C = torch.randn(2, 5, 5, dtype=f64)
    K = dense(C, 1, *shape)
    M, R = torch.randn(3, 2, *shape, dtype=f64), torch.randn(3, 1, *shape, dtype=f64)
    columns = K[:, shape[0] * shape[1] :]
    layer = (M.flatten(1) @ columns.mT).reshape(R.shape)
    assert torch.allclose(deraining.rain_layer(C, M), layer, atol=1e-12)
    adjoint = (R.flatten(1) @ columns).reshape(M.shape)
    assert torch.allclose(deraining.rain_adjoint(C, R), adjoint, atol=1e-12)
    assert deraining.rain_layer(C, M[0]).shape == R[0].shape


@pytest.mark.parametrize("shape", [(4, 5), (3, 3), (6, 8), (2, 7)])
@pytest.mark.parametrize("channels", [1, 3])
def test_curvature_is_the_largest_eigenvalue(shape: tuple[int, int], channels: int) -> None:
    C = torch.randn(3, 5, 5, dtype=f64)
    background, rain = torch.tensor(0.7, dtype=f64), torch.tensor([0.4, 2.0, 9.0], dtype=f64)
    pixels = shape[0] * shape[1]
    weights = torch.cat([background.expand(channels), rain]).repeat_interleave(pixels)
    scaled = dense(C, channels, *shape) / weights.sqrt()
    exact = torch.linalg.matrix_norm(scaled, 2) ** 2
    found = deraining.curvature(C, background, rain, channels, shape)
    assert torch.allclose(found, exact, rtol=1e-12)
    assert found <= deraining.curvature_bound(C, background, rain, channels)


@pytest.mark.parametrize(("side", "grid"), [(3, 16), (9, 16), (9, 32), (9, 128)])
def test_bound_holds_for_every_size_and_is_close(side: int, grid: int) -> None:
    infinite = torch.tensor(float("inf"), dtype=f64)
    for trial in range(20):
        C = torch.randn(2, side, side, dtype=f64)
        if trial % 2:  # a single wave, tuned to fall between the frequencies of the grid
            at = torch.arange(side, dtype=f64)
            C = torch.cos((at[:, None] + at) * torch.pi * (2 * trial + 1) / grid).expand(2, -1, -1)
        rain = torch.rand(2, dtype=f64) + 0.1
        bound = deraining.curvature_bound(C, infinite, rain, 3, grid)
        sizes = [(side // 2, 11), (11, 12), (grid, grid), (199, 203), (256, 300)]
        exact = max(deraining.curvature(C, infinite, rain, 3, size) for size in sizes)
        loss = np.cos(np.pi * (side // 2) / grid) ** -4
        assert exact <= bound <= exact * loss * (1 + 1e-3)


def expansion(D: Derainer | RainStep, shape: tuple[int, ...]) -> float:
    """The largest ratio of distances that random pairs and true Jacobians show."""
    metric = D.metric
    with torch.no_grad():
        u = (
            torch.randn(40, *shape, dtype=f64)
            * 10 ** torch.linspace(-2, 1, 40)[:, None, None, None]
        )
        v = u + torch.randn_like(u) * 10 ** torch.linspace(1, -3, 40)[:, None, None, None]
        worst = float((metric.norm(D(u) - D(v)) / metric.norm(u - v)).max())
        R = metric.weights().expand(shape).flatten().sqrt()  # type: ignore[union-attr]
    for point in u[::13]:
        J = torch.autograd.functional.jacobian(lambda x: D(x), point)
        J = R[:, None] * J.reshape(R.numel(), R.numel()) / R
        worst = max(worst, float(torch.linalg.matrix_norm(J, 2)))
    return worst


@pytest.mark.parametrize("kind", ["1e3", "-1e3", "0.5", "mixed", "random"])
def test_feasible_for_every_raw_value(kind: str) -> None:
    for _ in range(5 if kind in ("random", "mixed") else 1):
        D = make(box=None)
        set_raw(D, kind)
        p = D.metric.weights()
        assert p is not None
        p = p.flatten().detach()
        assert bool((p > 0).all())
        for shape in [(4, 5), (64, 63)]:
            top = deraining.curvature(D.C, p[0], p[2:], 2, shape)
            assert float(top.detach()) <= 2 * (1 + 1e-12)
        assert expansion(D, (4, 4, 5)) <= 1 + 1e-10
        assert 0.5 <= D.averaged <= 1


def test_the_condition_is_sharp() -> None:
    """A metric below the condition by 1 % expands: without the proximal part, "only if" holds."""
    D = make(channels=1, maps=1, box=None, learn=(), threshold=1e-9)
    p = D.metric.weights()
    assert p is not None
    p = p.flatten()
    top = deraining.curvature(D.C, p[0], p[1:], 1, (4, 5))
    for factor, expands in ((top / 2 * 0.99, True), (top / 2 * 1.01, False)):
        K = dense(D.C.detach(), 1, 4, 5)
        weights = (factor * p).repeat_interleave(20)
        step = torch.eye(40, dtype=f64) - K.mT @ K / weights[:, None]
        norm = torch.linalg.matrix_norm(weights.sqrt()[:, None] * step / weights.sqrt(), 2)
        assert (float(norm.detach()) > 1 + 1e-3) == expands


def whole(step: RainStep, rain_net: bool = True) -> Derainer:
    background = CertifiedConv(channels=2, hidden=4, depth=2, averaged=0.9)
    rain = CertifiedConv(channels=2, hidden=4, depth=2, averaged=0.6) if rain_net else None
    return Derainer(step, background, rain).double()


@pytest.mark.parametrize("kind", ["0.5", "mixed", "random"])
def test_with_networks_feasible_for_every_raw_value(kind: str) -> None:
    torch.set_default_dtype(f64)
    D = whole(make())
    set_raw(D, kind)
    assert expansion(D, (4, 4, 5)) <= 1 + 1e-10
    evidence = bmo.certify.nonexpansive(D, shape=(4, 4, 5), trials=4)
    assert evidence.holds
    assert D.certified == "by construction"


def test_averaged_constant_of_the_whole() -> None:
    D = make()
    assert D.averaged == pytest.approx(1 / 1.5, rel=0.1)  # curvature about 1 at the start
    assert Derainer(D).averaged == D.averaged
    full = whole(D)
    a, b = 0.9 / 0.1, D.averaged / (1 - D.averaged)
    assert full.averaged == pytest.approx((a + b) / (1 + a + b))
    sharp = CertifiedConv(channels=2, hidden=4, depth=2, averaged=1.0)
    assert Derainer(D, sharp.double()).averaged == 1.0
    assert bmo.certify.averaged(full, full.averaged, shape=(4, 4, 5), trials=4).holds


def test_a_conjugation_is_needed_on_the_maps() -> None:
    """The network without it expands in the metric, as soon as the maps' weights differ."""
    swap = bmo.operators.Lambda(lambda M: M.flip(-3), bmo.metric.Identity(3))
    D = make(box=None)
    with torch.no_grad():
        D.weight.raw.copy_(torch.tensor([0.0, 9.0, -9.0], dtype=f64))
    M, root = torch.randn(2, 4, 5, dtype=f64), D.prepare().rain.sqrt()
    heavy = M.clone()
    heavy[D.prepare().rain.argmax()] = 0.0  # only the light map is filled; the swap fills the other
    norm = float((root * heavy).norm().detach())
    assert float((root * swap(heavy)).norm().detach()) > 1.5 * norm
    assert expansion(Derainer(D, None, swap), (4, 4, 5)) <= 1 + 1e-10


def reference(D: RainStep) -> Tensor:
    """The minimiser of the training objective, by bounded least squares on dense matrices."""
    height, width = D.b.shape[-2:]
    K = dense(D.C.detach(), D.channels, height, width)
    p = D.metric.weights()
    assert p is not None
    weights = p.detach().flatten().repeat_interleave(height * width)
    cost = torch.zeros_like(weights)
    cut = (D.prepare().cut * D.prepare().rain).detach().expand(D.maps, height, width)
    cost[D.channels * height * width :] = cut.flatten()
    anchor = D.start().flatten()
    Q = K.mT @ K + D.ridge * torch.diag(weights)
    q = K.mT @ D.b.flatten() + D.ridge * weights * anchor - cost
    R = torch.linalg.cholesky(Q).mT
    low = np.zeros(len(q))
    assert D.box is not None
    low[: D.channels * height * width] = D.box[0]
    high = np.where(np.arange(len(q)) < D.channels * height * width, D.box[1], np.inf)
    target = torch.linalg.solve_triangular(R.mT, q[:, None], upper=False)[:, 0]
    found = lsq_linear(R.numpy(), target.numpy(), (low, high), method="bvls", tol=1e-14)
    return torch.from_numpy(found.x).reshape(-1, height, width)


@pytest.mark.parametrize("box", [(0.0, 1.0), (0.3, 0.6)])
@pytest.mark.parametrize("attention", [False, True])
def test_fixed_point_is_the_minimiser(box: tuple[float, float], attention: bool) -> None:
    torch.set_default_dtype(f64)
    network = nn.Conv2d(2, 2, 3, padding=1) if attention else None
    D = make(box=box, ridge=0.05, attention=network).bind(b=2 * torch.rand(2, 4, 5))
    T = bmo.GKM(D, alpha=0.9)
    u = T.iterate(D.start(), tol=1e-13, iterations=4000).value
    exact = reference(D)
    assert float((exact[2:] > 1e-6).double().mean()) > 0.05  # there is rain, and there is none
    assert float((exact[2:] < 1e-9).double().mean()) > 0.05
    assert torch.allclose(u, exact, atol=1e-9)


def test_without_a_prior_on_the_background_there_is_no_rain() -> None:
    """(O, 0) is then a minimiser: it is the denoiser that makes the rain visible."""
    D = make()
    assert torch.equal(D(D.start()), D.start())


def test_a_fixed_point_exists_whatever_the_network_does() -> None:
    """Even where the network alone has none: here it brightens without end."""
    for seed in (0, 1):
        torch.manual_seed(seed)
        shift = 3 * torch.rand(1, 3, 4, dtype=f64)
        brighten = bmo.operators.Lambda(lambda B, by=shift: B + by, bmo.metric.Identity(3))
        T = bmo.GKM(Derainer(make(1, 1, (3, 4)), brighten), alpha=0.9)
        result = T.iterate(10 * torch.rand(2, 3, 4, dtype=f64), tol=1e-7, iterations=3000)
        assert float(result.residuals[-1]) < 1e-4 < 1 < float(result.residuals[0])
        assert 0.1 < float(result.value[1].max()) < 10  # what is brighter is called rain


def test_ridge_contracts() -> None:
    D = whole(make(ridge=0.25))
    assert expansion(D, (4, 4, 5)) <= 1 / 1.25 + 1e-10


def test_without_a_ridge_it_still_converges_to_a_minimiser() -> None:
    D = make(channels=1, maps=1, box=(0.3, 0.6))
    T = bmo.GKM(D, alpha=0.9)
    result = T.iterate(D.start(), tol=1e-10, iterations=100_000)
    background, maps = D.split(result.value)
    residual = (background + D.rain(result.value) - D.b).detach()
    with torch.no_grad():
        slope = deraining.rain_adjoint(D.C, residual) + D.theta()[:, None, None]
    inside = (background > 0.3 + 1e-9) & (background < 0.6 - 1e-9)
    assert bool(inside.any()) and bool((maps > 1e-3).any())
    assert float(residual[inside].abs().max()) < 1e-8
    assert float(slope.min()) > -1e-8
    assert float((slope * maps).abs().max()) < 1e-8


def test_gradients() -> None:
    torch.set_default_dtype(f64)
    for attention in (None, nn.Conv2d(1, 2, 1)):
        D = make(1, 2, (3, 4), ridge=0.1, attention=attention)
        names = [name for name, _ in D.named_parameters()]
        u, b = torch.rand(2, 3, 3, 4), torch.rand(2, 1, 3, 4)

        def run(u: Tensor, b: Tensor, *values: Tensor, D=D, names=names) -> Tensor:  # noqa: ANN001
            at = {**dict(zip(names, values, strict=True)), "b": b}
            return torch.func.functional_call(D, at, (u,))

        values = [p.detach().clone().requires_grad_() for p in D.parameters()]
        assert torch.autograd.gradcheck(run, [u.requires_grad_(), b.requires_grad_(), *values])


def test_bound_operator_is_one_operator_for_each_image() -> None:
    torch.set_default_dtype(f64)
    networks: list[Callable[[], bmo.operators.Operator]] = [
        lambda: CertifiedConv(channels=2, hidden=4, depth=2),
        lambda: CertifiedPotential(channels=2, features=4, blocks=1, guide=2, guide_widths=(3,)),
    ]
    for network in networks:
        D = Derainer(make(shape=(8, 8), attention=UBody(2, 1, (3,))), network(), network())
        b, u = torch.rand(3, 2, 8, 8), torch.rand(3, 4, 8, 8)
        with torch.no_grad():
            together = D.bind(b=b)(u)
            each = torch.cat([D.bind(b=o[None])(x[None]) for o, x in zip(b, u, strict=True)])
        assert torch.allclose(together, each, atol=1e-12)
        assert not torch.equal(D.bind(b=b)(u), D.bind(b=b.flip(0))(u))


def test_data_reach_every_part_that_has_them() -> None:
    torch.set_default_dtype(f64)
    nets = [CertifiedPotential(channels=2, features=4, blocks=1) for _ in range(2)]
    D, u = Derainer(make(shape=(6, 6)), *nets), torch.rand(4, 6, 6)
    bound = D.bind(sigma=torch.tensor(0.3))
    by_hand = Derainer(D.step, *(net.bind(sigma=torch.tensor(0.3)) for net in nets))
    assert torch.equal(bound(u), by_hand(u))
    assert not torch.equal(bound(u), D(u))
    with pytest.raises(ConditionError, match="one of the data"):
        D.bind(noise=u)


def test_guided_networks_stay_nonexpansive() -> None:
    torch.set_default_dtype(f64)
    net = CertifiedPotential(channels=2, features=4, blocks=2, guide=2, guide_widths=(3,))
    step = make(shape=(6, 6), attention=UBody(2, 2, (3,)))
    D = Derainer(step, net)
    set_raw(D, "random")
    bound = D.bind(b=torch.rand(2, 6, 6))
    assert bmo.certify.nonexpansive(bound, shape=(4, 6, 6), trials=4).holds


def test_hyper_training_moves_every_parameter_and_lowers_the_loss() -> None:
    torch.set_default_dtype(f64)
    step = make(3, 4, (12, 12), threshold=0.02, ridge=0.02)
    net = CertifiedConv(channels=3, hidden=8, depth=2)
    model = Deraining(Derainer(step, net), 0.9, mu=0.3, steps=0.2, iterations=4, rain_weight=0.5)
    clean = torch.rand(2, 3, 12, 12) * 0.5
    drops = (torch.rand(2, 1, 12, 12) > 0.9).double()
    rainy = clean + 0.4 * deraining.rain_layer(torch.eye(3)[None], drops)
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-2)
    losses = []
    for _ in range(15):
        optimizer.zero_grad()
        loss = model.loss((clean, rainy))
        loss.backward()
        assert all(p.grad is not None and bool(p.grad.abs().sum() > 0) for p in model.parameters())
        optimizer.step()
        losses.append(float(loss.detach()))
    assert losses[-1] < 0.8 * losses[0]
    depths = model.restore(rainy, [2, 4])
    assert torch.equal(depths[1], model.restore(rainy, [4])[0])
    assert not depths.requires_grad


def test_upper_objective() -> None:
    D = make(1, 1, (3, 3))
    clean, rainy = torch.rand(1, 3, 3, dtype=f64), torch.rand(1, 3, 3, dtype=f64)
    u = torch.rand(2, 3, 3, dtype=f64)
    parts = [(u[:1] - clean).square().sum(), (D.rain(u) - (rainy - clean)).square().sum()]
    for weight in (0.0, 2.0):
        upper = Deraining(Derainer(D), 0.9, rain_weight=weight).upper(clean, rainy)
        assert torch.allclose(upper(u), 0.5 * (parts[0] + weight * parts[1]))


def test_learns_only_what_it_should() -> None:
    D = make(learn=("theta",))
    assert {n for n, p in D.named_parameters() if p.requires_grad} == {"theta.raw"}
    assert "b" not in D.state_dict()


def test_line_kernels_point_where_they_say() -> None:
    for angle in (-40.0, 0.0, 25.0, 60.0):
        kernel = deraining.line_kernel(15, angle, 13.0)
        assert float(kernel.sum()) == pytest.approx(1)
        at = torch.arange(15, dtype=f64) - 7
        moments = torch.stack(
            [
                torch.stack([(kernel * x * y).sum() for y in (at[:, None], at[None, :])])
                for x in (at[:, None], at[None, :])
            ]
        )
        axis = torch.linalg.eigh(moments)[1][:, -1]  # (row, column) of the longest axis
        found = np.degrees(np.arctan2(-float(axis[1]), float(axis[0])))
        assert (found - angle + 90) % 180 - 90 == pytest.approx(0, abs=1.0)
    assert torch.equal(deraining.line_kernels(1)[0], deraining.line_kernel(9, 0.0, 9.0))
    assert torch.allclose(deraining.line_kernels(5)[4], deraining.line_kernel(9, 60.0, 9.0))


def test_kernels_of_a_matlab_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    colours = np.random.default_rng(0).random((3, 2, 5, 5))
    savemat(tmp_path / "kernels.mat", {"C9": colours})
    monkeypatch.setattr(kernels, "locate", lambda name: tmp_path / "kernels.mat")
    assert np.allclose(deraining.published_kernels().numpy(), colours.sum(0) / 3)

    def missing(name: str) -> None:
        raise ImportError(name)

    monkeypatch.setattr("importlib.import_module", missing)
    with pytest.raises(DataError, match="pip install scipy"):
        deraining.published_kernels()


@pytest.mark.data
def test_published_kernels() -> None:
    C = deraining.published_kernels()
    assert C.shape == (32, 9, 9)
    assert bool(torch.isfinite(C).all())


def test_refusals(monkeypatch: pytest.MonkeyPatch) -> None:
    C, b = torch.randn(2, 3, 3, dtype=f64), torch.rand(3, 4, 4, dtype=f64)
    for bad in (C[0], C[:, :2], C[:, :2, :2]):
        with pytest.raises(ShapeError, match="odd"):
            RainStep(bad, b, 0.1)
    with pytest.raises(ShapeError, match="observation"):
        RainStep(C, b[0], 0.1)
    with pytest.raises(ShapeError, match="joined|join"):
        RainStep(C, b, 0.1)(torch.zeros(4, 4, 4, dtype=f64))
    with pytest.raises(ShapeError, match="at least 1 pixels"):
        deraining.rain_layer(C, torch.zeros(2, 4, 0, dtype=f64))
    with pytest.raises(NonFiniteError):
        RainStep(C, b * torch.nan, 0.1)
    with pytest.raises(ConditionError, match="not zero"):
        RainStep(0 * C, b, 0.1)
    with pytest.raises(ConditionError, match="learn"):
        RainStep(C, b, 0.1, learn=("Q",))
    with pytest.raises(ConditionError, match="grid"):
        RainStep(C, b, 0.1, grid=2)
    for options in ({"share": 1.0}, {"ridge": -1.0}, {"box": (1.0, 0.0)}):
        with pytest.raises(DomainError, match="share"):
            RainStep(C, b, 0.1, **options)  # type: ignore[arg-type]
    weighted = bmo.operators.Lambda(lambda u: u, bmo.metric.Diagonal(torch.ones(2)))
    with pytest.raises(MetricError):
        Derainer(RainStep(C, b, 0.1), weighted)
    with pytest.raises(DomainError, match="weight"):
        Deraining(Derainer(RainStep(C, b, 0.1)), 0.9, rain_weight=-1.0)
    with pytest.raises(DomainError, match="odd side"):
        deraining.line_kernel(4, 0.0, 3.0)
    with pytest.raises(DomainError, match="at least one"):
        deraining.line_kernels(0)
