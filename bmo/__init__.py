"""Bilevel Meta Optimization: train and hyper-train together, with proofs that both converge."""

from bmo import (
    bounds,
    certify,
    data,
    errors,
    hypergradient,
    ledger,
    measure,
    metric,
    networks,
    operators,
    parameters,
    performance,
    problems,
    prox,
    record,
    sets,
    smooth,
    solve,
)
from bmo.gkm import GKM
from bmo.inner import AnchoredInner, Inner
from bmo.operators import ProximalGradient
from bmo.result import Result, Status
from bmo.schedules import schedule
from bmo.smooth import LeastSquares

__version__ = "0.1.0"

__all__ = [
    "GKM",
    "AnchoredInner",
    "Inner",
    "LeastSquares",
    "ProximalGradient",
    "Result",
    "Status",
    "bounds",
    "certify",
    "data",
    "errors",
    "hypergradient",
    "ledger",
    "measure",
    "metric",
    "networks",
    "operators",
    "parameters",
    "performance",
    "problems",
    "prox",
    "record",
    "schedule",
    "sets",
    "smooth",
    "solve",
]
