"""The printed bounds against random instances, and against the instances that attain them."""

from __future__ import annotations

import math

import pytest
import torch

from bmo import bounds
from bmo.errors import ConditionError, DomainError
from tests.instances import F64, generator, instance, normal, spd, square_root, uniform

GRID = [(a, k) for a in (0.05, 0.2, 0.5, 0.8, 0.95) for k in (0, 1, 2, 3, 5, 8, 40)]


def line_residual(alpha: float, k: int) -> float:
    """Run the extremal instance on the line and measure r_k^2."""
    sigma, x = 1 / (1 + 2 * alpha * k), 1.0

    def D(x: float) -> float:
        return x - 2 * sigma * math.copysign(1, x) if abs(x) >= sigma else -x

    for _ in range(k):
        x = (1 - alpha) * x + alpha * D(x)
    return (alpha * (x - D(x))) ** 2


def rotation_residual(alpha: float, k: int, y: float) -> float:
    """Run the rotation with 2 (1 - cos theta) = y on complex numbers and measure r_k^2."""
    cos = 1 - y / 2
    turn = complex(cos, math.sqrt(max(0.0, 1 - cos**2)))
    z = complex(1.0)
    for _ in range(k):
        z = (1 - alpha) * z + alpha * turn * z
    return abs(alpha * (z - turn * z)) ** 2


@pytest.mark.parametrize(("alpha", "k"), GRID)
def test_the_line_attains_its_branch(alpha: float, k: int) -> None:
    assert line_residual(alpha, k) == pytest.approx(bounds.km_line(alpha, k), rel=1e-12)


@pytest.mark.parametrize(("alpha", "k"), GRID)
def test_the_best_rotation_attains_its_branch(alpha: float, k: int) -> None:
    expected = bounds.km_rotation(alpha, k)
    y = min(4.0, 1 / (alpha * (1 - alpha) * (k + 1)))
    assert rotation_residual(alpha, k, y) == pytest.approx(expected, rel=1e-12, abs=1e-300)
    others = [rotation_residual(alpha, k, 4 * i / 400) for i in range(401)]
    assert max(others) <= expected * (1 + 1e-12)


def test_the_printed_values_of_w() -> None:
    half = [bounds.km_worst(0.5, k) for k in (1, 2, 3, 5, 8)]
    assert half == pytest.approx([k**k / (k + 1) ** (k + 1) for k in (1, 2, 3, 5, 8)], rel=1e-14)
    low = [bounds.km_worst(0.2, k) for k in (1, 2, 3, 5, 8)]
    assert low == pytest.approx([0.081633, 0.049383, 0.033058, 0.017778, 0.010826], abs=5e-7)
    assert bounds.km_worst(0.2, 5) == bounds.km_line(0.2, 5)
    assert bounds.km_worst(0.2, 8) == bounds.km_rotation(0.2, 8)


@pytest.mark.parametrize(("alpha", "k"), GRID)
def test_w_is_below_proposition_1(alpha: float, k: int) -> None:
    assert bounds.km_worst(alpha, k) <= bounds.km_residual(alpha, k, 1.0) ** 2 * (1 + 1e-12)


def test_proposition_1c_is_attained_at_the_first_step() -> None:
    assert rotation_residual(0.5, 0, 4.0) == pytest.approx(bounds.km_residual(0.5, 0, 1.0) ** 2)


def test_the_tight_form_is_the_rotation_and_tends_to_one_over_e() -> None:
    for alpha, k in [(0.5, 1), (0.3, 9), (0.9, 30)]:
        value = bounds.km_tight(alpha, k, 3.0)
        assert value == pytest.approx(3 * math.sqrt(bounds.km_rotation(alpha, k)), rel=1e-13)
    ratio = (bounds.km_tight(0.5, 10_000, 1.0) / bounds.km_residual(0.5, 10_000, 1.0)) ** 2
    assert ratio == pytest.approx(math.exp(-1), rel=1e-4)


@pytest.mark.parametrize(("alpha", "k"), [(0.2, 3), (0.95, 2), (0.05, 0)])
def test_the_tight_form_is_refused_where_it_is_not_a_bound(alpha: float, k: int) -> None:
    with pytest.raises(ConditionError, match="km_worst"):
        bounds.km_tight(alpha, k, 1.0)


