"""Mark photographs, so that the dark theme does not turn them into negatives.

The dark theme turns every chart over: white paper becomes the page, black lines
become white, and each colour keeps its hue (``book/_static/book.css``). A cell that
calls ``imshow``, by itself or by a function that an earlier cell has defined, shows
pictures, not a chart; its image gets the class ``photo``.
"""

from __future__ import annotations

import re

from docutils import nodes
from sphinx.application import Sphinx

FUNCTION = re.compile(r"^def (\w+)\(.*?(?=^[^\s)]|\Z)", re.MULTILINE | re.DOTALL)


def mark(app: Sphinx, doctree: nodes.document) -> None:
    """Give the class ``photo`` to the images of every cell that shows pictures."""
    shows: list[str] = []
    for cell in doctree.findall(nodes.container):
        if cell.get("nb_element") != "cell_code":
            continue
        source = "".join(block.astext() for block in cell.findall(nodes.literal_block))
        shows += [found[1] for found in FUNCTION.finditer(source) if "imshow(" in found[0]]
        names = "".join(rf"|(?<![.\w]){name}\(" for name in shows)
        if re.search(r"\bimshow\(" + names, source):
            for image in cell.findall(nodes.image):
                image["classes"].append("photo")


def setup(app: Sphinx) -> dict[str, bool]:
    """Run on each page as soon as it is read."""
    app.connect("doctree-read", mark)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
