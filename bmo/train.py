r"""Hyper-training on data: the outer loop of Algorithm 1 with any torch optimizer.

Book: chapters 6 and 10. A run is decided by its seed: the batch of step t is drawn by a
generator that (seed, t) alone seeds, so a run that was interrupted and resumed sees the same
batches and ends, on the same machine, with the same numbers.

Under torchrun several processes share each batch (:mod:`bmo.parallel`): the same batches, the same
steps, and the same numbers but for rounding, however many processes there are.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from tqdm import tqdm

from bmo import parallel
from bmo.checkpoint import load_checkpoint, save_checkpoint
from bmo.errors import DomainError, TrainingError, require_number, require_whole

__all__ = ["OutOfTime", "Plan", "train"]

CHECKPOINT = "checkpoint.pt"
#: What a step requires; a search over learning rates may go on without a rate that breaks it.
FINITE = "a finite loss and gradient"
Sample = Callable[[torch.Generator], Any]
Loss = Callable[[Any], Tensor]


class OutOfTime(Exception):
    """The deadline of a training came before its last step; the checkpoint holds what was done."""


@dataclass(frozen=True)
class Plan:
    r"""How long and how fast to hyper-train.

    The learning rate rises linearly for ``warmup`` steps, then falls along a half cosine to
    ``final`` times its largest value.

    Attributes:
        steps: Number of steps of the optimizer (>= 0).
        rate: Largest learning rate (> 0).
        seed: Decides every batch (>= 0).
        warmup: Steps of the linear rise (>= 0).
        final: Last rate relative to the largest, in (0, 1].
        clip: Largest Euclidean norm of the gradient, or ``None``.
        every: Steps between checkpoints (>= 1).

    Raises:
        DomainError: A number is outside its range.

    Example:
        >>> plan = Plan(steps=100, rate=1e-3, warmup=10)
        >>> plan.factor(0), plan.factor(10), round(plan.factor(100), 6)
        (0.1, 1.0, 0.05)
    """

    steps: int
    rate: float
    seed: int = 0
    warmup: int = 0
    final: float = 0.05
    clip: float | None = None
    every: int = 25

    def __post_init__(self) -> None:
        for name in ("rate", "final"):
            require_number(name, getattr(self, name))
        for name, least in {"steps": 0, "seed": 0, "warmup": 0, "every": 1}.items():
            require_whole(name, getattr(self, name), least)
        ranges = {
            "rate finite and > 0": 0 < self.rate < math.inf,
            "final in (0, 1]": 0 < self.final <= 1,
            "clip > 0 or None": self.clip is None or require_number("clip", self.clip) > 0,
        }
        for required, holds in ranges.items():
            if not holds:
                raise DomainError(required, f"{self}", "correct that number", self)

    def factor(self, step: int) -> float:
        """Learning rate of a step (0, 1, ...) relative to the largest."""
        if step < self.warmup:
            return (step + 1) / self.warmup
        share = (step - self.warmup) / max(1, self.steps - self.warmup)
        return self.final + (1 - self.final) * (1 + math.cos(math.pi * min(1.0, share))) / 2


def generator_of(seed: int, step: int) -> torch.Generator:
    """The generator that draws the batch of a step.

    Example:
        >>> a, b = generator_of(1, 7), generator_of(1, 7)
        >>> bool((torch.rand(3, generator=a) == torch.rand(3, generator=b)).all())
        True
    """
    return torch.Generator().manual_seed(seed * 1_000_003 + step)


def train(
    model: nn.Module,
    loss: Loss,
    sample: Sample,
    plan: Plan,
    folder: Path | str | None = None,
    resume: bool = False,
    optimizer: torch.optim.Optimizer | None = None,
    progress: bool | None = None,
    label: str = "train",
    deadline: float | None = None,
) -> list[float]:
    r"""Minimise ``loss(sample(generator))`` over the parameters of ``model``, in place.

    Args:
        model: Its parameters that require a gradient are :math:`\omega`.
        loss: A batch → a scalar, :math:`\ell(u^K(\omega), \omega)` averaged over the batch. Of
            several processes each one passes its slice, so the mean must be one over points.
        sample: A generator → a batch; it must draw from this generator only. Of several processes
            each one draws the whole batch and keeps its slice (:func:`bmo.parallel.shard`).
        plan: Steps, rates and seed.
        folder: Where checkpoints go; ``None`` for none.
        resume: Go on from the checkpoint in ``folder`` if there is one.
        optimizer: Any torch optimizer over the model's parameters; Adam by default.
        progress: Show a bar; by default only where somebody watches (a terminal).
        label: Text before the bar.
        deadline: Reading of ``time.monotonic()`` after which no other step begins.

    Returns:
        The loss of every step, those before a resumption included.

    Raises:
        TrainingError: The loss or a gradient is not finite (the last good checkpoint stays); the
            loss is not one number that depends on the parameters, or there are none; the
            checkpoint is damaged or belongs to another plan or model; the folder cannot be
            written; a process has stopped, or the model is wrapped in DistributedDataParallel.
        ShapeError: There are more processes than points in a batch.
        OutOfTime: The deadline has passed; the checkpoint in ``folder`` holds every step so far.

    Example:
        >>> _ = torch.manual_seed(0)
        >>> model = nn.Linear(1, 1)
        >>> target = lambda g: torch.rand(8, 1, generator=g)
        >>> fit = lambda x: (model(x) - 2 * x).square().mean()
        >>> losses = train(model, fit, target, Plan(steps=200, rate=0.1), progress=False)
        >>> losses[-1] < 1e-3
        True
    """
    chosen = optimizer or _adam(model)
    path = None if folder is None else Path(folder) / CHECKPOINT
    _require_bare(model)
    parallel.same_start(model)
    # before a checkpoint brings the rates of its last step
    rates = [group["lr"] if optimizer else plan.rate for group in chosen.param_groups]
    losses = load_checkpoint(path, model, chosen, asdict(plan)) if path and resume else []
    bar = tqdm(
        total=plan.steps,
        initial=len(losses),
        desc=label,
        unit="step",
        disable=(None if progress is None else not progress) if parallel.main_process() else True,
    )
    with bar:
        for step in range(len(losses), plan.steps):
            if _is_over(deadline):
                if path is not None:
                    save_checkpoint(path, model, chosen, asdict(plan), losses)
                raise OutOfTime(f"{label}: {step} of {plan.steps} steps done")
            for group, rate in zip(chosen.param_groups, rates, strict=True):
                group["lr"] = rate * plan.factor(step)
            losses.append(
                _step(model, loss, sample(generator_of(plan.seed, step)), chosen, plan, step)
            )
            bar.update()
            bar.set_postfix_str(f"loss {losses[-1]:.4g}", refresh=False)
            if path is not None and ((step + 1) % plan.every == 0 or step + 1 == plan.steps):
                save_checkpoint(path, model, chosen, asdict(plan), losses)
    parallel.from_first(b"")  # the last checkpoint is there when any process returns
    return losses


def _adam(model: nn.Module) -> torch.optim.Optimizer:
    """Adam over everything that is learned."""
    learned = [p for p in model.parameters() if p.requires_grad]
    if not learned:
        raise TrainingError(
            "a model with parameters that require a gradient",
            f"{type(model).__name__} without",
            "learn something (learn=True in many operators), or pass an optimizer",
            model,
        )
    return torch.optim.Adam(learned)


def _one_number(value: Any) -> Tensor:
    """Refuse a loss that is not one number with a gradient."""
    if not isinstance(value, Tensor) or value.numel() != 1 or not value.requires_grad:
        shown = f"a {type(value).__name__}"
        if isinstance(value, Tensor):
            shown = (
                f"shape {tuple(value.shape)}{', without a gradient' * (not value.requires_grad)}"
            )
        raise TrainingError(
            "a loss that is one number and depends on the parameters",
            shown,
            "take the mean over the batch, of a tensor that was not detached",
            value,
        )
    return value


def _is_over(deadline: float | None) -> bool:
    """Whether the first process has passed the deadline: all stop at the same step."""
    if deadline is None:
        return False
    over = b"over" if time.monotonic() > deadline else b""
    return parallel.from_first(over if parallel.main_process() else None) == b"over"


def _require_bare(model: nn.Module) -> None:
    """Refuse a wrapped model: its plain mean over processes would come before the weighted one."""
    if isinstance(model, nn.parallel.DistributedDataParallel):
        raise TrainingError(
            "the bare model", "one in DistributedDataParallel", "pass model.module", model
        )


def _step(
    model: nn.Module,
    loss: Loss,
    batch: Any,
    optimizer: torch.optim.Optimizer,
    plan: Plan,
    step: int,
) -> float:
    """One step of the optimizer; refuses to change the model by anything that is not finite."""
    optimizer.zero_grad(set_to_none=True)
    part, weight = parallel.shard(batch)
    value = _one_number(loss(part))
    value.backward()
    value = parallel.average_grad(model, value, weight)
    parameters = [p for p in model.parameters() if p.grad is not None]
    limit = math.inf if plan.clip is None else plan.clip
    norm = nn.utils.clip_grad_norm_(parameters, limit) if parameters else value.new_zeros(())
    number = float(value)
    if not (math.isfinite(number) and bool(torch.isfinite(norm))):
        raise TrainingError(
            FINITE,
            f"loss {number}, gradient norm {float(norm)} at step {step + 1}",
            "lower the learning rate or set clip; the last checkpoint is untouched",
            step + 1,
        )
    optimizer.step()
    return number
