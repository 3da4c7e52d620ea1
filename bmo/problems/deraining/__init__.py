"""Rain removal: background and rain layer of one image. Book: chapter 12.

* :mod:`~bmo.problems.deraining.layers`: the rain layer, its adjoint, the exact curvature.
* :mod:`~bmo.problems.deraining.step`, :mod:`~bmo.problems.deraining.derainer`: D_num, and D.
* :mod:`~bmo.problems.deraining.model`: the map to run, the upper objective, the loss.
* :mod:`~bmo.problems.deraining.kernels`: rain kernels to start from.
* :mod:`~bmo.problems.deraining.statistics`, :mod:`~bmo.problems.deraining.synthesis`: what a rain
  layer shows of its making, and synthetic rain.
* :mod:`~bmo.problems.deraining.folders`, :mod:`~bmo.problems.deraining.overlap`: folders of
  training pairs; no test picture among them.
* :mod:`~bmo.problems.deraining.draws`, :mod:`~bmo.problems.deraining.pictures`: training pairs.
* :mod:`~bmo.problems.deraining.guided`, :mod:`~bmo.problems.deraining.methods`: what is learned,
  and the map that is run.
* :mod:`~bmo.problems.deraining.measuring`: testing, without ground truth.
* :mod:`~bmo.problems.deraining.settings`, :mod:`~bmo.problems.deraining.pieces`,
  :mod:`~bmo.problems.deraining.report`: the experiment and its record.
"""

from bmo.problems.deraining.derainer import Derainer
from bmo.problems.deraining.draws import Pairs, RainBank, Weather
from bmo.problems.deraining.folders import folder_pairs, load_pairs
from bmo.problems.deraining.guided import Guide, GuidedStep, Pull
from bmo.problems.deraining.kernels import line_kernel, line_kernels, published_kernels
from bmo.problems.deraining.layers import (
    curvature,
    curvature_bound,
    rain_adjoint,
    rain_layer,
    symbols,
)
from bmo.problems.deraining.measuring import trajectory
from bmo.problems.deraining.methods import RainRemover, build
from bmo.problems.deraining.model import Deraining
from bmo.problems.deraining.overlap import require_disjoint
from bmo.problems.deraining.settings import (
    CERTIFIED,
    FULL,
    METHODS,
    NOISES,
    PAGE,
    SMALL,
    Settings,
    settings_of,
)
from bmo.problems.deraining.statistics import Streaks, measure_rain, rain_of
from bmo.problems.deraining.step import RainStep
from bmo.problems.deraining.synthesis import HEAVY, LIGHT, Ranges, add_rain, draw, fit, render

__all__ = [
    "CERTIFIED",
    "FULL",
    "HEAVY",
    "LIGHT",
    "METHODS",
    "NOISES",
    "PAGE",
    "SMALL",
    "Derainer",
    "Deraining",
    "Guide",
    "GuidedStep",
    "Pairs",
    "Pull",
    "RainBank",
    "RainRemover",
    "RainStep",
    "Ranges",
    "Settings",
    "Streaks",
    "Weather",
    "add_rain",
    "build",
    "curvature",
    "curvature_bound",
    "draw",
    "fit",
    "folder_pairs",
    "line_kernel",
    "line_kernels",
    "load_pairs",
    "measure_rain",
    "published_kernels",
    "rain_adjoint",
    "rain_layer",
    "rain_of",
    "render",
    "require_disjoint",
    "settings_of",
    "symbols",
    "trajectory",
]
