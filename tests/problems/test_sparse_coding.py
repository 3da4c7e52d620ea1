"""Sparse coding of patches: the operator's promise, testing without ground truth, and the parts."""

import dataclasses
import json
import math
from pathlib import Path

import pytest
import torch

from bmo import GKM, record
from bmo.certify import contraction, nonexpansive
from bmo.errors import DataError, DomainError, RecordError, ShapeError, TrainingError
from bmo.files import sha256_of
from bmo.problems import sparse_coding as sc
from bmo.problems.sparse_coding import measuring, pieces, report, trained
from bmo.problems.sparse_coding.pictures import load

DOUBLE = torch.float64


def dictionary(m=16, n=24, seed=0):
    draws = torch.Generator().manual_seed(seed)
    A = torch.randn(m, n, dtype=DOUBLE, generator=draws)
    return A / A.norm(dim=0)


def restorer(noise="gaussian", mu=0.3, alpha=0.9, ridge=0.1, A=None):
    A = dictionary() if A is None else A
    G = sc.stacked(A, noise)
    D = sc.Coder(G, G.new_zeros(G.shape[0]), 0.1, ridge=ridge)
    return sc.Restorer(D, A, noise, alpha, mu, 1.0, 4)


def observations(count=6, m=16, seed=1):
    return torch.rand(count, m, dtype=DOUBLE, generator=torch.Generator().manual_seed(seed))


class TestPatches:
    def test_every_place_of_every_image_is_one_number(self):
        images = [torch.rand(6, 5), torch.rand(4, 7)]
        bank = sc.PatchBank(images, 4)
        expected = [
            i[r : r + 4, c : c + 4].flatten()
            for i in images
            for r in range(i.shape[0] - 3)
            for c in range(i.shape[1] - 3)
        ]
        assert len(bank) == len(expected) == 3 * 2 + 4
        assert torch.equal(bank.take(torch.arange(len(bank))), torch.stack(expected))

    def test_draws_are_uniform_and_decided_by_the_generator(self):
        bank = sc.PatchBank([torch.arange(30.0).reshape(5, 6)], 4)
        first = bank.draw(6000, torch.Generator().manual_seed(1))[:, 0]
        again = bank.draw(6000, torch.Generator().manual_seed(1))[:, 0]
        assert torch.equal(first, again)
        counts = first.unique(return_counts=True)[1]
        assert len(counts) == 6 and float((counts - 1000).abs().max()) < 5 * math.sqrt(1000 * 5 / 6)

    @pytest.mark.parametrize(("shape", "stride"), [((16, 16), 8), ((37, 50), 16), ((33, 18), 5)])
    def test_join_undoes_cut(self, shape, stride):
        u = torch.rand(shape, dtype=DOUBLE)
        found = sc.join(torch.stack([sc.cut(u, 16, stride)] * 2), shape, stride)
        assert torch.allclose(found, u.expand(2, *shape), atol=1e-14, rtol=0)

    def test_overlapping_patches_are_averaged(self):
        patches = sc.cut(torch.zeros(16, 24), 16, 8)
        patches[1] = 1.0
        expected = torch.tensor([0.0] * 8 + [0.5] * 8 + [1.0] * 8).expand(16, 24)
        assert torch.equal(sc.join(patches, (16, 24), 8), expected)

    def test_small_images_gaps_and_wrong_counts_are_refused(self):
        with pytest.raises(DataError, match="4x4"):
            sc.PatchBank([torch.zeros(3, 9)], 4)
        with pytest.raises(DataError, match="no image"):
            sc.PatchBank([], 4)
        with pytest.raises(ShapeError, match="stride 17"):
            sc.cut(torch.zeros(20, 20), 16, 17)
        with pytest.raises(ShapeError, match="4 patches"):
            sc.join(torch.zeros(3, 256), (32, 32), 16)


