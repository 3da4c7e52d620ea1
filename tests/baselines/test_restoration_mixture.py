"""The mixture of patches and EPLL, against scipy and against loops over patches."""

import numpy as np
import pytest
import torch
from scipy.stats import multivariate_normal

from bmo.baselines.restoration import EPLL, PatchMixture, Wiener, expectation_maximisation
from bmo.baselines.restoration.base import multiply
from bmo.baselines.restoration.mixture import first_guess, maximise
from bmo.errors import ConditionError, DomainError, ShapeError

DRAWS = np.random.RandomState(0)
ROOTS = DRAWS.standard_normal((3, 4, 4)) * np.array([0.1, 0.4, 1.5])[:, None, None]
SIGMAS = ROOTS @ ROOTS.transpose(0, 2, 1) + 0.01 * np.eye(4)
WEIGHTS = np.array([0.5, 0.3, 0.2])
MIXTURE = PatchMixture(torch.from_numpy(WEIGHTS), torch.from_numpy(SIGMAS))
ROWS = np.concatenate([DRAWS.multivariate_normal(np.zeros(4), s, size=400) for s in SIGMAS])


def logs_of(x, weights, sigmas, noise=0.0):
    """Logarithms of the weighted densities of each component, from scipy; shape (N, J)."""
    eye = np.eye(x.shape[-1])
    logs = [multivariate_normal(cov=s + noise * eye).logpdf(x).reshape(-1) for s in sigmas]
    return np.stack(logs, 1) + np.log(weights)


@pytest.mark.parametrize("noise", [0.0, 0.3])
def test_densities_are_those_of_scipy(noise):
    logs = logs_of(ROWS, WEIGHTS, SIGMAS, noise)
    x = torch.from_numpy(ROWS)
    assert np.allclose(MIXTURE.log_parts(x, noise).numpy(), logs, atol=1e-9)
    assert np.allclose(
        MIXTURE.log_density(x, noise).numpy(), np.logaddexp.reduce(logs, 1), atol=1e-9
    )
    assert np.allclose(MIXTURE.covariances.numpy(), SIGMAS, atol=1e-12)


def test_a_step_of_em_is_that_of_its_formulas():
    parts = np.exp(logs_of(ROWS, WEIGHTS, SIGMAS))
    shares = parts / parts.sum(1, keepdims=True)
    found = maximise(torch.from_numpy(ROWS), torch.from_numpy(shares), floor=1e-3)
    assert np.allclose(found.weights.numpy(), shares.mean(0), atol=1e-12)
    for j in range(3):
        outer = sum(r * np.outer(x, x) for r, x in zip(shares[:, j], ROWS, strict=True))
        expected = outer / shares[:, j].sum() + 1e-3 * np.eye(4)
        assert np.allclose(found.covariances[j].numpy(), expected, atol=1e-12)


def test_em_climbs_and_finds_the_mixture_that_was_drawn_from():
    sigmas = np.stack([np.diag([1.0, 0.01]), np.diag([0.01, 1.0])])
    x = np.concatenate([DRAWS.multivariate_normal([0, 0], s, size=n)
                        for s, n in zip(sigmas, (3000, 1000), strict=True)])  # fmt: skip
    mixture, trace = expectation_maximisation(torch.from_numpy(x), 2, 60, floor=1e-12)
    assert all(b >= a - 1e-12 for a, b in zip(trace, trace[1:], strict=False))
    assert trace[-1] > trace[0] + 0.01
    order = mixture.weights.argsort(descending=True)
    assert np.allclose(mixture.weights[order].numpy(), [0.75, 0.25], atol=0.02)
    assert np.allclose(mixture.covariances[order].numpy(), sigmas, atol=0.08)


