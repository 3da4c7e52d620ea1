"""The learned networks: where they start, their interface, their gradients, their training."""

import numpy as np
import pytest
import torch

from bmo.baselines import (
    ALISTA,
    DEQ,
    DLADMM,
    LISTA,
    LISTACP,
    LISTACPSS,
    TISTA,
    CoupledLISTA,
    LinearisedADMM,
    Repeated,
    TiedLISTA,
    ista,
)
from bmo.baselines.lista import schedule, select
from bmo.errors import ConditionError, DomainError
from bmo.operators import LinearisedADMM as Step
from bmo.prox import L1, SquaredL2

DRAWS = torch.Generator().manual_seed(5)


def dictionary(m, n, *lead):
    A = torch.randn(*lead, m, n, dtype=torch.float64, generator=DRAWS)
    return A / A.norm(dim=-2, keepdim=True)


A = dictionary(8, 14)
B = torch.randn(4, 8, dtype=torch.float64, generator=DRAWS)
LAMBDA = 0.3
TOP = float(torch.linalg.matrix_norm(A, 2)) ** 2

MAKERS = {
    "ena-lista-untied": lambda A: LISTA(A, 3, LAMBDA),
    "ena-lista-tied": lambda A: LISTA(A, 3, LAMBDA, tied=True, coordinates=True),
    "ena-lista-cp": lambda A: LISTACP(A, 3, LAMBDA, coordinates=True),
    "ena-lista-cp-tied": lambda A: LISTACP(A, 3, LAMBDA, tied=True),
    "ena-lista-cpss": lambda A: LISTACPSS(A, 3, LAMBDA, percent=10.0, most=20.0),
    "ena-alista": lambda A: ALISTA(A, 3, LAMBDA, percent=10.0, most=20.0),
    "ena-tista": lambda A: TISTA(A, 3, 0.01),
    "ena-dladmm": lambda A: DLADMM(A, 3, LAMBDA),
    "ena-dladmm-tied": lambda A: DLADMM(A, 3, LAMBDA, fit="l2", tied=True),
    "ena-deq": lambda A: DEQ(A, 3, LAMBDA),
}

RATES = {"ena-tista": 0.02, "ena-deq": 0.001}  # a longer step, and the equilibrium is lost


def shaken(net, size=0.02):
    """The network with its parameters moved, layer by layer, so that no two are alike."""
    draws = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for p in net.parameters():
            p.add_(size * torch.randn(p.shape, generator=draws, dtype=torch.float64))
    return net


@pytest.mark.parametrize(
    "net",
    [
        LISTA(A, 6, LAMBDA),
        LISTA(A, 6, LAMBDA, step=1.5 / TOP, tied=True, coordinates=True),
        LISTACP(A, 6, LAMBDA),
        LISTACP(A, 6, LAMBDA, step=1.5 / TOP, tied=True),
        LISTACPSS(A, 6, LAMBDA, percent=0.0),
        ALISTA(A, 6, LAMBDA, W=A, step=1 / TOP, percent=0.0),
    ],
    ids=lambda net: net.name,
)
def test_they_start_as_ista(net):
    step = 1.5 / TOP if net.tied else None
    for depth, u in enumerate(net.iterates(B, 9), 1):  # the last layer is repeated
        assert torch.allclose(u, ista(A, B, LAMBDA, depth, step=step), atol=1e-12, rtol=0)


@pytest.mark.parametrize("fit", ["l1", "l2"])
def test_dladmm_starts_as_linearised_admm(fit):
    net = DLADMM(A, 4, LAMBDA, beta=0.7, tau=1.2 * TOP, fit=fit)
    eye = torch.eye(8, dtype=torch.float64)
    second = L1(1.0) if fit == "l1" else SquaredL2(1.0)
    D = Step(L1(LAMBDA), second, A, eye, B, beta=0.7, tau_u=1.2 * TOP)
    method = LinearisedADMM(A, LAMBDA, beta=0.7, tau=1.2 * TOP, fit=fit)
    point = torch.zeros(4, 14 + 8 + 8, dtype=torch.float64)
    for (z, e, y, _), u in zip(net.states(B, 9), method.iterates(B, 9), strict=True):
        point = D(point)
        assert torch.allclose(torch.cat([z, e, y], -1), point, atol=1e-12, rtol=0)
        assert torch.allclose(z, u, atol=1e-12, rtol=0)


