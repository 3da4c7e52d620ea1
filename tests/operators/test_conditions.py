"""Each condition: one per cent beyond it the step expands; in another metric it expands too."""

from __future__ import annotations

import math
from collections.abc import Callable

import pytest
import torch
from torch import Tensor

import bmo
from bmo import operators, prox, sets, smooth
from bmo.errors import ConditionError, MetricError, NonFiniteError, ShapeError
from bmo.metric import Block, Dense, Diagonal, Identity, Scaled
from bmo.operators import Operator
from bmo.operators.subproblem import Subproblem
from tests.operators.ratios import jacobian, norm_in, pair_ratio

f64 = torch.float64
ONE = torch.ones(1, 1, dtype=f64)
E2 = torch.tensor([[0.0, 1.0]], dtype=f64)  # sees the second coordinate only
ZERO = torch.zeros(1, dtype=f64)
FIXED = prox.Indicator(sets.Box(0.0, 0.0))  # its proximal operator is 0


def quadratic(*diagonal: float) -> smooth.Quadratic:
    d = torch.tensor(diagonal, dtype=f64)
    return smooth.Quadratic(torch.diag(d), torch.zeros_like(d))


def minus() -> Operator:
    return operators.Lambda(lambda u: -u, Identity())


def instance(name: str, k: float, check: bool) -> tuple[Operator, int]:
    """An instance of each sharp condition at ``k`` times its limit, and the size of its points."""
    none, f = prox.Zero(), quadratic(1.0)
    q = quadratic(2.0 * 1.1 * k, 0.0)  # curvature 2k in P, in the direction that E2 does not see
    d = torch.tensor([1.0, 4.0], dtype=f64) / k
    W = torch.tensor([[0.0, -3.0], [3.0, 0.0]], dtype=f64)  # m = 1, |I - W|^2 = 10
    b = torch.zeros(2, dtype=f64)
    made: dict[str, Callable[[], Operator]] = {
        "gradient": lambda: bmo.ProximalGradient(f, step=2 * k, check=check),
        "preconditioned": lambda: bmo.ProximalGradient(
            quadratic(2.0, 8.0), metric=Diagonal(d), check=check
        ),
        "gradient_alm": lambda: operators.GradientLinearisedALM(
            q, none, E2, ZERO, 1.0, 1.1, check=check
        ),
        "gradient_admm": lambda: operators.LinearisedADMM(
            none, FIXED, E2, ONE, ZERO, 1.0, 1.1, smooth=q, check=check
        ),
        "proximal_admm": lambda: operators.ProximalADMM(
            none, quadratic(1.0), 0 * E2, ONE, ZERO, P_u=1.1, smooth=q, check=check
        ),
        "admm_v": lambda: operators.LinearisedADMM(
            FIXED, none, ONE, ONE, ZERO, 1.0, 2.0, 1 / k, check=check
        ),
        "condat_vu": lambda: operators.CondatVu(q, none, FIXED, E2, 1 / 1.1, 1.0, check=check),
        "red": lambda: operators.RED(f, minus(), 0.5, k, check=check),
        "pnp": lambda: operators.PnPProximalGradient(f, minus(), 2 * k, check=check),
        "equilibrium": lambda: operators.MonotoneEquilibrium(W, b, none, 0.2 * k, check=check),
    }
    D = made[name]()
    size = {"gradient_alm": 3, "gradient_admm": 4, "proximal_admm": 4, "admm_v": 3, "condat_vu": 3}
    return D, size.get(name, 2 if name in ("preconditioned", "equilibrium") else 1)


SHARP = (
    "gradient", "preconditioned", "gradient_alm", "gradient_admm", "proximal_admm", "admm_v",
    "condat_vu", "red", "pnp", "equilibrium",
)  # fmt: skip


def ratio(D: Operator, n: int) -> float:
    return norm_in(jacobian(D, torch.zeros(n, dtype=f64) + 0.1), D.metric)


