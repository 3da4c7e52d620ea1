"""What the book's methods are compared with, by family.

* :mod:`bmo.baselines.classical`: ISTA and FISTA; nothing is learned (class UNH).
* :mod:`bmo.baselines.unrolled`: tied LISTA and LISTA-CP, trained without constraint (class ENA).
"""

from bmo.baselines.classical import fista, ista
from bmo.baselines.unrolled import CoupledLISTA, TiedLISTA

__all__ = ["CoupledLISTA", "TiedLISTA", "fista", "ista"]
