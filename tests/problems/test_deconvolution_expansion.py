"""Lower bounds on the norms of denoisers' derivatives: of known maps, and as recorded."""

import pytest
import torch

from bmo import record
from bmo.baselines.denoisers.base import Denoiser
from bmo.problems.deconvolution import expansion


class Scaled(Denoiser):
    """u → 3 u on colour, or on gray, images."""

    name = "scaled"

    def __init__(self, channels):
        super().__init__()
        self.channels, self.factor = channels, torch.nn.Parameter(torch.tensor(3.0))

    def estimate(self, u, sigma):
        assert u.shape[1:] == (self.channels or 1, 64, 64)
        return self.factor * u


@pytest.fixture
def images(monkeypatch):
    draws = torch.Generator().manual_seed(0)
    monkeypatch.setattr(
        expansion.data, "load_image", lambda name, dtype: torch.rand(3, 70, 80, generator=draws)
    )


def test_the_norm_of_a_known_map(images, tmp_path, monkeypatch):
    rows = expansion.measure({"colour": Scaled(3), "any": Scaled(None)})
    assert len(rows) == 6 and {r["method"] for r in rows} == {"colour", "any"}
    assert all(r["value"] == pytest.approx(3, rel=1e-5) for r in rows)
    monkeypatch.setattr(
        expansion.data, "hashes", lambda files: [{"file": f, "sha256": "0" * 64} for f in files]
    )
    monkeypatch.setattr(expansion, "__spec__", type("Spec", (), {"name": "somewhere"}))
    kept = record.read(expansion.save(tmp_path, rows, 1.5))
    assert kept.value(method="any", image="leaves", metric="derivative_norm") == rows[4]["value"]


def test_every_recorded_denoiser_expands():
    kept = record.find("deconvolution-denoisers.full")
    assert len(kept.rows) == 9 and len({r["method"] for r in kept.rows}) == 3
    assert min(r["value"] for r in kept.rows) > 1.5


@pytest.mark.data
def test_a_recorded_norm_comes_out_again():
    kept = record.find("deconvolution-denoisers.full")
    nets = {k: v for k, v in expansion.denoisers().items() if k == "ffdnet-gray"}
    (found,) = expansion.measure(nets, ("butterfly",))
    known = kept.value(method="ffdnet-gray", image="butterfly", metric="derivative_norm")
    assert found["value"] == pytest.approx(known, rel=0.01)
