r"""Steps 3-8 of Algorithm 1: training and upper objective in one loop, and its anchored form.

Book: chapter 6.
"""

from bmo.inner.anchored import AnchoredInner
from bmo.inner.loop import Inner
from bmo.inner.upper import Upper, require_mu, upper_gradient, upper_values

__all__ = ["AnchoredInner", "Inner", "Upper", "require_mu", "upper_gradient", "upper_values"]
