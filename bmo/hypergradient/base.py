"""What an estimator is given and what it returns; the estimators by name.

Book: chapter 9. Each says when it is valid; :func:`register` adds one.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple, TypeVar

import torch
from torch import Tensor

from bmo.errors import DomainError
from bmo.inner import Inner, Upper


class Estimate(NamedTuple):
    r"""What an estimator returns.

    Attributes:
        u: :math:`u^K`.
        value: :math:`\varphi_K`, the mean over the batch.
        gradients: One for each parameter, in their order.
        adjoint_residual: What the estimator left out of the adjoint equation, relative to
            :math:`\nabla_u\ell`, shape = batch shape; 0 where nothing is left out.
        solved: Whether the adjoint equation was solved as accurately as was asked.

    Example:
        >>> import torch
        >>> from bmo.hypergradient import Estimate
        >>> Estimate(torch.zeros(1), torch.tensor(0.5), ()).solved
        True
    """

    u: Tensor
    value: Tensor
    gradients: tuple[Tensor, ...]
    adjoint_residual: Tensor | None = None
    solved: bool = True


Estimator = Callable[[Inner, Tensor, Upper, int, list[Tensor]], Estimate]
Made = TypeVar("Made", bound=Callable[..., Any])

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
        adjoint_residual: What the estimator left out of the adjoint equation, relative to
            :math:`\nabla_u\ell` and in the dual norm of the metric; shape = batch shape.
            0 for reverse mode, ``None`` if the estimator does not know.
        solved: Whether the adjoint equation was solved as accurately as was asked.

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
    adjoint_residual: Tensor | None = None
    solved: bool = True

    def norm(self) -> float:
        """Euclidean norm of all gradients together."""
        return float(torch.stack([g.norm().double().cpu() for g in self.gradients.values()]).norm())


def register(name: str, validity: str) -> Callable[[Made], Made]:
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

    def enter(estimator: Made) -> Made:
        if name in METHODS:
            raise DomainError("a new name", f"{name!r}, which is taken", "choose another", name)
        # a class of settings is entered with its defaults; a function as it is
        METHODS[name] = estimator() if isinstance(estimator, type) else estimator
        VALIDITY[name] = validity
        return estimator

    return enter


def validity(method: str) -> str:
    """When the estimator computes what it says.

    Raises:
        DomainError: No estimator of that name.

    Example:
        >>> from bmo.hypergradient import validity
        >>> validity("reverse").split(":")[0]
        'exact for the K steps that were taken'
    """
    require_method(method)
    return VALIDITY[method]


def require_method(method: str | Estimator) -> Estimator:
    """The estimator of that name, or an error that lists those there are.

    Example:
        >>> from bmo.hypergradient import require_method
        >>> require_method("neumann").terms
        20
    """
    if not isinstance(method, str):
        return method
    if method not in METHODS:
        raise DomainError(
            f"one of the methods {', '.join(sorted(METHODS))}",
            f"{method!r}",
            "choose one of these, or register your own",
            method,
        )
    return METHODS[method]
