"""The certified networks, against dense linear algebra and exact Fourier norms."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

import bmo
from bmo.errors import ConditionError, ShapeError
from bmo.metric import Identity
from bmo.networks import (
    CertifiedConv,
    CertifiedDense,
    CertifiedShrinkage,
    circular_bound,
    sort_pairs,
)
from tests.networks.dense import dense_of, f64, overwrite


@pytest.mark.parametrize("side", [3, 5])
@pytest.mark.parametrize("c", [(1, 1), (3, 2), (2, 5)])
def test_circular_bound_holds_for_every_size(side: int, c: tuple[int, int]) -> None:
    for _ in range(5):
        kernel = torch.randn(*c, side, side, dtype=f64)
        bound = float(circular_bound(kernel))
        fine = torch.fft.fft2(kernel, s=(96, 96)).flatten(2).permute(2, 0, 1)
        sup = float(torch.linalg.matrix_norm(fine, 2).max())
        degree = (side - 1) // 2
        assert sup <= bound <= sup / math.cos(math.pi * degree / 16) ** 2 * (1 + 5e-3)
    for height, width in ((4, 4), (5, 6)):
        exact = float(torch.linalg.matrix_norm(dense_of(kernel, height, width), 2))
        assert exact <= bound * (1 + 1e-12)
        assert bmo.certify.circular_norm(kernel, height, width) == pytest.approx(exact, rel=1e-10)


def test_circular_bound_is_attained() -> None:
    """sin in both variables, on six points: the grid misses each peak by cos(pi / 6)."""
    wave = torch.tensor([-0.5, 0.0, 0.5], dtype=f64)
    kernel = torch.outer(wave, wave)[None, None]
    assert float(torch.linalg.matrix_norm(dense_of(kernel, 4, 4), 2)) == pytest.approx(1.0)
    assert float(circular_bound(kernel, grid=6)) == pytest.approx(1.0, rel=1e-12)
    grid = torch.fft.fft2(kernel, s=(6, 6)).abs().max()
    assert float(grid) == pytest.approx(0.75)  # without the factor it would be too small


def test_torch_spectral_norm_bounds_no_convolution() -> None:
    """The failure that the bound avoids: the flattened kernel's norm is smaller."""
    kernel = torch.full((1, 1, 3, 3), 1.0, dtype=f64)
    flat = float(torch.linalg.matrix_norm(kernel.flatten(1), 2))
    assert flat == pytest.approx(3.0)
    exact = float(torch.linalg.matrix_norm(dense_of(kernel, 6, 6), 2))
    assert exact == pytest.approx(9.0)


@pytest.mark.parametrize("activation", ["sort", "relu"])
@pytest.mark.parametrize("kind", ["random", "0", "1e3", "-1e3"])
def test_nonexpansive_for_every_weight(kind: str, activation: str) -> None:
    for _ in range(3 if kind == "random" else 1):
        dense = CertifiedDense(5, 8, 3, averaged=0.7, activation=activation).double()
        conv = CertifiedConv(2, 4, 3, averaged=0.7, activation=activation).double()
        for D, shape in ((dense, (5,)), (conv, (2, 6, 7))):
            overwrite(D, kind)
            D = D.prepared()
            options = {"shape": shape, "trials": 12, "ascent": 6, "scale": 3.0}
            found = bmo.certify.nonexpansive(D, **options)
            assert found.holds, found
            assert bmo.certify.averaged(D, 0.7, **options).holds


def test_the_certificate_is_not_vacuous() -> None:
    """At the start the networks use a good part of what is allowed."""
    D = CertifiedDense(5, 8, 2, averaged=1.0).double()
    assert bmo.certify.nonexpansive(D, size=5).measured > 0.8
    D = CertifiedConv(1, 4, 2, averaged=1.0).double()
    assert bmo.certify.nonexpansive(D, shape=(1, 8, 8), trials=16, ascent=20).measured > 0.3


def test_dense_equals_the_formula() -> None:
    D = CertifiedDense(4, 6, 3, averaged=0.3).double()
    overwrite(D, "random")
    x = u = torch.randn(7, 4, dtype=f64)
    for k, (V, c) in enumerate(zip(D.weights, D.biases, strict=True)):
        x = x @ (V / max(1.0, float(torch.linalg.svdvals(V.detach())[0]))).T + c
        if k < 2:
            x = torch.cat([x[:, [i, i + 1]].sort(descending=True).values for i in (0, 2, 4)], 1)
    assert torch.allclose(D(u), 0.7 * u + 0.3 * x, atol=1e-10)


def test_conv_equals_the_dense_matrices() -> None:
    D = CertifiedConv(2, 4, 2, averaged=0.3, activation="relu").double()
    overwrite(D, "random")
    u = torch.randn(2, 5, 4, dtype=f64)
    x = u.flatten()
    for k, (weight, bias) in enumerate(zip(D.weights, D.biases, strict=True)):
        V = weight / max(1.0, float(circular_bound(weight.detach())))
        x = dense_of(V, 5, 4) @ x + bias.repeat_interleave(20)
        x = x.clamp(min=0) if k == 0 else x
    assert torch.allclose(D(u).flatten(), 0.7 * u.flatten() + 0.3 * x, atol=1e-10)


def test_batches_sizes_and_precision() -> None:
    D = CertifiedConv(1, 4, 3)
    u = torch.randn(2, 3, 1, 9, 8)
    assert torch.allclose(D(u)[1, 2], D(u[1, 2]), atol=1e-6)
    assert D.double()(u.double()).dtype == f64
    assert D.metric.event_dims == 3 and D.certified == "by construction" and D.averaged == 0.5


