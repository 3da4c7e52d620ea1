"""The Gaussian bench: its draws, testing without ground truth, frozen choices, and the record."""

import dataclasses
import json
import math

import pytest
import torch

from bmo import cli, record
from bmo.baselines import FISTA, ISTA
from bmo.certify import nonexpansive
from bmo.errors import ConditionError, DomainError, TrainingError
from bmo.files import sha256_of
from bmo.problems.benches import BENCHES
from bmo.problems.sparse_coding import gaussian as bench
from bmo.problems.sparse_coding.gaussian import (
    classical,
    draws,
    learning,
    measuring,
    pieces,
    report,
)
from bmo.problems.sparse_coding.gaussian.settings import DEEP
from bmo.problems.sparse_coding.gaussian.settings import PILOTED as SHALLOW

DOUBLE, PILOTED = torch.float64, (*SHALLOW, *DEEP)
START = {
    "unh-ista": {"penalty": 0.2},
    "unh-ladmm": {"penalty": 0.05, "beta": 0.1},
    "unh-admm": {"penalty": 0.05, "rho": 0.2},
}


def small(**changes):
    return dataclasses.replace(
        bench.PAGE,
        **{
            "rows": 8,
            "atoms": 14,
            "methods": ("unh-ista", "unh-admm", "ena-lista-tied", "gkm", "bmo", "bmo-h-ladmm"),
            "seeds": (0, 1),
            "iterations": 4,
            "steps": 3,
            "batch": 6,
            "rates": (1e-3, 1e-2),
            "search_steps": 1,
            "validation": 12,
            "test": 10,
            "shifted": 5,
            "penalties": (0.05, 0.2),
            "scales": (0.1, 1.0),
            "relaxations": (1.0, 1.6),
            "ratios": (0.1, 1.0),
            "depths": (1, 4, 16),
            "table_depths": (4, 16),
            **changes,
        },
    )


def contender(name, settings=None, seed=0):
    s = settings or small()
    if name in PILOTED and settings is None:  # a pilot that leaves steps for the map
        s = dataclasses.replace(s, pilot=(1, 1), deeper=(4, (1, 1)))
    A = bench.gaussian_dictionary(s.rows, s.atoms)
    model = bench.build(name, A, START, s)
    torch.manual_seed(seed)
    with torch.no_grad():  # away from the start
        for p in model.parameters():
            if p.requires_grad:
                p.add_(0.05 * torch.randn(p.shape, dtype=DOUBLE))
    return model, A


def batch(A, count=6, seed=3):
    return bench.observe(A, count, 0.3, 30.0, torch.Generator().manual_seed(seed))


class TestDraws:
    def test_noise_has_the_power_of_its_ratio_to_the_mean_signal(self):
        A = bench.gaussian_dictionary(60, 120)
        for density, level in ((0.1, 20.0), (0.2, 30.0)):
            data = bench.observe(A, 4000, density, level, torch.Generator().manual_seed(1))
            signal = data.codes @ A.mT
            noise = data.observed - signal
            measured = 10 * math.log10(float(signal.square().sum() / noise.square().sum()))
            assert measured == pytest.approx(level, abs=0.1)
            assert float((data.codes != 0).double().mean()) == pytest.approx(density, rel=0.02)

    def test_without_a_level_there_is_no_noise(self):
        A = bench.gaussian_dictionary(8, 14)
        data = bench.observe(A, 5, 0.3, None, torch.Generator().manual_seed(1))
        assert torch.equal(data.observed, data.codes @ A.mT)

    def test_each_shift_changes_one_thing_and_nothing_is_drawn_twice_alike(self):
        s = small(test=2000, shifted=2000)
        A = bench.gaussian_dictionary(s.rows, s.atoms)
        sets = bench.evaluation_sets(A, "30db", s)
        assert list(sets) == ["trained", "20 dB", "40 dB", "density 0.05", "density 0.2",
                              "dictionary off by 10 %"]  # fmt: skip
        base = sets["trained"]
        for name in ("20 dB", "40 dB", "dictionary off by 10 %"):
            assert torch.equal(sets[name].codes, base.codes)
        error = {n: float((d.observed - d.codes @ A.mT).norm()) for n, d in sets.items()}
        assert error["20 dB"] / error["trained"] == pytest.approx(10**0.5, rel=1e-9)
        assert error["dictionary off by 10 %"] > 2 * error["trained"]
        assert float((sets["density 0.2"].codes != 0).double().mean()) == pytest.approx(0.2, 0.05)
        digests = [d.sha256() for d in sets.values()]
        assert len(set(digests)) == len(digests)
        again = bench.evaluation_sets(A, "30db", s)
        assert [d.sha256() for d in again.values()] == digests
        assert bench.held_out(A, "30db", s).sha256() not in digests

    def test_profiles_have_names(self):
        assert bench.settings_of("page") is bench.PAGE and bench.settings_of("full").rows == 250
        with pytest.raises(DomainError, match="huge"):
            bench.settings_of("huge")


