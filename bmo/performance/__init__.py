"""Performance estimation: exact worst cases of few steps, by semidefinite programming.

A method makes k steps. Its worst case over *all* problems of a class is the value of a
semidefinite program in the inner products of the finitely many points that it meets. This room
writes these programs down with PEPit and solves them. It needs the extra ``certificates``
(``pip install 'bmo-book[certificates]'``); nothing else in the package does.

* :mod:`bmo.performance.certificate`: solving, and a bound that does not trust the solver.
* :mod:`bmo.performance.fixed_points`: the Krasnoselskii-Mann and the Halpern iteration.
* :mod:`bmo.performance.loops`: Algorithm 1 and BMO-H with a merely convex upper objective.
* :mod:`bmo.performance.experiment`: the grid of the book, as a record.

Book: chapter 14, "Performance-estimation certificates".
"""

from bmo.performance.certificate import Certificate
from bmo.performance.fixed_points import halpern_worst_case, km_worst_case
from bmo.performance.loops import loop_worst_case

__all__ = ["Certificate", "halpern_worst_case", "km_worst_case", "loop_worst_case"]
