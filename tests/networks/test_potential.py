"""Potential networks, against dense matrices, exact derivatives and planted faults."""

from __future__ import annotations

import math
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor
from torch.nn import functional

import bmo
from bmo.errors import ConditionError, DomainError, ShapeError
from bmo.networks import PRESETS, CertifiedPotential, circular_bound
from bmo.networks.maps import to_pieces
from tests.networks.dense import dense_of, f64, overwrite

KINDS = ["random", "0", "1e3", "-1e3"]
ALL = ("threshold", "mask", "bias")
MAKERS = {
    "plain": {},
    "firm": {"firm": True, "parts": ALL},
    "guided": {"guide": 2, "parts": ALL},
    "wide": {"guide": 2, "width": 10, "kernel": 5, "averaged": 0.7, "parts": ALL},
    "whole": {"stride": 1},
}


def make(name: str = "guided", **more: object) -> CertifiedPotential:
    sizes = {"channels": 2, "features": 6, "blocks": 2, "guide_widths": (4, 6)}
    return CertifiedPotential(**{**sizes, **MAKERS[name], **more}).double()


def bound(D: CertifiedPotential, height: int, width: int, images: int = 1) -> CertifiedPotential:
    """On data of the same seed; with a noise level that leaves responses on both sides of it."""
    draw = torch.Generator().manual_seed(1)
    data = {"sigma": torch.rand(images, 1, 1, 1, generator=draw, dtype=f64) + 0.5}
    if D.maps.network is not None:
        data["guide"] = torch.randn(images, 2, height, width, generator=draw, dtype=f64)
    return D.bind(**data)


def derivative(D: torch.nn.Module, u: Tensor) -> Tensor:
    return torch.autograd.functional.jacobian(D, u).reshape(u.numel(), u.numel())


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("name", list(MAKERS))
def test_nonexpansive_for_every_weight_and_size(name: str, kind: str) -> None:
    D = make(name)
    overwrite(D, kind)
    for height, width in ((8, 8), (9, 11)):
        run = bound(D, height, width)
        options = {"shape": (2, height, width), "trials": 6, "ascent": 4, "scale": 3.0}
        found = bmo.certify.nonexpansive(run, **options)
        assert found.holds, found
        assert bmo.certify.averaged(run, run.averaged, **options).holds


@pytest.mark.parametrize("name", list(MAKERS))
def test_the_exact_derivative(name: str) -> None:
    """Its norm, and that of N behind the claimed constant, is at most one at every point."""
    D = make(name)
    for size in (0.3, 1.0, 10.0):
        with torch.no_grad():
            for p in D.parameters():
                p.copy_(size * torch.randn_like(p))
        run = bound(D, 8, 8)
        J = derivative(run, torch.randn(2, 8, 8, dtype=f64))
        a = run.averaged
        inside = (J - (1 - a) * torch.eye(len(J), dtype=f64)) / a
        assert float(torch.linalg.matrix_norm(J, 2)) <= 1 + 1e-12
        assert float(torch.linalg.matrix_norm(inside, 2)) <= 1 + 1e-12


@pytest.mark.parametrize("firm", [True, False])
def test_one_block_is_a_gradient_step(firm: bool) -> None:
    """Its derivative is symmetric, with eigenvalues in [-1, 1], or in [0, 1] if it is firm."""
    D = make("guided", blocks=1, firm=firm)
    with torch.no_grad():  # thresholds above most responses
        D.maps.value[:, :2] = 2.0
    J = derivative(bound(D, 6, 8), torch.randn(2, 6, 8, dtype=f64))
    assert torch.allclose(J, J.T, atol=1e-13)
    values = torch.linalg.eigvalsh(J)
    assert float(values[-1]) <= 1 + 1e-12
    assert float(values[0]) >= (0 if firm else -1) - 1e-12
    assert float(values[0]) < (0.95 if firm else 0)  # the block does something


