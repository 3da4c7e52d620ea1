"""The peers' record: parts, resuming, rows, and what a scheme that diverges leaves."""

import json
from dataclasses import replace

import pytest
import torch

from bmo import data
from bmo.baselines.denoisers import Denoiser, Scheduled, stationary
from bmo.cli import main
from bmo.errors import DomainError, TrainingError
from bmo.problems.deconvolution import peers, peers_report
from bmo.problems.deconvolution.kernels import motion_kernel
from bmo.record import read

DRAWS = torch.Generator().manual_seed(3)
PICTURE = torch.rand(3, 24, 26, generator=DRAWS, dtype=torch.float64)


class Times(Denoiser):
    """u ↦ c u in float32, whose derivative has norm c."""

    name = "times"

    def __init__(self, c):
        super().__init__()
        self.c = torch.nn.Parameter(torch.tensor(float(c)), requires_grad=False)
        self.calls = 0

    def estimate(self, u, sigma):
        self.calls += 1
        return self.c * u


@pytest.fixture
def small(monkeypatch):
    """A page profile without any file: a random picture and kernel, and N = 0.9 I."""
    net = Times(0.9)
    tiny = replace(
        peers.PAGE, side=16, crop=16, seeds=(0, 1), steps=12, cases=peers.CASES[:1], long=40
    )
    monkeypatch.setattr(peers, "PAGE", tiny)
    monkeypatch.setattr(data, "load_image", lambda file: PICTURE)
    kernels = [motion_kernel(DRAWS, 5) for _ in range(8)]
    monkeypatch.setattr(peers, "levin", lambda: kernels)
    monkeypatch.setattr(peers, "denoiser", lambda name: net)
    return net


def test_the_command_writes_a_record_and_goes_on_where_it_stopped(small, tmp_path, capsys):
    command = ["peers", "--profile", "page", "--out", str(tmp_path), "--resume"]
    assert main([*command, "--method", "pnp-ffdnet-stationary"]) == 0
    assert "writes the record" in capsys.readouterr().out and not list(tmp_path.glob("d*.json"))
    assert small.calls == 2 * 3 * 2 * 12
    small.calls = 0
    assert main(command) == 0
    # the two schedules of 8 steps and the one of 30, and two cases with two derivatives each
    tables, cases = 12 * (8 + 8 + 30), 2 * (40 + 2)
    assert small.calls == tables + cases
    out = capsys.readouterr().out
    assert "pnp-ffdnet-dpir leaves 3 % seed 1" in out and "record:" in out
    record = read(tmp_path / "deconvolution-peers.page.json")
    assert record.command == "python -m bmo peers --profile page" and record.seeds == [0, 1]
    found = record.select(method="pnp-ffdnet-stationary", metric="psnr", sigma_percent=1.0)
    assert {r["setting"]["depth"] for r in found if "test" not in r["setting"]} == {10, 12}
    assert all(r["n"] == 2 and r["std"] > 0 for r in found if "test" not in r["setting"])
    small.calls = 0
    assert main(command) == 0 and small.calls == 0


def test_a_record_of_some_tables_says_so(small, tmp_path):
    chosen = ["--record", "--method", "pnp-ffdnet-stationary", "pnp-ffdnet-dpir"]
    assert main(["peers", "--profile", "page", "--out", str(tmp_path), *chosen]) == 0
    assert small.calls == 2 * 3 * 2 * (12 + 8)  # and no convergence case
    record = read(tmp_path / "deconvolution-peers.page.json")
    said = "python -m bmo peers --profile page --record --method pnp-ffdnet-dpir"
    assert record.command == f"{said} pnp-ffdnet-stationary"  # in the order of the settings
    methods = {r["method"] for r in record.rows if r["source"] == "measured"}
    assert methods == {"pnp-ffdnet-dpir", "pnp-ffdnet-stationary"}
    assert not record.select(test="convergence")


def test_rows_hold_the_mean_over_seeds_and_the_published_table(small, tmp_path):
    pieces = peers.Pieces(peers.settings_of("page"), tmp_path, True)
    rows = peers_report.rows_of(pieces)
    row = next(r for r in rows if r["method"] == "pnp-ffdnet-dpir" and r["metric"] == "psnr")
    parts = [pieces.result("pnp-ffdnet-dpir", 1.0, "butterfly", k)["depths"]["8"] for k in (0, 1)]
    assert abs(row["value"] - sum(p["psnr"] for p in parts) / 2) < 1e-12
    assert row["setting"]["certified"] == "none" and row["setting"]["kernel"] == 3
    published = [r for r in rows if r["source"] == "published"]
    assert len(published) == 6 * 6 and all(r["n"] is None for r in published)
    bmo = [r["value"] for r in published if r["method"] == "bmo"]
    assert bmo == [33.67, 35.39, 33.98, 29.46, 30.69, 29.64]


