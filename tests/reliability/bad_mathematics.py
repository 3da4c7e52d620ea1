"""Bad calls of the mathematics: metrics, sets, functions, operators, and the loops."""

from __future__ import annotations

import math
from collections.abc import Callable

import torch

import bmo
from bmo import certify, hypergradient, metric, operators, prox, sets, smooth, solve

F64 = torch.float64
ONE = torch.ones(2, dtype=F64)
EYE = torch.eye(2, dtype=F64)
FLAT = metric.Identity()


def identity() -> operators.Lambda:
    """D = I."""
    return operators.Lambda(lambda u: u, FLAT)


def ridge() -> bmo.ProximalGradient:
    """A proximal gradient step in the plane."""
    return bmo.ProximalGradient(bmo.LeastSquares(EYE, ONE), prox.L1(0.1), step=1.0)


def training() -> bmo.GKM:
    """T of :func:`ridge`."""
    return bmo.GKM(ridge(), 0.5)


def inner(**options) -> bmo.Inner:
    """The loop of :func:`training`."""
    return bmo.Inner(training(), **options)


def learned() -> bmo.Inner:
    """A loop with something to learn."""
    return bmo.Inner(bmo.GKM(operators.LearnedForwardBackward(EYE, ONE, 0.1), 0.5), mu=0.0)


def upper(u: torch.Tensor) -> torch.Tensor:
    """One value for each point."""
    return 0.5 * u.square().sum(-1)


