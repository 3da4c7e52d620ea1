"""FDN against dense equations, and what its training changes."""

import pytest
import torch

from bmo.baselines.restoration import FDN, TotalVariation
from bmo.baselines.restoration.base import multiply
from bmo.baselines.restoration.fdn import Stage
from bmo.errors import ConditionError, ShapeError

DRAWS = torch.Generator().manual_seed(0)


def draw(*shape):
    return torch.randn(shape, dtype=torch.float64, generator=DRAWS)


def blur_symbol(h, w):
    kernel = torch.zeros(h, w, dtype=torch.float64)
    kernel[0, 0], kernel[1, 0], kernel[0, -1] = 0.5, 0.3, 0.2
    return torch.fft.rfft2(kernel)


def network(**sizes):
    """A small network in which nothing is zero any more."""
    net = FDN(**{"stages": 2, "channels": 2, "width": 4, "side": 3, **sizes}).double()
    with torch.no_grad():
        for value in net.parameters():
            value.add_(0.1 * draw(*value.shape))
    return net


def matrix_of(function, n):
    return torch.stack([function(column) for column in torch.eye(n, dtype=torch.float64)], 1)


def test_a_stage_solves_its_equations():
    h, w = 6, 4
    stage, sigma = network().stages[0], torch.full((1, 1, 1, 1), 0.02, dtype=torch.float64)
    u, b, symbol = draw(1, 2, h, w), draw(1, 2, h, w), blur_symbol(h, w)
    K = matrix_of(lambda x: multiply(x.reshape(1, 1, h, w), symbol).flatten(), h * w)
    F = []
    for kernel in stage.prior.filters.detach():  # a filter as a sum of shifts, not a convolution
        F.append(
            matrix_of(
                lambda x, k=kernel: sum(
                    k[i, j] * x.reshape(h, w).roll((1 - i, 1 - j), (0, 1))
                    for i in range(3)
                    for j in range(3)
                ).flatten(),
                h * w,
            )
        )
    weight = float(stage.prior.weight(sigma).detach())
    under = K.mT @ K + weight * sum(f.mT @ f for f in F)
    r = stage.correction(u, sigma).detach()
    responses = torch.stack([u[0].flatten(1) @ f.mT for f in F], 1)  # colours, filters, pixels
    size = responses.norm(dim=0)
    kept = (responses * (1 - stage.thresholds.exp().detach()[:, None] / size).clamp_min(0)).detach()
    assert bool((kept == 0).any())
    for c in range(2):
        pull = sum(f.mT @ (k + f @ r[0, c].flatten()) for f, k in zip(F, kept[c], strict=True))
        dense = torch.linalg.solve(under, K.mT @ b[0, c].flatten() + weight * pull)
        found = stage(u, b, symbol, sigma)[0, c].flatten().detach()
        assert torch.allclose(found, dense, atol=1e-8)


def test_an_untrained_stage_is_a_step_for_total_variation():
    u, b, symbol = draw(1, 3, 8, 8), draw(1, 3, 8, 8), blur_symbol(8, 8)
    stage = Stage(8.0, 3, width=4, layers=2, filters=3, side=3).double()
    with torch.no_grad():
        stage.prior.filters[0] = 0.0  # the differences alone
    sigma = torch.full((1, 1, 1, 1), 0.02, dtype=torch.float64)
    assert float(stage.correction(u, sigma).detach().abs().max()) == 0
    rho = 12 * 8.0 * 0.02**2
    slopes = torch.stack([u.roll(-1, d) - u for d in (-2, -1)])
    size = slopes.square().sum(2, keepdim=True).sqrt()
    w = slopes * torch.relu(1 - 1 / (8 * size))
    back = sum(part.roll(1, d) - part for part, d in zip(w, (-2, -1), strict=True))
    under = multiply(
        torch.eye(1, 64, dtype=torch.float64).reshape(1, 1, 8, 8), symbol
    )  # the kernel itself
    power = torch.fft.rfft2(under).abs().square() + rho * sum(
        (2 - 2 * torch.cos(2 * torch.pi * f))
        for f in (torch.fft.fftfreq(8).double()[:, None], torch.fft.rfftfreq(8).double())
    )
    over = symbol.conj() * torch.fft.rfft2(b) + rho * torch.fft.rfft2(back)
    expected = torch.fft.irfft2(over / power, s=(8, 8))
    assert torch.allclose(
        stage(u, b, symbol, sigma).detach(), expected, atol=1e-5
    )  # the root is rounded