def test_the_settings_that_matter_are_compared_on_resuming(small, tmp_path):
    s = peers.settings_of("page")
    first = peers.Pieces(s, tmp_path, True).result("pnp-ffdnet-dpir", 1.0, "leaves", 0)
    other = peers.Pieces(replace(s, long=3, levels={}), tmp_path, True)
    assert other.result("pnp-ffdnet-dpir", 1.0, "leaves", 0) == first
    with pytest.raises(TrainingError, match="same settings"):
        peers.Pieces(replace(s, side=12), tmp_path, True).result(
            "pnp-ffdnet-dpir", 1.0, "leaves", 0
        )
    case = peers.Pieces(s, tmp_path, True).case("leaves", 0, 1.0, 0.23)
    assert peers.Pieces(replace(s, side=12), tmp_path, True).case("leaves", 0, 1.0, 0.23) == case
    with pytest.raises(TrainingError, match="same settings"):
        peers.Pieces(replace(s, long=3), tmp_path, True).case("leaves", 0, 1.0, 0.23)


def test_a_scheme_that_diverges_is_recorded_as_such(small, tmp_path):
    small.c.fill_(30.0)
    pieces = peers.Pieces(peers.settings_of("page"), tmp_path)
    case = pieces.case("leaves", 0, 1.0, 50.0)
    assert case["diverged"] and len(case["psnr"]) < 40
    json.dumps(case, allow_nan=False)
    rows = peers_report.case_rows(pieces, ("leaves", 0, 1.0, 50.0))
    found = {r["metric"]: r["value"] for r in rows}
    assert found["diverged"] == 1 and found["psnr"] == 0 and found["relative_residual"] == 1e30
    assert abs(found["derivative_norm, clean image"] - 30) < 1e-4
    assert found["psnr_lost"] == found["psnr_best"] > 0
    assert peers.at([1.0, float("nan")], [1, 2, 3], -1.0) == [1.0, -1.0, -1.0]


def test_what_is_followed_is_what_the_scheme_returns(small):
    image = PICTURE[:, :16, :16]
    b, symbol = peers.Pieces(peers.PAGE, None).observation(image, 3, 1.0, 0)
    run = Scheduled(small, stationary(12, 0.23, 5))
    found = peers.followed(run, b, symbol, 0.01, image)
    last = run.restore(b, symbol, 0.01)
    assert found["psnr"][-1] == float(peers.score(last[0].double(), image))
    before = Scheduled(small, stationary(12, 0.23, 4)).restore(b, symbol, 0.01)
    assert abs(found["residual"][-1] - float((last - before).norm() / before.norm())) < 1e-9


def test_methods_know_their_schedules_and_others_are_refused(small):
    s = peers.settings_of("full")
    schedules = {m: peers.restorer(m, 3.0, s).schedule for m in peers.METHODS}
    assert schedules["pnp-ffdnet-ircnn"].last == 13 and schedules["pnp-ffdnet-dpir"].turns
    assert schedules["pnp-ffdnet-stationary"] == stationary(18, 0.23, 60)
    with pytest.raises(DomainError, match="a method of"):
        peers.restorer("bmo", 1.0, s)
    with pytest.raises(DomainError, match="page or full"):
        peers.settings_of("large")
    assert len({case[:2] for case in peers.CASES}) == 24 and len(peers.every_case(s)) == 48
    for place, count in ((0, 8), (1, 3), (2, 6)):
        values = [case[place] for case in peers.CASES]
        assert {values.count(v) for v in values} == {count}
    assert "ircnn_gray/net25.hdf5" in peers_report.files_of(s)
    assert len(peers_report.files_of(replace(s, methods=("pnp-ffdnet-dpir",)))) == 5


def test_networks_are_read_once_by_the_name_of_the_method(monkeypatch):
    peers.denoiser.cache_clear()
    monkeypatch.setattr(peers.FFDNet, "pretrained", lambda channels: ("ffdnet", channels))
    monkeypatch.setattr(peers.IRCNNGray, "pretrained", lambda: ("ircnn",))
    assert peers.denoiser("pnp-ffdnet-dpir") == ("ffdnet", 3)
    assert peers.denoiser("pnp-ircnn-gray-dpir") == ("ircnn",)
    peers.denoiser.cache_clear()
