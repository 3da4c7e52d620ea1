"""What Algorithm 1 notes on its way, and what it returns."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor

from bmo.errors import NonFiniteError
from bmo.gkm import stack
from bmo.hypergradient import HyperResult


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