def test_the_first_groups_hold_every_patch_once():
    x = torch.from_numpy(ROWS)
    guess = first_guess(x, 5, torch.Generator().manual_seed(1), floor=1e-9)
    whole = (guess.weights[:, None, None] * guess.covariances).sum(0)
    assert torch.allclose(whole, x.mT @ x / len(x), atol=1e-6)
    assert abs(float(guess.weights.sum()) - 1) < 1e-12


def cleaned(x, noise):
    """The Wiener estimate of the most likely component, one patch at a time."""
    j = int(logs_of(x[None], WEIGHTS, SIGMAS, noise).argmax())
    return SIGMAS[j] @ np.linalg.solve(SIGMAS[j] + noise * np.eye(4), x)


def test_patches_are_cleaned_by_their_most_likely_component():
    found = MIXTURE.most_likely(torch.from_numpy(ROWS), 0.2).numpy()
    assert np.allclose(found, [cleaned(x, 0.2) for x in ROWS], atol=1e-10)


@pytest.mark.parametrize(("stride", "shift"), [(1, 0), (2, 0), (2, 1)])
def test_denoising_is_a_loop_over_patches(stride, shift):
    u, beta = DRAWS.standard_normal((6, 8)), 5.0
    total, count = np.zeros((6, 8)), np.zeros((6, 8))
    for i in range(shift, 6 + shift, stride):
        for j in range(shift, 8 + shift, stride):
            at = np.ix_([i % 6, (i + 1) % 6], [j % 8, (j + 1) % 8])
            patch = u[at].flatten()
            total[at] += (cleaned(patch - patch.mean(), 1 / beta) + patch.mean()).reshape(2, 2)
            count[at] += 1
    method = EPLL(MIXTURE, betas=[beta], stride=stride)
    colours = torch.from_numpy(np.stack([u, 2 * u]))[None]
    found = method.denoise(colours, beta, shift)
    assert np.allclose(found[0, 0].numpy(), total / count, atol=1e-10)
    alone = method.denoise(colours[:, 1:], beta, shift)
    assert torch.equal(found[:, 1:], alone)  # the colours do not meet


def test_the_iteration_solves_for_the_image_after_each_denoising():
    kernel = torch.zeros(6, 8, dtype=torch.float64)
    kernel[0, 0], kernel[1, 0], kernel[0, -1] = 0.5, 0.3, 0.2
    symbol, sigma, betas = torch.fft.rfft2(kernel), 0.1, [4.0, 16.0]
    b = torch.from_numpy(DRAWS.standard_normal((1, 1, 6, 8)))
    eye = torch.eye(48, dtype=torch.float64)
    K = multiply(eye.reshape(48, 1, 6, 8), symbol).reshape(48, 48).mT
    method = EPLL(MIXTURE, betas, stride=2)
    u = Wiener().restore(b, symbol, sigma)
    for k, beta in enumerate(betas):
        z = method.denoise(u, beta, shift=k % 2).flatten()
        right = K.mT @ b.flatten() / sigma**2 + beta * z
        u = torch.linalg.solve(K.mT @ K / sigma**2 + beta * eye, right).reshape(1, 1, 6, 8)
    assert torch.allclose(method.restore(b, symbol, sigma), u, atol=1e-10)


@pytest.mark.parametrize(
    ("make", "error", "words"),
    [
        (lambda: PatchMixture(torch.ones(2), torch.eye(4)[None]), ShapeError, "one covariance"),
        (lambda: EPLL(MIXTURE, betas=[]), ConditionError, "one step"),
        (lambda: EPLL(MIXTURE, betas=[-1.0]), DomainError, "beta > 0"),
        (lambda: EPLL(MIXTURE, stride=3), ConditionError, "divides 2"),
        (
            lambda: EPLL(MIXTURE, stride=2).denoise(torch.zeros(1, 1, 5, 6), 1.0),
            ConditionError,
            "multiples of 2",
        ),
    ],
)
def test_what_does_not_fit_is_refused(make, error, words):
    with pytest.raises(error, match=words):
        make()
