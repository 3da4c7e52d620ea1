"""The built book: every page, link, formula and address."""

from __future__ import annotations

import ast
import re
import shutil
from pathlib import Path

import checks
import pytest
import sync_address
from bookfiles import HTML, ROOT, config, files, html_pages, notebooks, page, text_files, toc_pages


def test_the_book_is_built() -> None:
    assert (HTML / "index.html").is_file(), "build it first: make book"


def test_every_page_of_the_toc_is_in_the_html_and_nothing_else() -> None:
    assert checks.missing_pages(ROOT, HTML) == []
    assert len(html_pages()) == len(toc_pages()) == len(set(toc_pages()))


def test_every_notebook_and_chapter_is_in_the_toc() -> None:
    lying = {path.relative_to(ROOT).with_suffix("").as_posix() for path in notebooks()}
    lying |= {f"book/{path.stem}" for path in (ROOT / "book").glob("*.md")}
    assert lying == set(toc_pages())


@pytest.mark.parametrize("name", toc_pages())
def test_a_page_has_one_title(name: str) -> None:
    article = page(HTML / f"{name}.html").soup.find("article")
    assert article is not None
    assert len(article.find_all("h1")) == 1


NUMBERED = [name for name in toc_pages() if re.search(r"/(\d\d|[a-z])-", name)]


@pytest.mark.parametrize("name", NUMBERED)
def test_theorems_figures_and_equations_carry_the_number_of_their_chapter(name: str) -> None:
    stem = Path(name).name.split("-")[0]
    chapter = str(int(stem)) if stem.isdigit() else stem.upper()
    soup = page(HTML / f"{name}.html").soup
    captions = [tag.get_text().strip() for tag in soup.select(".caption-number")]
    captions += [tag.get_text().strip("()¶# ") for tag in soup.select("span.eqno")]
    numbered = [caption for caption in captions if not caption.startswith("Algorithm")]
    assert [caption for caption in numbered if caption.split()[-1].split(".")[0] != chapter] == []


def test_internal_links_and_anchors_resolve() -> None:
    assert checks.broken_links(HTML) == []


def test_formulas_pass_through_mathjax() -> None:
    macros = config()["sphinx"]["config"]["mathjax3_config"]["tex"]["macros"]
    wanted = checks.formulas(HTML)
    assert wanted, "no formula found"
    assert checks.refused_formulas(wanted, macros) == []


def test_no_formula_is_left_as_text() -> None:
    assert checks.raw_math(HTML) == []


def called(tree: ast.AST) -> set[str]:
    """The names of what is called: of functions, and of a figure's methods that show pictures."""
    found = {part.func for part in ast.walk(tree) if isinstance(part, ast.Call)}
    plain = {name.id for name in found if isinstance(name, ast.Name)}
    return plain | {name.attr for name in found if getattr(name, "attr", "") == "imshow"}


def test_the_dark_theme_knows_photographs_from_charts() -> None:
    """A chart is turned over there, a photograph is not: it has the class ``photo``."""
    kinds = set()
    for path in html_pages():
        shows = {"imshow"}  # and the functions of this notebook that call it
        for cell in page(path).soup.select("div.cell"):
            code = "".join(tag.get_text() for tag in cell.select("div.cell_input"))
            tree = ast.parse(
                "\n".join(x for x in code.splitlines() if not x.lstrip().startswith("%"))
            )
            for part in ast.walk(tree):
                if isinstance(part, ast.FunctionDef) and called(part) & {"imshow"}:
                    shows.add(part.name)
            for image in cell.select("div.cell_output img"):
                photo = "photo" in image.get("class", [])
                assert photo == bool(called(tree) & shows), path.name
                kinds.add(photo)
    assert kinds == {False, True}


def test_no_line_begins_with_the_full_stop_of_a_formula() -> None:
    """A formula and the mark after it are one piece (``book/_ext/typography.py``)."""
    kept, apart = 0, []
    for path in html_pages():
        if path.stem.startswith("b-api"):  # docstrings: their fields are no paragraphs
            continue
        soup = page(path).soup
        kept += len(soup.select("span.keep > span.math"))
        for formula in soup.select("article p:not(.admonition-title) > span.math"):
            after = formula.next_sibling
            if isinstance(after, str) and re.match(r"[.,;:!?)\]]", after):
                apart.append(f"{path.name}: {formula.get_text()}{after[:20]}")
    assert apart == [] and kept > 1000


def test_nothing_is_loaded_from_the_network() -> None:
    outside = [
        f"{path.name}: {link}"
        for path in html_pages()
        for tag, link in page(path).links
        if tag in ("script", "img", "source") and re.match("(https?:)?//", link)
    ]
    assert outside == []


def test_every_notebook_opens_in_colab_at_the_address_of_pyproject() -> None:
    owner = sync_address.short(sync_address.address())
    start = f"https://colab.research.google.com/github/{owner}/blob/main/"
    tracked = {path.relative_to(ROOT).as_posix() for path in files()}
    opened = set()
    for path in html_pages():
        links = {link for _, link in page(path).links if "colab.research.google.com" in link}
        for link in links:
            assert link.startswith(start), link
            assert link.removeprefix(start) in tracked, link
        opened |= {link.removeprefix(start) for link in links}
    assert opened >= {path.relative_to(ROOT).as_posix() for path in notebooks()}


def test_the_printed_address_is_that_of_pyproject() -> None:
    address = sync_address.address()
    assert sync_address.printed() == address
    for path in text_files():
        for link in re.findall(r"github\.com/[\w.-]+/bmo-book", path.read_text("utf8")):
            assert address.endswith(link), f"{path.name}: {link}"


def test_a_new_address_arrives_everywhere(tmp_path: Path) -> None:
    old = sync_address.address()
    new = "https://github.com/someone-else/another-name"
    users = [path for path in text_files() if old in path.read_text("utf8")]
    for path in [*users, ROOT / "_config.yml"]:
        copy = tmp_path / path.relative_to(ROOT)
        copy.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(path, copy)
    stated = tmp_path / "pyproject.toml"
    stated.write_text(stated.read_text("utf8").replace(old, new), "utf8")

    changed = sync_address.sync(tmp_path)

    expected = {path.relative_to(ROOT).as_posix() for path in users} - {"pyproject.toml"}
    assert set(changed) == expected
    assert {"_config.yml", "README.md"} <= expected
    assert {f"notebooks/{path.name}" for path in notebooks()} <= expected
    for name in changed:
        text = (tmp_path / name).read_text("utf8")
        assert new in text
        assert sync_address.short(old) not in text
    assert sync_address.sync(tmp_path) == []
