r"""The methods: what trains by Algorithm 1, and the map T that is run afterwards.

Book: chapter 11. For an observation (b, k, sigma) one step is

.. math:: T = (1-\alpha)I + \alpha\,D_{num}\circ D_{net}, \qquad
          D_{num}(u) = (P + K^\top K)^{-1}(Pu + K^\top b),

and :math:`D_{net}` is a chain of potential steps whose maps (thresholds, masks, biases) are
computed by a free network from a *guide*, an image that depends on the observation alone. So T is
nonexpansive in the Euclidean metric for every observation and every :math:`\omega`. The guide is
the start of the loop: the Wiener image after a few rounds of the same network at falling levels,
each guided by the image of the round before. With the loop the guide stands still.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn

from bmo.gkm import GKM
from bmo.inner import Inner
from bmo.metric import Identity, Metric
from bmo.operators import FourierDataStep, FourierWeight, Operator
from bmo.parameters import Positive
from bmo.problems.deconvolution.settings import Settings
from bmo.problems.learned import Learned
from bmo.schedules import schedule

#: Where the last level, relative to the noise, and the ratio of the weights start.
LAST, RATIO = 1.5, 0.3
#: Knots of the weight of the loop's data step, from the constant image to the chessboard.
KNOTS = 5


class Step(Operator):
    r""":math:`D_{num}\circ D_{net}` for one batch of observations, both prepared.

    Args:
        data: :math:`D_{num}`, bound.
        denoiser: :math:`D_{net}`, bound; both are nonexpansive in the Euclidean metric.
    """

    def __init__(self, data: Operator, denoiser: Operator) -> None:
        super().__init__()
        self.parts = (data, denoiser)  # in a tuple: a loop need not prepare them again
        free = "none" in (data.certified, denoiser.certified)
        self.certified = "none" if free else "by construction"

    @property
    def metric(self) -> Metric:
        return Identity(3)

    def forward(self, u: Tensor) -> Tensor:
        data, denoiser = self.parts
        return data(denoiser(u))


class Deblurrer(Learned):
    r"""A learned method: :meth:`loss` trains it; :meth:`begin` and :meth:`map` run it.

    Args:
        name: Its name.
        denoiser: :math:`D_{net}`, with data named ``sigma`` and perhaps ``guide``.
        settings: Of the experiment (``rounds``, ``iterations``, ``back``, ``alpha``, ``s``).
        mu: Weight of the upper step in hyper-training.

    The learned numbers: ``wiener``, w in the first image :math:`(w\sigma^2 + K^\top K)^{-1}K^\top
    b`; ``first``, the level of the first round; ``last``, the level that the rounds fall to,
    relative to :math:`\sigma`; ``ratio``, r in the weight :math:`p_j = r\sigma^2/\sigma_j^2` of the
    data step in round j; and the spectrum of the data step in the loop. The level of the loop is
    ``loop`` times the last one; this number is not learned.

    An example: :func:`bmo.problems.deconvolution.build`.
    """

    def __init__(self, name: str, denoiser: Operator, settings: Settings, mu: float = 0.0) -> None:
        super().__init__(name)
        self.denoiser, self.settings, self.mu = denoiser, settings, mu
        self.iterations, self.back = settings.iterations, settings.back
        self.wiener, self.first = Positive(100.0), Positive(0.15)
        self.last, self.ratio = Positive(LAST), Positive(RATIO)
        self.loop = nn.Parameter(torch.ones(()), requires_grad=False)
        empty = torch.zeros(1, 1, 2)
        weight = FourierWeight(RATIO / LAST**2, knots=KNOTS, per_sigma=True)
        self.data = FourierDataStep(torch.complex(empty, empty), empty, weight)
        guide = getattr(denoiser, "guide", None)
        self.guided = guide is not None and guide.shape[1] > 0

    @property
    def device(self) -> torch.device:
        """Where the parameters are."""
        return self.data.b.device

    def set_numbers(self, first: float, last: float, ratio: float) -> None:
        """Other levels and another weight, the loop's included; what is learned stays learned."""
        for name, value in {"first": first, "last": last, "ratio": ratio}.items():
            getattr(self, name).load_state_dict(Positive(value).state_dict())
        weight = FourierWeight(ratio / last**2, knots=KNOTS, per_sigma=True)
        self.data.weight.load_state_dict(weight.state_dict())

    @torch.no_grad()
    def quicken(self) -> None:
        """Set the loop's level and data step back to where they start; the rounds stay learned.

        Hyper-training at a small depth learns a loop that hardly moves. Near the fixed point it
        has to begin with one that gets there.
        """
        self.loop.copy_(LAST / self.last())
        weight = FourierWeight(RATIO / LAST**2, knots=KNOTS, per_sigma=True)
        self.data.weight.load_state_dict(weight.state_dict())

    def denoise(self, level: Tensor, guide: Tensor) -> Operator:
        """:math:`D_{net}` at a level (B, 1, 1, 1), told what the guide shows."""
        told = {"guide": guide} if self.guided else {}
        return self.denoiser.bind(sigma=level, **told)

    def levels(self, sigma: Tensor) -> list[Tensor]:
        r"""The levels of the rounds, falling in equal ratios to the level of the loop."""
        last = self.last() * sigma
        high = torch.maximum(self.first().expand_as(last), last)
        count = max(1, self.settings.rounds)
        return [high * (last / high) ** (j / count) for j in range(count + 1)]

    def rest(self, sigma: Tensor) -> Tensor:
        """The level of :math:`D_{net}` in the loop."""
        return self.loop * self.levels(sigma)[-1]

    def begin(self, observed: Tensor, symbol: Tensor, sigma: Tensor) -> Tensor:
        r""":math:`u^0`: the Wiener image after the rounds; it knows the observation alone."""
        solve = data_steps(observed, symbol)
        u = solve(None, self.wiener() * sigma.square())
        for level in self.levels(sigma)[:-1][: self.settings.rounds]:
            v = self.denoise(level, u)(u)
            u = solve(v, self.ratio() * (sigma / level).square())
        return u

    def map(self, u: Tensor, observed: Tensor, symbol: Tensor, sigma: Tensor) -> GKM:
        """T for these observations, guided by u: the start, which no step changes."""
        data = self.data.bind(b=observed, symbol=symbol, sigma=sigma)
        D = Step(data, self.denoise(self.rest(sigma), u))
        certified = D.certified != "none"
        return GKM(D, self.settings.alpha if certified else 1.0, check=certified)

    def loss(self, batch: tuple[Tensor, ...]) -> Tensor:
        r"""The mean root error of :math:`u^K`, and half of it of the start.

        The root of :math:`2\ell/n` is taken image by image: so no noise level outweighs another.
        All steps but the last few are taken without gradient. A batch is a
        :class:`~bmo.problems.deconvolution.draws.Pairs`, or one with restorations.
        """
        start, upper = self.begin(*batch[1:]), Distance(batch[0])
        u = self.reach(start, self.map(start, *batch[1:4]), upper)
        return upper.root(u) + 0.5 * upper.root(start)

    def reach(self, start: Tensor, T: GKM, upper: Distance) -> Tensor:
        r""":math:`u^K` by Algorithm 1; the gradient goes through the last steps alone."""
        inner, u = Inner(T, self.mu, schedule(self.settings.s)), start
        sizes = inner.sizes(self.iterations)
        ahead = len(sizes) - self.back
        if ahead > 0:
            with torch.no_grad():
                u = inner.advance(u.detach(), u, upper, sizes[:ahead])
        return inner.advance(u, start, upper, sizes[max(ahead, 0) :], max(ahead, 0))

    def denoising_loss(self, batch: tuple[Tensor, Tensor, Tensor]) -> Tensor:
        """The mean root error of denoising, relative to the root of the noise level."""
        clean, noise, level = batch
        restored = self.denoise(level, noise)(noise)
        root = (restored - clean).square().mean((1, 2, 3)).add(1e-10).sqrt()
        return (root / level.flatten().sqrt()).mean()

    @torch.no_grad()
    def restore(self, b: Tensor, symbol: Tensor, sigma: float | Tensor) -> Tensor:
        """The image after K steps of T alone: no ground truth. Shapes as in training."""
        level = torch.as_tensor(sigma, dtype=b.dtype).reshape(-1, 1, 1, 1).expand(len(b), 1, 1, 1)
        u = self.begin(b, symbol, level)
        T = self.map(u, b, symbol, level)
        return T.iterate(u, iterations=self.settings.iterations).value