class TestMethods:
    @pytest.mark.parametrize("name", bench.UNCONSTRAINED + bench.CERTIFIED)
    def test_the_loss_is_that_of_algorithm_1_written_out(self, name):
        model, A = contender(name)
        data = batch(A)
        T, x = model.map.bind(b=data.observed), data.codes
        D, alpha, mu = T.operator, T.alpha, model.inner["mu"]
        n, first = x.shape[1], {3 * 14: 14}.get(model.size, 0)
        z = z0 = torch.zeros(len(x), model.size, dtype=DOUBLE)
        if name in PILOTED:  # two steps of the pilot, and its weights; then two of the map
            found = model.pilot(model.operator, data.observed, z, alpha)
            z, D = found.points[-1], model.operator.bind(b=data.observed, weights=found.weights)
        for k in range(1, 3 if name in PILOTED else 5):
            s = model.inner.get("steps", 1.0)
            s = s if isinstance(s, float) else s.s / (k + 1)
            g = torch.zeros_like(z)
            g[:, first : first + n] = z[:, first : first + n] - x
            new = mu * (z - s * T.metric.solve(g)) + (1 - mu) * ((1 - alpha) * z + alpha * D(z))
            z = z0 / (k + 1) + new * k / (k + 1) if name.startswith("bmo-h") else new
        expected = 0.5 * (z[:, first : first + n] - x).square().sum(1).mean()
        found = model.loss((x, data.observed))
        assert float(found.detach()) == pytest.approx(float(expected.detach()), rel=1e-10)

    @pytest.mark.parametrize("name", bench.CERTIFIED)
    def test_the_fused_gradient_is_that_of_autograd(self, name):
        model, A = contender(name)
        data, gradients = batch(A), []
        for fuse in (True, False):
            model.zero_grad()
            model.inner["fuse"] = fuse
            model.loss((data.codes, data.observed)).backward()
            gradients.append([p.grad.clone() for p in model.parameters() if p.requires_grad])
        assert len(gradients[0]) >= 3
        for a, b in zip(*gradients, strict=True):
            assert torch.allclose(a, b, rtol=1e-8, atol=1e-12)

    @pytest.mark.parametrize("name", ["bmo", "bmo-ladmm", "bmo-admm", "bmo-ladmm-net"])
    def test_certified_maps_stay_nonexpansive_and_below_proposition_1(self, name):
        model, A = contender(name, seed=5)
        with torch.no_grad():
            for p in model.parameters():
                p.add_(torch.randn(p.shape, dtype=DOUBLE))
        b = batch(A).observed
        D = model.operator.bind(b=b[0])
        assert nonexpansive(D, size=model.size, trials=8, ascent=5).holds
        # 3000 steps on: the distance to a fixed point is known well enough for the first 16
        found = bench.trajectory(model.net, b, [1, 4, 16, 3000])
        assert found.diverged == 0 and float(found.share[:3].max()) <= 1
        assert float(found.share[:3].max()) > 1e-5

    @pytest.mark.parametrize("name", ["bmo-net", "bmo-fb-net", "bmo-net-fb"])
    def test_a_network_beside_the_step_starts_as_ista_and_sees_the_observation(self, name):
        s = small()
        A = bench.gaussian_dictionary(s.rows, s.atoms)
        model, data = bench.build(name, A, START, s), batch(A)
        top = float(torch.linalg.matrix_norm(A, 2)) ** 2
        ista = ISTA(A, 0.2, 1.9 / top, 1)
        T = model.map.bind(b=data.observed)
        z = torch.zeros_like(data.codes)
        steps = 1 if name == "bmo-net" else 2
        expected = ista(data.observed, steps)
        # the smooth bound on the norm is a little above one
        assert torch.allclose(T.operator(z).detach(), expected, atol=2e-3)
        assert float(expected.norm()) > 1
        assert model.products == steps * 14 / 8
        code = bench.trajectory(model.net, data.observed, [1]).codes[0]
        assert torch.allclose(code, (model.alpha * T.operator(z)).detach())

    def test_a_network_before_linearised_admm_starts_as_that_step_alone(self):
        s = small()
        A = bench.gaussian_dictionary(s.rows, s.atoms)
        data = batch(A)
        both, step = (bench.build(name, A, START, s) for name in ("bmo-ladmm-net", "bmo-ladmm"))
        assert both.products == 3 + 14 / 8 and both.alpha == step.alpha and both.size == 22
        codes = [bench.trajectory(m.net, data.observed, [8]).codes[0] for m in (both, step)]
        assert float((codes[0] - codes[1]).norm() / codes[1].norm()) < 0.05
        net = both.operator.parts[1]
        with torch.no_grad():  # it sees the observation, and moves the code alone
            net.network.W.normal_(generator=torch.Generator().manual_seed(1))
            z = torch.randn(6, 22, generator=torch.Generator().manual_seed(2), dtype=DOUBLE)
            moved, other = (net.bind(b=b)(z) for b in (data.observed, 2 * data.observed))
        assert torch.equal(moved[:, 14:], z[:, 14:]) and torch.equal(other[:, 14:], z[:, 14:])
        assert float((moved - other).norm()) > 1

    def test_the_light_upper_step_tells_less_than_a_tenth_of_the_way(self):
        """The part of the way to the code that K upper steps go, if nothing else moved it."""
        for rho, light, plain in ((0.03, 0.1, 0.7), (0.06, 0.05, 0.4)):
            left = {}
            for name in ("bmo-light-admm", "bmo-admm"):
                start = {"unh-admm": {"penalty": 0.01, "rho": rho}}
                model = bench.build(name, bench.gaussian_dictionary(8, 14), start, bench.PAGE)
                beta = float(model.operator.prepare().beta[0].detach())
                sizes = model.loop(model.map, **model.inner).sizes(bench.FULL.iterations)
                left[name] = math.prod(1 - model.inner["mu"] * s / beta for s in sizes)
            assert 1 - left["bmo-light-admm"] < light and 1 - left["bmo-admm"] > plain

    def test_a_pilot_longer_than_the_training_is_refused(self):
        A = bench.gaussian_dictionary(8, 14)
        with pytest.raises(ConditionError, match="at most K = 4 steps; got: 5 steps.*shorten"):
            bench.build("gkm-pilot-admm", A, START, small(pilot=(3, 2)))
        model = bench.build("gkm-pilot-admm", A, START, small(pilot=(2, 2)))
        assert model.left == 0
        model.iterations = 3
        data = batch(A)
        with pytest.raises(ConditionError, match="at most K = 3 steps"):
            model.loss((data.codes, data.observed))
        for lengths in ((), (3, 0)):
            with pytest.raises(ConditionError, match="at least one step"):
                bench.build("gkm-pilot-admm", A, START, small(pilot=lengths))

    def test_a_deep_method_has_a_run_of_its_own(self):
        s = small(deeper=(9, (3, 2)), pilot=(2, 1))
        A = bench.gaussian_dictionary(s.rows, s.atoms)
        deep, other = (bench.build(f"gkm-{x}pilot-ladmm", A, START, s) for x in ("deep-", ""))
        assert (deep.iterations, deep.pilot.steps, deep.left) == (9, 5, 4)
        assert (other.iterations, other.pilot.steps, other.left) == (4, 3, 1)
        assert deep.net.depth == 9 and deep.net.free == 5
        shelf, known = pieces.Pieces(s, None), s.as_dict()
        for name, has in (("gkm-deep-pilot-ladmm", "deeper"), ("gkm-pilot-ladmm", "pilot")):
            found = shelf.relevant(f"30db.{name}.seed0", known)
            assert {"deeper", "pilot"} & set(found) == {has}

    def test_another_name_is_refused(self):
        s = small()
        with pytest.raises(DomainError, match="unh-ista"):
            bench.build("unh-ista", bench.gaussian_dictionary(s.rows, s.atoms), START, s)


