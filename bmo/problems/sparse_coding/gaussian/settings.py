r"""Every setting of the Gaussian bench, once for each profile.

Book: chapter 10. The settings never follow the hardware.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from bmo.problems.profiles import Profiled, of_profile

#: Signal-to-noise ratio in dB of each noise level; ``None``: no noise.
LEVELS: dict[str, float | None] = {"30db": 30.0, "noiseless": None}
NOISES = tuple(LEVELS)

#: Nothing is learned; penalty and steps are chosen on held-out codes at depth K.
CLASSICAL = ("unh-ista", "unh-fista", "unh-ladmm", "unh-pdhg", "unh-admm")
#: Unconstrained layers, the same at every depth.
UNCONSTRAINED = ("ena-lista-tied", "ena-lista-cp-tied")
#: Certified: a forward-backward step, linearised ADMM, and ADMM with its dense solve. Then a
#: network: alone, or before or after such a step. Then those whose penalty is weighed by what a
#: pilot run finds. Last, ADMM with so small a mu that its loop is hardly told the code.
NETTED = ("bmo-net", "bmo-fb-net", "bmo-net-fb", "bmo-ladmm-net")
PILOTED = tuple(f"{n}-pilot{step}" for step in ("", "-ladmm", "-admm") for n in ("gkm", "bmo"))
#: The same with linearised ADMM, trained at a larger K.
DEEP = ("gkm-deep-pilot-ladmm", "bmo-deep-pilot-ladmm")
LIGHT = "bmo-light-admm"
CERTIFIED = (
    *(f"{name}{step}" for step in ("", "-ladmm", "-admm") for name in ("gkm", "bmo", "bmo-h")),
    *NETTED,
    *PILOTED,
    *DEEP,
    LIGHT,
)
#: Unconstrained, with as many different layers as steps.
LAYERWISE = (
    "ena-lista",
    "ena-lista-cp",
    "ena-lista-cpss",
    "ena-alista",
    "ena-tista",
    "ena-dladmm",
)
#: Unconstrained networks of the literature: those, and a fixed point found by acceleration.
NETWORKS = (*LAYERWISE, "ena-deq")
LEARNED = UNCONSTRAINED + NETWORKS + CERTIFIED
METHODS = CLASSICAL + LEARNED
#: What runs without noise, too.
MAIN = ("unh-ista", "unh-fista", "unh-admm", "ena-lista-tied", "ena-lista-cp-tied", "bmo",
        "bmo-ladmm", "gkm-admm", "bmo-admm", LIGHT, "gkm-pilot-admm")  # fmt: skip
#: One seed: what stands beside.
ONCE = (*NETWORKS, *NETTED, LIGHT, "ena-lista-cp-tied", *PILOTED[:4], DEEP[0])
_MU = {"bmo": 0.3, "bmo-h": 0.1, "bmo-ladmm": 0.02, "bmo-h-ladmm": 0.02, "bmo-admm": 0.03,
       "bmo-h-admm": 0.03, "bmo-pilot": 0.3, "bmo-pilot-ladmm": 0.02, "bmo-pilot-admm": 0.03,
       **dict.fromkeys(NETTED, 0.3), "bmo-ladmm-net": 0.02, DEEP[1]: 0.002,
       LIGHT: 0.001}  # fmt: skip
_SCALE = {"bmo": 1.0, "bmo-h": 0.2, "bmo-ladmm": 1.0, "bmo-h-ladmm": 0.2, "bmo-admm": 1.0,
          "bmo-h-admm": 0.2, "bmo-pilot": 1.0, "bmo-pilot-ladmm": 1.0, "bmo-pilot-admm": 1.0,
          **dict.fromkeys((*NETTED, LIGHT, DEEP[1]), 1.0)}  # fmt: skip


@dataclass(frozen=True)
class Settings(Profiled):
    r"""What is run, and how.

    Attributes:
        profile: ``"page"`` or ``"full"``.
        rows: m, the length of an observation.
        atoms: n, the length of a code.
        density: Probability of a nonzero coefficient.
        noises: Out of :data:`NOISES`.
        methods: Out of :data:`METHODS`.
        main: Those of them that run at every noise level, if there are several.
        seeds: Each decides the training codes of one repetition.
        iterations: K of hyper-training, and the depth of every choice.
        alpha: Relaxation of the certified maps, for each kind of step.
        proximal: q relative to beta at the start of the two-block maps.
        pilot: Steps before each change of the weights of the penalty.
        deeper: K of hyper-training of the deep methods, and their pilot.
        mu: Weight of the upper step, for each certified method with one.
        s: Scale of :math:`s_k = s/(k+1)^p`, for the same methods.
        p: Its exponent (BMO-H: a constant step s).
        steps: Steps of Adam.
        batch: Fresh codes in a step.
        rates: Learning rates of matrices to choose from, the same for every learned method.
        number_rate: Learning rate of raw numbers (thresholds, weights, penalties) of all methods.
        search_steps: Steps of Adam for each candidate rate.
        warmup: Steps of linear rise of the learning rate.
        double: Train in float64 (the test always is).
        percent: Share of the entries that each layer of LISTA-CPSS and ALISTA trusts, in percent.
        most: The largest such share.
        evaluations: Evaluations of its layer in the training of the equilibrium model.
        clip: Largest norm of the gradient of a network (the book's methods need no limit).
        validation: Held-out codes, for every choice.
        tuned: How many of them choose the numbers of the classical methods.
        test: Test codes of each kind.
        shifted: How many of them are tested in each shift, for the first seed.
        shift_levels: Signal-to-noise ratios of the shifts, in dB.
        shift_densities: Densities of the shifts.
        perturbations: Relative errors of the dictionary of the shifts.
        penalties: :math:`\lambda` to choose from.
        smaller: More of them, where there is no noise.
        scales: :math:`\rho` to choose from (ADMM).
        relaxations: Its relaxation to choose from.
        ratios: :math:`\beta` (linearised ADMM) and :math:`\sigma\|A\|` (PDHG) to choose from.
        lengths: :math:`\tau L` to choose from (ISTA).
        depths: Steps of T at which the error and the residual are measured.
        table_depths: Those of them that stand in the tables.
        targets: Errors in dB that the methods race to.
        raced: With how many test codes.
        resolution: Relative residual below which float64 moves a code no more.

    An example: :func:`bmo.problems.sparse_coding.gaussian.settings_of`.
    """

    rows: int = 250
    atoms: int = 500
    density: float = 0.1
    noises: tuple[str, ...] = NOISES
    methods: tuple[str, ...] = METHODS
    main: tuple[str, ...] = MAIN
    seeds: tuple[int, ...] = (0, 1, 2)
    iterations: int = 16
    alpha: dict[str, float] = field(
        default_factory=lambda: {"fb": 0.9, "ladmm": 0.99, "admm": 0.99}
    )
    proximal: float = 0.01
    pilot: tuple[int, ...] = (8, 4)
    deeper: tuple[int, tuple[int, ...]] = (32, (16, 8))
    mu: dict[str, float] = field(default_factory=lambda: dict(_MU))
    s: dict[str, float] = field(default_factory=lambda: dict(_SCALE))
    p: float = 1.0
    steps: int = 1000
    batch: int = 128
    rates: tuple[float, ...] = (1e-4, 1e-3, 3e-3, 1e-2)
    number_rate: float = 1e-2
    search_steps: int = 80
    warmup: int = 25
    double: bool = False
    percent: float = 1.2
    most: float = 13.0
    evaluations: int = 60
    clip: float = 10.0
    validation: int = 1000
    tuned: int = 400
    test: int = 1000
    shifted: int = 200
    shift_levels: tuple[float, ...] = (20.0, 40.0)
    shift_densities: tuple[float, ...] = (0.05, 0.2)
    perturbations: tuple[float, ...] = (0.03, 0.1)
    penalties: tuple[float, ...] = (0.003, 0.006, 0.01, 0.02, 0.03, 0.05, 0.1, 0.15, 0.2, 0.3)
    smaller: tuple[float, ...] = (0.0003, 0.001)
    scales: tuple[float, ...] = (0.01, 0.03, 0.06, 0.1, 0.2, 0.3, 0.6, 1.0, 2.0)
    relaxations: tuple[float, ...] = (1.0, 1.6, 1.9)
    ratios: tuple[float, ...] = (0.01, 0.03, 0.1, 0.3, 1.0, 3.0)
    lengths: tuple[float, ...] = (1.0, 1.9)
    depths: tuple[int, ...] = (1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1000)
    table_depths: tuple[int, ...] = (16, 64, 1000)
    targets: tuple[float, ...] = (-10.0, -20.0)
    raced: int = 200
    resolution: float = 1e-14

    def penalties_of(self, noise: str) -> tuple[float, ...]:
        """What a penalty is chosen from: the less noise, the smaller."""
        return (*(self.smaller if LEVELS[noise] is None else ()), *self.penalties)

    def seeds_of(self, method: str, noise: str = NOISES[0]) -> tuple[int, ...]:
        """The seeds of a method: one for those that stand beside, and for what is chosen.

        At the first of several noise levels all methods run, at the others the main ones alone,
        with one seed. A light upper step is an answer to a question of the others.
        """
        if method == LIGHT and noise == self.noises[0] and len(self.noises) > 1:
            return ()
        if noise in self.noises[1:]:
            return self.seeds[:1] if method in self.main else ()
        return self.seeds if method in LEARNED and method not in ONCE else self.seeds[:1]

    def run_of(self, method: str) -> tuple[int, tuple[int, ...]]:
        """K of hyper-training of a method, and the stages of its pilot (if it has one)."""
        return self.deeper if method in DEEP else (self.iterations, self.pilot)

    def methods_of(self, noise: str) -> list[str]:
        """The methods that run at a noise level."""
        return [method for method in self.methods if self.seeds_of(method, noise)]


FULL = Settings("full")
#: A smaller instance of the same shape, trained in float64; some minutes on one core.
PAGE = Settings(
    "page",
    rows=50,
    atoms=100,
    noises=("30db",),
    methods=(
        "unh-ista",
        "unh-fista",
        "unh-admm",
        "ena-lista-tied",
        "gkm",
        "bmo",
        *NETTED,
        "bmo-ladmm",
        "bmo-deep-pilot-ladmm",
        "bmo-admm",
        "gkm-pilot-admm",
        "bmo-pilot-admm",
    ),
    seeds=(0,),
    steps=400,
    batch=64,
    rates=(1e-4, 1e-3, 1e-2),
    search_steps=50,
    double=True,
    test=500,
    shifted=100,
    penalties=(0.003, 0.006, 0.01, 0.03, 0.1, 0.15, 0.2),
    scales=(0.01, 0.03, 0.1, 0.3),
    relaxations=(1.0, 1.6),
    ratios=(0.01, 0.03, 0.1, 0.3),
    perturbations=(0.1,),
)


def settings_of(profile: str) -> Settings:
    """The settings of a profile.

    Raises:
        DomainError: Another name.

    Example:
        >>> settings_of("full").atoms
        500
    """
    return of_profile(profile, PAGE, FULL)
