"""The clock and the graphs of a GPU, and P2 over its products: measured, printed, recorded."""

from contextlib import nullcontext

import pytest
import torch

from bmo import cli, record
from bmo.bench import against, device, references, ways
from bmo.bench.against import SIZES, Size, target
from bmo.bench.built_in import fused
from bmo.bench.measure import Spread
from bmo.bench.products import alone, moved
from bmo.bench.run import Results, targets
from bmo.errors import ConditionError, DomainError, RecordError

B, M, N = 4, 6, 10
CPU, CUDA = torch.device("cpu"), torch.device("cuda")


class Event:
    """A CUDA event on a device whose time is ours, in milliseconds of float32."""

    time = 0.0

    def __init__(self, enable_timing):
        assert enable_timing
        self.at = None

    def record(self):
        self.stamp = Event.time

    def synchronize(self):
        self.at = self.stamp

    def elapsed_time(self, end):
        return float(torch.tensor(end.at - self.at, dtype=torch.float32))


def test_the_clock_of_a_gpu_adds_up_what_its_events_say(monkeypatch):
    monkeypatch.setattr(torch.cuda, "Event", Event)
    monkeypatch.setattr(Event, "time", 0.0)
    clock = device.clock_of(CUDA)
    assert clock() == 0.0
    Event.time += 3_600_000.0  # an hour later, a microsecond is still seen
    start = clock()
    Event.time += 0.001
    assert start == 3600.0 and clock() - start == pytest.approx(1e-6, rel=1e-5)


class FakeGraphs:
    """The part of torch.cuda that captures a graph; its replay calls again what it captured."""

    def __init__(self, monkeypatch):
        self.log = []
        cuda = torch.cuda
        monkeypatch.setattr(cuda, "current_stream", lambda: self.stream("here"))
        monkeypatch.setattr(cuda, "Stream", lambda: self.stream("side"))
        monkeypatch.setattr(cuda, "stream", lambda stream: nullcontext())
        monkeypatch.setattr(cuda, "CUDAGraph", lambda: self)
        monkeypatch.setattr(cuda, "graph", lambda graph: nullcontext(self.log.append("capture")))

    def stream(self, name):
        class Stream:
            def wait_stream(_, other):
                self.log.append(name)

        return Stream()

    def replay(self):
        self.log.append("replay")


def test_a_graph_is_warmed_up_on_another_stream_captured_and_replayed(monkeypatch):
    fake = FakeGraphs(monkeypatch)

    def call():
        fake.log.append("call")
        return "found"

    replay = device.graphed(call, CUDA)
    assert fake.log == ["side", *["call"] * device.WARM, "here", "capture", "call"]
    assert replay() == replay() == "found" and fake.log[-2:] == ["replay", "replay"]
    with pytest.raises(ConditionError, match="captured there only"):
        device.graphed(call, CPU)


@pytest.mark.parametrize(("there", "name"), [("clang++", "inductor"), ("none", "aot_eager")])
def test_the_compiler_is_one_that_can_run(monkeypatch, there, name):
    monkeypatch.setattr(device.shutil, "which", lambda tool: tool if tool == there else None)
    assert device.backend() == name