class TestMeasuring:
    @pytest.mark.parametrize(
        "name",
        ["bmo", "bmo-admm", "ena-lista-cp-tied", "unh-fista", "bmo-fb-net", "bmo-ladmm-net",
         "bmo-pilot", "gkm-pilot-ladmm"],
    )  # fmt: skip
    def test_nan_as_ground_truth_changes_nothing_that_ran(self, name, monkeypatch):
        s = small()
        A = bench.gaussian_dictionary(s.rows, s.atoms)
        net = FISTA(A, 0.1) if name == "unh-fista" else contender(name)[0].net
        data, seen, truths = batch(A), [], []

        def spy(codes, truth):
            seen.append(codes)
            truths.append(truth)
            return torch.zeros(())

        monkeypatch.setattr(measuring, "nmse_db", spy)
        for truth in (data.codes, torch.full_like(data.codes, math.nan)):
            bench.measure(net, bench.Data(truth, data.observed), [1, 16])
        assert not bool(truths[0].isnan().any()) and bool(truths[2].isnan().all())
        for first, second in zip(seen[:2], seen[2:], strict=True):
            assert torch.equal(first, second) and bool(torch.isfinite(first).all())

    def test_codes_and_residuals_are_those_of_the_map_by_hand(self):
        model, A = contender("bmo-admm")
        b = batch(A).observed
        T, z = model.map.bind(b=b), torch.zeros(6, 42, dtype=DOUBLE)
        z = T.iterate(z, 7).value
        found = bench.trajectory(model.net, b, [3, 7])
        assert torch.allclose(found.codes[1], z[:, 14:28], atol=1e-13, rtol=0)
        r = (T.residual(z) / T.metric.norm(z)).detach()
        assert torch.allclose(found.residuals[1], r, rtol=1e-9, atol=0)

    def test_rows_that_diverge_are_held_and_those_at_rest_end_the_run(self):
        model, A = contender("ena-lista-tied")
        with torch.no_grad():
            model.operator.W2.mul_(2.0)
        found = bench.trajectory(model.net, batch(A).observed, [4, 400, 1000])
        assert found.diverged == 6 and bool(torch.isfinite(found.codes).all())
        assert torch.equal(found.codes[1], found.codes[2])
        assert float(found.codes[1].abs().amax(1).min()) > measuring.DIVERGED / 1e3
        assert float(found.residuals[2].min()) == measuring.ENDLESS
        assert bench.validation_nmse(model.net, batch(A), 400) == measuring.ENDLESS
        still = contender("gkm")[0].net
        early = bench.trajectory(still, batch(A).observed, [50, 100], resolution=1.0)
        assert torch.equal(early.codes[0], early.codes[1])

    @pytest.mark.parametrize(
        ("method", "figures"),
        [
            (
                ISTA,
                {
                    0.4: (-3.21, -5.83, -6.97),
                    0.2: (-3.25, -6.29, -8.88),
                    0.1: (-3.00, -5.34, -7.78),
                    0.05: (-2.78, -4.34, -5.87),
                },
            ),
            (
                FISTA,
                {
                    0.4: (-3.88, -7.66, -7.42),
                    0.2: (-3.87, -11.13, -12.09),
                    0.1: (-3.48, -10.33, -17.92),
                    0.05: (-3.12, -7.41, -17.88),
                },
            ),
        ],
    )
    def test_classical_methods_reach_the_figures_measured_before_on_another_draw(
        self, method, figures
    ):
        """Noiseless, 300 codes, after 5, 16 and 30 steps: another program, dictionary and codes."""
        A = bench.gaussian_dictionary(250, 500)
        data = bench.observe(A, 300, 0.1, None, torch.Generator().manual_seed(5))
        for penalty, values in figures.items():
            found = bench.measure(method(A, penalty), data, [5, 16, 30])
            assert found["nmse"] == pytest.approx(list(values), rel=0.035)


