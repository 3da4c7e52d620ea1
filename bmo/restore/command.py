"""The command ``python -m bmo restore``: a picture of your own, by a recorded method."""

from __future__ import annotations

import argparse
import io
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from bmo import record
from bmo.data.reading import decode
from bmo.errors import DataError, DomainError
from bmo.files import write_atomic
from bmo.measure import to_uint8
from bmo.problems.deconvolution.protocol import score, similarity
from bmo.restore.pictures import DEPTHS, EDGES, Restoration, deblur, derain

HELP = """\
Deblur a picture of your own, or remove its rain, by a recorded method: T alone.

The picture is an 8-bit file, gray or colour. A deconvolution needs the noise in percent and the
kernel: a gray picture or a numpy file .npy, which is divided by its sum. A photograph was blurred
with what lies outside it, and not with its opposite border: say --edges open.

With --clean, PSNR and SSIM of every depth are printed, over all colours of the 8-bit picture. The
clean picture serves for nothing else.

Examples:
  python -m bmo restore deconvolution blurred.png --kernel kernel.png --noise 1 --out sharp.png
  python -m bmo restore deconvolution photo.png --kernel shake.png --noise 2 --edges open
  python -m bmo restore deraining rainy.png --out dry.png --clean clean.png
"""


def add_arguments(restore: argparse.ArgumentParser) -> None:
    """The options of ``restore``."""
    restore.add_argument("experiment", choices=("deconvolution", "deraining"))
    restore.add_argument("picture", type=Path)
    restore.add_argument("--out", type=Path, help="where the restored picture goes (.png)")
    restore.add_argument("--kernel", type=Path, help="of the blur: a gray picture, or .npy")
    restore.add_argument("--noise", type=float, help="of the blurred picture, in percent")
    restore.add_argument("--edges", choices=EDGES, help="open: a photograph, not a protocol")
    restore.add_argument("--method", help="default: bmo-long (deconvolution), bmo (deraining)")
    restore.add_argument("--profile", choices=record.PROFILES, default="small")
    restore.add_argument("--depths", nargs="+", type=int, default=list(DEPTHS))
    restore.add_argument("--clean", type=Path, help="to measure against")
    restore.add_argument("--device", default="cpu", help="such as cuda")
    restore.set_defaults(run=run)


def run(options: argparse.Namespace) -> None:
    """Restore, print one line for each depth, and write the last picture."""
    if options.out is not None and options.out.suffix.lower() != ".png":
        raise DataError("--out with the suffix .png", f"{options.out}", "rename it", options.out)
    observed = decode(options.picture)
    clean = None if options.clean is None else decode(options.clean)
    found = _restore(options, observed)
    print(f"certificate: {found.certified}{', and it diverged' * found.diverged}")
    for line in lines(found, observed, clean):
        print(line)
    if options.out is not None:
        print(f"written: {write_atomic(options.out, as_png(found.image))}")


def _restore(options: argparse.Namespace, observed: Tensor) -> Restoration:
    chosen = {"depths": options.depths, "profile": options.profile, "device": options.device}
    needed = {"--kernel": options.kernel, "--noise": options.noise}
    if options.experiment == "deraining":
        for name, value in {**needed, "--edges": options.edges}.items():
            if value is not None:
                raise DomainError(f"no {name} for deraining", f"{value}", "leave it out", value)
        return derain(observed, options.method or "bmo", **chosen)
    for name, value in needed.items():
        if value is None:
            raise DomainError(f"{name} for a deconvolution", "none", "see restore --help", name)
    kernel, method = read_kernel(options.kernel), options.method or "bmo-long"
    edges = options.edges or EDGES[0]
    return deblur(observed, kernel, options.noise, method, edges=edges, **chosen)


def read_kernel(path: Path) -> Tensor:
    """A blur kernel from a gray picture or a numpy file, divided by its sum.

    Raises:
        DataError: Not a gray picture, not an array with two axes, or one whose sum is not > 0.

    Example:
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     path = Path(folder) / "kernel.npy"
        ...     np.save(path, np.array([[1.0, 2.0, 1.0]]))
        ...     read_kernel(path)
        tensor([[0.2500, 0.5000, 0.2500]], dtype=torch.float64)
    """
    if path.suffix.lower() == ".npy":
        try:
            kernel = torch.from_numpy(np.load(path, allow_pickle=False).astype(np.float64))
        except (OSError, ValueError, TypeError) as problem:
            raise DataError(
                "a kernel: an array of numbers", f"{path}: {problem}", "save it anew", str(path)
            ) from problem
    else:
        kernel = decode(path).squeeze(0)
    if kernel.dim() != 2 or not float(kernel.sum()) > 0:
        raise DataError(
            "a kernel (h, w) whose sum is > 0",
            f"{path}: shape {tuple(kernel.shape)}, sum {float(kernel.sum()):.3g}",
            "a gray picture, or an array with two axes",
            str(path),
        )
    return kernel / kernel.sum()


def lines(found: Restoration, observed: Tensor, clean: Tensor | None) -> list[str]:
    """The table: residual of each depth, and PSNR and SSIM where there is a clean picture."""
    measured = "" if clean is None else "   PSNR dB   SSIM"
    shown = [f"depth   |u - Tu| / |u|{measured}"]
    if clean is not None:
        shown.append(f"given                 {_quality(observed, clean)}")
    for depth, image, residual in zip(found.depths, found.images, found.residuals, strict=True):
        quality = "" if clean is None else _quality(image, clean)
        shown.append(f"{depth:5d}          {float(residual):.1e}{quality}")
    return shown


def _quality(image: Tensor, clean: Tensor) -> str:
    psnr, ssim = float(score(image, clean)), float(similarity(image, clean))
    return f"   {psnr:7.2f}   {ssim:.4f}"


def as_png(image: Tensor) -> bytes:
    """A picture (C, H, W) on [0, 1] as the bytes of an 8-bit PNG file."""
    stored = to_uint8(image).permute(1, 2, 0).cpu().numpy()
    store = io.BytesIO()
    Image.fromarray(stored[..., 0] if stored.shape[-1] == 1 else stored).save(store, "PNG")
    return store.getvalue()
