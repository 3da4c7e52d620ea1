r"""Small problems with answers in closed form: what the chapters compute is checked against them.

Two kinds: a :class:`Training` problem has a step :math:`D` and a known solution; a
:class:`Bilevel` problem has hyper-parameters :math:`\omega` as well, with the solution set
:math:`S(\omega)`, the value :math:`\varphi(\omega) = \min_{S(\omega)}\ell` and its minimiser in
closed form. Everything is in double precision. Book: chapters 1 to 9.
"""

from bmo.problems.toy.base import Bilevel, Parametrised, Training
from bmo.problems.toy.bilevel import (
    box_least_squares,
    discontinuous_value,
    quadratic,
    singleton_failure,
)
from bmo.problems.toy.training import (
    constant_step,
    line,
    rotation,
    skewed_rotation,
    wrong_metric,
    wrong_projection,
)

__all__ = [
    "Bilevel",
    "Parametrised",
    "Training",
    "box_least_squares",
    "constant_step",
    "discontinuous_value",
    "line",
    "quadratic",
    "rotation",
    "singleton_failure",
    "skewed_rotation",
    "wrong_metric",
    "wrong_projection",
]
