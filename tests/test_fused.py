"""The loop with adjoints by hand against automatic differentiation, differences, and itself."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import bmo
from bmo.baselines import CoupledLISTA, TiedLISTA
from bmo.errors import ConditionError, DomainError
from bmo.fused import taken
from bmo.hypergradient import Recompute, hypergradient
from bmo.hypergradient.recompute import bytes_of_step
from bmo.inner.by_hand import by_hand
from bmo.sets import Ball, Box, Nonnegative, Whole

M, N, BATCH, K = 6, 9, 4, 12


def draw(*shape: int, seed: int = 0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(*shape, generator=generator, dtype=torch.float64)


A = draw(M, N) / 3
TALL = draw(N, M, seed=1) / 3
Y = draw(BATCH, M, seed=2)


class Exp(nn.Module):
    """A positive weight that is learned through its logarithm."""

    def __init__(self, n: int) -> None:
        super().__init__()
        self.raw = nn.Parameter(draw(n, seed=3) / 2)

    def forward(self) -> Tensor:
        return self.raw.exp()


class Loss(nn.Module):
    """A smooth loss with learned weights, not quadratic."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = Exp(N)

    def forward(self, u: Tensor) -> Tensor:
        return (u @ A.mT - Y).cosh().log().sum(-1) + 0.5 * (self.weight() * u.square()).sum(-1)


