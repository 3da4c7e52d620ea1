"""Deconvolution from a restoration by others: crops, the first image, the certificate, the run."""

import dataclasses
import time

import pytest
import torch

from bmo import cli, data, record
from bmo.baselines.denoisers import DPIR, FFDNet, Scheduled
from bmo.certify import nonexpansive
from bmo.problems import deconvolution as dec
from bmo.problems.benches import BENCHES
from bmo.problems.deconvolution import (
    pictures,
    pieces,
    report,
    restorer,
    training,
)
from bmo.problems.deconvolution import restored as crops
from bmo.problems.deconvolution.budgets import Budget, Correcting
from bmo.problems.deconvolution.settings import CORRECTED
from bmo.problems.deconvolution.trained import trained
from bmo.train import OutOfTime
from tests.problems.blurred import DOUBLE, seen
from tests.problems.runs import moved_by

TINY = Correcting(widths=(4, 6), parts=2, count=3, side=32)


def small(**changes):
    fields = {
        "methods": ("corrected",),
        "features": 12,
        "widths": (4, 6),
        "map_widths": (4,),
        "correcting": TINY,
        "side": 32,
        "denoising_batch": 2,
        "batch": 2,
        "budgets": dict.fromkeys(CORRECTED, Budget(2, 2)),
        "warmup": 1,
        "side_held_out": 32,
        "crop": 32,
        "cases": (("rocket", 0, 1),),
        "depths": (0, 4, 8),
        "table_depths": (0, 8),
    }
    return dataclasses.replace(dec.PAGE, **{**fields, **changes})


def brighter(b, symbol, sigma):
    """A restorer whose answer is easy to tell."""
    return 1.5 * b + sigma


def moved(amount=0.3, seed=1):
    """A method with weights far from its start."""
    model = moved_by(dec.build("corrected", small()), amount, seed, DOUBLE)
    model.restorer = brighter
    return model


class TestCrops:
    @pytest.fixture
    def known(self):
        image = torch.randint(0, 256, (3, 40, 44), generator=torch.Generator().manual_seed(0))
        bank = dec.ImageBank([image.to(torch.uint8)], 32)
        return crops.make(bank, 9, (1e-7, 1e-7), brighter, torch.Generator().manual_seed(1))

    def test_a_turned_crop_is_observed_through_the_turned_kernel(self, known):
        gaps, ways = [], set()
        for seed in range(40):
            one = crops.draw(known, 3, torch.Generator().manual_seed(seed))
            blurred = torch.fft.irfft2(torch.fft.rfft2(one.clean) * one.symbol, s=(32, 32))
            gaps.append(float((blurred - one.observed).abs().max()))
            ways.add(one.clean.numpy().tobytes())
        assert max(gaps) < 5e-4 and len(ways) > 30  # float16 keeps eleven bits
        still = crops.draw(known, 3, torch.Generator().manual_seed(0))
        wrong = still.symbol.flip(0)
        other = torch.fft.irfft2(torch.fft.rfft2(still.clean) * wrong, s=(32, 32))
        assert float((other - still.observed).abs().max()) > 0.05

    def test_what_others_made_of_a_crop_stays_with_it(self, known):
        for seed in range(8):
            one = crops.draw(known, 2, torch.Generator().manual_seed(seed))
            expected = brighter(one.observed, None, one.sigma)
            assert float((one.restored - expected).abs().max()) < 1e-3

    def test_every_crop_is_restored_with_its_own_symbol_and_level(self):
        asked = []

        def restorer(b, symbol, sigma):
            asked.append(len(b))
            back = torch.fft.rfft2(b) / symbol  # no noise: the clean image comes back
            return torch.fft.irfft2(torch.where(symbol.abs() > 0.5, back, 0), s=(32, 32)) + sigma

        image = torch.full((3, 32, 32), 128, dtype=torch.uint8)
        bank, g = dec.ImageBank([image], 32), torch.Generator().manual_seed(2)
        known = crops.make(bank, 10, (0.001, 0.04), restorer, g)
        gap = known["restored"].float().mean((1, 2, 3)) - known["observed"].float().mean((1, 2, 3))
        assert torch.allclose(gap, known["sigma"].flatten(), atol=5e-4) and asked == [8, 2]
        assert float(known["sigma"].max() / known["sigma"].min()) > 3


