"""Worst cases by semidefinite programming: a few points computed again, the record, the errors."""

from __future__ import annotations

import importlib
import math
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from bmo import bounds, cli, performance
from bmo.errors import CertificateError, DomainError
from bmo.performance import certificate, experiment
from bmo.record import Record, read

RECORD = Path(__file__).parents[1] / "notebooks/recorded/certificates.full.json"
#: Both branches of W on both sides of one half: the line is slower at the first two points.
POINTS = [(0.2, 1), (0.2, 5), (0.2, 8), (0.4, 5), (0.5, 3), (0.7, 5), (0.95, 3)]


@pytest.fixture(scope="module")
def recorded() -> Record:
    """The recorded grid."""
    return read(RECORD)


def test_the_code_on_the_page_runs(capsys: pytest.CaptureFixture[str]) -> None:
    page = (Path(__file__).parents[1] / "book/14-beyond.md").read_text("utf8")
    (code,) = re.findall(r"```\{code-block\} python\n(.*?)```", page, re.DOTALL)
    (printed,) = re.findall(r"# ([0-9.]+), certified", code)
    names: dict[str, Any] = {}
    exec(code, names)
    bound, value = map(float, capsys.readouterr().out.split())
    assert printed == f"{bound:.4g}" and 0 <= bound - value < 1e-6


@pytest.mark.parametrize(("alpha", "k"), POINTS)
def test_the_worst_case_is_w(recorded: Record, alpha: float, k: int) -> None:
    found, W = performance.km_worst_case(alpha, k), bounds.km_worst(alpha, k)
    # W is attained, so a bound below it would be wrong: 1e-12 is for rounding alone
    assert W * (1 - 1e-12) <= found.bound <= W * (1 + 1e-6)
    assert found.value == pytest.approx(W, rel=1e-6)
    assert found.status.startswith("optimal") and found.points == k + 2
    for metric, value in (("value", found.value), ("bound", found.bound)):
        kept = recorded.value(method="gkm", alpha=alpha, k=k, metric=metric)
        assert kept == pytest.approx(value, rel=2e-6)


def test_the_points_meet_both_branches() -> None:
    slower = [bounds.km_line(a, k) > bounds.km_rotation(a, k) * (1 + 1e-9) for a, k in POINTS]
    assert slower == [True, True, False, False, False, False, False]


def test_every_recorded_point_is_w(recorded: Record) -> None:
    rows = recorded.select(method="gkm", metric="bound")
    places = {(r["setting"]["alpha"], r["setting"]["k"]) for r in rows}
    assert len(places) == len(rows) == 66
    assert sum(alpha < 0.5 for alpha, _ in places) == 30
    for alpha, k in places:
        W = bounds.km_worst(alpha, k)
        allowed = 1e-6 if k <= 8 else 1e-5
        bound = recorded.value(method="gkm", alpha=alpha, k=k, metric="bound")
        value = recorded.value(method="gkm", alpha=alpha, k=k, metric="value")
        assert W * (1 - 1e-12) <= bound <= W * (1 + allowed), (alpha, k)
        assert value == pytest.approx(W, rel=allowed), (alpha, k)


def test_the_anchored_iteration_has_the_rate_of_lieder(recorded: Record) -> None:
    found = performance.halpern_worst_case(3)
    limit = bounds.anchored_move(3, 1.0) ** 2
    assert limit * (1 - 1e-12) <= found.bound <= limit * (1 + 1e-6)
    rows = recorded.select(method="halpern", metric="bound")
    assert [r["setting"]["k"] for r in rows] == [1, 2, 3, 5, 8, 13]
    for r in rows:
        limit = bounds.anchored_move(r["setting"]["k"], 1.0) ** 2
        assert limit * (1 - 1e-12) <= r["value"] <= limit * (1 + 1e-6)


@pytest.mark.parametrize("K", [2, 4])
def test_bmo_h_attains_its_bound_and_algorithm_1_half_of_it(K: int) -> None:
    limit = bounds.anchored_gap(K, 1.0, mu=0.5, distance=1.0, slope=1.0, inactive=True)
    anchored = performance.loop_worst_case([1.0] * K, 0.5, 0.5, anchored=True)
    assert limit * (1 - 1e-12) <= anchored.bound <= limit * (1 + 1e-6)
    plain = performance.loop_worst_case([1.0] * K, 0.5, 0.5)
    assert plain.bound == pytest.approx(limit / 2, rel=1e-6)
    # half the weight of the upper step doubles the gap
    assert performance.loop_worst_case([1.0] * K, 0.5, 0.25, slope=4.0).bound == pytest.approx(
        limit, rel=1e-5
    )


