r"""Testing: a method runs on observations alone; the codes only measure what it returned.

Book: chapter 10. :func:`trajectory` takes no codes; what it returns cannot depend on them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from bmo import bounds
from bmo.baselines import Repeated, Unrolled
from bmo.gkm import GKM
from bmo.measure import nmse_db
from bmo.problems.sparse_coding.gaussian.draws import Data

CHUNK = 500
#: Coefficients have size one: beyond this a method has left every sensible range, and is held.
DIVERGED = 1e6
#: What stands for a residual that is not finite.
ENDLESS = 1e30


@dataclass(frozen=True)
class Trajectory:
    r"""What a run left at each depth.

    Attributes:
        codes: Shape (depths, count, n); a row that diverged is held at its last value.
        residuals: Relative residuals, shape (depths, count): :math:`\|z - Tz\|_H/\|z\|_H` for a
            map T of the book, :math:`\|u^{k+1} - u^k\|/\|u^k\|` otherwise.
        share: The largest :math:`r_k` relative to Proposition 1's bound, at each depth; ``None``
            without a certificate. The bound takes the distance to the last point reached, and
            counts from the step after ``free`` ones (:attr:`bmo.baselines.Repeated.free`).
        diverged: How many rows left every sensible range.
    """

    codes: Tensor
    residuals: Tensor
    share: Tensor | None
    diverged: int


@torch.no_grad()
def trajectory(
    net: Unrolled, observed: Tensor, depths: Sequence[int], resolution: float = 0.0
) -> Trajectory:
    """Run a method from zero and look at it at some depths.

    Args:
        net: The method.
        observed: Observations in rows.
        depths: Increasing numbers of steps.
        resolution: Stop once every relative residual of a chunk is below this.

    Example:
        >>> from bmo.data import generator
        >>> from bmo.problems.sparse_coding import gaussian as bench
        >>> A = bench.gaussian_dictionary(8, 16)
        >>> data = bench.observe(A, 3, density=0.1, level=30.0, rng=generator(0))
        >>> method = bench.classical_method("unh-ista", A, {"penalty": 0.05, "length": 1.0})
        >>> bench.trajectory(method, data.observed, [1, 16]).codes.shape
        torch.Size([2, 3, 16])
    """
    parts = [_run(net, b, depths, resolution) for b in observed.split(CHUNK)]
    shares = [p.share for p in parts if p.share is not None]
    return Trajectory(
        torch.cat([p.codes for p in parts], 1),
        torch.cat([p.residuals for p in parts], 1),
        torch.stack(shares).amax(0) if shares else None,
        sum(p.diverged for p in parts),
    )


def _run(net: Unrolled, b: Tensor, depths: Sequence[int], resolution: float) -> Trajectory:
    T = net.map if isinstance(net, Repeated) and certified(net) else None
    metric = None if T is None else T.bind(b=b).metric
    state = net.start(b)
    held, alive = net.read(state).clone(), torch.ones(len(b), dtype=torch.bool)
    codes, residuals, moved, first = [], [], [], state[0]
    for k, new in enumerate(net.states(b, depths[-1] + 1)):
        if k == net.free:
            first = state[0]
        if k in depths:
            r = _residual(net, metric, state, new)
            codes.append(held.clone())
            residuals.append(torch.where(alive, r[0], ENDLESS))
            moved.append(r[1])
            if bool((residuals[-1] <= resolution).all()) or not bool(alive.any()):
                break
        state, u = new, net.read(new)
        alive = alive & (u.abs().amax(-1) < DIVERGED)  # not so for NaN
        held[alive] = u[alive]
    for _ in range(len(codes), len(depths)):  # nothing moves any more, or all is lost
        codes.append(codes[-1])
        residuals.append(residuals[-1])
        moved.append(moved[-1])
    share = None
    if T is not None and metric is not None:
        counted = [k - net.free for k in depths]
        share = _share(T, torch.stack(moved), metric.norm(state[0] - first), counted)
    return Trajectory(torch.stack(codes), torch.stack(residuals), share, int((~alive).sum()))


def certified(net: Unrolled) -> bool:
    """Whether a method is a map of the book with a certificate."""
    return isinstance(net, Repeated) and net.map.operator.certified != "none"


def _residual(net: Unrolled, metric: Any, state: Any, new: Any) -> tuple[Tensor, Tensor]:
    """The residual relative to the point, and as it is."""
    if metric is not None:
        r, size = metric.norm(new[0] - state[0]), metric.norm(state[0])
    else:
        u = net.read(state)
        r, size = (net.read(new) - u).norm(dim=-1), u.norm(dim=-1)
    ratio = r / size.clamp_min(torch.finfo(r.dtype).tiny)
    return torch.nan_to_num(ratio, nan=ENDLESS, posinf=ENDLESS).clamp_max(ENDLESS), r


def _share(T: GKM, moved: Tensor, distance: Tensor, depths: Sequence[int]) -> Tensor:
    """The largest residual relative to its bound, at each depth; 0 where there is none yet."""
    unit = [bounds.km_residual(T.alpha, k, 1.0) if k >= 0 else float("inf") for k in depths]
    limit = torch.tensor(unit).to(moved)[:, None] * distance
    # a code that is zero from the start has residual and distance 0
    return torch.where(moved == 0, 0.0, moved / limit).clamp_max(ENDLESS).amax(1)


def measure(
    net: Unrolled, data: Data, depths: Sequence[int], resolution: float = 0.0
) -> dict[str, Any]:
    """NMSE in dB and the relative residual (median, largest) at each depth, as plain numbers.

    Example:
        >>> from bmo.data import generator
        >>> from bmo.problems.sparse_coding import gaussian as bench
        >>> A = bench.gaussian_dictionary(8, 16)
        >>> data = bench.observe(A, 3, density=0.1, level=None, rng=generator(0))
        >>> method = bench.classical_method("unh-ista", A, {"penalty": 0.01, "length": 1.0})
        >>> [round(value, 1) for value in bench.measure(method, data, [1, 100])["nmse"]]
        [-2.1, -6.7]
    """
    found = trajectory(net, data.observed, depths, resolution)
    out = {
        "nmse": [float(nmse_db(u, data.codes)) for u in found.codes],
        "residual": found.residuals.median(1).values.tolist(),
        "residual_max": found.residuals.amax(1).tolist(),
        "diverged": found.diverged / len(data.codes),
    }
    return out if found.share is None else {**out, "bound_share": found.share.tolist()}


def validation_nmse(net: Unrolled, data: Data, depth: int) -> float:
    """NMSE in dB at one depth, for choices on held-out codes; a run that diverged is useless.

    Example:
        >>> from bmo.data import generator
        >>> from bmo.problems.sparse_coding import gaussian as bench
        >>> A = bench.gaussian_dictionary(8, 16)
        >>> data = bench.observe(A, 3, density=0.1, level=None, rng=generator(0))
        >>> method = bench.classical_method("unh-ista", A, {"penalty": 0.01, "length": 1.0})
        >>> round(bench.validation_nmse(method, data, 100), 1)
        -6.7
    """
    found = trajectory(net, data.observed, [depth])
    return float(nmse_db(found.codes[-1], data.codes)) if not found.diverged else ENDLESS
