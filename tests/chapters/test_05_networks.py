"""Chapter 5: convolutions against their matrices, the bound against exact symbols, the costs."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

import bmo
from bmo.metric import Diagonal, Identity
from bmo.networks import (
    CertifiedConv,
    CertifiedDense,
    CertifiedPotential,
    circular_bound,
    sort_pairs,
)
from bmo.operators import Conjugate, HalfQuadratic, Lambda


def matrix_of(layer: object, channels: int, height: int, width: int) -> Tensor:
    """The matrix of a linear layer, one basis image at a time."""
    basis = torch.eye(channels * height * width).reshape(-1, channels, height, width)
    return layer(basis).flatten(1).T  # type: ignore[operator]


def convolution(kernel: Tensor, mode: str = "circular") -> object:
    """torch's convolution with a padding."""
    d = kernel.shape[-1] // 2
    return lambda u: functional.conv2d(functional.pad(u, (d,) * 4, mode=mode), kernel)


def norm(matrix: Tensor) -> float:
    return float(torch.linalg.matrix_norm(matrix, 2))


def symbol(kernel: Tensor, first: Tensor, second: Tensor) -> Tensor:
    """A at all pairs of angles, by its definition: shape (len(first), len(second), out, in)."""
    s = torch.arange(kernel.shape[-1]) - kernel.shape[-1] // 2
    e1, e2 = torch.exp(1j * first[:, None] * s), torch.exp(1j * second[:, None] * s)
    return torch.einsum("ocij,ai,bj->aboc", kernel.to(e1.dtype), e1, e2)


def sup_symbol(kernel: Tensor, points: int = 200) -> float:
    angles = torch.linspace(0, 2 * math.pi, points)
    return float(torch.linalg.matrix_norm(symbol(kernel, angles, angles), 2).max())