def test_gradients() -> None:
    u = torch.randn(2, 3, dtype=f64)
    for D, point in (
        (CertifiedDense(3, 4, 2), u),
        (CertifiedConv(1, 2, 2), torch.randn(1, 4, 4, dtype=f64)),
    ):
        D = D.double()
        with torch.no_grad():
            for p in D.parameters():
                p.copy_(torch.randn_like(p))
        names = [name for name, _ in D.named_parameters()]

        def run(*values: Tensor, D=D, names=names, point=point) -> Tensor:
            return torch.func.functional_call(D, dict(zip(names, values, strict=True)), (point,))

        values = [p.detach().clone().requires_grad_() for p in D.parameters()]
        assert torch.autograd.gradcheck(run, values)


@pytest.mark.parametrize("make", [CertifiedDense, CertifiedConv])
def test_compiles(make: type[CertifiedDense] | type[CertifiedConv]) -> None:
    D = make(2, 4, 2)
    u = torch.randn(3, 2) if make is CertifiedDense else torch.randn(3, 2, 6, 6)
    compiled = torch.compile(D, backend="aot_eager", fullgraph=True)
    assert torch.allclose(compiled(u), D(u), atol=1e-6)


def test_prepared_inside_a_composition() -> None:
    """One normalisation for a loop, also where the network is a part of the operator."""
    N = CertifiedDense(3, 4, 2).double()
    f = bmo.LeastSquares(torch.eye(3, dtype=f64), torch.ones(3, dtype=f64))
    D = bmo.operators.Composition(bmo.ProximalGradient(f, step=1.0), N)
    bound = D.bind(b=torch.zeros(3, dtype=f64))
    calls = []
    compute = CertifiedDense._compute
    CertifiedDense._compute = lambda self: calls.append(1) or compute(self)
    try:
        u = bound(bound(torch.ones(3, dtype=f64)))
        u.sum().backward()
        assert not calls and N.weights[0].grad is not None
        D(torch.ones(3, dtype=f64))
        assert calls == [1]
    finally:
        CertifiedDense._compute = compute


def test_sort_pairs_is_an_isometry_of_pieces() -> None:
    x = torch.randn(4, 6, 3, 3, dtype=f64)
    y = sort_pairs(x, -3)
    assert torch.equal(y.sort(dim=-3).values.sum(-3), y.sort(dim=-3).values.sum(-3))
    assert torch.equal(y[:, ::2], torch.maximum(x[:, ::2], x[:, 1::2]))
    assert torch.equal(y[:, 1::2], torch.minimum(x[:, ::2], x[:, 1::2]))


def test_refusals() -> None:
    with pytest.raises(ConditionError, match="even width"):
        CertifiedDense(3, 5, 2)
    with pytest.raises(ConditionError, match="activation"):
        CertifiedDense(3, 4, 2, activation="tanh")
    with pytest.raises(ConditionError, match="constant"):
        CertifiedDense(3, 4, 2, averaged=1.5)
    with pytest.raises(ConditionError, match="depth"):
        CertifiedConv(depth=0)
    with pytest.raises(ShapeError, match="k odd"):
        CertifiedConv(kernel=4)
    with pytest.raises(ConditionError, match="grid"):
        CertifiedConv(kernel=5, grid=4)
    with pytest.raises(ShapeError, match="pixels"):
        CertifiedConv(1, 2, 1, kernel=7)(torch.zeros(1, 2, 2))


def shrinkage_layer(norm: str = "exact") -> CertifiedShrinkage:
    V, W = torch.randn(6, 6, dtype=f64), torch.randn(6, 4, dtype=f64)
    return CertifiedShrinkage(V, W, torch.randn(3, 4, dtype=f64), 0.1, norm)


@pytest.mark.parametrize("norm", ["exact", "power"])
def test_the_shrinkage_layer_is_that_of_learned_ista_with_its_matrix_divided(norm: str) -> None:
    for scale in (0.1, 1.0, 30.0):
        D = shrinkage_layer(norm)
        with torch.no_grad():
            D.V.mul_(scale)
        V = D.V.detach()
        top = float(torch.linalg.matrix_norm(V, 2))
        u = torch.randn(3, 6, dtype=f64)
        z = u @ V.mT / max(1.0, top) + D.b @ D.W.detach().mT
        expected = z.sign() * (z.abs() - 0.1).clamp_min(0)
        close = 1e-10 if norm == "exact" else 5e-3
        assert torch.allclose(D(u).detach(), expected, atol=close * float(z.abs().max()))
        assert bmo.certify.nonexpansive(D.bind(b=D.b[0]), size=6, trials=8, ascent=8).holds
        assert isinstance(D.metric, Identity)


def test_the_free_shrinkage_layer_expands() -> None:
    """What the division is for: the same layer without it."""
    D = shrinkage_layer()
    with torch.no_grad():
        D.V.mul_(10 / torch.linalg.matrix_norm(D.V, 2))
    u, v = 50 * torch.randn(2, 200, 6, dtype=f64)
    size, held = (u - v).norm(dim=1), D.bind(b=D.b[0])
    free = ((u - v) @ D.V.detach().mT).norm(dim=1)
    assert float((free / size).max()) > 5
    assert float(((held(u) - held(v)).detach().norm(dim=1) / size).max()) <= 1


def test_the_shrinkage_layer_refuses() -> None:
    V, W, b = torch.eye(3), torch.ones(3, 2), torch.ones(2)
    for bad in ((V[:2], W, b), (V, W.mT, b), (V, W, torch.ones(3)), (V, W[0], b)):
        with pytest.raises(ShapeError):
            CertifiedShrinkage(*bad, 1.0)
    with pytest.raises(ConditionError, match="exact"):
        CertifiedShrinkage(V, W, b, 1.0, "frobenius")