@pytest.mark.parametrize("name", SHARP)
def test_at_the_limit_and_one_per_cent_beyond(name: str) -> None:
    inside = instance(name, 1.0, True)
    assert ratio(*inside) <= 1 + 1e-10
    outside, n = instance(name, 1.01, False)
    assert ratio(outside, n) > 1.002
    assert outside.certified == "none"
    assert not bmo.certify.nonexpansive(outside, size=n, trials=16).holds
    with pytest.raises(ConditionError):
        instance(name, 1.01, True)


@pytest.mark.parametrize("name", ["step", "tau"])
def test_a_violation_names_its_condition(name: str) -> None:
    f, A = quadratic(1.0), ONE
    if name == "step":
        for D in (operators.RED, operators.PnPProximalGradient):
            args = (f, minus(), 1.0) if D is operators.RED else (f, minus())
            with pytest.raises(ConditionError, match=r"0 < step <= 2"):
                D(*args, step=2.5)
    else:
        with pytest.raises(ConditionError, match=r"tau > beta \|\|A\|\|\^2 = 3"):
            operators.LinearisedALM(prox.Zero(), A, ZERO, 3.0, 2.99)


# Where the condition keeps H positive definite, a step beyond it has no metric. The squared
# length <z, Hz> still can be followed: it grows along a pair whose squared lengths are positive.


def form_growth(D: Operator, H: Tensor, z: Tensor) -> float:
    before, new = float(z @ H @ z), D(z)
    assert before > 0
    return math.sqrt(float(new @ H @ new) / before)


def test_linearised_alm_beyond_its_limit() -> None:
    A = torch.tensor([[1.0, 0.0]], dtype=f64)
    z = torch.tensor([1.0, 0.2, -0.01], dtype=f64)
    for tau, expands in ((1.01, False), (0.99, True)):
        D = operators.LinearisedALM(prox.Zero(), A, ZERO, 1.0, tau, check=False)
        H = torch.diag(torch.tensor([tau - 1, tau, 1.0], dtype=f64))
        assert (form_growth(D, H, z) > 1) is expands
    with pytest.raises(MetricError, match="P positive definite"):
        _ = D.metric
    v = torch.tensor([1.0, 0.2, 0.0, -0.01], dtype=f64)
    two = operators.LinearisedADMM(prox.Zero(), FIXED, A, ONE, ZERO, 1.0, 0.99, check=False)
    H = torch.diag(torch.tensor([-0.01, 0.99, 1.0, 1.0], dtype=f64))
    assert form_growth(two, H, v) > 1
    with pytest.raises(MetricError, match="P_u"):
        _ = two.metric
    with pytest.raises(ConditionError, match="tau_u > beta"):
        operators.LinearisedADMM(prox.Zero(), FIXED, A, ONE, ZERO, 1.0, 0.99)


def test_pdhg_beyond_its_limit() -> None:
    K = torch.tensor([[1.0, 0.0]], dtype=f64)
    for product, expands in ((0.99, False), (1.01, True)):
        s = math.sqrt(product)
        D = operators.PDHG(prox.Zero(), FIXED, K, s, s, check=False)
        H = torch.tensor([[1 / s, 0, -1], [0, 1 / s, 0], [-1, 0, 1 / s]], dtype=f64)
        # z - Dz along the eigenvector (1, 0, 1) of the smallest eigenvalue mu = 1/s - 1
        mu = 1 / s - 1
        z = torch.tensor([1 - mu, 0.2, 1 + mu], dtype=f64)
        assert torch.allclose(z - D(z), torch.tensor([1.0, 0.0, 1.0], dtype=f64))
        assert (form_growth(D, H, z) > 1) is expands
    with pytest.raises(MetricError, match="sigma"):
        _ = D.metric
    with pytest.raises(ConditionError, match=r"tau \* sigma \* \|\|K\|\|\^2 < 1; got: 1.01"):
        operators.PDHG(prox.Zero(), FIXED, K, s, s)


