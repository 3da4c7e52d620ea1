"""Image deconvolution: a known kernel has blurred the image, noise came on top. Book: chapter 11.

* :mod:`~bmo.problems.deconvolution.blur`: the circular blur by FFT, and its adjoint.
* :mod:`~bmo.problems.deconvolution.kernels`: random motion kernels; the eight of Levin et al.
* :mod:`~bmo.problems.deconvolution.protocol`: how observations are made, and results measured.
* :mod:`~bmo.problems.deconvolution.checks`: what is refused.
"""

from bmo.problems.deconvolution.blur import Blur, symbol_of
from bmo.problems.deconvolution.checks import (
    require_batch,
    require_image,
    require_kernel,
    require_pair,
)
from bmo.problems.deconvolution.kernels import SIDES, levin, motion_kernel, motion_kernels
from bmo.problems.deconvolution.protocol import level, noise, observe, score, similarity

__all__ = [
    "SIDES",
    "Blur",
    "level",
    "levin",
    "motion_kernel",
    "motion_kernels",
    "noise",
    "observe",
    "require_batch",
    "require_image",
    "require_kernel",
    "require_pair",
    "score",
    "similarity",
    "symbol_of",
]
