r"""Convex sets U and the projection :math:`\mathrm{Proj}_{U,H}` in a metric.

.. math:: \mathrm{Proj}_{U,H}(u) = \arg\min_{x \in U} \tfrac12\|x - u\|_H^2

Book: chapter 2, "Projections and proximal steps see the metric", and Algorithm 1, step 7. Closed
forms are used where they exist; otherwise an accelerated projected gradient method with a stated
tolerance, differentiated through its optimality condition.
"""

from bmo.sets.ball import Ball
from bmo.sets.base import Set, Whole
from bmo.sets.box import Box, Nonnegative
from bmo.sets.numerical import project_numerically
from bmo.sets.product import Product

__all__ = ["Ball", "Box", "Nonnegative", "Product", "Set", "Whole", "project_numerically"]