def test_a_slow_rotation_with_a_linear_objective_is_the_worst_of_algorithm_1() -> None:
    """D = I, l = eps u: the gap eps (1 - mu eps sum(s)) is largest at 1 / (4 mu sum(s))."""
    steps, mu = [1.0, 0.75, 0.25], 0.4
    found = performance.loop_worst_case(steps, 0.5, mu, slope=2.0)
    assert found.bound == pytest.approx(1 / (4 * mu * sum(steps)), rel=1e-6)


def test_with_hardly_an_objective_the_loops_are_the_plain_iterations() -> None:
    """Then Algorithm 1 mixes with nu = (1 - mu) alpha, and BMO-H is Halpern's iteration."""
    alpha, mu, small = 0.6, 0.3, 1e-5
    nu = (1 - mu) * alpha
    for K in (1, 3):
        plain = performance.loop_worst_case(
            [0.5] * K, alpha, mu, measure="residual", slope=small, lipschitz=small
        )
        limit = (alpha / nu) ** 2 * bounds.km_worst(nu, K)
        assert limit * (1 - 1e-6) <= plain.bound <= limit + 10 * small
        anchored = performance.loop_worst_case(
            [1.0] * K, 1 - 1e-9, 0.0, measure="residual", anchored=True
        )
        assert anchored.bound == pytest.approx(bounds.anchored_move(K, 1.0) ** 2, rel=1e-5)


def test_a_class_without_upper_step_is_the_plain_iteration() -> None:
    found = performance.loop_worst_case([1.0, 1.0], 0.3, 0.0, measure="residual")
    assert found.bound == pytest.approx(bounds.km_worst(0.3, 2), rel=1e-6)


def test_recorded_loops(recorded: Record) -> None:
    """What chapter 14 says of them."""

    def bound(method: str, measure: str, schedule: str, K: int) -> float:
        place = {"method": method, "measure": measure, "schedule": schedule, "K": K}
        top = recorded.value(metric="bound", **place)
        assert -1e-9 <= top - recorded.value(metric="value", **place) <= 5e-6
        return top

    for K in (2, 4, 8, 12, 16, 20, 24, 32):
        limit = bounds.anchored_gap(K, 1.0, mu=0.5, distance=1.0, slope=1.0, inactive=True)
        assert bound("bmo-h", "value", "1", K) == pytest.approx(limit, rel=1e-4)
    for K in (1, 2, 4, 8, 12):
        assert bound("bmo", "value", "1", K) == pytest.approx(0.5 / K, rel=1e-4)
    late = [bound("bmo", "value", "1", K) for K in (16, 20, 24, 32)]
    assert late == sorted(late, reverse=True) and 0.98 < late[-1] / late[0] < 1
    assert bound("bmo-h", "value", "1", 24) > late[-2]
    assert bound("bmo-h", "value", "1", 32) < late[-1]
    for K in (1, 2, 3, 4, 6, 8, 12, 16):
        for s, schedule in ((1.0, "1/(k+1)"), (4.0, "4/(k+1)")):
            guaranteed = bounds.uniform_residual_harmonic(
                K, s, alpha=0.5, mu=0.5, diameter=2.0, slope=1.0, oscillation=2.0, sharp=s <= 2
            )
            assert math.sqrt(bound("bmo", "residual", schedule, K)) < guaranteed


