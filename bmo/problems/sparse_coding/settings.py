"""Every setting of the sparse-coding experiment, once for each profile.

Book: chapter 10. The settings never follow the hardware.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from bmo.problems.profiles import Profiled, of_profile
from bmo.problems.sparse_coding.noise import NOISES

#: Names begin with the class: bmo (mu > 0), gkm (the same operator, mu = 0), ENA and UNH.
METHODS = ("bmo", "gkm", "ena-lista", "unh-ista")
LEARNED = METHODS[:3]


@dataclass(frozen=True)
class Settings(Profiled):
    r"""What is run, and how.

    Attributes:
        profile: ``"page"`` or ``"full"``.
        size: Side of a patch.
        atoms: Columns of the dictionary.
        noises: Kinds of noise.
        methods: Out of :data:`METHODS`.
        seeds: Each decides the training batches and the test noise of one repetition.
        iterations: K of hyper-training.
        alpha: Relaxation of T.
        mu: Weight of the upper step for each noise (method ``bmo``).
        s: Scale of :math:`s_k = s/(k+1)^p` for each noise.
        p: Its exponent.
        ridge: :math:`\varepsilon` of the elastic net.
        flattens: Powers of :func:`~bmo.problems.sparse_coding.dictionary.flatten_spectrum` to
            choose from.
        steps: Steps of Adam.
        batch: Patches in a step.
        rates: Learning rates to choose from, the same for every learned method.
        search_steps: Steps of Adam for each candidate rate.
        warmup: Steps of linear rise of the learning rate.
        dictionary_batches: Batches of dictionary learning.
        validation: Held-out training patches, for every choice.
        penalties: :math:`\lambda` to choose from.
        outliers: c to choose from (salt and pepper).
        ista_steps: :math:`\tau L` to choose from.
        stride: Distance of test patches.
        depths: Steps of T at which PSNR and the residual are measured.
        table_depths: Those of them that stand in the tables, with SSIM.
        resolution: Relative residual below which float32 cannot move a patch any more; a chunk
            of patches that is wholly below it is not iterated further.
        exact_patches: Test patches iterated in float64 through all steps, for the residual.

    An example: :func:`bmo.problems.sparse_coding.settings_of`.
    """

    size: int = 16
    atoms: int = 512
    noises: tuple[str, ...] = NOISES
    methods: tuple[str, ...] = METHODS
    seeds: tuple[int, ...] = (0, 1, 2)
    iterations: int = 16
    alpha: float = 0.9
    mu: dict[str, float] = field(default_factory=lambda: {"gaussian": 0.1, "salt-pepper": 0.3})
    s: dict[str, float] = field(default_factory=lambda: {"gaussian": 3.0, "salt-pepper": 10.0})
    p: float = 1.0
    ridge: float = 0.1
    flattens: tuple[float, ...] = (0.0, 0.5)
    steps: int = 200
    batch: int = 64
    rates: tuple[float, ...] = (3e-4, 1e-3, 3e-3)
    search_steps: int = 40
    warmup: int = 20
    dictionary_batches: int = 150
    validation: int = 1000
    penalties: tuple[float, ...] = (0.03, 0.06, 0.09, 0.12, 0.15, 0.2)
    outliers: tuple[float, ...] = (0.5, 1.0, 2.0)
    ista_steps: tuple[float, ...] = (1.0, 1.9)
    stride: int = 16
    depths: tuple[int, ...] = (1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1000)
    table_depths: tuple[int, ...] = (16, 64, 256, 1000)
    resolution: float = 2e-7
    exact_patches: int = 128

    def seeds_of(self, method: str, noise: str = "") -> tuple[int, ...]:
        """The seeds of a method: one for ISTA, which is not trained, whatever the noise."""
        return self.seeds if method in LEARNED else self.seeds[:1]


FULL = Settings("full")
#: Smaller patches and fewer steps; ends within a minute on two cores.
PAGE = Settings(
    "page",
    size=8,
    atoms=128,
    seeds=(0,),
    steps=150,
    batch=64,
    search_steps=20,
    dictionary_batches=40,
    validation=400,
    stride=8,
    exact_patches=64,
)


def settings_of(profile: str) -> Settings:
    """The settings of a profile.

    Raises:
        DomainError: Another name.

    Example:
        >>> settings_of("full").atoms
        512
    """
    return of_profile(profile, PAGE, FULL)
