"""Keep a full stop on the line of the formula before it.

A browser takes a formula for a box and may break the line after it, so that the next line begins
with a comma. Formula and mark are put into one piece that does not break.
"""

from __future__ import annotations

import re

from docutils import nodes
from sphinx.application import Sphinx

MARK = re.compile(r"[.,;:!?)\]”]+")


def keep(app: Sphinx, doctree: nodes.document) -> None:
    """Wrap each formula of a paragraph with the marks that follow it at once."""
    for formula in list(doctree.findall(nodes.math)):
        parent = formula.parent
        if not isinstance(parent, nodes.paragraph):
            continue
        at = parent.index(formula)
        after = parent[at + 1] if at + 1 < len(parent) else None
        found = MARK.match(after.astext()) if isinstance(after, nodes.Text) else None
        if found is None:
            continue
        text = after.astext()
        piece = nodes.inline("", "", formula.deepcopy(), nodes.Text(found.group()))
        piece["classes"].append("keep")
        parent[at : at + 2] = [piece, nodes.Text(text[found.end() :])]


def setup(app: Sphinx) -> dict[str, bool]:
    """Run on each page as soon as it is read."""
    app.connect("doctree-read", keep)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
