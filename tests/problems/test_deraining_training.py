"""Deraining: draws, certified steps and what tells them, methods, testing, parts, records."""

import dataclasses
import json
import math

import pytest
import torch
from torch.nn import functional

from bmo import cli, record
from bmo.baselines.deraining import score
from bmo.certify import nonexpansive
from bmo.errors import DataError, DomainError, RecordError, TrainingError
from bmo.problems import deraining as rain
from bmo.problems.benches import BENCHES
from bmo.problems.deraining import draws, measuring, methods, pictures, pieces, report, trained
from bmo.record import weights

DOUBLE = torch.float64


def small(**changes):
    fields = {
        "widths": (4, 6),
        "maps": 3,
        "kernel_side": 5,
        "iterations": 4,
        "back": 2,
        "side": 24,
        "guide_batch": 2,
        "batch": 2,
        "layers": 2,
        "layer_side": 32,
        "guide_steps": 3,
        "steps": 2,
        "warmup": 1,
        "side_held_out": 32,
        "crop": 32,
        "depths": (0, 4),
        "case_depths": (0, 2, 4, 8),
        "bfloat16": False,
    }
    return dataclasses.replace(rain.PAGE, **{**fields, **changes})


def rng(seed=0):
    return torch.Generator().manual_seed(seed)


def pairs(count=2, side=24, seed=3, dtype=torch.float32):
    clean = torch.rand(count, 3, side, side, generator=rng(seed))
    layer = 0.4 * torch.rand(count, side, side, generator=rng(seed + 1)).pow(4)
    return rain.Pairs(clean.to(dtype), draws.wet(clean, layer).to(dtype))


def moved(name, settings=None, amount=0.3, seed=1, dtype=DOUBLE):
    """A method with weights far from its start."""
    model = rain.build(name, settings or small())
    g = rng(seed)
    with torch.no_grad():
        for p in model.parameters():
            p.add_(amount * torch.randn(p.shape, generator=g))
    return model.to(dtype)


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


