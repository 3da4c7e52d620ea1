r"""How results are measured: the one definition of PSNR, SSIM and NMSE in this project.

An image is a tensor ``(H, W)`` or ``(C, H, W)``; with more dimensions the leading ones are a
batch, and one number per image comes back. Floating-point images live on [0, 1], ``uint8``
images on [0, 255]. Everything is computed in float64, whatever comes in.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

from bmo.errors import DomainError, NonFiniteError, ShapeError, require_number, require_tensor

#: ITU-R BT.601 weights of red, green and blue in the luma.
BT601 = (0.299, 0.587, 0.114)
_WINDOW = 11
_SIGMA = 1.5


def psnr(image: Tensor, reference: Tensor, data_range: float | None = None) -> Tensor:
    r"""Peak signal-to-noise ratio in dB.

    .. math:: 10 \log_{10} \frac{R^2}{\operatorname{mean}(u - u^\star)^2}

    Args:
        image: u, of shape (..., C, H, W), (C, H, W) or (H, W).
        reference: :math:`u^\star`, of the same shape and kind.
        data_range: R; by default 255 for uint8 and 1 for floating point.

    Returns:
        float64, one value per image (a scalar for one image); infinite for equal images.

    Raises:
        ShapeError: Shapes, dtypes or devices differ.
        NonFiniteError: NaN or infinity in either image.
        DomainError: ``data_range`` is not positive.

    Example:
        >>> u = torch.full((1, 8, 8), 0.5)
        >>> round(psnr(u + 0.1, u).item(), 4)
        20.0
    """
    peak = _range(require_tensor("image", image), data_range)
    u, v = _pair(image, reference, least_dims=2)
    dims = tuple(range(-min(u.ndim, 3), 0))
    return 10 * torch.log10(peak**2 / (u - v).square().mean(dim=dims))


def ssim(image: Tensor, reference: Tensor, data_range: float | None = None) -> Tensor:
    r"""Structural similarity with the Gaussian window of the original definition.

    Means, variances and the covariance are taken under an 11×11 Gaussian window with
    σ = 1.5, with C₁ = (0.01 R)², C₂ = (0.03 R)²; the map

    .. math:: \frac{(2 m_u m_v + C_1)(2 s_{uv} + C_2)}
                   {(m_u^2 + m_v^2 + C_1)(s_u^2 + s_v^2 + C_2)}

    is averaged over the positions where the window lies inside the image, then over channels.

    Args:
        image: u, of shape (..., C, H, W), (C, H, W) or (H, W), with H, W ≥ 11.
        reference: v, of the same shape and kind.
        data_range: R; by default 255 for uint8 and 1 for floating point.

    Returns:
        float64, one value in [-1, 1] per image (a scalar for one image).

    Raises:
        ShapeError: Shapes, dtypes or devices differ, or an image is smaller than the window.
        NonFiniteError: NaN or infinity in either image.
        DomainError: ``data_range`` is not positive.

    Source: Wang, Bovik, Sheikh, Simoncelli, IEEE Trans. Image Processing 13(4), 2004.

    Example:
        >>> u = torch.linspace(0, 1, 256).reshape(16, 16)
        >>> round(ssim(u, u).item(), 6)
        1.0
    """
    peak = _range(require_tensor("image", image), data_range)
    u, v = _pair(image, reference, least_dims=2)
    if min(u.shape[-2:]) < _WINDOW:
        raise ShapeError(
            f"images of at least {_WINDOW}×{_WINDOW} pixels",
            f"shape {tuple(image.shape)}",
            "measure a larger image",
            tuple(image.shape),
        )
    c1, c2 = (0.01 * peak) ** 2, (0.03 * peak) ** 2
    mean_u, mean_v, uu, vv, uv = (_blur(x) for x in (u, v, u * u, v * v, u * v))
    luminance = (2 * mean_u * mean_v + c1) / (mean_u**2 + mean_v**2 + c1)
    variances = uu - mean_u**2 + vv - mean_v**2
    structure = (2 * (uv - mean_u * mean_v) + c2) / (variances + c2)
    return (luminance * structure).mean(dim=tuple(range(-min(u.ndim, 3), 0)))


def nmse_db(estimate: Tensor, reference: Tensor, per: int | None = None) -> Tensor:
    r"""Normalised mean squared error in dB.

    .. math:: 10 \log_{10} \frac{\sum \|u - u^\star\|^2}{\sum \|u^\star\|^2}

    By default both sums run over the whole batch: the usual figure for sparse codes, which
    stays finite when some single code is zero.

    Args:
        estimate: u, any shape.
        reference: :math:`u^\star`, the same shape.
        per: With ``per=d`` the sums run over the last d dimensions only, and one value for
            each batch element comes back.

    Returns:
        float64; ``-inf`` where the estimate is exact.

    Raises:
        ShapeError: Shapes, dtypes or devices differ, or ``per`` is not a number of dimensions.
        NonFiniteError: NaN or infinity in either tensor.
        DomainError: A reference is zero, so the ratio has no meaning.

    Example:
        >>> u = torch.ones(4, 10)
        >>> round(nmse_db(1.1 * u, u).item(), 4)
        -20.0
    """
    u, v = _pair(estimate, reference, least_dims=1)
    count = u.ndim if per is None else per
    if not 1 <= count <= u.ndim:
        raise ShapeError(f"per in 1..{u.ndim}", f"per = {per}", "count trailing dimensions", per)
    dims = tuple(range(-count, 0))
    energy = v.square().sum(dim=dims)
    if bool((energy == 0).any()):
        raise DomainError(
            "a nonzero reference", "a reference that is zero", "sum over the whole batch", energy
        )
    return 10 * torch.log10((u - v).square().sum(dim=dims) / energy)


def to_uint8(image: Tensor) -> Tensor:
    r"""The 8-bit image that would be stored: 255 u, rounded half up, cut to 0…255.

    The cut is the purpose here: published figures are measured on stored images. uint8 comes
    back as it is.

    Raises:
        NonFiniteError: NaN or infinity in the image.
        ShapeError: An integer image that is not uint8.

    Example:
        >>> to_uint8(torch.tensor([-0.2, 0.5, 1.7])).tolist()
        [0, 128, 255]
    """
    if image.dtype == torch.uint8:
        return image
    levels = _finite(image, "image").double() * 255
    return torch.floor(levels + 0.5).clamp(0, 255).to(torch.uint8)


def luma(image: Tensor, limited: bool = False) -> Tensor:
    r"""Luma of ITU-R BT.601.

    .. math:: Y = 0.299 R + 0.587 G + 0.114 B

    or, with ``limited=True``, studio range: :math:`(16 + 219 Y) / 255`, so that black is
    16/255 and white 235/255.

    Args:
        image: Red, green, blue on [0, 1], floating point, of shape (..., 3, H, W).
        limited: Map to 16…235 of 255, as broadcast video and the deraining tables do.

    Returns:
        Shape (..., 1, H, W), the dtype of the input.

    Raises:
        ShapeError: Not floating point, or the third dimension from the end is not 3.

    Example:
        >>> white = torch.ones(3, 1, 1, dtype=torch.float64)
        >>> round(luma(white).item(), 6), round(luma(white, limited=True).item() * 255, 6)
        (1.0, 235.0)
    """
    if image.ndim < 3 or image.shape[-3] != 3 or not image.is_floating_point():
        raise ShapeError(
            "a floating-point image (..., 3, H, W)",
            f"{image.dtype} of shape {tuple(image.shape)}",
            "give red, green and blue on [0, 1]",
            tuple(image.shape),
        )
    weights = torch.tensor(BT601, dtype=image.dtype, device=image.device).reshape(3, 1, 1)
    y = (weights * image).sum(dim=-3, keepdim=True)
    return (16 + 219 * y) / 255 if limited else y


def y_channel(image: Tensor) -> Tensor:
    r"""The 8-bit, limited-range Y image on which deraining tables measure PSNR and SSIM.

    The colours are rounded to 8 bits first, then Y is: ``to_uint8(luma(·, limited=True))``.

    Args:
        image: (..., 3, H, W), floating point on [0, 1] or uint8.

    Returns:
        uint8, shape (..., 1, H, W), values 16…235.

    Example:
        >>> y_channel(torch.zeros(3, 1, 1)).item()
        16
    """
    return to_uint8(luma(to_uint8(image).double() / 255, limited=True))


def _pair(u: Tensor, v: Tensor, least_dims: int) -> tuple[Tensor, Tensor]:
    require_tensor("first argument", u), require_tensor("reference", v)
    if u.shape != v.shape or u.dtype != v.dtype or u.device != v.device:
        raise ShapeError(
            "two tensors of one shape, dtype and device",
            f"{tuple(u.shape)} {u.dtype} {u.device} and {tuple(v.shape)} {v.dtype} {v.device}",
            "convert one to the other first",
            (tuple(u.shape), tuple(v.shape)),
        )
    if u.ndim < least_dims or u.numel() == 0:
        raise ShapeError(
            f"a nonempty real tensor with at least {least_dims} dimensions",
            f"{u.dtype} of shape {tuple(u.shape)}",
            "give an image (H, W), (C, H, W) or a batch of them",
            tuple(u.shape),
        )
    return _finite(u, "first argument").double(), _finite(v, "reference").double()


def _finite(x: Tensor, name: str) -> Tensor:
    if not x.is_floating_point():
        if x.dtype != torch.uint8:
            raise ShapeError("floating point or uint8", str(x.dtype), "convert it", x.dtype)
        return x
    if not bool(torch.isfinite(x).all()):
        raise NonFiniteError(
            "finite values", f"NaN or infinity in the {name}", "find the step that made them", x
        )
    return x


def _range(image: Tensor, data_range: float | None) -> float:
    if data_range is None:
        return 255.0 if image.dtype == torch.uint8 else 1.0
    if not 0 < require_number("data_range", data_range) < float("inf"):
        raise DomainError(
            "a positive data_range", f"{data_range}", "give the largest minus the least value"
        )
    return float(data_range)


def _blur(x: Tensor) -> Tensor:
    """Separable Gaussian window, only where it lies inside the image."""
    t = torch.arange(_WINDOW, dtype=x.dtype, device=x.device) - _WINDOW // 2
    w = torch.exp(-0.5 * (t / _SIGMA) ** 2)
    w = w / w.sum()
    flat = x.reshape(-1, 1, *x.shape[-2:])
    flat = functional.conv2d(flat, w.reshape(1, 1, -1, 1))
    flat = functional.conv2d(flat, w.reshape(1, 1, 1, -1))
    return flat.reshape(*x.shape[:-2], *flat.shape[-2:])
