"""Keep a formula in the text and the punctuation around it on one line.

A browser takes a formula for a picture, and may break the line between it and the comma that
follows, or between it and the bracket before. Here they become one piece
(``.keep`` in ``book/_static/book.css``).
"""

from __future__ import annotations

import re

from docutils import nodes
from sphinx.application import Sphinx

CLOSING = re.compile(r"^[.,;:!?)\]”’]+")
OPENING = re.compile(r"[(\[“]+$")


def keep(app: Sphinx | None, doctree: nodes.document) -> None:
    """Put each formula of a paragraph into one piece with the punctuation that touches it."""
    for formula in list(doctree.findall(nodes.math)):
        line = formula.parent
        if not isinstance(line, nodes.paragraph):
            continue
        at = line.index(formula)
        before = line[at - 1] if at else None
        after = line[at + 1] if at + 1 < len(line) else None
        left = OPENING.search(before) if isinstance(before, nodes.Text) else None
        right = CLOSING.search(after) if isinstance(after, nodes.Text) else None
        if not (left or right):
            continue
        piece = nodes.inline(classes=["keep"])
        if right:
            line.replace(after, nodes.Text(str(after)[right.end() :]))
        line.replace(formula, piece)
        if left:
            line.replace(before, nodes.Text(str(before)[: left.start()]))
            piece += nodes.Text(left.group())
        piece += formula
        if right:
            piece += nodes.Text(right.group())


def setup(app: Sphinx) -> dict[str, bool]:
    """Run on each page as soon as it is read."""
    app.connect("doctree-read", keep)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