def test_its_gradient_is_that_of_finite_differences():
    net, b, symbol = network(stages=1), draw(1, 2, 4, 4), blur_symbol(4, 4)
    sigma = torch.full((1, 1, 1, 1), 0.03, dtype=torch.float64)
    values = [value for value in net.parameters() if value.requires_grad]

    def loss():
        return net(b, symbol, sigma).square().sum()

    loss().backward()
    for value in values:
        at = int(value.grad.abs().argmax())
        found = float(value.grad.flatten()[at])
        with torch.no_grad():
            flat = value.view(-1)
            flat[at] += 1e-6
            up = float(loss())
            flat[at] -= 2e-6
            down = float(loss())
            flat[at] += 1e-6
        assert abs((up - down) / 2e-6 - found) < 1e-5 * max(1.0, abs(found))


def test_images_of_a_batch_do_not_meet_and_even_shifts_pass_through():
    net, b = network(stages=2), draw(2, 2, 8, 6)
    symbol = torch.stack([blur_symbol(8, 6), torch.ones(8, 4) + 0j])[:, None]
    sigma = torch.tensor([0.01, 0.03], dtype=torch.float64).reshape(2, 1, 1, 1)
    both = net.restore(b, symbol, sigma)
    alone = net.restore(b[1:], symbol[1:], 0.03)
    assert torch.allclose(both[1:], alone, atol=1e-10)
    moved = net.restore(b.roll((2, 4), (-2, -1)), symbol, sigma)
    assert torch.allclose(moved, both.roll((2, 4), (-2, -1)), atol=1e-10)
    states = net.states(b, symbol, sigma)
    assert len(states) == 3
    assert torch.equal(states[-1].detach(), both)


def test_before_training_it_is_already_no_worse_than_its_start():
    clean = torch.zeros(1, 3, 32, 32, dtype=torch.float64)
    clean[:, :, 8:20, 10:26] = 0.8
    symbol = blur_symbol(32, 32)
    b = multiply(clean, symbol) + 0.03 * draw(1, 3, 32, 32)
    sigma = torch.full((1, 1, 1, 1), 0.03, dtype=torch.float64)
    with torch.no_grad():
        errors = [
            float((u - clean).square().mean()) for u in FDN().double().states(b, symbol, sigma)
        ]
    assert errors[-1] < 0.5 * errors[0]
    other = TotalVariation().restore(b, symbol, 0.03)
    assert errors[-1] < 3 * float((other - clean).square().mean())


@pytest.mark.parametrize(
    ("make", "error", "words"),
    [
        (lambda: FDN(stages=0), ConditionError, "one step"),
        (lambda: FDN(side=4), ConditionError, "odd side"),
        (lambda: FDN(layers=1), ConditionError, "2 layers"),
        (
            lambda: FDN().restore(torch.zeros(1, 1, 8, 8), torch.ones(8, 5) + 0j, 0.01),
            ShapeError,
            "3 channels",
        ),
        (
            lambda: FDN().restore(torch.zeros(1, 3, 7, 8), torch.ones(7, 5) + 0j, 0.01),
            ShapeError,
            "even sides",
        ),
    ],
)
def test_what_does_not_fit_is_refused(make, error, words):
    with pytest.raises(error, match=words):
        make()