def test_two_block_admm_in_the_wrong_metric() -> None:
    """Without beta B^T B the step expands, by more than two on this instance."""
    D = operators.LinearisedADMM(prox.Zero(), prox.Zero(), ONE, ONE, ZERO, 1.0, 1.1, 1.01)
    wrong = Block([1, 1, 1], [Scaled(0.1), Scaled(0.01), Scaled(1.0)])
    at = torch.zeros(3, dtype=f64)
    assert norm_in(jacobian(D, at), D.metric) <= 1 + 1e-12
    assert norm_in(jacobian(D, at), wrong) > 2
    assert pair_ratio(D, 3, metric=wrong) > 1.5
    found = bmo.certify.nonexpansive(D, metric=wrong, size=3, trials=16)
    assert not found.holds and found.measured > 2


def test_pdhg_with_the_wrong_sign() -> None:
    D = operators.PDHG(prox.Zero(), FIXED, ONE, 0.9, 0.9)
    J = jacobian(D, torch.zeros(2, dtype=f64))
    assert norm_in(J, D.metric) <= 1 + 1e-12
    wrong = bmo.metric.PrimalDual(-ONE, 0.9, 0.9)
    assert norm_in(J, wrong) > 1.5


def test_relu_in_a_skewed_metric() -> None:
    H = Dense(torch.tensor([[1.0, 0.9], [0.9, 1.0]], dtype=f64))
    relu = operators.Lambda(torch.relu, H)
    u, v = torch.tensor([1.0, -1.0], dtype=f64), torch.zeros(2, dtype=f64)
    assert float(H.distance(relu(u), relu(v)) / H.distance(u, v)) == pytest.approx(math.sqrt(5))
    most = 1 / math.sqrt(0.19)
    assert norm_in(jacobian(relu, u), H) == pytest.approx(most)
    assert pair_ratio(relu, 2, 4000) <= most * (1 + 1e-12)
    found = bmo.certify.nonexpansive(relu, size=2)
    assert found.measured == pytest.approx(most, rel=1e-6)
    repaired = operators.Conjugate(operators.Lambda(torch.relu, Identity()), H)
    assert pair_ratio(repaired, 2, 4000) <= 1 + 1e-10


def test_a_rotation_in_a_diagonal_metric() -> None:
    turn = torch.tensor([[0.0, -1.0], [1.0, 0.0]], dtype=f64)
    H = Diagonal(torch.tensor([1.0, 100.0], dtype=f64))
    D = operators.Lambda(lambda u: u @ turn.mT, H)
    assert norm_in(jacobian(D, torch.zeros(2, dtype=f64)), H) == pytest.approx(10.0)