MATHEMATICS: dict[str, Callable[[], object]] = {
    # metrics
    "dense metric, indefinite": lambda: metric.Dense(torch.tensor([[1.0, 2.0], [2.0, 1.0]])),
    "dense metric, singular": lambda: metric.Dense(torch.ones(2, 2)),
    "dense metric, not symmetric": lambda: metric.Dense(torch.ones(2, 2).triu()),
    "dense metric, not square": lambda: metric.Dense(torch.ones(2, 3)),
    "dense metric, NaN": lambda: metric.Dense(EYE * math.nan),
    "diagonal metric, a zero": lambda: metric.Diagonal(torch.tensor([1.0, 0.0])),
    "diagonal metric, infinite": lambda: metric.Diagonal(torch.tensor([1.0, math.inf])),
    "scaled metric, negative": lambda: metric.Scaled(-1.0),
    "scaled metric, a word": lambda: metric.Scaled("large"),
    "metric, point of another length": lambda: metric.Dense(EYE).norm(torch.ones(3, dtype=F64)),
    "metric, image axes missing": lambda: metric.Identity(event_dims=3).norm(ONE),
    "block metric, sizes and parts differ": lambda: metric.Block([1, 1], [FLAT]),
    "block metric, point of another length": lambda: metric.Block([2, 2], [FLAT, FLAT]).norm(ONE),
    "primal-dual metric, steps too long": lambda: metric.PrimalDual(EYE, 2.0, 2.0),
    "spectral metric, a zero frequency": lambda: metric.Spectral(torch.zeros(4)),
    "functional metric, bounds swapped": lambda: metric.Functional(lambda u: u, 2.0, 1.0),
    # sets
    "box, ends swapped": lambda: sets.Box(1.0, -1.0),
    "box, NaN": lambda: sets.Box(math.nan, 1.0),
    "ball, radius 0": lambda: sets.Ball(0.0),
    "ball, radius NaN": lambda: sets.Ball(math.nan),
    "ball, centre NaN": lambda: sets.Ball(1.0, math.nan),
    "product set, sizes and factors differ": lambda: sets.Product([1, 2], [sets.Whole()]),
    "product set, point of another length": lambda: sets.Product(
        [1, 2], [sets.Whole(), sets.Nonnegative()]
    ).project(ONE, FLAT),
    # functions
    "l1, threshold 0": lambda: prox.L1(0.0),
    "l1, threshold NaN": lambda: prox.L1(math.nan),
    "l1, threshold a word": lambda: prox.L1("small"),
    "l1 in a full metric": lambda: prox.L1(1.0)(ONE, metric.Dense(EYE)),
    "group l1, groups that do not divide": lambda: prox.GroupL1(1.0, 3)(ONE, FLAT),
    "squared l2, weight negative": lambda: prox.SquaredL2(-1.0),
    "a conjugate without closed form": lambda: prox.Conjugate(prox.L1(1.0)).value(ONE),
    "least squares, b of another length": lambda: bmo.LeastSquares(EYE, torch.ones(3, dtype=F64)),
    "least squares, NaN": lambda: bmo.LeastSquares(EYE, ONE * math.nan),
    "least squares, two dtypes": lambda: bmo.LeastSquares(EYE, ONE.float()),
    "least squares, A a list": lambda: bmo.LeastSquares([[1.0]], ONE),
    "least squares, A without columns": lambda: bmo.LeastSquares(EYE[:, :0], ONE),
    "quadratic, Q not positive": lambda: smooth.Quadratic(-EYE, ONE),
    "quadratic, Q not symmetric": lambda: smooth.Quadratic(EYE.cumsum(0), ONE),
    "quadratic, c of another length": lambda: smooth.Quadratic(EYE, torch.ones(3, dtype=F64)),
    "ridge, weight negative": lambda: smooth.Ridge(-1.0),
    "smooth sum of nothing": lambda: smooth.Sum(),
    "gradient, L negative": lambda: smooth.Gradient(upper, -1.0),
    # operators
    "step longer than 2 / L": lambda: bmo.ProximalGradient(
        bmo.LeastSquares(EYE, ONE), prox.L1(0.1), step=2.5
    ),
    "step negative": lambda: bmo.ProximalGradient(bmo.LeastSquares(EYE, ONE), step=-0.5),
    "step and metric together": lambda: bmo.ProximalGradient(
        bmo.LeastSquares(EYE, ONE), step=0.5, metric=FLAT
    ),
    "data of an unknown name": lambda: ridge().bind(c=ONE),
    "composition in two metrics": lambda: operators.Composition(
        identity(), operators.Lambda(lambda u: u, metric.Scaled(2.0))
    ),
    "composition of nothing": lambda: operators.Composition(),
    "combination, weights that sum to 2": lambda: operators.Combination(
        [identity(), identity()], [1.0, 1.0]
    ),
    "combination, one weight missing": lambda: operators.Combination(
        [identity(), identity()], [1.0]
    ),
    "averagedness above 1": lambda: operators.Lambda(lambda u: u, FLAT, averaged=1.5),
    "primal-dual, steps too long": lambda: operators.PDHG(
        prox.L1(1.0), prox.L1(1.0), EYE, tau=2.0, sigma=2.0
    ),
    "ADMM, penalty 0": lambda: operators.ADMM(prox.L1(1.0), prox.L1(1.0), beta=0.0),
    "ALM, A and b of different lengths": lambda: operators.ProximalALM(
        bmo.LeastSquares(EYE, ONE), EYE, torch.ones(3, dtype=F64)
    ),
    "learned step, an unknown part": lambda: operators.LearnedForwardBackward(
        EYE, ONE, 0.1, learn=("Z",)
    ),
    "data step, metric unknown": lambda: operators.FourierDataStep(
        torch.ones(1, 4, 4, dtype=torch.complex128), torch.ones(1, 4, 4), metric="taxi"
    ),
    # the training map
    "alpha = 1": lambda: bmo.GKM(identity(), 1.0),
    "alpha = 0": lambda: bmo.GKM(identity(), 0.0),
    "alpha = NaN": lambda: bmo.GKM(identity(), math.nan),
    "alpha a word": lambda: bmo.GKM(identity(), "half"),
    "alpha None": lambda: bmo.GKM(identity(), None),
    "operator a plain function": lambda: bmo.GKM(lambda u: u, 0.5),
    "iterations negative": lambda: training().iterate(ONE, iterations=-1),
    "iterations a fraction": lambda: training().iterate(ONE, iterations=2.5),
    "tolerance negative": lambda: training().iterate(ONE, tol=-1.0),
    "tolerance NaN": lambda: training().iterate(ONE, tol=math.nan),
    "start of another length": lambda: training().iterate(torch.ones(3, dtype=F64)),
    "start of integers": lambda: training().iterate(torch.ones(2, dtype=torch.int64)),
    "start of another dtype": lambda: training().iterate(ONE.float()),
    "start on another device": lambda: training().iterate(ONE.to("meta")),
    "start infinite": lambda: training().iterate(ONE * math.inf),
    "start a list": lambda: training().iterate([1.0, 1.0]),
    "start without points": lambda: training().iterate(torch.ones(0, 2, dtype=F64)),
    "start without axes": lambda: training().iterate(torch.tensor(1.0, dtype=F64)),
    "an iteration that overflows": lambda: bmo.GKM(
        operators.Lambda(lambda u: 1e200 * u, FLAT), 0.5
    ).iterate(ONE),
    # the inner loop
    "mu = 1": lambda: inner(mu=1.0),
    "mu negative": lambda: inner(mu=-0.1),
    "mu a word": lambda: inner(mu="0.3"),
    "schedule grows": lambda: inner(steps=[0.1, 0.2])(ONE, upper, 2),
    "schedule too short": lambda: inner(steps=[0.1])(ONE, upper, 2),
    "schedule zero": lambda: inner(steps=0.0)(ONE, upper, 2),
    "schedule NaN": lambda: inner(steps=math.nan)(ONE, upper, 2),
    "schedule a word": lambda: inner(steps="fast")(ONE, upper, 2),
    "schedule, scale negative": lambda: bmo.schedule(-1.0),
    "schedule, power 2": lambda: bmo.schedule(1.0, p=2.0),
    "first step too long": lambda: inner(steps=3.0, upper_lipschitz=1.0)(ONE, upper, 1),
    "u0 outside U": lambda: inner(domain=sets.Box(-0.5, 0.5))(ONE, upper, 1),
    "inner iterations negative": lambda: inner()(ONE, upper, -1),
    "objective of a wrong shape": lambda: inner()(ONE, lambda u: u, 2),
    "objective not finite": lambda: inner()(ONE, lambda u: (u / 0).sum(-1), 2),
    "objective not a tensor": lambda: inner()(ONE, lambda u: 1.0, 2),
    "objective that ignores u": lambda: inner()(ONE, lambda u: torch.zeros((), dtype=F64), 2),
    "inner without a training map": lambda: bmo.Inner(ridge()),
    # hypergradients and Algorithm 1
    "hypergradient by an unknown method": lambda: hypergradient.hypergradient(
        learned(), ONE, upper, 2, method="magic"
    ),
    "hypergradient without parameters": lambda: hypergradient.hypergradient(inner(), ONE, upper, 2),
    "hypergradient, a parameter unknown": lambda: hypergradient.hypergradient(
        learned(), ONE, upper, 2, parameters=["nobody"]
    ),
    "implicit hypergradient of a moving map": lambda: hypergradient.hypergradient(
        bmo.Inner(learned().training_map, mu=0.5), ONE, upper, 2, method="implicit-cg"
    ),
    "Neumann series of -1 terms": lambda: hypergradient.Neumann(-1),
    "truncation after 0 steps": lambda: hypergradient.Truncated(0),
    "outer steps negative": lambda: solve.solve(learned(), ONE, upper, 2, -1, gamma=0.1),
    "outer step length negative": lambda: solve.solve(learned(), ONE, upper, 2, 1, gamma=-0.1),
    "neither gamma nor optimizer": lambda: solve.solve(learned(), ONE, upper, 2, 1),
    "projection of an unknown parameter": lambda: solve.solve(
        learned(), ONE, upper, 2, 1, gamma=0.1, projection={"nobody": sets.Whole()}
    ),
    # certificates
    "a map that expands": lambda: certify.require(
        certify.nonexpansive(operators.Lambda(lambda u: 2 * u, FLAT), size=2)
    ),
    "certificate without a size": lambda: certify.nonexpansive(identity()),
    "certificate with 0 trials": lambda: certify.nonexpansive(identity(), size=2, trials=0),
    "a relation that is no metric": lambda: certify.require(
        certify.metric_is_spd(metric.Functional(lambda u: -u, 0.5, 1.0), n=2)
    ),
}
