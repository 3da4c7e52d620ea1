r"""The certified steps of the bench: numerical, a network, and one after the other.

Book: chapter 10, "Learned steps with a certificate: GKM and BMO" and "The other forms of the step".
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from bmo.metric import Metric
from bmo.networks import CertifiedShrinkage
from bmo.operators import (
    Composition,
    Conjugate,
    LearnedForwardBackward,
    LearnedSparseADMM,
    LearnedSparseLADMM,
    Operator,
)
from bmo.operators.learned_linearised import Ready
from bmo.problems.sparse_coding.gaussian.settings import NETTED, Settings

#: A smooth bound on the norm: where the exact one is active, its eigenvector jumps from step to
#: step of Adam, and two runs that differ by rounding drift apart (by 4e-4 dB after 400 steps).
SMOOTH_NORM = "power"
#: Where the network beside linearised ADMM starts: its matrix is this part of the identity.
START, SMALLEST = 0.99, 1e-4
#: The step of ISTA at which the forward-backward step and the network start, relative to 2/L.
FIRST_STEP = 0.95


def kind_of(name: str) -> str:
    """The kind of step of a certified method.

    Example:
        >>> [kind_of(name) for name in ("gkm-pilot", "bmo-h-ladmm", "bmo-light-admm", "bmo-fb-net")]
        ['fb', 'ladmm', 'admm', 'fb-net']
    """
    kinds: tuple[str, ...] = ("ladmm", "admm")
    if name in NETTED:
        kinds = ("ladmm-net", "fb-net", "net-fb", "net")
    return next((kind for kind in kinds if name.endswith(f"-{kind}")), "fb")


def layout(kind: str, rows: int, atoms: int) -> tuple[float, int, int]:
    """Products of a step, the length of a point, and where the code begins in it.

    Example:
        >>> layout("admm", 250, 500), layout("net-fb", 250, 500)
        ((2.0, 1500, 500), (4.0, 500, 0))
    """
    square = atoms / rows
    found = {
        "ladmm": (3.0, atoms + rows, 0),
        "ladmm-net": (3.0 + square, atoms + rows, 0),
        "admm": (square, 3 * atoms, atoms),
    }
    return found.get(kind, ((2 if kind in ("fb-net", "net-fb") else 1) * square, atoms, 0))


def certified_step(
    kind: str, A: Tensor, b: Tensor, start: dict[str, Any], settings: Settings
) -> Operator:
    """D: a forward-backward step, a network, both, linearised ADMM, or ADMM with its dense solve.

    Args:
        kind: As :func:`kind_of` returns it.
        A: Dictionary; its dtype is that of training.
        b: Observations to start with.
        start: What was chosen for the classical methods.
        settings: Of the bench.
    """
    split = kind.removesuffix("-net") in ("ladmm", "admm")
    chosen = start[f"unh-{kind.removesuffix('-net')}" if split else "unh-ista"]
    # G stays A: a G learned at depth K is no better there, and its fixed points are worse
    if kind.startswith("ladmm"):
        learn: tuple[str, ...] = ("B", "beta", "p", "theta")
        D = LearnedSparseLADMM(A, b, chosen["penalty"], chosen["beta"], learn, SMOOTH_NORM)
        return D if kind == "ladmm" else Composition(D, OnCode(near_identity(A, b), D))
    if kind == "admm":
        learn = ("B", "beta", "q", "theta")
        return LearnedSparseADMM(
            A, b, chosen["penalty"], chosen["rho"], settings.proximal, learn=learn
        )
    step = FIRST_STEP * 2 / float(torch.linalg.matrix_norm(A, 2)) ** 2
    if kind == "net":
        return shrinkage(A, b, chosen["penalty"], step, step)
    fb = LearnedForwardBackward(A, b, chosen["penalty"], step=step, norm=SMOOTH_NORM)
    # in the coordinates P^(1/2)u, in which the metric of the step is the Euclidean one
    net = Conjugate(shrinkage(A, b, chosen["penalty"], step, step**0.5), fb)
    parts: dict[str, Sequence[Operator]] = {"fb": (fb,), "fb-net": (fb, net), "net-fb": (net, fb)}
    return fb if kind == "fb" else Composition(*parts[kind])


def shrinkage(
    A: Tensor, b: Tensor, penalty: float, step: float, scale: float
) -> CertifiedShrinkage:
    """A layer that starts as a step of ISTA, for points that are multiplied by ``scale / step``."""
    V = torch.eye(A.shape[1]).to(A) - step * A.mT @ A
    return CertifiedShrinkage(V, scale * A.mT, b, scale * penalty, SMOOTH_NORM)


def near_identity(A: Tensor, b: Tensor) -> CertifiedShrinkage:
    """A layer that changes hardly anything at the start."""
    n = A.shape[1]
    V = START * torch.eye(n).to(A)
    return CertifiedShrinkage(V, torch.zeros_like(A.mT), b, SMALLEST, SMOOTH_NORM)


class OnCode(Operator):
    r"""A Euclidean network on the code of a point, which leaves the rest of the point as it is.

    In a metric :math:`\mathrm{blkdiag}(P, R)` with :math:`P = \mathrm{diag}(p)` it is
    :math:`(u, \lambda) \mapsto (P^{-1/2}N(P^{1/2}u), \lambda)`, nonexpansive where N is in the
    Euclidean one: both blocks are.
    Book: chapter 10, Proposition "The certified layer of LISTA".

    Args:
        network: N, for points of the length of a code.
        step: The operator whose diagonal metric is followed; the code comes first in its point.

    Example:
        >>> from bmo.operators import Lambda, LearnedSparseLADMM
        >>> from bmo.metric import Identity
        >>> D = LearnedSparseLADMM(torch.eye(2), torch.zeros(2), 0.1)
        >>> OnCode(Lambda(lambda u: -u, Identity()), D)(torch.ones(4)).detach()
        tensor([-1., -1.,  1.,  1.])
    """

    def __init__(self, network: Operator, step: LearnedSparseLADMM) -> None:
        super().__init__()
        self.network, self.certified = network, network.certified
        self.followed = step

    @property
    def metric(self) -> Metric:
        return self.followed.metric

    def forward(self, z: Tensor) -> Tensor:
        n = self.followed.G.shape[1]
        u, rest = z.split([n, z.shape[-1] - n], -1)
        at: Ready = self.followed.prepare()
        root = at.p.sqrt()
        return torch.cat([self.network(u * root) / root, rest], -1)
