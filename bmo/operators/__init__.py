"""Training steps D, each with its metric H and its condition. Book: chapter 4."""

from bmo.operators.base import Lambda, Operator
from bmo.operators.combine import Combination, Composition, Conjugate, Stack, Unrelaxed
from bmo.operators.forward_backward import ProximalGradient, forward_backward_delta

__all__ = [
    "Combination",
    "Composition",
    "Conjugate",
    "Lambda",
    "Operator",
    "ProximalGradient",
    "Stack",
    "Unrelaxed",
    "forward_backward_delta",
]
