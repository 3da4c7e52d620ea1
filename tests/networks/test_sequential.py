"""A sequential network of one's own: against its matrix, its layers' norms, and autograd."""

from __future__ import annotations

import pytest
import torch
from torch import nn

import bmo
from bmo.errors import ConditionError, ShapeError
from bmo.networks import CertifiedSequential

F64 = torch.float64


def dense(gain: float = 5.0) -> nn.Sequential:
    net = nn.Sequential(nn.Linear(3, 7), nn.ReLU(), nn.Sequential(nn.Linear(7, 3))).double()
    with torch.no_grad():
        for w in net.parameters():
            w.mul_(gain)
    return net


def conv(gain: float = 5.0, **changes: object) -> nn.Sequential:
    options = {"padding": 1, **changes}
    net = nn.Sequential(nn.Conv2d(2, 4, 3, **options), nn.Tanh(), nn.Conv2d(4, 2, 3, **options))  # type: ignore[arg-type]
    net = net.double()
    with torch.no_grad():
        for w in net.parameters():
            w.mul_(gain)
    return net


def test_a_dense_network_is_its_layers_divided_by_their_norms() -> None:
    for gain in (5.0, 0.1):
        net = dense(gain)
        D = CertifiedSequential(net, averaged=0.25)
        u = torch.randn(4, 3, dtype=F64)
        (W, c), (V, e) = ((m.weight.detach(), m.bias) for m in (net[0], net[2][0]))  # type: ignore[index]
        W, V = (M / max(1.0, float(torch.linalg.matrix_norm(M, 2))) for M in (W, V))
        out = torch.relu(u @ W.mT + c) @ V.mT + e
        torch.testing.assert_close(D(u), 0.75 * u + 0.25 * out, rtol=1e-12, atol=1e-12)
        assert D.averaged == 0.25 and D.metric.event_dims == 1


@pytest.mark.parametrize("mode", ["zeros", "circular"])
@pytest.mark.parametrize("changes", [{}, {"dilation": 2, "padding": 2}, {"padding": "same"}])
def test_a_convolutional_network_does_not_expand(mode: str, changes: dict[str, object]) -> None:
    net = conv(padding_mode=mode, **changes)
    u = torch.randn(2, 6, 6, dtype=F64)
    D = CertifiedSequential(net, averaged=1.0)
    free = torch.autograd.functional.jacobian(net, u[None]).reshape(72, 72)
    J = torch.autograd.functional.jacobian(D, u).reshape(72, 72)
    assert float(torch.linalg.matrix_norm(free, 2)) > 3
    assert 0.01 < float(torch.linalg.matrix_norm(J, 2)) <= 1
    assert bmo.certify.nonexpansive(D, shape=(2, 6, 6), trials=8, ascent=5).holds
    batch = torch.randn(2, 3, 2, 6, 6, dtype=F64)
    torch.testing.assert_close(D(batch)[1, 2], D(batch[1, 2]), rtol=1e-12, atol=1e-12)


def test_one_layer_attains_the_bound_and_large_kernels_have_a_grid() -> None:
    layer = nn.Conv2d(1, 1, 9, padding=4, padding_mode="circular", bias=False).double()
    with torch.no_grad():
        layer.weight.fill_(1.0)
    D = CertifiedSequential(nn.Sequential(layer), averaged=1.0)
    flat = torch.ones(1, 16, 16, dtype=F64)
    gain = float(D(flat).mean().detach())
    assert gain <= 1  # 1 but for the factor of the grid
    assert gain == pytest.approx(torch.cos(torch.tensor(torch.pi * 4 / 36)).item() ** 2, rel=1e-5)


def test_its_parameters_are_learned_and_it_stays_certified() -> None:
    net, target = dense(), torch.randn(6, 3, dtype=F64)
    D = CertifiedSequential(net)
    assert {id(w) for w in D.parameters()} == {id(w) for w in net.parameters()}
    inner = bmo.Inner(bmo.GKM(D, 0.9), mu=0.2)
    upper = lambda u: (u - target).square().sum(-1)  # noqa: E731
    found = bmo.solve.solve(inner, 0 * target, upper, 8, 20, gamma=0.05)
    assert found.values[-1] < found.values[0]
    assert bmo.certify.averaged(D, 0.5, size=3).holds and D.certified == "by construction"
    assert torch.autograd.gradcheck(lambda w: D(target + w), (0 * target).requires_grad_())


@pytest.mark.parametrize(
    ("layer", "text"),
    [
        (nn.BatchNorm1d(3), "its scale is free"),
        (nn.Dropout(), "differently each time"),
        (nn.GELU(), "slope exceeds 1"),
        (nn.LeakyReLU(1.5), "LeakyReLU"),
        (nn.PReLU(), "prove a bound"),
        (nn.Conv2d(3, 3, 3, padding=1, stride=2), "stride 1"),
        (nn.Conv2d(3, 3, 3, padding=1, groups=3), "groups 1"),
        (nn.Conv2d(3, 3, 3, padding=1, padding_mode="reflect"), "zeros or circular"),
        (nn.Conv2d(3, 3, 2, padding=1), "Conv2d"),
        (nn.Conv2d(3, 3, 3), "padding"),
    ],
)
def test_a_layer_without_a_known_constant_is_refused_by_name(layer: nn.Module, text: str) -> None:
    with pytest.raises(ConditionError, match=text) as caught:
        CertifiedSequential(nn.Sequential(nn.Linear(3, 3), layer))
    assert "layer '1'" in str(caught.value)


def test_other_modules_and_other_shapes_are_refused() -> None:
    with pytest.raises(ConditionError, match="one after the other"):
        CertifiedSequential(nn.Linear(3, 3))  # type: ignore[arg-type]
    with pytest.raises(ShapeError, match="to the same shape"):
        CertifiedSequential(nn.Sequential(nn.Linear(3, 4)))(torch.zeros(3))
    bounded = CertifiedSequential(nn.Sequential(nn.Linear(3, 3), nn.LeakyReLU(0.2), nn.ELU()))
    assert bounded(torch.zeros(2, 3)).shape == (2, 3)
    assert CertifiedSequential(nn.Sequential(nn.Identity()), axes=2).metric.event_dims == 2
