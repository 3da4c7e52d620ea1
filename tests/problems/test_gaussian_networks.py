"""The literature's networks in the Gaussian bench: starts, repeated layers, races, record."""

import dataclasses
import itertools
import json
import math

import pytest
import torch

from bmo import record
from bmo.baselines import ADMM, ISTA, LinearisedADMM
from bmo.errors import DomainError, TrainingError
from bmo.files import sha256_of
from bmo.measure import nmse_db
from bmo.problems.sparse_coding import gaussian as bench
from bmo.problems.sparse_coding.gaussian import learning, pieces, racing, report
from bmo.prox import soft

DOUBLE = torch.float64
START = {"unh-ista": {"penalty": 0.2}, "unh-ladmm": {"penalty": 0.05, "beta": 0.1}}
FEW = ("unh-ista", "ena-lista-cp", "ena-tista", "gkm")


def small(**changes):
    return dataclasses.replace(
        bench.PAGE,
        **{
            "rows": 8,
            "atoms": 14,
            "methods": FEW,
            "seeds": (0, 1),
            "iterations": 4,
            "evaluations": 9,
            "steps": 3,
            "batch": 6,
            "rates": (1e-3, 1e-2),
            "search_steps": 1,
            "validation": 12,
            "test": 10,
            "shifted": 5,
            "raced": 7,
            "targets": (-1.0, -300.0),
            "penalties": (0.05, 0.2),
            "scales": (0.1, 1.0),
            "relaxations": (1.0, 1.6),
            "ratios": (0.1, 1.0),
            "depths": (1, 4, 16),
            "table_depths": (4, 16),
            **changes,
        },
    )


def made(name, noise="30db", seed=None):
    s = small()
    A = bench.gaussian_dictionary(s.rows, s.atoms)
    model = bench.network(name, A, START, noise, s)
    if seed is not None:
        torch.manual_seed(seed)
        with torch.no_grad():  # away from the start
            for p in model.parameters():
                p.add_(0.02 * torch.randn(p.shape, dtype=DOUBLE))
    return model, A


def batch(A, count=6, seed=3):
    return bench.observe(A, count, 0.3, 30.0, torch.Generator().manual_seed(seed))


def run(folder, resume=False, **changes):
    return pieces.Pieces(small(**changes), folder, resume, progress=False)


