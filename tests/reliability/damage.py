"""Every altered byte and every truncation of data, records, weights and checkpoints is refused."""

from __future__ import annotations

import io
import os
import random
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any
from unittest.mock import patch

import torch
from PIL import Image

from bmo import data, record
from bmo.checkpoint import load_checkpoint, save_checkpoint
from bmo.data.reading import decode
from bmo.errors import BMOError
from bmo.files import sha256_of
from bmo.problems.shelf import Shelf
from tests.reliability.bad_data import a_record
from tests.reliability.common import Figure, scratch

RECORDED = Path(__file__).resolve().parents[2] / "notebooks" / "recorded"
#: How many bytes of a large file are altered, besides all of its first ones.
SAMPLE, HEAD = 400, 400
#: A file of more bytes than this is long.
LONG = 1000
Use = Callable[[], object]


class Kind:
    """A file and the way it is used.

    Args:
        what: In words.
        path: The file, good so far.
        use: Reads it as the package does.
    """

    def __init__(self, what: str, path: Path, use: Use) -> None:
        self.what, self.path, self.use = what, path, use
        self.good = path.read_bytes()
        use()  # the good file is accepted, or its refusals would mean nothing

    def refuses(self, content: bytes) -> bool:
        """Whether the file with this content is refused in a clear way."""
        self.path.write_bytes(content)
        try:
            self.use()
        except BMOError:
            return True
        except Exception:
            return False
        return False

    def faults(self, damages: Iterable[tuple[str, bytes]]) -> tuple[int, tuple[str, ...]]:
        """How many damages were tried, and those that were accepted or met with another error."""
        count, found = 0, []
        for name, content in damages:
            count += 1
            if not self.refuses(content):
                found.append(f"{self.what}, {name}")
        self.path.write_bytes(self.good)
        self.use()
        return count, tuple(found)


def flips(
    good: bytes, positions: Iterable[int], bits: int, seed: int
) -> Iterator[tuple[str, bytes]]:
    """Alter one byte at a time: each of its eight bits, or any other value, drawn."""
    draws = random.Random(seed)
    for at in positions:
        masks = [1 << k for k in range(8)] if bits == 8 else [draws.randrange(1, 256)]
        for mask in masks:
            altered = bytearray(good)
            altered[at] ^= mask
            yield f"byte {at} with {mask:#x}", bytes(altered)


def blanks(good: bytes) -> Iterator[tuple[str, bytes]]:
    """Alter what a lenient reader forgives: one kind of space for another, the case of letters."""
    for at, byte in enumerate(good):
        for other in b" \t\n\r" if byte in b" \t\n\r" else bytes([byte]).swapcase():
            if other != byte:
                yield f"byte {at} as {other:#x}", good[:at] + bytes([other]) + good[at + 1 :]


def cuts(good: bytes, lengths: Iterable[int]) -> Iterator[tuple[str, bytes]]:
    """Truncate, or add a byte at the end."""
    for length in lengths:
        yield f"cut at {length}", good[:length]
    yield "a byte more", good + b"\n"


def small(folder: Path) -> Iterator[Kind]:
    """One small file of each kind."""
    path = record.write(a_record(curves={"residual": [1.0, 0.1, 1e-08]}), folder)
    yield Kind("a record", path, lambda: record.read(path))
    weights = folder / "harness.safetensors"
    sha256 = record.save_weights({"a": torch.arange(6.0).reshape(2, 3)}, weights)
    yield Kind("trained weights", weights, lambda: record.load_weights(weights, sha256))
    yield _picture(folder)
    model = torch.nn.Linear(2, 1)
    adam, plan = torch.optim.Adam(model.parameters()), {"steps": 3}
    state = folder / "checkpoint.pt"
    save_checkpoint(state, model, adam, plan, [0.5])
    yield Kind("a checkpoint", state, lambda: load_checkpoint(state, model, adam, plan))
    yield _part(folder)


def _picture(folder: Path) -> Kind:
    stream = io.BytesIO()
    Image.new("RGB", (4, 4), (10, 200, 30)).save(stream, "png")
    path = folder / "set" / "x.png"
    path.parent.mkdir()
    path.write_bytes(stream.getvalue())
    entry = data.DataFile("set", "set/x.png", path.as_uri(), sha256_of(path), 1, "MIT")

    def use() -> torch.Tensor:
        with patch.dict(os.environ, BMO_DATA=str(folder)):
            return decode(data.fetch(entry))

    return Kind("a picture", path, use)


class _Settings:
    def as_dict(self) -> dict[str, Any]:
        return {"depth": 16}


def _part(folder: Path) -> Kind:
    Shelf(_Settings(), folder).keep("part", 0.0, lambda: {"psnr": [27.5, 1e-08]})
    return Kind("a part of a run", folder / "part.json",
                lambda: Shelf(_Settings(), folder, resume=True).kept("part"))  # fmt: skip


def large(folder: Path) -> Iterator[Kind]:
    """The largest record and the largest weights of the book."""
    for ending in ("json", "safetensors"):
        source = max(RECORDED.glob(f"*.{ending}"), key=lambda p: p.stat().st_size)
        path = folder / source.name
        path.write_bytes(source.read_bytes())
        sha256 = record.sealed()[source.name]
        use = {
            "json": lambda p=path: record.read(p),
            "safetensors": lambda p=path, s=sha256: record.load_weights(p, s),
        }[ending]
        size = f"{len(path.read_bytes()) / 1e6:.1f} MB"
        yield Kind(f"{path.name} ({size})", path, use)


def figures(bits: int = 8, every: int = 1, whole: bool = True) -> Iterator[Figure]:
    """Flips and cuts of each small file at every place, and a sample of the large ones.

    Args:
        bits: 8 for each single bit of a byte, 1 for one other value (as in a long file).
        every: Distance of the places in a long file.
        whole: With the large files.
    """
    with scratch() as folder:
        for kind in small(folder):
            long = len(kind.good) > LONG
            spaces = blanks(kind.good) if bits == 8 and not long else ()
            places = range(0, len(kind.good), every if long else 1)
            for what, damages in (
                ("altered", flips(kind.good, places, 1 if long else bits, 0)),
                ("with other blanks or capitals", spaces),
                ("truncated", cuts(kind.good, places)),
            ):
                count, faults = kind.faults(damages)
                if count:
                    yield Figure("damage", f"{kind.what}, {what}", count, faults)
        for kind in large(folder) if whole else ():
            draws, size = random.Random(1), len(kind.good)
            places = [*range(HEAD), *sorted(draws.sample(range(HEAD, size), SAMPLE)), size - 1]
            for what, damages in (
                ("altered", flips(kind.good, places, 1, 2)),
                ("truncated", cuts(kind.good, sorted(draws.sample(range(size), SAMPLE // 4)))),
            ):
                count, faults = kind.faults(damages)
                yield Figure("damage", f"{kind.what}, {what}", count, faults)
