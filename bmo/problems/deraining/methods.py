r"""The methods: what trains by Algorithm 1, and the map T that is run afterwards.

Book: chapter 12. For an observation O one step is

.. math:: T = (1-\alpha)I + \alpha\,D_{num}\circ D_{net}

on :math:`u = (B, M)`: :math:`D_{num}` is :class:`~bmo.problems.deraining.step.RainStep`, and
:math:`D_{net}` draws the background towards a reference that a free network has computed from O.
T is nonexpansive in :math:`H_\omega` for every observation and every :math:`\omega`. The start is
the reference, and what the rain kernels find in :math:`O - r`.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

from bmo.errors import DomainError
from bmo.gkm import GKM
from bmo.inner import AnchoredInner, Inner
from bmo.problems.deraining.derainer import Derainer
from bmo.problems.deraining.draws import Pairs
from bmo.problems.deraining.guided import Guide, GuidedStep, Pull, Told
from bmo.problems.deraining.kernels import line_kernels
from bmo.problems.deraining.layers import rain_adjoint, rain_layer
from bmo.problems.deraining.settings import METHODS, Settings
from bmo.problems.learned import Learned
from bmo.schedules import schedule

#: The largest angle of the kernels at the start, in degrees from the vertical.
SPREAD = 40.0
#: Squared error below which a training loss counts no further: half a grey level.
LEAST = (0.5 / 255) ** 2


class RainRemover(Learned):
    r"""A learned method: :meth:`loss` trains it; :meth:`open` and :meth:`restore` run it.

    Args:
        name: Out of :data:`~bmo.problems.deraining.settings.METHODS`.
        settings: Of the experiment.
        free: Without constraint, and without relaxation: T = D.
        mu: Weight of the upper step in hyper-training.
        anchored: With the anchor of BMO-H in hyper-training.

    An example: :func:`bmo.problems.deraining.build`.
    """

    def __init__(
        self,
        name: str,
        settings: Settings,
        free: bool = False,
        mu: float = 0.0,
        anchored: bool = False,
    ) -> None:
        super().__init__(name)
        self.settings, self.mu, self.anchored = settings, mu, anchored
        s = settings
        self.guide = Guide(s.maps, s.features, s.widths, s.blocks, s.bfloat16)
        kernels = line_kernels(s.maps, s.kernel_side, SPREAD).float()
        self.step = GuidedStep(kernels, torch.zeros(3, 1, 1), s.threshold, s.share, free=free)
        self.pull = Pull(s.features, certified=not free)
        self.alpha = 1.0 if free else s.alpha

    @property
    def device(self) -> torch.device:
        """Where the parameters are."""
        return self.step.C.device

    def begin(self, rainy: Tensor, told: Told) -> Tensor:
        r""":math:`u^0`: the reference, and the streaks that the kernels find in O - r."""
        reference = told.reference.clamp(0.0, 1.0)
        found = rain_adjoint(self.step.C, (rainy - reference).mean(-3, keepdim=True))
        share = functional.softplus(told.gain) * (2 / self.step.maps)
        return torch.cat([reference, share * torch.relu(found)], -3)

    def open(self, rainy: Tensor) -> tuple[Tensor, GKM]:
        """The start and T for observations (B, 3, H, W); no clean image is asked for."""
        told = self.guide.mirrored(rainy)
        D = Derainer(
            self.step.bind(b=rainy, w=told.attention),
            self.pull.bind(reference=told.reference, parts=told.parts),
        )
        certified = D.certified != "none"
        return self.begin(rainy, told), GKM(D, self.alpha, check=certified)

    def loss(self, batch: Pairs) -> Tensor:
        """Minus the PSNR of the background after K steps, and half of that of the start.

        All steps but the last few are taken without gradient.
        """
        clean, rainy = batch
        u, T = self.open(rainy)
        start, s = u, self.settings
        kind, steps = (AnchoredInner, s.s) if self.anchored else (Inner, schedule(s.s))
        inner = kind(T, self.mu, steps)
        upper = Distance(clean, rainy, self.step.C, s.rain_weight)
        sizes = inner.sizes(s.iterations)
        ahead = max(len(sizes) - s.back, 0)
        if ahead:
            with torch.no_grad():
                u = inner.advance(u.detach(), u.detach(), upper, sizes[:ahead])
        u = inner.advance(u, start, upper, sizes[ahead:], ahead)
        return decibels(u[:, :3], clean) + 0.5 * decibels(start[:, :3], clean)

    def guide_loss(self, batch: Pairs) -> Tensor:
        """Minus the PSNR of the reference: what the free network learns alone."""
        return decibels(self.guide(batch.rainy).reference, batch.clean)

    def onward(self, T: GKM, u: Tensor, start: Tensor, done: int, depth: int) -> Tensor:
        r"""From the iterate of step ``done`` to that of step ``depth``, by T alone.

        The anchored method is run as it is trained:
        :math:`u^k = \tfrac1{k+1}u^0 + \tfrac k{k+1}T(u^{k-1})`.
        """
        if not self.anchored:
            return T.iterate(u, iterations=depth - done, throw=False).value
        for k in range(done + 1, depth + 1):
            u = (start + k * T(u)) / (k + 1)
        return u

    @torch.no_grad()
    def restore(self, rainy: Tensor, depth: int | None = None) -> Tensor:
        """The background after K steps (or ``depth``) of T alone: no ground truth."""
        u, T = self.open(rainy)
        steps = self.settings.iterations if depth is None else depth
        return self.onward(T, u, u, 0, steps)[:, :3]


class Distance:
    r""":math:`\ell(u) = \tfrac12\|B - X\|^2 + \tfrac\rho2\|CM - (O - X)\|^2`: it knows X.

    Args:
        clean: X, shape (B, 3, H, W).
        rainy: O, the same shape.
        kernels: C.
        weight: :math:`\rho \ge 0`.
    """

    def __init__(self, clean: Tensor, rainy: Tensor, kernels: Tensor, weight: float) -> None:
        self.clean, self.kernels, self.weight = clean, kernels, weight
        self.streaks = (rainy - clean).mean(-3, keepdim=True)

    def __call__(self, u: Tensor) -> Tensor:
        found = (u[..., :3, :, :] - self.clean).square().sum((-3, -2, -1))
        return 0.5 * (found + self.weight * self._gap(u).square().sum((-3, -2, -1)))

    def gradient(self, u: Tensor) -> Tensor:
        r""":math:`\nabla\ell(u) = (B - X,\ \rho\,C^\top(CM - (O - X)))`."""
        maps = self.weight * rain_adjoint(self.kernels, self._gap(u))
        return torch.cat([u[..., :3, :, :] - self.clean, maps], -3)

    def _gap(self, u: Tensor) -> Tensor:
        return rain_layer(self.kernels, u[..., 3:, :, :]) - self.streaks


def decibels(restored: Tensor, clean: Tensor) -> Tensor:
    """Minus the mean PSNR of a batch, level below half a grey level.

    Example:
        >>> x = torch.zeros(1, 3, 4, 4)
        >>> round(float(decibels(x + 0.1, x)), 2)
        -20.0
    """
    return 10 * ((restored - clean).square().mean((1, 2, 3)) + LEAST).log10().mean()


def build(name: str, settings: Settings, seed: int = 0) -> RainRemover:
    """A fresh model of a method; equal seeds give equal weights.

    Args:
        name: Out of :data:`~bmo.problems.deraining.settings.METHODS`.
        settings: Of the experiment.
        seed: Decides the weights.

    Raises:
        DomainError: Another name.

    Example:
        >>> from bmo.problems.deraining import PAGE
        >>> u, T = build("bmo", PAGE).open(torch.rand(1, 3, 16, 16))
        >>> T(u).shape == u.shape
        True
    """
    if name not in METHODS:
        raise DomainError(f"one of the methods {METHODS}", repr(name), "choose one", name)
    kept = torch.get_rng_state()
    torch.manual_seed(seed)
    mu = settings.mu if name.startswith("bmo") else 0.0
    model = RainRemover(name, settings, name == "ena", mu, name == "bmo-h")
    torch.set_rng_state(kept)
    return model
