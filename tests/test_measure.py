"""PSNR, SSIM and NMSE against scikit-image, closed forms, and published input figures."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from skimage.color import rgb2ycbcr
from skimage.metrics import peak_signal_noise_ratio, structural_similarity
from torch import Tensor

from bmo import data, measure
from bmo.errors import DomainError, NonFiniteError, ShapeError


def pictures(shape: tuple[int, ...], seed: int = 0) -> tuple[Tensor, Tensor]:
    rng = data.generator(seed)
    u = torch.rand(shape, generator=rng, dtype=torch.float64)
    return u, (u + 0.1 * torch.randn(shape, generator=rng, dtype=torch.float64)).clamp(0, 1)


SHAPES = [(24, 31), (1, 11, 11), (3, 20, 17), (4, 3, 16, 12), (2, 2, 3, 15, 13)]


def skimage_ssim(u: Tensor, v: Tensor, data_range: float) -> float:
    axis = 0 if u.ndim == 3 else None
    return float(
        structural_similarity(
            u.numpy(),
            v.numpy(),
            data_range=data_range,
            gaussian_weights=True,
            sigma=1.5,
            use_sample_covariance=False,
            channel_axis=axis,
        )
    )


@pytest.mark.parametrize("shape", SHAPES)
def test_each_image_agrees_with_scikit_image(shape: tuple[int, ...]) -> None:
    u, v = pictures(shape)
    p, s = measure.psnr(v, u), measure.ssim(v, u)
    assert p.shape == s.shape == shape[:-3]
    assert p.dtype == s.dtype == torch.float64
    batch = shape[-3:]
    pairs = zip(u.reshape(-1, *batch), v.reshape(-1, *batch), strict=True)
    for one_p, one_s, (a, b) in zip(p.reshape(-1), s.reshape(-1), pairs, strict=True):
        expected = peak_signal_noise_ratio(a.numpy(), b.numpy(), data_range=1)
        assert abs(one_p.item() - expected) < 1e-10
        assert abs(one_s.item() - skimage_ssim(a, b, 1)) < 1e-10


def test_ssim_on_natural_pictures_and_other_ranges() -> None:
    for u in data.page_pictures("test").values():
        v = u.flip(-1) * 0.9 + 0.05
        assert abs(measure.ssim(u, v).item() - skimage_ssim(u, v, 1)) < 1e-10
        a, b = measure.to_uint8(u), measure.to_uint8(v)
        assert abs(measure.ssim(a, b).item() - skimage_ssim(a, b, 255)) < 1e-10
        c, d = 7 * u, 7 * v
        assert abs(measure.ssim(c, d, 7).item() - skimage_ssim(c, d, 7)) < 1e-10


def test_psnr_closed_forms() -> None:
    u = torch.full((3, 12, 12), 0.25, dtype=torch.float64)
    assert measure.psnr(u + 0.01, u).item() == pytest.approx(40, abs=1e-10)
    assert measure.psnr(u + 0.01, u, data_range=2).item() == pytest.approx(40 + 20 * math.log10(2))
    a, b = torch.zeros(1, 4, 4, dtype=torch.uint8), torch.full((1, 4, 4), 51, dtype=torch.uint8)
    # 255/51 = 5; uint8 must neither wrap around nor be scaled to [0, 1].
    assert measure.psnr(a, b).item() == pytest.approx(20 * math.log10(5), abs=1e-12)
    assert measure.psnr(u, u).item() == math.inf


def test_float32_is_measured_in_float64() -> None:
    u, v = pictures((1, 64, 64))
    small = measure.psnr(v.float(), u.float())
    exact = measure.psnr(v.float().double(), u.float().double())
    assert small.item() == exact.item()


def test_nmse_is_a_ratio_of_sums() -> None:
    u = torch.tensor([[3.0, 4.0], [0.0, 0.0]], dtype=torch.float64)
    v = u + torch.tensor([[0.3, 0.4], [0.0, 0.5]], dtype=torch.float64)
    # errors 0.25 + 0.25, energy 25 + 0
    assert measure.nmse_db(v, u).item() == pytest.approx(10 * math.log10(0.5 / 25), abs=1e-12)
    assert measure.nmse_db(v[:1], u[:1], per=1).tolist() == pytest.approx([-20.0], abs=1e-12)
    assert measure.nmse_db(u, u).item() == -math.inf
    with pytest.raises(DomainError, match="zero"):
        measure.nmse_db(v, u, per=1)
    with pytest.raises(ShapeError, match="per in 1..2"):
        measure.nmse_db(v, u, per=3)


def test_to_uint8_rounds_half_up_and_cuts() -> None:
    levels = torch.tensor([-1.0, -0.4, 0.4, 0.5, 1.5, 2.5, 254.5, 255.4, 300], dtype=torch.float64)
    assert measure.to_uint8(levels / 255).tolist() == [0, 0, 0, 1, 2, 3, 255, 255, 255]
    every = torch.arange(256)
    for dtype in (torch.float32, torch.float64):
        assert measure.to_uint8(every.to(dtype) / 255).tolist() == every.tolist()
    same = every.to(torch.uint8)
    assert measure.to_uint8(same) is same


def test_luma_agrees_with_scikit_image() -> None:
    u, _ = pictures((2, 3, 9, 7))
    expected = rgb2ycbcr(u.permute(0, 2, 3, 1).numpy())[..., 0]
    # scikit-image prints the BT.601 weights to three digits of 255-scale: 65.481 = 0.299 · 219.
    ours = 255 * measure.luma(u, limited=True).squeeze(1)
    assert np.abs(ours.numpy() - expected).max() < 1e-10
    full = 0.299 * u[:, 0] + 0.587 * u[:, 1] + 0.114 * u[:, 2]
    assert (measure.luma(u).squeeze(1) - full).abs().max().item() < 1e-15


def test_y_channel_rounds_twice() -> None:
    colours = torch.tensor([[0, 255, 10], [0, 255, 100], [0, 255, 200]], dtype=torch.uint8)
    y = measure.y_channel(colours.reshape(3, 1, 3))
    third = 16 + (65.481 * 10 + 128.553 * 100 + 24.966 * 200) / 255
    assert y.tolist() == [[[16, 235, math.floor(third + 0.5)]]]
    noisy = colours.reshape(3, 1, 3).double() / 255 + 0.4 / 255
    assert torch.equal(measure.y_channel(noisy), y)


@pytest.mark.parametrize("measured", [measure.psnr, measure.ssim, measure.nmse_db])
def test_pairs_that_do_not_fit_are_refused(measured: object) -> None:
    assert callable(measured)
    u, v = pictures((3, 12, 12))
    for other in (v[:2], v.float(), v.to("meta")):
        with pytest.raises(ShapeError, match="one shape, dtype and device"):
            measured(u, other)
    with pytest.raises(ShapeError, match="floating point or uint8"):
        measured(u.long(), v.long())
    with pytest.raises(ShapeError, match="nonempty"):
        measured(u[..., :0], v[..., :0])
    for bad in (math.nan, math.inf):
        broken = v.clone()
        broken[0, 0, 0] = bad
        with pytest.raises(NonFiniteError, match="first argument"):
            measured(broken, u)
        with pytest.raises(NonFiniteError, match="reference"):
            measured(u, broken)


def test_other_refusals() -> None:
    u, v = pictures((3, 12, 10))
    with pytest.raises(ShapeError, match="11×11"):
        measure.ssim(u, v)
    for data_range in (0.0, -1.0, math.inf, math.nan):
        with pytest.raises(DomainError, match="positive data_range"):
            measure.psnr(u, v, data_range)
    with pytest.raises(ShapeError, match="least 2 dimensions"):
        measure.psnr(u[0, 0], v[0, 0])
    for image in (u[:2], u[0], measure.to_uint8(u)):
        with pytest.raises(ShapeError, match="H, W"):
            measure.luma(image)
    with pytest.raises(NonFiniteError):
        measure.to_uint8(torch.tensor([math.nan]))


@pytest.mark.data
def test_rain_inputs_have_the_figures_of_the_literature() -> None:
    """Rain100L and Rain100H before any deraining, on rounded Y: the tables' first row."""
    clean = [measure.y_channel(u) for _, u in data.images("rain100l_test/norain")]
    for group, psnr, ssim in [
        ("rain100l_test/rain", 26.90, 0.8382),
        ("rain100h_test/rain", 13.55, 0.378),
    ]:
        rows = []
        for (_, u), v in zip(data.images(group), clean, strict=True):
            y = measure.y_channel(u)
            v = v[..., : y.shape[-2], : y.shape[-1]]
            rows.append((measure.psnr(y, v).item(), measure.ssim(y, v).item()))
        mean = np.mean(rows, axis=0)
        assert mean[0] == pytest.approx(psnr, abs=0.006)
        assert mean[1] == pytest.approx(ssim, abs=0.0006)