def data_steps(observed: Tensor, symbol: Tensor) -> Callable[[Tensor | None, Tensor], Tensor]:
    r""":math:`(u, p) \mapsto (p + K^\top K)^{-1}(pu + K^\top b)`; without u, :math:`u = 0`."""
    power, right = symbol.abs().square(), symbol.conj() * torch.fft.rfft2(observed)

    def solve(u: Tensor | None, p: Tensor) -> Tensor:
        top = right if u is None else right + p * torch.fft.rfft2(u)
        found: Tensor = torch.fft.irfft2(top / (power + p), s=observed.shape[-2:])
        return found

    return solve


class Distance:
    r""":math:`\ell(u) = \tfrac12\|u - x\|^2` for clean images x (B, C, H, W).

    Example:
        >>> Distance(torch.ones(1, 1, 1, 2))(torch.zeros(1, 1, 1, 2))
        tensor([1.])
    """

    closed = True  # nothing in it is learned

    def __init__(self, clean: Tensor) -> None:
        self.clean = clean

    def __call__(self, u: Tensor) -> Tensor:
        return 0.5 * (u - self.clean).square().sum((-3, -2, -1))

    def gradient(self, u: Tensor) -> Tensor:
        r""":math:`\nabla\ell(u) = u - x`."""
        return u - self.clean

    def roots(self, u: Tensor) -> Tensor:
        r""":math:`\sqrt{2\ell/n}` of each image."""
        return (2 * self(u) / self.clean[0].numel() + 1e-10).sqrt()

    def root(self, u: Tensor) -> Tensor:
        """The mean of :meth:`roots`."""
        return self.roots(u).mean()
