"""Deconvolution: the blur against other people's convolution, kernels, the protocol, bad input."""

from __future__ import annotations

import builtins
import importlib
from collections.abc import Callable

import numpy as np
import pytest
import torch
from scipy import ndimage
from skimage.metrics import peak_signal_noise_ratio, structural_similarity
from torch import Tensor

from bmo import errors
from bmo.data import load_image
from bmo.problems import deconvolution as dec

f64 = torch.float64
INPUT = {1: (12.43, 10.84, 16.87), 3: (12.37, 10.80, 16.71)}  # the input rows of the tables


def kernel(*shape: int) -> Tensor:
    k = torch.rand(*shape, dtype=f64)
    return k / k.sum((-2, -1), keepdim=True)


@pytest.mark.parametrize("shape", [(9, 12), (8, 8), (11, 7), (7, 9)])
@pytest.mark.parametrize("sides", [(5, 7), (3, 3), (1, 5), (7, 7)])
def test_blur_is_the_circular_convolution_of_scipy(
    shape: tuple[int, int], sides: tuple[int, int]
) -> None:
    k, u = kernel(*sides), torch.rand(3, *shape, dtype=f64)
    ours = dec.Blur(k, shape)(u)
    for mine, plane in zip(ours, u, strict=True):
        theirs = ndimage.convolve(plane.numpy(), k.numpy(), mode="wrap")
        assert float((mine - torch.from_numpy(theirs)).abs().max()) <= 1e-14
    flipped = ndimage.convolve(u[0].numpy(), k.flip(-2, -1).numpy(), mode="wrap")
    if sides != (1, 1):  # the order of the kernel matters, so the test can see it
        assert float((ours[0] - torch.from_numpy(flipped)).abs().max()) > 1e-3


@pytest.mark.parametrize("shape", [(8, 9), (9, 8)])
def test_adjoint_norm_and_batches_of_kernels(shape: tuple[int, int]) -> None:
    blur = dec.Blur(kernel(4, 1, 5, 5), shape)
    u, v = torch.randn(2, 4, 3, *shape, dtype=f64)
    left, right = ((blur(u) * v).flatten(1).sum(1), (u * blur.adjoint(v)).flatten(1).sum(1))
    assert torch.allclose(left, right, rtol=1e-12)
    assert float(blur.symbol.abs().max()) == pytest.approx(1.0, abs=1e-14)  # at frequency zero
    again = torch.Generator().manual_seed(5)
    kernels = dec.motion_kernels(again, 3, 7)
    many = dec.Blur(kernels, shape)(u[:3])
    for k, image, blurred in zip(kernels, u, many, strict=False):
        assert torch.allclose(dec.Blur(k, shape)(image), blurred, atol=1e-14)


def test_motion_kernels_are_kernels() -> None:
    generator = torch.Generator().manual_seed(0)
    sides = set()
    for _ in range(60):
        k = dec.motion_kernel(generator)
        sides.add(len(k))
        at = torch.arange(len(k), dtype=f64) - len(k) // 2
        assert k.shape == (len(k), len(k))
        assert dec.require_kernel(k).shape[0] == 1
        assert max(abs(float(k.sum(i) @ at)) for i in (0, 1)) <= 1e-12  # centred
        assert 8 <= int((k > 1e-3).sum()) <= 0.6 * k.numel()  # a curve, no dot and no blot
    assert sides == set(dec.SIDES)
    first, second = (dec.motion_kernel(torch.Generator().manual_seed(3), 15) for _ in range(2))
    assert torch.equal(first, second)
    assert dec.motion_kernels(generator, 3).shape == (3, 27, 27)
    assert dec.motion_kernels(generator, 2, 13).sum((1, 2)) == pytest.approx([1.0, 1.0])


@pytest.mark.parametrize("side", [4, 3, 14])
def test_no_motion_kernel_of_an_even_side(side: int) -> None:
    with pytest.raises(errors.ShapeError, match="odd side"):
        dec.motion_kernel(torch.Generator(), side)


def test_noise_is_that_of_numpy_and_stays_unclipped() -> None:
    u, k = torch.zeros(3, 8, 9, dtype=f64), kernel(3, 3)
    expected = np.random.RandomState(4).normal(0, 2.55 / 255, (8, 9, 3)).transpose(2, 0, 1)
    b = dec.observe(u, k, 1, seed=4)
    assert np.abs(b.numpy() - expected).max() <= 1e-15
    assert float(b.min()) < 0
    single = dec.observe(u.float(), k, 1, seed=4)
    assert single.dtype == torch.float32
    assert torch.allclose(single.double(), b, atol=1e-8)


def test_scores_are_those_of_scikit_image() -> None:
    u = torch.rand(2, 3, 20, 24, dtype=f64)
    v = u + 0.2 * torch.randn_like(u)  # leaves [0, 1]: the stored image is clipped
    eight = [np.round(255 * x.numpy().clip(0, 1)).astype(np.uint8) for x in (u, v)]
    for i in range(2):
        truth, image = (x[i].transpose(1, 2, 0) for x in eight)
        assert float(dec.score(v, u)[i]) == pytest.approx(
            peak_signal_noise_ratio(truth, image, data_range=255), abs=1e-6
        )
        theirs = structural_similarity(
            truth, image, channel_axis=-1, gaussian_weights=True, sigma=1.5,
            use_sample_covariance=False, data_range=255,
        )  # fmt: skip
        assert float(dec.similarity(v, u)[i]) == pytest.approx(theirs, abs=1e-6)