def test_equals_the_dense_matrices() -> None:
    """Two blocks, written with matrices, Huber functions' slopes and maps from the raw numbers."""
    D = make("guided", averaged=0.6, width=9)
    with torch.no_grad():
        for p in D.parameters():
            p.copy_(0.3 * torch.randn_like(p))
    run, u = bound(D, 6, 8), torch.randn(2, 6, 8, dtype=f64)
    with torch.no_grad():
        raw = D.maps(run.sigma, run.guide)[0]
    x = torch.cat([functional.pixel_unshuffle(u, 2), torch.zeros(1, 3, 4, dtype=f64)]).flatten()
    for k, weight in enumerate(D.kernels):
        V = dense_of(weight.detach() / max(1.0, float(circular_bound(weight.detach()))), 3, 4)
        t, m, c = (raw[k, i].flatten() for i in range(3))
        t, m = float(run.sigma) * torch.logaddexp(t, 0 * t), 1 / (1 + torch.exp(-m))
        y = V @ x + c
        x = x - 2 * V.T @ (m * torch.maximum(-t, torch.minimum(y, t)))
    last = functional.pixel_shuffle(x.reshape(9, 3, 4)[:8], 2)
    assert torch.allclose(run(u), 0.4 * u + 0.6 * last, atol=1e-11)


def test_a_planted_fault_is_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    """The flattened norm in place of the bound: filters that look alike add up."""
    flat = lambda weight, grid: torch.linalg.matrix_norm(weight.flatten(1), 2)  # noqa: E731
    D = make("whole", blocks=1)
    with torch.no_grad():
        D.kernels[0].fill_(1.0)
    options = {"shape": (2, 8, 8), "trials": 6, "ascent": 4}
    assert bmo.certify.nonexpansive(bound(D, 8, 8), **options).holds
    monkeypatch.setattr("bmo.networks.potential.circular_bound", flat)
    assert bmo.certify.nonexpansive(bound(D, 8, 8), **options).measured > 2


def test_a_guide_that_follows_the_iterate_expands() -> None:
    """The one condition on the guide is needed: the same network, told of u itself."""
    D = make("guided")
    overwrite(D, "random")
    told = bmo.operators.Lambda(
        lambda u: torch.stack([D.bind(guide=x[None])(x) for x in u]), D.metric
    )
    options = {"shape": (2, 8, 8), "trials": 6, "ascent": 4}
    assert bmo.certify.nonexpansive(told, **options).measured > 1.1


def test_small_responses_are_removed_and_no_noise_changes_nothing() -> None:
    D = CertifiedPotential(1, features=4, blocks=1, stride=1, parts=("threshold",)).double()
    V, t = 0.25, 0.2 * math.log1p(math.exp(-1))
    with torch.no_grad():  # four copies of V times the image: 2 V'V = 1/2
        D.kernels[0].zero_()
        D.kernels[0][:, 0, 1, 1] = V
    u = torch.linspace(-1, 1, 16, dtype=f64).reshape(1, 4, 4)
    small = V * u.abs() < t
    assert 0 < int(small.sum()) < 16
    value = D.bind(sigma=torch.tensor(0.2, dtype=f64))(u)
    assert torch.allclose(value[small], u[small] / 2, atol=1e-14)
    assert torch.allclose(value[~small], (u - 8 * V * t * u.sign())[~small], atol=1e-14)
    assert torch.equal(D.bind(sigma=torch.tensor(0.0, dtype=f64))(u), u)


def test_one_preparation_a_loop_and_gradients_to_the_guide() -> None:
    D = make()
    shift = bmo.operators.Lambda(lambda u: u + 0.1, D.metric)
    whole = bmo.operators.Composition(shift, D)
    guide = torch.randn(3, 2, 8, 8, dtype=f64, requires_grad=True)
    calls = []
    compute = CertifiedPotential._compute
    CertifiedPotential._compute = lambda self: calls.append(1) or compute(self)
    try:
        run = bmo.GKM(whole, alpha=0.5).bind(guide=guide, sigma=torch.full((3, 1, 1, 1), 0.5))
        calls.clear()
        u = torch.randn(3, 2, 8, 8, dtype=f64)
        for _ in range(3):
            u = run(u)
        assert not calls
    finally:
        CertifiedPotential._compute = compute
    u.square().sum().backward()
    for p in (*D.parameters(), guide):
        assert p.grad is not None and bool(torch.isfinite(p.grad).all())
        assert float(p.grad.abs().max()) > 0


