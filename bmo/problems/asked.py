"""What a command was asked for: the line that gives a record again, and the device."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import torch

from bmo import parallel
from bmo.errors import TrainingError

#: Option of the command line → what it restricts.
OPTIONS = {"noise": "noises", "method": "methods", "seeds": "seeds"}


def command(experiment: str, settings: Any, settings_of: Callable[[str], Any]) -> str:
    """The command line: with ``--record`` and every option where a part of the profile was run.

    Args:
        experiment: Its name on the command line.
        settings: What was run.
        settings_of: Profile → its settings.

    Example:
        >>> from dataclasses import replace
        >>> from bmo.problems.sparse_coding.gaussian import settings_of
        >>> command("some", replace(settings_of("page"), seeds=(0, 2)), settings_of)
        'python -m bmo train some --profile page --seeds 0 2 --record'
    """
    whole = settings_of(settings.profile)
    parts = [program(), "-m bmo train", experiment, "--profile", settings.profile]
    for option, name in OPTIONS.items():
        chosen: Iterable[Any] = getattr(settings, name)
        if tuple(chosen) != tuple(getattr(whole, name)):
            parts.append(" ".join([f"--{option}", *map(str, chosen)]))
    return " ".join([*parts, *["--record"] * any(p.startswith("--") for p in parts[5:])])


def program() -> str:
    """What starts as many processes as there are now."""
    count = parallel.world().size
    return "python" if count == 1 else f"torchrun --standalone --nproc-per-node {count}"


def require_device(name: str) -> str:
    """Refuse a device that torch cannot use here.

    Raises:
        TrainingError: There is no such device.

    Example:
        >>> require_device("cpu")
        'cpu'
    """
    try:
        torch.zeros(1, device=name)
    except (RuntimeError, AssertionError) as problem:
        raise TrainingError(
            "a device that is here",
            f"{name}: {str(problem).splitlines()[0]}",
            "cpu is always here",
            name,
        ) from problem
    return name
