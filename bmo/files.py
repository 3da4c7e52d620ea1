"""Files that can be trusted: checked by sha256, written and downloaded as a whole or not at all.

Data sets, recorded results and trained weights all pass through this module, so each
guarantee is stated and tested in one place:

* a file is used only after its bytes were hashed and compared with a known sha256;
* a file is written under a temporary name and renamed, so a reader meets the old file or
  the new one, never half of one, and two writers cannot mix their bytes;
* what a killed process left under its temporary name is cleared by a later writer of that file.
"""

from __future__ import annotations

import errno
import glob
import hashlib
import http.client
import os
import time
import urllib.error
import urllib.request
import uuid
from functools import lru_cache
from pathlib import Path

from tqdm import tqdm

from bmo.errors import BMOError, DataError

#: Downloads larger than this many bytes show a progress bar.
BAR_FROM = 1_000_000
#: Seconds after which a temporary file that nobody wrote to belongs to a process that was killed.
STALE = 3600.0
#: Seconds during which a file may change again without a change of its time stamp.
FRESH = 2.0
_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
_CHUNK = 1 << 16


def cache_folder() -> Path:
    """Folder for downloads: the environment variable BMO_CACHE, else ``~/.cache/bmo``.

    Example:
        >>> from unittest.mock import patch
        >>> with patch.dict("os.environ", BMO_CACHE="some/elsewhere"):
        ...     cache_folder().name
        'elsewhere'
    """
    chosen = os.environ.get("BMO_CACHE")
    return Path(chosen).expanduser() if chosen else Path.home() / ".cache" / "bmo"


def _digest(path: str) -> str:
    with open(path, "rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


@lru_cache(maxsize=4096)
def _known(path: str, size: int, modified_ns: int, changed_ns: int) -> str:
    return _digest(path)


def sha256_of(path: Path | str) -> str:
    """sha256 of a file's bytes, 64 hexadecimal digits.

    Within one process the digest is computed again when the file's size or one of its times
    of change differs, and always while the file is younger than :data:`FRESH` seconds.

    Example:
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     path = Path(folder) / "abc.txt"
        ...     _ = path.write_bytes(b"abc")
        ...     sha256_of(path)[:16]
        'ba7816bf8f01cfea'
    """
    path = Path(path)
    state = path.stat()
    times = state.st_mtime_ns, state.st_ctime_ns
    if abs(time.time_ns() - max(times)) < FRESH * 1e9:
        return _digest(str(path))
    return _known(str(path.resolve()), state.st_size, *times)


def check(path: Path, sha256: str, *, source: str, error: type[BMOError] = DataError) -> Path:
    """Return ``path`` if its bytes have the given sha256, and refuse it otherwise.

    Args:
        path: An existing file.
        sha256: What the digest has to be.
        source: Where a good copy comes from; named in the error.
        error: The class of error to raise.

    Raises:
        DataError: (or ``error``) if the file is missing, unreadable, truncated or altered.

    Example:
        >>> check(Path("no.png"), "00", source="https://example.org/no.png")  # doctest: +ELLIPSIS
        Traceback (most recent call last):
        ...
        bmo.errors.DataError: required: a readable file no.png; got: none; ...
    """
    try:
        found = sha256_of(path)
    except OSError as problem:
        reason = "none" if isinstance(problem, FileNotFoundError) else str(problem)
        raise error(
            f"a readable file {path}", reason, f"get it from {source}", str(path)
        ) from problem
    if found != sha256:
        size = path.stat().st_size
        raise error(
            f"sha256 {sha256}",
            f"{path} with sha256 {found} ({size} bytes): altered or truncated",
            f"delete that file; a good copy is at {source}",
            str(path),
        )
    return path


def write_atomic(path: Path | str, content: bytes, error: type[BMOError] = DataError) -> Path:
    """Write a whole file under a name of its own, then rename it to ``path``.

    Raises:
        DataError: (or ``error``) if the folder cannot be made or written, or the disk is full;
            a file that was there is untouched.

    Example:
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     write_atomic(Path(folder) / "new" / "a.txt", b"abc").read_bytes()
        b'abc'
    """
    path = Path(path)
    part = _part(path)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        _clear(path)
        with open(part, "xb") as stream:
            stream.write(content)
            stream.flush()
            os.fsync(stream.fileno())
        os.replace(part, path)
    except OSError as problem:
        _discard(part)
        full = problem.errno in _FULL
        raise error(
            f"{f'room for {len(content)} bytes in' * full}"
            f"{'a folder that can be written:' * (not full)} {path.parent}",
            str(problem),
            f"{'free some space' * full}{'change its permissions' * (not full)}, or choose another "
            "folder",
            str(path),
        ) from problem
    return path


def download(
    url: str,
    path: Path,
    sha256: str,
    *,
    size: int | None = None,
    attempts: int = 3,
    pause: float = 1.0,
    timeout: float = 30.0,
    error: type[BMOError] = DataError,
) -> Path:
    """Download to ``path``; nothing appears there unless its sha256 is the expected one.

    Args:
        url: An address that :func:`urllib.request.urlopen` understands.
        path: Where the file goes; its folder is made.
        sha256: What the digest has to be.
        size: Expected bytes, for the progress bar.
        attempts: How often to try; "not found" (404, 410) is not tried again.
        pause: Seconds before the second attempt; doubled each time.
        timeout: Seconds without any answer after which an attempt fails.
        error: The class of error to raise.

    Raises:
        DataError: (or ``error``) if no attempt brings the right bytes, or the folder cannot
            be written.
    """
    reason = ""
    for attempt in range(attempts):
        if attempt:
            time.sleep(pause * 2 ** (attempt - 1))
        try:
            content = _receive(url, path.name, size, timeout)
        except (OSError, http.client.HTTPException, ValueError) as problem:
            reason = f"{url}: {problem}"
            if isinstance(problem, urllib.error.HTTPError) and problem.code in (404, 410):
                break
            continue
        found = hashlib.sha256(content).hexdigest()
        if found == sha256:
            return write_atomic(path, content, error)
        reason = f"{url} sent {len(content)} bytes with sha256 {found}"
    raise error(
        f"{path.name} with sha256 {sha256}",
        reason or "no attempt was allowed",
        f"check the connection, or put the file of {url} at {path}",
        url,
    )


def _receive(url: str, name: str, size: int | None, timeout: float) -> bytes:
    content = bytearray()
    # None: the bar hides itself where nobody watches (a log file, a pipe).
    hidden = None if (size or 0) >= BAR_FROM else True
    with (
        urllib.request.urlopen(url, timeout=timeout) as answer,
        tqdm(total=size, desc=name, unit="B", unit_scale=True, disable=hidden) as bar,
    ):
        while piece := answer.read(_CHUNK):
            content += piece
            bar.update(len(piece))
    return bytes(content)


def _part(path: Path) -> Path:
    return path.with_name(f".{path.name}.{uuid.uuid4().hex}.part")


def _clear(path: Path) -> None:
    """Remove what killed processes left: temporary files of ``path`` that nobody writes to."""
    for name in glob.glob(f".{glob.escape(path.name)}.*.part", root_dir=path.parent):
        part = path.parent / name
        try:
            stale = time.time() - part.stat().st_mtime > STALE
        except OSError:
            continue  # its writer has just finished
        if stale:
            _discard(part)


def _discard(part: Path) -> None:
    try:
        part.unlink(missing_ok=True)
    except OSError:
        # The folder itself is out of reach; the error that brought us here says so.
        return
