r"""What every training step D is: a map that is nonexpansive in its own metric H.

Book: chapter 4. An operator is an :class:`torch.nn.Module`; its parameters are
:math:`\omega`, its ``metric`` is :math:`H_\omega`, and ``averaged`` is a constant
:math:`a \le 1` such that :math:`D = (1-a)I + aN` with :math:`N` nonexpansive in :math:`H_\omega`.
"""

from __future__ import annotations

import copy
from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Any, Self

import torch
from torch import Tensor, nn

from bmo.errors import ConditionError
from bmo.kernels import Kernel
from bmo.metric import Metric


@dataclass(frozen=True)
class Piece:
    r"""The piece of a piecewise linear step at u: :math:`\partial_uD = M(I - P^{-1}Q)`.

    Attributes:
        active: The diagonal of :math:`M` as bool, shape of u.
        weights: The diagonal of :math:`P`, shape () or (n,).
        gram: The matrix :math:`Q`, shape (n, n).
        symmetric: Whether :math:`Q` is symmetric and positive semidefinite.
    """

    active: Tensor
    weights: Tensor
    gram: Tensor
    symmetric: bool = True


class Operator(nn.Module, ABC):
    """A step D, its metric, and how much it is averaged.

    Attributes:
        certified: How nonexpansiveness is known: ``"by construction"`` (for every value of the
            parameters), ``"checked"`` (the condition was tested for the given values),
            ``"tested"`` (no counterexample was found, see :class:`Own`) or ``"none"`` (an
            unconstrained network, or ``check=False``).

    An example: :class:`bmo.operators.Lambda`.
    """

    certified: str = "checked"

    @property
    @abstractmethod
    def metric(self) -> Metric:
        r""":math:`H_\omega` at the current parameters."""

    @property
    def averaged(self) -> float:
        """A constant a in (0, 1] such that D is a-averaged in its metric (1: nonexpansive only)."""
        return 1.0

    @abstractmethod
    def forward(self, u: Tensor) -> Tensor:
        """:math:`D(u)`, same shape as ``u``."""

    def kernel(self) -> Kernel | None:
        """The step with its adjoint by hand, for :mod:`bmo.fused`; ``None`` if it has none."""
        return None

    def piece(self, u: Tensor) -> Piece | None:
        """The derivative at ``u`` where the step is piecewise linear; ``None`` where it is not."""
        return None

    def bind(self, **data: Any) -> Self:
        """The same operator (parameters shared) on other data, ``D.bind(b=batch)``.

        Data are the tensors registered as buffers, on the operator or on a part of it
        (``smooth.b`` is found by the name ``b``).

        Raises:
            ConditionError: No part has data of that name.
        """
        clone = _shallow(self)
        for name, value in data.items():
            if not _set_buffer(clone, name, value):
                names = {n.rsplit(".", 1)[-1] for n, _ in self.named_buffers()}
                known = sorted(names - {"point"})  # the trial point of a step of one's own
                remedy = "use a name of this operator"
                if not known:
                    remedy = "keep data in a module: self.register_buffer('b', b)"
                raise ConditionError(f"one of the data {known}", name, remedy)
        return clone.prepared()

    def prepared(self) -> Self:
        """The same operator for one loop: what depends on no iterate is computed once, now.

        Parameters stay shared, and gradients reach them. For a second backward pass, or in a loop
        that changes the parameters, take a new one. ``bind`` ends with this.
        """
        return _prepared(self, {})


class Preparing(Operator):
    """An operator with work that a whole loop can share: a norm, a factorisation.

    Subclasses give ``_compute()``. Its result is kept where nothing is learned and in the
    operators that ``prepared()`` and ``bind()`` return; it is computed anew when a tensor that it
    depends on has changed, and by every step of a learned operator that is not prepared.

    An example: :class:`bmo.operators.ADMM`.
    """

    _keep = False
    _ready: tuple[tuple[Any, ...], Any] | None = None

    @abstractmethod
    def _compute(self) -> Any:
        """What a step needs at the current parameters; conditions are checked here."""

    def _depends(self) -> list[Tensor]:
        """The tensors that ``_compute`` uses: all of the module's by default."""
        return [*self.parameters(), *self.buffers()]

    def prepare(self) -> Any:
        """What a step needs, from the store if it is still true."""
        if torch.compiler.is_compiling() and self._keep and self._ready is not None:
            return self._ready[1]
        tensors = self._depends()
        learned = torch.is_grad_enabled() and any(t.requires_grad for t in tensors)
        if learned and not self._keep:
            return self._compute()
        stamp = (learned, *((t.data_ptr(), t._version, t.dtype, t.device) for t in tensors))
        if self._ready is None or self._ready[0] != stamp:
            self._ready = (stamp, self._compute())
        return self._ready[1]

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_ready": None}  # copies and pickles prepare themselves


