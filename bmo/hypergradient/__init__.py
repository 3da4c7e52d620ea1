r"""Hypergradients: the derivative of the reached upper value, by every estimator.

.. math:: \varphi_K(\omega) = \ell(u^K(\omega), \omega), \qquad
          \nabla\varphi_K = (\partial_\omega u^K)^\top\nabla_u\ell + \nabla_\omega\ell

Book: chapter 6 (reverse mode), chapter 9 (which one, when).
"""

from bmo.hypergradient.active import ActiveSet
from bmo.hypergradient.base import (
    METHODS,
    VALIDITY,
    Estimate,
    Estimator,
    HyperResult,
    register,
    require_method,
    validity,
)
from bmo.hypergradient.derivative import (
    AdjointWarning,
    Parameters,
    hypergradient,
    named_parameters,
)
from bmo.hypergradient.implicit import GMRES, ConjugateGradient, FixedPoint, Neumann
from bmo.hypergradient.recompute import Recompute
from bmo.hypergradient.unrolled import OneStep, Reverse, Truncated

__all__ = [
    "METHODS",
    "VALIDITY",
    "ActiveSet",
    "AdjointWarning",
    "ConjugateGradient",
    "Estimate",
    "Estimator",
    "FixedPoint",
    "GMRES",
    "HyperResult",
    "Neumann",
    "OneStep",
    "Parameters",
    "Recompute",
    "Reverse",
    "Truncated",
    "hypergradient",
    "named_parameters",
    "register",
    "require_method",
    "validity",
]
