"""Execute notebooks in place and write them without volatile metadata.

    .venv/bin/python tests/tools/run_notebooks.py                      all of them
    .venv/bin/python tests/tools/run_notebooks.py notebooks/03-km.ipynb

A notebook that fails is left as it was. Two runs of a notebook give the same
file, byte for byte, unless its own output is volatile.
"""

from __future__ import annotations

import os
import sys
import time
from pathlib import Path
from typing import Any

import nbformat
from nbclient import NotebookClient
from nbclient.exceptions import CellExecutionError

ROOT = Path(__file__).resolve().parents[2]
KERNEL = {"name": "python3", "display_name": "Python 3", "language": "python"}
TIMEOUT = 300


def clean(notebook: Any) -> None:
    """Drop what differs from run to run or from machine to machine."""
    notebook.metadata = nbformat.from_dict(
        {"kernelspec": dict(KERNEL), "language_info": {"name": "python"}}
    )
    for cell in notebook.cells:
        if cell.cell_type == "code":
            cell.outputs = joined(cell.outputs)
        for key in ("execution", "collapsed", "scrolled", "ExecuteTime", "outputId", "colab"):
            cell.metadata.pop(key, None)


def joined(outputs: list[Any]) -> list[Any]:
    """Join neighbouring pieces of one stream: where a busy machine cuts it is chance."""
    result: list[Any] = []
    for output in outputs:
        last = result[-1] if result else None
        if last and output.output_type == last.output_type == "stream" and output.name == last.name:
            last.text += output.text
        else:
            result.append(output)
    return result


def execute(path: Path) -> float:
    """Run one notebook, write it back, and return the seconds that it took."""
    notebook = nbformat.read(path, as_version=4)
    started = time.perf_counter()
    NotebookClient(
        notebook,
        timeout=TIMEOUT,
        kernel_name=KERNEL["name"],
        record_timing=False,
        resources={"metadata": {"path": str(path.parent)}},
    ).execute()
    seconds = time.perf_counter() - started
    clean(notebook)
    nbformat.validate(notebook)
    nbformat.write(notebook, path)
    return seconds


def main(names: list[str]) -> int:
    """Run the named notebooks (or all); return the number that failed."""
    os.environ["OMP_NUM_THREADS"] = "1"
    os.environ.pop("MPLBACKEND", None)  # or the kernels would not draw
    paths = [Path(name).resolve() for name in names]
    failed = 0
    for path in paths or sorted((ROOT / "notebooks").glob("*.ipynb")):
        try:
            print(f"{path.name}: {execute(path):.1f} s", flush=True)
        except CellExecutionError as error:
            failed += 1
            print(f"{path.name}: FAILED, left as it was\n{error}", file=sys.stderr)
    return failed


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