class TestMethod:
    def test_the_first_image_is_the_corrected_restoration_after_a_data_step(self):
        model, (b, symbol, sigma) = moved(amount=0.1), seen()
        z = torch.rand(b.shape, dtype=DOUBLE, generator=torch.Generator().manual_seed(5))
        p = model.ratio() / model.last() ** 2

        def explained(u, weight):
            top = symbol.conj() * torch.fft.rfft2(b) + weight * torch.fft.rfft2(u)
            return torch.fft.irfft2(top / (symbol.abs() ** 2 + weight), s=(32, 32))

        wiener = explained(torch.zeros_like(b), model.wiener() * sigma**2)
        level = torch.log(sigma / 0.02).expand(2, 1, 32, 32)
        told = torch.cat([z, explained(z, p), wiener, level], 1)
        expected = explained(z - model.correction(told), p)
        assert torch.allclose(model.begin(b, symbol, sigma, z), expected, atol=1e-12)
        own = model.begin(b, symbol, sigma, brighter(b, symbol, sigma))
        assert torch.equal(model.begin(b, symbol, sigma), own)

    def test_the_correction_alone_is_trained_and_by_the_start_alone(self):
        model, given = moved(amount=0.05), seen()
        clean = torch.rand(given[0].shape, dtype=DOUBLE)
        z = brighter(*given)
        loss = model.loss((clean, *given, z))
        gap = model.begin(*given, z) - clean
        expected = (gap.square().mean((1, 2, 3)) + 1e-10).sqrt().mean()
        assert float(loss.detach()) == pytest.approx(float(expected.detach()), rel=1e-12)
        loss.backward()
        reached = {n.split(".")[0] for n, p in model.named_parameters() if p.grad is not None}
        assert reached == {"correction", "wiener", "last", "ratio"}

    def test_a_quickened_loop_has_the_start_as_its_reference(self):
        model, given = moved(amount=0.1), seen()
        with torch.no_grad():
            u = model.begin(*given)
            told = model.denoiser.bind(sigma=given[2], guide=u)
            assert float((told.centre(u) - u).abs().max()) > 1e-3
            model.quicken()
            assert torch.equal(model.begin(*given), u)
            told = model.denoiser.bind(sigma=given[2], guide=u)
            assert torch.equal(told.centre(u), u)
            p = model.data.weight((8, 8), given[0], given[2])
        assert torch.allclose(p, torch.full_like(p, TINY.weight), rtol=1e-6)

    def test_nonexpansive_for_any_weights_and_whatever_others_say(self):
        for scale in (1, 30):
            model, given = moved(amount=0.5), seen(1, 28)
            model.restorer = lambda b, symbol, sigma, scale=scale: -scale * b
            T = model.map(model.begin(*given), *given)
            assert T.operator.certified == "by construction"
            assert nonexpansive(T.operator, shape=(3, 28, 28), trials=2).holds

    def test_others_are_asked_once_and_before_the_first_step(self):
        model, given, asked = moved(amount=0.05), seen(), []
        model.restorer = lambda *told: asked.append(1) or brighter(*told)
        with torch.no_grad():
            found = dec.trajectory(model, *given, (0, 5, 300))
        assert len(asked) == 1 and not found.diverged
        assert float(found.residuals[-1].max()) < float(found.residuals[0].max()) / 10

    def test_the_public_restorer_is_ffdnet_in_dpirs_schedule(self, monkeypatch):
        net = FFDNet(3)
        monkeypatch.setattr(restorer.FFDNet, "pretrained", lambda channels: net)
        restorer._network.cache_clear()
        given = seen(dtype=torch.float32)
        expected = Scheduled(net, DPIR).restore(*given)
        assert torch.equal(restorer.Public(1)(*given), expected)
        restorer._network.cache_clear()


class TestRun:
    @pytest.fixture
    def asked(self, monkeypatch):
        settings, asked, fresh = small(), [], dec.build
        bench = dataclasses.replace(BENCHES["deconvolution"], settings_of=lambda profile: settings)
        monkeypatch.setitem(BENCHES, "deconvolution", bench)
        monkeypatch.setattr(report, "settings_of", lambda profile: settings)

        def built(*told):
            model = fresh(*told)
            model.restorer = lambda *given: asked.append(len(given[0])) or brighter(*given)
            return model

        monkeypatch.setattr(training, "build", built)
        return asked

    def run(self, folder, *options):
        told = ("--out", str(folder), "--method", "corrected", *options)
        return cli.main(["train", "deconvolution", *told])

    def test_crops_are_restored_once_and_the_record_is_written(self, tmp_path, asked, capsys):
        assert self.run(tmp_path, "--record") == 0
        assert asked[:2] == [3, 3]  # two files of three crops
        found = record.read(tmp_path / "deconvolution.page.json")
        rows = found.select(method="corrected", metric="psnr", image="rocket", depth=8)
        assert len(rows) == 2 and {r["setting"]["certified"] for r in rows} == {"by construction"}
        begun = len(asked)
        (tmp_path / "trained.corrected.seed0.json").unlink()
        assert self.run(tmp_path, "--resume") == 0
        assert len(asked) == begun
        assert (tmp_path / "deconvolution.page.corrected.safetensors").exists()

    def test_no_file_is_begun_after_the_deadline(self, tmp_path, asked):
        late = pieces.Pieces(small(), tmp_path, deadline=time.monotonic() - 1)
        with pytest.raises(OutOfTime, match=r"restored\.0"):
            late.restorations(brighter)
        assert asked == [] and list(tmp_path.iterdir()) == []

    def test_a_file_of_crops_knows_its_number_and_no_other_setting(self, tmp_path):
        first = pieces.Pieces(small(), tmp_path)
        made = first.restorations(brighter)
        assert len(made["sigma"]) == 6 and len(set(made["sigma"].flatten().tolist())) == 6
        more = dataclasses.replace(TINY, parts=1, widths=(4,))
        again = pieces.Pieces(small(correcting=more, batch=5), tmp_path, resume=True)
        kept = again.restorations(lambda *given: pytest.fail("restored again"))
        assert torch.equal(kept["restored"], made["restored"][:3])


@pytest.mark.data
def test_the_recorded_method_gives_its_record_again():
    """One of the 24 cases, from the public weights and the recorded ones."""
    image, kernel, percent = dec.SMALL.cases[0]
    clean = pictures.load(dec.SMALL).test[image]
    top, left = ((n - dec.SMALL.crop) // 2 for n in clean.shape[1:])
    part = clean[:, top : top + dec.SMALL.crop, left : left + dec.SMALL.crop].contiguous()
    kept = record.find("deconvolution.small").curves
    found = dec.scores(trained("small", "corrected"), part, data.kernels()[kernel], percent, (0,),
                       (0, 8, 64))  # fmt: skip
    named = kept[f"case psnr/{image}/{kernel}/{percent:g}/corrected"]
    at = [list(dec.SMALL.depths).index(depth) for depth in (0, 8, 64)]
    assert found["psnr"][0] == pytest.approx([named[k] for k in at], abs=0.005)
