r"""Steps with their adjoints written by hand: they keep less for the backward pass than autograd.

Book: chapter 9, "What a step must keep". A proximal step keeps one byte for each entry (below,
inside or above its threshold) and the residual of the data, nothing else that autograd would.
:mod:`bmo.fused` runs a whole loop of them; every other operator goes through autograd.
"""

from bmo.kernels.base import Gradients, Kernel, reaches_only
from bmo.kernels.forward_backward import ForwardBackward, LossStep
from bmo.kernels.soft import AffineSoft, ResidualSoft

__all__ = [
    "AffineSoft",
    "ForwardBackward",
    "Gradients",
    "Kernel",
    "LossStep",
    "ResidualSoft",
    "reaches_only",
]
