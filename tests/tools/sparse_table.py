"""Write the tables "What came out" of chapter 10.

    .venv/bin/python tests/tools/sparse_table.py

Source: the records alone. `make book` runs it, and a test compares.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from bookfiles import ROOT, rewrite
from methods_table import GENERATED, grid

from bmo.record import Record, provenance, read
from bmo.record import table as images_table

FOLDER = Path("notebooks/recorded")
GAUSSIAN, IMAGES = "sparse-coding-gaussian.page.json", "sparse-coding.full.json"
#: The large instance, once it is recorded.
LARGE = "sparse-coding-gaussian.full.json"
DEPTHS = (16, 64, 1000)
RULES = {"nmse": ", by error", "f+g": ", by cost"}
HEAD = ["method", *map(str, DEPTHS), "residual", "certificate"]
COSTS = ["method", "products", "parameters", "training", "its step"]
LAYERS = "† 16 different layers; from then on the last one is repeated."
LEVELS = {"30db": "Noise at 30 dB", "noiseless": "No noise"}


def methods(record: Record, noise: str) -> list[dict[str, Any]]:
    """Return what finds the rows of each line, in the order of the record."""
    rows = record.select(metric="products_per_step", noise=noise)
    return [
        {"noise": noise, "method": row["method"], "chosen_by": row["setting"].get("chosen_by")}
        for row in rows
    ]


def noises(record: Record) -> list[str]:
    """Return the noise levels, in the order of the record."""
    rows = record.select(metric="products_per_step")
    return list(dict.fromkeys(row["setting"]["noise"] for row in rows))


def name_of(record: Record, where: dict[str, Any]) -> str:
    """Return a method's name, its rule of choice, and a mark if it has layers of its own."""
    (cost,) = record.select(metric="products_per_step", **where)
    mark = "†" if "beyond" in cost["setting"] else ""
    return f"`{where['method']}`{mark}{RULES.get(where['chosen_by'] or '', '')}"


def spread(row: dict[str, Any]) -> str:
    """Return a mean with its standard deviation over the seeds, if there are several."""
    return f"{row['value']:.2f}" + (f" ± {row['std']:.2f}" if row["n"] > 1 else "")


def errors(record: Record, noise: str) -> str:
    """Return the main table: error at each depth, residual at the last, certificate."""
    lines = []
    for where in methods(record, noise):
        at = {"set": "trained", **where}
        found = [record.select(metric="nmse_db", depth=depth, **at)[0] for depth in DEPTHS]
        # the median over the codes
        left = record.value(metric="relative_residual", depth=DEPTHS[-1], **at)
        gone = record.value(metric="diverged", **at) > 0
        shown = [spread(row) for row in found[:-1]]
        shown.append("lost" if gone else spread(found[-1]))
        residual = "–" if gone else "< 1e-13" if left < 1e-13 else f"{left:.0e}"
        lines.append([name_of(record, where), *shown, residual, found[0]["setting"]["certified"]])
    return grid(HEAD, lines)


def costs(record: Record, noise: str) -> str:
    """Return what a step costs, what training cost, and the way to each target."""
    raced = record.select(metric="steps_to_target", noise=noise)
    targets = list(dict.fromkeys(row["setting"]["target"] for row in raced))
    lines = []
    for where in methods(record, noise):
        products = record.value(metric="products_per_step", **where)
        learned = {"noise": noise, "method": where["method"]}
        size, step = (
            record.select(metric=metric, **learned)
            for metric in ("parameters", "core_seconds_per_training_step")
        )
        cells = [f"{size[0]['value']:,.0f}" if size else "0", "–", "–"]
        if step:  # so many equal steps; what else ran meanwhile does not count
            one = step[0]["value"]
            cells[1:] = [f"{record.settings['steps'] * one:.0f} s", f"{1000 * one:.0f} ms"]
        for target in targets:
            steps, seconds = (
                record.select(metric=f"{what}_to_target", target=target, **where)
                for what in ("steps", "core_seconds")
            )
            way = "–"
            if steps:
                way = f"{steps[0]['value']:.0f} ({1000 * seconds[0]['value']:.0f} ms)"
            cells.append(way)
        lines.append([name_of(record, where), f"{products:.0f}", *cells])
    return grid([*COSTS, *(f"to {target:g} dB" for target in targets)], lines)


def gaussian(record: Record) -> str:
    """Return the errors at each noise level, the costs at the first, and where they come from."""
    levels = noises(record)
    parts = []
    for noise in levels:
        parts += [f"**{LEVELS[noise]}.**\n"] * (len(levels) > 1)
        parts += [errors(record, noise), *([costs(record, noise)] * (noise == levels[0]))]
    parts += [f"{LAYERS}\n"] * any("†" in part for part in parts)
    return "\n".join([*parts, f"{provenance(record)}\n"])


def shifts(record: Record) -> str:
    """Return the error at the last depth on every set, for the first noise level."""
    noise = noises(record)[0]
    sets = list(dict.fromkeys(row["setting"]["set"] for row in record.select(metric="diverged")))
    lines = []
    for where in methods(record, noise):
        cells = []
        for name in sets:
            at = {"set": name, **where}
            error = record.value(metric="nmse_db", depth=DEPTHS[-1], **at)
            cells.append("lost" if record.value(metric="diverged", **at) > 0 else f"{error:.1f}")
        lines.append([name_of(record, where), *cells])
    return grid(["method", *sets], lines)


def images(record: Record) -> str:
    """Return the error on natural images, for each noise."""
    shown = images_table(record, ("noise", "method"), "depth", where={"metric": "psnr"})
    return f"{shown.strip()}\n"


def tables(root: Path = ROOT) -> dict[Path, str]:
    """Return the text of the files."""
    bench, natural = (read(root / FOLDER / name) for name in (GAUSSIAN, IMAGES))
    found = {
        GENERATED / "sparse-gaussian.txt": gaussian(bench),
        GENERATED / "sparse-shifts.txt": shifts(bench),
        GENERATED / "sparse-images.txt": images(natural),
    }
    if (root / FOLDER / LARGE).is_file():
        large = read(root / FOLDER / LARGE)
        found[GENERATED / "sparse-gaussian-full.txt"] = gaussian(large)
        found[GENERATED / "sparse-shifts-full.txt"] = shifts(large)
    return found


def write(root: Path = ROOT) -> list[str]:
    """Write what has changed; return the names of these files."""
    return rewrite(tables(root), root)


if __name__ == "__main__":
    print(write() or "unchanged")
