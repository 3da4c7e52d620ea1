r"""The derivative of the reached upper value with respect to the hyper-parameters.

.. math:: \varphi_K(\omega) = \ell(u^K(\omega), \omega), \qquad
          \nabla\varphi_K = (\partial_\omega u^K)^\top\nabla_u\ell + \nabla_\omega\ell

Step 9 of Algorithm 1 needs it. Book: chapter 6 (reverse mode), chapter 9 (the others).
"""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Mapping

import torch
from torch import Tensor, nn

from bmo.errors import NonFiniteError, TrainingError, require_tensor
from bmo.hypergradient.base import Estimate, Estimator, HyperResult, require_method
from bmo.inner import Inner, Upper

Parameters = Mapping[str, Tensor] | Iterable[Tensor] | None


class AdjointWarning(UserWarning):
    """The adjoint equation was not solved as accurately as was asked.

    An example: :func:`bmo.hypergradient.hypergradient`.
    """


def hypergradient(
    inner: Inner,
    u0: Tensor,
    upper: Upper,
    iterations: int,
    parameters: Parameters = None,
    method: str | Estimator = "reverse",
) -> HyperResult:
    r""":math:`\nabla\varphi_K(\omega)` of :math:`\varphi_K(\omega) = \ell(u^K(\omega), \omega)`.

    No ``.grad`` is read or written.

    Args:
        inner: The loop :math:`u^0 \mapsto u^K(\omega)`.
        u0: Start, shape (..., n); for the unrolled methods it may depend on the parameters.
        upper: :math:`\ell`, one value for each point; it may depend on the parameters, too. The
            value is the mean over the batch.
        iterations: :math:`K \ge 0`.
        parameters: :math:`\omega`: tensors by name, or tensors, or ``None`` for all parameters of
            ``inner`` (and of ``upper`` if it is a module) that require gradients.
        method: The estimator: a name (then with its default settings) or an object such as
            ``Truncated(steps=5)``; :func:`validity` tells when each is valid.

    Raises:
        DomainError: Unknown method, or a setting outside its range.
        ConditionError: The method is not valid for this loop.
        TrainingError: There is no parameter that requires gradients.
        NonFiniteError: An iterate, the value or a gradient is not finite.

    Warns:
        AdjointWarning: An iterative solver stopped before its tolerance was reached.

    Book: chapter 6, Algorithm 1, step 9; chapter 9.

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
        got = Estimate(*estimator(inner, u0, upper, iterations, list(named.values())))
    gradients = dict(zip(named, got.gradients, strict=True))
    require_finite({"the value": got.value, **gradients})
    if not got.solved and got.adjoint_residual is not None:
        warnings.warn(
            "the adjoint equation was not solved: relative residual "
            f"{float(got.adjoint_residual.max()):.1e}; allow more steps, or use 'recompute'",
            AdjointWarning,
            stacklevel=2,
        )
    u = got.u.detach()
    with torch.no_grad():
        residual = inner.training_map.residual(u)
    return HyperResult(got.value.detach(), gradients, u, residual, got.adjoint_residual, got.solved)


def require_finite(tensors: Mapping[str, Tensor]) -> None:
    """Refuse NaN and infinity, and say where they are."""
    for name, tensor in tensors.items():
        if not bool(torch.isfinite(tensor.detach()).all()):
            raise NonFiniteError(
                "a finite upper value and hypergradient",
                f"NaN or infinity in {name}",
                "look at u^K with inner.run(); kinks such as the root of 0 give NaN, too",
                tensor.detach(),
            )


def named_parameters(inner: Inner, upper: Upper, parameters: Parameters) -> dict[str, Tensor]:
    """The parameters to learn, by name.

    Raises:
        TrainingError: None of them requires gradients, or one that was asked for does not.
        ShapeError: One that was asked for is not a tensor.

    Example:
        >>> import bmo
        >>> from bmo.hypergradient import named_parameters
        >>> from bmo.problems import toy
        >>> problem = toy.quadratic(2)
        >>> inner = bmo.Inner(problem.training(0.9), mu=0.0)
        >>> list(named_parameters(inner, problem.upper, None))
        ['training_map.operator.omega']
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
    for name, w in chosen.items():
        require_tensor(name, w)
    frozen = [name for name, w in chosen.items() if not w.requires_grad]
    if not chosen or frozen:
        raise TrainingError(
            "at least one parameter, and gradients for each",
            f"without gradients: {frozen}" if frozen else "nothing to learn",
            "give D an nn.Parameter (learn=True in many operators), or requires_grad_()",
            frozen,
        )
    return chosen