def test_the_bound_does_not_trust_the_solver(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever the multipliers are, what they leave over is paid for."""
    kind = certificate.pepit("PEPit.constraint").Constraint
    honest, W, rng = kind.eval_dual, bounds.km_worst(0.4, 3), np.random.default_rng(0)
    exact = performance.km_worst_case(0.4, 3).bound
    for size in (1e-6, 1e-3, 1.0, 30.0):
        for _ in range(5):
            monkeypatch.setattr(
                kind, "eval_dual", lambda c, size=size: honest(c) + size * rng.normal()
            )
            found = performance.km_worst_case(0.4, 3)
            assert found.bound >= W * (1 - 1e-12) and found.bound > exact
    assert found.gap > 1


def test_negative_multipliers_are_not_used(monkeypatch: pytest.MonkeyPatch) -> None:
    problem = certificate.new()
    u = problem.set_initial_point()
    problem.add_constraint(u**2 <= 1)
    problem.add_constraint(u**2 <= 4)
    kind = certificate.pepit("PEPit.constraint").Constraint
    # with the multiplier -1 of the second constraint the "bound" would be 2 * 1 - 4
    monkeypatch.setattr(kind, "eval_dual", lambda constraint: -1.0)
    assert certificate.certify(problem, u**2, trace=1.0).bound == pytest.approx(1.0, abs=1e-12)


def test_a_solver_that_stops_early_gives_a_weak_bound(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    W = bounds.km_worst(0.5, 3)
    monkeypatch.setattr(certificate, "SETTINGS", {"max_iter": 1})
    found = performance.km_worst_case(0.5, 3)
    assert found.status == "user_limit" and found.bound > W * 1.01
    assert capsys.readouterr().out == ""


def test_no_bounded_worst_case_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    problem = certificate.new()
    u = problem.set_initial_point()
    with pytest.raises(CertificateError, match="got: unbounded"):
        certificate.certify(problem, u**2, trace=1.0)

    def fails(*_: Any, **__: Any) -> None:
        raise certificate.pepit("cvxpy.error").SolverError("gave up")

    monkeypatch.setattr(certificate.pepit().PEP, "solve", fails)
    with pytest.raises(CertificateError, match="got: gave up"):
        performance.km_worst_case(0.5, 3)


def test_where_the_solver_gives_up_another_road_is_tried(monkeypatch: pytest.MonkeyPatch) -> None:
    kind, tried = certificate.pepit().PEP, []
    honest = kind.solve

    def fails_once(problem: Any, **settings: Any) -> Any:
        tried.append(settings)
        if len(tried) == 1:
            raise certificate.pepit("cvxpy.error").SolverError("gave up")
        return honest(problem, **settings)

    monkeypatch.setattr(kind, "solve", fails_once)
    W = bounds.km_worst(0.5, 2)
    assert performance.km_worst_case(0.5, 2).bound == pytest.approx(W, rel=1e-6)
    assert len(tried) == 2 and tried[0] != tried[1]


def test_without_the_extra_the_error_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    load = importlib.import_module

    def without(name: str, package: str | None = None) -> Any:
        if name.startswith(("cvxpy", "PEPit")):
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)
        return load(name, package)

    monkeypatch.setattr(importlib, "import_module", without)
    with pytest.raises(CertificateError, match=r"pip install 'bmo-book\[certificates\]'") as error:
        performance.km_worst_case(0.5, 1)
    assert error.value.value == "cvxpy"


@pytest.mark.parametrize(
    ("call", "word"),
    [
        (lambda: performance.km_worst_case(1.0, 1), "alpha"),
        (lambda: performance.km_worst_case(0.5, -1), "k"),
        (lambda: performance.halpern_worst_case(-1), "k"),
        (lambda: performance.loop_worst_case([1.0], 0.5, 1.0), "mu"),
        (lambda: performance.loop_worst_case([0.0], 0.5, 0.5), "s"),
        (lambda: performance.loop_worst_case([1.0], 0.5, 0.5, slope=0.0), "slope"),
        (lambda: performance.loop_worst_case([1.0], 0.5, 0.5, lipschitz=0.0), "lipschitz"),
        (lambda: performance.loop_worst_case([1.0], 0.5, 0.5, measure="x"), "measure"),
        (lambda: experiment.settings_of("all"), "profile"),
    ],
)
def test_bad_arguments_are_refused(call: Any, word: str) -> None:
    with pytest.raises(DomainError, match=word):
        call()


def test_the_command_writes_the_record(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["certificates", "--out", str(tmp_path)]) == 0
    shown = capsys.readouterr().out
    found = read(tmp_path / "certificates.page.json")
    assert shown.count("bound") == 10 and "certificates.page.json" in shown
    assert found.command == "python -m bmo certificates --profile page"
    assert {"pepit", "cvxpy", "clarabel"} <= set(found.versions)
    assert found.value(method="gkm", alpha=0.2, k=3, metric="bound") == pytest.approx(
        bounds.km_worst(0.2, 3), rel=1e-6
    )


def test_the_record_was_made_by_its_settings(recorded: Record) -> None:
    assert recorded.settings == experiment.settings_of("full")
    assert recorded.commit and "dirty" not in recorded.commit
