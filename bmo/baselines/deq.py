r"""A deep equilibrium model: the output is the fixed point of one learned layer. Class ENA.

Book: chapter 10. The fixed point is looked for by Anderson acceleration and differentiated by the
implicit function theorem; neither has a guarantee for a layer without a constraint.
"""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor

from bmo.baselines.base import State, Unrolled, copies, first_step, require_positive, thresholds
from bmo.errors import DomainError
from bmo.hypergradient.adjoint import Adjoint, gmres, require_tolerance
from bmo.metric import Identity
from bmo.prox import soft


def anderson(points: list[Tensor], images: list[Tensor]) -> Tensor:
    r"""The next point of Anderson acceleration from the last points z and their images f(z).

    The images are mixed with the weights (of sum one) for which the mixed residual
    :math:`f(z) - z` is smallest; each row has weights of its own.

    Args:
        points: The last points, oldest first, each of shape (..., n).
        images: Their images.

    Source: Walker, Ni, SIAM J. Numer. Anal. 49(4), 2011.

    Example:
        >>> z = [torch.tensor([0.0]), torch.tensor([1.0])]  # f(z) = 1 + z/2, fixed point 2
        >>> anderson(z, [1 + v / 2 for v in z])
        tensor([2.0000])
    """
    if len(points) == 1:
        return images[-1]
    rest = torch.stack([f - z for z, f in zip(points, images, strict=True)], -2)
    moves = rest[..., 1:, :] - rest[..., :-1, :]
    steps = torch.stack(images, -2)
    steps = steps[..., 1:, :] - steps[..., :-1, :]
    gram = moves @ moves.mT
    size = gram.diagonal(dim1=-2, dim2=-1).sum(-1)[..., None, None]
    limits = torch.finfo(gram.dtype)
    eye = torch.eye(gram.shape[-1]).to(gram)  # the ridge keeps parallel moves apart
    weights, _ = torch.linalg.solve_ex(
        gram + (10 * limits.eps * size + limits.tiny) * eye, moves @ rest[..., -1, :, None]
    )
    return images[-1] - (weights * steps).sum(-2)


class DEQ(Unrolled):
    r"""The fixed point of :math:`f(u) = \mathrm{soft}(u + W(b - Au), \theta)`.

    :math:`u^k = f(z^{k-1})` with the points z of Anderson acceleration, so that k steps are k
    evaluations of the layer. The gradient of :math:`u^K` is the implicit one at
    :math:`z = z^{K-1}`: :math:`(\partial_\omega f)^\top\lambda` with
    :math:`(I - \partial_uf^\top)\lambda = g` by GMRES. It is as good as z is near the fixed point.

    Args:
        A: Dictionary, shape (..., m, n); :math:`W = \tau A^\top` at the start.
        depth: Evaluations of the layer in training.
        penalty: :math:`\lambda > 0`; :math:`\theta = \tau\lambda` at the start.
        step: :math:`\tau \in (0, 2/\|A\|^2]`; ``None`` for :math:`1/\|A\|^2`.
        window: Points that Anderson acceleration looks back at.
        coordinates: A threshold for each coefficient, not one for all.
        tol: Relative residual at which GMRES stops.
        limit: Largest number of its products with :math:`\partial_uf^\top`.

    Raises:
        DomainError: A number is out of its range.
        ConditionError: The step is too long.

    Source: Bai, Kolter, Koltun, NeurIPS 2019.

    Example:
        >>> net = DEQ(torch.eye(2), depth=3, penalty=1.0)
        >>> net(torch.tensor([3.0, 0.5])).detach()
        tensor([2., 0.])
    """

    name = "ena-deq"

    def __init__(
        self,
        A: Tensor,
        depth: int,
        penalty: float | Tensor,
        step: float | Tensor | None = None,
        window: int = 5,
        coordinates: bool = False,
        tol: float = 1e-4,
        limit: int = 10,
    ) -> None:
        super().__init__(A, depth)
        require_positive("penalty", penalty)
        require_tolerance(tol)
        if min(window, limit) < 1:
            raise DomainError("window, limit >= 1", f"{window}, {limit}", "5 and 10 are usual")
        self.window, self.tol, self.limit = window, tol, limit
        tau = first_step(A, step)
        self.W = copies(tau * A.mT, 1)
        self.theta = copies(thresholds(A, tau * penalty, coordinates), 1)

    def layer(self, u: Tensor, b: Tensor) -> Tensor:
        """The layer f, same shape as u."""
        return soft(u + (b - u @ self.A.mT) @ self.W[0].mT, self.theta[0])

    def start(self, b: Tensor) -> State:
        (u,) = super().start(b)
        return u, [], []

    @torch.no_grad()
    def step(self, k: int, state: State, data: Tensor) -> State:
        u, points, images = state
        z = anderson(points, images) if points else u
        image, keep = self.layer(z, data), self.window
        return image, [*points[-keep:], z], [*images[-keep:], image]

    def iterates(self, b: Tensor, depth: int | None = None) -> Iterator[Tensor]:
        return (self._code(state, b) for state in self.states(b, depth))

    def forward(self, b: Tensor, depth: int | None = None) -> Tensor:
        state = self.start(b)
        for new in self.states(b, depth):
            state = new
        return self._code(state, b)

    def _code(self, state: State, b: Tensor) -> Tensor:
        """The code in a state, with the implicit gradient if there is one to take."""
        if state[1] and torch.is_grad_enabled() and any(p.requires_grad for p in self.parameters()):
            return self.attach(state[1][-1], b)
        return self.read(state)

    def attach(self, z: Tensor, b: Tensor) -> Tensor:
        """The image f(z), through which gradients are the implicit ones at z."""
        point = z.detach().requires_grad_()
        image = self.layer(point, b)

        def transpose(v: Tensor) -> Tensor:
            (out,) = torch.autograd.grad(image, point, v, retain_graph=True)
            return out

        def solved(g: Tensor) -> Tensor:
            with torch.no_grad():
                adjoint = Adjoint(transpose, g, Identity())
                return gmres(adjoint, self.tol, self.limit, self.limit).value

        out = self.layer(z.detach(), b)
        out.register_hook(solved)
        return out
