"""Hyper-training: the same numbers whether or not it was interrupted; damage is refused."""

import math
import os

import pytest
import torch
from torch import nn

from bmo import train
from bmo.checkpoint import state_of
from bmo.errors import DomainError, TrainingError


class Line(nn.Module):
    """y = a x, with some dropout so that torch's own random state matters too."""

    def __init__(self):
        super().__init__()
        self.a = nn.Parameter(torch.zeros(3, dtype=torch.float64))

    def loss(self, x):
        kept = nn.functional.dropout(self.a, 0.3)
        return (x @ (kept - 1)).square().mean()


def sample(generator):
    return torch.randn(16, 3, generator=generator, dtype=torch.float64)


def run(plan, folder=None, resume=False, loss=None, **options):
    torch.manual_seed(5)
    model = Line()
    losses = train.train(model, loss or model.loss, sample, plan, folder, resume, **options)
    return model.a.detach(), losses


PLAN = train.Plan(steps=30, rate=0.05, seed=3, warmup=4, every=7)


def test_an_interrupted_run_ends_with_the_same_bits(tmp_path):
    straight, losses = run(PLAN)
    calls = []

    def stops(model):
        def loss(x):
            calls.append(1)
            if len(calls) == 18:
                raise KeyboardInterrupt
            return model.loss(x)

        return loss

    torch.manual_seed(5)
    model = Line()
    with pytest.raises(KeyboardInterrupt):
        train.train(model, stops(model), sample, PLAN, tmp_path)
    torch.manual_seed(99)  # what happened in between must not matter
    model = Line()
    again = train.train(model, model.loss, sample, PLAN, tmp_path, resume=True)
    assert torch.equal(model.a, straight)
    assert again == losses and len(losses) == 30


def test_a_finished_run_is_not_run_again_and_without_resume_it_is(tmp_path):
    first, losses = run(PLAN, tmp_path)

    def never(x):
        raise AssertionError("trained again")

    torch.manual_seed(5)
    model = Line()
    assert train.train(model, never, sample, PLAN, tmp_path, resume=True) == losses
    assert torch.equal(model.a, first)
    with pytest.raises(AssertionError, match="again"):
        train.train(Line(), never, sample, PLAN, tmp_path, resume=False)


def test_batches_depend_on_seed_and_step_alone():
    draws = {
        (seed, step): tuple(sample(train.generator_of(seed, step))[0].tolist())
        for seed in (0, 1)
        for step in (0, 1, 2)
    }
    assert len(set(draws.values())) == 6
    assert draws[1, 2] == tuple(sample(train.generator_of(1, 2))[0].tolist())


def test_the_rate_rises_then_falls_along_a_cosine():
    plan = train.Plan(steps=100, rate=1.0, warmup=20, final=0.1)
    rates = [plan.factor(t) for t in range(101)]
    assert rates[:20] == pytest.approx([(t + 1) / 20 for t in range(20)], abs=1e-15)
    middle = 0.1 + 0.9 * (1 + math.cos(math.pi * 0.5)) / 2
    assert rates[60] == pytest.approx(middle, abs=1e-12)
    assert rates[100] == pytest.approx(0.1, abs=1e-12)
    assert all(a > b for a, b in zip(rates[20:], rates[21:], strict=False))


def test_any_optimizer_keeps_its_own_rates():
    torch.manual_seed(5)
    model = nn.Linear(3, 1, bias=False).double()
    groups = [{"params": [model.weight], "lr": 0.02}]
    chosen = torch.optim.SGD(groups)
    plan = train.Plan(steps=1, rate=123.0, final=1.0)
    before = model.weight.detach().clone()
    train.train(model, lambda x: model(x).mean(), sample, plan, optimizer=chosen)
    gradient = sample(train.generator_of(0, 0)).mean(0)
    assert torch.allclose(model.weight[0], before[0] - 0.02 * gradient, atol=1e-14, rtol=0)


def test_the_gradient_is_clipped_to_the_asked_norm():
    model = nn.Linear(3, 1, bias=False).double()
    before = model.weight.detach().clone()
    plan = train.Plan(steps=1, rate=1.0, final=1.0, clip=1e-3)
    chosen = torch.optim.SGD(model.parameters(), lr=1.0)
    train.train(model, lambda x: 100 * model(x).mean(), sample, plan, optimizer=chosen)
    assert float((model.weight.detach() - before).norm()) == pytest.approx(1e-3, rel=1e-3)


