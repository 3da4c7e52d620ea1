r"""Exact hypergradients of the benchmark's problems, written by hand: no autograd, no estimator.

* :func:`unrolled`: the adjoint of the K steps, in float64.
* :func:`implicit`: the implicit function theorem at the fixed point, by dense solves.

Every method of the benchmark is judged by these; the tests judge these by finite differences.
Book: chapter 9.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from bmo.bench.aggregated import Aggregated
from bmo.bench.problems import Parts, Problem, Smooth, Sparse
from bmo.errors import ConditionError


@torch.no_grad()
def unrolled(problem: Problem) -> Parts:
    r""":math:`\nabla\varphi_K(\omega)`: the loop's adjoint, step by step.

    Example:
        >>> problem = Smooth(steps=3, m=8, n=4)
        >>> unrolled(problem)["omega"].shape
        torch.Size([4])
    """
    at = problem.prepare(problem.omega)
    points = [problem.u0]
    for k in range(1, problem.steps + 1):
        points.append(problem.step(k, points[-1], at))
    v = problem.upper_gradient(points.pop()) / _points(problem)
    total = {name: torch.zeros_like(value) for name, value in at.items()}
    for k in range(problem.steps, 0, -1):
        v, grads = _step_adjoint(problem, k, points.pop(), v, at)
        for name, grad in grads.items():
            total[name] += grad
    return _to_omega(problem, at, total)


@torch.no_grad()
def implicit(problem: Smooth | Sparse) -> Parts:
    r""":math:`\nabla\varphi(\omega)` at the fixed point, by dense solves.

    .. math:: (I - J^\top)v = \nabla\ell, \qquad \nabla\varphi = (\partial_\omega T)^\top v

    Raises:
        ConditionError: The fixed point was not reached.
    """
    at = problem.prepare(problem.omega)
    u = solution(problem)
    right = problem.upper_gradient(u) / _points(problem)
    if isinstance(problem, Smooth):
        hessian = problem.A.mT @ problem.A + torch.diag(at["e"])
        v = torch.linalg.solve(hessian * at["inverse"], right)
    else:
        v = _solve_each(problem, u, right, at)
    _, grads = _map_adjoint(problem, u, v, at)
    zero = {name: torch.zeros_like(value) for name, value in at.items()}
    return _to_omega(problem, at, {**zero, **grads})


@torch.no_grad()
def solution(problem: Smooth | Sparse, tol: float = 1e-13, limit: int = 100_000) -> Tensor:
    """The fixed point of the map: by a dense solve (P1), or by iterating until nothing moves (P2).

    Raises:
        ConditionError: It still moves by more than ``tol`` after ``limit`` steps.
    """
    at = problem.prepare(problem.omega)
    if isinstance(problem, Smooth):
        hessian = problem.A.mT @ problem.A + torch.diag(at["e"])
        return torch.linalg.solve(hessian, problem.A.mT @ problem.b)
    u, moved = problem.u0, math.inf
    for _ in range(limit):
        new = problem.map(u, at)
        moved, u = float((new - u).abs().max()), new
        if moved <= tol:
            return u
    raise ConditionError(
        f"a fixed point to {tol:g} within {limit} steps", f"{moved:.1e}", "allow more steps", moved
    )


def error(found: Parts, exact: Parts) -> float:
    r"""The largest relative error :math:`\|g-g^*\|/\|g^*\|` over the parameters.

    Example:
        >>> error({"a": torch.tensor([1.1])}, {"a": torch.tensor([1.0])})  # doctest: +ELLIPSIS
        0.1...
    """
    return max(float((found[name] - g).norm() / g.norm()) for name, g in exact.items())


def _points(problem: Problem) -> int:
    return problem.u0[..., 0].numel()


def _step_adjoint(
    problem: Problem, k: int, u: Tensor, v: Tensor, at: Parts
) -> tuple[Tensor, Parts]:
    """Pull v back through step k at u; with the gradients of what the steps share."""
    if not isinstance(problem, Aggregated):
        return _map_adjoint(problem, u, v, at)
    base, mu, s = problem.base, problem.mu, problem.sizes[k - 1]
    if problem.anchored:
        v = v * (k / (k + 1))
    v = v * (problem.mixed(k, u, at).abs() <= problem.half)
    back, grads = _map_adjoint(base, u, (1 - mu) * v, at)
    scaled = mu * s * at["inverse"] * v
    curved = base.A_v.mT @ (base.A_v @ scaled) if isinstance(base, Smooth) else 2 * scaled
    along = -mu * s * v * base.upper_gradient(u)
    grads["inverse"] = grads.get("inverse", 0) + _summed(along, at["inverse"])
    return back + mu * v - curved, grads


def _map_adjoint(problem: Problem, u: Tensor, v: Tensor, at: Parts) -> tuple[Tensor, Parts]:
    if isinstance(problem, Smooth):
        p = at["inverse"] * v
        back = v - problem.A.mT @ (problem.A @ p) - at["e"] * p
        g = problem.gradient(u, at)
        return back, {"e": -p * u, "inverse": _summed(-v * g, at["inverse"])}
    problem = _sparse(problem)
    r = problem.y - u @ problem.Q.mT
    forward = r @ at["W"].mT
    z = u + at["step"] * forward
    m = v * (z.abs() > at["threshold"])
    sm = at["step"] * m
    grads = {
        "step": _summed(m * forward, at["step"]),
        "threshold": -(z.sign() * m).sum(0),
        "W": sm.mT @ r,
    }
    return m - (sm @ at["W"]) @ problem.Q, grads


def _sparse(problem: Problem) -> Sparse:
    if not isinstance(problem, Sparse):
        raise ConditionError("P1, P2 or P3", type(problem).__name__, "write its adjoint by hand")
    return problem


def _solve_each(problem: Sparse, u: Tensor, right: Tensor, at: Parts) -> Tensor:
    r"""Solve :math:`(I - J^\top)v = \nabla\ell` for each signal, n × n and dense."""
    z = u + at["step"] * ((problem.y - u @ problem.Q.mT) @ at["W"].mT)
    mask = (z.abs() > at["threshold"]).to(u)
    eye = torch.eye(u.shape[-1]).to(u)
    core = eye - (problem.Q.mT @ at["W"].mT) * at["step"]  # J^T = core diag(mask)
    return torch.stack(
        [torch.linalg.solve(eye - core * m, g) for m, g in zip(mask, right, strict=True)]
    )


def _summed(values: Tensor, like: Tensor) -> Tensor:
    """Sum over what was broadcast."""
    return values.sum() if like.dim() == 0 else values.reshape(-1, values.shape[-1]).sum(0)


def _to_omega(problem: Problem, at: Parts, total: Parts) -> Parts:
    """From the gradients of what the steps share to those of omega."""
    base = problem.base if isinstance(problem, Aggregated) else problem
    if isinstance(base, Smooth):
        grad = total["e"]
        if base.diagonal:
            grad = grad - total["inverse"] * at["inverse"].square()
        return {"omega": at["e"] * grad}
    names = ("step", "threshold", "W")
    return {n: total[n] + (total["inverse"] if n == "step" else 0) for n in names}
