"""Deconvolution: training pairs, the methods and their certificate, testing, parts and records."""

import dataclasses
import importlib.util
import math

import pytest
import torch

from bmo import cli, data, record
from bmo.certify import nonexpansive
from bmo.data import packing
from bmo.errors import DataError, DomainError, RecordError, TrainingError
from bmo.problems import deconvolution as dec
from bmo.problems.deconvolution import draws, measuring, methods, pictures, pieces, report, trained
from bmo.problems.deconvolution.budgets import Budget
from bmo.problems.deconvolution.settings import CASES, COMPARED, CORRECTED, REFERRED
from tests.problems.runs import (
    check_worst_case,
    ends_alike_in_pieces,
    found_again,
    moved_by,
    train,
    use,
)

DOUBLE = torch.float64


def small(**changes):
    fields = {
        "features": 12,
        "widths": (4, 6),
        "map_widths": (4,),
        "free_widths": (4, 6),
        "rounds": 2,
        "iterations": 4,
        "back": 2,
        "side": 32,
        "denoising_batch": 2,
        "batch": 2,
        "budgets": {
            **dict.fromkeys(dec.METHODS, Budget(3, 2)),
            "pnp": Budget(3, 0),
        },
        "warmup": 1,
        "side_held_out": 32,
        "crop": 32,
        "noise_seeds": (0, 1),
        "cases": (("rocket", 0, 1), ("rocket", 1, 5)),
        "depths": (0, 2, 4, 8),
        "table_depths": (0, 4, 8),
        "grid": ((0.1,), (1.0, 2.0), (0.3,)),
    }
    return dataclasses.replace(dec.PAGE, **{**fields, **changes})


def noise_image(*shape, seed=0):
    return torch.rand(*shape, generator=torch.Generator().manual_seed(seed))


def pairs(count=2, side=32, seed=3, dtype=torch.float32):
    g = torch.Generator().manual_seed(seed)
    clean = noise_image(count, 3, side, side, seed=seed)
    found = draws.blurred(clean, draws.spread(count, 0.005, 0.04, g), g)
    double = dtype == DOUBLE
    return draws.Pairs(*(t.to(torch.complex128) if t.is_complex() and double else t.to(dtype)
                         if not t.is_complex() else t for t in found))  # fmt: skip


def built(name):
    """A fresh method; what others would restore is the observation."""
    model = dec.build(name, small())
    model.restorer = lambda b, symbol, sigma: b
    return model


def moved(name, settings=None, amount=0.3, seed=1, dtype=DOUBLE):
    """A method with weights far from its start."""
    model = dec.build(name, settings or small())
    return moved_by(model, amount, seed, dtype)


class TestPacking:
    @pytest.fixture
    def known(self, monkeypatch):
        """Two registered names, without their files."""
        names = data.files("bsds500_test")[:2]
        return [(name, noise_image(3, 9, 12, seed=k)) for k, name in enumerate(names)]

    def test_a_packed_image_is_the_mean_of_four_pixels_rounded(self, tmp_path, known):
        path = packing.pack(known, tmp_path / "a.safetensors")
        found = packing.unpack(path)
        assert list(found) == sorted(name for name, _ in known)
        for name, image in known:
            squares = image.double().numpy()[:, :8].reshape(3, 4, 2, 6, 2).mean((2, 4))
            assert (found[name].numpy() - 255 * squares).__abs__().max() <= 0.5 + 1e-4
            assert found[name].dtype == torch.uint8

    def test_an_altered_file_or_another_original_is_refused(self, tmp_path, known, monkeypatch):
        path = packing.pack(known, tmp_path / "a.safetensors")
        whole = path.read_bytes()
        path.write_bytes(whole[:-1] + bytes([whole[-1] ^ 1]))
        with pytest.raises(DataError, match="altered"):
            packing.unpack(path)
        path.write_bytes(b"nothing")
        with pytest.raises(DataError, match="packed file"):
            packing.unpack(path)
        path.write_bytes(whole)
        entry = dataclasses.replace(data.data_file(known[0][0]), sha256="0" * 64)
        monkeypatch.setattr(packing, "data_file", lambda name: entry)
        with pytest.raises(DataError, match=known[0][0]):
            packing.unpack(path)

    def test_nothing_and_too_much_are_refused(self, tmp_path, known, monkeypatch):
        with pytest.raises(DataError, match="at least one"):
            packing.pack([], tmp_path / "a.safetensors")
        monkeypatch.setattr(packing, "LARGEST", 100)
        with pytest.raises(DataError, match="100 bytes"):
            packing.pack(known, tmp_path / "a.safetensors")
        with pytest.raises(ValueError, match="2x2"):
            packing.halved(torch.zeros(3, 1, 8))

    def test_it_is_made_once_and_found_again(self, tmp_path, known, monkeypatch):
        asked = []
        monkeypatch.setenv("BMO_CACHE", str(tmp_path / "cache"))
        monkeypatch.delenv("BMO_DATA", raising=False)
        monkeypatch.setattr(packing, "images", lambda group, dtype: asked.append(group) or known)
        first = packing.training_images()
        assert asked == list(packing.TRAINING_SETS)
        assert packing.training_images().keys() == first.keys() and len(asked) == 2
        elsewhere = tmp_path / "data" / packing.FILE
        packing.pack(known[:1], elsewhere)
        monkeypatch.setenv("BMO_DATA", str(tmp_path / "data"))
        assert len(packing.training_images()) == 1


