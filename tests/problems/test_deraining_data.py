"""Synthetic rain: its making is recovered from it, and it looks as the real pairs do."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from scipy.stats import ks_2samp
from torch import Tensor

from bmo import data
from bmo.baselines.deraining.pairs import COUNT, names
from bmo.errors import DataError, DomainError, ShapeError
from bmo.problems.deraining import (
    HEAVY,
    LIGHT,
    Ranges,
    Streaks,
    add_rain,
    draw,
    fit,
    folder_pairs,
    load_pairs,
    measure_rain,
    rain_of,
    render,
    require_disjoint,
)
from bmo.problems.deraining.overlap import SAME, fingerprint
from bmo.problems.deraining.statistics import autocorrelation, streak
from bmo.problems.deraining.synthesis import CUT_OFF, NAMES

f64 = torch.float64


@pytest.mark.parametrize(
    "streaks",
    [
        Streaks(10.0, 20.0, 0.8, 0.2, 0.004),
        Streaks(-25.0, 12.0, 0.7, 0.3, 0.002),
        Streaks(0.0, 40.0, 1.2, 0.1, 0.003),
        Streaks(5.0, 30.0, 1.0, 0.15, 0.02),
    ],
)
def test_the_making_of_a_layer_is_recovered(streaks: Streaks) -> None:
    rng = data.generator(0)
    layers = [render([streaks], (240, 320), rng) for _ in range(6)]
    found = [measure_rain(rain) for rain in layers]
    mean = {n: np.mean([getattr(one, n) for one in found]) for n in (*NAMES, "density")}
    assert mean["angle"] == pytest.approx(streaks.angle, abs=0.18)
    assert mean["length"] == pytest.approx(streaks.length, rel=0.075)
    assert mean["width"] == pytest.approx(streaks.width, rel=0.02)
    assert mean["brightness"] == pytest.approx(streaks.brightness, rel=0.02)
    assert mean["density"] == pytest.approx(streaks.density, rel=0.13)
    assert mean["amount"] == pytest.approx(float(torch.stack(layers).mean()), rel=1e-9)
    assert mean["amount"] == pytest.approx(streaks.amount, rel=0.046)


def test_streaks_longer_than_can_be_seen_have_the_longest_length() -> None:
    columns = torch.rand(96, dtype=f64).expand(96, 96)
    assert measure_rain(columns).length == 2 * (96 // 2 - 4 - 0.25)


def test_moments_are_those_of_campbells_theorem() -> None:
    one = Streaks(20.0, 15.0, 0.8, 0.2, 0.01)
    rng, k = data.generator(1), streak(20.0, 15.0, 0.8)
    layers = torch.stack([render([one], (128, 128), rng) for _ in range(30)])
    assert float(layers.mean()) == pytest.approx(0.01 * 0.2 * float(k.sum()), rel=0.007)
    square = 0.2**2 * (1 + 0.3 + 0.3**2) / 3 / 0.65**2  # of uniform drops with this mean
    variance = 0.01 * square * float(k.square().sum())
    assert float(layers.var()) == pytest.approx(variance, rel=0.014)


def test_autocorrelation_against_a_direct_sum() -> None:
    rain = torch.rand(5, 6, dtype=f64)
    mask = torch.rand(5, 6) > 0.3
    table = autocorrelation(rain, mask)
    centred = torch.where(mask, rain - rain[mask].mean(), 0.0)
    for row, column in ((0, 0), (1, 2), (-2, 1), (3, -4)):
        total, count = 0.0, 0
        for i in range(5):
            for j in range(6):
                a, b = i + row, j + column
                if 0 <= a < 5 and 0 <= b < 6 and mask[i, j] and mask[a, b]:
                    total, count = total + float(centred[i, j] * centred[a, b]), count + 1
        variance = float(centred[mask].square().mean())
        expected = total / max(count, 1) / variance
        assert float(table[4 + row, 5 + column]) == pytest.approx(expected, abs=1e-12)


def test_rain_is_seen_where_a_colour_is_not_full() -> None:
    clean = torch.tensor([0.1, 0.5, 0.9], dtype=f64)[:, None, None].expand(3, 1, 2)
    rain = torch.tensor([[0.3, 0.95]], dtype=f64)
    found, mask = rain_of((clean + rain).clamp_max(1.0), clean)
    assert found[0, 0] == pytest.approx(0.3)
    assert mask.tolist() == [[True, False]]


def test_drawn_layers_lie_in_their_ranges() -> None:
    rng = data.generator(3)
    amounts, counts = [], set()
    for _ in range(200):
        layers = draw(HEAVY, rng)
        counts.add(len(layers))
        amounts.append(sum(one.amount for one in layers))
        for one in layers:
            assert HEAVY.length[0] <= one.length <= HEAVY.length[1]
            assert HEAVY.width[0] <= one.width <= HEAVY.width[1]
            assert HEAVY.brightness[0] <= one.brightness <= HEAVY.brightness[1]
            assert abs(one.angle - layers[0].angle) <= HEAVY.turn
        assert HEAVY.angle[0] <= layers[0].angle <= HEAVY.angle[1]
    assert counts == {1, 2, 3}
    low, high = HEAVY.amount
    assert low <= min(amounts) < low + 0.1 * (high - low)
    assert high - 0.1 * (high - low) < max(amounts) <= high * (1 + 1e-9)
    assert len(draw(LIGHT, rng)) == 1


def test_added_rain_is_grey_nonnegative_seeded_and_cut_at_white() -> None:
    clean = torch.rand(2, 3, 40, 24, dtype=f64) * 0.6
    clean = torch.floor(clean * 255 + 0.5) / 255
    rainy = add_rain(clean, data.generator(5))
    assert torch.equal(rainy, add_rain(clean, data.generator(5)))
    assert not torch.equal(rainy, add_rain(clean, data.generator(6)))
    assert torch.equal(rainy, torch.floor(rainy * 255 + 0.5) / 255)
    rain, mask = rainy - clean, rainy < 1
    assert float(rain.min()) >= 0
    assert float(rain.max()) > 0.05
    gaps = (rain[:, 0] - rain[:, 1])[mask[:, 0] & mask[:, 1]].abs()
    assert float(gaps.max()) < 1 / 255 + 1e-9
    assert float(add_rain(torch.ones(3, 8, 8), data.generator(0)).min()) == 1.0
    fine = add_rain(clean.float(), data.generator(5), LIGHT, eight_bits=False)
    assert fine.dtype == torch.float32


def test_a_small_image_wraps_its_streaks() -> None:
    one = Streaks(0.0, 31.0, 0.6, 1.0, 0.05)
    rain = render([one], (8, 8), data.generator(0))
    columns = rain.std(0) / rain.mean(0)
    assert float(columns.max()) < 0.2  # vertical streaks, longer than the image, fill its columns


def test_ranges_of_a_uniform_law_are_fitted_without_bias() -> None:
    rng = np.random.default_rng(0)
    ends = []
    for _ in range(400):
        layers = [Streaks(a, x, 1.0, 0.1, 0.01) for a, x in rng.uniform((-10, 5), (10, 9), (12, 2))]
        found = fit(layers, layers=1, turn=0.0)
        ends.append((found.angle[1], *found.length))
    assert np.mean(ends, axis=0) == pytest.approx([10.0, 5.0, 9.0], abs=0.1)


def test_refusals() -> None:
    with pytest.raises(DomainError, match="two rain layers"):
        fit([Streaks(0.0, 9.0, 1.0, 0.1, 0.01)])
    good = {name: (1.0, 2.0) for name in NAMES}
    for bad in ({"length": (3.0, 2.0)}, {"amount": (0.0, 1.0)}, {"layers": 0}, {"turn": -1.0}):
        with pytest.raises(DomainError):
            Ranges(**{**good, **bad})  # type: ignore[arg-type]
    with pytest.raises(ShapeError, match="two images"):
        rain_of(torch.zeros(3, 4, 4), torch.zeros(3, 4, 5))
    with pytest.raises(ShapeError, match="64 pixels"):
        measure_rain(torch.rand(64, 63))
    with pytest.raises(DataError, match="varies"):
        measure_rain(torch.zeros(64, 64))


def save(path: Path, image: Tensor) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = (image.permute(1, 2, 0) * 255).round().to(torch.uint8)
    Image.fromarray(pixels.numpy()).save(path)


@pytest.mark.parametrize(
    "layout",
    [
        ("rain-{}.png", "norain-{}.png", ""),
        ("rain/rain-00{}.png", "norain/norain-00{}.png", "rain/readme.txt"),
        ("rainy/{}.png", "norain/{}.png", "norain/cover.png"),
        ("small/rain-{}.png", "small/norain-{}.png", "small/rainregion-1.png"),
    ],
)
def test_folders_of_pairs(tmp_path: Path, layout: tuple[str, str, str]) -> None:
    images = {}
    for number in (10, 2):
        images[number] = torch.rand(2, 3, 4, 5)
        for name, image in zip(layout[:2], images[number], strict=True):
            save(tmp_path / name.format(number), image)
    if layout[2].endswith(".png"):
        save(tmp_path / layout[2], torch.zeros(3, 4, 5))
    elif layout[2]:
        (tmp_path / layout[2]).write_text("no image")
    found = list(load_pairs(tmp_path))
    assert len(found) == 2
    for (rainy, clean), number in zip(found, (2, 10), strict=True):
        assert torch.allclose(torch.stack([rainy, clean]), images[number], atol=0.5 / 255 + 1e-6)


def test_faulty_folders_are_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="not there"):
        folder_pairs(tmp_path / "none")
    with pytest.raises(DataError, match="no pair"):
        folder_pairs(tmp_path)
    save(tmp_path / "rain-1.png", torch.zeros(3, 4, 4))
    with pytest.raises(DataError, match=r"without a partner: \[1\]"):
        folder_pairs(tmp_path)
    save(tmp_path / "norain-1.png", torch.zeros(3, 4, 5))
    with pytest.raises(DataError, match="one size"):
        list(load_pairs(tmp_path))
    save(tmp_path / "more" / "rain-01.png", torch.zeros(3, 4, 4))
    with pytest.raises(DataError, match="one image for each number"):
        folder_pairs(tmp_path)


def test_the_same_picture_is_found_and_another_is_not() -> None:
    page = data.page_pictures("test")
    camera, coins = page["camera"][None], page["coins"][None]
    assert require_disjoint({"coins": coins}, {"camera": camera}) < 0.9
    views = {
        "cut": camera[:, 1:, :-2],
        "darker": 0.6 * camera,
        "mirrored": camera.flip(2),
        "turned": camera.rot90(1, (1, 2)),
        "noisy": camera + 0.05 * torch.randn_like(camera),
        "colour": camera.expand(3, -1, -1),
    }
    for name, view in views.items():
        with pytest.raises(DataError, match=f"{name} shows camera"):
            require_disjoint({"coins": coins, name: view}, {"camera": camera})


def real_pairs() -> Iterator[tuple[Tensor, Tensor]]:
    """The training pairs of Rain100H that are public: rainy, clean."""
    known = data.files("rain100h_train_min12")
    for name in known:
        if "/rain-" in name:
            yield data.load_image(name), data.load_image(name.replace("/rain-", "/norain-"))


@pytest.mark.data
@pytest.mark.slow
def test_ranges_are_those_of_the_real_pairs_and_synthetic_rain_resembles_them() -> None:
    rng, real, made = data.generator(0), [], []
    for rainy, clean in real_pairs():
        gap, whole = rainy - clean, (rainy < 1).all(0)  # rain is grey where no colour is cut off
        assert float((gap.amax(0) - gap.amin(0))[whole].max()) < 1e-12
        real.append(measure_rain(*rain_of(rainy, clean)))
        made += [measure_rain(*rain_of(add_rain(clean, rng), clean)) for _ in range(2)]
    assert len(real) == 12
    fitted = fit(real)
    for name in NAMES:
        factor = CUT_OFF if name == "brightness" else 1.0
        expected = [factor * end for end in getattr(fitted, name)]
        assert getattr(HEAVY, name) == pytest.approx(expected, rel=0.003)
    assert LIGHT.amount == pytest.approx([end / 5 for end in HEAVY.amount], rel=1e-12)
    assert replace(LIGHT, amount=HEAVY.amount, layers=HEAVY.layers) == HEAVY
    for name in NAMES:  # no test of this size can tell their laws apart
        values = [[getattr(one, name) for one in each] for each in (real, made)]
        assert ks_2samp(*values).pvalue > 0.1


@pytest.mark.data
@pytest.mark.slow
def test_no_test_background_in_training() -> None:
    sets = ("bsds500_test", "bsds500_train_clean", "rain100h_train_min12")
    train = {n: data.load_image(n) for s in sets for n in data.files(s) if "/rain-" not in n}
    assert len(train) == 344
    test = {n: data.load_image(n) for n in data.files("rain100l_test/norain")}
    assert len(test) == COUNT
    assert require_disjoint(train, test) < 0.97  # the same picture has 0.99 or more
    rainy, clean = names("rain100l", 7)
    assert float((fingerprint(data.load_image(rainy)) * fingerprint(test[clean])).sum()) > SAME
