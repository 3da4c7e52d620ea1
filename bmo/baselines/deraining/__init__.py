"""Rain removal: networks with their published weights, a classical method, and one measure.

* :mod:`bmo.baselines.deraining.progressive`: PReNet and PRN (class ENA).
* :mod:`bmo.baselines.deraining.pairs`: the test pairs of Rain100L and Rain100H.
* :mod:`bmo.baselines.deraining.measuring`: PSNR and SSIM as the tables of the field print them.
* :mod:`bmo.baselines.deraining.directional`: a classical method (class UNH).
* :mod:`bmo.baselines.deraining.report`: the record of all of them.
* :mod:`bmo.baselines.deraining.command`: a whole test set, image by image, resumable.
"""

from bmo.baselines.deraining.measuring import KEYS, mean, measure_set, score
from bmo.baselines.deraining.pairs import DATASETS, pair
from bmo.baselines.deraining.progressive import METHODS, Progressive, published

__all__ = [
    "DATASETS",
    "KEYS",
    "METHODS",
    "Progressive",
    "mean",
    "measure_set",
    "pair",
    "published",
    "score",
]
