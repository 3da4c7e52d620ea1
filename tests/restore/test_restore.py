"""A recorded method on a picture of one's own: from Python, and from the command line."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from scipy.ndimage import convolve
from skimage.metrics import peak_signal_noise_ratio
from torch import Tensor

from bmo import cli
from bmo.data.reading import decode
from bmo.errors import BMOError, DataError, DomainError, NonFiniteError, RecordError, ShapeError
from bmo.problems import deconvolution
from bmo.problems.deconvolution.trained import trained
from bmo.problems.deraining.trained import trained as remover
from bmo.restore import deblur, derain, taper
from bmo.restore.command import as_png, read_kernel

KERNEL = torch.tensor([[0.0, 0.2, 0.0], [0.2, 0.3, 0.1], [0.0, 0.2, 0.0]], dtype=torch.float64)


def picture(colours: int = 3, height: int = 37, width: int = 50) -> Tensor:
    """A smooth picture with an edge; both sides odd or no multiple of eight."""
    x, y = torch.meshgrid(torch.linspace(0, 1, height), torch.linspace(0, 1, width), indexing="ij")
    base = 0.2 + 0.5 * x + 0.2 * (y > 0.5)
    return torch.stack([base, 0.9 * base, 0.8 * base])[:colours].double()


def blurred(image: Tensor) -> Tensor:
    return deconvolution.observe(image, KERNEL, 1.0, seed=0)


def test_deblur_is_the_recorded_map_alone() -> None:
    """The same numbers as the steps taken one by one with the recorded weights."""
    b = blurred(picture())
    found = deblur(b, KERNEL, 1.0, "bmo", depths=(5, 0))
    model = trained("small", "bmo")
    symbol = deconvolution.symbol_of(KERNEL[None], (37, 50)).to(torch.complex64)
    given = b.float()[None], symbol, torch.full((1, 1, 1, 1), 0.01)
    with torch.no_grad():
        u = model.begin(*given)
        T = model.map(u, *given)
        for _ in range(5):
            u = T(u)
    assert found.depths == (0, 5) and found.certified == "by construction"
    assert float((found.image.float() - u[0].clamp(0, 1)).abs().max()) < 1e-6
    assert found.image.dtype == torch.float64 and not found.diverged


def test_a_kernel_in_single_precision_serves_as_well() -> None:
    b, single = blurred(picture()), KERNEL.float()
    one, two = (deblur(b, k, 1.0, depths=(3,)).image for k in (KERNEL, single))
    assert torch.allclose(one, two, atol=1e-5)
    assert torch.allclose(deconvolution.observe(picture(), single, 1.0), b, atol=1e-6)


def test_it_restores_and_comes_to_rest() -> None:
    clean = picture()
    found = deblur(blurred(clean), KERNEL, 1.0)
    before, after = (float(deconvolution.score(u, clean)) for u in (blurred(clean), found.image))
    assert after > before + 3
    assert found.depths == (16, 1000) and float(found.residuals[-1]) < 1e-6


def test_a_gray_picture_is_one_of_three_equal_colours() -> None:
    b = blurred(picture(1))
    gray, three = (deblur(x, KERNEL, 1.0, depths=(4,)).image for x in (b, b.expand(3, -1, -1)))
    assert gray.shape == (1, 37, 50)
    assert torch.allclose(gray, three.mean(0, keepdim=True), atol=1e-7)
    assert derain(picture(1), depths=(2,)).image.shape == (1, 37, 50)


def test_derain_is_the_recorded_map_alone() -> None:
    rainy = picture().float()
    found = derain(rainy, depths=(3,))
    model = remover("small", "bmo")
    assert torch.allclose(found.image, model.restore(rainy[None], 3)[0].clamp(0, 1), atol=1e-6)
    assert derain(rainy, "ena", depths=(1,)).certified == "none"


@pytest.mark.parametrize(
    ("call", "error"),
    [
        (lambda: deblur(picture()[0], KERNEL, 1.0), ShapeError),
        (lambda: deblur(picture()[None], KERNEL, 1.0), ShapeError),
        (lambda: deblur(picture()[:2], KERNEL, 1.0), ShapeError),
        (lambda: deblur(picture().round().byte(), KERNEL, 1.0), ShapeError),
        (lambda: deblur(picture() / 0 * 0, KERNEL, 1.0), NonFiniteError),
        (lambda: deblur(picture(), KERNEL[:2], 1.0), ShapeError),
        (lambda: deblur(picture(), torch.stack([KERNEL, KERNEL]), 1.0), ShapeError),
        (lambda: deblur(picture(), 2 * KERNEL, 1.0), DomainError),
        (lambda: deblur(picture(), KERNEL, 0.0), DomainError),
        (lambda: deblur(picture(), KERNEL, float("nan")), DomainError),
        (lambda: deblur(picture(), KERNEL, 1.0, depths=()), DomainError),
        (lambda: deblur(picture(), KERNEL, 1.0, depths=(-1,)), DomainError),
        (lambda: deblur(picture(), KERNEL, 1.0, "magic"), RecordError),
        (lambda: deblur(picture(), KERNEL, 1.0, edges="soft"), DomainError),
        (lambda: derain("rain.png"), ShapeError),  # type: ignore[arg-type]
        (lambda: derain(picture() + 0.5), DomainError),
        (lambda: derain(picture(), "magic"), RecordError),
        (lambda: derain(picture(), device="abacus"), BMOError),
    ],
)
def test_bad_input_is_refused(call: object, error: type[BMOError]) -> None:
    with pytest.raises(error) as caught:
        call()  # type: ignore[operator]
    assert caught.value.required and caught.value.got and caught.value.remedy


def saved(path: Path, image: Tensor) -> str:
    path.write_bytes(as_png(image))
    return str(path)


def test_the_command_writes_a_picture(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    clean = picture()
    b = saved(tmp_path / "b.png", blurred(clean))
    np.save(tmp_path / "k.npy", 7 * KERNEL.numpy())  # divided by its sum
    out = tmp_path / "new" / "sharp.png"
    line = [*("restore", "deconvolution", b, "--kernel", str(tmp_path / "k.npy")), "--noise", "1"]
    x = saved(tmp_path / "x.png", clean)
    assert cli.main([*line, "--out", str(out), "--depths", "0", "16", "--clean", x]) == 0
    shown = capsys.readouterr().out.splitlines()
    assert shown[0] == "certificate: by construction" and shown[-1] == f"written: {out}"
    images = [np.asarray(Image.open(p)) for p in (x, out)]
    psnr = peak_signal_noise_ratio(*images)  # another library's, of the files that were written
    assert shown[-2].split()[0] == "16" and abs(float(shown[-2].split()[2]) - psnr) < 0.006


def test_the_command_removes_rain(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rainy = saved(tmp_path / "o.png", picture(1))
    assert cli.main(["restore", "deraining", rainy, "--depths", "2"]) == 0
    assert "certificate: by construction\ndepth" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("options", "told"),
    [
        (["deconvolution", "{b}", "--noise", "1"], "--kernel for a deconvolution"),
        (["deconvolution", "{b}", "--kernel", "{b}"], "--noise for a deconvolution"),
        (["deraining", "{b}", "--noise", "1"], "no --noise for deraining"),
        (["deraining", "{b}", "--edges", "open"], "no --edges for deraining"),
        (["deraining", "{b}", "--method", "magic"], "a method of"),
        (["deraining", "{b}", "--device", "abacus"], "a device that is here"),
        (["deraining", "{b}", "--clean", "{small}"], "of one shape"),
        (["deraining", "{b}", "--out", "{b}.jpg"], "with the suffix .png"),
    ],
)
def test_bad_options_are_told(
    options: list[str], told: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    names = {"b": saved(tmp_path / "b.png", picture())}
    names["small"] = saved(tmp_path / "small.png", picture(3, 9, 9))
    assert cli.main(["restore", *(o.format(**names) for o in options)]) == 2
    error = capsys.readouterr().err
    assert told in error and error.count("\n") == 1


def test_a_kernel_is_read_from_a_gray_picture_or_refused(tmp_path: Path) -> None:
    gray = KERNEL[None] / KERNEL.max()
    path = Path(saved(tmp_path / "k.png", gray))
    stored = np.asarray(Image.open(path)).astype(float)
    assert np.allclose(read_kernel(path), stored / stored.sum())
    text = tmp_path / "words.npy"
    text.write_bytes(b"no kernel")
    np.save(tmp_path / "zero.npy", np.zeros((3, 3)))
    colour = Path(saved(tmp_path / "colour.png", picture()))
    for bad in (text, tmp_path / "zero.npy", colour, tmp_path / "missing.npy"):
        with pytest.raises(DataError):
            read_kernel(bad)


def test_a_png_is_read_as_it_was_written(tmp_path: Path) -> None:
    for colours in (1, 3):
        image = (255 * picture(colours)).round() / 255
        path = Path(saved(tmp_path / f"{colours}.png", image))
        assert torch.equal(decode(path), image)


def test_a_photograph_needs_open_edges() -> None:
    """Blurred with what lies outside: most of the error of the circular model is its border."""
    long = torch.full((1, 11), 1 / 11, dtype=torch.float64)
    clean = picture(3, 64, 90)
    seen = deconvolution.observe(clean, long, 1.0)[..., 5:-5]  # what a camera has of it
    found = [deblur(seen, long, 1.0, depths=(8,), edges=e).image for e in ("circular", "open")]
    closed, opened = (float(deconvolution.score(u, clean[..., 5:-5])) for u in found)
    assert found[1].shape == seen.shape and opened > closed + 5


def test_taper_against_sums_written_out() -> None:
    """The weights from autocorrelations by numpy; the blurred picture by another library."""
    b = torch.rand(3, 20, 24, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    k = KERNEL / KERNEL.sum()
    weights = []
    for side, profile in ((20, k.sum(1).numpy()), (24, k.sum(0).numpy())):
        full = np.correlate(profile, profile, "full")  # lags -2 .. 2
        r = np.zeros(side)
        for lag, value in zip(range(-2, 3), full, strict=True):
            r[lag % side] = value / full[2]
        weights.append(1 - np.maximum(r, np.roll(r, -1)))
    w = np.outer(*weights)
    circular = np.stack([convolve(c, k.numpy(), mode="wrap") for c in b.numpy()])
    assert np.allclose(taper(b, k), w * b.numpy() + (1 - w) * circular)
    assert np.all(w[0] == 0) and np.all(w[:, -1] == 0) and np.all(w[3:-3, 3:-3] == 1)
