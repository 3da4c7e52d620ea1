"""Plain torch: what a careful user writes without any library."""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from bmo.bench.methods import Gradient, Registry
from bmo.bench.problems import Parts, Problem, Smooth
from bmo.errors import DomainError


def named_grad(value: Tensor, leaves: Parts) -> Parts:
    """The gradients of a value by name of the leaf."""
    return dict(zip(leaves, torch.autograd.grad(value, list(leaves.values())), strict=True))


def loop(problem: Problem) -> Gradient:
    """Automatic differentiation of the loop."""

    def call() -> Parts:
        leaves = problem.leaves()
        u = problem.run(problem.prepare(leaves))
        return named_grad(problem.value(u), leaves)

    return call


def loop_of_loss(problem: Problem) -> Gradient:
    """The same, each step taken from the derivative of the lower loss."""
    if not isinstance(problem, Smooth) or problem.diagonal:
        raise DomainError("P1 with one step length", problem.name, "use the map", problem.name)

    def call() -> Parts:
        leaves = problem.leaves()
        u = problem.u0.clone().requires_grad_()
        for _ in range(problem.steps):
            (g,) = torch.autograd.grad(problem.loss(u, leaves), u, create_graph=True)
            u = u - problem.tau * g
        return named_grad(problem.value(u), leaves)

    return call


def segments(problem: Problem) -> Gradient:
    r"""Checkpoints at every :math:`\lceil\sqrt K\rceil` steps; each segment is run again."""
    length = math.ceil(math.sqrt(problem.steps))

    def call() -> Parts:
        leaves = problem.leaves()
        at = problem.prepare(leaves)

        def segment(first: int, u: Tensor) -> Tensor:
            for k in range(first, min(first + length, problem.steps + 1)):
                u = problem.step(k, u, at)
            return u

        u = problem.u0
        for first in range(1, problem.steps + 1, length):
            u = checkpoint(segment, first, u, use_reentrant=False)
        return named_grad(problem.value(u), leaves)

    return call


def register(registry: Registry) -> None:
    """Enter plain torch."""
    registry.enter("torch", "unrolled", ("P1", "P2", "P3"))(loop)
    registry.enter("torch, from a loss", "unrolled", ("P1",))(loop_of_loss)
    registry.enter("torch checkpoint", "unrolled", ("P1", "P2", "P3"))(segments)
