"""An environment like Colab's: the built wheel, its dependencies, and Jupyter's kernel.

Nothing is downloaded. The wheel is installed for real; each distribution that it
needs is linked from the environment that runs the tests, and no other.
"""

from __future__ import annotations

import json
import re
import subprocess
import sys
import venv
import zipfile
from importlib import metadata
from pathlib import Path

from packaging.requirements import Requirement

KERNEL = "colab"
# Colab is a Jupyter: it has a kernel and, as a module that is already loaded, google.colab.
JUPYTER = ["ipykernel"]
PIP = """from IPython.core.magic import register_line_magic

@register_line_magic
def pip(line):
    with open({record!r}, "a") as stream:
        stream.write(line + "\\n")
"""


def build_wheel(root: Path, folder: Path) -> Path:
    """Build the wheel of the project with the build tools that are already here."""
    subprocess.run(
        [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(folder)],
        cwd=root,
        check=True,
        capture_output=True,
    )
    (wheel,) = folder.glob("*.whl")
    return wheel


def requirements(wheel: Path) -> list[str]:
    """Return what the wheel asks for, without extras."""
    with zipfile.ZipFile(wheel) as archive:
        (name,) = [name for name in archive.namelist() if name.endswith(".dist-info/METADATA")]
        text = archive.read(name).decode("utf8")
    return re.findall(r"^Requires-Dist: (.+)$", text, re.MULTILINE)


def closure(wanted: list[str]) -> dict[str, metadata.Distribution]:
    """Return every distribution that the requirements lead to, as installed here."""
    found: dict[str, metadata.Distribution] = {}
    todo = [(Requirement(text), frozenset[str]()) for text in wanted]
    seen: set[tuple[str, frozenset[str]]] = set()
    while todo:
        needed, extras = todo.pop()
        # A requirement counts when its marker holds without extras or with one that was asked for.
        if needed.marker and not any(
            needed.marker.evaluate({"extra": extra}) for extra in extras | {""}
        ):
            continue
        name = re.sub(r"[-_.]+", "-", needed.name).lower()
        asked = frozenset(needed.extras)
        if (name, asked) in seen:
            continue
        seen.add((name, asked))
        found[name] = metadata.distribution(needed.name)
        todo += [(Requirement(text), asked) for text in found[name].requires or []]
    return found


def link(distribution: metadata.Distribution, target: Path) -> None:
    """Make one installed distribution visible in another environment."""
    tops = {
        file.parts[0]
        for file in distribution.files or []
        if file.parts[0] not in ("..", "__pycache__")
    }
    for top in tops:
        place = target / top
        if not place.exists():
            place.symlink_to(Path(str(distribution.locate_file(top))).resolve())


def make(folder: Path, wheel: Path, record: Path) -> Path:
    """Make the environment and its kernel; return its Python.

    Args:
        folder: An empty folder for all of it.
        wheel: The built wheel of the package.
        record: The file to which ``%pip`` appends its arguments instead of running.
    """
    venv.EnvBuilder(with_pip=False, symlinks=True).create(folder / "env")
    python = folder / "env" / "bin" / "python"
    version = f"python{sys.version_info.major}.{sys.version_info.minor}"
    site = folder / "env" / "lib" / version / "site-packages"
    for distribution in closure([*requirements(wheel), *JUPYTER]).values():
        link(distribution, site)
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(site)
    stub = site / "google" / "colab"
    stub.mkdir(parents=True)
    (stub / "__init__.py").write_text('"""Stands for the module that Colab has."""\n')
    (site / "colab.pth").write_text("import google.colab\n")
    startup = folder / "ipython" / "profile_default" / "startup"
    startup.mkdir(parents=True)
    (startup / "00-pip.py").write_text(PIP.format(record=str(record)))
    kernel = folder / "jupyter" / "kernels" / KERNEL
    kernel.mkdir(parents=True)
    (kernel / "kernel.json").write_text(
        json.dumps(
            {
                "argv": [str(python), "-m", "ipykernel_launcher", "-f", "{connection_file}"],
                "display_name": "Colab",
                "language": "python",
                "env": {"IPYTHONDIR": str(folder / "ipython")},
            }
        )
    )
    return python
