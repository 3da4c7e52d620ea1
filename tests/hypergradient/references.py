"""Float64 references: steps from their formulas, dense Jacobians, dense solves, differences.

Nothing here calls the package's operators, metrics, sets or adjoints. A step is written for one
point; ``torch.func`` gives its dense Jacobians, and the recursions of the book are spelled out.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import torch
from scipy.optimize import lsq_linear
from torch import Tensor
from torch.func import jacrev, vmap  # type: ignore[attr-defined]

Omega = dict[str, Tensor]


@dataclass
class Formula:
    r"""One problem by its formulas, each for one point.

    Attributes:
        D: :math:`(u, b, \omega) \mapsto D(u)`, b the data of the point.
        H: :math:`\omega \mapsto H_\omega` as a dense matrix.
        upper: :math:`(u, \omega) \mapsto \ell(u)`, a number.
        data: One row for each point.
        omega: The tensors to differentiate in.
        alpha: The relaxation.
        mu: The weight of the upper step.
        box: The ends of U, or ``None`` for all of space.
    """

    D: Callable[[Tensor, Tensor, Omega], Tensor]
    H: Callable[[Omega], Tensor]
    upper: Callable[[Tensor, Omega], Tensor]
    data: Tensor
    omega: Omega
    alpha: float
    mu: float
    box: tuple[float, float] | None = None

    def aim(self, u: Tensor, s: Tensor, b: Tensor, w: Omega) -> Tensor:
        r""":math:`\mu v_u + (1-\mu)v_l`, before the projection."""
        v = (1 - self.alpha) * u + self.alpha * self.D(u, b, w)
        if not self.mu:
            return v
        slope = jacrev(self.upper)(u, w)
        return self.mu * (u - s * torch.linalg.solve(self.H(w), slope)) + (1 - self.mu) * v

    def step(
        self, u: Tensor, s: Tensor, fixed: Tensor, ends: Tensor, b: Tensor, w: Omega
    ) -> Tensor:
        r""":math:`F_s(u)` where the entries ``fixed`` (0 or 1) of the projection sit at ``ends``.

        The rows of the free entries say :math:`H(x - v) = 0`, the others :math:`x = end`.
        """
        v = self.aim(u, s, b, w)
        if self.box is None:
            return v
        H, free = self.H(w), 1 - fixed
        matrix = free[:, None] * H + torch.diag(fixed)
        return torch.linalg.solve(matrix, free * (H @ v) + fixed * ends)

    def contact(self, v: Tensor) -> tuple[Tensor, Tensor]:
        """Which entries the projection of each row of v puts on an end, and where."""
        if self.box is None:
            return torch.zeros_like(v), torch.zeros_like(v)
        low, high = self.box
        H = self.H(self.omega).detach()
        if bool((H == torch.diag(torch.diagonal(H))).all()):
            x = v.clamp(low, high)
            return (x != v).to(v), x
        root = torch.linalg.cholesky(H).mT.numpy()
        rows = [
            lsq_linear(root, root @ row.numpy(), (low, high), method="bvls", tol=1e-15) for row in v
        ]
        on = torch.tensor([[int(a) for a in r.active_mask] for r in rows])
        return (on != 0).to(v), (on < 0).to(v) * low + (on > 0).to(v) * high

    def tape(self, u: Tensor, steps: list[float]) -> Tape:
        """The iterates from the rows of u, and the contacts of each projection."""
        out = Tape([u], [], [], steps)
        w = {name: t.detach() for name, t in self.omega.items()}
        for s in steps:
            size = torch.tensor(s, dtype=u.dtype)
            v = vmap(self.aim, (0, None, 0, None))(out.u[-1], size, self.data, w).detach()
            fixed, ends = self.contact(v)
            move = vmap(self.step, (0, None, 0, 0, 0, None))
            out.u.append(move(out.u[-1], size, fixed, ends, self.data, w).detach())
            out.fixed.append(fixed)
            out.ends.append(ends)
        return out

    def jacobians(self, tape: Tape) -> tuple[Tensor, Omega]:
        r""":math:`\partial_uF` of shape (K, batch, n, n), and :math:`\partial_\omega F`."""
        K, (batch, n) = len(tape.steps), tape.u[0].shape
        sizes = torch.tensor(tape.steps, dtype=self.data.dtype).repeat_interleave(batch)
        rows = [torch.cat(x) for x in (tape.u[:-1], tape.fixed, tape.ends, [self.data] * K)]
        w = {name: t.detach() for name, t in self.omega.items()}
        whole = vmap(jacrev(self.step, (0, 5)), (0, 0, 0, 0, 0, None))
        A, B = whole(rows[0], sizes, rows[1], rows[2], rows[3], w)
        return A.reshape(K, batch, n, n), {
            name: b.reshape(K, batch, n, *w[name].shape) for name, b in B.items()
        }

    def slopes(self, u: Tensor) -> tuple[Tensor, Omega]:
        r""":math:`\nabla_u\ell` and :math:`\nabla_\omega\ell` of the mean over the rows of u."""
        w = {name: t.detach() for name, t in self.omega.items()}
        g, direct = vmap(jacrev(self.upper, (0, 1)), (0, None))(u, w)
        return g / len(u), {name: d.mean(0) for name, d in direct.items()}


@dataclass
class Tape:
    """What a loop went through."""

    u: list[Tensor]
    fixed: list[Tensor] = field(default_factory=list)
    ends: list[Tensor] = field(default_factory=list)
    steps: list[float] = field(default_factory=list)


def pulled(B: Tensor, lam: Tensor) -> Tensor:
    r""":math:`\sum_b(\partial_\omega F)^\top\lambda` over the batch."""
    return torch.einsum("bn,bn...->...", lam, B)


def by_hand(
    formula: Formula, u0: Tensor, steps: list[float], last: int | None = None
) -> tuple[Tensor, Omega, Tensor, Tape]:
    r"""Reverse accumulation with dense Jacobians, through the ``last`` steps (all by default).

    Returns:
        :math:`u^K`, the gradients, the adjoint that would have gone on, and the tape.
    """
    tape = formula.tape(u0, steps)
    A, B = formula.jacobians(tape)
    lam, out = formula.slopes(tape.u[-1])
    stop = 0 if last is None else max(0, len(steps) - last)
    for k in reversed(range(stop, len(steps))):
        out = {name: g + pulled(B[name][k], lam) for name, g in out.items()}
        lam = torch.einsum("bn,bnm->bm", lam, A[k])
    return tape.u[-1], out, lam, tape


def fixed_point(formula: Formula, u: Tensor, s: float) -> Tensor:
    """The fixed points from the rows of u, to rounding: plain steps, then Newton's."""
    u = formula.tape(u, [s] * 60).u[-1]
    eye = torch.eye(u.shape[-1], dtype=u.dtype)
    for _ in range(30):
        tape = formula.tape(u, [s])
        gap = tape.u[-1] - u
        if float(gap.abs().max()) <= 2e-15 * (1 + float(u.abs().max())):
            return u
        u = u + torch.linalg.solve(eye - formula.jacobians(tape)[0][0], gap)
    raise AssertionError("no fixed point")