def kernel_of(operator: Operator) -> Kernel | None:
    """The kernel of an operator, if it speaks for the step that the operator really takes.

    A subclass with a ``forward`` of its own, or a hook, goes through autograd.
    """
    for kind in type(operator).__mro__:
        if "kernel" in vars(kind):
            break
        if "forward" in vars(kind):
            return None
    hooked = operator._forward_hooks or operator._forward_pre_hooks or operator._backward_hooks
    return None if hooked else operator.kernel()


def _prepared(module: Any, memo: dict[int, nn.Module]) -> Any:
    """A copy in which every :class:`Preparing` part is prepared; a shared part stays shared."""
    if id(module) in memo:
        return memo[id(module)]
    if not any(isinstance(part, Preparing) for part in module.modules()):
        return module
    clone = memo[id(module)] = _shallow(module)
    for name, child in module._modules.items():
        clone._modules[name] = child if child is None else _prepared(child, memo)
    if isinstance(clone, Preparing):
        clone._keep, clone._ready = True, None
        clone.prepare()
    return clone


def _shallow(module: Any) -> Any:
    """A copy that shares all tensors and parts, and can be given others."""
    clone = copy.copy(module)
    clone._buffers, clone._modules = dict(module._buffers), dict(module._modules)
    return clone


def _set_buffer(module: nn.Module, name: str, value: Tensor) -> bool:
    """Replace the buffer ``name`` in ``module`` or in a copied child; tell whether it was found."""
    if name in module._buffers:
        module._buffers[name] = value
        return True
    for key, child in module._modules.items():
        if child is None or name not in {n.rsplit(".", 1)[-1] for n, _ in child.named_buffers()}:
            continue
        clone = _shallow(child)
        module._modules[key] = clone
        return _set_buffer(clone, name, value)
    return False


def same_metric(first: Metric, second: Metric, tol: float = 1e-9) -> bool:
    """Whether two metrics act alike: compared by their weights, or on four random points."""
    if first is second:
        return True
    both = first.size and second.size
    if first.event_dims != second.event_dims or (both and first.size != second.size):
        return False
    w1, w2 = first.weights(), second.weights()
    if w1 is not None and w2 is not None:
        close = torch.allclose(w1.double().cpu(), w2.double().cpu(), rtol=tol, atol=0.0)
        return bool(close)
    pairs = zip(first.event_shape(), second.event_shape(), strict=True)
    shape = [max(sides) for sides in pairs]
    generator = torch.Generator().manual_seed(0)
    u = torch.randn(4, *shape, dtype=torch.float64, generator=generator)
    one, other = _acted(first, u), _acted(second, u)
    return float((one - other).abs().max()) <= tol * float(one.abs().max())


def _acted(metric: Metric, u: Tensor) -> Tensor:
    """:math:`Hu`, computed in the dtype of the metric, as doubles."""
    like = metric.like()
    return metric.apply(u if like is None else u.to(like)).detach().double().cpu()


class Lambda(Operator):
    r"""Any function as an operator, with the metric and the constant that its author claims.

    Nothing is proved about it, and nothing tested: :class:`Own` is the same with a test.

    Args:
        function: :math:`u \mapsto D(u)`; a module's parameters become part of omega.
        metric: The metric in which it is claimed to be nonexpansive.
        averaged: The claimed constant in (0, 1].

    Example:
        >>> import torch, bmo
        >>> D = bmo.operators.Lambda(lambda u: -u, bmo.metric.Identity())
        >>> D(torch.ones(2))
        tensor([-1., -1.])
    """

    certified = "none"

    def __init__(self, function: Any, metric: Metric, averaged: float = 1.0) -> None:
        super().__init__()
        self.function = function
        self._metric = metric
        self._averaged = require_averaged(averaged)

    @property
    def metric(self) -> Metric:
        return self._metric

    @property
    def averaged(self) -> float:
        return self._averaged

    def forward(self, u: Tensor) -> Tensor:
        return self.function(u)


def require_averaged(a: float) -> float:
    """Refuse a constant outside (0, 1]."""
    if not 0 < a <= 1:
        raise ConditionError("a constant in (0, 1]", f"{a}", "1 means nonexpansive only", a)
    return float(a)
