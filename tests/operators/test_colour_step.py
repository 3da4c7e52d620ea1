"""The data step with two weights: dense references, constants, derivatives, what is refused."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

import bmo
from bmo import errors
from bmo.metric import HalfSpectral, Identity, Metric
from bmo.networks import CertifiedConv
from bmo.operators import FourierColourStep, FourierDataStep, FourierHalfQuadratic, FourierWeight
from bmo.operators.colour_step import opponent
from bmo.problems.deconvolution import Blur, motion_kernels

SHAPE = (5, 6)
EVENT = (3, *SHAPE)


@pytest.fixture(autouse=True)
def double(seeded: None) -> None:
    torch.set_default_dtype(torch.float64)


def weight(start: float, size: float = 0.5) -> FourierWeight:
    p = FourierWeight(start, 4, per_sigma=True)
    with torch.no_grad():
        for raw in p.parameters():
            raw.add_(size * torch.randn_like(raw))
    return p


def problem(count: int = 1, shape: tuple[int, int] = SHAPE) -> tuple[Blur, Tensor, Tensor]:
    """A blur, what is observed through it, the noise levels."""
    blur = Blur(motion_kernels(torch.Generator().manual_seed(7), count, 5), shape)
    sigma = torch.linspace(0.01, 0.03, count).reshape(-1, 1, 1, 1)
    u = torch.rand(count, 3, *shape)
    return blur, blur(u) + sigma * torch.randn_like(u), sigma


def step(count: int = 1, size: float = 0.5) -> FourierColourStep:
    blur, b, sigma = problem(count)
    return FourierColourStep(blur.symbol, b, weight(0.05, size), weight(2.0, size), sigma)


def dense(function: object) -> tuple[Tensor, Tensor]:
    """Matrix and constant of an affine map of colour images."""
    eye = torch.eye(90).reshape(90, *EVENT)
    with torch.no_grad():
        c = function(torch.zeros(1, *EVENT))[0]  # type: ignore[operator]
        columns = [function(e[None])[0] - c for e in eye]  # type: ignore[operator]
    return torch.stack(columns).reshape(90, 90).mT, c.flatten()


def penalty(D: FourierColourStep) -> Tensor:
    """P from its definition, channel by channel of the turned image."""
    O, n = opponent(torch.zeros(())), SHAPE[0] * SHAPE[1]  # noqa: E741
    each = D.spectrum().detach().reshape(3, 1, SHAPE[0], SHAPE[1] // 2 + 1)
    parts = [HalfSpectral(p, SHAPE[1]).matrix((1, *SHAPE)) for p in each]
    turned = torch.kron(O, torch.eye(n))
    return turned.mT @ torch.block_diag(*parts) @ turned


def test_the_step_solves_its_subproblem() -> None:
    D = step()
    blur, _, _ = problem()
    K = dense(blur)[0]
    P, (G, c) = penalty(D), dense(D)
    assert torch.allclose(G, torch.linalg.solve(P + K.mT @ K, P), atol=1e-10)
    assert torch.allclose(c, torch.linalg.solve(P + K.mT @ K, K.mT @ D.b.flatten()), atol=1e-10)
    values = torch.linalg.eigvalsh((G + G.mT) / 2)
    assert torch.allclose(G, G.mT, atol=1e-12)  # so the Euclidean constants are its eigenvalues
    assert float(values.min()) == pytest.approx(1 - 2 * D.averaged, abs=1e-10)
    assert float(values.max()) == pytest.approx(D.factor, abs=1e-10)
    assert D.averaged < 0.5 and D.factor < 1


def test_equal_weights_are_the_step_without_colours() -> None:
    blur, b, sigma = problem(2)
    p = weight(0.3)
    one = FourierDataStep(blur.symbol, b, p, sigma)
    two = FourierColourStep(blur.symbol, b, p, p, sigma)
    u = torch.rand_like(b)
    assert torch.allclose(one(u), two(u), atol=1e-12)
    other = FourierColourStep(blur.symbol, b, p, weight(3.0), sigma)
    assert float((one(u) - other(u)).abs().max().detach()) > 1e-2


def colours(seed: int) -> Metric:
    """A metric that is diagonal where the step is: a random weight for each turned channel."""
    torch.manual_seed(seed)
    h = 10 ** (3 * torch.rand(*EVENT))
    even = (h + h.flip(-2, -1).roll((1, 1), (-2, -1))) / 2
    return HalfSpectral(even[..., : SHAPE[1] // 2 + 1], SHAPE[1])


def test_the_constants_hold_in_every_metric_of_turned_channels() -> None:
    D = step().prepared()
    O = opponent(torch.zeros(()))  # noqa: E741
    turned = bmo.operators.Lambda(
        lambda w: torch.einsum("ij,...jhw->...ihw", O,
                               D(torch.einsum("ji,...jhw->...ihw", O, w))), Identity(3)
    )  # fmt: skip
    for seed in range(3):
        for a, holds in ((D.averaged, True), (0.97 * D.averaged, False)):
            found = bmo.certify.averaged(
                turned, a, colours(seed), shape=(1, *EVENT), trials=12, ascent=40
            )
            assert found.holds is holds, (a, found)


@pytest.mark.parametrize("raw", [1e3, -1e3, "mixed"])
def test_feasible_for_every_raw_value_beside_a_network(raw: float | str) -> None:
    D = step(2)
    with torch.no_grad():
        for value in D.parameters():
            mixed = torch.where(torch.rand_like(value) < 0.5, 1e3, -1e3)
            value.copy_(mixed if raw == "mixed" else torch.full_like(value, float(raw)))
    both = FourierHalfQuadratic(D, CertifiedConv(3, 4, 2, averaged=0.5)).prepared()
    assert both.certified == "by construction" and 0 <= D.averaged <= 0.5 + 1e-12
    found = bmo.certify.nonexpansive(both, shape=(2, *EVENT), trials=6, ascent=5, tol=1e-6)
    assert found.holds, found


def test_the_weights_are_learned() -> None:
    D = step(2, size=0.1)
    u = torch.rand(2, *EVENT)
    parameters = tuple(D.parameters())
    assert len(parameters) == 4

    def value(*told: Tensor) -> Tensor:
        names = dict(zip(dict(D.named_parameters()), told, strict=True))
        return torch.func.functional_call(D, names, (u,))

    assert torch.autograd.gradcheck(value, parameters)


def test_bound_to_other_data() -> None:
    D, (blur, b, sigma) = step(), problem(2, (8, 7))
    bound = D.bind(symbol=blur.symbol, b=b, sigma=sigma)
    fresh = FourierColourStep(blur.symbol, b, D.weight, D.chroma, sigma)
    u = torch.rand_like(b)
    assert torch.allclose(bound(u), fresh(u), atol=1e-14)


def test_other_channels_and_metrics_are_refused() -> None:
    blur, b, sigma = problem()
    gray = FourierColourStep(blur.symbol, b[:, :1], 0.1, 1.0, sigma)
    with pytest.raises(errors.ShapeError, match="FourierDataStep takes any channels"):
        gray(b[:, :1])
    with pytest.raises(errors.ConditionError, match="the Euclidean metric"):
        FourierColourStep(blur.symbol, b, 0.1, 1.0, sigma, metric="weight")
    with pytest.raises(errors.ShapeError, match="images of"):
        step()(torch.rand(1, 3, 4, 4))
