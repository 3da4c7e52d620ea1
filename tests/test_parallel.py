"""Slices, weights and errors of several processes, seen from a single one."""

import dataclasses
from collections import namedtuple
from unittest.mock import patch

import pytest
import torch
import torch.distributed as dist
from torch import nn

from bmo import checkpoint, parallel, train
from bmo.errors import ShapeError, TrainingError
from bmo.parallel import World, exchange, processes, slices
from bmo.problems import command
from bmo.problems.shelf import Shelf
from bmo.problems.sparse_coding.settings import PAGE

Pair = namedtuple("Pair", "clean observed")


@pytest.fixture
def group(tmp_path):
    """A group of one process: torch's own exchange runs, and sums one summand."""
    dist.init_process_group("gloo", init_method=f"file://{tmp_path}/meet", rank=0, world_size=1)
    yield
    dist.destroy_process_group()


@pytest.fixture
def first_of_two(group, monkeypatch):
    """The same, and the code believes that there is another process."""
    for place in (exchange, slices):
        monkeypatch.setattr(place, "world", lambda: World(0, 2))


def at(rank, size):
    return patch.object(slices, "world", lambda: World(rank, size))


@pytest.mark.parametrize(("count", "size"), [(12, 3), (13, 3), (7, 7), (100, 6), (5, 1)])
def test_slices_put_together_are_the_batch(count, size):
    batch = torch.randn(count, 2)
    found = []
    for rank in range(size):
        with at(rank, size):
            found.append(parallel.shard(batch))
    assert torch.equal(torch.cat([part for part, _ in found]), batch)
    assert sum(weight for _, weight in found) == pytest.approx(1, abs=1e-15)
    lengths = [len(part) for part, _ in found]
    assert max(lengths) - min(lengths) <= 1
    assert [weight * count for _, weight in found] == pytest.approx(lengths, abs=1e-12)


def test_a_batch_keeps_its_kind():
    x, y = torch.arange(4.0), torch.arange(8.0).reshape(4, 2)
    with at(1, 2):
        pair, _ = parallel.shard(Pair(x, y))
        nested, _ = parallel.shard({"a": [x, y], "b": (x,)})
    assert type(pair) is Pair and torch.equal(pair.observed, y[2:])
    assert type(nested["a"]) is list and type(nested["b"]) is tuple
    assert torch.equal(nested["a"][1], y[2:]) and torch.equal(nested["b"][0], x[2:])


@pytest.mark.parametrize(
    ("batch", "words"),
    [
        (torch.zeros(2), r"at least 3 points.*lengths \[2\].*fewer processes"),
        ((torch.zeros(4), torch.zeros(5)), r"lengths \[4, 5\]"),
        ((), r"lengths \[\]"),
        (torch.tensor(1.0), "without axes"),
        ([torch.zeros(4), 3.0], "float"),
    ],
)
def test_a_batch_that_cannot_be_cut_is_refused(batch, words):
    with at(0, 3), pytest.raises(ShapeError, match=words):
        parallel.shard(batch)
    with at(0, 1):
        assert parallel.shard(batch) == (batch, 1.0)


def test_processes_that_were_not_connected_are_an_error(monkeypatch):
    monkeypatch.setenv("RANK", "0")
    monkeypatch.setenv("WORLD_SIZE", "2")
    model = nn.Linear(2, 1)
    plan = train.Plan(steps=1, rate=0.1)
    with pytest.raises(TrainingError, match="session"):
        train.train(model, lambda x: model(x).mean(), lambda g: torch.ones(4, 2), plan)
    monkeypatch.delenv("MASTER_ADDR", raising=False)
    with pytest.raises(TrainingError, match="MASTER_ADDR"), parallel.session():
        pass
    monkeypatch.setenv("WORLD_SIZE", "1")
    with parallel.session() as here:
        assert here == World(0, 1) and not dist.is_initialized()


def test_a_session_connects_and_disconnects(tmp_path, monkeypatch):
    monkeypatch.setenv("RANK", "0")
    monkeypatch.setenv("WORLD_SIZE", "2")
    start, asked = dist.init_process_group, []

    def alone(backend, timeout):
        asked.append((backend, timeout.total_seconds()))
        start(backend, init_method=f"file://{tmp_path}/meet", rank=0, world_size=1)

    monkeypatch.setattr(dist, "init_process_group", alone)
    with parallel.session(7) as here:
        assert here == World(0, 1) and dist.is_initialized()
        with parallel.session():  # one inside another uses the connection that is there
            pass
        assert dist.is_initialized()
    assert not dist.is_initialized() and asked == [("gloo", 7)]


@pytest.mark.parametrize(
    ("gpus", "beside", "way", "own"),
    [(2, 2, "cpu:gloo,cuda:nccl", 1), (4, 2, "cpu:gloo,cuda:nccl", 1), (1, 2, "gloo", 0)],
)
def test_each_process_takes_its_own_gpu(gpus, beside, way, own, monkeypatch):
    chosen = []
    monkeypatch.setenv("LOCAL_RANK", "1")
    monkeypatch.setenv("LOCAL_WORLD_SIZE", str(beside))
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: gpus)
    monkeypatch.setattr(torch.cuda, "set_device", chosen.append)
    monkeypatch.setattr(dist, "is_nccl_available", lambda: True)
    assert parallel.backend() == way and chosen == [own]


