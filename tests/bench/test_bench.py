"""A run of the benchmark: what is registered, measured, printed and recorded."""

import json

import pytest
import torch

from bmo import cli, record
from bmo.bench import command, methods, ours, run
from bmo.bench.aggregated import Aggregated
from bmo.bench.measure import Spread
from bmo.bench.methods import Method, Registry
from bmo.bench.problems import Smooth, Sparse
from bmo.bench.report import as_record, table, tables
from bmo.bench.run import Case, Results, Row, judged, run_case
from bmo.errors import DomainError, RecordError


def tiny_p1():
    return Smooth(4, m=10, n=5)


def tiny_p3():
    return Aggregated(Sparse(3, m=6, n=10, batch=4, diagonal=True, density=0.3))


class Ticking:
    """A clock that advances by one at each look."""

    now = 0.0

    def __call__(self):
        self.now += 1.0
        return self.now


def both():
    return command.registered(None)


def test_our_goals_are_those_of_the_file():
    known = {goal["goal"] for goal in run.targets()["goals"]}
    registry = Registry()
    ours.register(registry)
    assert {m.goal for m in registry.methods if m.goal} <= known
    assert all(m.name.startswith("bmo") for m in registry.methods)


def test_a_name_is_taken_once_for_each_kind_and_problem():
    registry = Registry()
    registry.enter("a", "unrolled", ("P1",))(lambda problem: lambda: {})
    registry.enter("a", "implicit", ("P1",))(lambda problem: lambda: {})
    registry.enter("a", "unrolled", ("P2",))(lambda problem: lambda: {})
    with pytest.raises(DomainError, match="taken"):
        registry.enter("a", "unrolled", ("P3", "P2"))
    with pytest.raises(DomainError, match="unrolled, implicit"):
        registry.enter("b", "forward", ("P1",))
    assert [m.problems for m in registry.chosen(tiny_p1(), "unrolled")] == [("P1",)]


def test_adapters_are_loaded_from_a_folder(tmp_path):
    with pytest.raises(DomainError, match="folder with adapters"):
        Registry().load(tmp_path)
    there = """
def available():
    return None
def register(registry):
    registry.enter("there", "unrolled", ("P1",))(lambda problem: lambda: {})
"""
    (tmp_path / "there.py").write_text(there)
    (tmp_path / "not_there.py").write_text(
        "def available():\n    return 'not installed (buy it)'\n"
    )
    (tmp_path / "_helper.py").write_text("raise ImportError")
    registry = Registry()
    registry.load(tmp_path)
    assert [m.name for m in registry.methods] == ["there"]
    assert registry.missing == {"not-there": "not installed (buy it)"}


def test_a_file_that_python_cannot_load_is_named(tmp_path, monkeypatch):
    (tmp_path / "odd.py").write_text("")
    monkeypatch.setattr(methods.importlib.util, "spec_from_file_location", lambda name, path: None)
    with pytest.raises(DomainError, match="odd.py"):
        Registry().load(tmp_path)


def test_a_method_out_of_reach_is_judged_on_the_problem_that_it_can_express():
    other = Smooth(4, m=10, n=5, seed=7)

    def exact(problem):
        assert problem is other
        return lambda: run.references.unrolled(problem)

    registry = Registry()
    registry.enter("near", "unrolled", ("P1",), instead=lambda problem: other)(exact)
    (row,) = run_case(Case(tiny_p1, "P1", 4), registry, 6, Results(), Ticking())
    assert row.error == 0.0


def test_every_method_is_measured_and_one_that_fails_is_named():
    registry, results = both(), Results()

    def broken(problem):
        raise ValueError("no\nwith " + "many words " * 30)

    registry.enter("broken", "unrolled", ("P1",))(broken)
    case = Case(tiny_p1, "P1", 4)
    rows = run_case(case, registry, 6, results, Ticking())
    assert rows == results.rows
    names = [row.method for row in rows]
    assert names == [m.name for m in registry.chosen(tiny_p1(), "unrolled")][:-1]
    assert all(row.ratio == Spread(1.0, 1.0, 1.0, 6) for row in rows)
    assert all(row.error < 1e-12 and row.peak > 0 for row in rows)
    assert len(results.forwards) == 1
    (where,) = results.failed
    assert where == "P1 4 unrolled broken" and results.failed[where].endswith("...")
    assert "failed: P1 4 unrolled broken: ValueError: no with" in tables(results)


def test_the_implicit_kind_is_judged_by_the_fixed_point():
    registry = Registry()

    def one_step(problem):
        return lambda: run.references.unrolled(problem)

    registry.enter("bmo unrolled", "implicit", ("P1",), memory=False)(one_step)
    for steps, close in ((1, False), (400, True)):
        case = Case(lambda steps=steps: Smooth(steps, m=10, n=5), "P1", steps, ("implicit",))
        (row,) = run_case(case, registry, 6, Results(), Ticking())
        assert (row.error < 1e-9) == close and row.peak is None


def test_targets_are_judged_where_they_hold():
    method = Method("bmo x", "unrolled", ("P2",), lambda problem: dict, goal="P2 unrolled")
    figures = {"ratio": 2.4, "peak MiB": 60.0, "error": 0.0}
    assert judged(method, 64, figures) == {"ratio": (2.45, True), "peak MiB": (50, False)}
    assert judged(method, 256, figures) == {"peak MiB": (200, True)}
    assert judged(method, 16, figures) == {}
    assert judged(method, 256, {"ratio": 2.4}) == {}


def a_row(**changes):
    fields = {
        "setting": {"problem": "P1", "K": 4, "kind": "unrolled"},
        "method": "bmo reverse",
        "ratio": Spread(2.5, 2.25, 2.75, 9),
        "peak": 3 * 2**20,
        "error": 2e-15,
        "goals": {"ratio": (2.0, False), "peak MiB": (4.0, True)},
    }
    return Row(**{**fields, **changes})


