"""The disk is full, or the folder read-only: a clear error, the old file whole, nothing left."""

from __future__ import annotations

import mimetypes  # noqa: F401 - what a download needs, before a user loses the right to read it
import os
import resource
import shutil
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import torch

from bmo import record
from bmo.errors import BMOError
from bmo.files import download, sha256_of
from bmo.problems.shelf import Shelf
from bmo.train import CHECKPOINT, Plan, train
from tests.reliability.bad_data import a_record
from tests.reliability.common import Figure, answer, processes, scratch
from tests.reliability.damage import _Settings

Write = Callable[[Path, int], None]
#: A user without rights, for a harness that runs as root: root may write anywhere.
NOBODY = 65534


def write_record(folder: Path, size: int) -> None:
    """A record with so many seeds."""
    record.write(a_record(seeds=[0] * size), folder)


def write_weights(folder: Path, size: int) -> None:
    """Weights with so many numbers."""
    record.save_weights({"a": torch.zeros(size)}, folder / "harness.safetensors")


def write_index(folder: Path, size: int) -> None:
    """The sealed index, of a folder with more than one record where it grows."""
    source = folder.parent / f"source{size}"
    record.seal(source, folder / "records.json")


def write_checkpoint(folder: Path, size: int) -> None:
    """A training that keeps its steps."""
    model = torch.nn.Linear(size, 1)
    train(model, lambda x: model(x).square().mean(), lambda rng: torch.rand(2, size, generator=rng),
          Plan(steps=1, rate=0.1), folder, progress=False)  # fmt: skip


def write_part(folder: Path, size: int) -> None:
    """A part of an experiment."""
    Shelf(_Settings(), folder).keep("part", 0.0, lambda: {"psnr": [27.5] * size})


def write_download(folder: Path, size: int) -> None:
    """A file that is fetched into the cache."""
    source = folder.parent / f"source{size}" / "file.bin"
    download(source.as_uri(), folder / "file.bin", sha256_of(source), attempts=1)


WRITES: dict[str, tuple[str, Write]] = {
    "a record": ("harness.page.json", write_record),
    "trained weights": ("harness.safetensors", write_weights),
    "the index of records": ("records.json", write_index),
    "a checkpoint": (CHECKPOINT, write_checkpoint),
    "a part of a run": ("part.json", write_part),
    "a download": ("file.bin", write_download),
}
#: Sizes of the old file and of the new one, in numbers; the new one does not fit into LIMIT bytes.
OLD, NEW, LIMIT = 10, 60_000, 100_000


def attempt(name: str, folder: Path, size: int, limit: int | None, user: int | None) -> str:
    """Write in a process of its own, with a limit or as another user; the error, or nothing."""
    torch.set_num_threads(1)
    if limit is not None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))
    if user is not None and os.geteuid() == 0:
        os.setgroups([])
        os.setgid(user)
        os.setuid(user)
    try:
        WRITES[name][1](folder, size)
    except BMOError as error:
        return f"{type(error).__name__}: {error}"
    except Exception as error:
        return f"UNCLEAR {type(error).__name__}: {error}"
    return ""


def prepare(place: Path) -> None:
    """What is sealed and downloaded: an old version, and a new one that is too large."""
    for size in (OLD, NEW):
        source = place / f"source{size}"
        source.mkdir()
        (source / "file.bin").write_bytes(bytes(8 * size))
        names = [f"{'a' * 60}-{k}" for k in range(1 if size == OLD else 900)]
        for name in names:
            (source / f"{name}.safetensors").write_bytes(b"")
        for path in (source, *source.iterdir()):
            path.chmod(0o755 if path.is_dir() else 0o644)


def refused(name: str, place: Path, words: str, **how: Any) -> list[str]:
    """Write the old version, spoil the place, try the new one; what went wrong."""
    folder, file = place / "kept", WRITES[name][0]
    before, listing = (folder / file).read_bytes(), sorted(os.listdir(folder))
    said = answer(processes(), attempt, name, folder, NEW, how.get("limit"), how.get("user"))
    faults = []
    if words not in said or said.startswith("UNCLEAR"):
        faults.append(f"{name}: {said or 'no error'}")
    if not (folder / file).exists() or (folder / file).read_bytes() != before:
        faults.append(f"{name}: the old file is gone")
    if sorted(os.listdir(folder)) != listing:
        faults.append(f"{name}: left {sorted(set(os.listdir(folder)) - set(listing))}")
    return faults


def fill(place: Path, names: list[str]) -> None:
    """The old version of each file."""
    (place / "kept").mkdir(exist_ok=True)
    for name in names:
        WRITES[name][1](place / "kept", OLD)


def full(names: list[str]) -> list[str]:
    """No file may grow beyond a limit: the system refuses in the middle of a write."""
    with scratch() as place:
        prepare(place), fill(place, names)
        return [f for n in names for f in refused(n, place, "room for", limit=LIMIT)]


def tiny(names: list[str]) -> list[str] | None:
    """A disk of its own that has no room; ``None`` where none may be mounted."""
    with scratch() as place:
        prepare(place)
        (place / "kept").mkdir()
        mount = ["mount", "-t", "tmpfs", "-o", f"size={LIMIT}", "tmpfs", str(place / "kept")]
        if not shutil.which("mount") or subprocess.run(mount, capture_output=True).returncode:
            return None
        try:
            fill(place, names)
            return [f for n in names for f in refused(n, place, "No space left")]
        finally:
            subprocess.run(["umount", str(place / "kept")], check=True)


def closed(names: list[str]) -> list[str]:
    """A folder that may only be read, and a user without the right to change that."""
    with scratch() as place:
        prepare(place), fill(place, names)
        for path in (place / "kept").iterdir():
            path.chmod(0o644)
        (place / "kept").chmod(0o555)
        found = [f for n in names for f in refused(n, place, "can be written", user=NOBODY)]
        (place / "kept").chmod(0o755)
        return found


def figures(names: list[str] | None = None, mounted: bool = True) -> Iterator[Figure]:
    """Each kind of file, under each kind of refusal."""
    chosen = names or list(WRITES)
    count = len(chosen)
    yield Figure(
        "disk", "kinds of file, no room in the middle of a write", count, tuple(full(chosen))
    )
    yield Figure(
        "disk", "kinds of file, a folder that may only be read", count, tuple(closed(chosen))
    )
    found = tiny(chosen) if mounted else None
    if found is not None:
        yield Figure("disk", "kinds of file, a disk that is full", count, tuple(found))
