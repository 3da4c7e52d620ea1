r"""A learned proximal gradient step that is nonexpansive for every value of its parameters.

Book: chapter 4, "Feasible by construction", and chapter 10. Learned ISTA learns its matrices
freely and loses convergence; here the metric follows the matrices, so it cannot.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from bmo.errors import ConditionError, NonFiniteError, ShapeError
from bmo.kernels import AffineSoft, Kernel, ResidualSoft
from bmo.metric import Diagonal, Metric
from bmo.operators.base import Piece, Preparing
from bmo.operators.spectral import METHODS, largest_eigenvalue
from bmo.parameters import Positive

LEARNABLE = ("G", "W", "p", "theta")


@dataclasses.dataclass(frozen=True)
class Prepared:
    """What one loop needs and no step changes: computed once from the parameters and the data."""

    p: Tensor
    delta: Tensor
    threshold: Tensor
    shift: Tensor
    forward: Tensor | None  # I - P^{-1} G^T G as one matrix (transposed for points in rows), or
    thin: tuple[Tensor, Tensor] | None  # its two thin factors G and P^{-1} G^T


class LearnedForwardBackward(Preparing):
    r"""Learned :math:`D(u) = \mathrm{prox}^P_\theta(u - P^{-1}(G^\top Gu - Wb))`, feasible always.

    Here :math:`P = \mathrm{diag}(p)`, and G, W, p and :math:`\theta` are learned. By Lemma FB the
    step is nonexpansive in :math:`H_\omega = P` exactly when :math:`G^\top G \preceq 2P`. With
    free positive weights :math:`q`, that holds for

    .. math:: p = q\,\max(1, \lambda/2), \qquad
        \lambda = \lambda_{\max}(Q^{-1/2}G^\top GQ^{-1/2}),\ Q = \mathrm{diag}(q),

    whatever raw values an optimizer reaches. The step is :math:`1/(2-\delta)`-averaged,
    :math:`\delta = \min(1, \lambda/2)`. The proximal operator is that of
    :math:`\sum_i\theta_i|u_i|` in the metric :math:`P`: soft thresholding at
    :math:`\theta_i/p_i`. :math:`W` is free, since a constant shift expands nothing. At the start
    the step is ISTA's.

    ``D.bind(b=batch)`` gives the operator for one loop: :math:`p`, :math:`I - P^{-1}G^\top G` and
    :math:`P^{-1}Wb` are computed once, and a step is one matrix product and one threshold. They
    are computed anew when a parameter has changed. For a second backward pass, bind again.

    ``weights`` are data as b is: :math:`\theta_i` is multiplied by them, and they may depend on the
    observation ("What may depend on the observation"). They are 1 unless bound.

    Args:
        A: The matrix to start from, shape (m, n): :math:`G = A`, :math:`W = A^\top`.
        b: Data, shape (m,) or (batch, m); replaced by ``bind(b=...)``.
        threshold: :math:`\theta > 0` at the start (number, or shape (n,)).
        step: :math:`\tau`, :math:`p = 1/\tau` at the start; ``None`` for :math:`1/\|A\|^2`.
        learn: Which of ``"G"``, ``"W"``, ``"p"``, ``"theta"`` are learned (the others stay fixed).
        norm: ``"exact"`` or ``"power"``, see :func:`~bmo.operators.spectral.largest_eigenvalue`.

    Raises:
        ConditionError: Not :math:`0 < \tau \le 2/\|A\|^2`, or a name in ``learn`` or ``norm`` is
            unknown.
        ShapeError: ``b`` does not fit ``A``.
        NonFiniteError: NaN or infinity in ``A`` or ``b``.

    Example:
        >>> import torch, bmo
        >>> b = torch.tensor([3.0, 0.5])
        >>> D = bmo.operators.LearnedForwardBackward(torch.eye(2), b, threshold=1.0)
        >>> D(torch.zeros(2)).detach()
        tensor([2., 0.])
        >>> D.bind(b=torch.tensor([[5.0, 0.0]]))(torch.zeros(1, 2)).detach()
        tensor([[4., 0.]])
    """

    certified = "by construction"

    def __init__(
        self,
        A: Tensor,
        b: Tensor,
        threshold: float | Tensor,
        step: float | None = None,
        learn: Sequence[str] = LEARNABLE,
        norm: str = "exact",
    ) -> None:
        super().__init__()
        top = _require_start(A, b, learn, norm)
        inverse = top if step is None else 1 / step if step > 0 else 0.0
        if not 2 * inverse >= top * (1 - 1e-12):
            raise ConditionError(
                f"0 < step <= 2/||A||^2 = {2 / top:.6g}", f"step = {step}", "shorten it", step
            )
        self.norm = norm
        self.register_buffer("b", b)
        self.b: Tensor
        self.register_buffer("weights", torch.ones(A.shape[1]).to(A), persistent=False)
        self.weights: Tensor
        self.G = _matrix(A, "G" in learn)
        self.W = _matrix(A.mT, "W" in learn)
        # relative to the start, so that every raw parameter has the size of one
        self.register_buffer("scale", torch.as_tensor(inverse, dtype=A.dtype, device=A.device))
        self.scale: Tensor
        self.weight = Positive(torch.ones(A.shape[1]).to(A), low=1e-3)
        self.weight.raw.requires_grad_("p" in learn)
        start = torch.as_tensor(threshold, dtype=A.dtype, device=A.device).expand(A.shape[1])
        self.theta = Positive(start)
        self.theta.raw.requires_grad_("theta" in learn)

    def _metric_weights(self) -> tuple[Tensor, Tensor]:
        r""":math:`p` and :math:`\delta` from :math:`q` and :math:`G`."""
        q = self.scale * self.weight()
        thin = self.G / q.sqrt()
        gram = thin @ thin.mT if thin.shape[0] <= thin.shape[1] else thin.mT @ thin
        half = largest_eigenvalue(gram, self.norm) / 2
        return q * half.clamp_min(1.0), half.clamp_max(1.0)

    def _compute(self) -> Prepared:
        p, delta = self._metric_weights()
        back = self.G.mT / p[:, None]
        m, n = self.G.shape
        forward, thin = None, None
        if n <= 2 * m:  # one (n, n) product costs no more than two thin ones, and keeps less
            eye = torch.eye(n, dtype=p.dtype, device=p.device)
            forward = eye - self.G.mT @ back.mT
        else:
            thin = (self.G.mT, back.mT)
        shift = (self.b @ self.W.mT) / p
        threshold = self.weights * (self.theta() / p)
        return Prepared(p, delta, threshold, shift, forward, thin)

    @property
    def metric(self) -> Metric:
        r""":math:`P`, positive by construction."""
        return Diagonal(self.prepare().p, check=False)

    @property
    def averaged(self) -> float:
        return 1 / (2 - float(self.prepare().delta.detach()))

    def forward(self, u: Tensor) -> Tensor:
        return self.step(u, self.prepare())

    def step(self, u: Tensor, at: Prepared) -> Tensor:
        """One step with these numbers."""
        if at.forward is not None:
            z = u @ at.forward + at.shift
        else:
            first, second = at.thin  # type: ignore[misc]
            z = u - (u @ first) @ second + at.shift
        return z - torch.minimum(torch.maximum(z, -at.threshold), at.threshold)

    def magnitude(self, u: Tensor, at: Prepared) -> Tensor:
        """How large an entry of the code is."""
        return u.abs()

    def warm(self, u: Tensor, at: Prepared) -> Tensor:
        """The point to start from with these numbers: as it is."""
        return u

    def kernel(self) -> Kernel:
        at: Prepared = self.prepare()
        if at.forward is not None:
            return AffineSoft(at.forward, at.shift, at.threshold)
        first, second = at.thin  # type: ignore[misc]
        return ResidualSoft(first, first.new_zeros(()), -second, at.shift, at.threshold)

    def piece(self, u: Tensor) -> Piece:
        at: Prepared = self.prepare()
        return Piece(self(u) != 0, at.p, self.G.mT @ self.G)


def _matrix(value: Tensor, learn: bool) -> nn.Parameter:
    return nn.Parameter(value.detach().clone(), requires_grad=learn)


def _require_start(A: Tensor, b: Tensor, learn: Sequence[str], norm: str) -> float:
    r"""Refuse data that do not fit; return :math:`\|A\|^2`."""
    if A.dim() != 2 or b.shape[-1:] != A.shape[:1]:
        raise ShapeError(
            "A of shape (m, n) and b of shape (..., m)",
            f"A {tuple(A.shape)}, b {tuple(b.shape)}",
            "transpose A, or pass the data with its last axis of length m",
        )
    if not bool(torch.isfinite(A).all() and torch.isfinite(b).all()):
        raise NonFiniteError("finite A and b", "NaN or infinity", "clean the data first", b)
    unknown = sorted(set(learn) - set(LEARNABLE))
    if unknown or norm not in METHODS:
        raise ConditionError(
            f"learn out of {LEARNABLE}, norm out of {METHODS}",
            f"{unknown}, {norm}",
            "correct the name",
        )
    top = float(torch.linalg.matrix_norm(A.detach(), 2)) ** 2
    if top == 0:
        raise ConditionError("a matrix A that is not zero", "A = 0", "use operators.Lambda", A)
    return top
