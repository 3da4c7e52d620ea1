"""Which process this is, and how the processes are connected. Book: chapter 9."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta

import torch
import torch.distributed as dist

from bmo.errors import TrainingError


@dataclass(frozen=True)
class World:
    """The processes of one training.

    Attributes:
        rank: Number of this process, 0 .. size - 1.
        size: How many there are.

    Example:
        >>> from bmo.parallel import World
        >>> World(rank=1, size=2)
        World(rank=1, size=2)
    """

    rank: int = 0
    size: int = 1


def world() -> World:
    """This process among the others; a process on its own is number 0 of 1.

    Raises:
        TrainingError: torchrun started several processes, and they were not connected.

    Example:
        >>> world()
        World(rank=0, size=1)
    """
    if dist.is_available() and dist.is_initialized():
        return World(dist.get_rank(), dist.get_world_size())
    if _started() > 1:
        raise TrainingError(
            "connected processes",
            f"{_started()} processes that do not know of each other",
            "put the training into `with bmo.parallel.session():`, or start it without torchrun",
            _started(),
        )
    return World()


def _started() -> int:
    """How many processes torchrun says that it started."""
    count = os.environ.get("WORLD_SIZE", "1") if "RANK" in os.environ else "1"
    return int(count) if count.isdigit() else 1


def main_process() -> bool:
    """Whether this is the process that writes files and shows progress.

    Example:
        >>> main_process()
        True
    """
    return world().rank == 0


@contextmanager
def session(patience: float = 1800.0) -> Iterator[World]:
    """Connect the processes that torchrun started; without torchrun, do nothing.

    Tensors of the processor travel by gloo, those of a GPU by nccl; each process takes the GPU of
    its own number. Where processes share a GPU, all travel by gloo: nccl cannot do that.

    Args:
        patience: Seconds to wait for the others. It must exceed what one process does alone.

    Raises:
        TrainingError: The processes do not find each other.

    Example:
        >>> with session() as here:
        ...     here.size
        1
    """
    opened = _started() > 1 and not (dist.is_available() and dist.is_initialized())
    if opened:
        with answered():
            dist.init_process_group(backend(), timeout=timedelta(seconds=patience))
    try:
        yield world()
    finally:
        if opened:
            dist.destroy_process_group()


def backend() -> str:
    """How tensors travel between the processes of this machine; it also chooses the GPU.

    Example:
        >>> "gloo" in backend()
        True
    """
    local = int(os.environ.get("LOCAL_RANK", "0"))
    beside = int(os.environ.get("LOCAL_WORLD_SIZE", "1"))
    if not torch.cuda.is_available():
        return "gloo"
    torch.cuda.set_device(local % torch.cuda.device_count())
    own = beside <= torch.cuda.device_count() and dist.is_nccl_available()
    return "cpu:gloo,cuda:nccl" if own else "gloo"


@contextmanager
def answered() -> Iterator[None]:
    """Turn torch's many errors about lost processes into one that says what to do."""
    try:
        yield
    except (RuntimeError, ValueError) as problem:
        if isinstance(problem, TrainingError):
            raise
        raise TrainingError(
            "an answer from the other processes",
            _short(problem),
            "look for the message of the one that stopped; start all again, with resume",
        ) from problem


def _short(problem: Exception) -> str:
    """The first sentence of a message of torch, without the place in its own source."""
    line = (str(problem) or type(problem).__name__).splitlines()[0]
    return re.sub(r"^\[[^\]]*\] *", "", line).split(". ")[0]