class TestDraws:
    def test_every_patch_is_one_of_the_turned_and_mirrored_windows(self):
        image = (255 * noise_image(3, 5, 6)).to(torch.uint8)
        bank = dec.ImageBank([image], side=4)
        windows = [image[:, r : r + 4, c : c + 4] for r in (0, 1) for c in (0, 1, 2)]
        known = {
            f.contiguous().numpy().tobytes()
            for w in windows
            for k in range(4)
            for f in (torch.rot90(w, k, (1, 2)), torch.rot90(w, k, (1, 2)).flip(2))
        }
        drawn = bank.draw(1500, torch.Generator().manual_seed(0))
        seen = {(255 * p).round().to(torch.uint8).numpy().tobytes() for p in drawn}
        assert seen == known and len(known) == 48

    def test_a_bank_refuses_no_image_and_small_ones(self):
        with pytest.raises(DataError, match="no image"):
            dec.ImageBank([], 4)
        with pytest.raises(DataError, match="smaller patches"):
            dec.ImageBank([torch.zeros(3, 3, 9, dtype=torch.uint8)], 4)

    def test_levels_are_uniform_in_their_logarithm(self):
        s = draws.spread(20000, 0.005, 0.04, torch.Generator().manual_seed(0)).log().flatten()
        assert s.exp().min() >= 0.005 and s.exp().max() <= 0.04
        middle = math.log(0.005) / 2 + math.log(0.04) / 2
        assert float(s.mean()) == pytest.approx(middle, abs=0.01)
        assert float(s.std()) == pytest.approx(math.log(8) / 12**0.5, rel=0.01)

    def test_a_pair_is_the_blurred_image_with_noise_of_its_level(self):
        clean = noise_image(3, 3, 64, 64)
        sigma = torch.tensor([0.0, 0.01, 0.04])[:, None, None, None]
        found = draws.blurred(clean, sigma, torch.Generator().manual_seed(1))
        blurred = torch.fft.irfft2(torch.fft.rfft2(clean) * found.symbol, s=(64, 64))
        noise = (found.observed - blurred).flatten(1).std(1)
        assert torch.allclose(noise, sigma.flatten(), rtol=0.03, atol=1e-6)
        gaps = [
            float((a - b).abs().max())
            for a, b in zip(found.symbol[:2], found.symbol[1:], strict=True)
        ]
        assert min(gaps) > 0.1  # each image has a kernel of its own
        assert torch.allclose(found.symbol[:, 0, 0, 0].real, torch.ones(3), atol=1e-5)

    @pytest.mark.data
    def test_no_training_image_is_a_test_image_and_no_kernel_is_levins(self):
        found = pictures.load(dec.SMALL)
        assert len(found.train) == 329 and len(found.held_out) == 3 and len(found.test) == 3
        assert packing.find_packed().stat().st_size <= packing.LARGEST

        def thumb(image):  # of the middle, at two scales, without its mean
            t = torch.nn.functional.adaptive_avg_pool2d(image.double()[None], 12).flatten()
            return (t - t.mean()) / (t - t.mean()).norm()

        every = torch.stack([thumb(i / 255) for i in found.train + found.held_out])
        tests = [thumb(i) for i in found.test.values()]
        tests += [thumb(i) for _, i in data.images("cbsd68")]
        same = max(float((every @ t).abs().max()) for t in tests)
        assert same < 0.97
        shifted = thumb(found.train[0][:, 2:, 2:] / 255)
        assert float((every @ shifted).max()) > 0.97  # the comparison sees what is the same

        g = torch.Generator().manual_seed(0)
        for kernel in dec.levin():
            side = len(kernel)
            drawn = torch.stack([dec.motion_kernel(g, side) for _ in range(200)]).flatten(1)
            like = drawn @ kernel.flatten() / drawn.norm(dim=1) / kernel.norm()
            assert float(like.max()) < 0.98

    def test_held_out_images_are_never_drawn_of(self, monkeypatch):
        packed = {f"bsds500_test/{k}.jpg": torch.full((3, 8, 8), k, dtype=torch.uint8)
                  for k in range(10)}  # fmt: skip
        tests = [("set3c/leaves.png", torch.zeros(3, 4, 4))]
        monkeypatch.setattr(pictures, "training_images", lambda: packed)
        monkeypatch.setattr(pictures.data, "images", lambda group: iter(tests))
        found = pictures.load(dec.SMALL)
        drawn, apart = ({int(i.max()) for i in images} for images in (found.train, found.held_out))
        assert apart == {0, 3, 6} and drawn == set(range(10)) - apart
        assert list(found.test) == ["leaves"] and "set3c/leaves.png" in found.files
        assert len(found.files) == 132 + 200 + 3

    def test_the_page_needs_the_pictures_of_scikit_image(self, monkeypatch):
        found = pictures.load(dec.PAGE)
        assert {tuple(i.shape) for i in found.train} == {(3, 256, 256), (3, 200, 300)}
        assert found.test["rocket"].shape == (3, 96, 96)
        monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
        with pytest.raises(DataError, match="scikit-image"):
            pictures.load(dec.PAGE)


