"""Deraining: the learned methods, and how they are tested."""

import pytest
import torch
from torch.nn import functional

from bmo.baselines.deraining import score
from bmo.certify import nonexpansive
from bmo.errors import DomainError, RecordError
from bmo.problems import deraining as rain
from bmo.problems.deraining import measuring, methods
from tests.problems.rain import DOUBLE, moved, pairs, rng, small


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
