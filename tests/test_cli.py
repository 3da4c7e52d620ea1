"""The command line: what it prints, what it refuses, and its exit codes."""

import dataclasses
import json
import runpy
import sys

import pytest
import torch

from bmo import cli, record
from bmo.problems import sparse_coding as sc
from bmo.problems.benches import BENCHES
from bmo.problems.sparse_coding import pieces
from bmo.record import Record, row


def a_record(folder, **changes):
    fields = {
        "experiment": "sparse-coding",
        "profile": "page",
        "created": "2026-01-31T12:00:00+00:00",
        "command": "python -m bmo train sparse-coding",
        "settings": {
            "ridge": 0.1,
            "alpha": 0.9,
            "mu": {"gaussian": 0.1},
            "iterations": 3,
        },
        "seeds": [0],
        "data": [],
        "device": "CPU",
        "versions": {"torch": "2"},
        "commit": None,
        "seconds": 1.0,
        "rows": [row("bmo", {"noise": "gaussian", "depth": 16}, "psnr", 27.5)],
    }
    return record.write(Record(**{**fields, **changes}), folder)


def test_help_names_every_command_and_profile(capsys):
    for arguments, words in (
        (["--help"], ["train", "evaluate", "bench", "records"]),
        (["bench", "--help"], ["page", "full", "--peers", "make bench"]),
        (["train", "--help"], ["page", "full", "--resume", "BMO_DATA", "Examples"]),
        (["evaluate", "--help"], ["without ground truth", "--depths"]),
        (["records", "--help"], ["validate", "seal"]),
    ):
        with pytest.raises(SystemExit) as end:
            cli.main(arguments)
        assert end.value.code == 0
        shown = capsys.readouterr().out
        assert all(word in shown for word in words)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["train", "sparse-coding", "--seeds", "7"], ["required: seeds", "[7]", "remedy"]),
        (["evaluate", "sparse-coding", "--depths", "-3"], ["depths >= 0", "-3"]),
    ],
)
def test_a_mistake_is_one_line_and_exit_code_2(capsys, arguments, words):
    assert cli.main(arguments) == 2
    shown = capsys.readouterr().err
    assert shown.count("\n") == 1 and all(word in shown for word in words)


@pytest.mark.parametrize(
    "arguments", [[], ["time"], ["train"], ["train", "sparse-coding", "--noise", "x"]]
)
def test_unknown_words_are_one_line_and_exit_code_2(capsys, arguments):
    assert cli.main(arguments) == 2
    shown = capsys.readouterr().err
    assert shown.count("\n") == 1 and "--help" in shown


def test_records_are_listed_validated_and_sealed(tmp_path, capsys, monkeypatch):
    assert cli.main(["records", "--folder", str(tmp_path / "none")]) == 2
    assert "a folder of records" in capsys.readouterr().err
    assert cli.main(["records", "--folder", str(tmp_path)]) == 0
    assert "no record" in capsys.readouterr().out
    path = a_record(tmp_path)
    assert cli.main(["records", "--folder", str(tmp_path)]) == 0
    assert "sparse-coding.page: Recorded 2026-01-31" in capsys.readouterr().out
    assert cli.main(["records", "validate", "--folder", str(tmp_path)]) == 0
    assert "good: " in capsys.readouterr().out
    index = tmp_path / "index" / "records.json"
    seal = record.seal
    monkeypatch.setattr(record, "seal", lambda folder: seal(folder, index))
    for arguments in (["records", "seal"], ["records", "--seal"]):
        assert cli.main([*arguments, "--folder", str(tmp_path)]) == 0
        assert "sparse-coding.page.json" in capsys.readouterr().out
    assert list(json.loads(index.read_text())) == ["sparse-coding.page.json"]
    path.write_text(path.read_text().replace("27.5", "29.5"))
    assert cli.main(["records", "validate", "--folder", str(tmp_path)]) == 2
    assert "altered" in capsys.readouterr().err


