r"""Every setting of the deconvolution experiment, once for each profile.

Book: chapter 11. The settings never follow the hardware.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace

from bmo.problems.deconvolution.budgets import Budget, Correcting, Referring
from bmo.problems.profiles import Profiled, of_profile

NOISES = ("gaussian",)
#: Joint (mu > 0), its mu = 0, end to end without constraint, and denoising alone.
COMPARED = ("bmo", "gkm", "ena", "pnp")
#: What begins at a restoration by a public denoiser.
CORRECTED = ("corrected",)
#: What begins there too, and whose loop is trained for it: with mu > 0, and with mu = 0.
REFERRED = ("bmo-ffdnet", "gkm-ffdnet")
#: The comparison at one small budget, the long run, its ablation, a free network, and those.
METHODS = (*COMPARED, "bmo-long", "bmo-blind", "bmo-free", *CORRECTED, *REFERRED)
#: Methods whose T is nonexpansive for every value of the parameters.
CERTIFIED = ("bmo", "gkm", "pnp", "bmo-long", "bmo-blind", *CORRECTED, *REFERRED)
#: (image, kernel, noise in percent) of the convergence test: every kernel three times, every image
#: eight times, every noise level six times.
CASES = tuple(
    (
        ("butterfly", "leaves", "starfish")[(n % 8 + n // 8) % 3],
        n % 8,
        (0.5, 1, 3, 5)[(n % 8 + n // 8) % 4],
    )
    for n in range(24)
)


@dataclass(frozen=True)
class Settings(Profiled):
    r"""What is run, and how.

    Attributes:
        profile: ``"page"``, ``"small"`` or ``"full"``.
        noises: Kinds of noise: one.
        methods: Out of :data:`METHODS`.
        seeds: Each decides the training batches of one repetition.
        features: Filters of each block of the network.
        blocks: Its blocks.
        widths: Widths of the network that computes the reference image.
        map_widths: Widths of the network that computes thresholds, masks and biases.
        free_widths: Widths of the uncertified network.
        rounds: J, how often the maps are computed anew before the loop.
        iterations: K of hyper-training.
        deep_iterations: K of the last part of hyper-training, of the methods that have one.
        back: The last steps of the loop that the gradient goes through.
        alpha: Relaxation of T.
        correcting: Of the method that corrects a restoration by others.
        referring: Of the methods whose loop is trained around one.
        mu: Weight of the upper step, of the methods with one.
        s: Scale of :math:`s_k = s/(k+1)`.
        side: Side of a training patch in pixels.
        denoising_batch: Patches in a step of denoising.
        batch: Patches in a step of deblurring.
        levels: Noise of denoising: the least and the largest level on [0, 1].
        percents: Noise of deblurring: the least and the largest level in percent.
        budgets: Method → its budget; that of the first four takes the same time.
        denoising_rate: Learning rate of denoising.
        rate: Learning rate of deblurring.
        deep_rate: The same in the last part.
        number_rate: The same for raw numbers (levels, weights).
        warmup: Steps of linear rise of the learning rate.
        clip: Largest norm of the gradient.
        held_out: Training images kept apart for every choice.
        side_held_out: Side of their middle parts.
        kernel: Index of the test kernel.
        test_percents: Noise levels of the tables.
        noise_seeds: Seeds of the test noise.
        crop: Side of the crops of the convergence test.
        cases: Cases of the convergence test.
        grid: Numbers of plug-and-play to choose from: ``first``, ``last`` and ``ratio``.
        resolution: Relative residual below which float32 moves an image no more.
        depths: Steps of T at which PSNR and residual are measured.
        table_depths: Those of them that stand in the tables.

    An example: :func:`bmo.problems.deconvolution.settings_of`.
    """

    noises: tuple[str, ...] = NOISES
    methods: tuple[str, ...] = METHODS
    seeds: tuple[int, ...] = (0,)
    features: int = 64
    blocks: int = 5
    widths: tuple[int, ...] = (64, 128, 192)
    map_widths: tuple[int, ...] = (32, 64)
    free_widths: tuple[int, ...] = (64, 128, 192)
    rounds: int = 8
    iterations: int = 16
    deep_iterations: int = 64
    back: int = 6
    correcting: Correcting = Correcting()
    referring: Referring = Referring()
    alpha: float = 0.9
    mu: float = 0.05
    s: float = 1.0
    side: int = 96
    denoising_batch: int = 32
    batch: int = 16
    levels: tuple[float, float] = (0.005, 0.25)
    percents: tuple[float, float] = (0.5, 4.0)
    budgets: dict[str, Budget] = field(
        default_factory=lambda: {
            **dict.fromkeys(COMPARED[:3], Budget(60_000, 20_000)),
            "pnp": Budget(140_000, 0),  # as many seconds
            "bmo-long": Budget(300_000, 100_000, 20_000),
            "bmo-blind": Budget(60_000, 20_000),
            "bmo-free": Budget(300_000, 100_000),
            **dict.fromkeys(CORRECTED, Budget(60_000, 100_000)),
            **dict.fromkeys(REFERRED, Budget(0, 4_000)),
        }
    )
    denoising_rate: float = 2e-3
    rate: float = 1e-3
    deep_rate: float = 5e-4
    number_rate: float = 1e-2
    warmup: int = 200
    clip: float = 1.0
    held_out: int = 3
    side_held_out: int = 128
    kernel: int = 3
    test_percents: tuple[float, ...] = (1, 3)
    noise_seeds: tuple[int, ...] = (0, 1, 2, 3, 4)
    crop: int = 128
    cases: tuple[tuple[str, int, float], ...] = CASES
    grid: tuple[tuple[float, ...], ...] = (
        (0.1, 0.2),
        (1.0, 1.5, 2.5, 4.0),
        (0.1, 0.3, 1.0),
    )
    resolution: float = 3e-7
    depths: tuple[int, ...] = (0, 1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1000)
    table_depths: tuple[int, ...] = (0, 16, 32, 1000)

    def seeds_of(self, method: str, noise: str = "") -> tuple[int, ...]:
        """The seeds of a method: all of them, whatever the noise."""
        return self.seeds


#: For one GPU, in pieces of a few minutes.
FULL = Settings("full")
#: The same real data and test, with networks and budgets for an hour or two on one CPU core.
SMALL = Settings(
    "small",
    features=16,
    blocks=1,
    widths=(32, 48, 64),
    map_widths=(16, 24),
    free_widths=(32, 48, 64),
    rounds=5,
    iterations=8,
    deep_iterations=32,
    back=4,
    correcting=Correcting((32, 48, 64), parts=12),
    referring=Referring(parts=2),
    side=64,
    denoising_batch=8,
    batch=4,
    budgets={
        **dict.fromkeys(COMPARED[:3], Budget(900, 300)),
        "pnp": Budget(1950, 0),  # as many seconds
        "bmo-long": Budget(1500, 2500, 1000),
        "bmo-blind": Budget(900, 300),
        "bmo-free": Budget(900, 300),
        **dict.fromkeys(CORRECTED, Budget(900, 1200)),
        **dict.fromkeys(REFERRED, Budget(0, 400)),
    },
    warmup=30,
    table_depths=(0, 8, 16, 1000),
)
#: One minute on one core, on pictures inside scikit-image's wheel.
PAGE = replace(
    SMALL,
    profile="page",
    methods=("bmo", "gkm", "ena", "pnp"),
    widths=(12, 16),
    map_widths=(8,),
    rounds=3,
    iterations=6,
    back=3,
    side=48,
    denoising_batch=6,
    batch=3,
    budgets={**dict.fromkeys(COMPARED[:3], Budget(100, 100)), "pnp": Budget(400, 0)},
    held_out=1,
    side_held_out=96,
    warmup=10,
    noise_seeds=(0,),
    crop=96,
    cases=tuple(("rocket", n % 8, (0.5, 1, 3, 5)[n % 4]) for n in range(4)),
    depths=(0, 1, 2, 4, 6, 12, 25, 50, 100, 200),
    table_depths=(0, 6, 12, 200),
    grid=((0.1, 0.2), (1.0, 2.0), (0.3, 1.0)),
)


def settings_of(profile: str) -> Settings:
    """The settings of a profile.

    Raises:
        DomainError: Another name.

    Example:
        >>> settings_of("full").rounds
        8
    """
    return of_profile(profile, PAGE, SMALL, FULL)