class TestNoise:
    def test_gaussian_noise_has_mean_zero_and_sigma_25(self):
        draws = torch.Generator().manual_seed(0)
        e = sc.corrupt(torch.full((200_000,), 0.5, dtype=DOUBLE), "gaussian", draws) - 0.5
        assert abs(float(e.mean())) < 5 * (25 / 255) / math.sqrt(200_000)
        assert float(e.std()) == pytest.approx(25 / 255, rel=0.01)

    def test_salt_and_pepper_strike_one_pixel_in_ten_in_equal_parts(self):
        y = sc.corrupt(torch.full((200_000,), 0.5), "salt-pepper", torch.Generator().manual_seed(0))
        for value in (0.0, 1.0):
            assert float((y == value).float().mean()) == pytest.approx(0.05, abs=0.0025)

    def test_the_level_is_robust_where_it_has_to_be(self):
        patch = torch.full((1, 256), 0.3)
        patch[0, :25] = 1.0
        assert float(sc.centre(patch, "salt-pepper")) == pytest.approx(0.3)
        assert float(sc.centre(patch, "gaussian")) == pytest.approx(float(patch.mean()))

    def test_another_noise_is_refused(self):
        with pytest.raises(DomainError, match="speckle"):
            sc.corrupt(torch.zeros(2), "speckle", torch.Generator())


class TestDictionary:
    def test_learning_lowers_the_cost_of_coding_and_keeps_unit_atoms(self):
        from bmo.baselines import fista

        draws = torch.Generator().manual_seed(3)
        image = torch.nn.functional.interpolate(
            torch.rand(1, 1, 30, 30, generator=draws), scale_factor=4, mode="bicubic"
        )[0, 0].double()
        bank = sc.PatchBank([image], 4)
        x = bank.draw(400, draws)
        x = x - x.mean(1, keepdim=True)

        def cost(A):
            z = fista(A, x, 0.1, 200)
            return float((0.5 * (z @ A.mT - x).square().sum(1) + 0.1 * z.abs().sum(1)).mean())

        before, after = (sc.learn_dictionary(bank, 24, k, 64) for k in (0, 20))
        assert torch.allclose(after.norm(dim=0), torch.ones(24, dtype=DOUBLE), atol=1e-12)
        assert torch.equal(after[:, 0], torch.full((16,), 0.25, dtype=DOUBLE))
        assert cost(after) < 0.95 * cost(before)
        assert torch.equal(after, sc.learn_dictionary(bank, 24, 20, 64))

    def test_flat_images_are_refused(self):
        with pytest.raises(DataError, match="not flat"):
            sc.learn_dictionary(sc.PatchBank([torch.zeros(20, 20)], 4), 24)

    def test_a_flat_spectrum_is_a_tight_frame_and_half_of_it_halves_the_logarithms(self):
        A = dictionary()
        frame = sc.flatten_spectrum(A, 1.0)
        middle = float(frame.square().sum()) / 16
        assert torch.allclose(frame @ frame.mT, middle * torch.eye(16, dtype=DOUBLE), atol=1e-10)
        start, half = torch.linalg.svdvals(A), torch.linalg.svdvals(sc.flatten_spectrum(A, 0.5))
        expected = (start.clamp_min(float(start[-2]) / 2) * math.sqrt(middle)).sqrt()
        assert torch.allclose(half, expected, atol=1e-10)
        assert sc.flatten_spectrum(A, 0.0) is A


class TestOperator:
    @pytest.mark.parametrize("noise", sc.NOISES)
    @pytest.mark.parametrize("seed", range(2))
    def test_it_contracts_in_its_metric_for_raw_values_of_any_size(self, noise, seed):
        model = restorer(noise, ridge=0.25)
        with torch.no_grad():
            for p in model.operator.parameters():
                p.add_(3 * torch.randn(p.shape, dtype=DOUBLE))
        D = model.operator.bind(b=torch.randn(16, dtype=DOUBLE))
        n = 24 if noise == "gaussian" else 40
        assert nonexpansive(D, size=n, trials=8, ascent=10, limit=1 / 1.25).holds
        T = GKM(D, 0.9)
        assert contraction(T, 1 - 0.9 * 0.25 / 1.25, size=n, trials=8, ascent=10).holds
        assert D.certified == "by construction"

    def test_without_a_ridge_and_at_the_start_it_is_ista(self):
        from bmo.baselines import ista

        A, b = dictionary(), torch.randn(5, 16, dtype=DOUBLE)
        D = sc.Coder(A, b, torch.tensor(0.1, dtype=DOUBLE), ridge=0.0)
        u = torch.randn(5, 24, dtype=DOUBLE)
        assert torch.allclose(D(u), ista(A, b, 0.1, 1, z0=u), atol=1e-12, rtol=0)

    def test_its_step_minimises_the_elastic_net_model_in_the_metric(self):
        A, b = dictionary(), torch.randn(16, dtype=DOUBLE)
        D = sc.Coder(A, b, torch.tensor(0.1, dtype=DOUBLE), ridge=0.3)
        u = torch.randn(24, dtype=DOUBLE)
        v, p = D(u).detach(), D.prepare().p.detach()
        gradient = (A @ u - b) @ A + p * (v - u) + 0.3 * p * v
        off = v == 0
        assert float((gradient + 0.1 * v.sign())[~off].abs().max()) < 1e-10
        assert float(gradient[off].abs().max()) <= 0.1 + 1e-10

    @pytest.mark.parametrize("ridge", [-0.1, math.inf, math.nan])
    def test_a_ridge_outside_its_range_is_refused(self, ridge):
        with pytest.raises(DomainError, match="ridge"):
            sc.Coder(dictionary(), torch.zeros(16, dtype=DOUBLE), 0.1, ridge=ridge)


