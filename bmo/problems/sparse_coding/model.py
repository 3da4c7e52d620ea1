r"""Sparse coding of noisy patches: the operator, the upper objective, and the map to run.

Book: chapter 10. A patch b (its level removed) is coded as :math:`b \approx Az`; salt and pepper
as :math:`b \approx Az + ce`, so that the code is :math:`u = (z, e)` and the dictionary
:math:`[A, cI]`. The upper objective sees the clean patch x,
:math:`\ell(u) = \tfrac12\|A_{dec}z - x\|^2`, and is used for hyper-training only.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from bmo.errors import DomainError
from bmo.gkm import GKM
from bmo.inner import Inner
from bmo.operators import LearnedForwardBackward, Operator
from bmo.problems.sparse_coding.noise import centre, require_noise
from bmo.schedules import Schedule


class Coder(LearnedForwardBackward):
    r"""The learned step with an elastic net, a contraction by construction.

    .. math:: D(u) = \tfrac{1}{1+\varepsilon}\,\mathrm{soft}(u - P^{-1}(G^\top Gu - Wb), \theta/p)

    The last part is the proximal operator in P of
    :math:`\sum\theta_i|u_i| + \tfrac\varepsilon2\|u\|_P^2`, so D is a
    contraction with factor :math:`1/(1+\varepsilon)` in P for every value of the parameters, and T
    one with factor :math:`1 - \alpha\varepsilon/(1+\varepsilon)`. At :math:`\varepsilon = 0` it is
    :class:`~bmo.operators.LearnedForwardBackward` itself.

    Args:
        A: Dictionary to start from, shape (m, n).
        b: Data, shape (m,) or (batch, m).
        threshold: :math:`\theta > 0` at the start.
        ridge: :math:`\varepsilon \ge 0`; fixed.
        options: Passed on (``step``, ``learn``, ``norm``).

    Raises:
        DomainError: ``ridge`` is negative or not finite.

    Example:
        >>> D = Coder(torch.eye(2), torch.tensor([3.0, 0.5]), threshold=1.0, ridge=1.0)
        >>> D(torch.zeros(2)).detach()
        tensor([1., 0.])
    """

    def __init__(
        self, A: Tensor, b: Tensor, threshold: float | Tensor, ridge: float = 0.0, **options: Any
    ) -> None:
        super().__init__(A, b, threshold, **options)
        if not 0 <= ridge < float("inf"):
            raise DomainError("a ridge >= 0", f"{ridge}", "0.05 is a start", ridge)
        self.ridge = float(ridge)

    def forward(self, u: Tensor) -> Tensor:
        return super().forward(u) / (1 + self.ridge)


def stacked(A: Tensor, noise: str, outlier: float = 1.0) -> Tensor:
    r"""The matrix of the data term: A, or :math:`[A, cI]` for salt and pepper.

    Example:
        >>> stacked(torch.ones(2, 3), "salt-pepper", 0.5).shape
        torch.Size([2, 5])
    """
    if require_noise(noise) == "gaussian":
        return A
    return torch.cat([A, outlier * torch.eye(A.shape[0]).to(A)], 1)


class Restorer(nn.Module):
    r"""An operator with its decoder: from observed patches to restored ones.

    :meth:`loss` hyper-trains through the aggregated loop and needs clean patches;
    :meth:`restore` iterates T alone and never sees any.

    Args:
        operator: The step D on codes; it has data named ``b``.
        dictionary: :math:`A_{dec}` to start from, shape (m, n_z).
        noise: ``"gaussian"`` or ``"salt-pepper"``: how the level is removed.
        alpha: Relaxation of T; 1 only for operators without a certificate, or averaged ones.
        mu: Weight of the upper step in hyper-training.
        steps: :math:`s_k`.
        iterations: K of hyper-training.
        learn_decoder: Whether :math:`A_{dec}` is part of omega.

    Example:
        >>> D = Coder(torch.eye(4), torch.zeros(4), threshold=0.1)
        >>> model = Restorer(D, torch.eye(4), "gaussian", alpha=0.9, mu=0.3, iterations=3)
        >>> model.restore(torch.ones(2, 4), [1, 2]).shape
        torch.Size([2, 2, 4])
    """

    def __init__(
        self,
        operator: Operator,
        dictionary: Tensor,
        noise: str,
        alpha: float,
        mu: float = 0.0,
        steps: Schedule | float = 1.0,
        iterations: int = 16,
        learn_decoder: bool = True,
    ) -> None:
        super().__init__()
        self.operator = operator
        self.decoder = nn.Parameter(dictionary.clone(), requires_grad=learn_decoder)
        self.noise = require_noise(noise)
        self.alpha, self.mu, self.steps, self.iterations = alpha, mu, steps, iterations

    def map(self, b: Tensor) -> GKM:
        """T on the data ``b``; relaxation 1 (plain ISTA, LISTA) is let through unchecked."""
        return GKM(self.operator.bind(b=b), self.alpha, check=self.alpha != 1)

    def start(self, b: Tensor) -> Tensor:
        r""":math:`u^0 = 0`, one code for each row of ``b``."""
        extra = b.shape[-1] if self.noise == "salt-pepper" else 0
        return b.new_zeros(*b.shape[:-1], self.decoder.shape[1] + extra)

    def decode(self, u: Tensor) -> Tensor:
        r""":math:`A_{dec}z`, without the level."""
        return u[..., : self.decoder.shape[1]] @ self.decoder.mT

    def upper(self, clean: Tensor) -> Any:
        r""":math:`\ell`, for clean patches whose level was removed."""
        return lambda u: 0.5 * (self.decode(u) - clean).square().sum(-1)

    def loss(self, batch: tuple[Tensor, Tensor]) -> Tensor:
        r"""Mean of :math:`\ell(u^K)` over (clean, observed) patches: hyper-training's objective."""
        clean, observed = batch
        level = centre(observed, self.noise)
        b, upper = observed - level, self.upper(clean - level)
        inner = Inner(self.map(b), self.mu, self.steps)
        return upper(inner(self.start(b), upper, self.iterations)).mean()

    @torch.no_grad()
    def restore(self, observed: Tensor, depths: list[int]) -> Tensor:
        """Restored patches after each of the depths, by T alone: shape (depths, ..., m)."""
        level = centre(observed, self.noise)
        b = observed - level
        T, u, done, out = self.map(b), self.start(b), 0, []
        for depth in sorted(depths):
            u = T.iterate(u, iterations=depth - done).value
            done = depth
            out.append(self.decode(u) + level)
        return torch.stack(out)
