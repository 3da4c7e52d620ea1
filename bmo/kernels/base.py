"""What a step with an adjoint by hand must offer, and where gradients are added up."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor


class Gradients:
    """Where a backward pass adds up the gradients of the tensors of a kernel.

    Example:
        >>> import torch
        >>> from bmo import kernels
        >>> gradients = kernels.Gradients([torch.zeros(2), torch.zeros(2)], [True, False])
        >>> gradients.add(0, torch.ones(3, 2))
        >>> gradients.total
        [tensor([3., 3.]), None]
    """

    def __init__(self, inputs: Sequence[Tensor], wanted: Sequence[bool]) -> None:
        self.total: list[Tensor | None] = [
            torch.zeros_like(t) if w else None for t, w in zip(inputs, wanted, strict=True)
        ]

    def wants(self, i: int) -> bool:
        """Whether tensor ``i`` is learned."""
        return self.total[i] is not None

    def add(self, i: int, part: Tensor) -> None:
        """Add ``part``, summed over the axes along which tensor ``i`` was broadcast."""
        total = self.total[i]
        if total is not None:
            total += part.sum_to_size(total.shape)

    def add_entries(self, i: int, left: Tensor, right: Tensor, scale: float = 1.0) -> None:
        """Add ``scale * left * right``, entry by entry, summed as in :meth:`add`."""
        total = self.total[i]
        if total is None:
            return
        if total.shape == left.shape:
            total.addcmul_(left, right, value=scale)
        else:
            self.add(i, scale * left * right)

    def add_product(self, i: int, left: Tensor, right: Tensor, scale: float = 1.0) -> None:
        r"""Add ``scale`` :math:`\sum l^\top r` over the batch, without a tensor in between."""
        total = self.total[i]
        if total is not None:
            total.addmm_(left.reshape(-1, left.shape[-1]).T, right.reshape(-1, right.shape[-1]),
                         alpha=scale)  # fmt: skip


class Kernel(ABC):
    r"""A step :math:`u \mapsto D(u)` and its adjoint.

    Attributes:
        inputs: The tensors it depends on, with their graph; any of them may be learned.

    An example: :class:`bmo.kernels.AffineSoft`.
    """

    inputs: tuple[Tensor, ...]

    def serves(self, u: Tensor) -> bool:
        """Whether the inputs are all that is learned in it, asked at one point."""
        return True

    @abstractmethod
    def forward(self, u: Tensor, values: Sequence[Tensor], keep: bool = True) -> tuple[Tensor, Any]:
        """:math:`D(u)`, and (to ``keep``) what :meth:`adjoint` needs; ``values`` are the inputs."""

    @abstractmethod
    def adjoint(
        self, kept: Any, cotangent: Tensor, values: Sequence[Tensor], gradients: Gradients
    ) -> Tensor:
        r""":math:`(\partial_uD)^\top c`; what falls to the inputs is added to ``gradients``."""


def reaches_only(g: Tensor, ends: Sequence[Tensor]) -> bool:
    """Whether the graph of ``g`` ends at these leaves alone: no other is captured in it.

    Example:
        >>> import torch
        >>> from bmo import kernels
        >>> w = torch.ones(1, requires_grad=True)
        >>> v = torch.ones(1, requires_grad=True)
        >>> kernels.reaches_only(2 * w, [w]), kernels.reaches_only(v * w, [w])
        (True, False)
    """
    seen: set[Any] = set()
    allowed = {id(t) for t in ends}
    todo = [g.grad_fn] if g.grad_fn is not None else []
    while todo:
        node = todo.pop()
        variable = getattr(node, "variable", None)
        if variable is not None and id(variable) not in allowed:
            return False
        for below, _ in node.next_functions:
            if below is not None and below not in seen:
                seen.add(below)
                todo.append(below)
    return True
