"""Every estimator against references that share no code with it, on every family."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

import bmo
from bmo.hypergradient import (
    GMRES,
    ActiveSet,
    Estimator,
    FixedPoint,
    HyperResult,
    Neumann,
    Recompute,
    Truncated,
    hypergradient,
)
from tests.hypergradient.cases import DOMAINS, FAMILIES, Case, case
from tests.hypergradient.references import (
    Implicit,
    Omega,
    by_hand,
    differences,
    dual_norm,
    fixed_point,
    implicit,
)
from tests.instances import F64, generator

K, S = 10, 0.3
METHODS = [Recompute(1), "reverse", Recompute(3), "recompute", Recompute(budget=10**7)]
FUSED = ("proximal gradient", "learned, one product", "learned, two products")


def off(got: Omega, want: Omega) -> float:
    """The largest relative error of a tensor; where its derivative vanishes, relative to all."""
    whole = float(torch.stack([w.norm() for w in want.values()]).norm())
    assert set(got) == set(want) and whole > 1e-3
    return max(
        float((got[name] - w).norm()) / (float(w.norm()) + 1e-4 * whole) for name, w in want.items()
    )


def found(c: Case, K: int, method: Any = "reverse", u0: Tensor | None = None) -> HyperResult:
    return hypergradient(c.inner, c.u0 if u0 is None else u0, c.upper, K, c.omega, method)


def require_contact(domain: str, fixed: list[Tensor]) -> None:
    """An active box is touched by some entries, at the end too; an inactive one never."""
    share = [float(f.mean()) for f in fixed]
    if domain == "box active":
        assert 0 < share[-1] < 1 and max(share) < 1
    else:
        assert max(share) == 0


@pytest.mark.parametrize("domain", DOMAINS)
@pytest.mark.parametrize("mu", [0.0, 0.3])
@pytest.mark.parametrize("family", FAMILIES)
def test_unrolled(family: str, mu: float, domain: str) -> None:
    """Reverse mode, its recomputed forms and its last steps, against the dense recursion."""
    c = case(family, mu, domain, bmo.schedule(0.6))
    # a projection in a metric that is not diagonal is iterated: few steps will do there
    dense = c.inner.training_map.metric.weights() is None and domain == "box active"
    K, methods = (4, METHODS[1:3]) if dense else (10, METHODS)
    sizes = c.inner.sizes(K)
    u, want, _, tape = by_hand(c.formula, c.u0, sizes)
    require_contact(domain, tape.fixed)
    for method in methods:
        got = found(c, K, method)
        assert torch.allclose(got.u, u, rtol=1e-12, atol=1e-13)
        assert off(got.gradients, want) < 1e-10, method
        assert got.adjoint_residual is not None and not bool(got.adjoint_residual.any())
    g, _ = c.formula.slopes(u)
    H = c.formula.H(c.omega).detach()
    parts: list[tuple[Any, int]] = [("one-step", 1), ("truncated", 10), (Truncated(3), 3)]
    parts = parts[2:] if dense else parts
    for method, last in parts:
        _, part, lam, _ = by_hand(c.formula, c.u0, sizes, last)
        got = found(c, K, method)
        assert off(got.gradients, part) < 1e-10, method
        residual = dual_norm(lam, H) / dual_norm(g, H) if last < K else torch.zeros(len(u))
        assert torch.allclose(got.adjoint_residual, residual.to(F64), rtol=1e-9, atol=1e-14)
    assert off(part, want) > 1e-3  # what was left out is not lost in the tolerance


@pytest.mark.parametrize("domain", DOMAINS)
@pytest.mark.parametrize("mu", [0.0, 0.3])
@pytest.mark.parametrize("family", FAMILIES)
def test_implicit(family: str, mu: float, domain: str) -> None:
    """Each solver against a dense solve at the fixed point, or the dense partial sum."""
    c = case(family, mu, domain, S)
    u = fixed_point(c.formula, c.u0, S)
    E = implicit(c.formula, u, S)
    require_contact(domain, [E.fixed])
    H, exact = c.formula.H(c.omega).detach(), E.solution()
    want = E.gradients(exact)
    tight = 1e-13
    solvers: list[Any] = [FixedPoint(tight, 5000), GMRES(tight), GMRES(tight, 5000, restart=4)]
    dense = c.inner.training_map.metric.weights() is None and domain == "box active"
    if dense:  # its projection is iterated, and each product with its transpose as well
        solvers = solvers[1:2]
    if not mu and family in FUSED:
        solvers.append("active-set")
    for method in solvers:
        got = found(c, 1, method, u)
        assert got.solved and off(got.gradients, want) < 1e-10, method
        assert float(got.adjoint_residual.max()) <= 2 * tight or method == "active-set"
    for terms in (7,) if dense else (1, 7):
        got, lam = found(c, 1, Neumann(terms), u), E.partial_sum(terms)
        part = E.gradients(lam)
        assert off(got.gradients, part) < 1e-10 and off(part, want) > 1e-3
        assert torch.allclose(got.adjoint_residual, E.residual(lam, H), rtol=1e-8, atol=1e-14)


@pytest.mark.parametrize("mu", [0.0, 0.3])
@pytest.mark.parametrize("family", FAMILIES)
def test_finite_differences(family: str, mu: float) -> None:
    r"""Of :math:`\varphi_K` for the steps, of :math:`\varphi` at the fixed point for the limit."""
    g = generator(0)
    for method, steps in (("reverse", bmo.schedule(0.6)), (GMRES(1e-13), S)):
        c = case(family, mu, "box active" if family in FUSED else "whole", steps)
        unrolled = method == "reverse"
        u0 = c.u0 if unrolled else fixed_point(c.formula, c.u0, S)
        count = K if unrolled else 400 if family in FUSED else 200

        def value(c: Case = c, u0: Tensor = u0, count: int = count) -> float:
            return float(c.upper(c.inner(u0, c.upper, count)).mean())

        got = found(c, count, method, u0).gradients
        for name, w in c.omega.items():
            along = {name: torch.randn(w.shape, generator=g, dtype=F64)}
            slope = differences(value, {name: w}, along)
            assert slope == pytest.approx(
                float((got[name] * along[name]).sum()), rel=1e-6, abs=1e-9
            )


def test_from_far_away_the_limit_is_the_same() -> None:
    """The implicit estimators train first; their memory of the start is gone."""
    c = case("proximal gradient")
    E = implicit(c.formula, fixed_point(c.formula, c.u0, S), S)
    want = E.gradients(E.solution())
    for method in ("fixed-point", "gmres", "active-set"):
        assert off(found(c, 400, method).gradients, want) < 1e-9


def test_conjugate_gradients_where_the_derivative_is_self_adjoint() -> None:
    """A gradient step in a learned metric, with an upper step in the same metric."""
    for mu in (0.0, 0.3):
        c = case("gradient", mu, "box inactive", S)
        u = fixed_point(c.formula, c.u0, S)
        E = implicit(c.formula, u, S)
        got = found(c, 1, "cg", u)
        assert got.solved and float(got.adjoint_residual.max()) < 2e-10
        tight = found(c, 1, bmo.hypergradient.ConjugateGradient(1e-14), u)
        assert off(tight.gradients, E.gradients(E.solution())) < 1e-10


def test_the_direct_part_and_a_learned_upper_objective() -> None:
    """Weights of the upper objective are learned, too; the fused loop steps aside for mu > 0."""

    class Upper(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.weight = torch.nn.Parameter(torch.linspace(0.5, 1.5, 5, dtype=F64))

        def forward(self, u: Tensor) -> Tensor:
            return (self.weight * (u - 0.3).square()).sum(-1)

    upper = Upper()
    for mu in (0.0, 0.3):
        c = case("proximal gradient", mu, "whole", S)
        c.omega["upper"] = upper.weight
        c.formula.upper = lambda u, w: (w["upper"] * (u - 0.3).square()).sum()
        c.upper = upper
        _, want, _, _ = by_hand(c.formula, c.u0, [S] * K)
        for method in ("reverse", "recompute"):
            assert off(found(c, K, method).gradients, want) < 1e-10
        _, want, _, _ = by_hand(c.formula, c.u0, [S] * K, 3)
        assert off(found(c, K, Truncated(3)).gradients, want) < 1e-10
        u = fixed_point(c.formula, c.u0, S)
        E = implicit(c.formula, u, S)
        assert off(found(c, 1, GMRES(1e-13), u).gradients, E.gradients(E.solution())) < 1e-10


def test_without_fusion_the_same() -> None:
    for family in FUSED:
        one, two = (case(family, 0.3, "box active", S, fuse) for fuse in (True, False))
        for method in ("reverse", Recompute(3), Truncated(3), "gmres"):
            got, want = (found(c, K, method).gradients for c in (one, two))
            assert off(got, want) < 1e-10


@pytest.mark.parametrize("method", [Recompute(1), Truncated(2), FixedPoint(), ActiveSet()])
def test_a_method_is_given_by_name_or_as_an_object(method: Estimator) -> None:
    names: dict[type, str] = {
        Recompute: "recompute", Truncated: "truncated", FixedPoint: "fixed-point",
        ActiveSet: "active-set",
    }  # fmt: skip
    c = case("proximal gradient")
    default: Callable[[], Any] = type(method)  # type: ignore[assignment]
    one, two = (found(c, 60, m).gradients for m in (names[type(method)], default()))
    assert all(torch.equal(one[name], two[name]) for name in one)


def test_the_metric_term_is_in_the_reference_and_matters() -> None:
    r"""With :math:`\mu > 0` the derivative of :math:`H^{-1}` is a good part of the gradient."""
    c = case("PDHG", 0.3, "whole", bmo.schedule(0.6))
    whole = by_hand(c.formula, c.u0, c.inner.sizes(K))[1]
    moving = c.formula.H
    frozen = moving(c.omega).detach()
    c.formula.H = lambda _: frozen
    part = by_hand(c.formula, c.u0, c.inner.sizes(K))[1]
    assert off(found(c, K).gradients, whole) < 1e-10 and off(part, whole) > 1e-2


def test_the_dense_equation_is_solved_by_its_solution() -> None:
    """The references hold each other: a long Neumann sum is the dense solution."""
    c = case("linearised ADMM")
    E: Implicit = implicit(c.formula, fixed_point(c.formula, c.u0, S), S)
    assert torch.allclose(E.partial_sum(1500), E.solution(), rtol=1e-11, atol=1e-15)
