r"""The Gaussian bench of chapter 10: sparse codes through a random dictionary, at full scale.

* :mod:`~bmo.problems.sparse_coding.gaussian.settings`: every size, seed and range, in one file.
* :mod:`~bmo.problems.sparse_coding.gaussian.draws`: dictionaries, codes, observations, shifts.
* :mod:`~bmo.problems.sparse_coding.gaussian.classical`: what is chosen once and frozen (UNH).
* :mod:`~bmo.problems.sparse_coding.gaussian.methods`: what is learned (ENA, GKM, BMO, BMO-H).
* :mod:`~bmo.problems.sparse_coding.gaussian.steps`: their certified steps.
* :mod:`~bmo.problems.sparse_coding.gaussian.networks`: the literature's networks (ENA).
* :mod:`~bmo.problems.sparse_coding.gaussian.measuring`: testing, without ground truth.
* :mod:`~bmo.problems.sparse_coding.gaussian.racing`: steps and time to a given error.
* :mod:`~bmo.problems.sparse_coding.gaussian.learning`,
  :mod:`~bmo.problems.sparse_coding.gaussian.pieces`,
  :mod:`~bmo.problems.sparse_coding.gaussian.report`: the experiment and its record.
"""

from bmo.problems.sparse_coding.gaussian.classical import choose, classical_method
from bmo.problems.sparse_coding.gaussian.draws import (
    Data,
    evaluation_sets,
    gaussian_dictionary,
    held_out,
    observe,
    perturbed,
)
from bmo.problems.sparse_coding.gaussian.measuring import measure, trajectory, validation_nmse
from bmo.problems.sparse_coding.gaussian.methods import CodeError, Contender, build
from bmo.problems.sparse_coding.gaussian.networks import Network, network
from bmo.problems.sparse_coding.gaussian.settings import (
    CERTIFIED,
    CLASSICAL,
    FULL,
    LAYERWISE,
    LEARNED,
    METHODS,
    NETTED,
    NETWORKS,
    NOISES,
    PAGE,
    UNCONSTRAINED,
    Settings,
    settings_of,
)

__all__ = [
    "CERTIFIED",
    "CLASSICAL",
    "FULL",
    "LAYERWISE",
    "LEARNED",
    "METHODS",
    "NETTED",
    "NETWORKS",
    "NOISES",
    "PAGE",
    "UNCONSTRAINED",
    "CodeError",
    "Contender",
    "Data",
    "Network",
    "Settings",
    "build",
    "choose",
    "classical_method",
    "evaluation_sets",
    "gaussian_dictionary",
    "held_out",
    "measure",
    "network",
    "observe",
    "perturbed",
    "settings_of",
    "trajectory",
    "validation_nmse",
]
