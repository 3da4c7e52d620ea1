r"""What every method of the comparison is: so many steps from data b to a code u.

Book: chapter 10. A method sees the data and what it was trained to, never a ground truth. Run
deeper than it has layers, it repeats its last layer; a tied method has one.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor, nn

from bmo.errors import ConditionError, DomainError, ShapeError
from bmo.gkm import GKM, Observers, stack
from bmo.result import Result, Status

State = tuple[Any, ...]


class Unrolled(nn.Module, ABC):
    r"""A method with ``depth`` steps, :math:`u^0 = 0, \dots, u^k`.

    Rows are points: A has shape (m, n), b (..., m), u (..., n). A with leading axes, (S, m, n),
    makes S networks in one, with parameters of their own: then b has shape (S, batch, m).

    Attributes:
        name: The class of the method (``unh``: only numbers, ``ena``: a network) and its name.
        depth: The number of steps that it was made or trained for.
        layers: The number of layers with parameters of their own.
        products: Products with :math:`A`, :math:`A^\top` or a matrix of that size in a step;
            a matrix of shape (n, n) counts n/m.
        free: So many steps at the start are other maps; a certificate speaks of those after them.
    """

    name: str
    products: float = 2.0
    free: int = 0

    def __init__(self, A: Tensor, depth: int, layers: int = 1) -> None:
        super().__init__()
        if A.dim() < 2 or not A.is_floating_point():
            raise ShapeError("A of shape (..., m, n)", f"{tuple(A.shape)}, {A.dtype}", "convert it")
        self.depth, self.layers = require_depth(depth), layers
        self.register_buffer("A", A)
        self.A: Tensor

    def number(self, name: str, value: float | Tensor) -> None:
        """Keep a number, or one for each problem, in the precision of A."""
        self.register_buffer(name, like(value, self.A))

    def positive(self, name: str, value: float | Tensor) -> None:
        """Keep a number that must be positive, or one for each problem."""
        require_positive(name, value)
        self.number(name, value)

    @property
    def tied(self) -> bool:
        """Whether every step has the same parameters."""
        return self.layers == 1

    def prepare(self, b: Tensor) -> Any:
        """What all steps need of the data."""
        return b

    def start(self, b: Tensor) -> State:
        """The first state; zero."""
        if b.shape[-1:] != self.A.shape[-2:-1]:
            raise ShapeError(
                f"b of shape (..., {self.A.shape[-2]})", f"{tuple(b.shape)}", "one point a row", b
            )
        return (b.new_zeros(*b.shape[:-1], self.A.shape[-1]),)

    @abstractmethod
    def step(self, k: int, state: State, data: Any) -> State:
        """The next state, by layer k; its first entry is u."""

    def states(self, b: Tensor, depth: int | None = None) -> Iterator[State]:
        """The states after steps 1, 2, ...; their first entry is u."""
        state, data = self.start(b), self.prepare(b)
        for k in range(self.depth if depth is None else require_depth(depth)):
            state = self.step(min(k, self.layers - 1), state, data)
            yield state

    def iterates(self, b: Tensor, depth: int | None = None) -> Iterator[Tensor]:
        r""":math:`u^1, u^2, \dots`, each of shape (..., n)."""
        return (self.read(state) for state in self.states(b, depth))

    def read(self, state: State) -> Tensor:
        """The code u in a state."""
        u: Tensor = state[0]
        return u

    def forward(self, b: Tensor, depth: int | None = None) -> Tensor:
        """The code after ``depth`` steps, shape (..., n)."""
        u = self.read(self.start(b))
        for new in self.iterates(b, depth):
            u = new
        return u

    @torch.no_grad()
    def solve(self, b: Tensor, depth: int | None = None, trace: Observers | None = None) -> Result:
        r"""Run without gradients and look at the iterates.

        Args:
            b: Data, shape (..., m).
            depth: Number of steps; ``None`` for the trained depth.
            trace: Functions of the iterate, recorded at :math:`u^0, u^1, \dots`.

        Returns:
            The :class:`~bmo.result.Result`; ``residuals[k]`` is :math:`\|u^{k+1} - u^k\|`, and
            ``value`` the last finite iterate.

        Example:
            >>> from bmo.baselines import ISTA
            >>> method = ISTA(torch.eye(2), penalty=1.0)
            >>> method.solve(torch.tensor([3.0, 0.5]), 5).value
            tensor([2., 0.])
        """
        u, residuals, status = self.read(self.start(b)), [], Status.FINISHED
        seen: dict[str, list[Tensor]] = {key: [f(u)] for key, f in (trace or {}).items()}
        for new in self.iterates(b, depth):
            if not bool(torch.isfinite(new).all()):
                status = Status.NONFINITE
                break
            residuals.append((new - u).norm(dim=-1))
            u = new
            for key, f in (trace or {}).items():
                seen[key].append(f(u))
        return Result(u, status, len(residuals), stack(residuals, u), seen)

    def layer_parameters(self, k: int) -> list[nn.Parameter]:
        """The parameters of layer k (from 0), for training stage by stage."""
        lists = [part for part in self.children() if isinstance(part, nn.ParameterList)]
        return [part[min(k, self.layers - 1)] for part in lists]


class Repeated(Unrolled):
    r"""Any map of the book, :math:`T = (1-\alpha)I + \alpha D`, as a method of the comparison.

    Args:
        map: :math:`T`; its operator has data named ``b``.
        size: The length of a point of T.
        name: As :attr:`Unrolled.name`.
        products: As :attr:`Unrolled.products`.
        depth: The depth that it was trained for.
        read: The code in a point, where the point is more than that.

    Example:
        >>> from bmo.baselines import Repeated, TiedLISTA
        >>> D = TiedLISTA(torch.eye(2), torch.zeros(2), threshold=1.0)
        >>> method = Repeated(D.map(), 2, "ena-lista-tied", products=1.0, depth=5)
        >>> method(torch.tensor([3.0, 0.5])).detach()
        tensor([2., 0.])
    """

    def __init__(
        self,
        map: GKM,
        size: int,
        name: str,
        products: float,
        depth: int,
        read: Callable[[Tensor], Tensor] | None = None,
    ) -> None:
        nn.Module.__init__(self)
        self.map, self.size, self.name, self.products = map, size, name, products
        self.depth, self.layers, self._read = require_depth(depth), 1, read

    def start(self, b: Tensor) -> State:
        return (b.new_zeros(*b.shape[:-1], self.size),)

    def prepare(self, b: Tensor) -> GKM:
        return self.map.bind(b=b)

    def step(self, k: int, state: State, data: GKM) -> State:
        return (data(state[0]),)

    def read(self, state: State) -> Tensor:
        u: Tensor = state[0]
        return u if self._read is None else self._read(u)

    def layer_parameters(self, k: int) -> list[nn.Parameter]:
        return list(self.parameters())


def require_depth(depth: int) -> int:
    """Refuse a negative number of steps."""
    if depth < 0:
        raise DomainError("depth >= 0", f"{depth}", "0 returns the start", depth)
    return depth


def require_positive(name: str, value: float | Tensor) -> None:
    """Refuse a number that is not positive, or not finite."""
    tensor = torch.as_tensor(value, dtype=torch.float64)
    if not bool((torch.isfinite(tensor) & (tensor > 0)).all()):
        raise DomainError(f"{name} > 0", f"{float(tensor.min())}", "choose a positive one", value)


def squared_norm(A: Tensor) -> Tensor:
    r""":math:`\|A\|^2`, shape () or, for each of several dictionaries, (S, 1, 1)."""
    top: Tensor = torch.linalg.matrix_norm(A, 2) ** 2
    return top[..., None, None] if A.dim() > 2 else top


def require_at_most(name: str, value: float | Tensor, limit: Tensor | float) -> None:
    """Refuse a step beyond its limit, which is known up to rounding."""
    require_positive(name, value)
    top = torch.as_tensor(limit, dtype=torch.float64)
    if not bool((torch.as_tensor(value, dtype=torch.float64) <= top * (1 + 1e-6)).all()):
        least = float(top.min())
        raise ConditionError(f"{name} <= {least:.6g}", f"{value}", "shorten it", value)


def first_step(A: Tensor, step: float | Tensor | None) -> Tensor:
    r"""The step :math:`\tau \in (0, 2/\|A\|^2]`; :math:`1/\|A\|^2` where none is given."""
    top = squared_norm(A)
    if step is None:
        return 1 / top
    require_at_most("step", step, 2 / top)
    return like(step, A) * torch.ones_like(top)


def like(value: float | Tensor, A: Tensor) -> Tensor:
    """A number in the precision of A, without passing through a shorter one."""
    return torch.as_tensor(value, dtype=A.dtype, device=A.device)


def copies(value: Tensor, layers: int) -> nn.ParameterList:
    """The same start for each layer."""
    return nn.ParameterList([nn.Parameter(value.detach().clone()) for _ in range(layers)])


def thresholds(A: Tensor, value: float | Tensor, coordinates: bool) -> Tensor:
    """A start that broadcasts against u: one number, or one for each coefficient."""
    lead = A.shape[:-2]
    width = (A.shape[-1],) if coordinates else (1,) * bool(lead)
    return like(value, A).expand((*lead, *(1,) * bool(lead), *width))