class TestMethods:
    @pytest.mark.parametrize("name", dec.METHODS)
    def test_a_loss_reaches_every_parameter_but_the_level_of_the_loop(self, name):
        model, batch = built(name), pairs()
        model.loss((*batch, batch.observed) if name in REFERRED else batch).backward()
        untouched = [n for n, p in model.named_parameters() if p.grad is None]
        if name in REFERRED:  # differences, which are not learned, take the place of filters
            assert untouched == ["denoiser.kernels.0"]
        else:
            assert "loop" in untouched and (name in CORRECTED or len(untouched) == 1)
        with pytest.raises(DomainError, match="unh"):
            dec.build("unh", small())

    @pytest.mark.parametrize("name", ["bmo", "bmo-blind"])
    def test_certified_maps_are_nonexpansive_for_any_weights(self, name):
        for seed in range(2):
            model, batch = moved(name, seed=seed, amount=0.5), pairs(1, 28, dtype=DOUBLE)
            u = model.begin(*batch[1:])
            T = model.map(u, *batch[1:])
            assert T.operator.certified == "by construction" and T.alpha == 0.9
            found = nonexpansive(T.operator, shape=(3, 28, 28), trials=2)
            assert found.holds and found.measured > 0.5, found

    def test_methods_say_whether_they_are_certified(self):
        for name in dec.METHODS:
            model, batch = built(name), pairs(1)
            T = model.map(model.begin(*batch[1:]), *batch[1:])
            known = T.operator.certified == "by construction"
            assert known == (name in dec.CERTIFIED) and (T.alpha < 1) == known

    def test_the_guide_stands_still_while_the_loop_runs(self):
        model, batch = moved("bmo"), pairs(1, dtype=DOUBLE)
        u = model.begin(*batch[1:])
        T = model.map(u, *batch[1:])
        once = T(batch.clean).detach()
        T(T(u))
        assert torch.equal(T(batch.clean), once)
        other = model.map(batch.clean, *batch[1:])
        assert float((other(batch.clean).detach() - once).abs().max()) > 1e-3

    def test_free_filters_break_the_bound_that_certified_ones_keep(self):
        free, kept = dec.build("ena", small()).double(), dec.build("bmo", small()).double()
        with torch.no_grad():
            for model in (free, kept):
                model.denoiser.kernels[0].mul_(2)
        batch = pairs(1, dtype=DOUBLE)
        steps = [m.denoise(torch.full((1, 1, 1, 1), 5.0, dtype=DOUBLE), batch.clean)
                 for m in (free, kept)]  # fmt: skip
        v = batch.clean + 1e-3 * torch.randn(batch.clean.shape, dtype=DOUBLE)
        moved_by = [(D(v) - D(batch.clean)).detach().norm() for D in steps]
        ratios = [float(m / (v - batch.clean).norm()) for m in moved_by]
        assert ratios[0] > 1.5 and ratios[1] <= 1 + 1e-9

    def test_the_loss_is_algorithm_1_written_out(self):
        s = small(iterations=3, back=3)
        model, batch = moved("bmo", s, amount=0.05), pairs(dtype=DOUBLE)
        clean, *given = batch
        start = u = model.begin(*given)
        T = model.map(u, *given)
        for k in range(1, 4):
            v_u = u - s.s / (k + 1) * (u - clean)
            u = s.mu * v_u + (1 - s.mu) * ((1 - s.alpha) * u + s.alpha * T.operator(u))

        def root(v):
            return ((v - clean).square().mean((1, 2, 3)) + 1e-10).sqrt().mean()

        expected = root(u) + 0.5 * root(start)
        assert float(model.loss(batch).detach()) == pytest.approx(float(expected.detach()), 1e-9)

    def test_steps_without_gradient_change_no_value(self):
        batch, losses, norms = pairs(dtype=DOUBLE), [], []
        for back in (1, 4):
            model = moved("bmo", small(back=back, mu=0.3), amount=0.05)
            loss = model.loss(batch)
            loss.backward()
            losses.append(float(loss.detach()))
            norms.append(float(model.data.weight.raw.grad.norm()))
        assert losses[0] == pytest.approx(losses[1], rel=1e-12)
        assert norms[0] != pytest.approx(norms[1], rel=1e-3)

    def test_at_the_start_the_network_is_its_free_denoiser(self):
        model = dec.build("bmo", small()).double()
        g = noise_image(1, 3, 32, 32).double()
        D, level = model.denoiser, torch.full((1, 1, 1, 1), 0.1, dtype=DOUBLE)
        r = g - D.reference(torch.cat([g, level.expand(1, 1, 32, 32)], 1))
        gap = model.denoise(level, g)(g) - r
        assert float((gap.norm() / (g - r).norm()).detach()) < 0.25

    def test_the_loop_runs_at_the_last_level_with_the_spectral_data_step(self):
        model, (clean, *given) = moved("bmo", amount=0.1), pairs(dtype=DOUBLE)
        b, symbol, sigma = given
        with torch.no_grad():
            u = model.begin(*given)
            found = model.map(u, *given)(clean)
            v = model.denoise(model.loop * model.last() * sigma, u)(clean)
            p = model.data.weight((32, 32), b, sigma)
            top = p * torch.fft.rfft2(v) + symbol.conj() * torch.fft.rfft2(b)
            data = torch.fft.irfft2(top / (p + symbol.abs().square()), s=(32, 32))
        assert torch.allclose(found, 0.1 * clean + 0.9 * data, atol=1e-12)

    def test_levels_fall_in_equal_ratios_to_that_of_the_loop(self):
        model = dec.build("bmo", small(rounds=3))
        levels = torch.cat(model.levels(torch.tensor([0.01, 0.03])[:, None, None, None]), 1)
        levels = levels.flatten(1).double()
        assert torch.allclose(levels[:, 0], torch.full((2,), 0.15, dtype=DOUBLE), rtol=1e-5)
        assert torch.allclose(levels[:, -1], torch.tensor([0.015, 0.045]).double(), rtol=1e-5)
        ratios = levels[:, 1:] / levels[:, :-1]
        assert torch.allclose(ratios, ratios[:, :1].expand(2, 3), rtol=1e-5)

    def test_a_quickened_loop_is_at_its_start_and_the_rounds_are_not(self):
        model, (_, *given) = moved("bmo", amount=0.2), pairs(dtype=DOUBLE)
        rounds = model.begin(*given).detach()
        model.quicken()
        assert torch.equal(model.begin(*given).detach(), rounds)
        level = model.loop * model.last()
        assert level.item() == pytest.approx(1.5, rel=1e-9)
        fresh = dec.build("bmo", small()).double().data.weight
        p, q = (w((8, 8), given[0], given[2]) for w in (model.data.weight, fresh))
        assert torch.allclose(p, q, rtol=1e-6)
        assert not model.loop.requires_grad and "loop" in model.learned()

    def test_chosen_numbers_reach_the_rounds_and_the_loop(self):
        model = dec.build("pnp", small())
        model.set_numbers(first=0.2, last=2.0, ratio=0.8)
        assert model.first().item() == pytest.approx(0.2, rel=1e-5)
        assert model.last().item() == pytest.approx(2.0, rel=1e-5)
        p = model.data.weight((8, 8), torch.zeros(()), torch.full((1, 1, 1), 0.01))
        assert torch.allclose(p, torch.full_like(p, 0.2), rtol=1e-4)