def test_refusals() -> None:
    f, b2 = quadratic(1.0, 1.0), torch.zeros(2, dtype=f64)
    skewed = operators.Lambda(lambda u: u, Diagonal(torch.tensor([1.0, 2.0], dtype=f64)))
    for make in (operators.RED, operators.PnPProximalGradient):
        with pytest.raises(MetricError, match="Euclidean"):
            make(f, skewed, 0.1)
    with pytest.raises(MetricError, match="Euclidean"):
        operators.HalfQuadratic(f, skewed)
    with pytest.raises(ConditionError, match="weight >= 0"):
        operators.RED(f, minus(), -1.0)
    for value in (0.0, -1.0, float("nan"), float("inf")):
        for make in (operators.DouglasRachford, operators.ADMM):
            with pytest.raises(ConditionError, match="> 0"):
                make(f, prox.Zero(), value)
        with pytest.raises(ConditionError, match="tau finite and > 0"):
            operators.HalfQuadratic(f, minus(), value)
        with pytest.raises(ConditionError, match="beta finite and > 0"):
            operators.ProximalALM(f, E2, ZERO, value)
        with pytest.raises(ConditionError, match="beta finite and > 0"):
            operators.ProximalADMM(f, f, E2, E2, ZERO, value)
        with pytest.raises(ConditionError, match="sigma finite and > 0"):
            operators.PDHG(f, prox.Zero(), E2, 0.1, value)
    with pytest.raises(ConditionError, match=r"tau_v >= beta"):
        operators.LinearisedADMM(f, f, E2, E2, ZERO, tau_v=0.9)
    with pytest.raises(MetricError, match="positive definite"):
        operators.ProximalADMM(f, f, E2, E2, ZERO)  # B^T B is singular and P_v is zero
    with pytest.raises(ConditionError, match="strongly monotone"):
        operators.MonotoneEquilibrium(2 * torch.eye(2, dtype=f64), b2, prox.Zero())
    with pytest.raises(ConditionError, match="Prox, a Quadratic or a LeastSquares"):
        operators.DouglasRachford(smooth.Gradient(torch.sum, 1.0), prox.Zero())
    with pytest.raises(ConditionError, match="data"):
        operators.LinearisedALM(f, E2, ZERO).bind(nonsense=b2)


def test_bad_shapes_and_values() -> None:
    f, b2 = quadratic(1.0, 1.0), torch.zeros(2, dtype=f64)
    with pytest.raises(ShapeError, match="A and b"):
        operators.LinearisedALM(f, E2, b2)
    with pytest.raises(ShapeError, match="B and b"):
        operators.LinearisedADMM(f, f, E2, torch.eye(2, dtype=f64), ZERO)
    with pytest.raises(ShapeError, match="dtype"):
        operators.LinearisedADMM(f, f, E2, E2.float(), ZERO)
    with pytest.raises(ShapeError, match="matrix K"):
        operators.PDHG(f, prox.Zero(), b2)
    with pytest.raises(ShapeError, match="W of shape"):
        operators.MonotoneEquilibrium(E2, b2, prox.Zero())
    with pytest.raises(NonFiniteError, match="finite A and b"):
        operators.LinearisedALM(f, E2 * torch.nan, ZERO)
    with pytest.raises(NonFiniteError, match="finite K"):
        operators.PDHG(f, prox.Zero(), E2 * torch.inf)


def test_other_data_are_checked_too() -> None:
    D = operators.LinearisedALM(prox.Zero(), E2, ZERO, 1.0, 1.1)
    assert D.bind(A=0.5 * E2).metric.bounds()[0] == pytest.approx(1.1 - 0.25)
    with pytest.raises(ConditionError, match="tau > beta"):
        D.bind(A=2 * E2)


def test_unchecked_steps_without_a_metric_still_run() -> None:
    q = quadratic(1.0, 1.0)
    z = torch.ones(3, dtype=f64)
    for D in (
        operators.GradientLinearisedALM(q, prox.Zero(), E2, ZERO, 1.0, 0.9, check=False),
        operators.CondatVu(q, prox.Zero(), FIXED, E2, 1.1, 1.0, check=False),
    ):
        assert bool(torch.isfinite(D(z)).all()) and D.averaged == 1.0 and D.certified == "none"
        with pytest.raises(MetricError):
            _ = D.metric


def test_steps_too_close_to_the_limit_for_the_precision() -> None:
    """Below one in exact numbers, but no metric in single precision: refused, not used."""
    K = torch.tensor([[1.0, 0.5], [0.2, 3.0]])
    limit = 1 / float(torch.linalg.matrix_norm(K.double(), 2))
    with pytest.raises((ConditionError, MetricError), match="sigma"):
        operators.PDHG(prox.Zero(), prox.L1(1.0), K, limit, limit * (1 - 1e-9))


def test_a_quadratic_subproblem_needs_its_factor() -> None:
    with pytest.raises(ConditionError, match="factor"):
        Subproblem(quadratic(1.0), Identity())(ZERO)
