"""Image deconvolution: a known kernel has blurred the image, noise came on top. Book: chapter 11.

* :mod:`~bmo.problems.deconvolution.blur`: the circular blur by FFT, and its adjoint.
* :mod:`~bmo.problems.deconvolution.kernels`: random motion kernels; the eight of Levin et al.
* :mod:`~bmo.problems.deconvolution.protocol`: how observations are made, and results measured.
* :mod:`~bmo.problems.deconvolution.checks`: what is refused.
* :mod:`~bmo.problems.deconvolution.draws`, :mod:`~bmo.problems.deconvolution.pictures`: data.
* :mod:`~bmo.problems.deconvolution.centred`, :mod:`~bmo.problems.deconvolution.methods`: what is
  learned, and the map that is run.
* :mod:`~bmo.problems.deconvolution.measuring`: testing, without ground truth.
* :mod:`~bmo.problems.deconvolution.settings`, :mod:`~bmo.problems.deconvolution.pieces`,
  :mod:`~bmo.problems.deconvolution.report`: the experiment and its record.
"""

from bmo.problems.deconvolution.blur import Blur, symbol_of
from bmo.problems.deconvolution.building import build
from bmo.problems.deconvolution.centred import CentredPotential
from bmo.problems.deconvolution.checks import (
    require_batch,
    require_image,
    require_kernel,
    require_pair,
)
from bmo.problems.deconvolution.draws import ImageBank, Pairs
from bmo.problems.deconvolution.kernels import SIDES, levin, motion_kernel, motion_kernels
from bmo.problems.deconvolution.measuring import scores, trajectory
from bmo.problems.deconvolution.methods import Deblurrer
from bmo.problems.deconvolution.protocol import level, noise, observe, score, similarity
from bmo.problems.deconvolution.settings import (
    CERTIFIED,
    FULL,
    METHODS,
    NOISES,
    PAGE,
    SMALL,
    Settings,
    settings_of,
)

__all__ = [
    "CERTIFIED",
    "FULL",
    "METHODS",
    "NOISES",
    "PAGE",
    "SIDES",
    "SMALL",
    "Blur",
    "CentredPotential",
    "Deblurrer",
    "ImageBank",
    "Pairs",
    "Settings",
    "build",
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
    "scores",
    "settings_of",
    "similarity",
    "symbol_of",
    "trajectory",
]
