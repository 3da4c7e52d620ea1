"""higher: differentiable optimizers on modules; its inner level is a loss."""

import torch
from torch import nn

from bmo.bench.methods import missing_package
from bmo.bench.plain import named_grad


def available():
    return missing_package("higher", "pip install higher")


class Point(nn.Module):
    def __init__(self, u):
        super().__init__()
        self.u = nn.Parameter(u.clone())

    def forward(self):
        return self.u


def inner_loop(problem):
    import higher

    def call():
        leaves, point = problem.leaves(), Point(problem.u0)
        optimizer = torch.optim.SGD(point.parameters(), lr=problem.tau)
        with higher.innerloop_ctx(point, optimizer) as (model, steps):
            for _ in range(problem.steps):
                steps.step(problem.loss(model(), leaves))
            return named_grad(problem.value(model()), leaves)

    return call


def register(registry):
    registry.enter("higher", "unrolled", ("P1",))(inner_loop)
