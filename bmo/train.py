r"""Hyper-training on data: the outer loop of Algorithm 1 with any torch optimizer.

Book: chapters 6 and 10. A run is decided by its seed: the batch of step t is drawn by a
generator that (seed, t) alone seeds, so a run that was interrupted and resumed sees the same
batches and ends, on the same machine, with the same numbers.
"""

from __future__ import annotations

import io
import math
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from tqdm import tqdm

from bmo.errors import DomainError, TrainingError
from bmo.files import write_atomic

CHECKPOINT = "checkpoint.pt"
Sample = Callable[[torch.Generator], Any]
Loss = Callable[[Any], Tensor]


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
        ranges = {
            "steps >= 0": self.steps >= 0,
            "rate finite and > 0": 0 < self.rate < math.inf,
            "seed >= 0": self.seed >= 0,
            "warmup >= 0": self.warmup >= 0,
            "final in (0, 1]": 0 < self.final <= 1,
            "clip > 0 or None": self.clip is None or self.clip > 0,
            "every >= 1": self.every >= 1,
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
) -> list[float]:
    r"""Minimise ``loss(sample(generator))`` over the parameters of ``model``, in place.

    Args:
        model: Its parameters that require a gradient are :math:`\omega`.
        loss: A batch → a scalar, :math:`\ell(u^K(\omega), \omega)` averaged over the batch.
        sample: A generator → a batch; it must draw from this generator only.
        plan: Steps, rates and seed.
        folder: Where checkpoints go; ``None`` for none.
        resume: Go on from the checkpoint in ``folder`` if there is one.
        optimizer: Any torch optimizer over the model's parameters; Adam by default.
        progress: Show a bar; by default only where somebody watches (a terminal).
        label: Text before the bar.

    Returns:
        The loss of every step, those before a resumption included.

    Raises:
        TrainingError: The loss or a gradient is not finite (the last good checkpoint stays); the
            checkpoint is damaged or belongs to another plan or model; the folder cannot be written.

    Example:
        >>> model = nn.Linear(1, 1)
        >>> target = lambda g: torch.rand(8, 1, generator=g)
        >>> fit = lambda x: (model(x) - 2 * x).square().mean()
        >>> losses = train(model, fit, target, Plan(steps=200, rate=0.1), progress=False)
        >>> losses[-1] < 1e-3
        True
    """
    chosen = optimizer or torch.optim.Adam([p for p in model.parameters() if p.requires_grad])
    path = None if folder is None else Path(folder) / CHECKPOINT
    losses: list[float] = []
    if path is not None and resume and path.exists():
        losses = load_checkpoint(path, model, chosen, plan)
    rates = [group["lr"] if optimizer else plan.rate for group in chosen.param_groups]
    bar = tqdm(
        total=plan.steps,
        initial=len(losses),
        desc=label,
        unit="step",
        disable=None if progress is None else not progress,
    )
    with bar:
        for step in range(len(losses), plan.steps):
            for group, rate in zip(chosen.param_groups, rates, strict=True):
                group["lr"] = rate * plan.factor(step)
            losses.append(
                _step(model, loss, sample(generator_of(plan.seed, step)), chosen, plan, step)
            )
            bar.update()
            bar.set_postfix_str(f"loss {losses[-1]:.4g}", refresh=False)
            if path is not None and ((step + 1) % plan.every == 0 or step + 1 == plan.steps):
                save_checkpoint(path, model, chosen, plan, losses)
    return losses


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
    value = loss(batch)
    value.backward()
    parameters = [p for p in model.parameters() if p.grad is not None]
    limit = math.inf if plan.clip is None else plan.clip
    norm = nn.utils.clip_grad_norm_(parameters, limit) if parameters else value.new_zeros(())
    number = float(value.detach())
    if not (math.isfinite(number) and bool(torch.isfinite(norm))):
        raise TrainingError(
            "a finite loss and gradient",
            f"loss {number}, gradient norm {float(norm)} at step {step + 1}",
            "lower the learning rate or set clip; the last checkpoint is untouched",
            step + 1,
        )
    optimizer.step()
    return number


def save_checkpoint(
    path: Path, model: nn.Module, optimizer: torch.optim.Optimizer, plan: Plan, losses: list[float]
) -> None:
    """Write everything a resumption needs, whole or not at all.

    Raises:
        TrainingError: The folder cannot be made or written.
    """
    stream = io.BytesIO()
    state = {
        "plan": asdict(plan),
        "losses": losses,
        "model": model.state_dict(),
        "optimizer": optimizer.state_dict(),
        "random": torch.get_rng_state(),
    }
    torch.save(state, stream)
    write_atomic(path, stream.getvalue(), TrainingError)


def load_checkpoint(
    path: Path, model: nn.Module, optimizer: torch.optim.Optimizer, plan: Plan
) -> list[float]:
    """Restore model, optimizer and torch's own random state; return the losses so far.

    Only tensors and plain numbers are read, so a checkpoint cannot run code.

    Raises:
        TrainingError: Damaged, or made with another plan or for another model.
    """
    remedy = f"delete {path} to start anew"
    try:
        state = torch.load(path, weights_only=True)
        made, losses = state["plan"], state["losses"]
    except Exception as problem:  # torch raises many kinds for a damaged file
        raise TrainingError(
            f"a whole checkpoint {path}", f"{type(problem).__name__}", remedy, str(path)
        ) from problem
    # How often checkpoints are written decides nothing about the numbers.
    wanted = asdict(plan)
    differ = sorted(k for k in wanted if k != "every" and made.get(k) != wanted[k])
    if differ:
        was = ", ".join(f"{k} = {made.get(k)}" for k in differ)
        now = ", ".join(f"{k} = {wanted[k]}" for k in differ)
        raise TrainingError(f"a checkpoint made with {now}", was, remedy, differ)
    try:
        model.load_state_dict(state["model"])
        optimizer.load_state_dict(state["optimizer"])
    except (RuntimeError, ValueError, KeyError) as problem:
        raise TrainingError(
            "a checkpoint of this model", str(problem).splitlines()[0], remedy, str(path)
        ) from problem
    torch.set_rng_state(state["random"])
    return list(losses)