class TestNetworks:
    @pytest.mark.parametrize("name", ["ena-lista", "ena-lista-cp"])
    def test_the_lista_family_starts_as_tuned_ista(self, name):
        model, A = made(name)
        data = batch(A)
        u = ISTA(A, 0.2)(data.observed, 4)
        assert torch.allclose(model.net(data.observed), u, atol=1e-13, rtol=0)
        expected = 0.5 * (u - data.codes).square().sum(1).mean()
        assert torch.allclose(model.loss((data.codes, data.observed)), expected, rtol=1e-12)

    def test_d_ladmm_starts_as_tuned_linearised_admm_and_the_equilibrium_ends_as_ista(self):
        model, A = made("ena-dladmm")
        b = batch(A).observed
        assert torch.allclose(model.net(b), LinearisedADMM(A, 0.05, 0.1)(b, 4), atol=1e-13, rtol=0)
        model, _ = made("ena-deq")
        assert model.net.depth == 9
        end = ISTA(A, 0.2)(b, 20000)
        assert torch.allclose(model.net(b, 2000), end, atol=1e-9, rtol=0)

    def test_support_selection_and_what_tista_is_told_follow_the_settings(self):
        s = small()
        for name in ("ena-lista-cpss", "ena-alista"):
            # 1.2 k percent of 14 entries, rounded, at most 13 percent
            assert made(name)[0].net.counts == [round(0.012 * k * 14) for k in (1, 2, 3, 4)]
        A = bench.gaussian_dictionary(s.rows, s.atoms)
        told = bench.network("ena-alista", A, START, "30db", small(percent=50.0, most=60.0))
        assert told.net.counts == [7, 8, 8, 8]
        net = made("ena-tista")[0].net
        assert float(net.noise) == pytest.approx(0.1 * 14 / 8 / 1000, rel=1e-12)
        assert net.density == 0.1
        assert float(made("ena-tista", "noiseless")[0].net.noise) == 0.0

    @pytest.mark.parametrize("name", bench.NETWORKS)
    def test_every_learned_number_is_trained_and_counted(self, name):
        model, A = made(name, seed=1)
        data = batch(A)
        model.loss((data.codes, data.observed)).backward()
        idle = {k for k, p in model.named_parameters() if p.grad is None}
        # the last multiplier of D-LADMM is computed after the last code
        assert idle == ({"net.epsilon.3", "net.vartheta.3"} if name == "ena-dladmm" else set())
        layer = {"ena-lista": 14 * 14 + 14 * 8 + 1, "ena-lista-cp": 14 * 8 + 1, "ena-alista": 2,
                 "ena-lista-cpss": 14 * 8 + 1, "ena-tista": 1,
                 "ena-dladmm": 14 * 8 + 8 + 8 + 2}  # fmt: skip
        wanted = 14 * 8 + 14 if name == "ena-deq" else 4 * layer[name]
        assert sum(p.numel() for p in model.parameters()) == wanted

    def test_another_name_is_refused(self):
        with pytest.raises(DomainError, match="ena-lista-cp"):
            made("bmo")

    def test_beyond_its_depth_the_last_layer_is_repeated(self):
        model, A = made("ena-lista-cp", seed=2)
        b, net = batch(A).observed, model.net
        u, seen = torch.zeros(6, 14, dtype=DOUBLE), {}
        for k in range(1, 8):
            W, theta = net.W[min(k, 4) - 1], net.theta[min(k, 4) - 1]
            u = soft(u + (b - u @ A.mT) @ W.mT, theta)
            seen[k] = u.detach()
        found = bench.trajectory(net, b, [3, 6])
        assert torch.allclose(found.codes[0], seen[3], atol=1e-13, rtol=0)
        assert torch.allclose(found.codes[1], seen[6], atol=1e-13, rtol=0)
        r = (seen[7] - seen[6]).norm(dim=1) / seen[6].norm(dim=1)
        r = r.nan_to_num(0.0)  # a code that stays zero does not move
        assert torch.allclose(found.residuals[1], r, rtol=1e-9, atol=0) and float(r.max()) > 1e-3
        assert found.share is None

    @pytest.mark.parametrize("name", bench.NETWORKS)
    def test_nan_as_ground_truth_changes_nothing_that_ran(self, name, monkeypatch):
        model, A = made(name, seed=4)
        data, seen = batch(A), []

        def spy(codes, truth):
            seen.append((codes, bool(truth.isnan().any())))
            return torch.zeros(())

        monkeypatch.setattr(bench.measuring, "nmse_db", spy)
        for truth in (data.codes, torch.full_like(data.codes, math.nan)):
            bench.measure(model.net, bench.Data(truth, data.observed), [1, 4, 16])
        assert [unknown for _, unknown in seen] == [False] * 3 + [True] * 3
        for (first, _), (second, _) in zip(seen[:3], seen[3:], strict=True):
            assert torch.equal(first, second) and bool(torch.isfinite(first).all())


class TestRaces:
    def test_steps_are_those_at_which_the_error_first_falls_below(self):
        s = small()
        A = bench.gaussian_dictionary(s.rows, s.atoms)
        data, net = batch(A, 20), ADMM(A, 0.01, 0.1)
        errors = [float(nmse_db(net(data.observed, k), data.codes)) for k in range(1, 41)]
        targets = (-1.0, -5.0, min(errors), min(errors) - 1e-6)
        found = racing.first_steps(net, data, targets, 40)
        firsts = [1 + next(i for i, e in enumerate(errors) if e <= t) for t in targets[:3]]
        assert [found[t] for t in targets] == [*firsts, None]
        assert firsts[0] < firsts[1] < firsts[2]

    def test_a_method_that_explodes_ends_its_race(self):
        model, A = made("ena-lista")
        with torch.no_grad():
            for W in model.net.W2:
                W.mul_(1e30)
        assert racing.first_steps(model.net, batch(A), [-400.0], 10**9) == {-400.0: None}

    def test_seconds_are_the_least_of_some_runs_of_so_many_steps(self, monkeypatch):
        ticks = iter([0.0, 5.0, 10.0, 12.0, 20.0, 23.0])
        monkeypatch.setattr(racing.time, "process_time", lambda: next(ticks))
        depths = []
        net = ISTA(torch.eye(2), 0.1)
        monkeypatch.setattr(net, "forward", lambda b, depth: depths.append(depth))
        assert racing.seconds_of(net, torch.ones(1, 2), 7) == 2.0
        assert depths == [7, 7, 7]

    def test_a_training_step_is_timed_without_what_comes_before_it_or_between(
        self, tmp_path, monkeypatch
    ):
        clock, calls = [0.0], []
        parts = run(tmp_path)
        assert racing.training_step(parts, "30db", "unh-ista") is None
        parts.rate("30db", "ena-tista")

        def fit(noise, method, seed, rate, steps, folder):
            calls.append(steps)
            disturbance = {1: 50.0, 4: 70.0}.get(len(calls), 0.0)
            clock[0] += 100.0 + 0.25 * steps + disturbance

        monkeypatch.setattr(parts, "fit", fit)
        monkeypatch.setattr(racing.time, "process_time", lambda: clock[0])
        assert racing.training_step(parts, "30db", "ena-tista") == 0.25


