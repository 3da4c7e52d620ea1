"""The benches of all experiments, by the names that the command line knows."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bmo.problems import deconvolution, deraining
from bmo.problems import sparse_coding as images
from bmo.problems.deconvolution import pieces as deconvolution_pieces
from bmo.problems.deconvolution import report as deconvolution_report
from bmo.problems.deraining import pieces as deraining_pieces
from bmo.problems.deraining import report as deraining_report
from bmo.problems.sparse_coding import gaussian
from bmo.problems.sparse_coding import pieces as image_pieces
from bmo.problems.sparse_coding import report as image_report
from bmo.problems.sparse_coding.gaussian import pieces as gaussian_pieces
from bmo.problems.sparse_coding.gaussian import report as gaussian_report


@dataclass(frozen=True)
class Bench:
    """What the command line needs of a bench.

    Attributes:
        noises: Its kinds of noise.
        methods: Its methods.
        settings_of: Profile → settings.
        pieces: (settings, folder, resume) → its parts.
        save: (parts, folder) → path of the record.
        unit: What is measured, in words.
        shown: The rows of the record that are printed at the end.
        down: What tells their lines apart.
        values: (part) → label → one value for each depth.
        movable: Whether its parts can be computed on another device, and against a deadline.
    """

    noises: tuple[str, ...]
    methods: tuple[str, ...]
    settings_of: Callable[[str], Any]
    pieces: Callable[..., Any]
    save: Callable[[Any, Path], Path]
    unit: str
    shown: Mapping[str, Any]
    down: tuple[str, ...]
    values: Callable[[dict[str, Any]], dict[str, list[float]]]
    movable: bool = False


def _errors(part: dict[str, Any]) -> dict[str, list[float]]:
    """NMSE on the test set; a classical method has one run for each rule of choice."""
    runs = {f" by {rule}": run for rule, run in part.get("rules", {}).items()} or {"": part}
    return {label: run["sets"]["trained"]["nmse"] for label, run in runs.items()}


BENCHES = {
    image_report.EXPERIMENT: Bench(
        images.NOISES,
        images.METHODS,
        images.settings_of,
        image_pieces.Pieces,
        image_report.save,
        "PSNR in dB",
        {"metric": "psnr"},
        ("noise", "method"),
        lambda part: {"": part["psnr"]},
    ),
    gaussian_report.EXPERIMENT: Bench(
        gaussian.NOISES,
        gaussian.METHODS,
        gaussian.settings_of,
        gaussian_pieces.Pieces,
        gaussian_report.save,
        "NMSE in dB",
        {"metric": "nmse_db", "set": "trained"},
        ("noise", "method", "chosen_by"),
        _errors,
    ),
    deconvolution_report.EXPERIMENT: Bench(
        deconvolution.NOISES,
        deconvolution.METHODS,
        deconvolution.settings_of,
        deconvolution_pieces.Pieces,
        deconvolution_report.save,
        "PSNR in dB",
        {"metric": "psnr"},
        ("sigma_percent", "image", "method"),
        lambda part: {"": part["psnr"]},
        movable=True,
    ),
    deraining_report.EXPERIMENT: Bench(
        deraining.NOISES,
        deraining.METHODS,
        deraining.settings_of,
        deraining_pieces.Pieces,
        deraining_report.save,
        "PSNR in dB",
        {"metric": "psnr", "channel": "Y"},
        ("dataset", "method"),
        lambda part: {"": part["psnr"]},
        movable=True,
    ),
}
