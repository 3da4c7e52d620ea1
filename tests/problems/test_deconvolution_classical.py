"""What the baselines learn from, and the rows that they are measured in."""

import pytest
import torch

from bmo.baselines.restoration import FDN, PatchMixture, Wiener
from bmo.data import files, kernels, load_image
from bmo.problems.deconvolution import classical, fitting, protocol
from bmo.record import find, read

CLASSES = {"unh-wiener", "unh-wavelets", "unh-tv", "unh-epll", "ena-fdn"}


def squares(count, side):
    """Pictures with edges, for a training that a test can wait for."""
    draws, found = torch.Generator().manual_seed(0), []
    for _ in range(count):
        image = torch.rand(3, 1, 1, generator=draws).expand(3, side, side).clone()
        for _ in range(6):
            top, left = torch.randint(side - 8, (2,), generator=draws).tolist()
            image[:, top : top + 14, left : left + 14] = torch.rand(3, 1, 1, generator=draws)
        found.append(image)
    return found


def test_observations_follow_the_model():
    clean = torch.rand(2, 3, 32, 30, dtype=torch.float64)
    sigma = torch.tensor([0.0, 0.05]).reshape(2, 1, 1, 1)
    u, b, symbols, noise = fitting.observed(clean, sigma, torch.Generator().manual_seed(3))
    blurred = torch.fft.irfft2(torch.fft.rfft2(clean) * symbols, s=(32, 30))
    assert torch.equal(u, clean)
    assert torch.allclose(b[0], blurred[0], atol=1e-12)
    assert abs(float((b[1] - blurred[1]).std()) - 0.05) < 0.003
    assert torch.allclose(symbols[:, 0, 0, 0].real, torch.ones(2, dtype=torch.float64))
    assert not torch.allclose(symbols[0], symbols[1])
    assert noise.dtype == torch.float64


def test_crops_are_parts_of_the_pictures():
    image = torch.arange(3 * 9 * 11.0).reshape(3, 9, 11)
    for part in fitting.crops([image], 5, 4, torch.Generator().manual_seed(1)):
        every = [part.rot90(n, (-2, -1)).flip(d) for n in range(4) for d in ((), (-1,))]
        windows = image.unfold(1, 4, 1).unfold(2, 4, 1).permute(1, 2, 0, 3, 4).flatten(0, 1)
        assert any(bool((windows == turned).all((1, 2, 3)).any()) for turned in every)
    assert torch.equal(fitting.middle(image, 5), image[:, 2:7, 3:8])


def test_training_lowers_the_error_and_repeats_itself():
    found, said = squares(3, 40), []

    def trained(steps):
        torch.manual_seed(0)
        net = FDN(stages=1, width=4, layers=2, filters=3, side=3)
        return fitting.train_network(net, found, steps, side=32, rate=1e-2, say=said.append)

    net, again = trained(30), trained(30)
    assert all(
        torch.equal(a, b)
        for a, b in zip(net.state_dict().values(), again.state_dict().values(), strict=True)
    )
    assert said[0].startswith("step 0")
    u, b, symbols, sigma = fitting.held_out(found, 0.01, side=32)
    with torch.no_grad():
        before, after = trained(0)(b, symbols, sigma), net(b, symbols, sigma)
    assert float((after - u).square().mean()) < 0.9 * float((before - u).square().mean())


@pytest.mark.parametrize("sigma", fitting.LEVELS)
def test_candidates_are_compared_on_the_same_observations(sigma):
    found = fitting.compare(squares(2, 64), sigma, side=64)
    assert len(found) == 7
    clean, b, symbols, noise = fitting.held_out(squares(2, 64), sigma, side=64)
    name, method = next(iter(fitting.candidates(sigma).items()))
    expected = protocol.score(method.restore(b, symbols, noise), clean).mean()
    assert found[name] == float(expected)
    assert len(set(found.values())) > 5


def test_the_command_keeps_a_mixture_and_a_network(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(fitting, "pictures", lambda held: squares(2, 256))
    monkeypatch.setattr(fitting, "compare", lambda found, sigma: {"tv": 1.0})
    mixture = PatchMixture(torch.ones(1), torch.eye(64)[None])
    monkeypatch.setattr(fitting, "fit_mixture", lambda: mixture)
    monkeypatch.setattr(fitting, "train_network", lambda net, found, steps, say: net)
    fitting.main(tmp_path)
    kept = sorted(path.name for path in tmp_path.iterdir())
    assert kept == [f"deconvolution-classical.full.{name}.safetensors" for name in ("epll", "fdn")]
    assert "spectrum" in capsys.readouterr().out


def test_rows_have_the_shape_of_the_records(monkeypatch):
    image = squares(1, 64)[0].double()
    monkeypatch.setattr(classical, "load_image", lambda name: image)
    box = torch.full((3, 3), 1 / 9, dtype=torch.float64)
    monkeypatch.setattr(classical, "levin", lambda: [None, None, None, box])
    found = classical.measure(["unh-wiener"], ["leaves"], [3.0], [0, 1])
    psnr, ssim = classical.rows(found)
    assert (psnr["metric"], ssim["metric"], psnr["n"]) == ("psnr", "ssim", 2)
    assert psnr["setting"] == {
        "image": "leaves", "sigma_percent": 3.0, "kernel": 3, "certified": "by construction"
    }  # fmt: skip
    assert set(classical.CERTIFIED) == set(classical.METHODS) == CLASSES
    assert isinstance(classical.restorer("unh-wiener"), Wiener)


def test_the_record_is_written_and_read(tmp_path, monkeypatch):
    monkeypatch.setattr(classical, "SEEDS", (0, 1))
    values = {"psnr": [30.0, 31.0], "ssim": [0.9, 0.8]}
    path = classical.save(tmp_path, {("unh-tv", 1.0, "leaves"): values}, 1.5)
    record = read(path)
    assert record.value(method="unh-tv", metric="psnr", image="leaves") == 30.5
    assert record.command == "python -m bmo.problems.deconvolution.classical"


@pytest.mark.parametrize("method", sorted(CLASSES))
def test_every_method_can_be_made_from_what_is_recorded(method):
    assert classical.restorer(method).name == method


@pytest.mark.data
@pytest.mark.parametrize("method", sorted(CLASSES))
def test_measured_rows_come_out_again(method):
    record = find("deconvolution-classical.full")
    for percent, image in ((1.0, "leaves"), (3.0, "starfish")):
        found = classical.measure([method], [image], [percent], [0])
        (psnr,) = found[method, percent, image]["psnr"]
        where = {"method": method, "metric": "psnr", "image": image, "sigma_percent": percent}
        (row,) = record.select(**where)
        # one seed against the mean of five: four deviations of a seed, and 0.05 dB at least
        assert abs(psnr - row["value"]) < max(0.05, 4 * row["std"])


@pytest.mark.data
def test_pictures_to_choose_on_are_kept_from_the_training(monkeypatch):
    monkeypatch.setattr(
        fitting, "images", lambda name, dtype: ((f, load_image(f, dtype)) for f in files(name)[:44])
    )
    held, others = fitting.pictures(held=True), fitting.pictures(held=False)
    assert (len(held), len(others)) == (2, 42)
    assert not any(torch.equal(a, b) for a in held for b in others if a.shape == b.shape)
    mixture = fitting.fit_mixture(count=2, patches=500, iterations=1)
    assert mixture.covariances.shape == (2, 64, 64)
    assert len(kernels()) == 8
