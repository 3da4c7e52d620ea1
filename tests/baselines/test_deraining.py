"""Rain removal baselines: published weights, the measure, the classical method, the command."""

from __future__ import annotations

import io
import json
import re
from pathlib import Path

import numpy as np
import pytest
import torch
from bookfiles import ROOT
from scipy.optimize import linprog
from torch import Tensor

from bmo import data, record
from bmo.baselines import deraining
from bmo.baselines.deraining import command, directional, measuring, progressive, report
from bmo.baselines.deraining.directional import Weights
from bmo.baselines.deraining.pairs import fitted, names
from bmo.errors import DataError, DomainError, ShapeError
from bmo.measure import psnr

f64 = torch.float64


def reference(network: deraining.Progressive, rainy: Tensor) -> Tensor:
    """The stages written out with convolutions alone."""
    w = dict(network.named_parameters())

    def conv(name: str, x: Tensor) -> Tensor:
        return torch.conv2d(x, w[f"{name}.weight"], w[f"{name}.bias"], padding=1)

    x, state, cell = rainy, None, None
    for _ in range(network.stages):
        z = conv("conv0.0", torch.cat((rainy, x), 1)).relu()
        if network.memory:
            state = torch.zeros_like(z) if state is None else state
            cell = torch.zeros_like(z) if cell is None else cell
            zh = torch.cat((z, state), 1)
            cell = conv("conv_f.0", zh).sigmoid() * cell
            cell = cell + conv("conv_i.0", zh).sigmoid() * conv("conv_g.0", zh).tanh()
            z = state = conv("conv_o.0", zh).sigmoid() * cell.tanh()
        for k in range(1, 6):
            block = f"res_conv{1 if network.recursive else k}"
            z = (conv(f"{block}.2", conv(f"{block}.0", z).relu()).relu() + z).relu()
        x = rainy + conv("conv.0", z)
    return x


@pytest.mark.parametrize("method", list(deraining.METHODS))
def test_stages_are_those_of_the_paper(method: str) -> None:
    _, memory, recursive = deraining.METHODS[method]
    network = deraining.Progressive(memory, recursive, stages=3).double()
    rainy = torch.rand(2, 3, 9, 7, dtype=f64)
    assert torch.allclose(network(rainy), reference(network, rainy), atol=1e-13)
    first, second = (x for x, _ in zip(network.estimates(rainy), range(2), strict=False))
    assert not torch.allclose(first, second)
    count = {"prenet": 168963, "prenet_r": 94979, "prn": 95107, "prn_r": 21123}[method]
    assert sum(p.numel() for p in network.parameters()) == count


def test_networks_refuse_what_does_not_fit() -> None:
    with pytest.raises(DomainError, match="stages"):
        deraining.Progressive(stages=0)
    with pytest.raises(ShapeError, match="batch"):
        deraining.Progressive()(torch.zeros(3, 8, 8))
    with pytest.raises(DomainError, match="method"):
        deraining.published("best", "rain100l")
    small = deraining.Progressive(memory=False)
    for content in (b"no checkpoint", _saved(deraining.Progressive(memory=True))):
        with pytest.raises(DataError, match="weights of this network"):
            progressive.load(small, content, "file")
    progressive.load(small, _saved(deraining.Progressive(memory=False)), "file")


def _saved(network: torch.nn.Module) -> bytes:
    stream = io.BytesIO()
    torch.save(network.state_dict(), stream)
    return stream.getvalue()


def test_published_weights_are_loaded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    network, asked = deraining.Progressive(memory=True, recursive=True), []
    (tmp_path / "weights.pth").write_bytes(_saved(network))
    monkeypatch.setattr(
        progressive, "locate", lambda name: asked.append(name) or tmp_path / "weights.pth"
    )
    found = deraining.published("prenet_r", "rain100h")
    assert asked == ["weights/prenet/Rain100H_PReNet6_r.pth"]
    assert torch.equal(found.conv[0].weight, network.conv[0].weight)
    assert not found.training