class TestSteps:
    def test_the_pull_is_the_gradient_step_of_a_huber_potential(self):
        D = rain.Pull(features=14).double()
        with torch.no_grad():
            D.filters.add_(0.2 * torch.randn(D.filters.shape, generator=rng(), dtype=DOUBLE))
        r, x = (torch.rand(1, 3, 12, 12, generator=rng(k), dtype=DOUBLE) for k in (1, 2))
        parts = torch.randn(1, 42, 6, 6, generator=rng(3), dtype=DOUBLE)
        bound = D.bind(reference=r, parts=parts)
        filters = (D.filters / rain.guided.circular_bound(D.filters, 16).clamp_min(1)).detach()
        raw = (parts + D.numbers.detach().reshape(-1, 1, 1)).unflatten(1, (3, 14)).unbind(1)
        t, m, c = 0.05 * functional.softplus(raw[0]), 2 * raw[1].sigmoid(), 0.05 * raw[2]

        def potential(u):
            flat = functional.pixel_unshuffle(u - r, 2)
            y = functional.conv2d(functional.pad(flat, (1,) * 4, mode="circular"), filters) + c
            huber = torch.where(y.abs() <= t, y * y / 2, t * y.abs() - t * t / 2)
            return (m * huber).sum()

        point = x.clone().requires_grad_()
        (gradient,) = torch.autograd.grad(potential(point), point)
        assert torch.allclose(bound(x).detach(), x - gradient, atol=1e-12)

    def test_at_the_start_the_pull_carries_near_points_to_the_reference(self):
        torch.manual_seed(0)
        D, r = rain.Pull(), torch.rand(1, 3, 10, 11, generator=rng())
        x = r + 0.1 * torch.rand(r.shape, generator=rng(1)) - 0.05
        with torch.no_grad():
            gap = D.bind(reference=r, parts=torch.zeros(1, 48, 5, 6))(x) - r
        assert float(gap.norm() / (x - r).norm()) < 0.25

    def test_free_filters_break_the_bound_that_certified_ones_keep(self):
        ratios = []
        for certified in (True, False):
            torch.manual_seed(0)
            D = rain.Pull(features=12, certified=certified).double()
            with torch.no_grad():
                D.filters.mul_(3)
            r, x = (torch.rand(1, 3, 8, 8, generator=rng(k), dtype=DOUBLE) for k in (1, 2))
            D = D.bind(reference=r, parts=torch.full((1, 36, 4, 4), 30.0, dtype=DOUBLE))
            v = x + 1e-3 * torch.randn(x.shape, generator=rng(4), dtype=DOUBLE)
            ratios.append(float(((D(v) - D(x)).norm() / (v - x).norm()).detach()))
        assert ratios[0] <= 1 + 1e-9 and ratios[1] > 3

    def test_attention_that_is_given_scales_the_thresholds(self):
        kernels, b = torch.eye(3, dtype=DOUBLE)[None] / 3, torch.rand(1, 3, 8, 8, dtype=DOUBLE)
        D = rain.GuidedStep(kernels, b, 0.1).bind(b=b)
        plain = D.prepare().cut
        zero = D.bind(w=torch.zeros(1, 1, 8, 8, dtype=DOUBLE)).prepare().cut
        assert torch.allclose(zero, plain.expand_as(zero), atol=1e-14)
        other = D.bind(w=torch.full((1, 1, 8, 8), 2.0, dtype=DOUBLE)).prepare().cut
        assert torch.allclose(other, zero * math.log1p(math.e**2) / math.log(2), atol=1e-14)

    def test_a_free_step_takes_its_weights_as_they_are(self):
        u = 1 + torch.rand(1, 4, 8, 8, generator=rng(), dtype=DOUBLE)
        b = u[:, :3] + u[:, 3:]  # nothing is left to explain: no entry is cut off
        delta = torch.zeros(1, 3, 3, dtype=DOUBLE)
        delta[0, 1, 1] = 1
        kept, free = (
            rain.GuidedStep(delta, b, 1e-3, box=None, free=f).double() for f in (False, True)
        )
        low = rain.step.Positive(torch.full((2,), 0.1, dtype=DOUBLE), low=1e-3).state_dict()
        for D in (kept, free):
            D.weight.load_state_dict(low)
        v = u + 1e-4 * torch.randn(u.shape, generator=rng(1), dtype=DOUBLE)
        with torch.no_grad():
            ratios = [
                float((D.metric.norm(D(u) - D(v)) / D.metric.norm(u - v)).max())
                for D in (kept.bind(b=b), free.bind(b=b))
            ]
        assert ratios[0] <= 1 + 1e-9 < ratios[1]
        assert free.certified == "none" and free.averaged == 1

    def test_the_guide_starts_at_the_observation_with_constant_maps(self):
        torch.manual_seed(0)
        told = rain.Guide(maps=2, features=12, widths=(4, 6))(torch.rand(2, 3, 9, 8))
        assert told.gain.shape == (2, 2, 9, 8) and told.attention.shape == (2, 1, 9, 8)
        for constant in (told.gain, told.attention, told.parts):
            assert not constant.any()

    def test_mirror_images_are_mirrored_back(self):
        model, rainy = moved("bmo"), torch.rand(1, 3, 9, 8, generator=rng(), dtype=DOUBLE)
        with torch.no_grad():
            told, plain = model.guide.mirrored(rainy), model.guide(rainy)
            turned = model.guide.mirrored(rainy.flip((2, 3)))
            views = [model.guide(rainy.flip(a)).gain.flip(a) for a in ((), (2,), (3,), (2, 3))]
        assert torch.allclose(turned.reference.flip((2, 3)), told.reference, atol=1e-12)
        assert torch.allclose(told.gain, sum(views) / 4, atol=1e-12)
        assert torch.equal(told.parts, plain.parts)
        assert float((told.reference - plain.reference).abs().max()) > 1e-3

    def test_bfloat16_is_for_training_alone(self):
        torch.manual_seed(0)
        guide, rainy = rain.Guide(2, 12, (4, 6)), torch.rand(1, 3, 8, 8)
        exact = guide(rainy).reference.detach()
        guide.coarse = True
        coarse = guide(rainy).reference.detach()
        with torch.no_grad():
            tested = guide(rainy).reference
        assert torch.equal(tested, exact) and coarse.dtype == torch.float32
        assert 0 < float((coarse - exact).abs().max()) < 0.02


