"""Chapter 0, natural images: what the page says is what the record holds."""

from __future__ import annotations

from pathlib import Path

import pytest

from bmo.record import Record, read

NOISES = ("gaussian", "salt-pepper")
DEPTHS = (16, 64, 256, 1000)


@pytest.fixture(scope="module")
def full() -> Record:
    """The recorded run."""
    return read(Path(__file__).parents[2] / "notebooks/recorded/sparse-coding.full.json")


def psnr(record: Record, method: str, noise: str, depth: int) -> float:
    """One PSNR of the record, in dB."""
    return record.value(method=method, noise=noise, depth=depth, metric="psnr")


@pytest.mark.parametrize("noise", NOISES)
def test_joint_convergence_on_images(full: Record, noise: str) -> None:
    reached = [psnr(full, "bmo", noise, depth) for depth in DEPTHS]
    assert max(reached) - reached[-1] <= 0.1
    left = [
        full.value(method="bmo", noise=noise, depth=depth, metric="relative_residual")
        for depth in DEPTHS
    ]
    assert left == sorted(left, reverse=True) and left[-1] <= 1e-6
    lost = full.value(method="ena-lista", noise=noise, depth=1000, metric="relative_residual")
    assert lost > 1e-2
    assert psnr(full, "ena-lista", noise, 16) - psnr(full, "ena-lista", noise, 1000) > 10


def test_what_the_upper_step_gains_on_images(full: Record) -> None:
    """Small on salt and pepper, nothing on Gaussian noise: the page says no more than that."""
    for depth in (16, 1000):
        gain = {n: psnr(full, "bmo", n, depth) - psnr(full, "gkm", n, depth) for n in NOISES}
        assert 0.02 < gain["salt-pepper"] < 0.2
        assert abs(gain["gaussian"]) < 0.02
    # and plain ISTA, run to its end, is ahead on salt and pepper
    ista, learned = (psnr(full, m, "salt-pepper", 1000) for m in ("unh-ista", "bmo"))
    assert ista > learned


def test_the_record_says_how_it_was_tested(full: Record) -> None:
    assert full.settings["tested"].startswith("T alone")
    assert len(full.seeds) >= 3
