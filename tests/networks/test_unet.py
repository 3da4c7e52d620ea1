"""The network without a certificate."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

import bmo
from bmo.errors import ConditionError, ShapeError
from bmo.networks import UBody, UNet
from tests.networks.dense import f64, overwrite


def make(**more: object) -> UNet:
    return UNet(**{"channels": 2, "widths": (4, 6, 8), "blocks": 1, **more}).double()


@pytest.mark.parametrize("size", [(8, 8), (5, 7), (1, 3)])
def test_every_size_and_batch(size: tuple[int, int]) -> None:
    D = make()
    u, sigma = torch.randn(2, 3, 2, *size, dtype=f64), torch.rand(3, 1, 1, 1, dtype=f64)
    whole = D.bind(sigma=sigma)(u)
    assert whole.shape == u.shape
    one = D.bind(sigma=sigma[1])
    assert torch.allclose(whole[1, 1], one(u[1, 1]), atol=1e-12)
    assert torch.allclose(whole[:, 1], one(u[:, 1]), atol=1e-12)


def test_sizes_that_are_no_multiple_are_continued_by_their_last_pixel() -> None:
    body = UBody(2, 3, (4, 6), blocks=2).double()
    x = torch.randn(1, 2, 5, 6, dtype=f64)
    more = torch.cat([x, x[..., -1:, :]], -2)
    assert torch.allclose(body(x), body(more)[..., :5, :], atol=1e-12)


def test_the_noise_level_counts() -> None:
    D, u = make(), torch.randn(2, 8, 8, dtype=f64)
    low, high = (D.bind(sigma=torch.tensor(s))(u) for s in (0.1, 0.2))
    assert not torch.allclose(low, high, atol=1e-6)


def test_without_biases_it_scales() -> None:
    D, u = make(bias=False), torch.randn(2, 9, 8, dtype=f64)
    once, twice = D.bind(sigma=torch.tensor(0.1)), D.bind(sigma=torch.tensor(0.3))
    assert torch.allclose(twice(3 * u), 3 * once(u), atol=1e-12)
    with_bias = make()
    once, twice = (with_bias.bind(sigma=torch.tensor(s)) for s in (0.1, 0.3))
    assert not torch.allclose(twice(3 * u), 3 * once(u), atol=1e-3)


def test_it_has_no_certificate() -> None:
    D = make()
    assert D.certified == "none" and D.averaged == 1 and D.metric.event_dims == 3
    overwrite(D, "0.3")
    found = bmo.certify.nonexpansive(D, shape=(2, 6, 6), trials=4, ascent=2)
    assert not found.holds and found.measured > 2
    half = bmo.operators.Lambda(lambda u: u / 2, D.metric)
    assert bmo.operators.Composition(half, D).certified == "none"


def test_saved_and_read_again(tmp_path: Path) -> None:
    D, other = make(), make()
    overwrite(D, "random")
    assert "sigma" not in D.state_dict()
    save_file(D.state_dict(), tmp_path / "weights.safetensors")
    other.load_state_dict(load_file(tmp_path / "weights.safetensors"))
    u = torch.randn(2, 8, 8, dtype=f64)
    assert torch.equal(other(u), D(u))


def test_refusals() -> None:
    for wrong in ({"widths": ()}, {"widths": (4, 0)}, {"blocks": 0}):
        with pytest.raises(ConditionError, match="widths"):
            make(**wrong)
    D = make()
    for image in (torch.zeros(3, 8, 8, dtype=f64), torch.zeros(8, 8, dtype=f64)):
        with pytest.raises(ShapeError, match="images"):
            D(image)
    with pytest.raises(ShapeError, match="noise level"):
        D.bind(sigma=torch.ones(3, 1, 1, 1))(torch.zeros(2, 2, 8, 8, dtype=f64))