class TestRestorer:
    @pytest.mark.parametrize("noise", sc.NOISES)
    def test_the_loss_is_that_of_algorithm_1_written_out(self, noise):
        model, clean = restorer(noise), observations()
        observed = sc.corrupt(clean, noise, torch.Generator().manual_seed(2))
        level = sc.centre(observed, noise)
        A, x, b = model.decoder.detach(), clean - level, observed - level
        D = model.operator.bind(b=b)
        p, u = (
            D.prepare().p.detach(),
            torch.zeros(6, 24 if noise == "gaussian" else 40, dtype=DOUBLE),
        )
        for k in range(1, 5):
            v_l = 0.1 * u + 0.9 * D(u).detach()
            g = torch.zeros_like(u)
            g[:, :24] = (u[:, :24] @ A.mT - x) @ A
            u = 0.3 * (u - g / p / (k + 1)) + 0.7 * v_l
        expected = 0.5 * (u[:, :24] @ A.mT - x).square().sum(1).mean()
        # the restorer's default schedule is constant; here it is s / (k + 1)
        model.steps = lambda k: 1.0 / (k + 1)
        assert float(model.loss((clean, observed)).detach()) == pytest.approx(
            float(expected), rel=1e-10
        )

    def test_its_gradient_agrees_with_finite_differences(self):
        model, clean = restorer(), observations()
        observed = sc.corrupt(clean, "gaussian", torch.Generator().manual_seed(2))
        model.loss((clean, observed)).backward()
        for p in model.parameters():
            direction = torch.randn(p.shape, dtype=DOUBLE)
            slope = float((p.grad * direction).sum())
            values = []
            for h in (1e-6, -1e-6):
                with torch.no_grad():
                    p.add_(h * direction)
                    values.append(float(model.loss((clean, observed))))
                    p.sub_(h * direction)
            assert (values[0] - values[1]) / 2e-6 == pytest.approx(slope, rel=1e-4, abs=1e-7)

    @pytest.mark.parametrize("noise", sc.NOISES)
    def test_nan_as_ground_truth_changes_no_tested_output(self, noise, monkeypatch):
        model, image = restorer(noise), torch.rand(24, 20, dtype=DOUBLE)
        noisy = {"a": sc.corrupt(image, noise, torch.Generator().manual_seed(0))}
        depths, seen, truths = [1, 16, 100], [], []

        def spy(restored, truth):
            seen.append(restored[:, 0])
            truths.append(truth)
            return torch.zeros(len(restored))

        monkeypatch.setattr(measuring, "psnr", spy)
        for truth in (image, torch.full_like(image, math.nan)):
            sc.measure(model, {"a": truth}, noisy, depths, 4)
        assert not bool(truths[0].isnan().any()) and bool(truths[1].isnan().all())
        assert torch.equal(*seen) and bool(torch.isfinite(seen[0]).all())
        level = sc.centre(sc.cut(noisy["a"], 4, 4), noise)
        b = sc.cut(noisy["a"], 4, 4) - level
        T = model.map(b)
        u = T.iterate(model.start(b), 16).value
        by_hand = sc.join(model.decode(u) + level, (24, 20), 4).clamp(0, 1).detach()
        assert torch.allclose(seen[0][1], by_hand, atol=1e-12, rtol=0)

    def test_depths_are_those_of_one_and_the_same_map(self):
        model, y = restorer(), observations()
        together = model.restore(y, [3, 10])
        assert torch.equal(together[0], model.restore(y, [3])[0])
        assert torch.allclose(together[1], model.restore(y, [10])[0], atol=1e-14, rtol=0)
        images, r = sc.iterate(model, y, [3, 10])
        assert torch.allclose(images, together, atol=1e-14, rtol=0)
        b = y - y.mean(1, keepdim=True)
        T = model.map(b)
        u = T.iterate(model.start(b), 10).value
        ratio = (T.metric.norm(u - T(u)) / T.metric.norm(u)).detach()
        assert torch.allclose(r[1], ratio, rtol=1e-10, atol=0)

    def test_a_batch_that_no_longer_moves_is_left_alone_and_one_that_diverged_is_held(self):
        model, y = restorer(), observations()
        exact = sc.iterate(model, y, [100, 400])[0]
        early = sc.iterate(model, y, [100, 400], resolution=1e-3)[0]
        assert torch.equal(early[0], early[1]) and not torch.equal(exact[0], exact[1])
        with torch.no_grad():
            lista = trained.TiedLISTA(dictionary(), torch.zeros(16, dtype=DOUBLE), 0.1)
            lista.W2.mul_(3.0)
            wild = sc.Restorer(lista, dictionary(), "gaussian", 1.0)
        images, r = sc.iterate(wild, y, [50, 100, 1000])
        assert torch.equal(images[1], images[2]) and bool(torch.isfinite(images).all())
        assert float(images[1].abs().max()) > measuring.DIVERGED / 10
        assert float(r.max()) <= 1e30


