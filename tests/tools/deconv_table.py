"""Write the tables of chapter 11, and the one of the README between its two markers.

    .venv/bin/python tests/tools/deconv_table.py

Source: the records alone. `make book` runs it, and tests compare.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from bookfiles import ROOT, between, rewrite
from methods_table import GENERATED, grid

from bmo.record import Record, provenance, read

FOLDER = Path("notebooks/recorded")
OURS, CLASSICAL, PEERS = (
    f"{name}.json"
    for name in ("deconvolution.small", "deconvolution-classical.full", "deconvolution-peers.full")
)
IMAGES, PERCENTS = ("butterfly", "leaves", "starfish"), (1.0, 3.0)
CELLS = tuple((image, percent) for percent in PERCENTS for image in IMAGES)
COLUMNS = [f"{image} {percent:g} %" for image, percent in CELLS]
LAST, BEST = 1000, "bmo-long"
#: Method of a record → its name on the page.
NAMES = {
    "unh-wiener": "Wiener filter",
    "unh-wavelets": "wavelets",
    "unh-tv": "total variation",
    "unh-epll": "EPLL, our fit",
    "ena-fdn": "FDN, our training",
    "pnp-ircnn-gray-dpir": "IRCNN, gray networks, DPIR's schedule",
    "pnp-ffdnet-dpir": "FFDNet, DPIR's schedule",
    "pnp-ffdnet-ircnn": "FFDNet, IRCNN's schedule",
    "pnp-ffdnet-stationary": "FFDNet, stationary",
    "pnp": "denoising alone, `pnp`",
    "ena": "end to end, `ena`",
    "gkm": "μ = 0, `gkm`",
    "bmo": "μ > 0, `bmo`",
    "bmo-blind": "no guide, `bmo-blind`",
    "bmo-free": "free network, `bmo-free`",
    "bmo-long": "trained longer, `bmo-long`",
    "corrected": "FFDNet corrected, `corrected`",
    "gkm-ffdnet": "around FFDNet, μ = 0, `gkm-ffdnet`",
    "bmo-ffdnet": "around FFDNet, μ > 0, `bmo-ffdnet`",
}
#: The methods that start at the mean of several runs of FFDNet.
AROUND = ("gkm-ffdnet", "bmo-ffdnet")


def records(root: Path = ROOT) -> tuple[Record, Record, Record]:
    """Return the three records: ours, the classical methods, the peers."""
    ours, classical, peers = (read(root / FOLDER / name) for name in (OURS, CLASSICAL, PEERS))
    return ours, classical, peers


def yes(certified: str) -> str:
    """Return the certificate in a word."""
    return "no" if certified == "none" else "yes"


def cells(record: Record, method: str, **where: Any) -> list[dict[str, Any]]:
    """Return the six rows of PSNR of a method, in the order of the columns."""
    found = []
    for image, percent in CELLS:
        rows = record.select(
            method=method, metric="psnr", image=image, sigma_percent=percent, **where
        )
        found += rows[-1:]  # a schedule is recorded at several depths; the last one counts
    return found


def line(record: Record, method: str, **where: Any) -> list[str]:
    """Return a measured line: source, certificate, six means, the largest deviation."""
    rows = cells(record, method, **where)
    shown = {(r["setting"]["image"], r["setting"]["sigma_percent"]): r["value"] for r in rows}
    means = [f"{shown[c]:.2f}" if c in shown else "–" for c in CELLS]
    spread = max(r["std"] or 0.0 for r in rows)
    certified = yes(rows[0]["setting"]["certified"])
    return [NAMES[method], "measured", certified, *means, f"{spread:.2f}"]


def reference(record: Record) -> list[list[str]]:
    """Return the line of the image that the loops around FFDNet start from, if there are any."""
    found = [m for m in AROUND if m in record.settings["methods"]]
    if not found:
        return []
    runs = record.settings["referring"]["orders"]
    shown = line(record, found[-1], depth=0)
    return [[f"FFDNet, DPIR's schedule, mean of {runs} orders", shown[1], "no", *shown[3:]]]


def published(peers: Record) -> list[list[str]]:
    """Return the lines of the poster."""
    names = list(dict.fromkeys(r["method"] for r in peers.select(source="published")))
    lines = []
    for name in names:
        values = [
            peers.value(source="published", method=name, image=image, sigma_percent=percent)
            for image, percent in CELLS
        ]
        lines.append([name.upper(), "published", "–", *(f"{v:.2f}" for v in values), "–"])
    return lines


def main_table(ours: Record, classical: Record, peers: Record) -> str:
    """Return the table of all methods: measured by us beside published."""
    lines, sources = published(peers), (ours, classical, peers)
    for other in (classical, peers):
        measured = {r["method"] for r in other.rows if r["source"] == "measured"}
        lines += [line(other, method) for method in NAMES if method in measured]
    lines += reference(ours)
    methods = [m for m in NAMES if m in ours.settings["methods"]]
    lines += [line(ours, method, depth=LAST) for method in methods]
    where = "\n\n".join(provenance(source) for source in sources)
    return f"{grid(['method', 'source', 'certificate', *COLUMNS, '± at most'], lines)}\n{where}\n"


def ours(root: Path = ROOT) -> list[str]:
    """Return the six means of the best certified method, for the report."""
    return line(read(root / FOLDER / OURS), BEST, depth=LAST)[3:9]


def mean(ours: Record, method: str, depth: int) -> float:
    """Return the mean of the six cells."""
    values = [row["value"] for row in cells(ours, method, depth=depth)]
    return float(sum(values) / len(values))


def joint(ours: Record) -> str:
    """Return what the same budget gave: means over the six cells at each depth."""
    depths = ours.settings["table_depths"]
    lines = []
    for method in (m for m in NAMES if m in ours.settings["methods"]):
        spent = ours.settings["budgets"][method]
        steps = " + ".join(str(spent[k]) for k in ("denoising", "steps", "deep") if spent[k])
        size = ours.value(method=method, metric="parameters")
        certified = cells(ours, method, depth=LAST)[0]["setting"]["certified"]
        values = [f"{mean(ours, method, depth):.2f}" for depth in depths]
        lines.append([NAMES[method], yes(certified), f"{size:,.0f}", steps, *values])
    head = ["method", "certificate", "parameters", "steps of Adam", "start", *map(str, depths[1:])]
    return grid(head, lines)


def better(ours: Record, peers: Record, method: str = "corrected") -> str:
    """Return the way from a restoration by others to the fixed point: means of three images."""
    way = {
        "$z$, FFDNet in DPIR's schedule": cells(peers, "pnp-ffdnet-dpir"),
        "$u^0$, corrected by $C$": cells(ours, method, depth=0),
        "$u^{1000}$, the certified loop": cells(ours, method, depth=LAST),
    }
    return _means_of(way)


def around(ours: Record, peers: Record) -> str:
    """Return the way from FFDNet to the loops that are trained around it."""
    runs = ours.settings["referring"]["orders"]
    way = {
        "$z$, FFDNet in DPIR's schedule": cells(peers, "pnp-ffdnet-dpir"),
        f"$r$, the mean of {runs} orders": cells(ours, AROUND[-1], depth=0),
        **{f"$u^{{1000}}$, `{m}`": cells(ours, m, depth=LAST) for m in AROUND},
    }
    return _means_of(way)


def _means_of(way: dict[str, list[dict[str, Any]]]) -> str:
    lines = []
    for name, found in way.items():
        values = [float(row["value"]) for row in found]
        lines.append([name, *_means(values), f"{sum(values) / 6:.2f}"])
    return grid(["image", "1 % noise", "3 % noise", "mean"], lines)


def convergence(ours: Record) -> str:
    """Return the worst of the 24 cases for each method."""
    lines = []
    for method in (m for m in NAMES if m in ours.settings["methods"]):
        worst = {
            metric: ours.value(method=method, metric=metric, case="worst of all")
            for metric in ("relative_residual", "psnr_drop", "diverged")
        }
        row = ours.select(method=method, metric="diverged", case="worst of all")[0]
        left, gone = worst["relative_residual"], worst["diverged"]
        residual = "–" if gone else "< 1e-6" if left < 1e-6 else f"{left:.0e}"
        shown = [residual, f"{worst['psnr_drop']:.2f}", f"{gone:.0f}"]
        lines.append([NAMES[method], yes(row["setting"]["certified"]), *shown])
    return grid(["method", "certificate", "largest residual", "largest loss, dB", "lost"], lines)


def tables(root: Path = ROOT) -> dict[Path, str]:
    """Return the text of the files."""
    ours, classical, peers = records(root)
    return {
        GENERATED / "deconv-table.txt": main_table(ours, classical, peers),
        GENERATED / "deconv-joint.txt": joint(ours),
        GENERATED / "deconv-better.txt": better(ours, peers),
        GENERATED / "deconv-around.txt": around(ours, peers),
        GENERATED / "deconv-cases.txt": convergence(ours),
    }


def short(root: Path = ROOT) -> str:
    """Return the README's table: the mean over the three images, for each noise level."""
    ours, classical, peers = records(root)
    shown = []
    for source, methods in (
        (classical, ("unh-tv", "ena-fdn")),
        (peers, ("pnp-ffdnet-dpir",)),
        (ours, ("ena", "gkm", "bmo", "bmo-free", "bmo-long", "corrected", *AROUND)),
    ):
        if source is ours:
            shown += [[*found[:3], *_mean_of(ours, AROUND[-1], depth=0)]
                      for found in reference(ours)]  # fmt: skip
        for method in (m for m in methods if source is not ours or m in ours.settings["methods"]):
            where = {"depth": LAST} if source is ours else {}
            found = line(source, method, **where)
            shown.append([*found[:3], *_mean_of(source, method, **where)])
    for found in published(peers):
        if found[0] in ("DPIR", "BMO"):
            shown.append([*found[:3], *_means([float(v) for v in found[3:9]])])
    head = ["method", "source", "certificate", "1 % noise", "3 % noise"]
    return f"{grid(head, shown)}\n{provenance(ours)}\n"


def _mean_of(record: Record, method: str, **where: Any) -> list[str]:
    return _means([float(row["value"]) for row in cells(record, method, **where)])


def _means(values: list[float]) -> list[str]:
    return [f"{sum(part) / 3:.2f}" for part in (values[:3], values[3:])]


def written(text: str, root: Path = ROOT) -> str:
    """Return the README with its table made anew."""
    return between(text, "deconvolution", short(root))


def write(root: Path = ROOT) -> list[str]:
    """Write what has changed; return the names of these files."""
    readme = written((root / "README.md").read_text("utf8"), root)
    return rewrite({**tables(root), Path("README.md"): readme}, root)


if __name__ == "__main__":
    print(write() or "unchanged")
