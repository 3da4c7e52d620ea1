"""A step of one's own: what is accepted, what is refused, and the pair that is shown."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import Tensor, nn

import bmo
from bmo.certify import usable
from bmo.errors import CertificateError, ConditionError, NonFiniteError, ShapeError
from bmo.metric import Dense, Diagonal, Identity
from bmo.operators import Composition, Conjugate, Own
from bmo.sets import Box

F64 = torch.float64
A = torch.tensor([[2.0, 0.0, 1.0], [0.0, 1.0, 0.0]], dtype=F64)
ZERO = torch.zeros(3, dtype=F64)
TOP = 5.0  # the largest eigenvalue of A^T A


def gradient_step(tau: float):
    return lambda u: u - tau * (u @ A.mT - 1) @ A


class Ridge(nn.Module):
    """A learned step with data: gradient of |Au - b|^2/2 + w|u|^2/2, its length following w."""

    def __init__(self) -> None:
        super().__init__()
        self.raw = nn.Parameter(torch.zeros((), dtype=F64))
        self.register_buffer("b", torch.ones(2, dtype=F64))

    def forward(self, u: Tensor) -> Tensor:
        w = nn.functional.softplus(self.raw)
        return u - 2 / (TOP + w) * ((u @ A.mT - self.b) @ A + w * u)

    def minimiser(self) -> Tensor:
        w = nn.functional.softplus(self.raw)
        return torch.linalg.solve(A.mT @ A + w * torch.eye(3, dtype=F64), self.b @ A)


def test_the_longest_step_passes_and_a_longer_one_shows_its_pair() -> None:
    D = Own(gradient_step(2 / TOP), ZERO)
    assert D.certified == "tested" and D.evidence is not None
    assert D.evidence.measured == pytest.approx(1.0, abs=1e-9)
    with pytest.raises(CertificateError, match="grows by the factor 1.02") as caught:
        Own(gradient_step(2.02 / TOP), ZERO)
    found = caught.value.value
    u, v = found.where["u"], found.where["v"]
    step = gradient_step(2.02 / TOP)
    assert float((step(u) - step(v)).norm() / (u - v).norm()) == pytest.approx(1.02, rel=1e-6)
    assert found.measured == pytest.approx(1.02, rel=1e-9)
    assert Own(gradient_step(2.02 / TOP), ZERO, check=False).certified == "none"


def test_the_claimed_constant_is_tested_too() -> None:
    half = Own(gradient_step(1 / TOP), ZERO, averaged=0.5)  # 1/(2 - delta) * ... = tau L / 2
    assert half.averaged == 0.5 and half.evidence is not None
    assert half.evidence.measured == pytest.approx(1.0, abs=1e-9)
    with pytest.raises(CertificateError, match=r"N = I \+ \(D - I\)/a takes") as caught:
        Own(gradient_step(1 / TOP), ZERO, averaged=0.49)
    u, v = caught.value.value.where["u"], caught.value.value.where["v"]
    N = lambda x: x + (gradient_step(1 / TOP)(x) - x) / 0.49  # noqa: E731
    ratio = float((N(u) - N(v)).norm() / (u - v).norm())
    assert ratio == pytest.approx(1 / 0.49 - 1, rel=1e-6)


def test_the_metric_decides_and_may_be_learned() -> None:
    p = torch.tensor([2.0, 1.0, 1.0], dtype=F64)
    step = lambda u: u - ((u @ A.mT - 1) @ A) / p  # noqa: E731
    H = Diagonal(p)
    curvature = float(torch.linalg.eigvalsh((A / p.sqrt()).mT @ (A / p.sqrt()))[-1])
    D = Own(lambda u: u - 2 / curvature * (u - step(u)), ZERO, H)
    assert D.metric is H and D.evidence is not None
    assert D.evidence.measured == pytest.approx(1.0, abs=1e-9)
    with pytest.raises(CertificateError):
        Own(lambda u: u - 2 / curvature * (u - step(u)), ZERO)  # not in the Euclidean one
    raw = nn.Parameter(p.clone())
    learned = Own(step, ZERO, lambda: Diagonal(raw), check=False)
    assert learned.metric.weights() is raw


def test_a_module_is_learned_bound_and_verified_again() -> None:
    step = Ridge()
    D = Own(step, ZERO)
    assert dict(D.named_parameters()).keys() == {"function.raw"}
    assert "point" not in D.state_dict()
    data = torch.tensor([[1.0, 1.0], [0.0, 2.0]], dtype=F64)
    target = torch.zeros(2, 3, dtype=F64)
    T = bmo.GKM(D, 0.5).bind(b=data)
    inner = bmo.Inner(T, mu=0.1, steps=bmo.schedule(0.1))
    upper = lambda u: (u - target).square().sum(-1)  # noqa: E731
    found = bmo.solve.solve(inner, target, upper, iterations=10, outer=5, gamma=0.5)
    assert found.values[-1] < found.values[0] and step.raw.item() != 0
    assert D.verify().holds and copy.deepcopy(D).verify().holds
    end = bmo.GKM(D, 0.5).iterate(ZERO, tol=1e-12).value
    torch.testing.assert_close(end, step.minimiser().detach(), rtol=0, atol=1e-9)
    with pytest.raises(ConditionError, match="register_buffer"):
        Own(gradient_step(0.1), ZERO).bind(b=data)


def test_learning_may_leave_the_claim_and_verify_says_so() -> None:
    linear = nn.Linear(3, 3).double()
    with torch.no_grad():
        linear.weight.copy_(0.9 * torch.eye(3))
    D = Own(linear, ZERO)
    assert D.evidence is not None and D.evidence.measured == pytest.approx(0.9)
    with torch.no_grad():
        linear.weight.mul_(1.2)
    with pytest.raises(CertificateError, match=r"factor 1\.08"):
        D.verify()
    assert D.evidence is not None and not D.evidence.holds


def test_a_claim_on_a_set_and_at_a_scale() -> None:
    square = lambda u: u.square() / 2  # noqa: E731 - slope u
    assert Own(square, ZERO, domain=Box(-1.0, 1.0)).certified == "tested"
    with pytest.raises(CertificateError):
        Own(square, ZERO)
    small = Own(square, ZERO, scale=0.01, ascent=0)  # pairs of that size alone
    assert small.evidence is not None and small.evidence.measured < 1
    with pytest.raises(CertificateError):
        Own(square, ZERO + 3.0)  # the size of the point is the scale


def test_images_float32_and_bound_batches() -> None:
    blur = torch.full((1, 1, 3, 3), 1 / 9)
    step = lambda u: nn.functional.conv2d(u, blur, padding=1)  # noqa: E731
    image = torch.rand(1, 8, 8)
    D = Own(step, image, trials=8, ascent=5)
    assert D.metric.event_dims == 3 and D.evidence is not None and D.evidence.measured < 1
    with pytest.raises(ConditionError, match="mixes the axes in front"):
        Own(step, image, Identity(1))
    several = torch.tensor([[1.0, 1.0], [0.0, 2.0]], dtype=F64)
    bound = lambda u: u - 0.2 * (u @ A.mT - several) @ A  # noqa: E731
    assert Own(bound, torch.zeros(2, 3, dtype=F64), Identity(1)).metric.event_dims == 1


def test_own_steps_combine_as_the_weakest_part() -> None:
    D = Own(gradient_step(1 / TOP), ZERO)
    proved = bmo.networks.CertifiedDense(3).double()
    assert Composition(D, proved).certified == "tested"
    assert Conjugate(D, Dense(torch.eye(3, dtype=F64))).certified == "tested"


def in_place(u: Tensor) -> Tensor:
    u -= 0.1 * u
    return u


DROPOUT = nn.Sequential(nn.Linear(3, 3), nn.Dropout()).double()
NORM = nn.Sequential(nn.Linear(3, 3), nn.BatchNorm1d(3)).double()
REFUSED = {
    "no tensor": (lambda u: (u, u), ShapeError, "a tensor D"),
    "another shape": (lambda u: u.sum(-1), ShapeError, "of the shape of u"),
    "another dtype": (lambda u: u.float(), ShapeError, "with dtype torch.float64"),
    "not finite": (torch.log, NonFiniteError, "a finite D"),
    "in place": (in_place, ConditionError, "leaves its input as it is"),
    "dropout": (DROPOUT, ConditionError, "two answers"),
    "mixes the batch": (lambda u: u / (1 + u.norm()), ConditionError, "in a batch than alone"),
    "batch norm": (NORM, ConditionError, "batch normalisation"),
    "columns": (lambda u: A.mT @ (A @ u), ConditionError, "torch.func.vmap"),
    "numpy": (lambda u: torch.from_numpy(u.numpy() / 2), ConditionError, "torch functions only"),
    "detached": (lambda u: u.detach() / 2, ConditionError, "quotient of differences"),
    "half detached": (lambda u: 0.5 * u.detach() + 0.4 * u, ConditionError, "quotient"),
    "float32 network": (nn.Linear(3, 3), ConditionError, "dtype of the step"),
    "float32 data": (
        lambda u: (torch.eye(3).expand(8, 3, 3) @ u[..., None])[..., 0],
        ConditionError,
        "dtype of the step",
    ),
    "other size": (
        lambda u: (torch.eye(4, dtype=F64).expand(8, 4, 4) @ u[..., None])[..., 0],
        ConditionError,
        "fits the data inside",
    ),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_cannot_be_iterated_is_refused(name: str) -> None:
    step, kind, text = REFUSED[name]
    with pytest.raises(kind, match=text):
        Own(step, ZERO)  # type: ignore[arg-type]


def test_bad_points_and_functions_are_refused() -> None:
    with pytest.raises(ShapeError, match="floating point tensor"):
        Own(gradient_step(0.1), [0.0])  # type: ignore[arg-type]
    with pytest.raises(ShapeError, match=r"torch\.int64"):
        Own(gradient_step(0.1), torch.zeros(3, dtype=torch.int64))
    with pytest.raises(NonFiniteError, match="a finite point"):
        Own(gradient_step(0.1), ZERO / 0)
    with pytest.raises(ConditionError, match="as a function"):
        Own(3.0, ZERO)  # type: ignore[arg-type]
    with pytest.raises(ConditionError, match=r"operators\.Own"):
        bmo.GKM(gradient_step(0.1))  # type: ignore[arg-type]


def test_constants_kinks_and_single_points_are_accepted() -> None:
    assert Own(lambda u: torch.ones_like(u), ZERO).certified == "tested"
    assert Own(lambda u: bmo.prox.soft(u, 0.3), ZERO).certified == "tested"
    one = torch.func.vmap(lambda u: u - 0.2 * A.mT @ (A @ u))
    assert Own(one, ZERO).certified == "tested"
    points = usable(gradient_step(0.1), ZERO, Identity())
    assert torch.equal(points[0], ZERO) and points.shape == (8, 3)


@pytest.mark.parametrize("point", [torch.zeros(16, 16), torch.zeros(4, 1, 16, 16)])
def test_a_network_on_images_wants_one_image(point: torch.Tensor) -> None:
    net = nn.Conv2d(1, 1, 3, padding=1)
    with pytest.raises(ConditionError, match=r"ONE image, u0\[0\]"):
        Own(net, point)