def small(**changes):
    return dataclasses.replace(
        sc.PAGE,
        **{
            "size": 4,
            "atoms": 24,
            "steps": 3,
            "batch": 8,
            "rates": (1e-3, 1e-2),
            "search_steps": 1,
            "dictionary_batches": 1,
            "validation": 20,
            "penalties": (0.1,),
            "outliers": (1.0,),
            "iterations": 3,
            "stride": 4,
            "depths": (1, 3, 6),
            "table_depths": (3, 6),
            "exact_patches": 4,
            "seeds": (0, 1),
            **changes,
        },
    )


@pytest.fixture(scope="module")
def tiny_pictures():
    draws = torch.Generator().manual_seed(0)
    image = torch.nn.functional.interpolate(
        torch.rand(1, 1, 12, 12, generator=draws), scale_factor=2, mode="bilinear"
    )[0, 0]
    bank = sc.PatchBank([image], 4)
    name = "scikit-image/camera.png"
    return pieces.Pictures(bank, bank, {"one": image}, [name])


def run(folder, pictures, resume=False, **changes):
    found = pieces.Pieces(small(**changes), folder, resume, progress=False)
    found.pictures = pictures
    return found


class TestExperiment:
    def test_the_record_holds_every_method_and_its_weights_rebuild_it(
        self, tmp_path, tiny_pictures
    ):
        parts = run(tmp_path, tiny_pictures)
        made = record.read(report.save(parts, tmp_path))
        assert made.name == "sparse-coding.page" and made.data[0]["file"].endswith("camera.png")
        for noise in sc.NOISES:
            for method in sc.METHODS:
                assert made.select(method=method, noise=noise, depth=6, metric="psnr")[0][
                    "n"
                ] == len(parts.settings.seeds_of(method))
                assert len(made.curves[f"psnr/{noise}/{method}"]) == 3
            pair = [
                made.value(method=m, noise=noise, depth=6, metric="psnr") for m in ("bmo", "gkm")
            ]
            difference = made.value(noise=noise, depth=6, metric="psnr_difference")
            assert difference == pytest.approx(pair[0] - pair[1], abs=1e-9)
        assert made.value(method="ena-lista", noise="gaussian", depth=3, metric="ssim") <= 1
        file = tmp_path / "sparse-coding.page.gaussian.safetensors"
        weights = record.load_weights(file, sha256_of(file))
        y = torch.rand(3, 16)
        for method in sc.METHODS[:3]:
            again = trained.rebuild(made.settings, weights, "gaussian", method)
            first = parts.fit(
                "gaussian", method, 0, parts.rate("gaussian", method)["rate"], 3, None
            )
            assert torch.equal(again.restore(y, [6]), first[0].restore(y, [6]))
        with pytest.raises(RecordError, match="bmo, ena-lista, gkm"):
            trained.rebuild(made.settings, weights, "gaussian", "unh-ista")

    def test_parts_are_kept_and_only_those_of_the_same_run_are_used(self, tmp_path, tiny_pictures):
        first = run(tmp_path, tiny_pictures).result("gaussian", "gkm", 1)
        again = run(tmp_path, tiny_pictures, resume=True)
        again.fit = None  # nothing is trained again
        assert again.result("gaussian", "gkm", 1) == json.loads(json.dumps(first))
        other_mu = {"mu": {"gaussian": 0.2, "salt-pepper": 0.2}}
        found = run(tmp_path, tiny_pictures, resume=True, **other_mu)
        assert found.result("gaussian", "gkm", 1)["psnr"] == first["psnr"]
        with pytest.raises(TrainingError, match="another run"):
            run(tmp_path, tiny_pictures, resume=True, steps=4).result("gaussian", "gkm", 1)
        (tmp_path / "gaussian.gkm.seed1.json").write_text("{")
        with pytest.raises(TrainingError, match="delete"):
            run(tmp_path, tiny_pictures, resume=True).result("gaussian", "gkm", 1)

    def test_the_same_settings_give_the_same_numbers(self, tmp_path, tiny_pictures):
        found = [
            run(tmp_path / name, tiny_pictures).result("salt-pepper", "bmo", 0) for name in "ab"
        ]
        assert found[0]["losses"] == found[1]["losses"] and found[0]["psnr"] == found[1]["psnr"]
        assert found[0]["weights"] == found[1]["weights"]

    def test_page_pictures_are_split_without_overlap(self):
        found = load(small())
        assert set(found.test) == {"camera", "coins", "page", "rocket"}
        assert len(found.files) == 12 and len(found.train) > len(found.validation)

    @pytest.mark.data
    def test_full_pictures_are_gray_and_counted(self):
        found = load(sc.FULL)
        assert len(found.test) == 14 and len(found.files) == 346
        assert all(i.dim() == 2 for i in found.test.values())

    def test_profiles_have_names(self):
        assert sc.settings_of("page") is sc.PAGE
        with pytest.raises(DomainError, match="huge"):
            sc.settings_of("huge")