class TestMeasuring:
    def test_a_trajectory_is_the_iteration_of_t(self):
        model, (_, *given) = moved("bmo", amount=0.05), pairs(dtype=DOUBLE)
        with torch.no_grad():
            u = model.begin(*given)
            T = model.map(u, *given)
            seen = dec.trajectory(model, *given, (0, 2, 5))
            assert torch.equal(seen.images[0], u)
            for _ in range(2):
                u = T(u)
            assert torch.allclose(seen.images[1], u)
            for _ in range(3):
                u = T(u)
            r = (u - T(u)).flatten(1).norm(dim=1) / u.flatten(1).norm(dim=1)
        assert torch.allclose(seen.residuals[2], r) and not seen.diverged

    def test_certified_maps_come_to_rest_and_then_stop(self):
        model, (_, *given) = moved("bmo", amount=0.05), pairs(dtype=DOUBLE)
        seen = dec.trajectory(model, *given, (0, 10, 1000, 1001), resolution=1e-3)
        assert float(seen.residuals[2].max()) <= 1e-3
        assert torch.equal(seen.images[2], seen.images[3])

    def test_what_diverges_is_held_and_said(self):
        model, (_, *given) = moved("ena", amount=0.05), pairs(dtype=DOUBLE)
        model.map = lambda *a: methods.GKM(methods.Step(_Doubling(), _Doubling()), 1.0, check=False)
        seen = dec.trajectory(model, *given, (0, 1, 50, 60))
        assert seen.diverged and float(seen.images.abs().max()) < measuring.DIVERGED
        assert float(seen.residuals[-1].max()) == measuring.ENDLESS

    def test_scores_are_those_of_the_protocol(self):
        model, image = dec.build("gkm", small()), noise_image(3, 32, 32).double()
        kernel = dec.motion_kernel(torch.Generator().manual_seed(2), 13)
        found = dec.scores(model, image, kernel, 3, (0, 4), (0, 4))
        b = dec.observe(image, kernel, 3, 4).float()[None]
        symbol = dec.symbol_of(kernel, (32, 32)).to(torch.complex64)[None]
        u = model.restore(b, symbol, 0.03)[0]
        expected = float(dec.score(u, image.float()))
        assert found["psnr"][1][1] == pytest.approx(expected, abs=0.02)
        assert len(found["ssim"]) == len(found["residual"]) == 2


