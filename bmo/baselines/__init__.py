"""What the book's methods are compared with, by family.

Each is a :class:`~bmo.baselines.base.Unrolled`: so many steps from data to a code.

* :mod:`bmo.baselines.classical`, :mod:`bmo.baselines.splitting`: ISTA, FISTA, ADMM, linearised
  ADMM, PDHG; nothing is learned (class UNH).
* :mod:`bmo.baselines.lista`, :mod:`bmo.baselines.alista`, :mod:`bmo.baselines.tista`,
  :mod:`bmo.baselines.dladmm`: networks with layers of their own, trained without a constraint
  (class ENA).
* :mod:`bmo.baselines.deq`: a deep equilibrium model (class ENA).
* :mod:`bmo.baselines.unrolled`: one layer of LISTA and LISTA-CP as an operator of the book (ENA);
  :class:`~bmo.baselines.base.Repeated` makes any map of the book a method of the comparison.

Apart from these, from image to image: :mod:`bmo.baselines.deraining`, rain removal.
"""

from bmo.baselines.alista import ALISTA, analytic_weight, coherence
from bmo.baselines.base import Repeated, Unrolled
from bmo.baselines.classical import FISTA, ISTA, fista, ista
from bmo.baselines.deq import DEQ
from bmo.baselines.dladmm import DLADMM
from bmo.baselines.lista import LISTA, LISTACP, LISTACPSS
from bmo.baselines.splitting import ADMM, PDHG, LinearisedADMM
from bmo.baselines.tista import TISTA
from bmo.baselines.unrolled import CoupledLISTA, TiedLISTA

__all__ = [
    "ADMM",
    "ALISTA",
    "DEQ",
    "DLADMM",
    "FISTA",
    "ISTA",
    "LISTA",
    "LISTACP",
    "LISTACPSS",
    "PDHG",
    "TISTA",
    "CoupledLISTA",
    "LinearisedADMM",
    "Repeated",
    "TiedLISTA",
    "Unrolled",
    "analytic_weight",
    "coherence",
    "fista",
    "ista",
]