RECORDED = Path(__file__).resolve().parents[2] / "notebooks" / "recorded"


class TestRecorded:
    """What the committed record of the full run says, as the book states it."""

    @pytest.fixture
    def full(self):
        return record.read(RECORDED / "sparse-coding.full.json")

    def test_the_settings_are_those_of_the_command_that_it_names(self, full):
        now = json.loads(json.dumps(sc.FULL.as_dict()))
        assert {key: full.settings[key] for key in now} == now

    @pytest.mark.parametrize("noise", sc.NOISES)
    def test_bmo_stays_near_its_best_and_its_residual_falls_while_lista_s_does_not(
        self, full, noise
    ):
        curve = full.curves[f"psnr/{noise}/bmo"]
        assert full.curves["depth"][-1] == 1000 and max(curve) - curve[-1] < 0.1
        exact = full.curves[f"residual in float64, some patches/{noise}/bmo"]
        assert all(a > b for a, b in zip(exact, exact[1:], strict=False) if a > 1e-15)
        assert full.value(noise=noise, method="bmo", metric="relative_residual", depth=1000) < 1e-6
        lista = full.curves[f"residual/{noise}/ena-lista"]
        assert min(lista) > 1e-3 and lista[-1] > min(lista)
        psnr = full.curves[f"psnr/{noise}/ena-lista"]
        assert max(psnr) - psnr[-1] > 10

    def test_the_upper_step_helps_against_salt_and_pepper(self, full):
        for depth in (16, 1000):
            (row,) = full.select(noise="salt-pepper", metric="psnr_difference", depth=depth)
            assert row["n"] == 3 and row["value"] > 2 * row["std"] > 0

    @pytest.mark.parametrize("noise", sc.NOISES)
    def test_the_weights_beside_it_are_the_trained_ones(self, full, noise):
        file = f"sparse-coding.full.{noise}.safetensors"
        weights = record.load_weights(RECORDED / file, record.sealed()[file])
        draws = torch.Generator().manual_seed(0)
        clean = 0.5 + 0.2 * torch.rand(1, 1, generator=draws) * torch.ones(8, 256)
        noisy = sc.corrupt(clean, noise, draws)
        model = trained.rebuild(full.settings, weights, noise, "bmo")
        assert nonexpansive(
            model.map(noisy[:1] - 0.5),
            size=len(model.operator.W),
            trials=4,
            ascent=3,
            limit=1.0,
            tol=1e-5,
        ).holds
        restored = model.restore(noisy, [16])[0]
        assert float((restored - clean).square().mean()) < 0.1 * float(
            (noisy - clean).square().mean()
        )
