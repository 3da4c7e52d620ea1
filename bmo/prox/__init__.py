r"""Convex functions with their proximal operators in a metric.

.. math:: \mathrm{prox}^H_g(u) = \arg\min_x\; g(x) + \tfrac12\|x - u\|_H^2

Book: chapter 2. A step length is a metric: :math:`\mathrm{prox}_{\tau g}` is the proximal
operator in ``Scaled(1 / tau)``. Where no closed form exists the metric is refused.
"""

from bmo.prox.base import Prox, Zero
from bmo.prox.norms import L1, GroupL1, NonnegativeL1, SquaredL2, soft
from bmo.prox.others import Conjugate, Indicator

__all__ = [
    "L1",
    "Conjugate",
    "GroupL1",
    "Indicator",
    "NonnegativeL1",
    "Prox",
    "SquaredL2",
    "Zero",
    "soft",
]
