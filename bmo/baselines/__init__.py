"""What the book's methods are compared with, by family.

* :mod:`bmo.baselines.classical`: ISTA and FISTA; nothing is learned (class UNH).
* :mod:`bmo.baselines.unrolled`: tied LISTA, trained without constraint (class ENA).
"""

from bmo.baselines.classical import fista, ista
from bmo.baselines.unrolled import TiedLISTA

__all__ = ["TiedLISTA", "fista", "ista"]
