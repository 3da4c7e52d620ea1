r"""The networks of the literature in the bench: layers of their own, or an equilibrium. Class ENA.

Book: chapter 10. All layers are trained at once, on the code that the last one returns, with one
learning rate for all parameters; where that is too high for a long training, with the next best.
The papers of LISTA-CP, ALISTA and TISTA train layer after layer,
and that of D-LADMM on the sum over all layers; here every method has the same objective, the same
codes and the same number of steps.

TISTA is told the variance of the noise and how codes are drawn, in training and in every test: it
is not told of a shift. The other methods learn all that from the codes that they see.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from torch import Tensor, nn

from bmo.baselines import ALISTA, DEQ, DLADMM, LISTA, LISTACP, LISTACPSS, TISTA, Unrolled
from bmo.errors import DomainError
from bmo.problems.sparse_coding.gaussian.draws import deviation
from bmo.problems.sparse_coding.gaussian.settings import LEVELS, NETWORKS, Settings


class Network(nn.Module):
    r"""An unrolled network: :meth:`loss` trains it, :attr:`net` runs it on observations alone.

    Args:
        name: Its name in the bench.
        net: The network.

    Example:
        >>> import torch
        >>> model = Network("ena-lista-cp", LISTACP(torch.eye(2), depth=3, penalty=1.0))
        >>> float(model.loss((torch.tensor([[3.0, 0.0]]), torch.tensor([[3.0, 0.5]]))).detach())
        0.5
    """

    def __init__(self, name: str, net: Unrolled) -> None:
        super().__init__()
        self.name, self.net = name, net

    @property
    def products(self) -> float:
        """As :attr:`bmo.baselines.Unrolled.products`."""
        return self.net.products

    def loss(self, batch: tuple[Tensor, Tensor]) -> Tensor:
        r"""Mean of :math:`\tfrac12\|u^K - x\|^2` over (codes, observations)."""
        codes, observed = batch
        return 0.5 * (self.net(observed) - codes).square().sum(-1).mean()


def network(name: str, A: Tensor, start: dict[str, Any], noise: str, settings: Settings) -> Network:
    """A fresh network at its start (the same for every seed).

    Args:
        name: Out of :data:`~bmo.problems.sparse_coding.gaussian.settings.NETWORKS`.
        A: Dictionary; its dtype is that of training.
        start: What was chosen for ``unh-ista`` and for ``unh-ladmm``.
        noise: The noise level of training.
        settings: Of the bench.

    Raises:
        DomainError: Another name.

    An example: :class:`bmo.problems.sparse_coding.gaussian.Network`.
    """
    s, K, first = settings, settings.iterations, start["unh-ista"]["penalty"]
    split, (m, n) = start["unh-ladmm"], A.shape
    variance = deviation(s.density, m, n, LEVELS[noise]) ** 2
    made: dict[str, Callable[[], Unrolled]] = {
        "ena-lista": lambda: LISTA(A, K, first),
        "ena-lista-cp": lambda: LISTACP(A, K, first),
        "ena-lista-cpss": lambda: LISTACPSS(A, K, first, s.percent, s.most),
        "ena-alista": lambda: ALISTA(A, K, first, None, 1.0, s.percent, s.most),
        "ena-tista": lambda: TISTA(A, K, variance, s.density),
        "ena-dladmm": lambda: DLADMM(A, K, split["penalty"], split["beta"], fit="l2"),
        "ena-deq": lambda: DEQ(A, s.evaluations, first, coordinates=True),
    }
    if name not in made:
        raise DomainError(f"one of {', '.join(NETWORKS)}", repr(name), "choose one", name)
    return Network(name, made[name]())
