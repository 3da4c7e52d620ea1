"""Everything that a resumption of a training needs, in one file, whole or not at all.

Book: chapter 6. The file begins with the sha256 of the rest: torch itself does not notice an
altered number. Of several processes the first one writes and reads; the others are told.
"""

from __future__ import annotations

import hashlib
import io
from pathlib import Path
from typing import Any

import torch
from torch import nn

from bmo import parallel
from bmo.errors import TrainingError
from bmo.files import write_atomic


def save_checkpoint(
    path: Path,
    model: nn.Module,
    optimizer: torch.optim.Optimizer,
    plan: dict[str, Any],
    losses: list[float],
) -> None:
    """Write everything a resumption needs, whole or not at all.

    Raises:
        TrainingError: The folder cannot be made or written.
    """
    if not parallel.main_process():
        return
    stream = io.BytesIO()
    state = {
        "plan": plan,
        "losses": losses,
        "model": model.state_dict(),
        "optimizer": optimizer.state_dict(),
        "random": torch.get_rng_state(),
    }
    torch.save(state, stream)
    content = stream.getvalue()
    write_atomic(path, _seal(content) + content, TrainingError)


def load_checkpoint(
    path: Path, model: nn.Module, optimizer: torch.optim.Optimizer, plan: dict[str, Any]
) -> list[float]:
    """Restore model, optimizer and torch's own random state; return the losses so far.

    Without a checkpoint nothing is changed, and there are no losses so far.

    Raises:
        TrainingError: Damaged, or made with another plan or for another model.
    """
    there = parallel.main_process() and path.exists()
    content = parallel.from_first(_read(path) if there else None)
    if content is None:
        return []
    remedy = f"delete {path} to start anew"
    try:
        state = state_of(content)
        made, losses = state["plan"], state["losses"]
    except Exception as problem:  # torch raises many kinds for a damaged file
        said = f"{type(problem).__name__}: {problem}".splitlines()[0]
        raise TrainingError(f"a whole checkpoint {path}", said, remedy, str(path)) from problem
    # How often checkpoints are written decides nothing about the numbers.
    differ = sorted(k for k in plan if k != "every" and made.get(k) != plan[k])
    if differ:
        was = ", ".join(f"{k} = {made.get(k)}" for k in differ)
        now = ", ".join(f"{k} = {plan[k]}" for k in differ)
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


def state_of(content: bytes) -> dict[str, Any]:
    """What a checkpoint's bytes hold; only tensors and plain numbers, so it cannot run code.

    One of an older version, without a sha256 before it, is read too.

    Raises:
        ValueError: It was altered or truncated. Torch has errors of its own for other files.
    """
    line, _, rest = content.partition(b"\n")
    sealed = line.startswith(b"sha256 ")
    if sealed and line + b"\n" != _seal(rest):
        raise ValueError("another sha256: altered or truncated")
    stream = io.BytesIO(rest if sealed else content)
    state: dict[str, Any] = torch.load(stream, map_location="cpu", weights_only=True)
    return state


def _seal(content: bytes) -> bytes:
    """The first line of the file."""
    return b"sha256 " + hashlib.sha256(content).hexdigest().encode() + b"\n"


def _read(path: Path) -> bytes:
    """The bytes of a checkpoint."""
    try:
        return path.read_bytes()
    except OSError as problem:
        raise TrainingError(
            f"a readable checkpoint {path}", str(problem), "correct its permissions", str(path)
        ) from problem