def test_proposition_1_on_random_instances_in_random_metrics() -> None:
    """1000 instances: decrease (b), Fejer, monotone residual and the rate (c), and W itself."""
    rate = 0.0
    for seed in range(1000):
        case, g = instance(seed), generator(10_000 + seed)
        u = case.center + 3 * normal(g, len(case.center))
        start, previous = case.norm(u - case.center), math.inf
        for k in range(6):
            after, r = case.T(u), case.norm(u - case.T(u))
            old, new = case.norm(u - case.center), case.norm(after - case.center)
            limit = bounds.averagedness_decrease(old, r, case.alpha)
            assert new**2 <= limit + 1e-12 * old**2
            assert new <= old * (1 + 1e-12) and r <= previous + 1e-12 * start
            assert r <= bounds.km_residual(case.alpha, k, start) * (1 + 1e-12)
            if case.alpha >= 0.5:  # Lieder's theorem
                assert r**2 <= bounds.km_worst(case.alpha, k) * start**2 * (1 + 1e-10)
                rate = max(rate, r / math.sqrt(bounds.km_worst(case.alpha, k)) / start)
            u, previous = after, r
    assert rate > 0.9  # the random instances come near to the bound


def test_the_averaged_decrease_is_an_equality_for_an_isometry() -> None:
    g = generator(0)
    H = spd(g, 4)
    root = square_root(H)
    q, _ = torch.linalg.qr(normal(g, 4, 4))
    D = root @ q @ torch.linalg.inv(root)  # acts on rows
    for alpha in (0.1, 0.5, 0.9):
        w = normal(g, 4)
        tw = (1 - alpha) * w + alpha * w @ D
        left = float(tw @ H @ tw)
        moved = float((w - tw) @ H @ (w - tw)) ** 0.5
        right = bounds.averagedness_decrease(float(w @ H @ w) ** 0.5, moved, alpha)
        assert left == pytest.approx(right, rel=1e-12)


def plane_averaged(M: torch.Tensor) -> float:
    """The smallest a for which linear maps of the plane are a-averaged, by a grid of directions."""
    angle = torch.linspace(0, math.pi, 2001, dtype=F64)
    x = torch.stack([angle.cos(), angle.sin()], -1)
    moved = x - x @ M.mT
    inner = (x * moved).sum(-1)
    ok = inner > 1e-9
    return float((moved.square().sum(-1)[ok] / (2 * inner[ok])).max())


def test_the_composition_constant_is_attained_by_two_rotations() -> None:
    theta = torch.linspace(0.01, math.pi, 700, dtype=F64)
    turn = torch.polar(torch.ones_like(theta), theta)
    for a1, a2 in [(0.5, 0.5), (0.3, 0.8), (0.1, 0.2)]:
        z = (1 - a1 + a1 * turn)[:, None] * (1 - a2 + a2 * turn)[None]
        worst = float(((1 - z).abs().square() / (2 * (1 - z).real)).max())
        assert worst == pytest.approx(bounds.composition_averaged(a1, a2), rel=2e-4)
        assert worst <= bounds.composition_averaged(a1, a2) * (1 + 1e-12)
    assert bounds.composition_averaged(1.0, 0.3) == 1.0


@pytest.mark.parametrize("delta", [0.2, 0.5, 0.9])
def test_forward_backward_is_attained_by_a_projection_and_a_gradient(delta: float) -> None:
    """prox = projection on a line, gradient step = I - 2 delta n n^T, at the worst angle."""
    assert bounds.forward_backward_averaged(delta) == pytest.approx(
        bounds.composition_averaged(0.5, delta), rel=1e-14
    )
    worst = 0.0
    for t in torch.linspace(0.02, math.pi / 2, 300, dtype=F64).tolist():
        n = torch.tensor([math.cos(t), math.sin(t)], dtype=F64)
        gradient = torch.eye(2, dtype=F64) - 2 * delta * n[:, None] * n[None]
        worst = max(worst, plane_averaged(torch.diag(torch.tensor([1.0, 0.0]).to(F64)) @ gradient))
    expected = bounds.forward_backward_averaged(delta)
    assert worst <= expected * (1 + 1e-9)
    assert worst >= 0.95 * expected
    L, step = 4.0, delta / 2
    assert bounds.ista_alpha(step, L) == pytest.approx(expected, rel=1e-14)
    assert bounds.lista_alpha(delta, norm=delta) == pytest.approx(expected, rel=1e-14)
    assert bounds.projected_averaged(delta) == pytest.approx(expected, rel=1e-14)


