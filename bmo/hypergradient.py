r"""Hypergradients: the derivative of the reached upper value with respect to the hyper-parameters.

.. math:: \varphi_K(\omega) = \ell(u^K(\omega), \omega), \qquad
          \nabla\varphi_K = (\partial_\omega u^K)^\top\nabla_u\ell + \nabla_\omega\ell

Step 9 of Algorithm 1 needs it. Book: chapter 6 (reverse mode), chapter 9 (what else there is).
Each estimator states when it is valid; :func:`register` adds one.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from bmo.errors import DomainError, NonFiniteError, TrainingError
from bmo.inner import Inner, Upper, upper_values

Parameters = Mapping[str, Tensor] | Iterable[Tensor] | None
Estimate = tuple[Tensor, Tensor, tuple[Tensor, ...]]
Estimator = Callable[[Inner, Tensor, Upper, int, list[Tensor]], Estimate]

METHODS: dict[str, Estimator] = {}
"""Estimators by name."""

VALIDITY: dict[str, str] = {}
"""When each estimator computes what it says."""


@dataclass(frozen=True)
class HyperResult:
    r"""A hypergradient and what was computed on the way.

    Attributes:
        value: :math:`\varphi_K(\omega)`, the mean over the batch; 0-dimensional.
        gradients: By name of the parameter, in its shape.
        u: :math:`u^K`, shape of ``u0``.
        residual: :math:`\|u^K - T(u^K)\|_H`, shape = batch shape: how well u is trained.

    Example:
        >>> from bmo.problems import toy
        >>> import bmo
        >>> from bmo.hypergradient import hypergradient
        >>> problem = toy.quadratic(3)
        >>> inner = bmo.Inner(problem.training(0.9), mu=0.0)
        >>> hypergradient(inner, problem.start, problem.upper, 200).norm() > 0
        True
    """

    value: Tensor
    gradients: dict[str, Tensor]
    u: Tensor
    residual: Tensor

    def norm(self) -> float:
        """Euclidean norm of all gradients together."""
        return float(torch.stack([g.norm().double().cpu() for g in self.gradients.values()]).norm())


def register(name: str, validity: str) -> Callable[[Estimator], Estimator]:
    """Enter an estimator under a name, with the condition under which it is valid.

    Args:
        name: What callers pass as ``method``.
        validity: One or two sentences for the reader.

    Raises:
        DomainError: The name is taken.

    Example:
        >>> from bmo.hypergradient import validity
        >>> validity("reverse").split(":")[0]
        'exact for the K steps that were taken'
    """

    def enter(estimator: Estimator) -> Estimator:
        if name in METHODS:
            raise DomainError("a new name", f"{name!r}, which is taken", "choose another", name)
        METHODS[name], VALIDITY[name] = estimator, validity
        return estimator

    return enter


def validity(method: str) -> str:
    """When the estimator computes what it says.

    Raises:
        DomainError: No estimator of that name.
    """
    require_method(method)
    return VALIDITY[method]


def require_method(method: str) -> Estimator:
    """The estimator of that name, or an error that lists those there are."""
    if method not in METHODS:
        raise DomainError(
            f"one of the methods {', '.join(sorted(METHODS))}",
            f"{method!r}",
            "choose one of these, or register your own",
            method,
        )
    return METHODS[method]


@register(
    "reverse",
    "exact for the K steps that were taken: automatic differentiation of the loop itself. Memory "
    "grows with K. Where T or a projection has a kink, one generalised derivative is taken.",
)
def reverse(
    inner: Inner, u0: Tensor, upper: Upper, iterations: int, tensors: list[Tensor]
) -> Estimate:
    r"""Reverse mode through all K steps, including :math:`dH_\omega^{-1}` and the projections."""
    u = inner(u0, upper, iterations)
    value = upper_values(upper, u, inner.training_map.metric).mean()
    if not value.requires_grad:  # nothing depends on omega: the derivative is zero
        return u, value, tuple(torch.zeros_like(w) for w in tensors)
    return u, value, torch.autograd.grad(value, tensors, materialize_grads=True)


def hypergradient(
    inner: Inner,
    u0: Tensor,
    upper: Upper,
    iterations: int,
    parameters: Parameters = None,
    method: str = "reverse",
) -> HyperResult:
    r""":math:`\nabla\varphi_K(\omega)` of :math:`\varphi_K(\omega) = \ell(u^K(\omega), \omega)`.

    No ``.grad`` is read or written.

    Args:
        inner: The loop :math:`u^0 \mapsto u^K(\omega)`.
        u0: Start, shape (..., n); it may itself depend on the parameters.
        upper: :math:`\ell`, one value for each point; it may depend on the parameters, too. The
            value is the mean over the batch.
        iterations: :math:`K \ge 0`.
        parameters: :math:`\omega`: tensors by name, or tensors, or ``None`` for all parameters of
            ``inner`` (and of ``upper`` if it is a module) that require gradients.
        method: Name of the estimator; :func:`validity` tells when each is valid.

    Raises:
        DomainError: Unknown method.
        TrainingError: There is no parameter that requires gradients.
        NonFiniteError: An iterate, the value or a gradient is not finite.

    Book: chapter 6, Algorithm 1, step 9.

    Example:
        >>> import torch, bmo
        >>> from bmo.hypergradient import hypergradient
        >>> from bmo.problems import toy
        >>> problem = toy.singleton_failure()
        >>> inner = bmo.Inner(problem.training(0.5), mu=0.0)
        >>> got = hypergradient(inner, problem.start, problem.upper, iterations=1)
        >>> got.gradients  # of w^2/2 + (w/2 - 1)^2/2 at w = 0
        {'training_map.operator.omega': tensor([-0.5000], dtype=torch.float64)}
    """
    estimator = require_method(method)
    named = named_parameters(inner, upper, parameters)
    with torch.enable_grad():
        u, value, grads = estimator(inner, u0, upper, iterations, list(named.values()))
    gradients = dict(zip(named, grads, strict=True))
    for name, tensor in {"the value": value, **gradients}.items():
        if not bool(torch.isfinite(tensor.detach()).all()):
            raise NonFiniteError(
                "a finite upper value and hypergradient",
                f"NaN or infinity in {name}",
                "look at u^K with inner.run(); kinks such as the root of 0 give NaN, too",
                tensor.detach(),
            )
    with torch.no_grad():
        residual = inner.training_map.residual(u.detach())
    return HyperResult(value.detach(), gradients, u.detach(), residual)


def named_parameters(inner: Inner, upper: Upper, parameters: Parameters) -> dict[str, Tensor]:
    """The parameters to learn, by name.

    Raises:
        TrainingError: None of them requires gradients, or one that was asked for does not.
    """
    known = dict(inner.named_parameters())
    if isinstance(upper, nn.Module):
        seen = {id(w) for w in known.values()}
        more = {f"upper.{name}": w for name, w in upper.named_parameters() if id(w) not in seen}
        known.update(more)
    if parameters is None:
        chosen: dict[str, Tensor] = {n: w for n, w in known.items() if w.requires_grad}
    elif isinstance(parameters, Mapping):
        chosen = dict(parameters)
    else:
        names = {id(w): name for name, w in known.items()}
        chosen = {names.get(id(w), f"parameter {i}"): w for i, w in enumerate(parameters)}
    frozen = [name for name, w in chosen.items() if not w.requires_grad]
    if not chosen or frozen:
        raise TrainingError(
            "at least one parameter, and gradients for each",
            f"without gradients: {frozen}" if frozen else "nothing to learn",
            "give D an nn.Parameter (learn=True in many operators), or requires_grad_()",
            frozen,
        )
    return chosen
