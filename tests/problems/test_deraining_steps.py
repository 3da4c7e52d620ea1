"""Deraining: the certified steps, and the network that tells them."""

import math

import torch
from torch.nn import functional

from bmo.problems import deraining as rain
from tests.problems.rain import DOUBLE, moved, rng


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
