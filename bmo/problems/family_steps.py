r"""The steps D of the four families of random problems, each with its solutions.

Each maker returns D, one fixed point, and the directions V of all of them: the fixed points are
the affine set point + range(V). Book: chapter 7.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor

from bmo.metric import Dense, Identity
from bmo.networks import CertifiedDense
from bmo.operators import PDHG, Conjugate, Lambda, LinearisedADMM, Operator, ProximalGradient
from bmo.prox import Indicator, SquaredL2
from bmo.sets import Box
from bmo.smooth import LeastSquares

Array = np.ndarray[Any, np.dtype[np.float64]]
Made = tuple[Operator, Array, Array]
SHRINK = 0.9
"""The Lipschitz constant of the certified network of the fourth family."""


def _null(A: Array) -> Array:
    """An orthonormal basis of the null space of A, as columns."""
    _, sigma, Wt = np.linalg.svd(A)
    rank = int((sigma > 1e-10 * sigma[0]).sum())
    kernel: Array = Wt[rank:].T
    return kernel


def _regression(rng: np.random.Generator, n: int, bounded: int) -> tuple[Array, ...]:
    """A, b, a solution x and the directions V of all of them, for 0 <= the first coordinates."""
    m = max(2, n // 2 + 1)
    free = n - bounded
    A = rng.normal(size=(m, n)) / np.sqrt(n)
    rank = max(1, min(m, free) // 2)
    A[:, bounded:] = rng.normal(size=(m, rank)) @ rng.normal(size=(rank, free)) / n
    b = rng.normal(size=m)
    x = np.zeros(n)
    x[bounded:] = np.linalg.lstsq(A[:, bounded:], b, rcond=1e-10)[0]
    A[:, :bounded] *= np.sign((A @ x - b) @ A[:, :bounded])  # the multipliers are positive
    V = np.vstack([np.zeros((bounded, n)), np.eye(n)[bounded:]])[:, bounded:]
    return A, b, x, V @ _null(A[:, bounded:])


def tensor(x: Array) -> Tensor:
    """The array as a tensor."""
    return torch.from_numpy(np.ascontiguousarray(x))


def _halfline(n: int, bounded: int) -> Box:
    low = torch.full((n,), -torch.inf, dtype=torch.float64)
    low[:bounded] = 0.0
    return Box(low, torch.inf)


def _proximal_gradient(rng: np.random.Generator, n: int, bounded: int) -> Made:
    A, b, x, V = _regression(rng, n, bounded)
    top = np.linalg.norm(A, 2) ** 2
    step = float(rng.uniform(0.4, 1.9) / top)
    D = ProximalGradient(
        LeastSquares(tensor(A), tensor(b)), Indicator(_halfline(n, bounded)), step=step
    )
    return D, x, V


def _pdhg(rng: np.random.Generator, n: int, bounded: int) -> Made:
    A, b, x, V = _regression(rng, n, bounded)
    D = PDHG(Indicator(_halfline(n, bounded)), SquaredL2(1.0, center=tensor(b)), tensor(A))
    return D, np.concatenate([x, A @ x - b]), np.vstack([V, np.zeros((len(b), V.shape[1]))])


def _admm(rng: np.random.Generator, n: int, bounded: int) -> Made:
    A, b, x, V = _regression(rng, n, bounded)
    eye = torch.eye(len(b), dtype=torch.float64)
    first, second = Indicator(_halfline(n, bounded)), SquaredL2(1.0, center=tensor(b))
    D = LinearisedADMM(first, second, tensor(A), -eye, 0 * tensor(b), float(rng.uniform(0.3, 2)))
    point = np.concatenate([x, A @ x, A @ x - b])
    return D, point, np.vstack([V, A @ V, np.zeros((len(b), V.shape[1]))])


def _network(rng: np.random.Generator, n: int, bounded: int) -> Made:
    """A certified network, times 0.9, on all but n // 3 coordinates, seen in a dense metric."""
    free = max(1, n // 3)
    size = n - free
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(int(rng.integers(2**31)))
        net = CertifiedDense(size, hidden=2 * size, depth=2).double().requires_grad_(False)
    for bias in net.biases:
        bias.copy_(tensor(rng.normal(size=len(bias))))
    net = net.prepared()

    def euclidean(x: Tensor) -> Tensor:
        return torch.cat([SHRINK * net(x[..., :size]), x[..., size:]], -1)

    root = rng.normal(size=(n, n)) / np.sqrt(n) + np.eye(n)
    metric = Dense(tensor(root @ root.T + 0.1 * np.eye(n)))
    x = torch.zeros(n, dtype=torch.float64)
    for _ in range(400):  # a contraction: 0.9^400 < 1e-18
        x = euclidean(x)
    V = metric.unfactor(torch.eye(n, dtype=torch.float64)[size:]).numpy().T
    return Conjugate(Lambda(euclidean, Identity()), metric), metric.unfactor(x).numpy(), V


MAKERS = {
    "proximal gradient": _proximal_gradient,
    "PDHG": _pdhg,
    "linearised ADMM": _admm,
    "certified network": _network,
}
FAMILIES = tuple(MAKERS)
"""The names of the families."""
