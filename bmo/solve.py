r"""Algorithm 1: train and hyper-train together. To be held beside the listing in chapter 6.

.. math::
    \omega^t = \mathrm{Proj}_\Omega\bigl(\omega^{t-1} - \gamma\,\nabla\varphi_K(\omega^{t-1})\bigr),
    \quad \varphi_K(\omega) = \ell(u^K(\omega), \omega), \quad t = 1, \dots, T
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor

from bmo.errors import DomainError, NonFiniteError
from bmo.gkm import stack
from bmo.hypergradient import HyperResult, Parameters, hypergradient, named_parameters
from bmo.inner import Inner, Upper, upper_values
from bmo.sets import Set

__all__ = ["Solution", "solve"]

Start = Tensor | Callable[[], Tensor]
Projection = Set | Callable[[Tensor], Tensor]


@dataclass(frozen=True)
class Solution:
    r"""What Algorithm 1 returned.

    Attributes:
        omega: :math:`\omega^T` by name (copies; the module's own parameters hold the same).
        u: :math:`u^K(\omega^T)`.
        values: :math:`\varphi_K(\omega^t)`, :math:`t = 0, \dots, T`; shape (T + 1,).
        gradient_norms: :math:`|\nabla\varphi_K(\omega^t)|`, :math:`t = 0, \dots, T-1`; shape (T,).
        residuals: :math:`\|u^K - T(u^K)\|_H`, the largest of the batch, at each :math:`\omega^t`;
            shape (T + 1,).
        trace: Every :math:`\omega^t` by name, shape (T + 1, ...), if ``keep`` was set.

    Example:
        >>> import bmo
        >>> from bmo.problems import toy
        >>> from bmo.solve import solve
        >>> problem = toy.singleton_failure()
        >>> inner = bmo.Inner(problem.training(), 0.5, bmo.schedule(0.5, p=0.5), problem.domain)
        >>> found = solve(inner, problem.start, problem.upper, iterations=20, outer=3, gamma=0.5)
        >>> found.values.shape, found.gradient_norms.shape
        (torch.Size([4]), torch.Size([3]))
    """

    omega: dict[str, Tensor]
    u: Tensor
    values: Tensor
    gradient_norms: Tensor
    residuals: Tensor
    trace: dict[str, Tensor]


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


class History:
    """What happened so far, and the last finite parameters to go back to."""

    def __init__(self, omega: dict[str, Tensor], keep: bool) -> None:
        self.omega, self.keep = omega, keep
        self.values: list[Tensor] = []
        self.residuals: list[Tensor] = []
        self.norms: list[float] = []
        self.u = torch.empty(0)
        self.copies = [self.copy()]

    def copy(self) -> dict[str, Tensor]:
        """The parameters as they stand."""
        return {name: w.detach().clone() for name, w in self.omega.items()}

    def add(self, result: HyperResult) -> HyperResult:
        """Note one evaluation and pass it on."""
        self.values.append(result.value)
        self.residuals.append(result.residual.max())
        self.u = result.u
        if result.gradients:
            self.norms.append(result.norm())
        return result

    @contextmanager
    def guard(self, t: int) -> Iterator[None]:
        """Run one outer step; if a number is not finite, go back and say at which t it happened."""
        try:
            yield
        except NonFiniteError as error:
            with torch.no_grad():
                for name, w in self.omega.items():
                    w.copy_(self.copies[-1][name])
            raise NonFiniteError(
                error.required,
                f"{error.got}, in outer step t = {t}",
                "shorten gamma; the parameters are back at their last finite value, and value "
                "holds the solution so far",
                self.solution(),
            ) from error

    def advance(self) -> None:
        """Keep the new parameters, if they are finite."""
        new = self.copy()
        for name, w in new.items():
            if not bool(torch.isfinite(w).all()):
                raise NonFiniteError("finite parameters", f"NaN or infinity in {name}", "")
        self.copies = [*self.copies, new] if self.keep else [new]

    def solution(self) -> Solution:
        """The record so far."""
        names = self.omega if self.keep else ()
        return Solution(
            omega=self.copies[-1],
            u=self.u,
            values=stack(self.values, self.u),
            gradient_norms=torch.tensor(self.norms, dtype=torch.float64),
            residuals=stack(self.residuals, self.u),
            trace={name: torch.stack([c[name] for c in self.copies]) for name in names},
        )


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
