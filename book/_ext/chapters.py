"""Number theorems, figures and equations by chapter: Theorem 3.1 is in chapter 3 for ever.

The chapter's number is the one in its file's name: ``book/03-km`` and its notebook
``notebooks/03-km`` share the 3. Sphinx would number by the place in the table of
contents, and each new chapter would then shift all later ones. An appendix has a letter
instead: ``book/c-own-problem`` and ``notebooks/c-own-tv`` share the C.
"""

from __future__ import annotations

import re
from typing import Any, cast

from sphinx.application import Sphinx
from sphinx.environment import BuildEnvironment
from sphinx.environment.collectors.toctree import TocTreeCollector


def chapter(docname: str) -> tuple[int | str, ...]:
    """Return the number in a page's name, the letter of an appendix, or nothing."""
    match = re.search(r"/(\d\d|[a-z])-[^/]*$", docname)
    if match is None:
        return ()
    return (int(match.group(1)),) if match.group(1).isdigit() else (match.group(1).upper(),)


def number(app: Sphinx, env: BuildEnvironment) -> list[str]:
    """Number again, with the chapters in place of Sphinx's own section numbers."""
    shown, before = env.toc_secnumbers, env.toc_fignumbers
    # letters of appendices stand where Sphinx expects numbers: it only prints them
    env.toc_secnumbers = {name: {"": cast(Any, chapter(name))} for name in env.found_docs}
    changed = TocTreeCollector().assign_figure_numbers(env)
    env.toc_secnumbers = shown  # headings carry their number in their own text
    for name, numbers in before.items():  # the paper's Algorithm 1 stays Algorithm 1
        if "algorithm" in numbers:
            env.toc_fignumbers[name]["algorithm"] = numbers["algorithm"]
    return changed


def setup(app: Sphinx) -> dict[str, bool]:
    """Run after Sphinx has numbered."""
    app.connect("env-get-updated", number, priority=900)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
