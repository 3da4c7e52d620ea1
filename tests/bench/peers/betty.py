"""Betty (betty-ml): multilevel problems joined by an engine; its inner level is a loss."""

import logging

import torch
from torch import nn

from bmo.bench.methods import missing_package


def available():
    return missing_package("betty", "pip install betty-ml, with pip < 24.1")


class Point(nn.Module):
    def __init__(self, u):
        super().__init__()
        self.u = nn.Parameter(u.clone())

    def forward(self):
        return self.u


def engine(problem):
    from betty.configs import Config, EngineConfig
    from betty.engine import Engine
    from betty.problems import ImplicitProblem, IterativeProblem

    found = {}

    class Upper(ImplicitProblem):
        def get_batch(self):
            return None

        def training_step(self, batch):
            return problem.value(self.lower())

        def optimizer_step(self, *args, **kwargs):
            found["omega"] = self.module.u.grad.clone()  # omega stays: only its gradient is asked

    class Lower(IterativeProblem):
        def get_batch(self):
            return None

        def forward(self):
            return self.fmodule(self.params, self.buffers)

        def training_step(self, batch):
            return problem.loss(self.forward(), {"omega": self.upper.module.u})

        def on_inner_loop_start(self):
            self.params = (problem.u0.clone().requires_grad_(),)
            for state in self.optimizer.state:  # it keeps the last graph otherwise
                state["momentum_buffer"] = None

    omega, point = Point(problem.omega["omega"]), Point(problem.u0)
    upper = Upper(
        "upper",
        Config(first_order=False, retain_graph=False),
        module=omega,
        optimizer=torch.optim.SGD(omega.parameters(), lr=1.0),
        device="cpu",
    )
    lower = Lower(
        "lower",
        Config(unroll_steps=problem.steps, retain_graph=True),
        module=point,
        optimizer=torch.optim.SGD(point.parameters(), lr=problem.tau),
        device="cpu",
    )
    dependencies = {"u2l": {upper: [lower]}, "l2u": {lower: [upper]}}
    config = EngineConfig(train_iters=problem.steps, valid_step=problem.steps + 1)
    logging.disable(logging.INFO)
    try:
        whole = Engine([upper, lower], config, dependencies)
    finally:
        logging.disable(logging.NOTSET)

    def call():
        whole.run()
        return dict(found)

    return call


def register(registry):
    registry.enter("betty", "unrolled", ("P1",))(engine)
