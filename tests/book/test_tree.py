"""The tree itself: imports, claims, workflows, and no trace of one machine."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import claims
import floors
import pytest
import readme_figure
import yaml
from bookfiles import ROOT, text_files

WORKFLOWS = sorted((ROOT / ".github/workflows").glob("*.yml"))


def test_imports_in_bmo_go_downwards() -> None:
    assert floors.faults(ROOT / "bmo", ROOT / "book/how.md") == []


def test_the_claims_ledger_has_no_orphan() -> None:
    assert claims.ledger(ROOT)
    assert claims.orphans(ROOT) == []


def test_the_entry_shown_on_the_page_is_that_of_the_ledger() -> None:
    page = (ROOT / "book/how.md").read_text("utf8")
    ((shown,),) = [
        yaml.safe_load(block) for block in re.findall(r"\{code-block\} yaml\n(.*?)```", page, re.S)
    ]
    (kept,) = [entry for entry in claims.ledger(ROOT) if entry["id"] == shown["id"]]
    assert {name: kept[name] for name in shown} == shown


@pytest.mark.parametrize(
    ("schema", "paths"),
    [
        ("vendor.github-workflows", WORKFLOWS),
        ("vendor.citation-file-format", [ROOT / "CITATION.cff"]),
    ],
)
def test_workflows_and_citation_follow_their_schema(schema: str, paths: list[Path]) -> None:
    assert [path.name for path in WORKFLOWS] == ["book.yml", "colab.yml", "test.yml"]
    run = subprocess.run(
        [sys.executable, "-m", "check_jsonschema", "--builtin-schema", schema, *map(str, paths)],
        capture_output=True,
        text=True,
    )
    assert run.returncode == 0, run.stdout + run.stderr


def test_the_workflow_tests_the_pythons_and_torches_that_pyproject_promises() -> None:
    matrix = yaml.safe_load((ROOT / ".github/workflows/test.yml").read_text("utf8"))
    rows = matrix["jobs"]["test"]["strategy"]["matrix"]["include"]
    assert {row["python"] for row in rows} == {"3.11", "3.12", "3.13"}
    assert all(
        {"oldest", "newest"} == {r["which"] for r in rows if r["python"] == p["python"]}
        for p in rows
    )
    text = (ROOT / "pyproject.toml").read_text("utf8")
    bound = re.search(r'"torch>=([\d.]+)"', text)
    oldest = [row["torch"] for row in rows if row["which"] == "oldest" and row["python"] == "3.11"]
    assert bound is not None
    assert oldest[0].startswith(bound.group(1))


def test_no_tracked_file_names_a_place_on_one_machine() -> None:
    places = re.compile(r"(?<![\w.])/(?:home|root|Users|work|workspace|mnt)/\w")
    faults = [
        f"{path.relative_to(ROOT)}: {match.group(0)}"
        for path in text_files()
        for match in places.finditer(path.read_text("utf8"))
    ]
    assert faults == []


def test_constraints_hold_one_exact_version_for_each_dependency() -> None:
    lines = (ROOT / "constraints.txt").read_text("utf8").splitlines()
    pins = dict(line.split("==") for line in lines if not line.startswith("#"))
    names = {re.sub(r"[-_.]+", "-", name).lower() for name in pins}
    assert len(names) == len(pins)
    wanted = re.findall(r'^ +"([\w.-]+)[>=<]', (ROOT / "pyproject.toml").read_text("utf8"), re.M)
    assert wanted
    assert {re.sub(r"[-_.]+", "-", name).lower() for name in wanted} <= names


def test_the_readme_shows_the_figure_of_the_start_notebook() -> None:
    assert str(readme_figure.FIGURE) in (ROOT / "README.md").read_text("utf8")
    assert (ROOT / readme_figure.FIGURE).read_bytes() == readme_figure.stored()


@pytest.mark.parametrize("name", ["README.md", "CONTRIBUTING.md"])
def test_links_of_the_pages_outside_of_the_book_resolve(name: str) -> None:
    links = re.findall(r"\]\((?!https?:)([^)#]+)\)", (ROOT / name).read_text("utf8"))
    assert [link for link in links if not (ROOT / link).is_file()] == []