@pytest.mark.parametrize("mode", ["circular", "constant"])
@pytest.mark.parametrize("side", [3, 5])
def test_flattened_norm_bounds(side: int, mode: str) -> None:
    for out, into in [(1, 1), (3, 2), (2, 3)]:
        kernel = torch.randn(out, into, side, side)
        flat = norm(kernel.flatten(1))
        true = norm(matrix_of(convolution(kernel, mode), into, side, side + 1))
        assert flat * (1 - 1e-12) <= true <= side * flat * (1 + 1e-12)
    middle = torch.zeros(1, 1, side, side)
    middle[0, 0, side // 2, side // 2] = 2.0
    assert norm(matrix_of(convolution(middle, mode), 1, side, side)) == pytest.approx(2.0)
    ones = torch.ones(1, 1, side, side)
    if mode == "circular":
        true = norm(matrix_of(convolution(ones), 1, side, side + 1))
        assert true == pytest.approx(side * norm(ones.flatten(1)), rel=1e-12)


def test_torch_normalises_the_flattened_kernel() -> None:
    """After torch's normalisation the flattened norm is 1 and the layer expands."""
    torch.manual_seed(0)
    layer = nn.Conv2d(4, 4, 3, padding=1, padding_mode="circular")
    layer = nn.utils.parametrizations.spectral_norm(layer, n_power_iterations=200).eval()
    weight = layer.weight.detach()
    assert norm(weight.flatten(1)) == pytest.approx(1.0, abs=1e-3)
    assert norm(matrix_of(convolution(weight), 4, 5, 5)) > 1.2


def test_fourier_gives_all_singular_values() -> None:
    for height, width in [(4, 5), (3, 3), (2, 6)]:
        kernel = torch.randn(3, 2, 3, 3)
        direct = torch.linalg.svdvals(matrix_of(convolution(kernel), 2, height, width))
        angles = [2 * math.pi * torch.arange(n) / n for n in (height, width)]
        blocks = torch.linalg.svdvals(symbol(kernel, *angles)).flatten()
        assert torch.allclose(direct, blocks.sort(descending=True).values, atol=1e-12)


def test_norm_tends_to_the_supremum() -> None:
    kernel = torch.randn(2, 2, 3, 3)
    top = sup_symbol(kernel, 801)
    gaps = [top - float(bmo.certify.circular_norm(kernel, n, n)) for n in (4, 128)]
    assert gaps[0] > -1e-3 and abs(gaps[1]) < 2e-3 * top


@pytest.mark.parametrize("d", [1, 2, 4])
def test_no_narrow_peak(d: int) -> None:
    waves = torch.arange(d + 1)
    turn = torch.linspace(-math.pi / d, math.pi / d, 2001)
    for _ in range(20):
        a, b = torch.randn(2, d + 1)

        def q(t: Tensor, a: Tensor = a, b: Tensor = b) -> Tensor:
            angles = t[..., None] * waves
            return angles.cos() @ a + angles.sin() @ b

        grid = torch.linspace(0, 2 * math.pi, 4001)
        peak = grid[q(grid).abs().argmax()]
        for _ in range(6):  # Newton's method for the place of the peak
            slope = torch.func.grad(q)
            peak = peak - slope(peak) / torch.func.grad(slope)(peak)
        curve = q(peak + turn) / q(peak)
        assert float((curve - (d * turn).cos()).min()) >= -1e-12
    # a cosine of a higher degree falls faster
    assert float((((d + 1) * turn).cos() - (d * turn).cos()).min()) < -0.1


def extremal(d: int, grid: int) -> Tensor:
    """The kernel for which the constant of the bound is attained."""
    phi = math.pi * d / grid
    R = torch.tensor([[math.cos(phi), -math.sin(phi)], [math.sin(phi), math.cos(phi)]])
    line = torch.zeros(2 * d + 1, 2, 2)
    line[0], line[-1] = R / 2, R.T / 2
    return torch.einsum("iab,jbc->acij", line, line)


@pytest.mark.parametrize(("d", "grid"), [(1, 4), (1, 16), (2, 8), (2, 16)])
def test_grid_constant_is_attained(d: int, grid: int) -> None:
    kernel = extremal(d, grid)
    angles = 2 * math.pi * torch.arange(grid) / grid
    on_grid = float(torch.linalg.matrix_norm(symbol(kernel, angles, angles), 2).max())
    assert on_grid == pytest.approx(math.cos(math.pi * d / grid) ** 2, rel=1e-12)
    assert float(circular_bound(kernel, grid)) == pytest.approx(1.0, rel=1e-12)
    shifted = angles + math.pi / grid
    there = float(torch.linalg.matrix_norm(symbol(kernel, shifted, shifted), 2).max())
    assert there == pytest.approx(1.0, rel=1e-12)


@pytest.mark.parametrize("side", [1, 3, 5])
def test_bound_holds_off_the_grid(side: int) -> None:
    for _ in range(5):
        kernel = torch.randn(3, 2, side, side)
        bound, top = float(circular_bound(kernel)), sup_symbol(kernel)
        assert top <= bound * (1 + 1e-12)
        assert bound <= top / math.cos(math.pi * (side // 2) / 16) ** 2 * (1 + 1e-3)


def test_zero_padding_is_a_compression() -> None:
    kernel = torch.randn(2, 3, 5, 5)
    zero = matrix_of(convolution(kernel, "constant"), 3, 3, 4)
    large = matrix_of(convolution(kernel), 3, 5, 6)
    rows, columns = torch.zeros(2, 5, 6).bool(), torch.zeros(3, 5, 6).bool()
    rows[:, :3, :4] = columns[:, :3, :4] = True
    assert torch.allclose(large[rows.flatten()][:, columns.flatten()], zero, atol=1e-14)
    assert norm(zero) <= float(circular_bound(kernel))


def test_repeating_borders_expands() -> None:
    move = torch.zeros(1, 1, 3, 3)
    move[0, 0, 1, 2] = 1.0
    assert float(circular_bound(move, 64)) < 1.01
    assert norm(matrix_of(convolution(move, "replicate"), 1, 4, 4)) == pytest.approx(2**0.5)


def test_activations() -> None:
    u, v = torch.randn(2, 5000, 4)
    for sigma in (torch.relu, lambda x: bmo.prox.soft(x, 0.3)):
        p, w = sigma(u) - sigma(v), u - v
        assert float(((p * p).sum(1) - (p * w).sum(1)).max()) <= 1e-12
    ratio = (sort_pairs(u, -1) - sort_pairs(v, -1)).norm(dim=1) / (u - v).norm(dim=1)
    assert float(ratio.max()) <= 1 + 1e-12
    J = torch.func.vmap(torch.func.jacrev(lambda x: sort_pairs(x, -1)))(u[:50])
    assert torch.equal(J @ J.mT, torch.eye(4).expand(50, 4, 4))
    assert float(torch.linalg.eigvals(J).real.min()) == pytest.approx(-1.0)  # not averaged


def test_relu_gradients_of_norm_one_are_one_function() -> None:
    """Where the gradient keeps its norm, f is one affine map; elsewhere it is another."""
    rng = torch.Generator().manual_seed(3)
    for _ in range(10):
        Q1, Q2 = (bmo.data.random_orthogonal(3, rng) for _ in range(2))
        v = torch.tensor([1.0, 0.0, 0.0])

        def f(u: Tensor, Q1: Tensor = Q1, Q2: Tensor = Q2, v: Tensor = v) -> Tensor:
            return torch.relu(torch.relu(u @ Q1.T + 1) @ Q2.T + 1) @ v

        u = torch.randn(800, 3, generator=rng)
        slope = torch.func.vmap(torch.func.grad(f))(u)
        one = (slope.norm(dim=1) - 1).abs() < 1e-12
        assert 10 < int(one.sum()) < 790
        offsets = f(u[one]) - u[one] @ slope[one][0]
        assert float((slope[one] - slope[one][0]).abs().max()) < 1e-12
        assert float(offsets.max() - offsets.min()) < 1e-12
        assert float(slope[~one].norm(dim=1).max()) < 1


def test_sorting_makes_the_absolute_value() -> None:
    u = torch.linspace(-2, 2, 41)[:, None]
    v = torch.tensor([1.0, -1.0]) / math.sqrt(2)
    assert torch.allclose(sort_pairs(u * v, -1) @ v, u[:, 0].abs(), atol=1e-15)


@pytest.mark.parametrize("size", [1e-2, 1.0, 1e2])
def test_certificate_for_every_weight_and_size(size: float) -> None:
    for D, shapes in (
        (CertifiedDense(5, 6, 3, averaged=0.7), [(5,)]),
        (CertifiedConv(2, 4, 2, averaged=0.7), [(2, 3, 4), (2, 6, 5)]),
    ):
        with torch.no_grad():
            for p in D.parameters():
                p.copy_(size * torch.randn_like(p))
        for shape in shapes:
            options = {"shape": shape, "trials": 9, "ascent": 5}
            assert bmo.certify.nonexpansive(D.prepared(), **options).holds
            assert bmo.certify.averaged(D.prepared(), 0.7, **options).holds


def test_small_layers_are_left_alone() -> None:
    D = CertifiedDense(4, 6, 2)
    with torch.no_grad():
        for p in D.weights:
            p.mul_(0.5)
    assert all(torch.equal(a, b) for a, b in zip(D.prepare(), D.weights, strict=True))


def test_batch_norm_expands() -> None:
    layer = nn.BatchNorm2d(1).eval().requires_grad_(False)
    layer.running_var.fill_(0.01)
    stretch = (layer(torch.ones(1, 1, 2, 2)) - layer(torch.zeros(1, 1, 2, 2))).mean()
    assert stretch.item() == pytest.approx(1 / math.sqrt(0.01 + 1e-5), rel=1e-12)
    layer.train()
    u = torch.randn(2, 1, 3, 3)
    assert not torch.allclose(layer(u)[0], layer(torch.stack([u[0], 3 * u[1]]))[0], atol=1e-2)


def test_diagonal_metrics() -> None:
    sorting = lambda x: sort_pairs(x, -1)  # noqa: E731
    h = torch.tensor([1.0, 100.0, 4.0, 4.0])
    found = bmo.certify.nonexpansive(Lambda(sorting, Diagonal(h)), trials=32, ascent=10)
    assert found.measured == pytest.approx(10.0, rel=1e-6)
    equal = Diagonal(torch.tensor([9.0, 9.0, 4.0, 4.0]))
    assert bmo.certify.nonexpansive(Lambda(sorting, equal), trials=32, ascent=10).holds
    assert bmo.certify.nonexpansive(Lambda(torch.relu, Diagonal(h)), trials=32, ascent=10).holds
    carried = Conjugate(Lambda(sorting, Identity()), Diagonal(h))
    assert bmo.certify.nonexpansive(carried, trials=32, ascent=10).holds
    H = Diagonal(h[:2])
    u, v = torch.tensor([0.0, 10.0]), torch.tensor([1.0, 10.0])
    assert float(H.distance(u, v)) == 1.0
    assert float(H.distance(sorting(u), sorting(v))) == 10.0


def test_channel_weights_move_into_the_kernel() -> None:
    kernel, h, g = torch.randn(2, 3, 3, 3), torch.rand(3) + 0.1, torch.rand(2) + 0.1
    V = matrix_of(convolution(kernel), 3, 4, 3)
    direct = norm(g.repeat_interleave(12).sqrt()[:, None] * V / h.repeat_interleave(12).sqrt())
    scaled = kernel * (g[:, None] / h).sqrt()[:, :, None, None]
    assert direct == pytest.approx(float(bmo.certify.circular_norm(scaled, 4, 3)), rel=1e-12)


@pytest.mark.parametrize("a", [0.3, 0.5, 0.8])
def test_symmetric_averaged(a: float) -> None:
    q = bmo.data.random_orthogonal(5, bmo.data.generator(1))
    for low, holds in ((1 - 2 * a, True), (1 - 2 * a - 0.01, False)):
        S = q @ torch.diag(torch.linspace(low, 1, 5)) @ q.T
        inside = (S - (1 - a) * torch.eye(5)) / a
        assert (norm(inside) <= 1 + 1e-12) is holds
    Sigma = bmo.data.random_spd(5, 1e3, bmo.data.generator(2))
    wiener = Sigma @ torch.linalg.inv(Sigma + 2 * torch.eye(5))
    assert norm(2 * wiener - torch.eye(5)) <= 1 + 1e-12


def test_prox_after_an_averaged_network() -> None:
    torch.manual_seed(2)
    D = CertifiedDense(4, 8, 3, averaged=0.6).requires_grad_(False).prepared()
    step = HalfQuadratic(bmo.prox.L1(0.1), D, tau=2.0)
    assert step.averaged == pytest.approx(1 / (2 - 0.6), rel=1e-12)
    assert step.averaged == pytest.approx(bmo.bounds.composition_averaged(0.5, 0.6), rel=1e-12)
    assert bmo.certify.averaged(step, step.averaged, size=4, trials=24, ascent=20).holds
    u, residuals = torch.ones(4), []
    for _ in range(400):  # no damping
        residuals.append(float((step(u) - u).norm()))
        u = step(u)
    distance = float((torch.ones(4) - u).norm())
    a = step.averaged
    for k, r in enumerate(residuals[:100]):
        assert r <= math.sqrt(a / (1 - a) / (k + 1)) * distance * (1 + 1e-9)
    assert residuals[-1] < 1e-8


def test_best_denoiser_of_two_levels() -> None:
    """Bayes by quadrature, and random nonexpansive rivals of the best one."""
    sigma = 0.5
    y = torch.linspace(-7, 7, 7001)
    levels = torch.tensor([1.0, -1.0])
    weight = torch.exp(-((y[:, None] - levels) ** 2) / (2 * sigma**2))
    mean = (weight @ levels) / weight.sum(1)
    best = torch.tanh(y / sigma**2)
    assert torch.allclose(mean, best, atol=1e-12)

    def error(D: Tensor) -> float:
        return float((weight * (D[:, None] - levels) ** 2).sum() / weight.sum())

    safe = best.sign() * torch.minimum(best.abs(), y.abs())
    step = y[1] - y[0]
    slopes = (safe[1:] - safe[:-1]) / step
    assert float(slopes.max()) <= 1 + 1e-9 and float(slopes.min()) >= 0
    assert error(best) < error(safe)
    rng = torch.Generator().manual_seed(0)
    for _ in range(50):  # move towards random nonexpansive functions: the error never falls
        bumps = torch.rand(7000, generator=rng) * 2 - 1
        rival = torch.cat([torch.zeros(1), (bumps * step).cumsum(0)])
        rival = rival - rival[3500] + torch.randn((), generator=rng)
        assert error(0.99 * safe + 0.01 * rival) >= error(safe)
    for shift in (0.01, -0.01):
        assert error(safe + shift) > error(safe)


def test_residual_networks() -> None:
    u, v = torch.randn(2, 4000, 3)
    q = bmo.data.random_orthogonal(3, bmo.data.generator(4))
    for R in (torch.relu, lambda x: x @ q.T, lambda x: 0.5 * x @ q.T, lambda x: 1.5 * x):
        w, r = u - v, R(u) - R(v)
        one = (w - r).norm(dim=1) <= w.norm(dim=1) + 1e-12
        assert torch.equal(one, (r * r).sum(1) <= 2 * (r * w).sum(1) + 1e-12)
        firm = ((w - r) ** 2).sum(1) <= ((w - r) * w).sum(1) + 1e-12
        assert torch.equal(firm, (r * r).sum(1) <= (r * w).sum(1) + 1e-12)
    half = Lambda(lambda x: (x + x @ q.T) / 2, Identity())
    assert bmo.certify.averaged(half, 0.5, size=3, trials=12, ascent=5).holds
    for double in (lambda x: x - (-x), lambda x: x + x):
        assert bmo.certify.nonexpansive(
            Lambda(double, Identity()), size=3, trials=3, ascent=0
        ).measured == pytest.approx(2.0)


def potential_step(V: Tensor, m: Tensor, c: Tensor, t: Tensor, factor: float) -> object:
    """x - (factor / L) V' M clip(Vx + c), by matrices."""
    L = torch.linalg.matrix_norm(V, 2) ** 2

    def step(x: Tensor) -> Tensor:
        y = x @ V.T + c
        return x - factor / L * (m * torch.maximum(-t, torch.minimum(y, t))) @ V

    return step


def test_potential_steps() -> None:
    """One step, both factors, chains, and the best factor; maps drawn from another image."""
    rng = torch.Generator().manual_seed(11)
    options = {"trials": 12, "ascent": 10}
    for _ in range(4):
        layers = []
        for _ in range(3):
            guide = torch.randn(7, 3, generator=rng)
            V = torch.randn(7, 4, generator=rng)
            layers.append((V, guide[:, 0].sigmoid(), guide[:, 1], 3 * guide[:, 2].abs()))
        for factor, a in ((1.0, 0.5), (2.0, 1.0)):
            one = Lambda(potential_step(*layers[0], factor), Identity())
            assert bmo.certify.averaged(one, a, size=4, **options).holds
            J = torch.autograd.functional.jacobian(one, torch.randn(4, generator=rng))
            assert torch.allclose(J, J.T, atol=1e-13)
        E = bmo.data.random_orthogonal(4, rng)[:, :3]
        for factor, a in ((1.0, 3 / 4), (2.0, 1.0)):
            steps = [potential_step(*layer, factor) for layer in layers]

            def chain(x: Tensor, E: Tensor = E, steps: list[object] = steps) -> Tensor:
                x = x @ E.T
                for step in steps:
                    x = step(x)  # type: ignore[operator]
                return x @ E

            assert bmo.certify.averaged(Lambda(chain, Identity()), a, size=3, **options).holds
    V, one, far = torch.eye(2), torch.ones(2), torch.full((2,), 1e9)
    longer = Lambda(potential_step(V, one, 0 * one, far, 2.1), Identity())
    assert bmo.certify.nonexpansive(longer, size=2, **options).measured == pytest.approx(1.1)


def test_a_threshold_that_follows_the_iterate() -> None:
    x = torch.linspace(-1.5, 1.5, 601)

    def slope(t: Tensor) -> float:
        y = x - torch.maximum(-t, torch.minimum(x, t))
        return float(((y[1:] - y[:-1]) / (x[1:] - x[:-1])).max())

    assert max(slope(torch.full_like(x, t)) for t in (0.0, 0.3, 1.0)) <= 1 + 1e-9
    assert slope((1 - x.abs()).clamp_min(0)) == pytest.approx(2.0, rel=1e-9)


def train(D: nn.Module, steps: int = 150, sigma: float = 0.1) -> nn.Module:
    """A short training on gray pictures, as in the notebook."""
    pictures = [p[::2, ::2] for p in bmo.data.page_pictures("train").values()]
    draw = torch.Generator().manual_seed(0)
    optimizer = torch.optim.Adam(D.parameters(), 0.01)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps)
    for _ in range(steps):
        patches = []
        for _ in range(8):
            p = pictures[int(torch.randint(len(pictures), (), generator=draw))]
            i, j = (int(torch.randint(n - 32, (), generator=draw)) for n in p.shape)
            patches.append(p[i : i + 32, j : j + 32])
        u = torch.stack(patches)[:, None]
        loss = (D(u + sigma * torch.randn(u.shape, generator=draw)) - u).square().mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
    return D.requires_grad_(False)


class Free(nn.Module):
    """The same architecture with free weights."""

    def __init__(self) -> None:
        super().__init__()
        layers = [nn.Conv2d(*ends, 3, padding=1, padding_mode="circular") for ends in WIDTHS]
        self.layers = nn.ModuleList(layers)

    def forward(self, u: Tensor) -> Tensor:
        return 0.5 * u + 0.5 * self.layers[1](torch.relu(self.layers[0](u)))


WIDTHS = ((1, 8), (8, 1))


@pytest.fixture(scope="module")
def denoisers() -> dict[str, nn.Module]:
    """One free and one certified denoiser, trained alike."""
    before = torch.get_default_dtype()
    torch.set_default_dtype(torch.float64)
    makers = {
        "free": Free,
        "certified": lambda: CertifiedConv(1, 8, 2, averaged=0.7, activation="relu"),
    }
    found = {}
    for name, make in makers.items():
        torch.manual_seed(0)
        found[name] = train(make())
    torch.set_default_dtype(before)
    return found


def clean_pictures() -> Tensor:
    return torch.stack([p[20:148, 100:228] for p in bmo.data.page_pictures("test").values()])[
        :, None
    ]


def test_training_under_the_constraint(denoisers: dict[str, nn.Module]) -> None:
    """Both denoise; the free one expands, the certified one does not; the price is below 1 dB."""
    clean = clean_pictures()
    noisy = clean + 0.1 * torch.randn(clean.shape, generator=torch.Generator().manual_seed(1))
    level = {n: float(bmo.measure.psnr(D(noisy), clean).mean()) for n, D in denoisers.items()}
    before = float(bmo.measure.psnr(noisy, clean).mean())
    assert min(level.values()) > before + 3.5
    assert abs(level["free"] - level["certified"]) < 1.0
    options = {"shape": (1, 10, 10), "trials": 16, "ascent": 30}
    free = Lambda(denoisers["free"], Identity(3))
    assert bmo.certify.nonexpansive(free, **options).measured > 1.02
    assert bmo.certify.nonexpansive(denoisers["certified"], **options).holds


def test_a_trained_potential_network(denoisers: dict[str, nn.Module]) -> None:
    """Better than the free denoiser of the same training, and nonexpansive."""
    torch.manual_seed(0)
    D = train(
        CertifiedPotential(1, features=16, blocks=2, parts=("threshold",), sigma=0.1)
    ).prepared()
    clean = clean_pictures()
    noisy = clean + 0.1 * torch.randn(clean.shape, generator=torch.Generator().manual_seed(1))
    free, certified = (bmo.measure.psnr(f(noisy), clean).mean() for f in (denoisers["free"], D))
    assert float(certified - free) > 0.5
    found = bmo.certify.nonexpansive(D, shape=(1, 10, 10), trials=9, ascent=10)
    assert found.holds and found.measured > 0.9


def test_a_thousand_steps(denoisers: dict[str, nn.Module]) -> None:
    """The free run comes near the picture and loses it; the certified one keeps its bound."""
    picture = clean_pictures()[:1, :, 40:72, 40:72]
    known = torch.ones_like(picture)
    known[..., 8:24, 8:24] = 0
    draw = torch.Generator().manual_seed(5)
    b = known * (picture + 0.05 * torch.randn(picture.shape, generator=draw))
    paths = {}
    for name, D in denoisers.items():
        u, residuals, errors = b, [], []
        for _ in range(1000):
            new = 0.1 * u + 0.9 * (D(u) + 2 * b) / (1 + 2 * known)
            residuals.append(float((new - u).norm()))
            errors.append(float((new - picture).norm()))
            u = new
        paths[name] = residuals, errors, float((u - b).norm())
    residuals, errors, _ = paths["free"]
    assert errors[-1] > 5 * min(errors) and errors.index(min(errors)) < 500
    assert max(residuals[100:]) > residuals[99]
    residuals, _, distance = paths["certified"]
    assert all(y <= x + 1e-12 for x, y in zip(residuals, residuals[1:], strict=False))
    alpha = 0.9 / (2 - 0.7)
    bound = [math.sqrt(alpha / (1 - alpha) / (k + 1)) * distance for k in range(1000)]
    assert all(r <= limit * (1 + 1e-9) for r, limit in zip(residuals, bound, strict=True))