class TestMethods:
    @pytest.mark.parametrize("name", rain.METHODS)
    def test_a_loss_reaches_every_parameter(self, name):
        model = rain.build(name, small())
        model.loss(pairs()).backward()
        assert [n for n, p in model.named_parameters() if p.grad is None] == []
        assert model.anchored == (name == "bmo-h") and bool(model.mu) == name.startswith("bmo")

    def test_another_name_is_refused(self):
        with pytest.raises(DomainError, match="unh"):
            rain.build("unh", small())

    def test_certified_maps_are_nonexpansive_for_any_weights(self):
        for seed in range(2):
            model, batch = moved("bmo", seed=seed, amount=0.5), pairs(1, 16, dtype=DOUBLE)
            _, T = model.open(batch.rainy)
            assert T.operator.certified == "by construction" and T.alpha == 0.9
            found = nonexpansive(T.operator, shape=(1, 6, 16, 16), trials=2)
            assert found.holds and found.measured > 0.5, found

    def test_methods_say_whether_they_are_certified(self):
        for name in rain.METHODS:
            _, T = rain.build(name, small()).open(pairs(1).rainy)
            known = T.operator.certified == "by construction"
            assert known == (name in rain.CERTIFIED) and (T.alpha < 1) == known

    def test_the_guide_stands_still_while_the_loop_runs(self):
        model, batch = moved("bmo"), pairs(1, dtype=DOUBLE)
        u, T = model.open(batch.rainy)
        once = T(u).detach()
        T(T(u))
        assert torch.equal(T(u).detach(), once)
        _, other = model.open(batch.clean)
        assert float((other(u).detach() - once).abs().max()) > 1e-3

    def test_the_start_is_the_reference_and_what_the_kernels_find(self):
        model, batch = moved("bmo", amount=0.1), pairs(dtype=DOUBLE)
        with torch.no_grad():
            told = model.guide.mirrored(batch.rainy)
            u = model.begin(batch.rainy, told)
            r = told.reference.clamp(0, 1)
            flat = functional.pad(
                (batch.rainy - r).mean(1, keepdim=True), (2,) * 4, mode="circular"
            )
            found = functional.conv2d(flat, model.step.C[:, None])  # correlation: the adjoint
            share = functional.softplus(told.gain) * 2 / 3
        assert torch.equal(u[:, :3], r)
        assert torch.allclose(u[:, 3:], share * found.relu(), atol=1e-12)

    @pytest.mark.parametrize("name", ["bmo", "bmo-h"])
    def test_the_loss_is_algorithm_1_written_out(self, name):
        s = small(iterations=3, back=3, s=0.4)
        model, batch = moved(name, s, amount=0.05), pairs(dtype=DOUBLE)
        start, T = model.open(batch.rainy)
        u, H = start, T.metric.weights()
        upper = methods.Distance(*batch, model.step.C, s.rain_weight)
        for k in range(1, 4):
            size = s.s if name == "bmo-h" else s.s / (k + 1)
            v_u = u - size * upper.gradient(u) / H
            new = s.mu * v_u + (1 - s.mu) * ((1 - s.alpha) * u + s.alpha * T.operator(u))
            u = start / (k + 1) + k / (k + 1) * new if name == "bmo-h" else new

        def minus_psnr(v):
            error = (v[:, :3] - batch.clean).square().mean((1, 2, 3)) + (0.5 / 255) ** 2
            return 10 * error.log10().mean()

        expected = minus_psnr(u) + 0.5 * minus_psnr(start)
        assert float(model.loss(batch).detach()) == pytest.approx(float(expected.detach()), 1e-9)

    def test_the_gradient_of_the_upper_objective_is_its_derivative(self):
        batch = pairs(dtype=DOUBLE)
        kernels = torch.rand(2, 3, 3, generator=rng(), dtype=DOUBLE)
        upper = methods.Distance(*batch, kernels, 0.3)
        u = torch.rand(2, 5, 24, 24, generator=rng(1), dtype=DOUBLE, requires_grad=True)
        (expected,) = torch.autograd.grad(upper(u).sum(), u)
        assert torch.allclose(upper.gradient(u), expected, atol=1e-12)

    def test_steps_without_gradient_change_no_value(self):
        batch, losses, norms = pairs(dtype=DOUBLE), [], []
        for back in (1, 4):
            model = moved("bmo", small(back=back, mu=0.3), amount=0.05)
            loss = model.loss(batch)
            loss.backward()
            losses.append(float(loss.detach()))
            norms.append(float(model.step.C.grad.norm()))
        assert losses[0] == pytest.approx(losses[1], rel=1e-12)
        assert norms[0] != pytest.approx(norms[1], rel=1e-3)

    def test_the_guide_alone_learns_from_its_reference(self):
        model, batch = rain.build("bmo", small()).double(), pairs(dtype=DOUBLE)
        error = (model.guide(batch.rainy).reference - batch.clean).square().mean((1, 2, 3))
        expected = 10 * (error + (0.5 / 255) ** 2).log10().mean()
        assert float(model.guide_loss(batch).detach()) == pytest.approx(float(expected.detach()))

    def test_what_is_taken_must_fit(self):
        one, two = moved("bmo", seed=1), moved("bmo", seed=2)
        two.take(one.learned())
        assert all(torch.equal(p, two.learned()[n]) for n, p in one.learned().items())
        wrong = {**one.learned(), "step.C": torch.zeros(2)}
        with pytest.raises(RecordError, match=r"step\.C"):
            two.take(wrong)


