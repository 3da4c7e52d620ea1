"""Write the tables "What came out" of chapter 10.

    .venv/bin/python tests/tools/sparse_table.py

Source: the records alone. `make book` runs it, and a test compares.
"""

from __future__ import annotations

from pathlib import Path

from bookfiles import ROOT
from methods_table import GENERATED, grid

from bmo.record import Record, provenance, read
from bmo.record import table as images_table

FOLDER = Path("notebooks/recorded")
GAUSSIAN, IMAGES = "sparse-coding-gaussian.page.json", "sparse-coding.full.json"
DEPTHS = (16, 64, 1000)
RULES = {"nmse": ", by error", "f+g": ", by cost"}
HEAD = ["method", "products", "parameters", *map(str, DEPTHS), "residual", "certificate"]


def methods(record: Record) -> list[tuple[str, str | None]]:
    """Return (method, rule of choice) of each line, in the order of the record."""
    rows = record.select(metric="products_per_step")
    return [(row["method"], row["setting"].get("chosen_by")) for row in rows]


def gaussian(record: Record) -> str:
    """Return the main table: cost class, error at each depth, residual at the last."""
    lines = []
    for method, rule in methods(record):
        where = {"method": method, "chosen_by": rule}
        (cost,) = record.select(metric="products_per_step", **where)
        size = record.select(metric="parameters", method=method)
        errors = [
            record.value(metric="nmse_db", set="trained", depth=depth, **where) for depth in DEPTHS
        ]
        left = record.value(
            metric="relative_residual", set="trained", depth=DEPTHS[-1], **where
        )  # the median over the codes
        name = f"`{method}`{RULES.get(rule or '', '')}"
        learned = f"{size[0]['value']:,.0f}" if size else "0"
        gone = record.value(metric="diverged", set="trained", **where) > 0
        shown = [f"{error:.2f}" for error in errors[:-1]]
        shown.append("lost" if gone else f"{errors[-1]:.2f}")
        residual = "–" if gone else "< 1e-13" if left < 1e-13 else f"{left:.0e}"
        certificate = cost["setting"]["certified"]
        lines.append([name, f"{cost['value']:.0f}", learned, *shown, residual, certificate])
    return f"{grid(HEAD, lines)}\n{provenance(record)}\n"


def shifts(record: Record) -> str:
    """Return the error at the last depth on every set."""
    sets = list(dict.fromkeys(row["setting"]["set"] for row in record.select(metric="diverged")))
    lines = []
    for method, rule in methods(record):
        cells = []
        for name in sets:
            where = {"method": method, "chosen_by": rule, "set": name}
            error = record.value(metric="nmse_db", depth=DEPTHS[-1], **where)
            gone = record.value(metric="diverged", **where) > 0
            cells.append("lost" if gone else f"{error:.1f}")
        lines.append([f"`{method}`{RULES.get(rule or '', '')}", *cells])
    return grid(["method", *sets], lines)


def images(record: Record) -> str:
    """Return the error on natural images, for each noise."""
    shown = images_table(record, ("noise", "method"), "depth", where={"metric": "psnr"})
    return f"{shown.strip()}\n"


def tables(root: Path = ROOT) -> dict[Path, str]:
    """Return the text of the files."""
    bench, natural = (read(root / FOLDER / name) for name in (GAUSSIAN, IMAGES))
    return {
        GENERATED / "sparse-gaussian.txt": gaussian(bench),
        GENERATED / "sparse-shifts.txt": shifts(bench),
        GENERATED / "sparse-images.txt": images(natural),
    }


def write(root: Path = ROOT) -> list[str]:
    """Write what has changed; return the names of these files."""
    changed = []
    for path, text in tables(root).items():
        if not (root / path).is_file() or (root / path).read_text("utf8") != text:
            (root / path).write_text(text, "utf8")
            changed.append(path.as_posix())
    return changed


if __name__ == "__main__":
    print(write() or "unchanged")