class TestParts:
    def test_settings_of_networks_decide_their_parts_and_no_others(self, tmp_path):
        first = run(tmp_path)
        kept = {m: first.result("30db", m, 0) for m in ("ena-tista", "gkm", "unh-ista")}
        changed = {"percent": 5.0, "evaluations": 3, "raced": 3, "targets": (-2.0,)}
        again = run(tmp_path, True, **changed)
        assert again.result("30db", "gkm", 0) == kept["gkm"]
        assert again.result("30db", "unh-ista", 0) == kept["unh-ista"]
        with pytest.raises(TrainingError, match="another run"):
            again.result("30db", "ena-tista", 0)
        assert run(tmp_path, True, raced=3).result("30db", "ena-tista", 0) == kept["ena-tista"]
        racing.costs(first, "30db", "gkm")
        with pytest.raises(TrainingError, match="another run"):
            racing.costs(run(tmp_path, True, raced=3), "30db", "gkm")

    def test_one_rate_for_all_numbers_of_a_network(self, tmp_path, monkeypatch):
        seen = {}
        kept = learning.train.train

        def spy(model, loss, sample, plan, folder, resume, optimizer, **rest):
            rates = {group["lr"] for group in optimizer.param_groups}
            seen[model.name] = rates, plan.clip
            return kept(model, loss, sample, plan, folder, resume, optimizer, **rest)

        monkeypatch.setattr(learning.train, "train", spy)
        for method in ("ena-tista", "ena-lista-cp", "gkm"):
            run(tmp_path).fit("30db", method, 0, 3e-3, 1, None)
        assert seen["ena-tista"] == seen["ena-lista-cp"] == ({3e-3}, small().clip)
        assert seen["gkm"] == ({3e-3, 1e-2}, None)

    def test_a_rate_at_which_a_network_is_lost_loses_the_search(self, tmp_path):
        found = run(tmp_path, rates=(1e-3, 1e200), search_steps=3).rate("30db", "ena-lista-cp")
        assert found["rate"] == 1e-3 and found["tried"]["1e+200"] == 1e30

    def test_a_rate_that_is_too_high_for_the_long_training_gives_way_to_the_next(
        self, tmp_path, monkeypatch
    ):
        parts, asked = run(tmp_path, rates=(1e-4, 1e-3, 1e-2)), []
        tried = {"0.0001": 10.0, "0.001": 9.0, "0.01": 8.0}
        monkeypatch.setattr(parts, "rate", lambda noise, method: {"rate": 1e-2, "tried": tried})
        kept = parts.fit

        def fit(noise, method, seed, rate, steps, folder, resume=False):
            asked.append((rate, folder.name))
            if rate == 1e-2:
                raise TrainingError(learning.train.FINITE, "inf", "lower it")
            return kept(noise, method, seed, rate, steps, folder, resume)

        monkeypatch.setattr(parts, "fit", fit)
        ends = iter([9.5, 11.0])  # behind its short run, so the last rate is left
        monkeypatch.setattr(learning, "held_out_error", lambda model, data: next(ends))
        _, losses, rate = parts.trained("30db", "ena-tista", 0)
        name = "30db.ena-tista.seed0"
        assert asked == [(1e-2, name), (1e-3, f"{name}.rate0.001"), (1e-4, f"{name}.rate0.0001")]
        assert rate == 1e-4 and len(losses) == 3
        with pytest.raises(TrainingError):  # what has a certificate needs no second rate
            parts.trained("30db", "gkm", 0)

    def test_the_rate_that_was_taken_is_recorded_and_its_weights_are_found_again(self, tmp_path):
        parts = run(tmp_path, methods=("ena-lista-cp",), seeds=(0,))
        part = parts.rate("30db", "ena-lista-cp")
        chosen, other = sorted(part["tried"], key=lambda r: part["tried"][r])
        lower = {**part, "tried": {**part["tried"], chosen: -500.0}}  # no training gets there
        (tmp_path / "rate.30db.ena-lista-cp.json").write_text(json.dumps(lower))
        found = record.read(report.save(parts, tmp_path))
        said = found.settings["chosen"]["30db"]["learning rate of each seed, where it is another"]
        assert said == {"ena-lista-cp": {"0": float(other)}}
        net = racing.runners(parts, "30db", "ena-lista-cp")[""]
        file = tmp_path / "30db.ena-lista-cp.seed0.safetensors"
        weights = record.load_weights(file, sha256_of(file))
        assert torch.equal(weights["net.W.3"], net.W[3].detach())

    def test_another_fault_of_a_short_run_is_told(self, tmp_path, monkeypatch):
        def fail(*args, **rest):
            raise TrainingError("all processes", "one has stopped", "start again")

        monkeypatch.setattr(learning.train, "train", fail)
        with pytest.raises(TrainingError, match="one has stopped"):
            run(tmp_path).rate("30db", "ena-tista")


