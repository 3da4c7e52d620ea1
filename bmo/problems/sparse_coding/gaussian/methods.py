r"""The learned methods of the bench: from a name to something that trains and something that runs.

Book: chapter 10. Hyper-training sees the codes x through :math:`\ell(u) = \tfrac12\|u - x\|^2`;
what runs afterwards, :attr:`Contender.net`, takes observations alone.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from bmo.baselines import CoupledLISTA, Repeated, TiedLISTA
from bmo.errors import ConditionError, DomainError
from bmo.gkm import GKM
from bmo.inner import AnchoredInner, Inner
from bmo.operators import Composition, Operator
from bmo.problems.sparse_coding.gaussian.pilot import Pilot, PilotedRun
from bmo.problems.sparse_coding.gaussian.settings import (
    CERTIFIED,
    DEEP,
    PILOTED,
    UNCONSTRAINED,
    Settings,
)
from bmo.problems.sparse_coding.gaussian.steps import certified_step, kind_of, layout
from bmo.schedules import Schedule, schedule


class CodeError:
    r""":math:`\ell(z) = \tfrac12\|v - x\|^2` for the code v in a point z, with its derivatives.

    Args:
        codes: x, in rows.
        first: Where the code begins in a point.

    Example:
        >>> upper = CodeError(torch.ones(1, 2), first=2)
        >>> upper(torch.zeros(1, 5)), upper.gradient(torch.zeros(1, 5))
        (tensor([1.]), tensor([[ 0.,  0., -1., -1.,  0.]]))
    """

    closed = True  # nothing in it is learned

    def __init__(self, codes: Tensor, first: int = 0) -> None:
        self.codes, self.place = codes, slice(first, first + codes.shape[-1])

    def __call__(self, z: Tensor) -> Tensor:
        return 0.5 * (z[..., self.place] - self.codes).square().sum(-1)

    def gradient(self, z: Tensor) -> Tensor:
        r""":math:`\nabla\ell(z)`: zero outside of the code."""
        return self._placed(z, z[..., self.place] - self.codes)

    def hessian(self, z: Tensor, v: Tensor) -> Tensor:
        r""":math:`\nabla^2\ell(z)v`: the part of ``v`` that belongs to the code."""
        return self._placed(z, v[..., self.place])

    def _placed(self, z: Tensor, part: Tensor) -> Tensor:
        if part.shape == z.shape:
            return part
        out = torch.zeros_like(z)
        out[..., self.place] = part
        return out


class Contender(nn.Module):
    r"""A learned method: :meth:`loss` trains it, :attr:`net` runs it, seeing observations alone.

    Args:
        name: Its name.
        operator: D, with data named ``b``.
        alpha: Relaxation of T; 1 only for layers without a certificate.
        inner: What the loop of hyper-training is given beside T (``mu``, ``steps``, ``fuse``).
        iterations: K of hyper-training.
        products: As :attr:`bmo.baselines.Unrolled.products`.
        size: The length of a point.
        first: Where the code begins in it.
        anchored: Train by BMO-H.

    Example:
        >>> from bmo.operators import LearnedForwardBackward
        >>> D = LearnedForwardBackward(torch.eye(2), torch.zeros(2), 0.1)
        >>> model = Contender("bmo", D, 0.9, {"mu": 0.3, "steps": 1.0}, 4, 2.0, size=2)
        >>> bool(model.loss((torch.ones(3, 2), torch.ones(3, 2))) > 0)
        True
    """

    def __init__(
        self,
        name: str,
        operator: Operator,
        alpha: float,
        inner: dict[str, Any],
        iterations: int,
        products: float,
        size: int,
        first: int = 0,
        anchored: bool = False,
    ) -> None:
        super().__init__()
        self.name, self.operator, self.alpha, self.inner = name, operator, alpha, inner
        self.iterations, self.products, self.size, self.first = iterations, products, size, first
        self.loop = AnchoredInner if anchored else Inner

    @property
    def map(self) -> GKM:
        """T; relaxation 1 is let through for layers that claim nothing."""
        return GKM(self.operator, self.alpha, check=self.operator.certified != "none")

    def start(self, b: Tensor) -> Tensor:
        r""":math:`u^0 = 0`, one point for each row of ``b``."""
        return b.new_zeros(*b.shape[:-1], self.size)

    def loss(self, batch: tuple[Tensor, Tensor]) -> Tensor:
        r"""Mean of :math:`\ell(u^K)` over (codes, observations): hyper-training's objective."""
        codes, observed = batch
        upper = CodeError(codes, self.first)
        inner = self.loop(self.map.bind(b=observed), **self.inner)
        return upper(inner(self.start(observed), upper, self.iterations)).mean()

    @property
    def net(self) -> Repeated:
        """The method as it is tested: T alone from zero, sharing the parameters."""
        last: Any = self.operator
        last = last.parts[0] if isinstance(last, Composition) else last
        read = getattr(last, "code", None)
        return Repeated(self.map, self.size, self.name, self.products, self.iterations, read)