def replace_bench(monkeypatch, **parts):
    """Give the bench of the images other parts."""
    bench = dataclasses.replace(BENCHES["sparse-coding"], **parts)
    monkeypatch.setitem(BENCHES, "sparse-coding", bench)


def fake_pieces(made):
    """Stand-in for the parts: remembers what was asked, computes nothing."""

    class Fake:
        def __init__(self, settings, folder, resume):
            made.append((settings.profile, str(folder), resume))

        def result(self, noise, method, seed):
            made.append((noise, method, seed))
            return {"psnr": [20.0 + d for d in range(11)], "seconds": 1.0}

    return Fake


def test_train_computes_the_asked_parts_and_no_others(tmp_path, capsys, monkeypatch):
    made = []
    replace_bench(monkeypatch, pieces=fake_pieces(made))
    asked = [
        "--profile",
        "full",
        "--noise",
        "gaussian",
        "--method",
        "gkm",
        "bmo",
        "--seeds",
        "2",
        "0",
    ]
    assert cli.main(["train", "sparse-coding", "--out", str(tmp_path), "--resume", *asked]) == 0
    assert made[0] == ("full", str(tmp_path), True)
    assert made[1:] == [("gaussian", m, s) for s in (2, 0) for m in ("gkm", "bmo")]
    assert "parts kept in" in capsys.readouterr().out


def test_train_writes_the_record_when_nothing_is_left_out(tmp_path, capsys, monkeypatch):
    made = []
    replace_bench(monkeypatch, pieces=fake_pieces(made), save=lambda pieces, out: a_record(out))
    assert cli.main(["train", "sparse-coding", "--out", str(tmp_path)]) == 0
    assert len(made) == 1 + len(sc.NOISES) * len(sc.METHODS)
    shown = capsys.readouterr().out
    assert "27.50" in shown and f"record: {tmp_path}" in shown


def test_an_interruption_says_how_to_go_on(monkeypatch, capsys):
    def interrupted(*_):
        raise KeyboardInterrupt

    replace_bench(monkeypatch, pieces=interrupted)
    assert cli.main(["train", "sparse-coding"]) == 130
    assert "--resume" in capsys.readouterr().err


def test_evaluate_prints_what_the_rebuilt_map_reaches(tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    A = torch.eye(64)
    D = sc.Coder(A, torch.zeros(64), 1e-4, ridge=0.1)
    model = sc.Restorer(D, A, "gaussian", 0.9, 0.1, iterations=3)
    weights = {f"bmo/{k}": v for k, v in model.state_dict().items() if k != "operator.b"}
    folder = tmp_path / "recorded"
    a_record(folder)
    record.save_weights(weights, folder / "sparse-coding.page.gaussian.safetensors")
    index = tmp_path / "records.json"
    known = record.seal(folder, index)
    monkeypatch.setattr(record.weights, "sealed", lambda: known)
    image = torch.rand(16, 16)
    picture = pieces.Pictures(sc.PatchBank([image], 8), sc.PatchBank([image], 8), {"a": image}, [])
    monkeypatch.setattr(cli, "load", lambda settings: picture)
    arguments = ["evaluate", "sparse-coding", "--noise", "gaussian", "--depths", "16", "1"]
    assert cli.main(arguments) == 0
    lines = capsys.readouterr().out.splitlines()
    assert "ground truth" not in lines[0] and "T alone" in lines[0]
    assert [line.split()[0] for line in lines[2:]] == ["1", "16"]
    assert 10 < float(lines[3].split()[1]) < 30
    assert cli.main([*arguments, "--method", "gkm"]) == 2
    assert "'gkm'" in capsys.readouterr().err


def test_the_module_runs_as_a_program(monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["bmo", "records", "--folder", "nowhere"])
    with pytest.raises(SystemExit) as end:
        runpy.run_module("bmo", run_name="__main__")
    assert end.value.code == 2 and "nowhere: none" in capsys.readouterr().err
