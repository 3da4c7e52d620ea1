"""Time and memory are measured right: on a clock that is ours, and on known allocations."""

import gc
import math

import pytest
import torch

from bmo.bench import measure
from bmo.errors import DomainError


class Machine:
    """A clock that its work advances; it gets slower and slower."""

    def __init__(self, slower=1.0):
        self.now, self.pace, self.slower, self.log = 0.0, 1.0, slower, []

    def work(self, name, amount):
        def call():
            assert not gc.isenabled()
            self.log.append(name)
            self.now += amount * self.pace
            self.pace *= self.slower

        return call

    def clock(self):
        return self.now


def test_twice_the_work_is_the_ratio_two():
    machine = Machine()
    calls = {"two": machine.work("two", 2.0), "half": machine.work("half", 0.5)}
    ratios, bases = measure.interleaved(machine.work("base", 1.0), calls, 9, machine.clock)
    assert ratios == {"two": [2.0] * 9, "half": [0.5] * 9} and bases == [1.0] * 9
    assert gc.isenabled()


def test_a_machine_that_slows_down_does_not_change_the_median_much():
    machine = Machine(slower=1.02)
    calls = {name: machine.work(name, 2.0) for name in "abc"}
    ratios, bases = measure.interleaved(machine.work("base", 1.0), calls, 15, machine.clock)
    assert bases[-1] > 3 * bases[0]
    for name in calls:
        assert measure.spread(ratios[name]).median == pytest.approx(2.0, rel=0.05)


def test_rounds_are_shuffled_alike_for_one_seed_and_framed_by_the_base():
    logs = []
    for seed in (0, 0, 1):
        machine = Machine()
        calls = {name: machine.work(name, 1.0) for name in "abcd"}
        measure.interleaved(machine.work("base", 1.0), calls, 4, machine.clock, seed)
        logs.append(machine.log)
    assert logs[0] == logs[1] != logs[2]
    rounds = [logs[0][i : i + 6] for i in range(0, 24, 6)]
    assert all(r[0] == r[-1] == "base" and sorted(r[1:-1]) == list("abcd") for r in rounds)
    assert len({tuple(r) for r in rounds}) > 1


def test_the_collector_is_left_as_it_was_when_a_call_fails():
    def fails():
        raise ValueError

    gc.disable()
    try:
        measure.seconds(lambda: None)
        assert not gc.isenabled()
    finally:
        gc.enable()
    with pytest.raises(ValueError):
        measure.seconds(fails)
    assert gc.isenabled()


@pytest.mark.parametrize(("n", "rank"), [(6, 1), (9, 2), (15, 4), (25, 8)])
def test_the_interval_is_that_of_the_tables(n, rank):
    found = measure.spread([float(v) for v in range(n, 0, -1)])
    assert (found.low, found.high) == (rank, n + 1 - rank)
    assert found.median == (n + 1) / 2 and found.n == n
    outside = 2 * sum(math.comb(n, j) for j in range(rank)) / 2**n
    tighter = outside + 2 * math.comb(n, rank) / 2**n
    assert outside <= 0.05 < tighter


def test_too_few_rounds_are_refused():
    with pytest.raises(DomainError, match="six or more"):
        measure.spread([1.0] * 5)


def test_a_target_is_met_when_the_interval_reaches_it():
    found = measure.Spread(median=2.2, low=2.0, high=2.4, n=9)
    assert found.meets(2.0) and found.meets(2.1) and not found.meets(1.99)


def numbers(count):
    return torch.empty(count, dtype=torch.float64)


def test_memory_is_counted_to_the_byte():
    kept = numbers(10_000)  # held before: not counted

    def chain():
        first = [numbers(1000) for _ in range(10)]
        del first[:6]
        return [*first, *(numbers(1000) for _ in range(5)), kept]

    assert measure.peak_bytes(chain) == 10 * 8000
    assert measure.peak_bytes(lambda: [numbers(5) for _ in range(100)][:0]) >= 100 * 40


def test_what_is_released_at_once_is_held_once():
    def one_after_another():
        for _ in range(50):
            numbers(100_000)

    assert measure.peak_bytes(one_after_another) == 800_000


def test_autograd_keeps_what_the_formula_says():
    u = numbers(5000).fill_(1.01).requires_grad_()

    def loop():
        v = u
        for _ in range(20):
            v = v.exp()  # its derivative keeps its result
            v = v * 0.1  # keeps nothing
        return torch.autograd.grad(v.sum(), u)

    held = measure.peak_bytes(loop) / 40_000
    assert 20 <= held <= 25


def test_a_gpu_is_asked_for_its_own_counter(monkeypatch):
    state = {"held": 1000, "peak": 9999}
    monkeypatch.setattr(torch.cuda, "synchronize", lambda: None)
    monkeypatch.setattr(torch.cuda, "memory_allocated", lambda: state["held"])
    monkeypatch.setattr(torch.cuda, "reset_peak_memory_stats", lambda: state.update(peak=1000))
    monkeypatch.setattr(torch.cuda, "max_memory_allocated", lambda: state["peak"])
    assert measure.peak_bytes(lambda: state.update(peak=1500), "cuda") == 500
