"""Weights that others published: by name, verified by sha256, never executed on reading."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from pickle import UnpicklingError
from typing import Any

import numpy as np
import torch
from torch import Tensor

from bmo.data import locate
from bmo.data.packages import package
from bmo.errors import DataError

Pair = tuple[Tensor, Tensor]


def torch_weights(path: Path) -> dict[str, Tensor]:
    """Name → tensor of a PyTorch file, read without running any code in it.

    Raises:
        DataError: Not such a file, or it holds more than tensors by name.
    """
    try:
        found: Any = torch.load(path, map_location="cpu", weights_only=True)
    except (UnpicklingError, RuntimeError, EOFError, OSError) as problem:
        raise DataError(
            "a PyTorch file that holds weights alone", f"{path}: {problem}", "replace it", str(path)
        ) from problem
    if not isinstance(found, dict) or not all(isinstance(v, Tensor) for v in found.values()):
        raise DataError("tensors by name", f"{path}", "replace it", str(path))
    return dict(found)


def locate_torch(file: str) -> dict[str, Tensor]:
    """:func:`torch_weights` of a registered file, verified by sha256."""
    return torch_weights(locate(file))


@contextmanager
def hdf5(path: Path) -> Iterator[Any]:
    """An open HDF5 file, which Keras and MATLAB (v7.3) files are.

    Raises:
        DataError: The package h5py is not installed, or the file is not HDF5.
    """
    h5py = package("h5py", "the package h5py, to read an HDF5 file", "pip install h5py")
    try:
        store = h5py.File(path, "r")
    except OSError as problem:
        raise DataError("an HDF5 file", f"{path}: {problem}", "replace it", str(path)) from problem
    with store:
        yield store


def keras_layers(path: Path) -> list[Pair]:
    """Kernel (out, in, height, width) and bias of each convolution of a Keras file, in order.

    Keras stores a kernel as (height, width, in, out).

    Raises:
        DataError: No h5py, or not such a file.
    """
    with hdf5(path) as store:
        root = store["model_weights"] if "model_weights" in store else store
        found = []
        for layer in root.attrs.get("layer_names", []):
            names = [_text(name) for name in root[_text(layer)].attrs["weight_names"]]
            if names:
                kernel, bias = (np.asarray(root[_text(layer)][name]) for name in names)
                found.append((_tensor(kernel.transpose(3, 2, 0, 1)), _tensor(bias)))
    if not found:
        raise DataError("convolutions of Keras", f"none in {path}", "replace it", str(path))
    return found


def matconvnet_layers(path: Path) -> list[Pair]:
    """Kernel (out, in, height, width) and bias of each convolution of a MatConvNet file (v7.3).

    MATLAB stores column by column, so HDF5 shows (out, in, width, height).

    Raises:
        DataError: No h5py, or not such a file.
    """
    with hdf5(path) as store:
        if "net" not in store:
            raise DataError("a network 'net'", f"none in {path}", "replace it", str(path))
        found = []
        for place in store["net"]["layers"][()].ravel():
            layer = store[place]
            if "".join(map(chr, layer["type"][()].ravel())) == "conv":
                kernel, bias = (np.asarray(store[at]) for at in layer["weights"][()].ravel())
                found.append((_tensor(kernel.swapaxes(2, 3)), _tensor(bias.ravel())))
    return found


def _tensor(values: np.ndarray[Any, Any]) -> Tensor:
    return torch.from_numpy(np.ascontiguousarray(values, dtype=np.float32))


def _text(name: bytes | str) -> str:
    return name.decode() if isinstance(name, bytes) else str(name)
