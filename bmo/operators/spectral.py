r"""The largest eigenvalue of a learned matrix: differentiable, and never too small.

Book: chapter 4, "Feasible by construction", and chapter 5. A condition such as
:math:`G^\top G \preceq 2P` is kept for every raw value by dividing by a norm, so the norm must be
the true one or an upper bound. An estimate by a few power iterations is a *lower* bound, and
breaks the condition that it should keep.
"""

from __future__ import annotations

import torch
from torch import Tensor

from bmo.errors import ConditionError

METHODS = ("exact", "power")


def largest_eigenvalue(matrix: Tensor, method: str = "exact") -> Tensor:
    r"""The largest eigenvalue of a symmetric positive semidefinite matrix, or a bound above it.

    ``"exact"`` takes the top eigenvector :math:`v` from a full decomposition without gradients
    and returns :math:`v^\top Mv`, whose derivative :math:`vv^\top` is that of the eigenvalue
    where it is simple (a subgradient elsewhere). ``"power"`` returns
    :math:`(\mathrm{tr}\,M^{N})^{1/N}`, :math:`N = 2^{10}`, which is at least
    :math:`\lambda_{\max}` and at most :math:`m^{1/N}` times it (0.6 % at m = 512); it is smooth,
    uses matrix products only, and so suits a GPU.

    Args:
        matrix: M, shape (m, m).
        method: ``"exact"`` or ``"power"``.

    Raises:
        ConditionError: Another name of a method.

    Example:
        >>> import torch
        >>> from bmo.operators.spectral import largest_eigenvalue
        >>> float(largest_eigenvalue(torch.diag(torch.tensor([1.0, 3.0]))))
        3.0
    """
    if method == "power":
        return _power(matrix, squarings=10)
    if method != "exact":
        raise ConditionError(f"a method out of {METHODS}", repr(method), "use 'exact'", method)
    with torch.no_grad():
        vector = torch.linalg.eigh(matrix.detach())[1][:, -1]
    return vector @ (matrix @ vector)


def _power(matrix: Tensor, squarings: int) -> Tensor:
    r""":math:`(\mathrm{tr}\,M^{N})^{1/N}`, :math:`N = 2^{\text{squarings}}`, without overflow.

    :math:`S_0 = M/t_0`, :math:`S_j = S_{j-1}^2/t_j` with :math:`t_j` chosen so that every trace is
    1; then :math:`\mathrm{tr}(M^N)^{1/N} = \prod_j t_j^{1/2^j}`.
    """
    trace = matrix.diagonal().sum().clamp_min(torch.finfo(matrix.dtype).tiny)
    power, log = matrix / trace, trace.log()
    for j in range(1, squarings + 1):
        trace = power.square().sum().clamp_min(torch.finfo(matrix.dtype).tiny)  # tr of the square
        log = log + trace.log() / 2**j
        if j < squarings:
            power = power @ power / trace
    return log.exp()