def test_gradient_red_and_equilibrium_constants_are_attained() -> None:
    step, L, weight = 0.3, 2.0, 1.5
    gradient = 1 - step * L  # f = L u^2 / 2: the multiplier is 1 - 2a exactly
    assert bounds.gradient_alpha(step, L) == pytest.approx((1 - gradient) / 2, rel=1e-14)
    red = 1 - step * (L + 2 * weight)  # with the denoiser u -> -u
    assert bounds.red_alpha(step, L, weight) == pytest.approx((1 - red) / 2, rel=1e-14)
    assert bounds.red_alpha(step, L, 0.0) == bounds.gradient_alpha(step, L)
    margin, turn = 0.7, 1.9  # I - W = m I + skew
    limit = bounds.monotone_step_limit(margin, math.hypot(margin, turn))
    assert abs(1 - limit * complex(margin, turn)) == pytest.approx(1.0, rel=1e-14)
    with pytest.raises(ConditionError):
        bounds.red_alpha(0.5, L, weight)


def test_lemma_5_constants() -> None:
    """F without its projection is a-averaged exactly for D = -I and a quadratic upper objective."""
    alpha, mu, step, L = 0.4, 0.3, 0.5, 2.0
    multiplier = (1 - mu) * (1 - 2 * alpha) + mu * (1 - step * L)
    a = (1 - multiplier) / 2
    value = bounds.aggregate_averaged(alpha, mu, step, L)
    assert value == pytest.approx(bounds.composition_averaged(0.5, a), rel=1e-13)
    weight = (1 - bounds.aggregate_averaged(alpha, mu, 2 / L, L)) / bounds.aggregate_averaged(
        alpha, mu, 2 / L, L
    )
    assert 1 - bounds.fixed_point_decrease(1.0, 1.0, alpha, mu) == pytest.approx(weight, rel=1e-13)


def step_sizes(case, g) -> tuple[float, float]:
    L = case.lipschitz()
    return uniform(g, 0.01, 3.0) / L, uniform(g, 0.01, 1.0) / L


def test_lemmas_2_and_2_plus_on_random_instances() -> None:
    violated = 0
    for seed in range(300):
        case, g = instance(seed), generator(20_000 + seed)
        u = case.inside(g)
        long, short = step_sizes(case, g)
        before, r = case.norm(u - case.center), case.norm(u - case.T(u))
        gap = float(case.upper(u) - case.upper(case.center))
        after = case.F(u, long)
        limit = bounds.one_step(before, r, gap, long, case.alpha, case.mu, case.norm(case.g(u)))
        assert case.norm(after - case.center) ** 2 <= limit + 1e-9 * (1 + before**2)

        after = case.F(u, short)
        new = case.norm(after - case.center) ** 2
        gap, moved = float(case.upper(after) - case.upper(case.center)), case.norm(after - u)
        sharp = (before, r, gap, short, case.alpha, case.mu)
        L = case.lipschitz()
        full = bounds.one_step_sharp(*sharp, lipschitz=L, moved=moved)
        assert new <= full + 1e-9 * (1 + before**2)
        assert full <= bounds.one_step_sharp(*sharp, lipschitz=L) + 1e-15
        violated += new > bounds.one_step_sharp(*sharp, lipschitz=0.0, moved=moved) + 1e-9
    assert violated > 0  # the curvature of the upper objective may not be left out


def test_lemma_2_is_an_equality_where_both_steps_agree() -> None:
    """A quarter turn, alpha = 1/2, and the linear objective whose step lands where T does."""
    for mu in (0.2, 0.7):
        s, u = 2.0, complex(1, 0)
        tu = (u + 1j * u) / 2
        grad = (u - tu) / s
        new = mu * (u - s * grad) + (1 - mu) * tu
        gap = (grad.conjugate() * u).real
        limit = bounds.one_step(1.0, abs(u - tu), gap, s, 0.5, mu, abs(grad))
        assert abs(new) ** 2 == pytest.approx(limit, rel=1e-14)


