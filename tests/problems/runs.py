"""What the tests of several experiments share: other weights, and runs from the command line."""

import dataclasses
import json

import torch

from bmo import cli, record
from bmo.files import sha256_of
from bmo.problems.benches import BENCHES


def moved_by(model, amount, seed, dtype):
    """The model with weights far from its start."""
    g = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for p in model.parameters():
            p.add_(amount * torch.randn(p.shape, generator=g))
    return model.to(dtype)


def use(monkeypatch, experiment, report, settings):
    """Let these settings be those of every profile of an experiment."""
    bench = dataclasses.replace(BENCHES[experiment], settings_of=lambda profile: settings)
    monkeypatch.setitem(BENCHES, experiment, bench)
    monkeypatch.setattr(report, "settings_of", lambda profile: settings)


def train(experiment, folder, *options):
    """The command; returns its exit code."""
    return cli.main(["train", experiment, "--out", str(folder), *options])


def ends_alike_in_pieces(experiment, method, folder, capsys):
    """Whether a run that is cut into pieces ends with the numbers of a whole one."""
    options = ("--method", method)
    assert train(experiment, folder / "whole", *options) == 0
    for _ in range(3):
        cut = train(experiment, folder / "cut", *options, "--resume", "--minutes", "1e-6")
        assert cut == 0
    assert "time is over" in capsys.readouterr().out
    assert not list((folder / "cut").glob("tables*"))
    assert train(experiment, folder / "cut", *options, "--resume") == 0
    whole, cut = (
        json.loads((folder / name / f"tables.{method}.seed0.json").read_text())
        for name in ("whole", "cut")
    )
    return all(whole[key] == cut[key] for key in ("psnr", "weights", "losses"))


def check_worst_case(found, method):
    """The row of the worst case is that of the largest loss of PSNR."""
    worst = found.value(method=method, metric="psnr_drop", case="worst of all")
    each = [entry["value"] for entry in found.select(method=method, metric="psnr_drop")]
    assert worst == max(each) >= 0


def found_again(monkeypatch, folder, name, method):
    """Let the record of a run be found, with the weights of a method, which are returned."""
    found = record.read(folder / f"{name}.json")
    file = folder / f"{name}.{method}.safetensors"
    weights = record.load_weights(file, sha256_of(file))
    monkeypatch.setattr(record, "find", lambda name: found)
    monkeypatch.setattr(record, "find_weights", lambda name: weights)
    return weights