class Piloted(Contender):
    r"""A learned method whose penalty is weighed by what a pilot run finds in the observation.

    The pilot's steps are the first of the K steps. The upper part (:math:`\mu > 0`) is in the steps
    after it. Book: chapter 10, "What may depend on the observation".

    Args:
        pilot: The pilot run.
        *rest: As :class:`Contender` takes them.

    Raises:
        ConditionError: The pilot alone has more than K steps.

    Example:
        >>> from bmo.problems.sparse_coding.gaussian import PAGE, build
        >>> numbers = {"penalty": 0.1, "rho": 0.1}
        >>> model = build("gkm-pilot-admm", torch.eye(2), {"unh-admm": numbers}, PAGE)
        >>> model.net(torch.tensor([[1.0, 0.0]])).shape, model.net.free
        (torch.Size([1, 2]), 12)
    """

    def __init__(self, pilot: Pilot, *rest: Any) -> None:
        super().__init__(*rest)
        self.pilot = pilot
        _ = self.left

    @property
    def left(self) -> int:
        """The steps of the map in hyper-training.

        Raises:
            ConditionError: The pilot alone has more than K steps.
        """
        if self.pilot.steps > self.iterations:
            raise ConditionError(
                f"a pilot run of at most K = {self.iterations} steps",
                f"{self.pilot.steps} steps, in stages of {self.pilot.lengths}",
                "shorten the stages, or train at a larger K",
                self.pilot.lengths,
            )
        return self.iterations - self.pilot.steps

    def loss(self, batch: tuple[Tensor, Tensor]) -> Tensor:
        codes, observed = batch
        upper = CodeError(codes, self.first)
        found = self.pilot(self.operator, observed, self.start(observed), self.alpha)
        T = self.map.bind(b=observed, weights=found.weights)
        return upper(self.loop(T, **self.inner)(found.points[-1], upper, self.left)).mean()

    @property
    def net(self) -> Repeated:
        return PilotedRun(self.pilot, super().net)


def build(name: str, A: Tensor, start: dict[str, Any], settings: Settings) -> Contender:
    """A fresh model of a learned method, at its start (the same for every seed).

    Args:
        name: Out of :data:`~bmo.problems.sparse_coding.gaussian.settings.LEARNED`.
        A: Dictionary; its dtype is that of training.
        start: What was chosen for ``unh-ista`` and for ``unh-admm``.
        settings: Of the bench.

    Raises:
        DomainError: Another name.

    Example:
        >>> from bmo.problems.sparse_coding import gaussian as bench
        >>> A = bench.gaussian_dictionary(8, 16)
        >>> start = {"unh-admm": {"penalty": 0.05, "rho": 0.2}}
        >>> bench.build("bmo-admm", A, start, bench.PAGE).map.operator.certified
        'by construction'
    """
    s, b, (m, n) = settings, A.new_zeros(A.shape[0]), A.shape
    if name in UNCONSTRAINED:
        coupled = name == "ena-lista-cp-tied"
        layer = CoupledLISTA if coupled else TiedLISTA
        D: Operator = layer(A, b, start["unh-ista"]["penalty"])
        return Contender(name, D, 1.0, {"mu": 0.0}, s.iterations, 2.0 if coupled else n / m, n)
    if name not in CERTIFIED:
        raise DomainError("a learned method", repr(name), "unh-... are chosen, not learned", name)
    kind = kind_of(name)
    D, (products, size, first) = certified_step(kind, A, b, start, s), layout(kind, m, n)
    inner = {"mu": s.mu.get(name, 0.0), "steps": upper_steps(name, s)}
    anchored = name.startswith("bmo-h")
    alpha = s.alpha.get(kind.removesuffix("-net"), s.alpha["fb"])
    depth, stages = s.run_of(name)
    if name in (*PILOTED, *DEEP):
        pilot = Pilot(n, stages).to(A.dtype)
        return Piloted(pilot, name, D, alpha, inner, depth, products, size, first)
    return Contender(name, D, alpha, inner, depth, products, size, first, anchored)


def upper_steps(name: str, settings: Settings) -> Schedule | float:
    """The steps of the upper part: one length for BMO-H, a decreasing schedule otherwise."""
    s = settings.s.get(name, 1.0)
    return s if name.startswith("bmo-h") else schedule(s, settings.p)
