"""Trained weights beside a record: safetensors, small, finite, and verified on loading."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors import torch as safetensors
from torch import Tensor, nn

from bmo.errors import RecordError
from bmo.files import check, sha256_of, write_atomic
from bmo.record.finding import find_file
from bmo.record.index import sealed

#: A set of weights may not be larger than this, in bytes: the repository carries it.
LARGEST = 12_000_000


def save_weights(weights: nn.Module | Mapping[str, Tensor], path: Path | str) -> str:
    """Write weights as one safetensors file, whole or not at all.

    Args:
        weights: A module (its ``state_dict``), or name → tensor.
        path: A name that ends in ``.safetensors``.

    Returns:
        sha256 of the file; equal weights give equal files.

    Raises:
        RecordError: Not tensors, NaN or infinity (the tensor is named), more than 12 MB, another
            ending, or a folder that cannot be written.

    Example:
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     path = Path(folder) / "tiny.safetensors"
        ...     sha256 = save_weights({"a": torch.ones(2)}, path)
        ...     load_weights(path, sha256)
        {'a': tensor([1., 1.])}
    """
    path = Path(path)
    if path.suffix != ".safetensors":
        raise RecordError("a name ending in .safetensors", path.name, "rename it", str(path))
    tensors = weights.state_dict() if isinstance(weights, nn.Module) else weights
    for name, tensor in tensors.items():
        if not isinstance(tensor, Tensor):
            kind = type(tensor).__name__
            raise RecordError("tensors", f"{name}: a {kind}", "use torch.as_tensor", tensor)
    # Copies: safetensors refuses tensors that share their memory, as tied weights do.
    plain = {k: v.detach().cpu().contiguous().clone() for k, v in tensors.items()}
    for name, tensor in plain.items():
        if not bool(torch.isfinite(tensor).all()):
            raise RecordError("finite weights", f"NaN or infinity in {name}", "train again", tensor)
    content = safetensors.save(plain)
    if len(content) > LARGEST:
        raise RecordError(
            f"at most {LARGEST} bytes",
            f"{len(content)} bytes",
            "save a smaller model, or float32 instead of float64",
            len(content),
        )
    return sha256_of(write_atomic(path, content, RecordError))


def load_weights(path: Path | str, sha256: str) -> dict[str, Tensor]:
    """Read weights whose file has this sha256, onto the CPU, sorted by name.

    Raises:
        RecordError: Missing, altered, or not a safetensors file.

    An example: :func:`bmo.record.save_weights`.
    """
    path = check(Path(path), sha256, source="the run that made it", error=RecordError)
    try:
        return dict(sorted(safetensors.load(path.read_bytes()).items()))
    except SafetensorError as problem:
        raise RecordError(
            f"a safetensors file {path}", str(problem), "save it again", str(path)
        ) from problem


def find_weights(name: str) -> dict[str, Tensor]:
    """Sealed weights by name, such as ``"sparse-coding.full"``; see :func:`bmo.record.find`.

    Raises:
        RecordError: Unknown to this version, not to be had, or altered.

    An example: :func:`bmo.record.save_weights`.
    """
    file = f"{name}.safetensors"
    path = find_file(file)
    sha256 = sealed().get(file)
    if sha256 is None:
        raise RecordError(
            "weights that this version knows", file, "python -m bmo records --seal", file
        )
    return load_weights(path, sha256)
