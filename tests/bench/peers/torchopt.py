"""TorchOpt: differentiable optimizers (steps from a loss), and the implicit function of a root."""

import torch
from torch import nn

from bmo.bench.methods import missing_package
from bmo.bench.plain import named_grad
from bmo.bench.problems import Smooth

ADJOINT_STEPS = 60


def available():
    return missing_package("torchopt", "pip install torchopt")


class Point(nn.Module):
    def __init__(self, u):
        super().__init__()
        self.u = nn.Parameter(u.clone())


def meta_sgd(problem):
    import torchopt

    def call():
        leaves, point = problem.leaves(), Point(problem.u0)
        optimizer = torchopt.MetaSGD(point, lr=problem.tau)
        for _ in range(problem.steps):
            optimizer.step(problem.loss(point.u, leaves))
        return named_grad(problem.value(point.u), leaves)

    return call


def root(solver):
    def prepare(problem):
        import torchopt

        names = list(problem.omega)
        solve = getattr(torchopt.linear_solve, solver)(maxiter=ADJOINT_STEPS, atol=0.0, rtol=1e-10)
        numbers = tuple(range(1, len(names) + 1))

        def optimality(u, *omega):
            at = problem.prepare(dict(zip(names, omega, strict=True)))
            return (
                problem.gradient(u, at) if isinstance(problem, Smooth) else u - problem.map(u, at)
            )

        @torchopt.diff.implicit.custom_root(optimality, argnums=numbers, solve=solve)
        def solution(u, *omega):
            with torch.no_grad():
                return problem.forward()

        def call():
            leaves = problem.leaves()
            u = solution(problem.u0, *leaves.values())
            return named_grad(problem.value(u), leaves)

        return call

    return prepare


def register(registry):
    registry.enter("torchopt MetaSGD", "unrolled", ("P1",))(meta_sgd)
    registry.enter("torchopt CG", "implicit", ("P1", "P2"))(root("solve_cg"))
    registry.enter("torchopt normal CG", "implicit", ("P1", "P2"))(root("solve_normal_cg"))