class TestChoices:
    def test_the_best_of_all_candidates_is_found_and_stays_frozen(self):
        s = small()
        A = bench.gaussian_dictionary(s.rows, s.atoms)
        data = bench.held_out(A, "30db", s)
        chosen = bench.choose(A, data, s)
        scores = {
            (penalty, rho, relax): float(
                classical.errors(
                    bench.classical_method(
                        "unh-admm", A, {"penalty": penalty, "rho": rho, "relax": relax}
                    )(data.observed, s.iterations),
                    data.codes,
                )
            )
            for penalty in s.penalties
            for rho in s.scales
            for relax in s.relaxations
        }
        best = chosen["unh-admm"]["nmse"]
        assert scores[best["penalty"], best["rho"], best["relax"]] == min(scores.values())
        assert best["score"] == pytest.approx(min(scores.values()), rel=1e-6)
        assert len({found["f+g"]["penalty"] for found in chosen.values()}) == 1
        for name, rules in chosen.items():
            net = bench.classical_method(name, A, rules["nmse"], 3)
            assert torch.equal(net.penalty, net.penalty.expand(()))
            states = list(net.iterates(data.observed, 40))
            assert torch.equal(states[39], net(data.observed, 40))  # one penalty at every depth


def run(folder, resume=False, **changes):
    return pieces.Pieces(small(**changes), folder, resume, progress=False)