class TestMeasuring:
    def test_a_trajectory_is_the_iteration_of_t(self):
        model, (_, rainy) = moved("bmo", amount=0.05), pairs(dtype=DOUBLE)
        with torch.no_grad():
            u, T = model.open(rainy)
            seen = rain.trajectory(model, rainy, (0, 2, 5))
            assert torch.equal(seen.images[0], u[:, :3])
            for _ in range(5):
                u = T(u)
            assert torch.allclose(seen.images[2], u[:, :3])
            H = T.metric.weights()
            r = (H * (u - T(u)).square()).sum((1, 2, 3)).sqrt() / (H * u * u).sum((1, 2, 3)).sqrt()
        assert torch.allclose(seen.residuals[2], r) and not seen.diverged
        assert torch.allclose(model.restore(rainy, 5), seen.images[2])

    def test_the_anchored_method_is_run_with_its_anchor(self):
        model, (_, rainy) = moved("bmo-h", amount=0.05), pairs(dtype=DOUBLE)
        with torch.no_grad():
            start, T = model.open(rainy)
            u = start
            for k in range(1, 6):
                u = start / (k + 1) + k / (k + 1) * T(u)
        seen = rain.trajectory(model, rainy, (0, 2, 5))
        assert torch.allclose(seen.images[2], u[:, :3], atol=1e-12)
        assert torch.allclose(model.restore(rainy, 5), seen.images[2])
        assert float((T.iterate(start, iterations=5).value - u).abs().max()) > 1e-4

    def test_residuals_of_certified_maps_keep_falling(self):
        model, (_, rainy) = moved("bmo", amount=0.05), pairs(dtype=DOUBLE)
        r = rain.trajectory(model, rainy, (0, 10, 100, 1000)).residuals
        assert bool((r[1:] < r[:-1]).all()) and float(r[-1].max()) < 1e-3 * float(r[0].min())

    def test_what_diverges_is_held_and_said(self):
        model, (_, rainy) = moved("ena", amount=0.05), pairs(dtype=DOUBLE)
        u, _ = model.open(rainy)
        model.open = lambda rainy: (u, methods.GKM(_Doubling(), 1.0, check=False))
        seen = rain.trajectory(model, rainy, (0, 1, 50, 60))
        assert seen.diverged and float(seen.images.abs().max()) < measuring.DIVERGED
        assert float(seen.residuals[-1].max()) == measuring.ENDLESS

    def test_scores_are_those_of_the_protocol(self):
        model, (clean, rainy) = rain.build("gkm", small()), pairs(1)
        found = measuring.measure_pair(model, rainy[0], clean[0], (0, 4))
        expected = score(model.restore(rainy)[0], clean[0])
        for key, value in expected.items():
            assert found[key][1] == pytest.approx(value, abs=1e-6)
        assert len(found["residual"]) == 2
        assert measuring.worth(model, [(rainy[0], clean[0])], 4) == found["psnr_y"][1]

    def test_cases_are_measured_on_middle_parts(self):
        model, (clean, rainy) = rain.build("gkm", small()), pairs(2, 28)
        found = measuring.converge(model, list(zip(rainy, clean, strict=True)), 24, (0, 4))
        alone = measuring.measure_pair(
            model, rainy[1, :, 2:26, 2:26], clean[1, :, 2:26, 2:26], (0, 4)
        )
        assert found[1]["psnr"] == pytest.approx(alone["psnr_y"], abs=1e-4)
        assert found[1]["drop"] == max(found[1]["psnr"]) - found[1]["psnr"][-1]