def test_a_device_that_is_not_there_is_refused(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(DomainError, match="a CUDA device"):
        device.require_device("cuda")
    with pytest.raises(DomainError, match="cpu, cuda"):
        device.require_device("tpu")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    assert device.require_device("cuda") == CUDA


def test_the_target_is_that_of_the_file_and_holds_for_large_batches_on_a_gpu():
    (goal,) = [goal for goal in targets()["goals"] if goal["goal"] == against.GOAL]
    assert (goal["at_most"], goal["batch from"], goal["metric"]) == (1.25, 4096, "ratio")
    bounds = {size.batch: target(size, CUDA) for size in SIZES["full"]}
    assert bounds == {256: None, 4096: 1.25, 16384: 1.25}
    assert all(target(size, CPU) is None for size in SIZES["full"])
    sizes = {(s.steps, s.batch, s.dtype) for s in SIZES["full"]}
    assert len(sizes) == len(SIZES["full"]) == 12
    assert {s[0] for s in sizes} == {16, 64} and {s[2] for s in sizes} == {"float32", "float64"}
    assert all((s.m, s.n) == (250, 500) for s in SIZES["full"] + SIZES["page"])


@pytest.fixture
def small(monkeypatch):
    """The page profile at a tiny size, without a compiler."""
    monkeypatch.setattr(torch, "compile", lambda call, **options: call)
    monkeypatch.setattr(torch.compiler, "reset", lambda: None)
    sizes = (Size(3, B, "float32", M, N), Size(2, B, "float64", M, N))
    monkeypatch.setitem(SIZES, "page", sizes)


class Work:
    """A clock, and calls that advance it by what they cost."""

    now = 0.0

    def __call__(self):
        return self.now

    def costing(self, call, cost):
        def spend():
            self.now += cost
            return call()

        return spend


def test_a_ratio_is_time_over_that_of_the_products(small, monkeypatch):
    work = Work()
    monkeypatch.setattr(against, "alone", lambda problem: work.costing(alone(problem), 2.0))

    def way(cost):
        return ways.Way(f"bmo {cost}", lambda at, place: work.costing(fused()(at), cost))

    monkeypatch.setattr(against, "WAYS", [way(2.5), way(3.0)])
    monkeypatch.setattr(against, "target", lambda size, place: 1.25)
    results = Results()
    rows = against.run_size(Size(3, B, "float64", M, N), CPU, 6, results, work)
    assert [row.ratio for row in rows] == [Spread(r, r, r, 6) for r in (1.25, 1.5)]
    assert [row.goals["ratio"] for row in rows] == [(1.25, True), (1.25, False)]
    assert results.rows == rows and results.forwards[0][1].median == 2.0
    assert all(row.error < 1e-13 and row.peak > 0 for row in rows)
    (single,) = against.run_size(Size(3, B, "float32", M, N), CPU, 6, results, work)[:1]
    assert 1e-9 < single.error < 1e-5 and single.setting["dtype"] == "float32"
    assert 0.5 < single.peak / rows[0].peak < 0.75  # half, and bytes that do not shrink


def asked(folder, *more):
    threads = torch.get_num_threads()
    try:
        return cli.main(["bench", "--rounds", "6", "--out", str(folder), *more])
    finally:
        torch.set_num_threads(threads)


def test_the_command_on_the_cpu_names_what_the_cpu_cannot_do(small, tmp_path, capsys):
    assert asked(tmp_path, "--products") == 0
    shown = capsys.readouterr().out
    assert "P2  K 3  batch 4  float32  cpu" in shown and "× products" in shown
    assert "failed: P2 2 4 float64 cpu bmo reverse, CUDA graph: ConditionError: " in shown
    found = record.read(tmp_path / "bench-products.page.json")
    here = {"K": 2, "batch": B, "dtype": "float64", "device": "cpu", "problem": "P2"}
    for name in ("bmo reverse", "bmo reverse, compiled steps"):
        assert found.value(method=name, metric="error", **here) < 1e-13
        assert found.value(method=name, metric="ratio", **here) > 0
    assert found.value(method="products alone", metric="seconds", **here) > 0
    assert len(found.settings["failed"]) == 4 and found.settings["rounds"] == 6


def test_the_command_on_a_gpu_records_every_way(small, tmp_path, capsys, monkeypatch):
    """All but the GPU: its tensors lie on the CPU, its events and graphs are those above."""
    emptied, cuda, graphs = [], torch.cuda, FakeGraphs(monkeypatch)
    monkeypatch.setattr(
        against, "moved", lambda problem, place, dtype: moved(problem, "cpu", dtype)
    )
    for name, value in {
        "is_available": lambda: True,
        "Event": Event,
        "synchronize": lambda: None,
        "memory_allocated": lambda: 0,
        "reset_peak_memory_stats": lambda: None,
        "max_memory_allocated": lambda: 3 * 2**20,
        "empty_cache": lambda: emptied.append(1),
        "get_device_name": lambda device: "Some GPU",
    }.items():
        monkeypatch.setattr(cuda, name, value)
    ticks = iter(range(10_000))
    monkeypatch.setattr(Event, "record", lambda event: setattr(event, "stamp", float(next(ticks))))
    monkeypatch.setattr(against, "target", lambda size, place: target(Size(2, 4096, ""), place))
    assert asked(tmp_path, "--device", "cuda") == 0
    shown = capsys.readouterr().out
    assert "failed" not in shown and "ratio ≤ 1.25 met" in shown and len(emptied) == 2
    assert graphs.log.count("capture") == 2 * (2 + 1)  # two ways and the products, at two sizes
    found = record.read(tmp_path / "bench-gpu.page.json")
    assert found.device == "Some GPU" and found.settings["failed"] == {}
    for way in ways.WAYS:
        here = {"method": way.name, "K": 3, "dtype": "float32", "device": "cuda"}
        assert found.value(metric="ratio", **here) == 1.0
        assert found.value(metric="ratio target", **here) == 1.25
        assert found.value(metric="peak MiB", **here) == 3.0
        assert found.value(metric="error", **here) < 1e-5


@pytest.mark.parametrize(("captures", "peak"), [(True, 16_000), (False, 8_000)])
def test_a_graph_takes_its_memory_when_it_is_captured(monkeypatch, small, captures, peak):
    def prepare(problem, place):
        exact = references.unrolled(problem)
        torch.empty(2000, dtype=torch.float64)
        return lambda: (torch.empty(1000, dtype=torch.float64), exact)[1]

    monkeypatch.setattr(against, "WAYS", [ways.Way("bmo", prepare, captures)])
    size = Size(1, B, "float64", M, N)
    (row,) = against.run_size(size, CPU, 6, Results(), device.clock_of(CPU))
    assert peak <= row.peak < peak + 4000


def test_a_way_that_fails_everywhere_and_a_part_of_a_profile(small, tmp_path, monkeypatch, capsys):
    def broken(problem, place):
        raise ValueError("broken")

    monkeypatch.setattr(against, "WAYS", [ways.Way("bmo broken", broken)])
    results = Results()
    assert list(against.run_sizes(SIZES["page"], CPU, 6, results)) == [[], []]
    with pytest.raises(RecordError):
        against.as_record(Results(), "page", 6, CPU, 1.0)
    assert set(results.failed.values()) == {"ValueError: broken"}
    assert asked(tmp_path, "--products") == 0
    assert "× products" not in capsys.readouterr().out
    assert asked(tmp_path / "part", "--products", "--K", "2") == 0
    assert "no record" in capsys.readouterr().out and not (tmp_path / "part").exists()


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--device", "cuda"], "a CUDA device"),
        (["--products", "--problem", "P1"], "leave them out"),
        (["--products", "--method", "torch"], "leave them out"),
        (["--products", "--peers", "x"], "leave them out"),
        (["--products", "--K", "77"], "K=16 batch=256"),
        (["--batch", "77"], "choose others"),
        (["--products", "--rounds", "5"], "6 rounds or more"),
    ],
)
def test_a_mistake_is_named(capsys, monkeypatch, arguments, words):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert cli.main(["bench", *arguments]) == 2
    assert words in capsys.readouterr().err
