"""Images and blur kernels as tensors on [0, 1].

``load_image``, ``images`` and ``kernels`` read registered files. ``page_pictures`` reads
pictures that lie inside scikit-image's wheel, so it needs no network and no download.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch
from PIL import Image, UnidentifiedImageError
from torch import Tensor

from bmo.data.packages import package, skimage_pictures
from bmo.data.registry import files, locate, picture_hashes
from bmo.errors import DataError
from bmo.files import check
from bmo.measure import luma

#: Pictures to learn from, and pictures to test on. Fixed, and disjoint.
TRAIN_PICTURES = ("astronaut", "brick", "chelsea", "coffee", "grass", "gravel", "moon", "text")
TEST_PICTURES = ("camera", "coins", "page", "rocket")


def load_image(file: str, dtype: torch.dtype = torch.float64) -> Tensor:
    """A registered image, verified and decoded.

    Args:
        file: Its name in the registry, such as ``"set14/lenna.bmp"``.
        dtype: float32 or float64.

    Returns:
        Shape (3, H, W) for colour, (1, H, W) for gray, values k/255 on [0, 1].

    Raises:
        DataError: The file is missing, altered or not an 8-bit image.

    Example:
        >>> from bmo.data import load_image
        >>> load_image("set14/nobody.png")  # doctest: +ELLIPSIS
        Traceback (most recent call last):
            ...
        bmo.errors.DataError: required: a file that the registry knows; got: ...
    """
    return decode(locate(file), dtype)


def decode(path: Path, dtype: torch.dtype = torch.float64) -> Tensor:
    """Decode an 8-bit image file, gray or colour (a palette becomes colour).

    Raises:
        DataError: Not an image, or one with transparency or more than 8 bits.

    Example:
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     path = Path(folder) / "two.png"
        ...     Image.fromarray(np.array([[0, 255]], dtype=np.uint8)).save(path)
        ...     decode(path).tolist()
        [[[0.0, 1.0]]]
    """
    try:
        with Image.open(path) as picture:
            mode = picture.mode
            pixels = np.array(picture.convert("RGB") if mode == "P" else picture)
    except (UnidentifiedImageError, OSError) as problem:
        raise DataError("an image file", f"{path}: {problem}", "replace it", str(path)) from problem
    if mode not in ("L", "RGB", "P"):
        raise DataError(
            "an 8-bit gray or colour image",
            f"{path} of mode {mode}",
            "convert it to 8 bits without transparency",
            str(path),
        )
    values = torch.from_numpy(pixels).to(dtype) / 255
    return values.unsqueeze(0) if values.ndim == 2 else values.permute(2, 0, 1).contiguous()


def images(group: str, dtype: torch.dtype = torch.float64) -> Iterator[tuple[str, Tensor]]:
    """The images of a registered set, one after the other in a fixed order.

    Args:
        group: Name of the set, such as ``"set14"``.
        dtype: float32 or float64.

    Yields:
        (name of the file, tensor (C, H, W) on [0, 1]).

    Raises:
        DataError: No such set; or a file is missing, altered or not an image.

    Example:
        >>> from bmo.data import images
        >>> next(images("nowhere"))  # doctest: +ELLIPSIS
        Traceback (most recent call last):
            ...
        bmo.errors.DataError: required: one of the sets set3c, ...; got: 'nowhere'; ...
    """
    for file in files(group):
        yield file, load_image(file, dtype)


def gray(image: Tensor) -> Tensor:
    """One-channel version of an image: BT.601 luma of colour, gray as it is.

    Args:
        image: Floating point on [0, 1], shape (..., 3, H, W) or (..., 1, H, W).

    Returns:
        Shape (..., 1, H, W).

    Raises:
        ShapeError: Neither one channel nor three.

    Example:
        >>> red = torch.zeros(3, 1, 1, dtype=torch.float64)
        >>> red[0] = 1
        >>> gray(red).item()
        0.299
    """
    return image if image.ndim >= 3 and image.shape[-3] == 1 else luma(image)


def kernels() -> list[Tensor]:
    """The eight motion-blur kernels of Levin, Weiss, Durand and Freeman (CVPR 2009).

    The file is stored column by column (MATLAB), so each kernel is transposed on reading.
    Index 3 is the 27×27 kernel of the deconvolution tables.

    Returns:
        Eight float64 tensors (h, w) with odd sides, nonnegative, each summing to 1.

    Raises:
        DataError: The package h5py is not installed, or the file is missing or altered.

    An example: :func:`bmo.data.locate`.
    """
    path = locate("levin09/Levin09.mat")
    h5py = package("h5py", "the package h5py, to read a MATLAB v7.3 file", "pip install h5py")
    with h5py.File(path, "r") as store:
        arrays = [np.asarray(store[name]) for name in store["kernels"][()].ravel()]
    return [torch.from_numpy(array.T.copy()) for array in arrays]


def page_pictures(split: str = "train", dtype: torch.dtype = torch.float64) -> dict[str, Tensor]:
    """Gray pictures from inside scikit-image's wheel, split once and for all.

    They are read as files and verified by sha256, so another version of scikit-image cannot
    change a result in silence, and its downloader is never called.

    Args:
        split: ``"train"`` (8 pictures) or ``"test"`` (4 others).
        dtype: float32 or float64.

    Returns:
        Name → tensor (H, W) on [0, 1], in the order of the split.

    Raises:
        DataError: Unknown split, scikit-image is not installed, or a picture differs.

    Example:
        >>> {name: tuple(u.shape) for name, u in page_pictures("test").items()}
        {'camera': (512, 512), 'coins': (303, 384), 'page': (191, 384), 'rocket': (427, 640)}
    """
    if split not in ("train", "test"):
        raise DataError("split 'train' or 'test'", repr(split), "choose one of them", split)
    folder = skimage_pictures()
    by_stem = {Path(name).stem: (name, digest) for name, digest in picture_hashes().items()}
    pictures = {}
    for stem in TRAIN_PICTURES if split == "train" else TEST_PICTURES:
        name, digest = by_stem[stem]
        path = check(folder / name, digest, source="scikit-image, reinstalled")
        pictures[stem] = gray(decode(path, dtype)).squeeze(0)
    return pictures
