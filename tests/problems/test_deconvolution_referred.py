"""Loops around a restoration by others: frame, start, certificate, training, the run."""

import dataclasses

import pytest
import torch

from bmo import cli, errors, record
from bmo.baselines.denoisers import DPIR, Averaged, FFDNet
from bmo.certify import nonexpansive
from bmo.networks import circular_bound
from bmo.networks.maps import to_pieces
from bmo.operators import FourierColourStep
from bmo.problems import deconvolution as dec
from bmo.problems.benches import BENCHES
from bmo.problems.deconvolution import pieces, referred, report, restorer, training
from bmo.problems.deconvolution.budgets import Budget, Referring
from bmo.problems.deconvolution.remembered import Remembered
from bmo.problems.deconvolution.settings import CERTIFIED, REFERRED
from bmo.problems.deconvolution.trained import trained
from tests.problems.blurred import DOUBLE, seen
from tests.problems.runs import moved_by

TINY = Referring(orders=2, parts=2, count=3, side=32, iterations=4, back=2, chroma=3.0)


def small(**changes):
    fields = {
        "methods": REFERRED,
        "referring": TINY,
        "batch": 2,
        "budgets": dict.fromkeys(REFERRED, Budget(0, 2)),
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
    return 1.1 * b + sigma


def moved(amount=0.3, seed=1, name="bmo-ffdnet"):
    """A method with weights far from its start."""
    model = moved_by(dec.build(name, small()), amount, seed, DOUBLE)
    model.restorer = brighter
    return model


def test_the_frame_is_tight_and_reads_haar_differences_of_opponent_colours():
    frame = referred.haar_frame().double()
    u = torch.rand(1, 3, 16, 12, dtype=DOUBLE)
    x = to_pieces(u, 2)
    padded = torch.nn.functional.pad(x, (1,) * 4, mode="circular")
    y = torch.nn.functional.conv2d(padded, frame)
    assert float(y.square().sum()) == pytest.approx(float(x.square().sum()), rel=1e-6)
    assert float(circular_bound(frame, 64)) == pytest.approx(1, abs=0.003)
    # the second shift to the right, the filter with a vertical edge, brightness
    bright = u.sum(1)[0] / 3**0.5
    right = bright.roll(-1, 1)
    edge = right - bright.roll(-2, 1)
    by_hand = (edge + edge.roll(-1, 0)) / 4
    assert torch.allclose(y[0, 12 + 2 * 3], by_hand[::2, ::2], atol=1e-6)


class TestMethod:
    def test_it_starts_at_the_restoration_and_knows_no_truth(self):
        model, given = moved(), seen()
        assert torch.equal(model.begin(*given), brighter(*given))
        z = torch.rand_like(given[0])
        assert torch.equal(model.begin(*given, z), z)

    def test_untrained_it_makes_one_data_step_with_two_weights(self):
        model, given = dec.build("bmo-ffdnet", small()).double(), seen()
        with torch.no_grad():
            model.denoiser.maps.value[:, 0] = 1e3  # no difference is cut
        r = given[0] + 0.05 * torch.rand_like(given[0])
        found = model.map(r, *given).iterate(r, 200).value
        # the bound of the filters is 4 % above their norm: so much less is r believed
        c = float(circular_bound(model.denoiser.kernels[0], 16).detach()) ** -2
        plain = FourierColourStep(given[1], given[0], c * TINY.luma, c * TINY.chroma, given[2])
        expected = plain(r).detach()
        assert float((found - expected).norm()) < 1e-6 * float((r - expected).norm())

    def test_nonexpansive_for_any_weights_and_whatever_others_say(self):
        for name in REFERRED:
            for scale in (1, 30):
                model, given = moved(amount=0.5, name=name), seen(1, 28)
                model.restorer = lambda b, symbol, sigma, scale=scale: -scale * b
                T = model.map(model.begin(*given), *given)
                assert T.operator.certified == "by construction" and name in CERTIFIED
                assert nonexpansive(T.operator, shape=(3, 28, 28), trials=2).holds

    def test_others_are_asked_once_and_before_the_first_step(self):
        model, given, asked = moved(amount=0.1), seen(), []
        model.restorer = lambda *told: asked.append(1) or brighter(*told)
        with torch.no_grad():
            found = dec.trajectory(model, *given, (0, 5, 300))
        assert len(asked) == 1 and not found.diverged
        assert float(found.residuals[-1].max()) < float(found.residuals[0].max()) / 10

    def test_algorithm_1_reaches_every_number_and_mu_makes_the_difference(self):
        given = seen()
        clean = torch.rand(given[0].shape, dtype=DOUBLE)
        gradients = {}
        for name in REFERRED:
            model = moved(amount=0.1, name=name)
            model.loss((clean, *given, brighter(*given))).backward()
            named = dict(model.named_parameters())
            still = [key for key, p in named.items() if p.grad is None]
            assert still == ["denoiser.kernels.0"]  # the frame
            gradients[name] = named["data.weight.raw"].grad
        assert dec.build("bmo-ffdnet", small()).mu > 0 == dec.build("gkm-ffdnet", small()).mu
        assert not torch.equal(*gradients.values())

    def test_the_loss_is_that_of_a_run_from_the_observation_relative_to_the_reference(self):
        model, given = moved(amount=0.1, name="gkm-ffdnet"), seen()
        clean, r = (torch.rand(given[0].shape, dtype=DOUBLE) for _ in range(2))
        u = model.map(r, *given).iterate(given[0], TINY.iterations).value
        ratio = [float((u - clean)[k].norm() / (r - clean)[k].norm()) for k in (0, 1)]
        found = float(model.loss((clean, *given, r)).detach())
        assert found == pytest.approx(sum(ratio) / 2, rel=1e-6)

    def test_the_public_restorer_is_the_mean_of_ffdnet_in_dpirs_schedule(self, monkeypatch):
        net = FFDNet(3)
        monkeypatch.setattr(restorer.FFDNet, "pretrained", lambda channels: net)
        restorer._network.cache_clear()
        given = seen(dtype=torch.float32)
        expected = Averaged(net, DPIR, 2).restore(*given)
        assert torch.equal(dec.build("gkm-ffdnet", small()).begin(*given), expected)
        restorer._network.cache_clear()

    def test_weights_of_another_method_are_refused(self):
        with pytest.raises(errors.RecordError, match="train it again"):
            dec.build("bmo-ffdnet", small()).take(dec.build("gkm", small()).learned())


class TestRemembered:
    def test_a_question_is_asked_once(self, tmp_path):
        asked, given = [], seen(3, dtype=torch.float32)
        restorer = lambda *told: asked.append(len(told[0])) or brighter(*told)  # noqa: E731
        first = Remembered(restorer, tmp_path)
        expected = brighter(*given)
        assert torch.equal(first(*given), expected) and asked == [1, 1, 1]
        assert torch.equal(first(*given), expected) and len(asked) == 3
        one = [part[1:2] for part in given]
        assert torch.equal(first(*one), expected[1:2]) and len(asked) == 3
        again = Remembered(restorer, tmp_path, resume=True)
        assert torch.equal(again(*given), expected) and len(asked) == 3
        Remembered(restorer, tmp_path)(*given)  # without resume nothing older is used
        assert len(asked) == 6

    def test_every_part_of_the_question_counts(self, tmp_path):
        b, symbol, sigma = seen(1, dtype=torch.float32)
        asked = []
        kept = Remembered(lambda *told: asked.append(1) or brighter(*told), tmp_path)
        for told in ((b, symbol, sigma), (b + 1e-6, symbol, sigma), (b, symbol.conj(), sigma),
                     (b, symbol, 2 * sigma)):  # fmt: skip
            kept(*told)
        assert len(asked) == 4
        assert torch.equal(kept(b, symbol, 2 * sigma), brighter(b, symbol, 2 * sigma))

    def test_an_altered_answer_is_refused(self, tmp_path):
        given = seen(1, dtype=torch.float32)
        Remembered(brighter, tmp_path)(*given)
        (path,) = tmp_path.glob("*.safetensors")
        path.write_bytes(path.read_bytes()[:-1] + b"x")
        with pytest.raises(errors.RecordError, match="sha256"):
            Remembered(brighter, tmp_path, resume=True)(*given)


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
        return cli.main(["train", "deconvolution", "--out", str(folder), *options])

    def test_both_methods_share_crops_and_answers(self, tmp_path, asked, capsys):
        assert self.run(tmp_path, "--method", "bmo-ffdnet") == 0
        # two files of crops, two cells, the held-out images and their cost
        assert asked == [3, 3, 1, 1, 2, 1]
        assert self.run(tmp_path, "--method", "gkm-ffdnet", "--resume") == 0
        assert asked[6:] == [2, 1]
        assert self.run(tmp_path, "--method", *REFERRED, "--resume", "--record") == 0
        assert asked[8:] == [1]  # the case
        found = record.read(tmp_path / "deconvolution.page.json")
        for method in REFERRED:
            rows = found.select(method=method, metric="psnr", image="rocket", depth=8)
            assert len(rows) == 2
            assert {r["setting"]["certified"] for r in rows} == {"by construction"}
            assert (tmp_path / f"deconvolution.page.{method}.safetensors").exists()
        start = [found.value(method=m, metric="psnr", image="rocket", sigma_percent=3.0, depth=0)
                 for m in REFERRED]  # fmt: skip
        assert start[0] == start[1]  # one reference

    def test_a_part_knows_its_own_settings_alone(self, tmp_path):
        first = pieces.Pieces(small(), tmp_path)
        made = first.restorations(brighter, "referred")
        assert len(made["sigma"]) == 6 and float(made["sigma"].max()) <= 0.06
        other = dataclasses.replace(TINY, iterations=3, chroma=1.0)
        again = pieces.Pieces(small(referring=other, widths=(5,)), tmp_path, resume=True)
        kept = again.restorations(lambda *given: pytest.fail("restored again"), "referred")
        assert torch.equal(kept["restored"], made["restored"])
        more = dataclasses.replace(TINY, orders=4)
        changed = pieces.Pieces(small(referring=more), tmp_path, resume=True)
        with pytest.raises(errors.TrainingError, match="same settings"):
            changed.restorations(brighter, "referred")


@pytest.mark.data
@pytest.mark.parametrize("method", REFERRED)
def test_the_recorded_method_gives_its_record_again(method):
    """One of the 24 cases, from the public weights and the recorded ones."""
    from bmo import data
    from bmo.problems.deconvolution import pictures

    image, kernel, percent = dec.SMALL.cases[0]
    clean = pictures.load(dec.SMALL).test[image]
    top, left = ((n - dec.SMALL.crop) // 2 for n in clean.shape[1:])
    part = clean[:, top : top + dec.SMALL.crop, left : left + dec.SMALL.crop].contiguous()
    kept = record.find("deconvolution.small").curves
    found = dec.scores(trained("small", method), part, data.kernels()[kernel], percent, (0,),
                       (0, 8, 64))  # fmt: skip
    named = kept[f"case psnr/{image}/{kernel}/{percent:g}/{method}"]
    at = [list(dec.SMALL.depths).index(depth) for depth in (0, 8, 64)]
    assert found["psnr"][0] == pytest.approx([named[k] for k in at], abs=0.005)
