"""Convolutions as matrices, and networks with any weights."""

from __future__ import annotations

import torch
from torch import Tensor

f64 = torch.float64


def dense_of(kernel: Tensor, height: int, width: int) -> Tensor:
    """The matrix of the circular convolution, one basis image at a time, by plain indexing."""
    c_out, c_in, k, _ = kernel.shape
    reach = (k - 1) // 2
    M = torch.zeros(c_out, height, width, c_in, height, width, dtype=kernel.dtype)
    for y in range(height):
        for x in range(width):
            for i in range(k):
                for j in range(k):
                    at = (y + i - reach) % height, (x + j - reach) % width
                    M[:, y, x, :, at[0], at[1]] += kernel[:, :, i, j]
    return M.reshape(c_out * height * width, -1)


def overwrite(D: torch.nn.Module, kind: str) -> None:
    with torch.no_grad():
        for p in D.parameters():
            p.copy_(
                torch.randn_like(p) * 10 ** float(torch.empty(()).uniform_(-1, 2))
                if kind == "random"
                else torch.full_like(p, float(kind))
            )
