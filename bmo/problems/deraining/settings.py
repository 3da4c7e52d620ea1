r"""Every setting of the deraining experiment, once for each profile.

Book: chapter 12. The settings never follow the hardware.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from bmo.problems.profiles import Profiled, of_profile

#: Kinds of rain in the tables: one learned method serves both.
NOISES = ("rain",)
#: End to end without constraint, joint with mu = 0, with mu > 0, and with mu > 0 and an anchor.
METHODS = ("bmo", "gkm", "ena", "bmo-h")
#: Methods whose T is nonexpansive for every value of the parameters.
CERTIFIED = ("bmo", "gkm", "bmo-h")
Range = tuple[float, float]


@dataclass(frozen=True)
class Settings(Profiled):
    r"""What is run, and how.

    An example: :func:`bmo.problems.deraining.settings_of`.

    Attributes:
        profile: ``"page"``, ``"small"`` or ``"full"``.
        noises: One: rain.
        methods: Out of :data:`METHODS`.
        seeds: Each decides the training batches of one repetition.
        widths: Widths of the free network that reads the observation.
        blocks: Its residual blocks of each resolution on each side.
        features: Filters of the certified step on the background.
        maps: N, the number of rain maps.
        kernel_side: Side of the rain kernels.
        threshold: :math:`\theta` at the start.
        share: Part of the curvature that the background has at the start.
        bfloat16: Train the free network in bfloat16 (it is always tested in float32).
        iterations: K of hyper-training: the trained depth.
        back: The last steps of the loop that the gradient goes through.
        alpha: Relaxation of T.
        mu: Weight of the upper step, of the methods with one.
        s: Scale of :math:`s_k = s/(k+1)`, and the step of ``bmo-h``.
        rain_weight: :math:`\rho`, the weight of the rain layer in the upper objective.
        side: Side of a training patch in pixels.
        guide_batch: Patches in a step of training the free network alone.
        batch: Patches in a step of hyper-training.
        heavy: Part of the patches with heavy rain; the others have light rain.
        borrowed: Part of the heavy ones with a rain layer taken from a real training pair.
        layers: Rain layers of each kind that patches are cut of.
        layer_side: Their side in pixels.
        light: Ranges of light rain: angle, length, width, brightness, amount, layers.
        strong: The same of heavy rain.
        gain: The least and the largest factor on the brightness of a cut layer.
        guide_steps: Steps of Adam on the free network alone.
        steps: Steps of Adam of hyper-training.
        guide_rate: Learning rate of the free network alone.
        rate: Learning rate of hyper-training.
        number_rate: The same for raw numbers (weights, thresholds).
        warmup: Steps of linear rise of the learning rate, a tenth of all at most.
        clip: Largest norm of the gradient.
        held_out: Training images kept apart for every choice.
        side_held_out: Side of their middle parts.
        pairs: Numbers of the test pairs of each set.
        cases: Numbers of the test pairs of the convergence test, of each set.
        crop: Side of the crops of the convergence test.
        depths: Steps of T in the tables.
        case_depths: Steps of T of the convergence test.
    """

    noises: tuple[str, ...] = NOISES
    methods: tuple[str, ...] = METHODS
    seeds: tuple[int, ...] = (0,)
    widths: tuple[int, ...] = (48, 72, 96, 128)
    blocks: int = 2
    features: int = 32
    maps: int = 24
    kernel_side: int = 9
    threshold: float = 0.02
    share: float = 0.05
    bfloat16: bool = True
    iterations: int = 8
    back: int = 4
    alpha: float = 0.9
    mu: float = 0.05
    s: float = 1.0
    rain_weight: float = 0.1
    side: int = 128
    guide_batch: int = 16
    batch: int = 8
    heavy: float = 0.5
    borrowed: float = 0.3
    layers: int = 600
    layer_side: int = 256
    light: tuple[Range, Range, Range, Range, Range, int] = (
        (-30.0, 30.0), (4.7, 65.0), (0.5, 0.9), (0.06, 0.25), (0.004, 0.08), 1,
    )  # fmt: skip
    strong: tuple[Range, Range, Range, Range, Range, int] = (
        (-20.0, 20.0), (4.7, 60.0), (0.5, 0.85), (0.1, 0.22), (0.06, 0.35), 5,
    )  # fmt: skip
    gain: tuple[float, float] = (0.7, 1.3)
    guide_steps: int = 300_000
    steps: int = 30_000
    guide_rate: float = 1.5e-3
    rate: float = 2e-4
    number_rate: float = 5e-3
    warmup: int = 200
    clip: float = 1.0
    held_out: int = 4
    side_held_out: int = 256
    pairs: tuple[int, ...] = tuple(range(1, 101))
    cases: tuple[int, ...] = tuple(range(5, 101, 10))
    crop: int = 128
    depths: tuple[int, ...] = (0, 8)
    case_depths: tuple[int, ...] = (0, 1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1000)

    def seeds_of(self, method: str, noise: str = "") -> tuple[int, ...]:
        """The seeds of a method: all of them, whatever the rain."""
        return self.seeds


#: For one GPU, in pieces of a few minutes.
FULL = Settings("full")
#: The same real data and tests, with networks and budgets for an hour or so on one CPU core.
SMALL = Settings(
    "small",
    widths=(32, 48, 64, 80),
    features=16,
    maps=8,
    side=96,
    guide_batch=8,
    batch=4,
    layers=200,
    guide_steps=19_000,
    steps=400,
)
#: One minute on one core, on pictures inside scikit-image's wheel.
PAGE = replace(
    SMALL,
    profile="page",
    methods=("bmo", "gkm", "ena"),
    widths=(12, 16),
    blocks=1,
    features=12,
    maps=4,
    kernel_side=7,
    iterations=6,
    back=4,
    side=48,
    guide_batch=8,
    batch=4,
    borrowed=0.0,
    layers=12,
    layer_side=96,
    guide_steps=250,
    steps=60,
    guide_rate=3e-3,
    rate=1e-3,
    warmup=10,
    held_out=1,
    side_held_out=96,
    pairs=(1,),
    cases=(1,),
    crop=96,
    depths=(0, 6),
    case_depths=(0, 1, 2, 4, 6, 12, 25, 50, 100, 200),
)


def settings_of(profile: str) -> Settings:
    """The settings of a profile.

    Raises:
        DomainError: Another name.

    Example:
        >>> settings_of("small").iterations
        8
    """
    return of_profile(profile, PAGE, SMALL, FULL)
