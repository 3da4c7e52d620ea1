"""Training steps D, each with its metric H and its condition. Book: chapter 4."""

from bmo.operators.base import Lambda, Operator
from bmo.operators.combine import Combination, Composition, Conjugate, Stack, Unrelaxed
from bmo.operators.forward_backward import ProximalGradient, forward_backward_delta
from bmo.operators.learned_forward_backward import LearnedForwardBackward
from bmo.operators.spectral import largest_eigenvalue

__all__ = [
    "Combination",
    "Composition",
    "Conjugate",
    "Lambda",
    "LearnedForwardBackward",
    "Operator",
    "ProximalGradient",
    "Stack",
    "Unrelaxed",
    "forward_backward_delta",
    "largest_eigenvalue",
]