class LearnedMetric(nn.Module):
    """A diagonal metric of its own."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = Exp(N)

    def forward(self) -> bmo.metric.Metric:
        return bmo.metric.Diagonal(4 + self.weight(), check=False)


def ridge() -> bmo.smooth.Sum:
    return bmo.smooth.Sum(bmo.LeastSquares(TALL, draw(BATCH, N, seed=4)), bmo.smooth.Ridge(Exp(M)))


def quadratic() -> bmo.smooth.Quadratic:
    return bmo.smooth.Quadratic(A.mT @ A, Y @ A)


def learned_b() -> bmo.LeastSquares:
    f = bmo.LeastSquares(A, Y.clone())
    f.b.requires_grad_()
    return f


def number(x: float) -> Tensor:
    return torch.tensor(x, dtype=torch.float64)


OPERATORS: dict[str, Callable[[], Any]] = {
    "lasso": lambda: bmo.ProximalGradient(
        bmo.LeastSquares(A, Y), bmo.prox.L1(number(0.1), learn=True), step=0.2
    ),
    "lasso with data": lambda: bmo.ProximalGradient(
        learned_b(), bmo.prox.NonnegativeL1(number(0.1), learn=True), step=0.2
    ),
    "ridge": lambda: bmo.ProximalGradient(ridge(), step=0.1),
    "quadratic": lambda: bmo.ProximalGradient(
        quadratic(), bmo.prox.L1(0.1 + draw(N).abs(), learn=True),
        metric=bmo.metric.Diagonal(4 + draw(N, seed=5).abs()),
    ),
    "loss": lambda: bmo.ProximalGradient(
        bmo.smooth.Gradient(Loss(), 4.0), bmo.prox.L1(number(0.1), learn=True), step=0.2
    ),
    "learned metric": lambda: bmo.ProximalGradient(
        bmo.LeastSquares(A, Y), bmo.prox.NonnegativeL1(number(0.1)), metric=LearnedMetric()
    ),
    "loss in a learned metric": lambda: bmo.ProximalGradient(
        bmo.smooth.Gradient(Loss(), 4.0), bmo.prox.NonnegativeL1(number(0.1)),
        metric=LearnedMetric(),
    ),
    "learned dense": lambda: bmo.operators.LearnedForwardBackward(A, Y, threshold=0.1),
    "learned thin": lambda: bmo.operators.LearnedForwardBackward(A[:3], Y[:, :3], threshold=0.1),
    "lista": lambda: TiedLISTA(A, Y, threshold=0.1),
    "lista-cp": lambda: CoupledLISTA(A, Y, threshold=0.1),
}  # fmt: skip
DOMAINS = {"whole": Whole, "box": lambda: Box(-0.05, 0.3), "positive": Nonnegative}


def loop(operator: Any, mu: float, domain: Any, fuse: bool = True, kind: Any = bmo.Inner) -> Any:
    return kind(bmo.GKM(operator, 0.8), mu, 0.3, domain, fuse=fuse)


def closure(n: int) -> Callable[[Tensor], Tensor]:
    target = draw(n, seed=6)
    return lambda u: ((u - target).square() + 0.1 * u**4).sum(-1)


def gradients(inner: Any, u0: Tensor, upper: Any, segments: Any = None) -> list[Tensor]:
    wanted = [w for w in [*inner.parameters(), *inner.buffers()] if w.requires_grad]
    u = inner.advance(u0, u0, upper, inner.sizes(K), segments=segments)
    extra = [u0] if u0.requires_grad else []
    return list(torch.autograd.grad(upper(u).mean(), [*wanted, *extra]))


@pytest.mark.parametrize("kind", [bmo.Inner, bmo.AnchoredInner])
@pytest.mark.parametrize("mu", [0.0, 0.3])
@pytest.mark.parametrize("domain", DOMAINS)
@pytest.mark.parametrize("name", OPERATORS)
def test_equals_automatic_differentiation(name: str, domain: str, mu: float, kind: Any) -> None:
    D = OPERATORS[name]()
    n = M if name == "ridge" else N
    upper, U = closure(n), DOMAINS[domain]()
    u0 = (0.1 * draw(BATCH, n, seed=7).abs()).clamp(max=0.3).requires_grad_()
    byhand, auto = (loop(D, mu, U, fuse, kind) for fuse in (True, False))
    assert by_hand(byhand.prepared(), u0, upper, [], None) is not None
    assert by_hand(auto.prepared(), u0, upper, [], None) is None
    expected = gradients(auto, u0, upper)
    assert max(float(g.abs().max()) for g in expected) > 1e-3
    for segments in (None, [5, 4, 3]):
        for got, want in zip(gradients(byhand, u0, upper, segments), expected, strict=True):
            assert torch.allclose(got, want, rtol=1e-11, atol=1e-14)
    for got, want in zip(gradients(auto, u0, upper, [5, 4, 3]), expected, strict=True):
        assert torch.allclose(got, want, rtol=1e-11, atol=1e-14)


def test_one_point_without_a_batch_and_more_axes() -> None:
    D = bmo.operators.LearnedForwardBackward(A, Y[0], threshold=0.1)
    P = bmo.ProximalGradient(bmo.LeastSquares(A, Y[0]), bmo.prox.L1(number(0.1), True), step=0.2)
    for operator in (D, P):
        for shape in ((N,), (2, 3, N)):
            u0 = draw(*shape, seed=8)
            got, want = (
                gradients(loop(operator, 0.3, Whole(), fuse), u0, closure(N))
                for fuse in (True, False)
            )
            assert all(torch.allclose(g, w, rtol=1e-11) for g, w in zip(got, want, strict=True))


def test_a_known_hessian_gives_the_same() -> None:
    upper = bmo.smooth.Objective(
        bmo.smooth.Sum(bmo.LeastSquares(draw(5, N), draw(5)), bmo.smooth.Ridge(0.3))
    )
    assert upper.closed
    inner = loop(OPERATORS["learned dense"](), 0.3, Box(-0.4, 0.4))
    plain = loop(inner.training_map.operator, 0.3, inner.domain, fuse=False)
    u0 = torch.zeros(BATCH, N, dtype=torch.float64)
    got, want = gradients(inner, u0, upper), gradients(plain, u0, upper)
    assert all(torch.allclose(g, w, rtol=1e-11, atol=1e-14) for g, w in zip(got, want, strict=True))


def test_finite_differences() -> None:
    inner = loop(OPERATORS["learned dense"](), 0.3, Box(-0.4, 0.4))
    u0, upper = torch.zeros(BATCH, N, dtype=torch.float64), closure(N)
    got = hypergradient(inner, u0, upper, K)
    for name, w in inner.named_parameters():
        direction = draw(*w.shape, seed=9)
        values = []
        for sign in (1, -1):
            with torch.no_grad():
                w.add_(sign * 1e-6 * direction)
                values.append(float(upper(inner(u0, upper, K)).mean()))
                w.add_(-sign * 1e-6 * direction)
        slope = float((got.gradients[name] * direction).sum())
        assert slope == pytest.approx((values[0] - values[1]) / 2e-6, rel=1e-6, abs=1e-9), name


def test_what_it_cannot_do_goes_through_autograd() -> None:
    u0 = torch.zeros(BATCH, N, dtype=torch.float64)
    D = OPERATORS["lasso"]()
    w = torch.tensor(0.5, dtype=torch.float64, requires_grad=True)

    def hidden(u: Tensor) -> Tensor:  # depends on a learned number that nobody told of
        return 0.5 * (u - w).square().sum(-1)

    inner = loop(D, 0.3, Whole())
    (got,) = torch.autograd.grad(hidden(inner(u0, hidden, K)).mean(), w)
    (want,) = torch.autograd.grad(hidden(loop(D, 0.3, Whole(), False)(u0, hidden, K)).mean(), w)
    assert torch.allclose(got, want, rtol=1e-12) and abs(float(got)) > 1e-3

    class Shifted(type(D)):  # type: ignore[misc]
        def forward(self, u: Tensor) -> Tensor:
            return super().forward(u) + 1

    class Longer(bmo.Inner):
        def step(self, u: Tensor, s: float, upper: Any, metric: Any) -> Tensor:
            return super().step(super().step(u, s, upper, metric), s, upper, metric)

    shifted = Shifted(D.smooth, D.prior, step=0.2)
    assert by_hand(loop(shifted, 0.0, Whole()).prepared(), u0, closure(N), [], None) is None
    twice = loop(D, 0.3, Whole(), kind=Longer)
    assert torch.allclose(twice(u0, closure(N), 3), inner(u0, closure(N), 6), rtol=1e-12)
    hooked = OPERATORS["lasso"]()
    hooked.register_forward_hook(lambda *_: None)
    assert by_hand(loop(hooked, 0.0, Whole()).prepared(), u0, closure(N), [], None) is None
    for domain in (Ball(1.0), Box(torch.zeros(N).double().requires_grad_(), 1.0)):
        assert by_hand(loop(D, 0.0, domain).prepared(), u0, closure(N), [], None) is None
    assert bmo.ProximalGradient(bmo.smooth.Ridge(1.0), step=0.1).kernel() is None
    capturing = bmo.smooth.Gradient(lambda u: 0.5 * (w * u.square()).sum(-1), 1.0)
    step = bmo.ProximalGradient(capturing, step=0.1)
    assert by_hand(loop(step, 0.0, Whole()).prepared(), u0, closure(N), [], None) is None
    flat = bmo.ProximalGradient(bmo.smooth.Gradient(lambda u: u.sum(-1), 1.0), step=0.1)
    start = draw(N).requires_grad_()
    flow = loop(flat, 0.0, Whole())(start, closure(N), 3)
    assert torch.equal(torch.autograd.grad(flow.sum(), start)[0], torch.ones_like(start))
    learned = bmo.LeastSquares(A.clone().requires_grad_(), Y)
    assert bmo.ProximalGradient(learned, step=0.1, check=False).kernel() is None
    assert bmo.operators.Lambda(lambda u: u, bmo.metric.Identity()).kernel() is None


def test_a_second_backward_pass_and_a_changed_parameter() -> None:
    inner, upper = loop(OPERATORS["lista"](), 0.3, Whole()), closure(N)
    u0 = torch.zeros(BATCH, N, dtype=torch.float64)
    value = upper(inner(u0, upper, K)).mean()
    w = inner.training_map.operator.W2
    first = torch.autograd.grad(value, w, retain_graph=True)[0]
    assert torch.equal(first, torch.autograd.grad(value, w, retain_graph=True)[0])
    with torch.no_grad():
        w.mul_(1.1)
    with pytest.raises(ConditionError, match="changed in place"):
        torch.autograd.grad(value, w)
    again = upper(inner(u0, upper, K)).mean()
    u0.add_(1)
    with pytest.raises(ConditionError, match="changed in place"):
        torch.autograd.grad(again, w)


def test_no_gradient_no_tape_and_no_step() -> None:
    inner, upper = loop(OPERATORS["lista"](), 0.3, Whole()), closure(N)
    u0 = draw(BATCH, N)
    with torch.no_grad():
        plain = inner(u0, upper, K)
    assert not plain.requires_grad
    assert torch.allclose(plain, inner.run(u0, upper, K).value, rtol=1e-12, atol=1e-14)
    assert torch.equal(plain, inner(u0, upper, K).detach())
    assert torch.equal(inner(u0, upper, 0), u0)


# inductor needs a C++ compiler, the other backend nothing
BACKENDS = ["aot_eager", *(["inductor"] if shutil.which("g++") else [])]


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")  # the compilers' own
@pytest.mark.parametrize("backend", BACKENDS)
def test_transforms_and_compilers_get_the_plain_loop(backend: str) -> None:
    """A compiler differentiates once only, so it needs an upper objective with its gradient."""
    D = OPERATORS["learned dense"]()
    upper = bmo.smooth.Objective(bmo.LeastSquares(draw(5, N), draw(5)))
    inner = loop(D, 0.3, Whole())
    u0 = draw(BATCH, N)

    def value(start: Tensor) -> Tensor:
        return upper(inner(start, upper, 3)).mean()

    wanted = [u0.requires_grad_(), D.G, D.W, D.theta.raw]
    want = torch.autograd.grad(value(u0), wanted)
    assert torch.allclose(torch.func.grad(value)(u0.detach()), want[0], rtol=1e-11)
    torch._dynamo.reset()
    got = torch.autograd.grad(torch.compile(value, backend=backend)(u0), wanted)
    assert all(torch.allclose(g, w, rtol=1e-11) for g, w in zip(got, want, strict=True))


def test_it_keeps_little() -> None:
    """A proximal step keeps bytes and, at most, a residual or a point; autograd several points."""
    u, point, upper = draw(BATCH, N), BATCH * N * 8, closure(N)
    expected = {"lasso": BATCH * N, "lista-cp": BATCH * (M * 8 + N), "lista": point + BATCH * N}
    for name, least in expected.items():
        inner = loop(OPERATORS[name](), 0.0, Whole()).prepared()
        made = by_hand(inner, u, upper, [(1.0, 0.0, 1.0)], None)
        assert made is not None
        values = [t.detach() for t in made.inputs()]
        _, kept = taken(made, 0, u, u, values, True)
        held = [t for t in kept.operator if t is not None]
        assert sum(t.nbytes for t in held) == least, name
        assert kept.upper is None and kept.free is None
        auto = bytes_of_step(loop(inner.training_map.operator, 0.0, Whole(), False), u, upper)
        assert auto >= 3 * point, name


def test_recompute_equals_reverse_for_every_split() -> None:
    inner, upper = loop(OPERATORS["lista-cp"](), 0.3, Box(-0.4, 0.4)), closure(N)
    u0 = torch.zeros(BATCH, N, dtype=torch.float64)
    want = hypergradient(inner, u0, upper, K)
    for segments in (1, 2, 3, 5, K, 2 * K, None):
        got = hypergradient(inner, u0, upper, K, method=Recompute(segments))
        for name, g in want.gradients.items():
            assert torch.allclose(got.gradients[name], g, rtol=1e-12, atol=1e-15), segments


@pytest.mark.parametrize("fuse", [True, False])
def test_a_budget_of_bytes_is_met_and_used(fuse: bool) -> None:
    """What a step keeps is counted in both loops, and the split follows from it."""
    inner, upper, u0 = loop(OPERATORS["lista"](), 0.0, Whole(), fuse), closure(N), draw(BATCH, N)
    step, point = bytes_of_step(inner, u0, upper), u0.nbytes
    if fuse:
        assert step == point + BATCH * N  # the point and one byte for each entry
    assert [bytes_of_step(inner, u0, upper) for _ in range(3)] == [step] * 3
    for count in (1, 4, 8):
        budget = count * point + 64 // count * step
        lengths = Recompute(budget=budget).lengths(inner, u0, upper, 64)
        assert len(lengths) <= count and len(lengths) * point + max(lengths) * step <= budget
        got = hypergradient(inner, u0, upper, 64, method=Recompute(budget=budget))
        want = hypergradient(inner, u0, upper, 64)
        assert all(torch.allclose(got.gradients[n], g) for n, g in want.gradients.items())
    with pytest.raises(DomainError, match="budget"):
        Recompute(budget=8 * point).lengths(inner, u0, upper, 64)