class _Doubling(methods.Derainer):
    certified = "none"

    def __init__(self):
        torch.nn.Module.__init__(self)

    @property
    def metric(self):
        return rain.step.Diagonal(torch.ones(1, 1, 1, dtype=DOUBLE), event_dims=3)

    def forward(self, u):
        return 4 * u + 1


class TestRun:
    def run(self, folder, monkeypatch, *options, **changes):
        settings = small(**changes)
        bench = dataclasses.replace(BENCHES["deraining"], settings_of=lambda profile: settings)
        monkeypatch.setitem(BENCHES, "deraining", bench)
        monkeypatch.setattr(report, "settings_of", lambda profile: settings)
        return cli.main(["train", "deraining", "--out", str(folder), *options])

    def test_the_command_writes_a_valid_record(self, tmp_path, monkeypatch, capsys):
        assert self.run(tmp_path, monkeypatch) == 0
        found = record.read(tmp_path / "deraining.page.json")
        shown = capsys.readouterr().out
        assert "PSNR in dB" in shown and "record: " in shown and "at depth 4:" in shown
        for method, known in (("bmo", "by construction"), ("ena", "none")):
            for channel in ("Y", "RGB"):
                (entry,) = found.select(method=method, metric="psnr", dataset="page-heavy",
                                        channel=channel, depth=4)  # fmt: skip
                assert entry["setting"]["certified"] == known and entry["n"] == 1
            worst = found.value(method=method, metric="psnr_drop", case="worst of all")
            each = [e["value"] for e in found.select(method=method, metric="psnr_drop")]
            assert worst == max(each) >= 0
            assert found.value(method=method, metric="held_out_psnr", kind="light") > 10
        assert len(found.curves["case psnr/page-light/1/bmo"]) == 4
        assert len(found.curves["guide loss"]) == 3
        assert (tmp_path / "deraining.page.bmo.safetensors").exists()

    def test_a_run_in_pieces_ends_with_the_same_numbers(self, tmp_path, monkeypatch, capsys):
        options = ("--method", "gkm")
        assert self.run(tmp_path / "whole", monkeypatch, *options) == 0
        for _ in range(3):
            assert self.run(tmp_path / "cut", monkeypatch, *options, "--resume",
                            "--minutes", "1e-6") == 0  # fmt: skip
        assert "time is over" in capsys.readouterr().out
        assert not list((tmp_path / "cut").glob("tables*"))
        assert self.run(tmp_path / "cut", monkeypatch, *options, "--resume") == 0
        whole, cut = (
            json.loads((tmp_path / n / "tables.gkm.seed0.json").read_text())
            for n in ("whole", "cut")
        )
        assert whole["psnr"] == cut["psnr"] and whole["weights"] == cut["weights"]
        assert whole["losses"] == cut["losses"]

    def test_methods_share_the_guide_and_the_layers(self, tmp_path):
        shelf = pieces.Pieces(small(), tmp_path)
        first = shelf.guide(0)
        other = pieces.Pieces(small(rate=5e-4, mu=0.2, case_depths=(0, 3)), tmp_path, resume=True)
        assert other.guide(0) == first
        with pytest.raises(TrainingError, match="another run"):
            pieces.Pieces(small(widths=(6,)), tmp_path, resume=True).guide(0)
        with pytest.raises(TrainingError, match="another run"):
            _ = pieces.Pieces(small(layers=3), tmp_path, resume=True).weather
        shelf.trained("gkm", 0)
        with pytest.raises(TrainingError, match="another run"):
            other.trained("gkm", 0)

    def test_mu_is_a_setting_of_the_joint_methods_alone(self, tmp_path):
        shelf = pieces.Pieces(small(), tmp_path)
        for method in ("bmo", "gkm"):
            shelf.trained(method, 0)
        other = pieces.Pieces(small(mu=0.2), tmp_path, resume=True)
        other.trained("gkm", 0)
        with pytest.raises(TrainingError, match="another run"):
            other.trained("bmo", 0)

    def test_a_recorded_method_is_rebuilt(self, tmp_path, monkeypatch):
        assert self.run(tmp_path, monkeypatch, "--method", "bmo", "--record") == 0
        found = record.read(tmp_path / "deraining.page.json")
        file = tmp_path / "deraining.page.bmo.safetensors"
        learned = record.load_weights(file, record.store.sha256_of(file))
        monkeypatch.setattr(record, "find", lambda name: found)
        monkeypatch.setattr(record, "find_weights", lambda name: learned)
        model = trained.trained("page", "bmo")
        assert model.settings.maps == 3 and model.settings.iterations == 4
        shelf = pieces.Pieces(small(methods=("bmo",)), tmp_path, resume=True)
        one, two = (m.restore(pairs().rainy) for m in (model, shelf.trained("bmo", 0)[0]))
        assert torch.equal(one, two)
        with pytest.raises(RecordError, match="method of bmo"):
            trained.trained("page", "ena")

    def test_real_pairs_count_in_every_choice(self, tmp_path, monkeypatch):
        shelf = pieces.Pieces(small(), tmp_path)
        clean, rainy = pairs(1)
        whole = dataclasses.replace(shelf.pictures, real_held_out=[(rainy[0], clean[0])])
        monkeypatch.setitem(shelf.__dict__, "pictures", whole)
        model = rain.build("bmo", small())
        found = shelf.worth(model, 2)
        assert set(found) == {"light", "heavy", "real"}
        assert found["real"] == measuring.worth(model, [(rainy[0], clean[0])], 2)

    def test_numbers_have_a_rate_of_their_own(self):
        model = rain.build("bmo", small())
        groups = pieces.optimizer(model, 1e-4, 1e-2).param_groups
        own = {id(p) for p in groups[1]["params"]}
        names = {n for n, p in model.named_parameters() if id(p) in own}
        assert names == {"step.weight.raw", "step.theta.raw", "pull.numbers"}
        assert [g["lr"] for g in groups] == [1e-4, 1e-2]

    @pytest.mark.parametrize("profile", ["small", "full"])
    def test_weights_fit_in_a_record(self, profile):
        model = rain.build("bmo", rain.settings_of(profile))
        size = 4 * sum(p.numel() for p in model.parameters())
        assert 1e6 < size < 0.9 * weights.LARGEST

    def test_settings_of_a_profile(self):
        assert rain.settings_of("full") is rain.FULL
        with pytest.raises(DomainError, match="huge"):
            rain.settings_of("huge")
        for s in (rain.PAGE, rain.SMALL, rain.FULL):
            assert s.depths[-1] == s.iterations in s.case_depths
            assert s.heavy == 0.5