def test_tensors_of_several_types_are_averaged_each_in_its_own(first_of_two):
    given = {
        "a": torch.randn(2, 3),
        "b": torch.randn(4, dtype=torch.float64),
        "c": torch.randn((), dtype=torch.float64),
        "d": torch.randn(2, dtype=torch.complex64),
    }
    found = parallel.average(given, 1.0)
    assert list(found) == list(given)
    for name, g in given.items():
        assert torch.equal(found[name], g) and found[name].dtype == g.dtype
    assert parallel.average({}, 1.0) == {}


@pytest.mark.parametrize("weight", [0.5, 2.0, float("nan")])
def test_weights_that_do_not_sum_to_one_are_refused(first_of_two, weight):
    with pytest.raises(TrainingError, match="sum to 1"):
        parallel.average({"a": torch.ones(2)}, weight)


def test_a_parameter_without_a_gradient_keeps_none(first_of_two):
    module = nn.ModuleDict({"used": nn.Linear(2, 1), "idle": nn.Linear(2, 1)})
    module["used"].bias.requires_grad_(False)
    loss = module["used"](torch.ones(3, 2)).mean()
    loss.backward()
    before = module["used"].weight.grad.clone()
    assert parallel.average_grad(module, loss, 1.0) == loss
    assert torch.equal(module["used"].weight.grad, before)
    assert [p.grad for p in (*module["idle"].parameters(), module["used"].bias)] == [None] * 3


@pytest.mark.parametrize("content", [None, b"", b"abc"])
def test_what_the_first_process_knows_arrives_unchanged(first_of_two, content):
    assert parallel.from_first(content) == content


def test_another_model_in_another_process_is_an_error(first_of_two, monkeypatch):
    module = nn.BatchNorm1d(2)
    state, before = torch.get_rng_state(), {k: v.clone() for k, v in module.state_dict().items()}
    parallel.same_start(module)
    assert all(torch.equal(v, before[k]) for k, v in module.state_dict().items())
    assert torch.equal(torch.get_rng_state(), state)
    monkeypatch.setattr(exchange, "from_first", lambda content: b"weight (3,) torch.float32")
    with pytest.raises(TrainingError, match=r"same model.*process 0: bias \(2,\)"):
        parallel.same_start(module)


def test_a_lost_process_is_an_error_that_says_what_to_do(first_of_two, monkeypatch):
    def lost(*_):
        raise RuntimeError("[/torch/pair.cc:7] Connection closed by peer. Good luck\nmore")

    monkeypatch.setattr(dist, "all_reduce", lost)
    monkeypatch.setattr(dist, "broadcast", lost)
    for call in (
        lambda: parallel.average({"a": torch.ones(1)}, 1.0),
        lambda: parallel.from_first(b"abc"),
        lambda: parallel.same_start(nn.Linear(1, 1)),
    ):
        with pytest.raises(TrainingError, match="got: Connection closed by peer; .* with resume"):
            call()
    with pytest.raises(TrainingError, match="required: a; got: b"), processes.answered():
        raise TrainingError("a", "b", "c")  # what says enough already passes through


def test_a_wrapped_model_is_refused(group):
    module = nn.parallel.DistributedDataParallel(nn.Linear(1, 1))
    with pytest.raises(TrainingError, match="model.module"):
        train.train(module, module, lambda g: torch.ones(2, 1), train.Plan(steps=1, rate=0.1))


def test_only_the_first_process_writes_and_prints(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(parallel, "main_process", lambda: False)
    model = nn.Linear(1, 1)
    plan = train.Plan(steps=2, rate=0.1)
    losses = train.train(
        model, lambda x: model(x).mean(), lambda g: torch.ones(2, 1), plan, tmp_path, progress=True
    )
    assert len(losses) == 2 and not list(tmp_path.iterdir())
    assert checkpoint.load_checkpoint(tmp_path / "none", model, None, {}) == []
    shelf = Shelf(dataclasses.replace(PAGE), tmp_path)
    monkeypatch.setattr(parallel, "from_first", lambda content: b'{"told": 1}')
    assert shelf.keep("part", 0.0, dict) == {"told": 1} and not list(tmp_path.iterdir())
    command._say("never")
    shown = capsys.readouterr()
    assert shown.out == "" and shown.err == ""


def test_a_checkpoint_that_cannot_be_read_is_an_error(tmp_path):
    (tmp_path / train.CHECKPOINT).mkdir()
    model = nn.Linear(1, 1)
    with pytest.raises(TrainingError, match="readable checkpoint"):
        train.train(model, model, None, train.Plan(steps=1, rate=0.1), tmp_path, resume=True)