def test_dladmm_is_the_published_recursion_written_in_columns():
    net = shaken(DLADMM(A, 3, LAMBDA, beta=0.9))
    p = {name: value.detach().numpy() for name, value in net.named_parameters()}
    C, X = A.numpy(), B.numpy().T
    Z, E, L = np.zeros((14, 4)), np.zeros((8, 4)), np.zeros((8, 4))

    def shrink(x, t):
        return np.maximum(x - t, 0) - np.maximum(-x - t, 0)

    for k, (z, e, y, _) in enumerate(net.states(B)):
        beta = p[f"beta.{k}"][:, None]
        T = C @ Z + E - X
        Z = shrink(Z - p[f"W.{k}"] @ (L + beta * T), p[f"theta.{k}"])
        E = shrink(X - C @ Z - p[f"epsilon.{k}"][:, None] * L, p[f"vartheta.{k}"])
        L = L + beta * (C @ Z + E - X)
        for ours, theirs in ((z, Z), (e, E), (y, L)):
            assert np.abs(ours.detach().numpy() - theirs.T).max() < 1e-12


def test_the_lista_family_is_its_equations_written_in_columns():
    def shrink(x, t):
        return np.sign(x) * np.maximum(np.abs(x) - t, 0)

    C, b = A.numpy(), B.numpy().T
    for net in (shaken(LISTA(A, 3, LAMBDA)), shaken(LISTACP(A, 3, LAMBDA))):
        p = {name: value.detach().numpy() for name, value in net.named_parameters()}
        x = np.zeros((14, 4))
        for k, u in enumerate(net.iterates(B)):
            if isinstance(net, LISTA):
                x = shrink(p[f"W2.{k}"] @ x + p[f"W1.{k}"] @ b, p[f"theta.{k}"])
            else:
                x = shrink(x + p[f"W.{k}"] @ (b - C @ x), p[f"theta.{k}"])
            assert np.abs(u.detach().numpy() - x.T).max() < 1e-12


def test_support_selection_is_a_sort():
    z = torch.randn(30, 25, dtype=torch.float64, generator=DRAWS)
    theta = torch.tensor(0.8, dtype=torch.float64)
    for count in (0, 1, 7, 24, 25):
        want = np.sign(z.numpy()) * np.maximum(np.abs(z.numpy()) - 0.8, 0)
        for row, source in zip(want, z.numpy(), strict=True):
            for j in np.argsort(-np.abs(source))[:count]:
                if abs(source[j]) > 0.8:
                    row[j] = source[j]
        assert np.array_equal(select(z, theta, count).numpy(), want)
    assert schedule(500, 16, 1.2, 13.0) == [6 * k for k in range(1, 11)] + [65] * 6


@pytest.mark.parametrize("name", MAKERS)
def test_the_interface(name):
    net = shaken(MAKERS[name](A))
    assert net.name == name
    assert net.depth == 3
    assert net.tied == (name.endswith("tied") and "untied" not in name or name == "ena-deq")
    wide = {"ena-lista-untied": 14 / 8 + 1, "ena-lista-tied": 14 / 8}
    assert net.products == wide.get(name, 2)
    iterates = [u.detach() for u in net.iterates(B, 6)]
    assert len(iterates) == 6
    for depth in (1, 3, 6):
        assert torch.equal(net(B, depth).detach(), iterates[depth - 1])
    assert torch.equal(net(B), net(B, 3))
    assert torch.equal(net(B, 0), torch.zeros(4, 14, dtype=torch.float64))
    assert torch.equal(net.solve(B, 6).value, iterates[-1])
    assert torch.allclose(net(B[0], 4), net(B, 4)[0], atol=1e-12, rtol=0)
    again = MAKERS[name](A)
    again.load_state_dict(net.state_dict())
    assert torch.equal(again(B, 5), net(B, 5))


@pytest.mark.parametrize("name", MAKERS)
def test_beyond_its_depth_a_network_repeats_its_last_layer(name):
    net = shaken(MAKERS[name](A))
    with torch.no_grad():
        *_, state = net.states(B, 4)
        data = net.prepare(B)
        then = net.step(net.layers - 1, state, data)
        assert torch.equal(net(B, 5), net.read(then))


@pytest.mark.parametrize("name", MAKERS)
def test_several_networks_in_one_are_the_networks(name):
    many = dictionary(8, 14, 3)
    data = torch.randn(3, 4, 8, dtype=torch.float64, generator=DRAWS)
    net = MAKERS[name](many)
    for i in range(3):
        one = MAKERS[name](many[i])
        for p, q in zip(one.parameters(), net.parameters(), strict=True):
            assert q.shape[0] == 3
            assert p.numel() == q[i].numel()
        assert torch.allclose(one(data[i], 6), net(data, 6)[i], atol=1e-11, rtol=0)