def test_batches_equal_single_images() -> None:
    D = make()
    overwrite(D, "random")
    run, u = bound(D, 9, 8, images=3), torch.randn(4, 3, 2, 9, 8, dtype=f64)
    whole = run(u)
    assert torch.allclose(whole[2], run(u[2]), atol=1e-10)
    for i in range(3):
        one = D.bind(sigma=run.sigma[i : i + 1], guide=run.guide[i : i + 1])
        assert torch.allclose(whole[:, i], one(u[:, i]), atol=1e-10)
        assert torch.allclose(whole[1, i], one(u[1, i]), atol=1e-10)
    shared = D.bind(sigma=run.sigma, guide=run.guide[:1])
    one = D.bind(sigma=run.sigma[2], guide=run.guide[:1])
    assert torch.allclose(shared(u)[:, 2], one(u[:, 2]), atol=1e-10)


def test_moving_the_image_moves_the_result() -> None:
    """Circular: by the side of a piece, the network commutes with shifts."""
    D = make("plain")
    overwrite(D, "random")
    run, u = bound(D, 8, 10), torch.randn(2, 8, 10, dtype=f64)
    assert torch.allclose(run(u.roll((2, 4), (-2, -1))), run(u).roll((2, 4), (-2, -1)), atol=1e-11)


def test_pieces_are_an_isometry() -> None:
    x = torch.randn(2, 3, 5, 7, dtype=f64)
    pieces = to_pieces(x, 2)
    assert pieces.shape == (2, 12, 3, 4)
    assert float(pieces.square().sum() - x.square().sum()) == pytest.approx(0.0, abs=1e-12)
    assert torch.equal(functional.pixel_shuffle(pieces, 2)[..., :5, :7], x)


def test_gradients() -> None:
    D = make("guided", blocks=1, features=3, guide_widths=(2,))
    with torch.no_grad():
        for p in D.parameters():
            p.copy_(torch.randn_like(p))
    names = [name for name, _ in D.named_parameters()]
    run, u = bound(D, 4, 4), torch.randn(2, 4, 4, dtype=f64)

    def value(*values: Tensor) -> Tensor:
        pairs = dict(zip(names, values, strict=True))
        data = {"sigma": run.sigma, "guide": run.guide}
        return torch.func.functional_call(D, {**pairs, **data}, (u,))

    assert torch.autograd.gradcheck(
        value, [p.detach().clone().requires_grad_() for p in D.parameters()]
    )


def test_compiles() -> None:
    D = make().requires_grad_(False)
    run, u = bound(D, 8, 8), torch.randn(2, 8, 8, dtype=f64)
    compiled = torch.compile(run, backend="aot_eager", fullgraph=True)
    assert torch.allclose(compiled(u), run(u), atol=1e-12)


def test_saved_and_read_again(tmp_path: Path) -> None:
    D, other = make(), make()
    overwrite(D, "random")
    state = D.state_dict()
    assert not {"sigma", "guide"} & set(state)
    save_file(state, tmp_path / "weights.safetensors")
    other.load_state_dict(load_file(tmp_path / "weights.safetensors"))
    u = torch.randn(2, 8, 8, dtype=f64)
    assert torch.equal(bound(other, 8, 8)(u), bound(D, 8, 8)(u))


@pytest.mark.parametrize("name", list(PRESETS))
def test_presets(name: str) -> None:
    D = CertifiedPotential(1, guide=1, **PRESETS[name])
    u = torch.rand(1, 1, 24, 24)
    run = D.bind(sigma=torch.tensor(0.1), guide=u)
    assert run(u).shape == u.shape and run.certified == "by construction"
    assert run.averaged == 1 and run.metric.event_dims == 3


def test_refusals() -> None:
    for wrong in ({"blocks": 0}, {"width": 3}, {"parts": ("scale",)}, {"averaged": 0.0}):
        with pytest.raises(ConditionError):
            CertifiedPotential(1, **wrong)
    D, u = make(), torch.zeros(2, 8, 8, dtype=f64)
    with pytest.raises(ConditionError, match="bind"):
        D(u)
    for data, image in (
        ({"guide": u[None, :1]}, u),
        ({"guide": u[None, :, :6]}, u),
        ({"guide": u.expand(3, -1, -1, -1)}, u),
        ({"guide": u.expand(3, -1, -1, -1), "sigma": torch.ones(2, 1, 1, 1)}, u),
        ({"guide": u[None]}, u[:1]),
        ({"guide": u[None]}, u[0]),
        ({"guide": u[None, :, :2]}, u[:, :2]),
    ):
        with pytest.raises(ShapeError):
            D.bind(**data)(image)
    for level in (-1.0, math.nan, math.inf):
        with pytest.raises(DomainError, match="noise levels"):
            D.bind(guide=u[None], sigma=torch.tensor(level))
