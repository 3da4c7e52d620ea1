"""What is published: the wheel and the source archive hold the package and nothing else."""

from __future__ import annotations

import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

import colab
import pytest
import yaml
from bookfiles import ROOT, files

#: Everything in the package that is not Python.
DATA = {
    *("bmo/py.typed", "bmo/claims.json", "bmo/records.json", "bmo/registry.json"),
    "bmo/bench/targets.json",
}
ABOUT = {"METADATA", "WHEEL", "RECORD", "licenses/LICENSE"}


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return colab.build_wheel(ROOT, tmp_path_factory.mktemp("wheel"))


def listed(wheel: Path) -> tuple[set[str], set[str]]:
    """The files of the package in a wheel, and those about it."""
    names = set(zipfile.ZipFile(wheel).namelist())
    about = {name for name in names if ".dist-info/" in name}
    return names - about, {name.split(".dist-info/")[1] for name in about}


def own() -> set[str]:
    """The files of the package in the repository."""
    found = (path.relative_to(ROOT).as_posix() for path in files())
    return {name for name in found if name.startswith("bmo/")}


def test_the_wheel_holds_the_package_and_nothing_else(wheel: Path) -> None:
    package, about = listed(wheel)
    assert package == own()
    assert {name for name in package if not name.endswith(".py")} == DATA
    assert about == ABOUT
    assert wheel.stat().st_size < 1_000_000


def test_the_wheel_asks_for_what_pyproject_says_and_shows_the_readme(wheel: Path) -> None:
    asked = {text.split(">=")[0] for text in colab.requirements(wheel) if "extra ==" not in text}
    assert asked == {
        *("matplotlib", "numpy", "pillow", "safetensors", "scikit-image", "torch", "tqdm"),
    }
    archive = zipfile.ZipFile(wheel)
    (name,) = [name for name in archive.namelist() if name.endswith("METADATA")]
    text = archive.read(name).decode("utf8")
    assert (ROOT / "README.md").read_text("utf8").splitlines()[0] in text
    assert "License-Expression: MIT" in text and "Requires-Python: >=3.11" in text


def test_the_source_archive_makes_the_same_wheel(wheel: Path, tmp_path: Path) -> None:
    subprocess.run(
        [sys.executable, "-m", "hatchling", "build", "-t", "sdist", "-d", str(tmp_path)],
        cwd=ROOT,
        check=True,
        capture_output=True,
    )
    (archive,) = tmp_path.glob("*.tar.gz")
    with tarfile.open(archive) as source:
        source.extractall(tmp_path, filter="data")
    (folder,) = [path for path in tmp_path.iterdir() if path.is_dir()]
    inside = {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}
    beside = {"pyproject.toml", "PKG-INFO", "README.md", "LICENSE", "CITATION.cff", ".gitignore"}
    assert inside - own() == beside and own() <= inside
    assert listed(colab.build_wheel(folder, tmp_path / "dist")) == listed(wheel)


def test_continuous_integration_runs_what_make_test_runs() -> None:
    lines = (ROOT / ".ci/run").read_text("utf8").splitlines()
    assert lines[-1] == "make test"
    job = yaml.safe_load((ROOT / ".github/workflows/test.yml").read_text("utf8"))["jobs"]["test"]
    newest = [s for s in job["steps"] if s.get("if") == "matrix.which == 'newest'"]
    assert [step["run"] for step in newest] == ["make test"]
