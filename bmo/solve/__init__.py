r"""Algorithm 1: train and hyper-train together. To be held beside the listing in chapter 6.

.. math::
    \omega^t = \mathrm{Proj}_\Omega\bigl(\omega^{t-1} - \gamma\,\nabla\varphi_K(\omega^{t-1})\bigr),
    \quad \varphi_K(\omega) = \ell(u^K(\omega), \omega), \quad t = 1, \dots, T
"""

from bmo.solve.algorithm import solve
from bmo.solve.history import Solution

__all__ = ["Solution", "solve"]
