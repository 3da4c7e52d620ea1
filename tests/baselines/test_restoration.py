"""Wiener, total variation and wavelets against other libraries and other solvers."""

import importlib

import cvxpy
import numpy as np
import pytest
import pywt
import torch
from skimage.restoration import denoise_tv_chambolle
from skimage.restoration import wiener as skimage_wiener

from bmo.baselines.restoration import (
    TotalVariation,
    WaveletPrior,
    Wavelets,
    WaveletShrinkage,
    Wiener,
    fit_spectrum,
)
from bmo.baselines.restoration.base import by_level, difference_symbols, multiply, solve
from bmo.errors import ConditionError, DataError, DomainError, NonFiniteError, ShapeError
from bmo.gkm import GKM
from bmo.operators import Composition, FourierDataStep


def kernel_of(seed=0, side=3):
    k = torch.rand(side, side, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))
    return k / k.sum()


def symbol_of(kernel, shape):
    """Centre at (0, 0); every entry placed by itself."""
    canvas = torch.zeros(shape, dtype=torch.float64)
    for i in range(kernel.shape[0]):
        for j in range(kernel.shape[1]):
            canvas[i - kernel.shape[0] // 2, j - kernel.shape[1] // 2] += kernel[i, j]
    return torch.fft.rfft2(canvas)


def matrix_of(function, n):
    """A linear map as a matrix, column by column."""
    return torch.stack([function(column) for column in torch.eye(n, dtype=torch.float64)], 1)


def picture(seed, *shape):
    return torch.rand(shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


def test_a_solve_is_that_of_the_dense_equations():
    b, v, symbol = picture(0, 1, 1, 5, 6), picture(1, 1, 1, 5, 6), symbol_of(kernel_of(), (5, 6))
    K = matrix_of(lambda u: multiply(u.reshape(1, 1, 5, 6), symbol).flatten(), 30)
    slopes = difference_symbols(b)
    Q = 0.3 * sum(
        (G := matrix_of(lambda u, s=s: multiply(u.reshape(1, 1, 5, 6), s).flatten(), 30)).mT @ G
        for s in slopes
    )
    dense = torch.linalg.solve(K.mT @ K + Q, K.mT @ b.flatten() + v.flatten())
    found = solve(b, symbol, 0.3 * slopes.abs().square().sum(0), v)
    assert torch.allclose(found.flatten(), dense, atol=1e-12)


def test_differences_are_forward_and_circular():
    u = picture(2, 1, 1, 5, 7)
    down, right = (multiply(u, s) for s in difference_symbols(u))
    assert torch.allclose(down, u.roll(-1, -2) - u, atol=1e-12)
    assert torch.allclose(right, u.roll(-1, -1) - u, atol=1e-12)


@pytest.mark.parametrize(("power", "decay"), [(0.02, 0.0), (3e-4, 2.5)])
def test_wiener_is_that_of_scikit_image(power, decay):
    b, kernel, sigma = picture(3, 1, 2, 16, 17), kernel_of(1, 5), 0.05
    method = Wiener(power, decay)
    found = method.restore(b, symbol_of(kernel, (16, 17)), sigma)
    regulariser = method.spectrum(b).sqrt().to(torch.complex128).numpy()
    for channel, got in zip(b[0].numpy(), found[0], strict=True):
        other = skimage_wiener(channel, kernel.numpy(), sigma**2, reg=regulariser, clip=False)
        assert np.allclose(got.numpy(), other, atol=1e-12)


def test_no_other_power_does_better_for_images_of_that_spectrum():
    draws = torch.Generator().manual_seed(4)
    white = torch.randn(40, 1, 32, 32, dtype=torch.float64, generator=draws)
    shape = Wiener(1.0, 2.0).spectrum(white)
    shape[0, 0] = torch.inf
    u = torch.fft.irfft2(torch.fft.rfft2(white) * (2e-3 / shape).sqrt(), s=(32, 32))
    symbol = symbol_of(kernel_of(2, 7), (32, 32))
    noise = torch.randn(u.shape, dtype=torch.float64, generator=draws)
    b = multiply(u, symbol) + 0.1 * noise

    def error(power, decay):
        return float((Wiener(power, decay).restore(b, symbol, 0.1) - u).square().mean())

    best = error(2e-3, 2.0)
    assert best < min(error(1e-3, 2.0), error(4e-3, 2.0), error(2e-3, 1.5), error(2e-3, 2.5))


def test_the_fitted_spectrum_is_that_of_the_images():
    point = torch.zeros(3, 64, 64, dtype=torch.float64)
    point[:, 0, 0] = 64.0  # every frequency has power one
    inverse = Wiener(1.0, 2.3).spectrum(point)
    inverse[0, 0] = torch.inf
    u = torch.fft.irfft2(torch.fft.rfft2(point) * (5e-4 / inverse).sqrt(), s=(64, 64))
    power, decay = fit_spectrum([u, u])
    assert abs(power / 5e-4 - 1) < 0.03
    assert abs(decay - 2.3) < 0.03


@pytest.mark.parametrize("coupled", [True, False])
def test_total_variation_reaches_the_value_of_a_conic_solver(coupled):
    clean = torch.zeros(1, 2, 6, 6, dtype=torch.float64)
    clean[:, :, 1:4, 2:5] = torch.tensor([1.0, 0.5])[:, None, None]
    symbol, sigma = symbol_of(kernel_of(3), (6, 6)), 0.05
    b = multiply(clean, symbol) + sigma * (picture(6, 1, 2, 6, 6) - 0.5)
    method = TotalVariation(0.002, 0.02, coupled=coupled, ratio=10.0, steps=4000)
    u = method.restore(b, symbol, sigma)

    K = matrix_of(lambda x: multiply(x.reshape(1, 1, 6, 6), symbol).flatten(), 36).numpy()
    down, right = (
        matrix_of(lambda x, d=d: (x.reshape(6, 6).roll(-1, d) - x.reshape(6, 6)).flatten(), 36)
        for d in (0, 1)
    )
    x = [cvxpy.Variable(36), cvxpy.Variable(36)]
    slopes = [[down.numpy() @ c, right.numpy() @ c] for c in x]
    groups = [slopes[0] + slopes[1]] if coupled else slopes
    variation = sum(cvxpy.sum(cvxpy.norm(cvxpy.vstack(group), 2, axis=0)) for group in groups)
    fit = sum(cvxpy.sum_squares(K @ c - d.flatten().numpy()) for c, d in zip(x, b[0], strict=True))
    weight = float(method.weight(torch.tensor(sigma, dtype=torch.float64)))
    problem = cvxpy.Problem(cvxpy.Minimize(0.5 * fit + weight * variation))
    best = problem.solve(solver="CLARABEL")
    assert abs(float(method.value(u, b, symbol, sigma)) - best) < 3e-7
    assert np.abs(u[0].flatten(1).numpy() - np.stack([c.value for c in x])).max() < 2e-3


def test_without_blur_it_is_the_denoiser_of_scikit_image():
    signal = np.repeat([0.2, 0.9, 0.5], 8) + 0.1 * np.random.RandomState(0).standard_normal(24)
    other = denoise_tv_chambolle(signal, weight=0.1, eps=1e-14, max_num_iter=20_000)
    # a mirrored signal: its circular differences are those of the signal, twice
    b = torch.from_numpy(np.concatenate([signal, signal[::-1]])).expand(1, 1, 4, 48)
    method = TotalVariation(0.1, 0.2, ratio=10.0, steps=2000)
    found = method.restore(b, torch.ones(4, 25) + 0j, 0.01)
    assert np.abs(found[0, 0, :, :24].numpy() - other).max() < 1e-4
    assert np.abs(signal - other).max() > 0.1


def test_weights_follow_a_power_of_the_noise():
    assert torch.allclose(by_level(2.0, 6.0, torch.tensor([0.01, 0.03])), torch.tensor([2.0, 6.0]))
    b, symbol = picture(7, 2, 1, 8, 8), symbol_of(kernel_of(4), (8, 8))
    sigma = torch.tensor([0.01, 0.05], dtype=torch.float64).reshape(2, 1, 1, 1)
    for method in (TotalVariation(steps=5), WaveletPrior(wavelet="haar", levels=2, steps=3)):
        both = method.restore(b, symbol, sigma)
        for i, level in enumerate((0.01, 0.05)):
            alone = method.restore(b[i : i + 1], symbol, level)
            assert torch.allclose(both[i : i + 1], alone, atol=1e-12)


@pytest.mark.parametrize("name", ["haar", "db2", "db3", "sym4"])
def test_wavelets_are_those_of_pywavelets(name):
    u = picture(8, 2, 3, 32, 48)
    W = Wavelets(name, levels=2)
    parts = W(u)
    other = pywt.wavedec2(u.numpy(), name, mode="periodization", level=2, axes=(-2, -1))
    assert np.allclose(parts[-1].numpy(), other[0], atol=1e-12)
    for found, (horizontal, vertical, diagonal) in zip(parts[:-1], other[:0:-1], strict=True):
        for i, band in enumerate((vertical, horizontal, diagonal)):
            assert np.allclose(found[:, :, i].numpy(), band, atol=1e-12)
    assert float((W.inverse(parts) - u).abs().max()) < 2e-11  # the digits of sym4
    assert abs(float(sum(p.square().sum() for p in parts) / u.square().sum()) - 1) < 1e-11


def test_shrinkage_is_that_of_pywavelets_averaged_over_shifts():
    u, cut = picture(9, 3, 16, 16), 0.2
    total = np.zeros((3, 16, 16))
    for s in range(3):
        moved = np.roll(u.numpy(), (s, s), (-2, -1))
        rest, *details = pywt.wavedec2(moved, "db2", mode="periodization", level=2, axes=(-2, -1))
        kept = [tuple(pywt.threshold(d, cut, "soft") for d in level) for level in details]
        back = pywt.waverec2([rest, *kept], "db2", mode="periodization", axes=(-2, -1))
        total += np.roll(back, (-s, -s), (-2, -1)) / 3
    found = WaveletShrinkage(cut, "db2", levels=2, shifts=3)(u)
    assert np.allclose(found.numpy(), total, atol=1e-12)


@pytest.mark.parametrize("shifts", [1, 4])
def test_shrinkage_is_firmly_nonexpansive(shifts):
    N = WaveletShrinkage(0.3, "db2", levels=2, shifts=shifts)
    assert (N.certified, N.averaged) == ("by construction", 0.5)
    u, v = picture(10, 50, 2, 16, 16), picture(11, 50, 2, 16, 16)
    v = u + torch.logspace(-3, 1, 50, dtype=torch.float64)[:, None, None, None] * (v - 0.5)
    gap = N(u) - N(v)
    inner, size = (gap * (u - v)).sum((1, 2, 3)), gap.square().sum((1, 2, 3))
    assert bool((size <= inner * (1 + 1e-12)).all())
    assert float((size / (u - v).square().sum((1, 2, 3))).max()) > 0.5  # no trivial map
    assert N.metric.event_dims == 3


def test_a_learned_threshold_has_a_gradient():
    N = WaveletShrinkage(0.1, "haar", levels=1, learn=True)
    N(picture(12, 1, 8, 8)).square().sum().backward()
    (raw,) = N.parameters()
    assert float(raw.grad.abs()) > 0


def test_the_wavelet_prior_is_the_iteration_of_the_book():
    b, symbol, sigma = picture(13, 1, 2, 16, 16), symbol_of(kernel_of(5), (16, 16)), 0.01
    prior = WaveletPrior(0.05, 0.1, 0.2, 0.4, "db2", levels=2, shifts=2, steps=40)
    D = Composition(
        WaveletShrinkage(0.05, "db2", levels=2, shifts=2),
        FourierDataStep(symbol[None], b, weight=0.2),
    )
    assert D.averaged <= 2 / 3 + 1e-12
    u = Wiener().restore(b, symbol, sigma)
    for _ in range(40):
        u = D(u)
    found = prior.restore(b, symbol, sigma)
    assert torch.allclose(found, u.detach(), atol=1e-7)  # the step keeps p in float32
    result = GKM(D, alpha=0.9).iterate(torch.zeros_like(b), 5000, tol=1e-9)
    long = WaveletPrior(0.05, 0.1, 0.2, 0.4, "db2", levels=2, shifts=2, steps=3000)
    assert torch.allclose(long.restore(b, symbol, sigma), result.value.detach(), atol=1e-6)


GOOD = (torch.zeros(1, 1, 8, 8), torch.ones(8, 5) + 0j, 0.01)


@pytest.mark.parametrize(
    ("make", "error", "words"),
    [
        (lambda: Wiener().restore(GOOD[0][0], *GOOD[1:]), ShapeError, "B, C, H, W"),
        (lambda: Wiener().restore(GOOD[0].long(), *GOOD[1:]), ShapeError, "floating-point"),
        (lambda: Wiener().restore(GOOD[0], GOOD[1].real, 0.01), ShapeError, "complex symbol"),
        (lambda: Wiener().restore(GOOD[0], GOOD[1][:, :4], 0.01), ShapeError, "complex symbol"),
        (lambda: Wiener().restore(GOOD[0] / 0, *GOOD[1:]), NonFiniteError, "NaN"),
        (lambda: Wiener().restore(*GOOD[:2], 0.0), DomainError, "sigma > 0"),
        (lambda: Wiener().restore(*GOOD[:2], torch.ones(1, 1)), ShapeError, "one sigma"),
        (lambda: Wiener(power=0.0), DomainError, "power > 0"),
        (lambda: Wiener(decay=-1.0), DomainError, "decay > 0"),
        (lambda: TotalVariation(low=-1.0), DomainError, "low > 0"),
        (lambda: TotalVariation(ratio=float("inf")), DomainError, "ratio > 0"),
        (lambda: TotalVariation(steps=0), ConditionError, "one step"),
        (lambda: WaveletPrior(pull_low=0.0), DomainError, "pull_low > 0"),
        (lambda: WaveletPrior(steps=0), ConditionError, "one step"),
        (lambda: WaveletShrinkage(0.0), DomainError, "threshold > 0"),
        (lambda: WaveletShrinkage(0.1, shifts=0), DomainError, "one shift"),
        (lambda: Wavelets("haar", levels=0), DomainError, "one level"),
        (lambda: Wavelets("bior2.2"), DomainError, "orthonormal"),
        (lambda: Wavelets("sym4x"), DataError, "a wavelet of PyWavelets"),
        (lambda: Wavelets("haar", levels=2)(torch.zeros(1, 6, 8)), ShapeError, "multiples of 4"),
        (lambda: Wavelets("sym4", levels=2)(torch.zeros(1, 8, 8)), ShapeError, "filter 8"),
    ],
)
def test_what_does_not_fit_is_refused(make, error, words):
    with pytest.raises(error, match=words):
        make()


def test_without_pywavelets_haar_still_works(monkeypatch):
    def missing(name):
        raise ImportError(name)

    monkeypatch.setattr(importlib, "import_module", missing)
    assert Wavelets("haar", levels=1).side == 2
    with pytest.raises(DataError, match="wavelets"):
        Wavelets("sym4")
