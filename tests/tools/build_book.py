"""Build the HTML of the book from stored outputs; every warning is an error.

.venv/bin/python tests/tools/build_book.py
"""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import api_pages
import claims_table
import deconv_table
import efficiency
import methods_table
import notation
import rain_table
import report
import sparse_table
from bookfiles import HTML, ROOT
from sync_address import sync

BUILD = ["build", ".", "-W", "-n", "--keep-going", "-q"]


def main() -> int:
    """Carry the address and the ledger over, build from nothing, and say where the book lies."""
    for name in sync():
        print(f"{name}: address changed")
    if claims_table.write():
        print(f"{claims_table.STATUS}: written again from the ledger")
    for name in report.write():
        print(f"{name}: written again from the ledger and the records")
    for name in methods_table.write():
        print(f"{name}: written again from the registry, notebook 9 and the record")
    for name in sparse_table.write():
        print(f"{name}: written again from the records")
    for name in [*deconv_table.write(), *rain_table.write()]:
        print(f"{name}: written again from the records")
    for name in efficiency.write():
        print(f"{name}: written again from the record")
    for name in notation.write():
        print(f"{name}: written again from the docstrings")
    for name in api_pages.write():
        print(f"{name}: written again from the docstrings")
    shutil.rmtree(ROOT / "_build", ignore_errors=True)
    code = subprocess.run(
        [Path(sys.executable).with_name("jupyter-book"), *BUILD], cwd=ROOT
    ).returncode
    if code == 0:
        print(f"The book is built: open {(HTML / 'index.html').relative_to(ROOT)}")
    return code


if __name__ == "__main__":
    sys.exit(main())
