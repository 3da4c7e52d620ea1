"""Steps of two-block ADMM for sparse codes: with a dense solve, and linearised."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from bmo.kernels.base import Gradients, Kernel
from bmo.kernels.soft import shrink, shrink_adjoint


class SolveSoft(Kernel):
    r"""The step of :class:`~bmo.operators.LearnedSparseADMM` with its adjoint by hand.

    Args:
        inverse: :math:`(G^\top G + Q + \beta)^{-1}`, symmetric, shape (n, n).
        shift: :math:`Bb`, shape (n,) or (batch, n).
        q: The diagonal of Q.
        beta: The diagonal of :math:`\beta`.
        threshold: :math:`\theta/\beta`.

    An example: :class:`bmo.operators.LearnedSparseADMM`.
    """

    def __init__(
        self, inverse: Tensor, shift: Tensor, q: Tensor, beta: Tensor, threshold: Tensor
    ) -> None:
        self.inputs = (inverse, shift, q, beta, threshold)

    def forward(self, u: Tensor, values: Sequence[Tensor], keep: bool = True) -> tuple[Tensor, Any]:
        inverse, shift, q, beta, threshold = values
        first, second, multiplier = u.chunk(3, -1)
        right = torch.addcmul(q * first, beta, second).sub_(multiplier)
        x = torch.matmul(right, inverse).add_(shift)
        v, sign = shrink(x + multiplier / beta, threshold)
        out = torch.cat([x, v, multiplier + beta * (x - v)], -1)
        return out, (u, right, sign, out)

    def adjoint(
        self, kept: Any, cotangent: Tensor, values: Sequence[Tensor], gradients: Gradients
    ) -> Tensor:
        inverse, _, q, beta, _ = values
        z, right, sign, out = kept
        first, second, multiplier = z.chunk(3, -1)
        to_x, to_v, to_multiplier = cotangent.chunk(3, -1)
        across = to_v - beta * to_multiplier  # what v = w - inside and beta inside disagree on
        to_w = torch.addcmul(beta * to_multiplier, sign.abs(), across)
        gradients.add(4, -sign * across)
        to_x = to_x + to_w
        gradients.add(1, to_x)
        gradients.add_product(0, right, to_x)
        back = to_x @ inverse.mT
        gradients.add(2, back * first)
        if gradients.wants(3):
            gradients.add(3, to_multiplier * out.chunk(3, -1)[2] / beta)
            gradients.add(3, back * second - to_w * multiplier / beta.square())
        return torch.cat([q * back, beta * back, to_w / beta - back], -1)


class DualSoft(Kernel):
    r"""The step of :class:`~bmo.operators.LearnedSparseLADMM` with its adjoint by hand.

    Args:
        matrix: :math:`G`, shape (m, n).
        data: :math:`b`, shape (m,) or (batch, m).
        shift: :math:`Bb`, shape (n,) or (batch, n).
        p: The diagonal of :math:`P`.
        beta: The diagonal of :math:`\beta`.
        threshold: :math:`\theta/p`.

    An example: :class:`bmo.operators.LearnedSparseLADMM`.
    """

    def __init__(
        self,
        matrix: Tensor,
        data: Tensor,
        shift: Tensor,
        p: Tensor,
        beta: Tensor,
        threshold: Tensor,
    ) -> None:
        self.inputs = (matrix, data, shift, p, beta, threshold)

    def forward(self, u: Tensor, values: Sequence[Tensor], keep: bool = True) -> tuple[Tensor, Any]:
        matrix, data, shift, p, beta, threshold = values
        code, multiplier = u[..., : matrix.shape[1]], u[..., matrix.shape[1] :]
        r = code @ matrix.mT - data
        y = torch.addcmul(multiplier, beta, r) / (1 + beta)
        slope = (y @ matrix) / p
        new, sign = shrink((code - slope).add_(shift), threshold)
        after = new @ matrix.mT - data
        out = torch.cat([new, torch.addcmul(multiplier, beta, after - y)], -1)
        return out, (code, r, y, slope, sign, new, after)

    def adjoint(
        self, kept: Any, cotangent: Tensor, values: Sequence[Tensor], gradients: Gradients
    ) -> Tensor:
        matrix, _, _, p, beta, _ = values
        code, r, y, slope, sign, new, after = kept
        to_code, to_multiplier = cotangent[..., : len(p)], cotangent[..., len(p) :]
        to_after = beta * to_multiplier
        gradients.add_product(0, to_after, new)
        to_w = shrink_adjoint(sign, to_code + to_after @ matrix, gradients, 5)
        gradients.add(2, to_w)
        gradients.add(3, to_w * slope / p)
        down = -to_w / p  # falls to the product of y and the matrix
        gradients.add_product(0, y, down)
        to_sum = (down @ matrix.mT - to_after) / (1 + beta)  # to lambda + beta (Gu - b)
        to_r = beta * to_sum
        gradients.add_product(0, to_r, code)
        gradients.add(1, -to_after - to_r)
        gradients.add(4, to_multiplier * (after - y) + to_sum * (r - y))
        return torch.cat([to_w + to_r @ matrix, to_multiplier + to_sum], -1)
