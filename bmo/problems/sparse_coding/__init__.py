"""Sparse coding of noisy natural patches: the book's main experiment. Book: chapter 10.

* :mod:`~bmo.problems.sparse_coding.model`: the operator and the map to run.
* :mod:`~bmo.problems.sparse_coding.patches`, :mod:`~bmo.problems.sparse_coding.noise`,
  :mod:`~bmo.problems.sparse_coding.dictionary`, :mod:`~bmo.problems.sparse_coding.pictures`: data.
* :mod:`~bmo.problems.sparse_coding.measuring`: testing, without ground truth.
* :mod:`~bmo.problems.sparse_coding.settings`, :mod:`~bmo.problems.sparse_coding.pieces`,
  :mod:`~bmo.problems.sparse_coding.report`: the experiment and its record.
"""

from bmo.problems.sparse_coding.dictionary import flatten_spectrum, learn_dictionary
from bmo.problems.sparse_coding.measuring import iterate, measure, restore_image
from bmo.problems.sparse_coding.model import Coder, Restorer, stacked
from bmo.problems.sparse_coding.noise import NOISES, centre, corrupt
from bmo.problems.sparse_coding.patches import PatchBank, cut, join
from bmo.problems.sparse_coding.settings import FULL, METHODS, PAGE, Settings, settings_of

__all__ = [
    "FULL",
    "METHODS",
    "NOISES",
    "PAGE",
    "Coder",
    "PatchBank",
    "Restorer",
    "Settings",
    "centre",
    "corrupt",
    "cut",
    "flatten_spectrum",
    "iterate",
    "join",
    "learn_dictionary",
    "measure",
    "restore_image",
    "settings_of",
    "stacked",
]
