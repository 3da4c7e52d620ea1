"""The outer loop, its step and its projection. To be held beside the listing in chapter 6."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping

import torch
from torch import Tensor

from bmo.errors import DomainError
from bmo.hypergradient import HyperResult, Parameters, hypergradient, named_parameters
from bmo.inner import Inner, Upper, upper_values
from bmo.sets import Set
from bmo.solve.history import History, Solution

Start = Tensor | Callable[[], Tensor]
Projection = Set | Callable[[Tensor], Tensor]


def solve(
    inner: Inner,
    u0: Start,
    upper: Upper,
    iterations: int,
    outer: int,
    gamma: float | None = None,
    optimizer: torch.optim.Optimizer | None = None,
    projection: Mapping[str, Projection] | None = None,
    parameters: Parameters = None,
    method: str = "reverse",
    keep: bool = False,
) -> Solution:
    r"""Algorithm 1, from the parameters as they stand; they are changed in place.

    Args:
        inner: Steps 3 to 8, with T, :math:`\mu`, :math:`s_k` and U.
        u0: Start, or a function that returns it (then it may depend on :math:`\omega`).
        upper: :math:`\ell(u; \omega)`, one value for each point.
        iterations: :math:`K`, inner steps.
        outer: :math:`T \ge 0`, outer steps.
        gamma: :math:`\gamma > 0`, the length of the plain step of the listing ...
        optimizer: ... or any torch optimizer instead, built on the same parameters.
        projection: :math:`\mathrm{Proj}_\Omega`, a set or a function for each parameter, by (the
            end of) its name; parameters without one are free.
        parameters: :math:`\omega`; ``None`` for all that require gradients.
        method: Hypergradient estimator.
        keep: Keep every :math:`\omega^t` in ``trace``.

    Raises:
        DomainError: ``gamma`` is not positive, ``outer`` is negative, not exactly one of ``gamma``
            and ``optimizer`` is given, or a projection names no parameter.
        TrainingError: There is nothing to learn.
        NonFiniteError: A hypergradient or an iterate is not finite. The message says at which t;
            ``value`` is the :class:`Solution` so far; the parameters keep their last finite value.

    Book: Algorithm 1.

    Example:
        >>> import bmo
        >>> from bmo.problems import toy
        >>> from bmo.solve import solve
        >>> problem = toy.singleton_failure()  # the answer is 1
        >>> inner = bmo.Inner(problem.training(), 0.5, bmo.schedule(0.5, p=0.5), problem.domain)
        >>> found = solve(inner, problem.start, problem.upper, iterations=20, outer=20, gamma=0.5)
        >>> round(problem.omega.item(), 2)
        0.96
    """
    require_step(gamma, optimizer, outer)
    omega = named_parameters(inner, upper, parameters)
    onto = projections(projection or {}, omega)
    history = History(omega, keep)

    def phi() -> HyperResult:  # steps 3 to 8, and the derivative of what they reach
        start = u0() if callable(u0) else u0
        return hypergradient(inner, start, upper, iterations, omega, method)

    for t in range(1, outer + 1):
        with history.guard(t):
            result = history.add(phi())
            if optimizer is None:
                gamma_step(omega, result, gamma or 0.0)  # step 9
            else:
                optimizer_step(optimizer, omega, result, phi)
            project(omega, onto)
            history.advance()
    with history.guard(outer):
        history.add(evaluate(inner, u0, upper, iterations))
    return history.solution()


@torch.no_grad()
def gamma_step(omega: dict[str, Tensor], result: HyperResult, gamma: float) -> None:
    r""":math:`\omega \leftarrow \omega - \gamma\,\nabla\varphi_K(\omega)`, in place."""
    for name, w in omega.items():
        w.sub_(gamma * result.gradients[name])


@torch.no_grad()
def project(omega: dict[str, Tensor], onto: dict[str, Callable[[Tensor], Tensor]]) -> None:
    r""":math:`\omega \leftarrow \mathrm{Proj}_\Omega(\omega)`, in place."""
    for name, nearest in onto.items():
        omega[name].copy_(nearest(omega[name]))


def optimizer_step(
    optimizer: torch.optim.Optimizer,
    omega: dict[str, Tensor],
    result: HyperResult,
    phi: Callable[[], HyperResult],
) -> None:
    """One step of a torch optimizer; it may evaluate again (LBFGS). ``.grad`` is left as found."""
    held = {id(w) for group in optimizer.param_groups for w in group["params"]}
    missing = [name for name, w in omega.items() if id(w) not in held]
    if missing:
        raise DomainError(
            "an optimizer that holds every parameter to learn",
            f"one without {missing}",
            "build it on inner.parameters(), or pass its parameters as parameters=...",
            missing,
        )
    before, waiting = {name: w.grad for name, w in omega.items()}, [result]

    def closure() -> float:
        now = waiting.pop() if waiting else phi()
        for name, w in omega.items():
            w.grad = now.gradients[name].clone()
        return float(now.value)

    try:
        optimizer.step(closure)
    finally:
        for name, w in omega.items():
            w.grad = before[name]


@torch.no_grad()
def evaluate(inner: Inner, u0: Start, upper: Upper, iterations: int) -> HyperResult:
    r""":math:`u^K`, :math:`\varphi_K` and the residual as the parameters stand."""
    u = inner(u0() if callable(u0) else u0, upper, iterations)
    value = upper_values(upper, u, inner.training_map.metric).mean()
    return HyperResult(value, {}, u, inner.training_map.residual(u))


def require_step(gamma: float | None, optimizer: torch.optim.Optimizer | None, outer: int) -> None:
    """Refuse a bad step length or number of steps."""
    if (gamma is None) == (optimizer is None):
        raise DomainError(
            "either gamma or optimizer", "both or none", "gamma=0.1 is the step of Algorithm 1"
        )
    if gamma is not None and not 0 < gamma < math.inf:
        raise DomainError("gamma > 0", f"gamma = {gamma}", "0.1 is a start", gamma)
    if outer < 0:
        raise DomainError("outer >= 0", f"outer = {outer}", "count the outer steps", outer)


def projections(
    given: Mapping[str, Projection], omega: dict[str, Tensor]
) -> dict[str, Callable[[Tensor], Tensor]]:
    r"""The projections onto :math:`\Omega` by full name; refuse a start outside."""
    onto: dict[str, Callable[[Tensor], Tensor]] = {}
    for short, projection in given.items():
        found = [name for name in omega if name == short or name.endswith("." + short)]
        if len(found) != 1:
            raise DomainError(
                f"the name of one of the parameters {sorted(omega)}",
                f"{short!r}, which fits {len(found)} of them",
                "use its full name",
                short,
            )
        nearest = projection.nearest if isinstance(projection, Set) else projection
        start = omega[found[0]].detach()
        if not torch.allclose(nearest(start), start, rtol=1e-6, atol=1e-6):
            raise DomainError(
                "a start inside Omega", f"{found[0]} outside", "project it first", start
            )
        onto[found[0]] = nearest
    return onto
