r"""Learned splitting steps, feasible by construction: Douglas-Rachford, ADMM, equilibrium, RED.

Book: chapter 4, "Feasible by construction".
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from bmo.operators.base import Operator, Preparing
from bmo.operators.equilibrium import MonotoneEquilibrium
from bmo.operators.learned import LOW, kind_of
from bmo.operators.plug_and_play import RED
from bmo.operators.spectral import largest_eigenvalue
from bmo.operators.splitting import ADMM, DouglasRachford
from bmo.operators.subproblem import Solvable
from bmo.parameters import Interval, Positive
from bmo.prox import Prox
from bmo.smooth import Smooth


class LearnedDouglasRachford(DouglasRachford):
    r"""Douglas-Rachford with a learned :math:`\tau > 0`; parameters of f and g are learned too.

    Args:
        f: A Prox or a quadratic function.
        g: A Prox or a quadratic function.
        tau: Where :math:`\tau` starts.

    Example:
        >>> import torch, bmo
        >>> f = bmo.prox.SquaredL2(1.0, center=torch.tensor([3.0, 0.5]))
        >>> D = bmo.operators.LearnedDouglasRachford(f, bmo.prox.L1(1.0))
        >>> z = bmo.GKM(D, 0.5).iterate(torch.zeros(2), tol=1e-7).value
        >>> D.solution(z).detach().round(decimals=4)
        tensor([2., 0.])
    """

    def __init__(self, f: Solvable, g: Solvable, tau: float | Tensor = 1.0) -> None:
        Preparing.__init__(self)
        self.f, self.g, self.check = f, g, False
        self.certified = "by construction"
        self.length = Positive(torch.as_tensor(tau).to(kind_of(f, g)), low=LOW * float(tau))

    def _number(self) -> Tensor:
        return self.length()


class LearnedADMM(ADMM):
    r"""ADMM in one variable with a learned penalty :math:`\beta > 0`.

    Args:
        f: A Prox or a quadratic function; its parameters are learned too.
        g: A Prox or a quadratic function, likewise.
        beta: Where :math:`\beta` starts.

    Example:
        >>> import torch, bmo
        >>> f = bmo.prox.SquaredL2(1.0, center=torch.tensor([3.0, 0.5]))
        >>> D = bmo.operators.LearnedADMM(f, bmo.prox.L1(1.0, learn=True))
        >>> w = bmo.GKM(D, 0.5).iterate(torch.zeros(2), tol=1e-7).value
        >>> D.variables(w)[0].detach().round(decimals=4)
        tensor([2., 0.])
    """

    def __init__(self, f: Solvable, g: Solvable, beta: float | Tensor = 1.0) -> None:
        Preparing.__init__(self)
        self.f, self.g, self.check = g, f, False  # D = R_f R_g: the roles are exchanged
        self.certified = "by construction"
        self.penalty = Positive(torch.as_tensor(beta).to(kind_of(f, g)), low=LOW * float(beta))

    def _number(self) -> Tensor:
        return 1 / self.penalty()


class LearnedMonotoneEquilibrium(MonotoneEquilibrium):
    r"""A monotone equilibrium network with learned weights.

    :math:`I - W = mI + A^\top A + S - S^\top`. So :math:`\langle(I - W)w, w\rangle \ge m|w|^2`
    for all A and S, and the step is :math:`a = t\,2m/\|I - W\|^2` with :math:`t \le 1`. The input
    enters as :math:`Ux + c`.

    Args:
        size: n, the width of the layer.
        inputs: Length of the input x.
        activation: :math:`f`; ``Indicator(Nonnegative())`` is the ReLU.
        margin: :math:`m > 0`.
        dtype: Of the parameters.

    Example:
        >>> import torch, bmo
        >>> relu = bmo.prox.Indicator(bmo.sets.Nonnegative())
        >>> D = bmo.operators.LearnedMonotoneEquilibrium(4, 2, relu)
        >>> D.bind(x=torch.ones(3, 2))(torch.zeros(3, 4)).shape
        torch.Size([3, 4])
    """

    certified = "by construction"

    def __init__(
        self,
        size: int,
        inputs: int,
        activation: Prox,
        margin: float = 0.5,
        dtype: torch.dtype | None = None,
    ) -> None:
        Preparing.__init__(self)
        self.activation, self.check = activation, False
        self.margin = float(margin)
        scale = size**-0.5
        self.A = nn.Parameter(scale * torch.randn(size, size, dtype=dtype))
        self.S = nn.Parameter(scale * torch.randn(size, size, dtype=dtype))
        self.U = nn.Parameter(inputs**-0.5 * torch.randn(size, inputs, dtype=dtype))
        self.c = nn.Parameter(torch.zeros(size, dtype=dtype))
        self.fraction = Interval(torch.tensor(0.5, dtype=dtype), LOW, 1.0)
        self.register_buffer("x", torch.zeros(inputs, dtype=dtype))
        self.x: Tensor

    def _depends(self) -> list[Tensor]:
        return Preparing._depends(self)

    def _compute(self) -> tuple[Tensor, Tensor, float]:
        eye = torch.eye(self.A.shape[0], dtype=self.A.dtype, device=self.A.device)
        G = self.margin * eye + self.A.mT @ self.A + self.S - self.S.mT
        a = self.fraction() * 2 * self.margin / largest_eigenvalue(G.mT @ G)
        return G, a, float(self.fraction().detach())

    def _injection(self) -> Tensor:
        return self.x @ self.U.mT + self.c


class LearnedRED(RED):
    r"""RED with a learned weight :math:`\lambda` and step :math:`2t/(L + 2\lambda)`, t at most 1.

    Args:
        smooth: :math:`f`, with its curvature L.
        denoiser: :math:`N`, nonexpansive in the Euclidean metric by construction.
        weight: Where :math:`\lambda` starts.

    Example:
        >>> import torch, bmo
        >>> f = bmo.LeastSquares(torch.eye(2), torch.tensor([3.0, 1.0]))
        >>> N = bmo.operators.Lambda(lambda u: 0 * u, bmo.metric.Identity())
        >>> D = bmo.operators.LearnedRED(f, N)
        >>> bmo.GKM(D, 0.5).iterate(torch.zeros(2), tol=1e-7).value.round(decimals=4)
        tensor([1.5000, 0.5000])
    """

    def __init__(self, smooth: Smooth, denoiser: Operator, weight: float | Tensor = 1.0) -> None:
        super().__init__(smooth, denoiser, weight)
        like = kind_of(smooth, denoiser)
        self.strength = Positive(torch.as_tensor(weight).to(like), low=LOW * float(weight))
        self.fraction = Interval(torch.tensor(0.5).to(like), LOW, 1.0)

    def _numbers(self) -> tuple[Tensor, Tensor]:
        weight = self.strength()
        return weight, self.fraction() * 2 / (self.L + 2 * weight)
