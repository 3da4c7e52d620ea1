"""The answers of a restorer, kept: the same observation is restored once. Book: chapter 11.

A restoration by a public denoiser costs many steps of a loop. Methods that begin at the same one
share it, and a run that was interrupted does not ask again.
"""

from __future__ import annotations

import hashlib
from pathlib import Path

import torch
from torch import Tensor

from bmo.errors import RecordError
from bmo.files import write_atomic
from bmo.problems.deconvolution.restorer import Restorer
from bmo.record import load_weights, save_weights


class Remembered:
    """A restorer that keeps what it has said, image by image, under the bytes of the question.

    Args:
        restorer: Who is asked.
        folder: Where the answers are kept; one folder for each restorer.
        resume: Use answers that are there already; otherwise only those of this object.

    Raises:
        RecordError: (when called) An answer was altered, or cannot be written.

    Example:
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     asked = Remembered(lambda b, symbol, sigma: 2 * b, Path(folder))
        ...     b, symbol = torch.ones(1, 1, 2, 2), torch.ones(1, 1, 2, 2, dtype=torch.complex64)
        ...     bool(torch.equal(asked(b, symbol, torch.full((1, 1, 1, 1), 0.1)), 2 * b))
        True
    """

    def __init__(self, restorer: Restorer, folder: Path, resume: bool = False) -> None:
        self.restorer, self.folder, self.resume = restorer, folder, resume
        self.made: set[str] = set()

    def __call__(self, observed: Tensor, symbol: Tensor, sigma: Tensor) -> Tensor:
        found = [
            self._one(b[None], k[None], s[None])
            for b, k, s in zip(
                observed, symbol.expand(len(observed), -1, -1, -1), sigma, strict=True
            )
        ]
        return torch.cat(found)

    def _one(self, b: Tensor, symbol: Tensor, sigma: Tensor) -> Tensor:
        name = digest(b, symbol, sigma)
        path, seal = (self.folder / f"{name}.{end}" for end in ("safetensors", "sha256"))
        if seal.exists() and (self.resume or name in self.made):
            return load_weights(path, seal.read_text("ascii"))["restored"].to(b)
        found = self.restorer(b, symbol, sigma)
        self.folder.mkdir(parents=True, exist_ok=True)
        sha256 = save_weights({"restored": found.cpu().contiguous()}, path)
        write_atomic(seal, sha256.encode("ascii"), RecordError)
        self.made.add(name)
        return found


def digest(*tensors: Tensor) -> str:
    """The sha256 of the bytes of tensors, with their dtypes and shapes."""
    seen = hashlib.sha256()
    for t in tensors:
        seen.update(f"{t.dtype}{tuple(t.shape)}".encode())
        seen.update(t.detach().cpu().resolve_conj().contiguous().numpy().tobytes())
    return seen.hexdigest()