@dataclass
class Implicit:
    r"""The equation :math:`(I - A^\top)\lambda = g` at one point of each problem, with matrices."""

    A: Tensor
    B: Omega
    g: Tensor
    direct: Omega
    fixed: Tensor

    def solution(self) -> Tensor:
        """By a dense solve."""
        eye = torch.eye(self.g.shape[-1], dtype=self.g.dtype)
        return torch.linalg.solve(eye - self.A.mT, self.g)

    def partial_sum(self, terms: int) -> Tensor:
        """By the Neumann series."""
        lam, term = torch.zeros_like(self.g), self.g
        for _ in range(terms):
            lam, term = lam + term, torch.einsum("bn,bnm->bm", term, self.A)
        return lam

    def gradients(self, lam: Tensor) -> Omega:
        r""":math:`(\partial_\omega F)^\top\lambda + \nabla_\omega\ell`."""
        return {name: d + pulled(self.B[name], lam) for name, d in self.direct.items()}

    def residual(self, lam: Tensor, H: Tensor) -> Tensor:
        r""":math:`\|g - \lambda + A^\top\lambda\|/\|g\|` in :math:`H^{-1}`, for each point."""
        rest = self.g - lam + torch.einsum("bn,bnm->bm", lam, self.A)
        return dual_norm(rest, H) / dual_norm(self.g, H)


def dual_norm(a: Tensor, H: Tensor) -> Tensor:
    r""":math:`\|a\|_{H^{-1}}` of each row."""
    return (a * torch.linalg.solve(H, a.mT).mT).sum(-1).sqrt()


def implicit(formula: Formula, u: Tensor, s: float) -> Implicit:
    """The equation at the rows of u."""
    tape = formula.tape(u, [s])
    A, B = formula.jacobians(tape)
    g, direct = formula.slopes(u)
    return Implicit(A[0], {name: b[0] for name, b in B.items()}, g, direct, tape.fixed[0])


def differences(value: Callable[[], float], omega: Omega, along: Omega, h: float = 1e-5) -> float:
    """The central difference of ``value`` as the tensors move along a direction."""
    ends = []
    with torch.no_grad():
        for sign in (1, -2):
            for name, t in omega.items():
                t.add_(sign * h * along[name])
            ends.append(value())
        for name, t in omega.items():
            t.add_(h * along[name])
    return (ends[0] - ends[1]) / (2 * h)