def test_lemma_2_plus_is_an_equality_for_a_linear_objective() -> None:
    for alpha, mu, s in [(0.3, 0.4, 2.0), (0.9, 0.7, 0.5)]:
        u, tu = 1.0, 1 - 2 * alpha  # D = -I
        slope = 2 * alpha / s  # so that u - s g = Tu
        new = mu * (u - s * slope) + (1 - mu) * tu
        limit = bounds.one_step_sharp(
            1.0, abs(u - tu), slope * new, s, alpha, mu, lipschitz=0.0, moved=abs(new - u)
        )
        assert new**2 == pytest.approx(limit, abs=1e-14)


def largest_slope(case, g) -> float:
    """A bound on |g| over the domain: at sampled points, plus what it can grow between them."""
    far = 1.5 if case.domain.__class__.__name__ == "Ball" else 2 * math.sqrt(len(case.center))
    back = torch.linalg.inv(square_root(case.matrix))
    zero = torch.zeros_like(case.center)
    start = float((back @ case.upper.gradient(zero)).norm())
    growth = float(torch.linalg.matrix_norm(back @ case.upper.hessian, 2))
    return start + growth * far


def test_lemma_3_on_random_runs() -> None:
    for seed in range(120):
        case, g = instance(seed, into=True), generator(30_000 + seed)
        u, G, L = case.inside(g), largest_slope(case, g), case.lipschitz()
        first = uniform(g, 0.2, 2.0) / L
        p = uniform(g, 0.0, 1.0)
        s = [first / (k + 1) ** p for k in range(7)]
        path = [u]
        for k in range(6):
            path.append(case.F(path[-1], s[k]))
        e = [case.norm(b - a) for a, b in zip(path, path[1:], strict=False)]
        r = [case.norm(x - case.T(x)) for x in path[:-1]]
        slack = 1e-9 * (1 + e[0])
        for k in range(6):
            drift = case.mu * G * s[k]
            assert abs(e[k] - (1 - case.mu) * r[k]) <= drift + slack
            assert r[k] <= bounds.residual_from_step(e[k], case.mu, G, s[k]) + slack
            for j in range(k + 1):
                assert e[k] <= bounds.step_drift(e[j], case.mu, G, s[j], s[k]) + slack
                assert r[k] <= bounds.residual_drift(r[j], case.mu, G, s[j]) + slack


def test_lemma_3_is_an_equality_for_a_steady_walk_against_the_wind() -> None:
    """D(u) = u + 1 far from the end of U, and an upper objective of slope G that pushes back."""
    alpha, mu, G = 0.5, 0.4, 0.3
    s = [1.0, 0.5, 0.25]
    e = [(1 - mu) * alpha - mu * G * step for step in s]  # u moves by this much
    for j, k in [(0, 1), (0, 2), (1, 2)]:
        assert bounds.step_drift(e[j], mu, G, s[j], s[k]) == pytest.approx(e[k], rel=1e-13)
    assert bounds.residual_from_step(e[1], mu, G, s[1]) == pytest.approx(alpha, rel=1e-13)


def test_the_drift_of_the_residual_is_nearly_attained() -> None:
    """D = -I, from its fixed point, pushed away by one step: alpha -> 1 and mu -> 0."""
    alpha, mu, G, s = 0.999, 0.001, 5.0, 2.0
    u = mu * s * G  # u^1, from u^0 = 0 where r_0 = 0
    limit = bounds.residual_drift(0.0, mu, G, s)
    assert 0.995 * limit <= 2 * alpha * u <= limit


def test_lemma_4_on_random_points() -> None:
    for seed in range(300):
        case, g = instance(seed), generator(40_000 + seed)
        u, s = case.inside(g), 10 ** uniform(g, -3.0, 2.0)
        step = u - case.F(u, s)
        E, distance = case.norm(step), case.norm(u - case.center)
        slope = case.norm(case.g(u))
        gap = float(case.upper(u) - case.upper(case.center))
        inner = float(step @ case.matrix @ (u - case.center))
        sharp = bounds.upper_gap_sharp(E, inner, case.mu, slope, s)
        loose = bounds.upper_gap(E, distance, case.mu, slope, s)
        slack = 1e-9 * (1 + abs(gap) + slope) / min(1.0, case.mu * s)
        assert gap <= sharp + slack
        assert sharp <= loose + slack