def test_pairs_have_their_names() -> None:
    assert names("rain100l", 100)[0].endswith("rain-100.png")
    assert names("rain100h", 100)[1] == names("rain100l", 100)[1]
    for dataset, number in (("rain100x", 1), ("rain100l", 0), ("rain100h", 101)):
        with pytest.raises(DomainError, match="pair"):
            names(dataset, number)
    for shape in ((3, 3, 4), (3, 6, 4)):
        with pytest.raises(DataError, match="size"):
            fitted(torch.zeros(shape), torch.zeros(3, 4, 4))


def test_score_is_taken_of_rounded_images() -> None:
    clean = torch.rand(3, 20, 24, dtype=f64)
    shifted = (clean + 0.4 / 255).clamp(0, 1)
    values = measuring.score(shifted, clean)
    eight = [torch.floor(255 * x + 0.5) for x in (shifted, clean)]
    error = (eight[0] - eight[1]).square().mean()
    assert values["psnr_rgb"] == pytest.approx(float(10 * torch.log10(255**2 / error)))
    weights = torch.tensor([65.481, 128.553, 24.966], dtype=f64)[:, None, None] / 255
    y = [torch.floor(16 + (weights * x).sum(0) + 0.5) for x in eight]
    error = (y[0] - y[1]).square().mean()
    assert values["psnr_y"] == pytest.approx(float(10 * torch.log10(255**2 / error)))
    assert 0.9 < values["ssim_y"] < 1


