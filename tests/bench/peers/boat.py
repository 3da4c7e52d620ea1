"""BOAT (boat-torch): bilevel solvers by name, among them the aggregation of BDA; from losses."""

import importlib.util
import os
import sys
import types

import torch
from torch import nn

from bmo.bench.aggregated import Aggregated
from bmo.bench.methods import missing_package
from bmo.bench.problems import Smooth
from bmo.errors import DomainError

ADJOINT_STEPS = 60


def available():
    if importlib.util.find_spec("boat_torch") is None:
        return missing_package("boat_torch", "pip install boat-torch; it needs numpy 1.26")
    try:
        import boat_torch  # noqa: F401
    except Exception as problem:
        return f"cannot be imported: {problem}"
    return None


class Point(nn.Module):
    def __init__(self, u):
        super().__init__()
        self.u = nn.Parameter(u.clone())

    def forward(self):
        return self.u


def _losses(base, mu, name):
    """BOAT finds its losses by name in a module."""

    def value(model, params):
        return model(params=params)[()] if params is not None else model()

    def lower(ll_feed_dict, upper_model, lower_model, params=None):
        return base.loss(value(lower_model, params), {"omega": upper_model.u})

    def upper(ul_feed_dict, upper_model, lower_model, params=None):
        return base.value(value(lower_model, params))

    def mixed(ll_feed_dict, ul_feed_dict, upper_model, lower_model, params=None):
        u = value(lower_model, params)
        fit = base.loss(u, {"omega": upper_model.u})
        return ll_feed_dict["alpha"] * base.value(u) + (1 - mu) * fit

    module = types.ModuleType(name)
    module.lower, module.upper, module.mixed = lower, upper, mixed
    sys.modules[name] = module
    keys = {"lower_level_loss": "lower", "upper_level_loss": "upper", "gda_loss": "mixed"}
    return {key: {"function": f"{name}.{what}", "params": {}} for key, what in keys.items()}


def solver(gm_op, na_op):
    def prepare(problem):
        from boat_torch import boat_opt

        aggregated = isinstance(problem, Aggregated)
        base = problem.base if aggregated else problem
        mu, s = (problem.mu, problem.plan) if aggregated else (0.0, 0.0)
        omega, point = Point(base.omega["omega"]), Point(base.u0)
        config = {
            "fo_op": None,
            "gm_op": gm_op,
            "na_op": na_op,
            "lower_level_model": point,
            "upper_level_model": omega,
            "lower_level_var": list(point.parameters()),
            "upper_level_var": list(omega.parameters()),
            "lower_level_opt": torch.optim.SGD(point.parameters(), lr=base.tau),
            "upper_level_opt": torch.optim.SGD(omega.parameters(), lr=0.0),
            "lower_iters": base.steps,
            "device": "cpu",
            "accumulate_grad": False,
            "return_grad": True,
            "copy_last_param": False,
            "loss_log_path": os.devnull,
            "GDA": {"alpha_init": mu * s, "alpha_decay": 1.0},
            "RGT": {"truncate_iter": 0},
            "CG": {"tolerance": 1e-10, "k": ADJOINT_STEPS},
        }
        whole = boat_opt.Problem(config, _losses(base, mu, f"_boat_losses_{id(base)}"))
        whole.build_ll_solver()
        whole.build_ul_solver()

        def call():
            omega.u.grad = None
            whole.loss_history.clear()
            grads, _ = whole.run_iter({}, {}, 0)
            return {"omega": grads[0].clone()}

        return call

    return prepare


def without_metric_and_box(problem):
    """Its loop has one step length, no set U, and steps that are constant or fall geometrically."""
    if problem.anchored or not isinstance(problem.base, Smooth):
        raise DomainError("Algorithm 1 on P1", "another loop", "BOAT cannot express it", problem)
    base = Smooth(problem.steps, *problem.base.A.shape)
    return Aggregated(base, problem.mu, box=float("inf"), plan=0.5)


def register(registry):
    registry.enter("boat RAD", "unrolled", ("P1",))(solver(["NGD"], ["RAD"]))
    registry.enter("boat CG", "implicit", ("P1",))(solver(["NGD"], ["CG"]))
    registry.enter(
        "boat GDA (no metric, no box)", "unrolled", ("P3",), instead=without_metric_and_box
    )(solver(["NGD", "GDA"], ["RAD"]))
