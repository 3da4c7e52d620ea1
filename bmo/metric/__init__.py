r"""Metrics: the inner product :math:`\langle u, v\rangle_H = u^\top H v` of the iteration.

Book: chapter 2. One file for each kind of :math:`H`.
"""

from bmo.metric.base import Metric, exact, require_positive, require_same_kind
from bmo.metric.block import Block
from bmo.metric.dense import Dense
from bmo.metric.diagonal import Diagonal, Identity, Scaled
from bmo.metric.functional import Functional
from bmo.metric.half_spectral import HalfSpectral
from bmo.metric.primal_dual import PrimalDual
from bmo.metric.spectral import Spectral

__all__ = [
    "Block",
    "Dense",
    "Diagonal",
    "Functional",
    "HalfSpectral",
    "Identity",
    "Metric",
    "PrimalDual",
    "Scaled",
    "Spectral",
    "exact",
    "require_positive",
    "require_same_kind",
]