def test_lemma_4_is_attained_at_both_ends_of_the_step() -> None:
    """D = I on U = [0, inf) with a linear objective: short steps need 1/(mu s), long ones G."""
    mu, G, x = 0.5, 2.0, 3.0
    for s in (1e-6, 1e6):
        moved = min(x, mu * s * G)
        limit = bounds.upper_gap(moved, x, mu, G, s)
        assert G * x <= limit <= G * x * (1 + 1e-5)
        assert G * x <= bounds.upper_gap_sharp(moved, moved * x, mu, G, s) <= limit


def test_step_limits() -> None:
    assert bounds.upper_step_limit(3.0, 2.0) == 3.0
    assert bounds.upper_step_limit(3.0, 2.0, sharp=True) == 1.5
    assert bounds.upper_step_limit(1.0, 0.0) == math.inf
    assert bounds.relaxation(0.25, 0.5) == 1.5


OUTSIDE = [
    lambda: bounds.km_residual(1.0, 1, 1.0),
    lambda: bounds.km_residual(0.5, -1, 1.0),
    lambda: bounds.km_residual(0.5, 1.5, 1.0),  # type: ignore[arg-type]
    lambda: bounds.km_residual(0.5, 1, -1.0),
    lambda: bounds.km_line(0.0, 1),
    lambda: bounds.km_rotation(math.nan, 1),
    lambda: bounds.averagedness_decrease(math.inf, 1.0, 0.5),
    lambda: bounds.averagedness_decrease(1.0, -1.0, 0.5),
    lambda: bounds.km_residual(0.5, math.nan, 1.0),  # type: ignore[arg-type]
    lambda: bounds.km_residual(0.5, math.inf, 1.0),  # type: ignore[arg-type]
    lambda: bounds.red_alpha(0.5, 0.0, 0.0),
    lambda: bounds.red_alpha(0.5, 1.0, -0.5),
    lambda: bounds.one_step(1.0, 0.5, math.nan, 1.0, 0.5, 0.5, 1.0),
    lambda: bounds.one_step_sharp(1.0, 0.5, math.inf, 1.0, 0.5, 0.5, 1.0),
    lambda: bounds.upper_gap_sharp(1.0, math.nan, 0.5, 1.0, 1.0),
    lambda: bounds.composition_averaged(0.0, 0.5),
    lambda: bounds.composition_averaged(0.5, 1.1),
    lambda: bounds.forward_backward_averaged(1.1),
    lambda: bounds.forward_backward_averaged(-0.1),
    lambda: bounds.gradient_alpha(0.0, 1.0),
    lambda: bounds.lista_alpha(1.0),
    lambda: bounds.monotone_step_limit(1.0, 0.5),
    lambda: bounds.upper_step_limit(0.0, 1.0),
    lambda: bounds.relaxation(0.5, 1.0),
    lambda: bounds.one_step(1.0, 1.0, 0.0, 0.0, 0.5, 0.5, 1.0),
    lambda: bounds.one_step(1.0, 1.0, 0.0, 1.0, 0.5, 0.5, -1.0),
    lambda: bounds.step_drift(1.0, 0.5, 1.0, first=0.1, last=0.2),
    lambda: bounds.residual_from_step(1.0, 1.0, 1.0, 1.0),
    lambda: bounds.residual_drift(-1.0, 0.5, 1.0, 1.0),
    lambda: bounds.upper_gap(1.0, 1.0, 0.0, 1.0, 1.0),
    lambda: bounds.upper_gap_sharp(1.0, 1.0, 0.5, 1.0, math.inf),
]


@pytest.mark.parametrize("call", OUTSIDE)
def test_arguments_outside_the_range_are_refused(call) -> None:
    with pytest.raises(DomainError):
        call()


def test_violated_conditions_are_named() -> None:
    with pytest.raises(ConditionError, match="2 / L"):
        bounds.gradient_alpha(1.0, 2.1)
    with pytest.raises(ConditionError, match="step < 2 / L"):
        bounds.ista_alpha(1.0, 2.0)
    with pytest.raises(ConditionError, match="W_2"):
        bounds.lista_alpha(0.5, norm=0.6)
    with pytest.raises(ConditionError, match="L_H"):
        bounds.one_step_sharp(1.0, 1.0, 0.0, 1.0, 0.5, 0.5, lipschitz=1.1)
