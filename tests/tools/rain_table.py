"""Write the tables of chapter 12, and the one of the README between its two markers.

    .venv/bin/python tests/tools/rain_table.py

Source: the records alone. `make book` runs it, and tests compare. A record that is not there gives
rows that say so.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from bookfiles import ROOT, between, rewrite
from methods_table import GENERATED, grid

from bmo.baselines.deraining.report import MIX
from bmo.record import Record, provenance, read

FOLDER = Path("notebooks/recorded")
OURS, PEERS = "deraining.small.json", "deraining-peers.full.json"
SETS = ("rain100l", "rain100h")
CELLS = tuple((dataset, channel) for channel in ("Y", "RGB") for dataset in SETS)
HEAD = ["Rain100L, Y", "Rain100H, Y", "Rain100L, RGB", "Rain100H, RGB"]
LAST, BEST, ABSENT = 1000, "bmo", "not yet run"
#: Method of a record → its name on the page, and what it has learned from.
NAMES = {
    "input": ("the rainy image", "–"),
    "unh-directional": ("directional sparse model", "two numbers"),
    "ena-prn": ("PRN", "own pairs"),
    "ena-prenet": ("PReNet", "own pairs"),
    "ena": ("end to end, `ena`", "synthetic rain"),
    "gkm": ("μ = 0, `gkm`", "synthetic rain"),
    "bmo": ("μ > 0, `bmo`", "synthetic rain"),
    "bmo-h": ("anchored, `bmo-h`", "synthetic rain"),
}
TRAINED = ("ena", "gkm", "bmo", "bmo-h")
PRINTED = {"gmm": "GMM", "jorder": "JORDER", "rescan": "RESCAN", "prn": "PRN", "prenet": "PReNet",
           "rcdnet": "RCDNet", "restormer": "Restormer"}  # fmt: skip


def found(name: str, root: Path = ROOT) -> Record | None:
    """Return a record, or None where it is not there."""
    path = root / FOLDER / name
    return read(path) if path.is_file() else None


def depth_of(ours: Record) -> int:
    """Return the depth of the table: the largest one measured on every pair."""
    return int(max(ours.settings["depths"]))


def shown(record: Record, method: str, cell: tuple[str, str], **where: Any) -> str:
    """Return PSNR and SSIM of a cell; a dash where it was not measured."""
    dataset, channel = cell
    values = []
    for metric in ("psnr", "ssim"):
        asked = {"method": method, "metric": metric, "dataset": dataset, "channel": channel}
        rows = record.select(**asked, **where)
        if not rows:
            return "–"
        values.append(rows[0]["value"])
    return f"{values[0]:.2f} / {values[1]:.3f}"


def certificate(record: Record, method: str) -> str:
    """Return whether convergence is proved, in a word."""
    rows = record.select(method=method, metric="psnr", source="measured")
    return "no" if rows[0]["setting"]["certified"] == "none" else "yes"


def measured(record: Record, method: str, **where: Any) -> list[str]:
    """Return a measured line."""
    name, learned = NAMES[method]
    cells = [shown(record, method, cell, source="measured", **where) for cell in CELLS]
    certified = "–" if method == "input" else certificate(record, method)
    return [name, "measured", learned, certified, *cells]


def published(peers: Record, mixed: bool) -> list[list[str]]:
    """Return the lines of others: trained on one mix of pairs, or not."""
    lines = []
    for method in dict.fromkeys(r["method"] for r in peers.select(source="published")):
        row = peers.select(source="published", method=method)[0]["setting"]
        if (row["training"] == MIX) == mixed:
            cells = [shown(peers, method, cell, source="published") for cell in CELLS]
            name = f"{PRINTED[method]} {{cite}}`{row['citation']}`"
            lines.append([name, "published", row["training"], "–", *cells])
    return lines


def ours_lines(ours: Record | None) -> list[list[str]]:
    """Return our lines, or that there are none yet."""
    if ours is None:
        name, learned = NAMES[BEST]
        return [[name, ABSENT, learned, "yes", *["–"] * len(CELLS)]]
    methods = [m for m in TRAINED if m in ours.settings["methods"]]
    return [measured(ours, method, depth=depth_of(ours)) for method in methods]


def peer_lines(peers: Record | None) -> list[list[str]]:
    """Return the measured lines of others, or that there are none yet."""
    if peers is None:
        return [["methods of others", ABSENT, "–", "–", *["–"] * len(CELLS)]]
    known = {row["method"] for row in peers.select(source="measured")}
    return [measured(peers, method) for method in NAMES if method in known]


def main_table(ours: Record | None, peers: Record | None) -> str:
    """Return the table of all methods: measured by us beside published."""
    lines = [*peer_lines(peers), *ours_lines(ours)]
    if peers is not None:
        lines[1:1] = published(peers, mixed=False)
    text = grid(["method", "source", "learned from", "certificate", *HEAD], lines)
    notes = [provenance(record) for record in (ours, peers) if record is not None]
    return "\n\n".join([text.rstrip("\n"), *notes]) + "\n"


def mix_table(peers: Record | None) -> str:
    """Return the published lines of the other protocol."""
    lines = [] if peers is None else published(peers, mixed=True)
    chosen = [[*line[:3], *line[4:6]] for line in lines] or [[ABSENT, *["–"] * 4]]
    return grid(["method", "source", "learned from", *HEAD[:2]], chosen)


def convergence(ours: Record | None) -> str:
    """Return the worst of the convergence cases for each method."""
    head = ["method", "certificate", "largest residual", "largest loss, dB", "lost"]
    if ours is None:
        return grid(head, [[NAMES[BEST][0], "yes", ABSENT, "–", "–"]])
    lines = []
    for method in (m for m in TRAINED if m in ours.settings["methods"]):
        left, loss, gone = (
            ours.value(method=method, metric=metric, case="worst of all")
            for metric in ("relative_residual", "psnr_drop", "diverged")
        )
        residual = "–" if gone else "< 1e-6" if left < 1e-6 else f"{left:.0e}"
        name = NAMES[method][0]
        lines.append([name, certificate(ours, method), residual, f"{loss:.2f}", f"{gone:.0f}"])
    return grid(head, lines)


def tables(root: Path = ROOT) -> dict[Path, str]:
    """Return the text of the files."""
    ours, peers = found(OURS, root), found(PEERS, root)
    return {
        GENERATED / "rain-table.txt": main_table(ours, peers),
        GENERATED / "rain-mix.txt": mix_table(peers),
        GENERATED / "rain-cases.txt": convergence(ours),
    }


def ours(root: Path = ROOT) -> list[str] | None:
    """Return the figures on Y of the best certified method, for the report; None without record."""
    record = found(OURS, root)
    if record is None:
        return None
    return [shown(record, BEST, cell, depth=depth_of(record)) for cell in CELLS[:2]]


def short(root: Path = ROOT) -> str:
    """Return the README's table: PSNR / SSIM on Y."""
    ours, peers = found(OURS, root), found(PEERS, root)
    wanted = ("input", "unh-directional", "ena-prenet")
    lines = peer_lines(peers)
    if peers is not None:
        lines = [measured(peers, method) for method in wanted if peers.select(method=method)]
        others = [line for line in published(peers, False) if line[0].startswith("RCDNet")]
        lines += [["RCDNet", *line[1:]] for line in others]
    lines += ours_lines(ours)
    head = ["method", "source", "learned from", "certificate", *HEAD[:2]]
    notes = [provenance(record) for record in (ours,) if record is not None]
    return "\n\n".join([grid(head, [line[:6] for line in lines]).rstrip("\n"), *notes]) + "\n"


def written(text: str, root: Path = ROOT) -> str:
    """Return the README with its table made anew."""
    return between(text, "deraining", short(root))


def write(root: Path = ROOT) -> list[str]:
    """Write what has changed; return the names of these files."""
    readme = written((root / "README.md").read_text("utf8"), root)
    return rewrite({**tables(root), Path("README.md"): readme}, root)


if __name__ == "__main__":
    print(write() or "unchanged")