class TestRecord:
    def test_it_says_what_runs_beyond_the_depth_and_how_long_a_race_took(self, tmp_path):
        parts = run(tmp_path)
        found = record.read(report.save(parts, tmp_path))
        for method in FEW:
            beyond = {
                r["setting"].get("beyond") for r in found.select(method=method, metric="nmse_db")
            }
            assert beyond == ({"last layer repeated"} if method.startswith("ena") else {None})
        assert found.value(method="ena-tista", metric="parameters") == 4
        for method in ("ena-lista-cp", "gkm"):
            steps = found.value(method=method, metric="steps_to_target", target=-1.0)
            data = bench.evaluation_sets(parts.dictionary, "30db", parts.settings)["trained"]
            net = racing.runners(parts, "30db", method)[""]
            with torch.no_grad():
                codes = list(net.iterates(data.observed[:7], 16))
            ends = [float(nmse_db(u, data.codes[:7])) for u in codes]
            assert steps == 1 + next(i for i, e in enumerate(ends) if e <= -1)
            assert found.value(method=method, metric="core_seconds_to_target", target=-1.0) > 0
            assert found.select(method=method, metric="steps_to_target", target=-300.0) == []
            assert found.value(method=method, metric="core_seconds_per_training_step") > 0
        rules = found.select(method="unh-ista", metric="steps_to_target")
        assert {r["setting"]["chosen_by"] for r in rules} == {"nmse", "f+g"}

    def test_networks_with_many_numbers_are_raced_and_not_carried(self, tmp_path, monkeypatch):
        monkeypatch.setattr(pieces, "MANY", 300)
        found = record.read(report.save(run(tmp_path, methods=FEW), tmp_path))
        file = tmp_path / "sparse-coding-gaussian.page.30db.safetensors"
        weights = record.load_weights(file, sha256_of(file))
        names = {key.split("/")[0] for key in weights}
        assert names == {"ena-tista", "gkm"}
        assert found.value(method="ena-lista-cp", metric="parameters") == 4 * (14 * 8 + 1)
        assert found.select(method="ena-lista-cp", metric="core_seconds_to_target")
        assert not (tmp_path / "30db.ena-lista-cp.seed0.safetensors").exists()


def test_every_learned_method_is_made_by_one_of_the_two_makers():
    kinds = (bench.UNCONSTRAINED, bench.NETWORKS, bench.CERTIFIED)
    assert sorted(itertools.chain(*kinds)) == sorted(bench.LEARNED)
    assert len(set(bench.METHODS)) == len(bench.METHODS)
