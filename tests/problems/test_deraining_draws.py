"""Deraining: what training and test pairs are drawn of."""

import dataclasses

import pytest
import torch

from bmo.errors import DataError
from bmo.problems import deraining as rain
from bmo.problems.deraining import draws, pictures
from tests.problems.rain import rng, small


class TestDraws:
    def test_every_piece_is_a_window_of_a_layer_or_its_mirror_image(self):
        layer = torch.rand(5, 6, generator=rng())
        bank = rain.RainBank([layer], side=4)
        windows = [layer[r : r + 4, c : c + 4] for r in (0, 1) for c in (0, 1, 2)]
        known = {f.contiguous().numpy().tobytes() for w in windows for f in (w, w.flip(1))}
        g = rng(1)
        drawn = [bank.draw(g, (1.0, 1.0)).contiguous() for _ in range(300)]
        assert {d.numpy().tobytes() for d in drawn} == known and len(known) == 12

    def test_a_gain_lies_between_its_ends(self):
        bank, g = rain.RainBank([torch.ones(4, 4)], side=4), rng(1)
        values = torch.stack([bank.draw(g, (0.5, 2.0))[0, 0] for _ in range(400)])
        assert 0.5 <= float(values.min()) < 0.52 and 1.98 < float(values.max()) <= 2.0

    def test_what_white_cuts_off_is_not_borrowed(self):
        clean = torch.full((3, 12, 12), 0.2)
        layer = torch.full((12, 12), 0.1)
        clean[:, :, 8:] = 1.0  # nothing is known there
        bank = draws.borrowed([((clean + layer).clamp_max(1), clean)], side=4)
        assert int(bank.layers[0][1][:, 1].max()) == 4
        assert float(bank.draw(rng(), (1.0, 1.0)).min()) == pytest.approx(0.1, abs=1e-6)
        with pytest.raises(DataError, match="larger layers"):
            rain.RainBank([layer], 4, [torch.zeros(12, 12)])
        with pytest.raises(DataError, match="larger layers"):
            rain.RainBank([layer], 13)

    def test_rain_is_added_cut_off_and_rounded(self):
        clean = torch.tensor([0.5, 0.9]).reshape(1, 1, 1, 2).expand(1, 3, 1, 2)
        rainy = draws.wet(clean, torch.full((1, 1, 2), 0.2001))
        assert (255 * rainy[0, :, 0, 0]).tolist() == pytest.approx([179.0] * 3, abs=1e-4)
        assert rainy[0, :, 0, 1].tolist() == [1.0] * 3

    def test_kinds_of_rain_come_as_often_as_the_settings_say(self):
        s = small(heavy=0.6, borrowed=0.5, side=4)
        clean = [torch.zeros(3, 8, 8, dtype=torch.uint8)]
        real = [(torch.full((3, 8, 8), 0.75), torch.zeros(3, 8, 8))]
        layers = {"light": torch.full((1, 8, 8), 0.25), "heavy": torch.full((1, 8, 8), 0.5)}
        weather = rain.Weather(clean, real, dataclasses.replace(s, gain=(1.0, 1.0)), layers)
        rainy = weather.draw(4000, rng(5)).rainy[:, 0, 0, 0]
        shares = [float((rainy.sub(v).abs() < 0.01).float().mean()) for v in (0.25, 0.5, 0.75)]
        assert shares == pytest.approx([0.4, 0.3, 0.3], abs=0.03)

    def test_layers_are_those_of_the_ranges_and_of_the_seed(self):
        s = small()
        one, two = draws.make_layers(s), draws.make_layers(s)
        assert all(torch.equal(one[k], two[k]) for k in ("light", "heavy"))
        assert one["light"].shape == (2, 32, 32) and not torch.equal(*one["heavy"])
        assert float(one["heavy"].mean()) > 2 * float(one["light"].mean()) > 0
        assert draws.ranges_of(s.strong).amount == s.strong[4]

    def test_held_out_pairs_are_middle_parts_with_their_own_rain(self):
        image = (255 * torch.rand(3, 40, 41, generator=rng())).to(torch.uint8)
        found = draws.held_out([image, image], small())
        assert torch.equal(found["light"].clean[0], image[:, 4:36, 4:36].float() / 255)
        assert not torch.equal(*found["heavy"].rainy)
        assert float((found["heavy"].rainy - found["heavy"].clean).min()) > -0.5 / 255 - 1e-6


class TestPictures:
    def test_a_page_has_four_pictures_and_two_kinds_of_rain(self):
        s = small()
        found = pictures.load(s)
        assert len(found.train) == 2 and len(found.held_out) == 1 and not found.real
        tests = list(pictures.test_pairs(s))
        assert [t[0] for t in tests] == ["page-light", "page-heavy"]
        assert torch.equal(tests[0][3], tests[1][3]) and tests[0][2].shape == (3, 32, 32)

    def test_held_out_images_and_pairs_are_never_drawn_of(self, monkeypatch):
        names = [f"bsds500_test/{k}.jpg" for k in range(10)]
        every = {"bsds500_test": [(n, torch.full((3, 8, 8), k / 255)) for k, n in enumerate(names)]}
        monkeypatch.setattr(pictures.data, "images", lambda group, dtype: every.get(group, []))
        monkeypatch.setattr(
            pictures.data,
            "load_image",
            lambda name, dtype: torch.full((3, 8, 8), int(name.split("-")[1].split(".")[0]) / 255),
        )
        found = pictures.load(dataclasses.replace(rain.SMALL, held_out=3))
        drawn, apart = ({int(i.max()) for i in images} for images in (found.train, found.held_out))
        assert apart == {0, 3, 6} and drawn == set(range(10)) - apart
        numbers = [round(255 * float(clean.max())) for _, clean in found.real + found.real_held_out]
        assert sorted(numbers) == [2, 3, 4, 5, 6, 7, 8, 9, 11, 12, 13, 14]
        assert numbers[-3:] == [2, 6, 11]
        assert len(found.files) == 132 + 200 + 24 + 200 + 100

    @pytest.mark.data
    def test_no_training_picture_is_a_test_background(self):
        found = pictures.load(rain.SMALL)
        assert (len(found.train), len(found.held_out)) == (328, 4)
        assert (len(found.real), len(found.real_held_out)) == (9, 3)
        train = {str(k): i / 255 for k, i in enumerate(found.train + found.held_out)}
        train |= {f"real {k}": c for k, (_, c) in enumerate(found.real + found.real_held_out)}
        few = dataclasses.replace(rain.SMALL, pairs=tuple(range(1, 101)))
        tests = {f"{d} {k}": clean for d, k, _, clean in pictures.test_pairs(few)}
        assert len(tests) == 200 and rain.require_disjoint(train, tests) < 0.99