class _Doubling(methods.Operator):
    certified = "none"

    @property
    def metric(self):
        return methods.Identity(3)

    def forward(self, u):
        return 4 * u + 1


class TestRun:
    def run(self, folder, monkeypatch, *options, **changes):
        use(monkeypatch, "deconvolution", report, small(**changes))
        return train("deconvolution", folder, *options)

    def test_the_command_writes_a_valid_record(self, tmp_path, monkeypatch, capsys):
        assert self.run(tmp_path, monkeypatch) == 0
        found = record.read(tmp_path / "deconvolution.page.json")
        shown = capsys.readouterr().out
        assert "PSNR in dB" in shown and "record: " in shown
        for method, known in (("bmo", "by construction"), ("ena", "none")):
            entries = found.select(method=method, metric="psnr", image="rocket", depth=4)
            assert len(entries) == 2 and all(e["n"] == 2 for e in entries)
            assert {e["setting"]["certified"] for e in entries} == {known}
            check_worst_case(found, method)
        assert {"rocket/3"} <= {k.split("/", 1)[1].rsplit("/", 1)[0] for k in found.curves
                                if k.startswith("psnr/")}  # fmt: skip
        assert found.settings["chosen"]["pnp"]["last"] in (1.0, 2.0)
        weights = tmp_path / "deconvolution.page.bmo.safetensors"
        assert weights.exists()

    def test_a_run_in_pieces_ends_with_the_same_numbers(self, tmp_path, monkeypatch, capsys):
        use(monkeypatch, "deconvolution", report, small())
        assert ends_alike_in_pieces("deconvolution", "gkm", tmp_path, capsys)

    def test_only_some_experiments_choose_their_device(self, capsys):
        assert cli.main(["train", "sparse-coding", "--minutes", "1"]) == 2
        assert "leave --device and --minutes out" in capsys.readouterr().err
        assert cli.main(["train", "deconvolution", "--device", "meta7"]) == 2
        assert "a device that is here" in capsys.readouterr().err

    def test_the_last_part_of_a_run_is_near_the_fixed_point(self, tmp_path, monkeypatch):
        budgets = {**small().budgets, "bmo-long": Budget(1, 2, 3)}
        shelf = pieces.Pieces(small(budgets=budgets, deep_iterations=9), tmp_path)
        seen, loss = [], dec.Deblurrer.loss
        monkeypatch.setattr(
            dec.Deblurrer, "loss", lambda m, batch: seen.append(m.iterations) or loss(m, batch)
        )
        model, part = shelf.trained("bmo-long", 0)
        assert seen == [4, 4, 9, 9, 9] and len(part["losses"]) == 5
        other = dataclasses.replace(shelf.settings, deep_rate=1e-5)
        with pytest.raises(TrainingError, match="another run"):
            pieces.Pieces(other, tmp_path, resume=True).trained("bmo-long", 0)
        first = shelf.trained("gkm", 0)[1]  # has no such part
        assert pieces.Pieces(other, tmp_path, resume=True).trained("gkm", 0)[1] == first
        again, _ = pieces.Pieces(shelf.settings, tmp_path, resume=True).trained("bmo-long", 0)
        learned = again.learned()
        assert all(torch.equal(p, learned[name]) for name, p in model.learned().items())

    def test_a_recorded_method_is_rebuilt(self, tmp_path, monkeypatch):
        assert self.run(tmp_path, monkeypatch, "--method", "bmo", "--record") == 0
        weights = found_again(monkeypatch, tmp_path, "deconvolution.page", "bmo")
        model = trained.trained("page", "bmo")
        assert model.settings.rounds == 2 and model.settings.features == 12
        shelf = pieces.Pieces(small(methods=("bmo",)), tmp_path, resume=True)
        one, two = (m.restore(*pairs()[1:]) for m in (model, shelf.trained("bmo", 0)[0]))
        assert torch.equal(one, two)
        with pytest.raises(RecordError, match="method of bmo"):
            trained.trained("page", "ena")
        del weights["wiener.raw"]
        with pytest.raises(RecordError, match=r"wiener\.raw"):
            trained.trained("page", "bmo")

    def test_methods_of_one_architecture_share_their_denoiser(self, tmp_path):
        shelf = pieces.Pieces(small(), tmp_path)
        first = shelf.denoiser("bmo", 0)
        assert shelf.denoiser("pnp", 0) == first
        assert shelf.denoiser("ena", 0)["weights"] != first["weights"]
        other = pieces.Pieces(small(rate=5e-4, mu=0.2), tmp_path, resume=True)
        assert other.denoiser("gkm", 0) == first  # made with the same settings of denoising
        with pytest.raises(TrainingError, match="another run"):
            pieces.Pieces(small(features=14), tmp_path, resume=True).denoiser("gkm", 0)

    def test_the_cases_are_balanced(self):
        assert len(set(CASES)) == 24
        for k, count in ((0, 8), (1, 3), (2, 6)):
            values = [case[k] for case in CASES]
            assert all(values.count(v) == count for v in values)

    def test_compared_methods_have_one_budget(self):
        for settings in (dec.SMALL, dec.FULL):
            joint = {settings.budgets[m] for m in COMPARED[:3]}
            assert len(joint) == 1
        assert dec.settings_of("small") is dec.SMALL
        with pytest.raises(DomainError, match="huge"):
            dec.settings_of("huge")
