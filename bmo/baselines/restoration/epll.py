r"""EPLL: expected patch log-likelihood under a mixture of Gaussians."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor
from torch.nn import functional

from bmo.baselines.restoration.base import Restorer, require_positive, require_steps, solve
from bmo.baselines.restoration.mixture import PatchMixture
from bmo.baselines.restoration.wiener import Wiener
from bmo.errors import ConditionError


class EPLL(Restorer):
    r"""Maximum of the mean log-likelihood of all patches, by half-quadratic splitting.

    .. math:: \min_u\ \frac{1}{2\sigma^2}\|k*u - b\|^2 - \frac1m\sum_i \log p(P_iu)

    With :math:`P_i` the patches of :math:`m = p^2` pixels at every place, :math:`z_i` beside
    :math:`P_iu`, and :math:`\beta` growing:

    .. math::
        z_i &\leftarrow \Sigma_j(\Sigma_j + \beta^{-1}I)^{-1}P_iu \quad\text{(its mean kept)} \\
        u &\leftarrow (K^\top K + \sigma^2\beta)^{-1}
                      \big(K^\top b + \sigma^2\beta\,\tfrac1m\textstyle\sum_i P_i^\top z_i\big)

    Each colour is restored by itself. With a stride the patches of one step stand on a grid, and
    the grid moves from step to step. Class UNH: the prior was fitted to clean patches, nothing
    was trained for the task.

    Args:
        mixture: The prior of patches with their mean removed.
        betas: :math:`\beta`, one for each step, rising.
        stride: Distance of the patches, p/2 by default; divides the sides of the image, and p.

    Raises:
        ConditionError: No step, or a stride that does not divide p.
        DomainError: A beta is not positive.

    Source: Zoran, Weiss, "From learning models of natural image patches to whole image
    restoration", ICCV 2011.

    Example:
        >>> import torch
        >>> prior = PatchMixture(torch.ones(1), torch.eye(4)[None])
        >>> b = torch.full((1, 1, 4, 4), 0.5)
        >>> EPLL(prior, betas=[100.0]).restore(b, torch.ones(4, 3) + 0j, 0.1)[0, 0, 0]
        tensor([0.5000, 0.5000, 0.5000, 0.5000])
    """

    name = "unh-epll"

    def __init__(
        self,
        mixture: PatchMixture,
        betas: Sequence[float] = (50.0, 100.0, 200.0, 400.0, 800.0, 1600.0, 3200.0),
        stride: int | None = None,
    ) -> None:
        super().__init__()
        self.mixture, self.betas = mixture, tuple(betas)
        self.side = round(mixture.values.shape[-1] ** 0.5)
        self.stride = self.side // 2 if stride is None else stride
        require_steps(len(self.betas))
        for beta in self.betas:
            require_positive(beta=beta)
        if self.stride < 1 or self.side % self.stride:
            raise ConditionError(f"a stride that divides {self.side}", f"{stride}", "1", stride)

    def forward(self, b: Tensor, symbol: Tensor, sigma: Tensor) -> Tensor:
        u = Wiener()(b, symbol, sigma)
        for k, beta in enumerate(self.betas):
            clean = self.denoise(u, beta, shift=k % self.stride)
            pull = sigma**2 * beta
            u = solve(b, symbol, pull, pull * clean)
        return u

    def denoise(self, u: Tensor, beta: float, shift: int = 0) -> Tensor:
        r""":math:`\tfrac1m\sum_i P_i^\top z_i`, shape of u; patches wrap around the borders."""
        h, w = u.shape[-2:]
        if h % self.stride or w % self.stride:
            raise ConditionError(
                f"sides that are multiples of {self.stride}", f"{h}x{w}", "stride 1", self.stride
            )
        over = self.side - self.stride
        moved = u.roll((-shift, -shift), (-2, -1)).reshape(-1, 1, h, w)
        padded = functional.pad(moved, (0, over, 0, over), mode="circular")
        columns = functional.unfold(padded, self.side, stride=self.stride)
        patches = columns.mT.reshape(-1, self.side**2)
        mean = patches.mean(-1, keepdim=True)
        clean = self.mixture.most_likely(patches - mean, 1 / beta) + mean
        back = clean.reshape(columns.shape[0], -1, self.side**2).mT
        total = functional.fold(back, padded.shape[-2:], self.side, stride=self.stride)
        out = wrap(total, h, w) * (self.stride / self.side) ** 2
        return out.reshape(u.shape).roll((shift, shift), (-2, -1))


def wrap(padded: Tensor, h: int, w: int) -> Tensor:
    """Add what lies beyond (h, w) to the other side: the adjoint of circular padding.

    Example:
        >>> import torch
        >>> wrap(torch.ones(1, 3), 1, 2)
        tensor([[2., 1.]])
    """
    out = padded[..., :h, :].clone()
    out[..., : padded.shape[-2] - h, :] += padded[..., h:, :]
    inner = out[..., :w].clone()
    inner[..., : padded.shape[-1] - w] += out[..., w:]
    return inner