@pytest.fixture
def little(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Small pairs in the place of the real ones; the list tells which were read."""
    read: list[int] = []

    def pair(dataset: str, number: int) -> tuple[Tensor, Tensor]:
        names(dataset, number)
        read.append(number)
        clean = torch.rand(3, 16, 16, generator=torch.Generator().manual_seed(number)) / 2
        return clean + 0.1, clean

    monkeypatch.setattr(measuring, "pair", pair)
    return read


def test_a_set_is_measured_image_by_image_and_goes_on(tmp_path: Path, little: list[int]) -> None:
    file, lines = tmp_path / "a" / "results.json", []
    first = measuring.measure_set(lambda x: x, "rain100l", [3, 1], file, lines.append)
    assert little == [3, 1]
    assert list(first) == [3, 1]
    again = measuring.measure_set(lambda x: x - 0.1, "rain100l", [1, 2, 3], file, lines.append)
    assert little == [3, 1, 2]
    assert len(lines) == 3
    assert {n: again[n] for n in (1, 3)} == first
    assert again[2]["psnr_rgb"] == float("inf") > first[1]["psnr_rgb"] > 19
    assert measuring.mean({1: first[1], 3: first[3]})["ssim_y"] == pytest.approx(
        (first[1]["ssim_y"] + first[3]["ssim_y"]) / 2
    )
    for damaged in ("{", "[]", '{"1": {"psnr_y": 3}}'):
        file.write_text(damaged)
        with pytest.raises(DataError, match="delete it"):
            measuring.measure_set(lambda x: x, "rain100l", [1], file)


def test_command(tmp_path: Path, little: list[int], capsys: pytest.CaptureFixture[str]) -> None:
    call = ["--method", "input", "directional", "--pairs", "4", "5", "--out", str(tmp_path)]
    assert command.main(call) == 0
    text = capsys.readouterr().out
    assert "directional on rain100h, 2 images: psnr_y" in text
    assert {f.name for f in tmp_path.iterdir()} == {
        f"{d}.{m}.json" for d in deraining.DATASETS for m in ("input", "directional")
    }
    assert set(json.loads((tmp_path / "rain100l.input.json").read_text())) == {"4", "5"}
    assert command.main(["--method", "input", "--pairs", "0", "--out", str(tmp_path)]) == 2
    assert "a pair from 1 to 100" in capsys.readouterr().err


def test_record_of_every_pair(
    tmp_path: Path,
    little: list[int],
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    assert report.COUNT == command.COUNT == 100
    for module in (report, command):
        monkeypatch.setattr(module, "COUNT", 4)
    call = ["--method", "input", "directional", "--record", "--out", str(tmp_path)]
    assert command.main([*call, "--pairs", "1", "2"]) == 2
    assert "2 of them are missing" in capsys.readouterr().err
    assert command.main(call) == 0 and "record: " in capsys.readouterr().out
    made = record.read(tmp_path / "deraining-peers.full.json")
    kept = json.loads((tmp_path / "rain100h.directional.json").read_text())
    values = [kept[str(n)]["ssim_rgb"] for n in range(1, 5)]
    assert made.curves["ssim_rgb/rain100h/unh-directional"] == values
    where = {"method": "unh-directional", "dataset": "rain100h"}
    assert made.value(**where, metric="ssim", channel="RGB") == pytest.approx(np.mean(values))
    assert made.value(**where, metric="seconds") * 4 < made.seconds
    assert made.value(method="prenet", dataset="rain100l", metric="psnr") == 37.48
    assert not made.select(metric="psnr lost by cutting")
    assert {r["setting"]["citation"] for r in made.select(source="published")} <= cited()
    assert len(made.data) == 12 and made.command.endswith("input directional --record")
    assert len(report.files_of(["prenet", "prn_r"])) == 16
    for name in report.files_of(["prenet", "prn_r"]):
        assert data.data_file(name).sha256


def test_what_cutting_loses(tmp_path: Path, little: list[int]) -> None:
    """The row is the mean loss over the pairs that were tried, and says how many."""
    half = 0.5 / 255
    for name, shift, pairs in (("prenet", half, (1, 2, 3)), ("prenet-cut", 3 * half, (1, 3))):
        measuring.measure_set(
            lambda x, by=shift: x - 0.1 + by, "rain100l", pairs, tmp_path / f"rain100l.{name}.json"
        )
    results = {("prenet", "rain100l"): measuring.read(tmp_path / "rain100l.prenet.json")}
    rows = report.lost_by_cutting(tmp_path, results)
    (lost,) = [
        r for r in rows if r["metric"].startswith("psnr") and r["setting"]["channel"] == "RGB"
    ]
    other = measuring.read(tmp_path / "rain100l.prenet-cut.json")
    expected = [results["prenet", "rain100l"][n]["psnr_rgb"] - other[n]["psnr_rgb"] for n in (1, 3)]
    assert lost["value"] == pytest.approx(np.mean(expected)) and lost["n"] == 2
    assert lost["method"] == "ena-prenet" and len(rows) == 4


def cited() -> set[str]:
    """The keys of the bibliography."""
    return set(re.findall(r"^@\w+\{(\w+),", (ROOT / "book/references.bib").read_text(), re.M))


def test_a_network_is_loaded_for_its_set(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[tuple[str, str]] = []
    monkeypatch.setattr(command, "published", lambda *names: asked.append(names))
    command.restorer("prn_r", "rain100h")
    command.restorer("prenet-cut", "rain100l")
    assert asked == [("prn_r", "rain100h"), ("prenet", "rain100l")]
    image = torch.rand(3, 8, 8)
    lost = image - progressive.cut(lambda x: x)(image)
    assert 0 <= float(lost.min()) and float(lost.max()) < 1 / 255
    assert float(lost.mean()) == pytest.approx(0.5 / 255, rel=0.2)


def test_directional_solves_its_convex_problem() -> None:
    """Against a linear programme for the same objective."""
    grey = torch.rand(5, 6, dtype=f64)
    weights = Weights(0.7, 0.3, penalty=5.0, iterations=2500)
    for angle in (0.0, 20.0):
        rain = directional.separate(grey, angle, weights)
        eye = torch.eye(30, dtype=f64).reshape(30, 5, 6)
        along, across = (
            directional.difference(eye, angle, side).reshape(30, 30).mT.numpy()
            for side in (False, True)
        )

        def value(r: np.ndarray, along=along, across=across) -> float:  # noqa: ANN001
            edges = np.abs(across @ (grey.numpy().ravel() - r)).sum()
            return float(0.7 * np.abs(along @ r).sum() + 0.3 * r.sum() + edges)

        identity, zero = np.eye(30), np.zeros((30, 30))
        cost = np.concatenate([np.full(30, 0.3), np.full(30, 0.7), np.ones(30)])
        o = across @ grey.numpy().ravel()
        matrix = np.block(
            [
                [along, -identity, zero],
                [-along, -identity, zero],
                [across, zero, -identity],
                [-across, zero, -identity],
            ]
        )
        limits = np.concatenate([np.zeros(60), o, -o])
        boxes = [(0, float(x)) for x in grey.flatten()] + [(0, None)] * 60
        best = linprog(cost, matrix, limits, bounds=boxes)
        assert value(rain.flatten().numpy()) == pytest.approx(best.fun, rel=1e-5)
        assert 0.05 < float((rain > 1e-3).double().mean()) < 1  # there is rain, not everywhere
        assert bool((rain >= 0).all() and (rain <= grey).all())


def test_directional_removes_streaks_and_keeps_edges() -> None:
    clean = torch.full((3, 64, 64), 0.3, dtype=f64)
    clean[:, 32:] = 0.5
    rainy = clean.clone()
    for column in (5, 20, 41, 58):
        rainy[:, column * 7 % 30 : column * 7 % 30 + 25, column] += 0.2
    found = directional.directional(rainy[None], Weights(1.0, 0.3))[0]
    assert float(psnr(found, clean)) > float(psnr(rainy, clean)) + 10
    with pytest.raises(ShapeError):
        directional.directional(rainy, Weights(1.0, 0.3))
    with pytest.raises(DomainError):
        Weights(0.0, 1.0)


#: PSNR and SSIM on Y of a part of the first pair, measured once with the published weights.
MEASURED = {
    ("rain100l", "prenet"): (34.6006, 0.95690),
    ("rain100l", "prenet_r"): (35.0735, 0.95985),
    ("rain100l", "prn"): (34.6112, 0.95805),
    ("rain100l", "prn_r"): (34.1446, 0.95394),
    ("rain100h", "prenet"): (29.3917, 0.89974),
    ("rain100h", "prenet_r"): (29.2528, 0.88604),
    ("rain100h", "prn"): (27.3856, 0.87444),
    ("rain100h", "prn_r"): (26.4176, 0.85493),
}


@pytest.mark.data
@pytest.mark.parametrize(("dataset", "method"), list(MEASURED))
def test_published_weights_on_a_part_of_a_real_pair(dataset: str, method: str) -> None:
    rainy, clean = (x[:, 100:196, 100:196] for x in deraining.pair(dataset, 1))
    with torch.no_grad():
        restored = deraining.published(method, dataset)(rainy[None])[0]
    found = deraining.score(restored, clean)
    assert found["psnr_y"] == pytest.approx(MEASURED[dataset, method][0], abs=0.005)
    assert found["ssim_y"] == pytest.approx(MEASURED[dataset, method][1], abs=1e-4)


@pytest.mark.data
def test_input_of_real_pairs() -> None:
    expected = {"rain100l": (25.9482, 0.85965), "rain100h": (16.9533, 0.43774)}
    for dataset, (psnr_y, ssim_y) in expected.items():
        rainy, clean = (x[:, 100:196, 100:196] for x in deraining.pair(dataset, 1))
        found = deraining.score(rainy, clean)
        assert found["psnr_y"] == pytest.approx(psnr_y, abs=1e-4)
        assert found["ssim_y"] == pytest.approx(ssim_y, abs=1e-5)