def test_the_table_prints_each_figure_with_its_target():
    faster = a_row(method="torch", ratio=Spread(2.0, 1.9, 2.1, 9), peak=None, goals={})
    lines = table([a_row(), faster], Spread(0.125, 0.12, 0.13, 9)).split("\n")
    assert lines[0] == "P1  K 4  unrolled"
    assert lines[1].startswith("plain forward 0.125 s of CPU time; limit: 2.0 with all iterates")
    assert lines[3].split() == ["torch", "2.00", "1.90", "–", "2.10", "–", "2e-15"]
    assert lines[4].endswith("3.00      2e-15  ratio ≤ 2 MISSED, peak MiB ≤ 4 met")
    strange = a_row(setting={"problem": "P9", "K": 1, "kind": "unrolled"})
    assert "limit: not known" in table([strange], Spread(1, 1, 1, 6))


def test_the_record_holds_what_the_table_shows(tmp_path):
    registry = Registry()
    registry.missing["higher"] = "not installed (pip install higher)"
    results = Results([a_row(), a_row(method="jax scan", peak=None, goals={})])
    results.forwards.append((results.rows[0].setting, Spread(0.125, 0.12, 0.13, 9)))
    results.failed["P1 4 unrolled x"] = "ValueError: no"
    made = as_record(results, registry, "page", 9, 1.5)
    found = record.read(record.write(made, tmp_path))
    assert found.name == "bench.page"
    here = {"method": "bmo reverse", "problem": "P1", "K": 4, "kind": "unrolled"}
    figures = {"ratio": 2.5, "ratio low": 2.25, "ratio high": 2.75, "peak MiB": 3.0}
    for metric, value in {**figures, "error": 2e-15, "ratio target": 2.0}.items():
        assert found.value(metric=metric, **here) == value
    assert found.value(metric="seconds", method="forward") == 0.125
    assert found.select(method="jax scan", metric="peak MiB") == []
    assert found.settings["missing"] == registry.missing
    assert found.settings["failed"] == results.failed
    shown = record.table(found, "method", "metric", where={"metric": "ratio"}, style="plain")
    assert "bmo reverse  2.5" in shown
    with pytest.raises(RecordError, match="rows"):
        as_record(Results(), registry, "page", 9, 1.5)


@pytest.fixture
def tiny(monkeypatch):
    cases = (Case(tiny_p1, "P1", 4), Case(tiny_p3, "P3", 3))
    monkeypatch.setitem(run.CASES, "page", cases)


def test_the_command_prints_tables_and_writes_the_record(tiny, tmp_path, capsys):
    (tmp_path / "absent.py").write_text("def available():\n    return 'not installed (x)'\n")
    asked = ["bench", "--rounds", "6", "--out", str(tmp_path), "--peers", str(tmp_path)]
    threads = torch.get_num_threads()
    try:
        assert cli.main(asked) == 0
    finally:
        torch.set_num_threads(threads)
    shown = capsys.readouterr().out
    assert "missing: absent: not installed (x)" in shown
    assert "P1  K 4  unrolled" in shown and "P3  on P2  K 3  bmo  unrolled" in shown
    found = record.read(tmp_path / "bench.page.json")
    assert found.settings["rounds"] == 6
    assert {row["method"] for row in found.rows} > {"forward", "bmo reverse", "torch"}
    assert found.value(method="torch", metric="error", problem="P3", on="P2") < 1e-12
    assert json.loads((tmp_path / "bench.page.json").read_text())["experiment"] == "bench"


def test_a_part_of_the_profile_is_only_printed(tiny, tmp_path, capsys, monkeypatch):
    def broken(problem):
        raise ValueError("broken")

    def register(registry):
        registry.enter("torch broken", "unrolled", ("P1",))(broken)

    monkeypatch.setattr(command.ours, "register", register)
    asked = ["bench", "--rounds", "6", "--out", str(tmp_path), "--problem", "P1", "P3"]
    assert cli.main([*asked, "--K", "4", "--method", "torch check", "torch broken"]) == 0
    shown = capsys.readouterr().out
    assert "torch checkpoint" in shown and "from a loss" not in shown and "P3" not in shown
    assert "no record" in shown and list(tmp_path.iterdir()) == []
    assert "failed: P1 4 unrolled torch broken: ValueError: broken" in shown


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--rounds", "5"], "6 rounds or more"),
        (["--K", "77"], "some of P1 K=50"),
        (["--method", "nobody"], "nothing"),
        (["--peers", "no/such/folder"], "a folder with adapters"),
    ],
)
def test_a_mistake_is_named(capsys, arguments, words):
    assert cli.main(["bench", *arguments]) == 2
    assert words in capsys.readouterr().err


def test_the_profiles_hold_the_problems_that_the_page_describes():
    full = [(case.name, case.steps, case.kinds) for case in run.CASES["full"]]
    assert [(n, k) for n, k, _ in full if n != "P3"] == [
        ("P1", 50), ("P1", 200), ("P1", 1000), ("P2", 16), ("P2", 64), ("P2", 256)
    ]  # fmt: skip
    assert ("P1", 200, run.BOTH) in full and ("P2", 256, run.BOTH) in full
    settings = [case.make().setting for case in run.CASES["full"] if case.name == "P3"]
    assert {(s["on"], s["loop"]) for s in settings} == {
        ("P1", "bmo"), ("P1", "bmo-h"), ("P2", "bmo"), ("P2", "bmo-h")
    }  # fmt: skip
    for case in run.CASES["page"]:
        assert case.make().setting["K"] == case.steps
