"""Write the README's figure: the first figure that the start notebook has stored.

    .venv/bin/python tests/tools/readme_figure.py

`make notebooks` runs it, and a test compares the two, so the README cannot
show an older picture than the book.
"""

from __future__ import annotations

import base64
from pathlib import Path

from bookfiles import ROOT, code_cells, load

FIGURE = Path("book/_static/start.png")


def stored(root: Path = ROOT) -> bytes:
    """Return the first picture of the start notebook."""
    for cell in code_cells(load(root / "notebooks/00-start.ipynb")):
        for output in cell.outputs:
            if "image/png" in output.get("data", {}):
                return base64.b64decode(output.data["image/png"])
    raise LookupError("notebooks/00-start.ipynb has no figure: run `make notebooks`")


if __name__ == "__main__":
    (ROOT / FIGURE).write_bytes(stored())