class TestRecord:
    def test_it_holds_every_method_set_and_choice(self, tmp_path):
        parts = run(tmp_path)
        made = record.read(report.save(parts, tmp_path))
        assert made.name == "sparse-coding-gaussian.page" and len(made.data) == 6
        s = parts.settings
        for method in s.methods:
            rules = ["nmse", "f+g"] if method.startswith("unh") else [None]
            for rule in rules:
                found = made.select(
                    method=method, metric="nmse_db", set="trained", depth=16, chosen_by=rule
                )
                assert [r["n"] for r in found] == [len(s.seeds_of(method))]
        assert made.value(method="bmo", metric="bound_share", depth=16, set="20 dB") <= 1
        assert made.select(method="ena-lista-tied", metric="bound_share") == []
        one, two = (
            made.value(method=m, metric="nmse_db", depth=16, set="trained") for m in ("bmo", "gkm")
        )
        difference = made.value(method="bmo minus mu = 0", metric="nmse_difference_db", depth=16)
        assert difference == pytest.approx(one - two, abs=1e-9)
        assert made.value(method="gkm", metric="parameters") == 2 * 8 * 14 + 2 * 14
        file = tmp_path / "sparse-coding-gaussian.page.30db.safetensors"
        weights = record.load_weights(file, sha256_of(file))
        assert weights["gkm/operator.G"].shape == (8, 14)

    def test_without_noise_the_main_methods_run_alone_with_one_seed(self, tmp_path):
        both = {"noises": bench.NOISES, "methods": ("unh-ista", "unh-pdhg", "bmo-admm")}
        parts = run(tmp_path, **both)
        made = record.read(report.save(parts, tmp_path))
        rows = made.select(metric="nmse_db", set="trained", depth=16)
        found = {(r["setting"]["noise"], r["method"]): r["n"] for r in rows}
        assert found == {
            ("30db", "unh-ista"): 1, ("30db", "unh-pdhg"): 1, ("30db", "bmo-admm"): 2,
            ("noiseless", "unh-ista"): 1, ("noiseless", "bmo-admm"): 1,
        }  # fmt: skip
        assert not (tmp_path / "noiseless.bmo-admm.seed1.json").exists()
        assert (tmp_path / "sparse-coding-gaussian.page.noiseless.safetensors").exists()
        alone = small(**{**both, "noises": ("noiseless",)})
        assert alone.methods_of("noiseless") == list(both["methods"])
        assert alone.seeds_of("bmo-admm", "noiseless") == (0, 1)

    def test_without_noise_smaller_penalties_are_tried(self, tmp_path):
        s = small(smaller=(0.001,))
        assert s.penalties_of("30db") == (0.05, 0.2)
        assert s.penalties_of("noiseless") == (0.001, 0.05, 0.2)
        chosen = run(tmp_path, smaller=(0.001,)).choices("noiseless")
        # the minimiser without noise is best with the smallest penalty
        assert chosen["unh-admm"]["f+g"]["penalty"] == 0.001
        assert run(tmp_path, True, smaller=(0.002,)).kept("choices.30db") is None
        with pytest.raises(TrainingError, match="another run"):
            run(tmp_path, True, smaller=(0.002,)).choices("noiseless")

    def test_a_second_run_resumes_and_other_settings_are_refused(self, tmp_path):
        first = run(tmp_path).result("30db", "bmo", 1)
        assert run(tmp_path, True).result("30db", "bmo", 1) == first
        assert run(tmp_path, True, mu={"gkm": 0.5, "bmo": 0.3}).result("30db", "bmo", 1) == first
        with pytest.raises(TrainingError, match="another run"):
            run(tmp_path, True, mu={"bmo": 0.2}).result("30db", "bmo", 1)
        again = run(tmp_path / "other").result("30db", "bmo", 1)
        assert {k: v for k, v in again.items() if "seconds" not in k} == {
            k: v for k, v in first.items() if "seconds" not in k
        }

    def test_an_interrupted_training_ends_with_the_same_numbers(self, tmp_path, monkeypatch):
        whole = run(tmp_path / "a", steps=30).result("30db", "gkm", 0)
        kept, count = learning.train.generator_of, []

        def stop(seed, step):
            count.append(step)
            if step == 28 and len(count) > 28:
                raise KeyboardInterrupt
            return kept(seed, step)

        monkeypatch.setattr(learning.train, "generator_of", stop)
        with pytest.raises(KeyboardInterrupt):
            run(tmp_path / "b", steps=30).result("30db", "gkm", 0)
        monkeypatch.setattr(learning.train, "generator_of", kept)
        resumed = run(tmp_path / "b", True, steps=30).result("30db", "gkm", 0)
        assert resumed["losses"] == whole["losses"] and resumed["sets"] == whole["sets"]

    def test_the_command_line_runs_some_parts_and_writes_their_record(
        self, tmp_path, capsys, monkeypatch
    ):
        found = dataclasses.replace(
            BENCHES["sparse-coding-gaussian"], settings_of=lambda profile: small()
        )
        monkeypatch.setitem(BENCHES, "sparse-coding-gaussian", found)
        monkeypatch.setattr(report, "settings_of", found.settings_of)
        base = ["train", "sparse-coding-gaussian", "--out", str(tmp_path)]
        asked = ["--method", "gkm", "unh-ista", "--seeds", "0"]
        assert cli.main([*base, *asked]) == 0
        assert "parts kept in" in capsys.readouterr().out
        assert cli.main([*base, *asked, "--resume", "--record"]) == 0
        made = json.loads((tmp_path / "sparse-coding-gaussian.page.json").read_text())
        assert made["settings"]["methods"] == ["unh-ista", "gkm"] and made["seeds"] == [0]
        assert made["command"] == (
            "python -m bmo train sparse-coding-gaussian --profile page"
            " --method unh-ista gkm --seeds 0 --record"
        )
        assert cli.main([*base, "--seeds", "1", "--record"]) == 2
        assert cli.main([*base, "--method", "bmo-admm"]) == 2
        assert "seed 0 in a record" in capsys.readouterr().err


def test_a_perturbed_dictionary_keeps_unit_columns():
    A = draws.gaussian_dictionary(50, 80)
    B = bench.perturbed(A, 0.1)
    assert torch.allclose(B.norm(dim=0), torch.ones(80, dtype=DOUBLE), atol=1e-12)
    assert float((B - A).norm() / A.norm()) == pytest.approx(0.1, rel=0.03)