@pytest.mark.parametrize("name", [name for name in MAKERS if name != "ena-deq"])
def test_gradients_are_those_of_finite_differences(name):
    net = shaken(MAKERS[name](A))
    target = torch.randn(4, 14, dtype=torch.float64, generator=DRAWS)
    net.zero_grad()
    loss = 0.5 * (net(B, 5) - target).square().sum()
    loss.backward()
    draws, h = torch.Generator().manual_seed(2), 1e-6
    for p in net.parameters():
        v = torch.randn(p.shape, generator=draws, dtype=torch.float64)
        values = []
        for sign in (1, -1):
            with torch.no_grad():
                p.add_(sign * h * v)
                values.append(float(0.5 * (net(B, 5) - target).square().sum()))
                p.sub_(sign * h * v)
        slope = (values[0] - values[1]) / (2 * h)
        assert abs(slope - float((p.grad * v).sum())) < 1e-7 * max(1, abs(slope))


@pytest.mark.parametrize("name", MAKERS)
def test_each_layer_knows_its_parameters(name):
    net = MAKERS[name](A)
    every = {id(p) for p in net.parameters()}
    found = [id(p) for k in range(net.layers) for p in net.layer_parameters(k)]
    assert set(found) == every
    assert len(found) == len(every)
    assert [id(p) for p in net.layer_parameters(9)] == found[-len(net.layer_parameters(9)) :]


@pytest.mark.parametrize("name", MAKERS)
def test_training_lowers_the_loss_on_fresh_signals(name):
    D = dictionary(15, 24)
    draws = torch.Generator().manual_seed(7)

    def sample(count):
        values = torch.randn(count, 24, generator=draws, dtype=torch.float64)
        x = values * (torch.rand(count, 24, generator=draws) < 0.1)
        return x, x @ D.mT

    net = MAKERS[name](D)
    net.depth = 30 if name == "ena-deq" else net.depth  # its gradient is that of the fixed point
    x, b = sample(400)

    def loss():
        with torch.no_grad():
            return float((net(b) - x).square().mean())

    before = loss()
    optimizer = torch.optim.Adam(net.parameters(), RATES.get(name, 0.005))
    for _ in range(40):
        truth, data = sample(64)
        optimizer.zero_grad()
        (net(data) - truth).square().mean().backward()
        optimizer.step()
    assert loss() < 0.93 * before


def test_maps_of_the_book_become_methods_of_the_comparison():
    D = CoupledLISTA(A, B, LAMBDA)
    net = Repeated(D.map(), 14, "ena-lista-cp-tied", 2.0, depth=4)
    other = LISTACP(A, 4, LAMBDA, tied=True)
    assert torch.allclose(net(B, 9), other(B, 9), atol=1e-12, rtol=0)
    assert net.tied
    start = torch.zeros(4, 14, dtype=torch.float64)
    assert torch.allclose(net(B), D.map().iterate(start, 4).value, atol=1e-12, rtol=0)
    assert {id(p) for p in net.layer_parameters(0)} == {id(p) for p in D.parameters()}
    net(B).sum().backward()
    assert all(p.grad is not None for p in D.parameters())
    part = Repeated(TiedLISTA(A, B, LAMBDA).map(), 14, "x", 1.75, 4, read=lambda u: u[..., :3])
    assert torch.allclose(part(B), other(B)[..., :3], atol=1e-12, rtol=0)


def test_a_learned_threshold_below_zero_acts_as_zero_in_lista():
    net = LISTA(A, 1, LAMBDA)
    with torch.no_grad():
        net.theta[0].fill_(-1.0)
    assert torch.allclose(net(B), B @ A / TOP, atol=1e-12, rtol=0)


@pytest.mark.parametrize(
    ("make", "error", "words"),
    [
        (lambda: LISTA(A, 0, LAMBDA), DomainError, "at least one layer"),
        (lambda: LISTACP(A, 3, 0.0), DomainError, "penalty > 0"),
        (lambda: LISTA(A, 3, LAMBDA, step=2.1 / TOP), ConditionError, "step <="),
        (lambda: LISTACPSS(A, 3, LAMBDA, percent=101.0), DomainError, "percentages"),
        (lambda: DLADMM(A, 3, LAMBDA, tau=0.9 * TOP), ConditionError, "beta"),
        (lambda: DLADMM(A, 3, LAMBDA, fit="l0"), DomainError, "l2"),
        (lambda: Repeated(TiedLISTA(A, B, 1.0).map(), 14, "x", 1.0, -1), DomainError, "depth"),
    ],
)
def test_bad_settings_are_refused(make, error, words):
    with pytest.raises(error, match=words):
        make()
