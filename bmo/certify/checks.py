r"""Checks of a trace, of a point, of a metric and of a convolution. Book: chapters 2, 3 and 5."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from bmo.certify.evidence import Evidence
from bmo.certify.expansion import metric_of, point_shape, sample_like
from bmo.errors import ShapeError
from bmo.metric import Metric


def fejer(
    iterates: Tensor | Sequence[Tensor], point: Tensor, metric: Metric, tol: float = 1e-12
) -> Evidence:
    r"""Whether :math:`\|u^k-\bar u\|_H` never grows: the largest relative growth, against 0.

    Args:
        iterates: :math:`u^0, u^1, \dots`, stacked on the first axis or as a sequence (at least 2).
        point: :math:`\bar u`, a fixed point; broadcasts against an iterate.
        metric: :math:`H`.
        tol: Rounding allowed, relative to the first distance.

    Raises:
        ShapeError: Fewer than two iterates.

    Book: chapter 3, Proposition 1(c).

    Example:
        >>> import torch, bmo
        >>> trace = torch.tensor([[2.0], [1.0], [0.5]])
        >>> bmo.certify.fejer(trace, torch.zeros(1), bmo.metric.Identity()).holds
        True
    """
    u = iterates if isinstance(iterates, Tensor) else torch.stack(list(iterates))
    if u.shape[0] < 2:
        raise ShapeError("at least two iterates", f"{u.shape[0]}", "record the whole trace", u)
    distance = metric.distance(u, point)
    growth = (distance[1:] - distance[:-1]) / distance[0].clamp_min(torch.finfo(u.dtype).tiny)
    worst = float(growth.max())
    step = int(growth.flatten(1).amax(1).argmax()) if growth.dim() > 1 else int(growth.argmax())
    where = {"k": torch.tensor(step), "before": u[step], "after": u[step + 1]}
    return Evidence("Fejer monotone", worst, 0.0, worst <= tol, where, "every step of the trace")


def residual(T: Any, u: Tensor, limit: float = 1e-6, metric: Metric | None = None) -> Evidence:
    r"""The largest :math:`\|u-Tu\|_H` of a batch of points, against ``limit``.

    Example:
        >>> import torch, bmo
        >>> D = bmo.operators.Lambda(lambda u: 0 * u, bmo.metric.Identity())
        >>> bmo.certify.residual(bmo.GKM(D, alpha=0.5), torch.ones(3, 1)).measured
        0.5
    """
    metric = metric_of(T, metric)
    with torch.no_grad():
        r = metric.norm(u - T(u)).flatten()
    at = int(r.argmax())
    points = u.reshape(-1, *u.shape[u.dim() - metric.event_dims :])
    worst = float(r[at])
    return Evidence(
        "residual", worst, limit, worst <= limit, {"u": points[at].detach()}, "every point"
    )


def metric_is_spd(
    metric: Metric,
    n: int | None = None,
    shape: tuple[int, ...] | None = None,
    trials: int = 32,
    seed: int = 0,
    tol: float = 1e-8,
) -> Evidence:
    r"""Whether a metric is symmetric and positive, with a norm, an inverse and bounds that fit it.

    The laws, on random points: :math:`\langle u,Hv\rangle=\langle Hu,v\rangle`,
    :math:`\langle u,Hu\rangle>0` (and the smallest eigenvalue, up to 400 entries),
    :math:`\|u\|_H^2=\langle u,Hu\rangle`, :math:`H^{-1}Hu=u`, and
    :math:`\lambda_{lb}|u|^2\le\|u\|_H^2\le\lambda_{ub}|u|^2`.

    Args:
        metric: The metric.
        n: Length of a vector; needed where the metric does not fix it.
        shape: Shape of a point instead.
        trials: Number of random points.
        seed: Seed of the draws.
        tol: Largest relative deviation allowed.

    Returns:
        Evidence whose ``measured`` is the largest relative deviation (at least 1 where the metric
        is not positive) and whose ``method`` names the law.

    Book: chapter 2.

    Example:
        >>> import torch, bmo
        >>> tilt = torch.tensor([[1.0, 0.5], [0.0, 1.0]], dtype=torch.float64)
        >>> H = bmo.metric.Functional(lambda u: u @ tilt, lower=0.5, upper=1.5)
        >>> bmo.certify.metric_is_spd(H, n=2).method
        'symmetry'
    """
    size = point_shape(metric, n, shape)
    generator = torch.Generator().manual_seed(seed)
    like = sample_like(metric, metric)
    u, v = torch.randn(2, trials, *size, generator=generator, dtype=torch.float64).to(like)
    axes = tuple(range(-metric.event_dims, 0))
    hu, square = metric.apply(u), (u * u).sum(axes)
    quotient = (u * hu).sum(axes) / square
    top = (hu.square().sum(axes) / square).sqrt()
    skew = ((v * hu).sum(axes) - (metric.apply(v) * u).sum(axes)).abs()
    low, high = metric.bounds()
    laws = {
        "symmetry": skew / (top * (square * (v * v).sum(axes)).sqrt()),
        "positivity": torch.where(quotient > 0, 0.0, 1 - quotient / top),
        "norm": (metric.norm(u).square() / square - quotient).abs() / top,
        "bounds": torch.maximum(low - quotient, quotient - high).clamp_min(0) / top,
    }
    found = {name: float(x.max()) for name, x in laws.items()}
    where = {"u": u[int(laws[max(found, key=lambda k: found[k])].argmax())]}
    if found["symmetry"] <= tol:
        found["smallest eigenvalue"], vector = _smallest(metric, size, like)
        if found["smallest eigenvalue"] > 0:
            where = {"u": vector}
        else:
            back = (metric.solve(hu) - u).square().sum(axes) / square
            found["inverse"] = float(back.max().sqrt())
    worst = max(found, key=lambda k: found[k])
    holds = found[worst] <= tol
    return Evidence("a metric", found[worst], tol, holds, where, worst, found)


def _smallest(metric: Metric, size: tuple[int, ...], like: Tensor) -> tuple[float, Tensor]:
    """How far the smallest eigenvalue is from positive (0 if it is), and its vector."""
    if torch.Size(size).numel() > 400:
        return 0.0, torch.zeros(size).to(like)
    matrix = metric.matrix(size, like)
    values, vectors = torch.linalg.eigh((matrix + matrix.mT) / 2)
    if float(values[0]) > 0:
        return 0.0, vectors[:, 0].reshape(size)
    return 1.0 - float(values[0] / values.abs().max()), vectors[:, 0].reshape(size)


def circular_norm(kernel: Tensor, height: int, width: int) -> Tensor:
    r"""The exact operator norm of a circular convolution, by the Fourier transform.

    At each frequency the convolution is the matrix :math:`\hat k(\xi)` of shape (c_out, c_in);
    its norm is the largest singular value over all frequencies.

    Args:
        kernel: Shape (c_out, c_in, kh, kw), as for :func:`torch.nn.functional.conv2d`.
        height: Height of the images, >= 1; a larger kernel wraps around.
        width: Width of the images, >= 1.

    Returns:
        A 0-dimensional tensor, differentiable in the kernel.

    Raises:
        ShapeError: The kernel does not have four axes, or an image side is below 1.

    Book: chapter 5, "The exact norm".

    Example:
        >>> import torch, bmo
        >>> blur = torch.full((1, 1, 3, 3), 1 / 9)
        >>> bmo.certify.circular_norm(blur, 8, 8)
        tensor(1.)
    """
    if kernel.dim() != 4 or height < 1 or width < 1:
        raise ShapeError(
            "a kernel (c_out, c_in, kh, kw) and an image of at least 1 x 1",
            f"kernel {tuple(kernel.shape)}, image {height} x {width}",
            "add the missing axes with kernel[None]",
            kernel,
        )
    wrapped = kernel.new_zeros(*kernel.shape[:2], height, width)
    for i in range(kernel.shape[2]):
        for j in range(kernel.shape[3]):
            at = torch.zeros_like(wrapped)
            at[..., i % height, j % width] = 1
            wrapped = wrapped + at * kernel[..., i, j, None, None]
    symbol = torch.fft.rfft2(wrapped).permute(2, 3, 0, 1)
    return torch.linalg.matrix_norm(symbol, 2).max()
