"""Write the README's table of results from the recorded run, between its two markers.

    .venv/bin/python tests/tools/readme_table.py

A test compares the two, so the README cannot promise other numbers than the record holds.
"""

from __future__ import annotations

from pathlib import Path

from bookfiles import ROOT, between, rewrite

from bmo.record import Record, provenance, read

RECORD = Path("notebooks/recorded/sparse-coding.full.json")
COMMAND = "python -m bmo train sparse-coding --profile full"
METHODS = {
    "unh-ista": "ISTA, λ and step chosen by validation (UNH)",
    "ena-lista": "tied LISTA, unconstrained (ENA)",
    "gkm": "learned step, μ = 0",
    "bmo": "learned step by Algorithm 1, μ > 0 (BMO)",
}
NOISES = {"gaussian": "Gaussian, σ = 25", "salt-pepper": "10 % salt and pepper"}


def value(record: Record, method: str, noise: str, depth: int, metric: str) -> float:
    """Return one number of the record."""
    for row in record.rows:
        at = row["setting"]
        if (row["method"], row["metric"]) == (method, metric) and (
            at.get("noise"),
            at.get("depth"),
        ) == (noise, depth):
            return float(row["value"])
    raise LookupError(f"{RECORD}: no {metric} of {method}, {noise}, depth {depth}")


def difference(record: Record, noise: str, depth: int) -> float:
    """Return PSNR of μ > 0 minus that of μ = 0, the mean over the seeds."""
    return value(record, "bmo minus gkm", noise, depth, "psnr_difference")


def gain(record: Record, noise: str, name: str) -> str:
    """Return what μ > 0 adds at 16 and at 1,000 steps, in words."""
    first, last = (difference(record, noise, depth) for depth in (16, 1000))
    return f"{first:+.2f} and {last:+.2f} dB ({name})"


def small(number: float) -> str:
    """Return a residual to one digit; what float32 cannot tell from zero is said so."""
    return "< 1e-7" if number < 1e-7 else f"{number:.0e}"


def table(record: Record) -> str:
    """Return the table in Markdown, with a line on where its numbers come from."""
    lines = [
        "| noise | method | PSNR at 16 | at 1,000 | SSIM at 1,000 | residual at 1,000 | options |",
        "| --- | --- | --- | --- | --- | --- | --- |",
    ]
    for noise, name in NOISES.items():
        for method, words in METHODS.items():
            cells = [
                f"{value(record, method, noise, 16, 'psnr'):.2f}",
                f"{value(record, method, noise, 1000, 'psnr'):.2f}",
                f"{value(record, method, noise, 1000, 'ssim'):.3f}",
                small(value(record, method, noise, 1000, "relative_residual")),
                f"`--noise {noise} --method {method}`",
            ]
            lines.append(f"| {name} | {words} | " + " | ".join(cells) + " |")
    gains = ", ".join(gain(record, noise, name) for noise, name in NOISES.items())
    gained = f"What μ > 0 adds to μ = 0, after 16 and 1,000 steps: {gains}."
    where = f"The command is `{COMMAND}` with the options of the row. {provenance(record)}"
    return "\n".join([*lines, "", gained, "", where, ""])


def written(text: str, record: Record) -> str:
    """Return the README with its table made anew."""
    return between(text, "results", table(record))


def write(root: Path = ROOT) -> list[str]:
    """Write the README if its table has changed; return its name then."""
    text = (root / "README.md").read_text("utf8")
    return rewrite({Path("README.md"): written(text, read(root / RECORD))}, root)


if __name__ == "__main__":
    print(write() or "unchanged")
