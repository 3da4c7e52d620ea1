"""What learned methods share: their numbers out and in again, and a rate for each kind of them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from bmo import record
from bmo.errors import RecordError


class Learned(nn.Module):
    """A learned method by its name.

    Args:
        name: Its name.

    Example:
        >>> one, two = Learned("one"), Learned("two")
        >>> one.w, two.w = (nn.Parameter(torch.full((1,), v)) for v in (1.0, 2.0))
        >>> two.take(one.learned())
        >>> two.w.item()
        1.0
    """

    def __init__(self, name: str) -> None:
        super().__init__()
        self.name = name

    def learned(self) -> dict[str, Tensor]:
        """The parameters by name: what :meth:`take` restores."""
        return {name: p.detach() for name, p in self.named_parameters()}

    def take(self, learned: dict[str, Tensor]) -> None:
        """Set every parameter.

        Raises:
            RecordError: One is missing, or has another shape.
        """
        own = dict(self.named_parameters())
        wrong = sorted(k for k in own if k not in learned or learned[k].shape != own[k].shape)
        if wrong:
            raise RecordError(
                f"weights of {self.name}", f"none that fit {wrong[0]}", "train it again", wrong
            )
        with torch.no_grad():
            for name, p in own.items():
                p.copy_(learned[name])


def adam(
    model: nn.Module, rate: float, number_rate: float, numbers: tuple[str, ...]
) -> torch.optim.Adam:
    """Adam with one rate for networks, and another for raw numbers, which have the size of one.

    Args:
        model: What is learned.
        rate: Learning rate of networks.
        number_rate: The same for raw numbers.
        numbers: How the names of raw numbers end.

    Example:
        >>> model = nn.ParameterDict({"w": torch.ones(2), "raw": torch.ones(1)})
        >>> [(g["lr"], len(g["params"])) for g in adam(model, 0.1, 0.5, ("raw",)).param_groups]
        [(0.1, 1), (0.5, 1)]
    """
    learned = [(name, p) for name, p in model.named_parameters() if p.requires_grad]
    groups = [
        {"params": [p for name, p in learned if not name.endswith(numbers)], "lr": rate},
        {"params": [p for name, p in learned if name.endswith(numbers)], "lr": number_rate},
    ]
    return torch.optim.Adam(groups)


def recorded(name: str, method: str) -> dict[str, Any]:
    """The settings of a record that has the method, with tuples for its lists.

    Raises:
        RecordError: No such record, or the method is not in it.
    """
    found = record.find(name).settings
    if method not in found["methods"]:
        raise RecordError(
            f"a method of {', '.join(found['methods'])}", repr(method), "choose one", method
        )
    return tuples(found)


def tuples(found: Mapping[str, Any]) -> dict[str, Any]:
    """The same with tuples for lists, as settings have them.

    Example:
        >>> tuples({"widths": [4, 6], "blocks": 1})
        {'widths': (4, 6), 'blocks': 1}
    """
    return {k: tuple(v) if isinstance(v, list) else v for k, v in found.items()}