@pytest.mark.data
def test_input_rows_of_the_tables() -> None:
    k = dec.levin()[3]
    assert k.shape == (27, 27)
    for percent, row in INPUT.items():
        for name, expected in zip(("butterfly", "leaves", "starfish"), row, strict=True):
            u = load_image(f"set3c/{name}.png")
            assert float(dec.score(dec.observe(u, k, percent), u)) == pytest.approx(
                expected, abs=0.006
            )
    turned = load_image("set3c/leaves.png")  # the kernel in the order of the file is another blur
    assert abs(float(dec.score(dec.observe(turned, k.mT, 1), turned)) - 10.84) > 0.02


@pytest.mark.data
def test_the_kernels_of_levin_are_kernels() -> None:
    assert [len(k) for k in dec.levin()] == [19, 17, 15, 27, 13, 21, 23, 23]
    assert all(len(dec.require_kernel(k, (256, 256))) == 1 for k in dec.levin())


@pytest.mark.data
def test_levin_without_h5py_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    real = builtins.__import__

    def missing(name: str, *rest: object) -> object:
        if name == "h5py":
            raise ImportError(name)
        return real(name, *rest)  # type: ignore[arg-type]

    monkeypatch.setattr(importlib, "import_module", missing)
    with pytest.raises(errors.DataError, match="pip install h5py"):
        dec.levin()


GOOD = torch.full((3, 3), 1 / 9, dtype=f64)
IMAGE = torch.full((3, 8, 8), 0.5, dtype=f64)
BAD: dict[str, tuple[Callable[[], object], type[errors.BMOError], str]] = {
    "even": (lambda: dec.Blur(kernel(4, 5), (8, 8)), errors.ShapeError, "odd sides"),
    "large": (lambda: dec.Blur(kernel(9, 3), (8, 8)), errors.ShapeError, "no larger than"),
    "sum": (lambda: dec.Blur(2 * GOOD, (8, 8)), errors.DomainError, "sums to 1"),
    "one of two": (
        lambda: dec.Blur(torch.stack([GOOD, GOOD * 1.01]), (8, 8)),
        errors.DomainError,
        "a sum of 1.01",
    ),
    "negative": (
        lambda: dec.Blur(GOOD - torch.eye(3, dtype=f64), (8, 8)),
        errors.DomainError,
        "kernel >= 0",
    ),
    "nan": (lambda: dec.Blur(GOOD * torch.nan, (8, 8)), errors.NonFiniteError, "finite kernel"),
    "integers": (lambda: dec.Blur(torch.ones(3, 3).int(), (8, 8)), errors.ShapeError, "floating"),
    "line": (lambda: dec.require_kernel(torch.ones(3)), errors.ShapeError, "floating"),
    "colours": (lambda: dec.require_kernel(kernel(2, 3, 3, 3)), errors.ShapeError, "all colours"),
    "size": (lambda: dec.Blur(GOOD, (8, 8))(IMAGE[..., :7]), errors.ShapeError, "8 x 8"),
    "batch": (
        lambda: dec.Blur(kernel(2, 3, 3), (8, 8))(IMAGE.expand(3, 3, 8, 8)),
        errors.ShapeError,
        "one for each of 3 images",
    ),
    "eight bits": (
        lambda: dec.observe((255 * IMAGE).to(torch.uint8), GOOD, 1),
        errors.ShapeError,
        "divide 8-bit",
    ),
    "0 to 255": (lambda: dec.observe(255 * IMAGE, GOOD, 1), errors.DomainError, r"on \[0, 1\]"),
    "below 0": (lambda: dec.observe(IMAGE - 1, GOOD, 1), errors.DomainError, r"on \[0, 1\]"),
    "nan image": (
        lambda: dec.observe(IMAGE * torch.nan, GOOD, 1),
        errors.NonFiniteError,
        "finite image",
    ),
    "last axis": (lambda: dec.observe(IMAGE.mT[:2], GOOD, 1), errors.ShapeError, "gray"),
    "many": (lambda: dec.observe(IMAGE[None], GOOD, 1), errors.ShapeError, "one by one"),
    "noise": (lambda: dec.observe(IMAGE, GOOD, -1), errors.DomainError, "noise level"),
    "gray": (lambda: dec.score(IMAGE[:1], IMAGE), errors.ShapeError, "both gray or both colour"),
    "precision": (lambda: dec.score(IMAGE.float(), IMAGE), errors.ShapeError, "one shape, dtype"),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_input_is_refused(case: str) -> None:
    make, kind, words = BAD[case]
    with pytest.raises(kind, match=words) as caught:
        make()
    assert caught.value.remedy
