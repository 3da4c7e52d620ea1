"""Each notebook, alone in an empty folder, with the wheel and its dependencies only."""

from __future__ import annotations

import functools
import shutil
import subprocess
import threading
from collections.abc import Iterator
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, NamedTuple

import colab
import pytest
import sync_address
from bookfiles import ROOT, code_cells, load, notebooks
from nbclient import NotebookClient

pytestmark = pytest.mark.slow


class Colab(NamedTuple):
    python: Path
    folder: Path
    pip: Path
    records: str


class Quiet(SimpleHTTPRequestHandler):
    def log_message(self, format: str, *args: object) -> None:
        """Say nothing."""


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Colab]:
    """The environment, and a server that stands for the project's address."""
    folder = tmp_path_factory.mktemp("colab")
    pip = folder / "pip.txt"
    python = colab.make(folder, colab.build_wheel(ROOT, folder / "dist"), pip)
    handler = functools.partial(Quiet, directory=str(ROOT / "notebooks" / "recorded"))
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield Colab(python, folder, pip, f"http://127.0.0.1:{server.server_port}")
        server.shutdown()
        thread.join()


@pytest.fixture(autouse=True)
def surroundings(place: Colab, monkeypatch: pytest.MonkeyPatch) -> None:
    """What the kernel finds around it: nothing of this machine's settings."""
    for name in ("PYTHONPATH", "BMO_DATA", "BMO_COMMIT", "MPLBACKEND"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("JUPYTER_PATH", str(place.folder / "jupyter"))
    monkeypatch.setenv("BMO_CACHE", str(place.folder / "cache"))
    monkeypatch.setenv("BMO_RECORDS_URL", place.records)


def imports(python: Path, name: str) -> bool:
    """Whether a module can be imported in the environment."""
    run = subprocess.run([python, "-c", f"import {name}"], capture_output=True, cwd=python.parent)
    return run.returncode == 0


def test_the_environment_holds_the_wheel_and_nothing_of_the_source(place: Colab) -> None:
    run = subprocess.run(
        [place.python, "-c", "import bmo, sys; print(bmo.__file__, 'google.colab' in sys.modules)"],
        capture_output=True,
        text=True,
        cwd=place.folder,
        check=True,
    )
    file, stub = run.stdout.split()
    assert Path(file).is_relative_to(place.folder)
    assert stub == "True"


@pytest.mark.parametrize("name", ["torch", "numpy", "matplotlib", "skimage", "safetensors", "tqdm"])
def test_a_dependency_can_be_imported(place: Colab, name: str) -> None:
    assert imports(place.python, name)


@pytest.mark.parametrize(
    "name", ["yaml", "pytest", "h5py", "hypothesis", "sphinx", "bs4", "nbformat", "pip"]
)
def test_what_the_wheel_does_not_ask_for_cannot_be_imported(place: Colab, name: str) -> None:
    assert not imports(place.python, name)


@pytest.mark.parametrize("path", notebooks(), ids=lambda path: path.stem)
def test_a_notebook_runs_alone(place: Colab, path: Path, tmp_path: Path) -> None:
    place.pip.unlink(missing_ok=True)
    notebook = load(Path(shutil.copy(path, tmp_path)))
    client = NotebookClient(
        notebook,
        timeout=300,
        kernel_name=colab.KERNEL,
        resources={"metadata": {"path": str(tmp_path)}},
    )
    client.execute()
    asked = place.pip.read_text("utf8").strip()
    assert asked == f'install --quiet "bmo-book @ git+{sync_address.address()}"'
    assert printed(notebook) == printed(load(path)) != ""


def printed(notebook: Any) -> str:
    """The verdicts, as the last code cell prints them."""
    return "".join(output.get("text", "") for output in code_cells(notebook)[-1].outputs)