@pytest.mark.parametrize("bad", [math.nan, math.inf])
def test_a_loss_that_is_not_finite_stops_and_keeps_the_last_checkpoint(tmp_path, bad):
    calls = []
    torch.manual_seed(5)
    model = Line()

    def loss(x):
        calls.append(1)
        return model.loss(x) * (bad if len(calls) == 10 else 1.0)

    with pytest.raises(TrainingError, match="step 10"):
        train.train(model, loss, sample, PLAN, tmp_path)
    assert bool(torch.isfinite(model.a).all())
    assert len(state_of((tmp_path / train.CHECKPOINT).read_bytes())["losses"]) == 7


def test_a_checkpoint_of_another_plan_or_model_or_a_damaged_one_is_refused(tmp_path):
    run(PLAN, tmp_path)
    with pytest.raises(TrainingError, match="rate"):
        run(train.Plan(steps=30, rate=0.06, seed=3, warmup=4), tmp_path, resume=True)
    other = nn.Linear(2, 2)
    with pytest.raises(TrainingError, match="this model"):
        train.train(other, lambda x: x.sum(), sample, PLAN, tmp_path, resume=True)
    path = tmp_path / train.CHECKPOINT
    path.write_bytes(path.read_bytes()[:-300])
    with pytest.raises(TrainingError, match="delete"):
        run(PLAN, tmp_path, resume=True)


def test_how_often_checkpoints_are_written_decides_nothing(tmp_path):
    _, losses = run(PLAN, tmp_path)
    plan = train.Plan(steps=30, rate=0.05, seed=3, warmup=4, every=2)
    assert run(plan, tmp_path, resume=True)[1] == losses


def test_a_checkpoint_that_would_run_code_is_refused(tmp_path):
    class Bomb:
        def __reduce__(self):
            return os.mkdir, (str(tmp_path / "exploded"),)

    torch.save({"plan": Bomb()}, tmp_path / train.CHECKPOINT)
    with pytest.raises(TrainingError, match="UnpicklingError"):
        run(PLAN, tmp_path, resume=True)
    assert not (tmp_path / "exploded").exists()


def test_a_folder_that_cannot_be_made_is_an_error(tmp_path):
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(TrainingError, match="folder"):
        run(PLAN, tmp_path / "file" / "below")


def test_a_bar_is_shown_when_asked(capsys):
    run(train.Plan(steps=2, rate=0.1), progress=True, label="hyper")
    assert "hyper" in capsys.readouterr().err


@pytest.mark.parametrize(
    "wrong",
    [
        {"steps": -1},
        {"rate": 0.0},
        {"rate": math.nan},
        {"seed": -1},
        {"warmup": -1},
        {"final": 0.0},
        {"final": 1.1},
        {"clip": 0.0},
        {"every": 0},
    ],
)
def test_a_plan_outside_its_range_is_refused(wrong):
    with pytest.raises(DomainError, match=next(iter(wrong))):
        train.Plan(**{"steps": 1, "rate": 0.1, **wrong})


def test_a_deadline_leaves_every_step_done_and_the_rest_follows(tmp_path, monkeypatch):
    def run(folder, **options):
        torch.manual_seed(0)
        model = nn.Linear(1, 1)
        losses = train.train(
            model,
            lambda x: (model(x) - 2 * x).square().mean(),
            lambda g: torch.rand(4, 1, generator=g),
            train.Plan(steps=6, rate=0.1, every=100),
            folder,
            **options,
        )
        return losses, [p.tolist() for p in model.parameters()]

    whole = run(tmp_path / "whole")
    ticks = iter(range(100))
    monkeypatch.setattr(train.time, "monotonic", lambda: next(ticks))
    with pytest.raises(train.OutOfTime, match="4 of 6 steps"):
        run(tmp_path / "cut", deadline=3)
    monkeypatch.undo()
    state = state_of((tmp_path / "cut" / train.CHECKPOINT).read_bytes())
    assert state["losses"] == whole[0][:4]
    assert run(tmp_path / "cut", resume=True) == whole
    with pytest.raises(train.OutOfTime, match="0 of 6"):
        run(None, deadline=0.0)
