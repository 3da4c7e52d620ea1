"""Build the HTML of the book from stored outputs; every warning is an error.

.venv/bin/python tests/tools/build_book.py
"""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import api_pages
import claims_table
import deconv_table
import efficiency
import methods_table
import notation
import rain_table
import readme_gaussian
import readme_table
import report
import sparse_table
from bookfiles import HTML, ROOT
from sync_address import sync

#: Each has ``write()``, which makes its pages, or its table of the README, anew from the ledger,
#: records and docstrings.
MAKERS: tuple[Any, ...] = (
    *(claims_table, report, methods_table, sparse_table, deconv_table, rain_table),
    *(efficiency, notation, api_pages, readme_gaussian, readme_table),
)
BUILD = ["build", ".", "-W", "-n", "--keep-going", "-q"]


def main() -> int:
    """Carry the address and the ledger over, build from nothing, and say where the book lies."""
    for name in sync():
        print(f"{name}: address changed")
    for maker in MAKERS:
        for name in maker.write():
            print(f"{name}: written again from its source")
    shutil.rmtree(ROOT / "_build", ignore_errors=True)
    code = subprocess.run(
        [Path(sys.executable).with_name("jupyter-book"), *BUILD], cwd=ROOT
    ).returncode
    if code == 0:
        print(f"The book is built: open {(HTML / 'index.html').relative_to(ROOT)}")
    return code


if __name__ == "__main__":
    sys.exit(main())
