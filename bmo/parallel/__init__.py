r"""Several processes, one training: each takes its part of every batch.

Book: chapter 9. A batch of :math:`N` points is cut into slices of :math:`n_r` points, one for
each process :math:`r`. A mean over the batch is then a weighted mean over the processes, and so
is its gradient,

.. math:: \nabla\varphi = \sum_r \frac{n_r}{N}\,\nabla\varphi_r,

exactly, also where the slices differ in length. Every process draws the whole batch from the same
seed and keeps its slice. So the numbers do not depend on how many processes there are, but for
rounding.

Why the gradients are summed by hand and not by torch's ``DistributedDataParallel``: that wrapper
acts when ``.backward()`` writes into ``.grad``. :func:`bmo.hypergradient.hypergradient` writes
into no ``.grad``, so the wrapper would never act, and every process would go its own way without a
word. It also takes the plain mean over the processes, which is wrong for slices of different
lengths. A module of your own that calls the inner loop can be wrapped all the same, as long as you
call ``.backward()``: multiply its loss by ``weight * world().size``.
"""

from bmo.parallel.exchange import average, average_grad, from_first, same_start
from bmo.parallel.processes import World, backend, main_process, session, world
from bmo.parallel.slices import shard

__all__ = [
    "World",
    "average",
    "average_grad",
    "backend",
    "from_first",
    "main_process",
    "same_start",
    "session",
    "shard",
    "world",
]
