"""Where a result comes from: the device, the versions, the commit and the command."""

from __future__ import annotations

import os
import platform
import shlex
import subprocess
import sys
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path
from typing import Any

import torch

from bmo.errors import RecordError

DISTRIBUTION = "bmo-book"
_PACKAGES = (DISTRIBUTION, "torch", "numpy", "scikit-image")


def provenance_now(device: torch.device | str = "cpu") -> dict[str, Any]:
    """The fields of a record that describe this process and this moment.

    Args:
        device: Where the computation ran.

    Returns:
        ``created``, ``command``, ``device``, ``versions`` and ``commit``, ready for
        ``Record(**provenance_now(), ...)``. The commit is None where it cannot be known; the
        environment variable BMO_COMMIT states it for a copy without its history.

    Example:
        >>> sorted(provenance_now())
        ['command', 'commit', 'created', 'device', 'versions']
    """
    return {
        "created": datetime.now(UTC).isoformat(timespec="seconds"),
        "command": command(),
        "device": device_name(device),
        "versions": versions(),
        "commit": commit(),
    }


def command() -> str:
    """The command line of this process, as a reader would type it.

    Example:
        >>> from unittest.mock import patch
        >>> with patch("sys.argv", ["/x/bmo/__main__.py", "train", "sparse-coding"]):
        ...     command()
        'python -m bmo train sparse-coding'
    """
    program, *arguments = sys.argv or [""]
    path = Path(program)
    start = f"python -m {path.parent.name}" if path.name == "__main__.py" else f"python {path.name}"
    return " ".join([start.strip(), *(shlex.quote(a) for a in arguments)])


def device_name(device: torch.device | str) -> str:
    """A device in words: a GPU's model, or the processor's and the number of threads.

    Example:
        >>> "thread" in device_name("cpu")
        True
    """
    chosen = torch.device(device)
    if chosen.type == "cuda":
        return torch.cuda.get_device_name(chosen)
    if chosen.type != "cpu":
        return str(chosen)
    threads = torch.get_num_threads()
    return f"{_processor()}, {threads} thread{'s' * (threads > 1)}"


def _processor() -> str:
    try:
        with open("/proc/cpuinfo", encoding="utf-8") as lines:
            for line in lines:
                if line.startswith("model name"):
                    return line.split(":", 1)[1].strip()
    except OSError:
        pass  # not Linux: the platform module knows enough
    return platform.processor() or platform.machine()


def versions() -> dict[str, str]:
    """Versions of Python and of the packages that decide a result, as installed.

    Example:
        >>> "torch" in versions()
        True
    """
    found = {"python": platform.python_version()}
    for package in _PACKAGES:
        try:
            found[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            continue
    return found


def commit() -> str | None:
    """Commit of this project's source, with ``-dirty`` when tracked files were changed.

    None when the package does not run from a checkout of its own repository.
    """
    stated = os.environ.get("BMO_COMMIT")
    if stated:
        return stated
    here = Path(__file__).resolve()
    # An installed copy may lie inside somebody else's repository: ours tracks this file.
    if _git(here.parent, "ls-files", "--error-unmatch", here.name) is None:
        return None
    head = _git(here.parent, "rev-parse", "HEAD")
    changed = _git(here.parent, "status", "--porcelain", "--untracked-files=no")
    return None if head is None else head + ("-dirty" if changed else "")


def _git(folder: Path, *arguments: str) -> str | None:
    try:
        answer = subprocess.run(
            ["git", *arguments], cwd=folder, capture_output=True, text=True, timeout=20, check=True
        )
    except (OSError, subprocess.SubprocessError):
        return None
    return answer.stdout.strip()


def project_address() -> str:
    """The project's address, as ``[project.urls] Repository`` of the installed package says.

    Raises:
        RecordError: The package is not installed, or states no address.

    Example:
        >>> from bmo.record import project_address
        >>> project_address().split("/")[2]
        'github.com'
    """
    for entry in _metadata().get_all("Project-URL") or []:
        label, _, address = entry.partition(",")
        if label.strip() == "Repository":
            return str(address.strip().rstrip("/").removesuffix(".git"))
    raise RecordError(
        "an address 'Repository' among the package's URLs",
        "none",
        "state it in [project.urls] of pyproject.toml and install again",
    )


def project_version() -> str:
    """Version of the installed package.

    Raises:
        RecordError: The package is not installed.

    Example:
        >>> import bmo
        >>> from bmo.record import project_version
        >>> project_version() == bmo.__version__
        True
    """
    return str(_metadata()["Version"])


def _metadata() -> metadata.PackageMetadata:
    try:
        return metadata.metadata(DISTRIBUTION)
    except metadata.PackageNotFoundError as problem:
        raise RecordError(
            f"the installed package {DISTRIBUTION}",
            "only its source",
            "pip install it (pip install -e . in a checkout)",
            DISTRIBUTION,
        ) from problem
