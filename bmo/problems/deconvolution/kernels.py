r"""Motion kernels: random ones to train on, and the eight of Levin et al. to test on.

Book: chapter 11, "The problem". A random kernel is the trace of a shaken camera: a point with
inertia that is pushed at random and now and then jerked, drawn with sub-pixel weights.
"""

from __future__ import annotations

import torch
from torch import Generator, Tensor

from bmo.data import kernels as read_kernels
from bmo.errors import ShapeError

#: Sides of random kernels, as in the set of Levin et al.: odd, 13 to 27.
SIDES = tuple(range(13, 28, 2))


def levin() -> list[Tensor]:
    """The eight motion kernels of Levin, Weiss, Durand, Freeman (CVPR 2009), float64.

    They are for testing. Index 3 is the 27 x 27 kernel of the tables.

    Raises:
        DataError: h5py is not installed, or the file is missing or altered.

    An example: :func:`bmo.data.locate`.
    """
    return read_kernels()


def motion_kernel(generator: Generator, side: int | None = None, points: int = 240) -> Tensor:
    r"""A random motion kernel: >= 0, sum 1, its centre of mass in the middle.

    A trace :math:`x_{t+1} = x_t + v_t` with :math:`v_{t+1} = \rho v_t + \text{pushes}`, in two
    cases of three with a jerk at a random time. Its extent is 35 to 95 % of the side, but never so
    large that the centred trace leaves the kernel. Each point of the trace is shared by its four
    nearest pixels (bilinear weights); time between points is constant, so slow parts are bright.

    Args:
        generator: Decides the draw.
        side: Odd side in pixels >= 5; by default drawn from 13, 15, ..., 27.
        points: Points of the trace.

    Returns:
        float64, shape (side, side).

    Raises:
        ShapeError: An even side, or one below 5.

    Example:
        >>> k = motion_kernel(torch.Generator().manual_seed(0), 15)
        >>> k.shape, round(float(k.sum()), 12), bool((k >= 0).all())
        (torch.Size([15, 15]), 1.0, True)
    """
    if side is None:
        side = SIDES[int(torch.randint(len(SIDES), (), generator=generator))]
    if side < 5 or side % 2 == 0:
        raise ShapeError("an odd side >= 5", f"{side}", "13 to 27 are usual", side)
    trace = _trace(generator, points)
    trace = trace - trace.mean(0)
    reach = (side - 1) / 2
    share = 0.35 + 0.6 * float(torch.rand((), generator=generator))
    extent = float((trace.amax(0) - trace.amin(0)).max())
    scale = min(share * (side - 1) / extent, (reach - 0.01) / float(trace.abs().max()))
    return _draw(trace * scale + reach, side)


def motion_kernels(generator: Generator, count: int, side: int | None = None) -> Tensor:
    """A batch of random kernels, shape (count, side, side): each padded to the common side.

    Without ``side`` each kernel has a side of its own, 13 to 27, centred in 27 x 27.

    Example:
        >>> motion_kernels(torch.Generator().manual_seed(0), 2).shape
        torch.Size([2, 27, 27])
    """
    full = side or SIDES[-1]
    batch = torch.zeros(count, full, full, dtype=torch.float64)
    for row in batch:
        kernel = motion_kernel(generator, side)
        edge = (full - len(kernel)) // 2
        row[edge : edge + len(kernel), edge : edge + len(kernel)] = kernel
    return batch


def _trace(generator: Generator, points: int) -> Tensor:
    """A point in the plane with inertia, pushed at random, perhaps jerked; shape (points, 2)."""

    def draw(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=generator, dtype=torch.float64)

    inertia = 0.9 + 0.095 * float(torch.rand((), generator=generator))
    pushes = draw(points, 2) * (1 - inertia**2) ** 0.5
    if int(torch.randint(3, (), generator=generator)):
        at = int(torch.randint(points // 4, 3 * points // 4, (), generator=generator))
        pushes[at] += 2 * draw(2)
    pushes[0] = draw(2)  # the first speed
    t = torch.arange(points, dtype=torch.float64)
    memory = torch.tril(inertia ** (t[:, None] - t[None, :]).clamp_min(0))
    return (memory @ pushes).cumsum(0)


def _draw(trace: Tensor, side: int) -> Tensor:
    """Share each point of a trace (in pixels) among its four nearest pixels."""
    corner = trace.floor().clamp(0, side - 2)
    rest = trace - corner
    flat = torch.zeros(side * side, dtype=trace.dtype)
    for down in (0, 1):
        for right in (0, 1):
            weight = (rest[:, 0] if down else 1 - rest[:, 0]) * (
                rest[:, 1] if right else 1 - rest[:, 1]
            )
            at = (corner[:, 0] + down) * side + corner[:, 1] + right
            flat.index_add_(0, at.long(), weight)
    return (flat / flat.sum()).reshape(side, side)
