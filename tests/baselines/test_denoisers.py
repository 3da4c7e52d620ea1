"""Denoisers against scipy's convolutions, their files, and restoration with linear denoisers."""

import importlib
from itertools import pairwise

import h5py
import numpy as np
import pytest
import torch
from scipy.ndimage import correlate

from bmo.baselines.denoisers import (
    DPIR,
    IRCNN,
    Averaged,
    Denoiser,
    FFDNet,
    IRCNNGray,
    Schedule,
    Scheduled,
    SimpleCNN,
    ffdnet,
    ircnn,
    reading,
    stationary,
)
from bmo.baselines.denoisers.base import fill
from bmo.baselines.denoisers.schedules import data_step, turn, turn_back
from bmo.errors import DataError, DomainError, ShapeError

DRAWS = torch.Generator().manual_seed(5)


def drawn(net):
    """The net with small random weights, in float64."""
    for p in net.double().parameters():
        size = (2 / p[0].numel()) ** 0.5 if p.dim() > 1 else 0.1  # the signal keeps its size
        p.copy_(size * torch.randn(p.shape, generator=DRAWS, dtype=torch.float64))
    return net


def by_scipy(x, layers, dilations):
    """Convolutions with zeros outside, ReLU between them, in numpy."""
    for at, (layer, d) in enumerate(zip(layers, dilations, strict=True)):
        kernels = layer.weight.numpy()
        bias = np.zeros(len(kernels)) if layer.bias is None else layer.bias.numpy()
        wide = np.zeros((*kernels.shape[:2], 2 * d + 1, 2 * d + 1))
        wide[..., ::d, ::d] = kernels
        x = np.stack(
            [
                sum(correlate(a, k, mode="constant") for a, k in zip(x, out, strict=True)) + c
                for out, c in zip(wide, bias, strict=True)
            ]
        )
        x = np.maximum(x, 0) if at < len(layers) - 1 else x
    return x


@pytest.mark.parametrize("channels", [3, 1])
def test_ffdnet_is_its_convolutions_on_the_four_halves(channels):
    net = drawn(FFDNet(channels))
    u = torch.rand(1, channels, 5, 6, generator=DRAWS, dtype=torch.float64)
    even = np.concatenate([u[0].numpy(), u[0, :, -1:].numpy()], 1)
    halves = [even[c, i::2, j::2] for c in range(channels) for i in (0, 1) for j in (0, 1)]
    x = np.stack([*halves, np.full((3, 3), 0.1)])
    y = by_scipy(x, net.convolutions, [1] * len(net.convolutions))
    wanted = np.empty((channels, 6, 6))
    for c in range(channels):
        for at, (i, j) in enumerate([(0, 0), (0, 1), (1, 0), (1, 1)]):
            wanted[c, i::2, j::2] = y[4 * c + at]
    assert np.abs(net(u, 0.1)[0].numpy() - wanted[:, :5]).max() < 1e-12
    assert float((net(u, 0.1) - net(u, 0.2)).abs().max()) > 1e-4


def test_the_nets_of_ircnn_and_the_small_one_give_the_noise():
    u = torch.rand(1, 2, 9, 9, generator=DRAWS, dtype=torch.float64)
    for net, layers, dilations in (
        ((a := drawn(IRCNNGray([5]))), a.nets["5"], ircnn.DILATIONS),
        ((b := drawn(SimpleCNN())), b.convolutions, [1] * 4),
    ):
        found = net(u, 10 / 255)
        for c in (0, 1):
            wanted = u[0, c].numpy() - by_scipy(u[0, c : c + 1].numpy(), layers, dilations)[0]
            assert np.abs(found[0, c].numpy() - wanted).max() < 1e-12


def test_a_level_picks_the_next_stronger_net():
    net = IRCNNGray()
    picked = [net.net_of(s / 255) for s in (0.5, 2, 2.55, 4, 15, 25, 49, 50, 80)]
    assert picked == ["1", "1", "2", "2", "8", "13", "25", "25", "25"]


def test_a_batch_takes_a_level_for_each_image():
    u = torch.rand(2, 1, 8, 8, generator=DRAWS, dtype=torch.float64)
    levels = torch.tensor([5.0, 40.0]).reshape(2, 1, 1, 1) / 255
    for net in (drawn(FFDNet(1)), drawn(IRCNNGray([3, 20]))):
        found = net(u, levels)
        for k in (0, 1):
            assert torch.allclose(found[k], net(u[k : k + 1], levels[k])[0], atol=1e-14)


def test_other_shapes_levels_and_sizes_are_refused():
    net = FFDNet(3)
    u = torch.rand(2, 3, 8, 8)
    assert net(u.double(), 0.1).dtype == torch.float64
    assert not any(p.requires_grad for p in net.parameters())
    with pytest.raises(ShapeError, match="B, 3, H, W"):
        net(u[:, :1], 0.1)
    with pytest.raises(ShapeError, match="B, C, H, W"):
        SimpleCNN()(u[0], 0.1)
    with pytest.raises(DomainError, match="level >= 0"):
        net(u, -0.1)
    with pytest.raises(ShapeError, match="1 or 2 noise levels"):
        net(u, torch.rand(3))
    with pytest.raises(DomainError, match="3 or 1"):
        FFDNet(2)
    with pytest.raises(DomainError, match="out of 1 to 25"):
        IRCNNGray([26])
    with pytest.raises(DomainError, match="net 25"):
        IRCNNGray([1])(u, 0.9)
    with pytest.raises(DomainError, match="5, 15, 40"):
        SimpleCNN.pretrained(10)


def convolutions(ends):
    """Random kernels (out, in, 3, 3) and biases, as files hold them: float32."""
    return [
        (torch.randn(b, a, 3, 3, generator=DRAWS), torch.randn(b, generator=DRAWS))
        for a, b in pairwise(ends)
    ]


def keras_file(path, layers):
    """What Keras writes: kernels (height, width, in, out), with empty layers between."""
    with h5py.File(path, "w") as store:
        root = store.create_group("model_weights")
        names = []
        for k, (kernel, bias) in enumerate(layers):
            for name, values in (
                (f"c{k}", {"kernel:0": kernel.permute(2, 3, 1, 0), "bias:0": bias}),
                (f"relu{k}", {}),
            ):
                group = root.create_group(name)
                for key, value in values.items():
                    group[f"{name}/{key}"] = value.numpy()
                group.attrs["weight_names"] = [f"{name}/{key}".encode() for key in values]
                names.append(name)
        root.attrs["layer_names"] = [name.encode() for name in names]


def matlab_file(path, layers):
    """What MATLAB writes: cells of references, everything transposed, text as numbers."""
    with h5py.File(path, "w") as store:
        cells = []
        for k, (kernel, bias) in enumerate(layers):
            for kind in ("conv", "relu"):
                cell = store.create_group(f"#refs#/{kind}{k}")
                cell["type"] = np.array([[ord(c)] for c in kind], dtype=np.uint16)
                if kind == "conv":
                    store[f"#refs#/w{k}"] = kernel.mT.numpy()
                    store[f"#refs#/b{k}"] = bias[None].numpy()
                    refs = [[store[f"#refs#/{x}{k}"].ref] for x in "wb"]
                    cell["weights"] = np.array(refs, dtype=h5py.ref_dtype)
                cells.append([cell.ref])
        store.create_group("net")["layers"] = np.array(cells, dtype=h5py.ref_dtype)


def test_files_of_keras_become_the_nets(tmp_path, monkeypatch):
    layers = convolutions([1, *[64] * 6, 1])
    keras_file(tmp_path / "net7.hdf5", layers)
    monkeypatch.setattr(ircnn, "locate", lambda file: tmp_path / file.split("/")[1])
    net = IRCNNGray.pretrained([7])
    for layer, (kernel, bias) in zip(net.nets["7"], layers, strict=True):
        assert torch.equal(layer.weight, kernel) and torch.equal(layer.bias, bias)


def test_files_of_matlab_become_the_gray_net(tmp_path, monkeypatch):
    layers = convolutions([5, *[64] * 14, 4])
    matlab_file(tmp_path / "gray.mat", layers)
    monkeypatch.setattr(ffdnet, "locate", lambda file: tmp_path / "gray.mat")
    net = FFDNet.pretrained(1)
    for layer, (kernel, bias) in zip(net.convolutions[1:-1], layers[1:-1], strict=True):
        assert torch.equal(layer.weight, kernel) and torch.equal(layer.bias, bias)
    # MATLAB counts down the columns: its second channel is the lower left pixel of a square
    first, last = net.convolutions[0].weight, net.convolutions[-1]
    assert torch.equal(first[:, 2], layers[0][0][:, 1]) and torch.equal(
        first[:, 4], layers[0][0][:, 4]
    )
    assert torch.equal(last.weight[1], layers[-1][0][2]) and float(last.bias[1]) == layers[-1][1][2]


def test_files_of_pytorch_become_the_nets(tmp_path, monkeypatch):
    monkeypatch.setattr(reading, "locate", lambda file: tmp_path / file.split("/")[-1])
    layers = convolutions([13, *[96] * 11, 12])
    named = {}
    for k, pair in enumerate(layers):
        named |= {f"model.{2 * k}.{x}": v for x, v in zip(("weight", "bias"), pair, strict=True)}
    torch.save(named, tmp_path / "ffdnet_color.pth")
    net = FFDNet.pretrained(3)
    assert all(torch.equal(a.weight, b[0]) for a, b in zip(net.convolutions, layers, strict=True))
    del named["model.4.bias"]
    torch.save(named, tmp_path / "ffdnet_color.pth")
    with pytest.raises(DataError, match=r"model\.4\.bias"):
        FFDNet.pretrained(3)
    small = [kernel for kernel, _ in convolutions([1, 64, 64, 64, 1])]
    path = tmp_path / "SimpleCNN_noise15.pth"
    torch.save({f"dncnn.{2 * k}.weight": w for k, w in enumerate(small)}, path)
    found = SimpleCNN.pretrained(15)
    assert all(torch.equal(a.weight, b) for a, b in zip(found.convolutions, small, strict=True))
    torch.save({"dncnn.0.weight": small[0]}, path)
    with pytest.raises(DataError, match=r"dncnn\.6"):
        SimpleCNN.pretrained(15)


class Planted:
    """Something that a file could run when it is read."""


def test_other_files_are_refused(tmp_path, monkeypatch):
    torch.save(Planted(), tmp_path / "planted.pth")
    with pytest.raises(DataError, match="weights alone"):
        reading.torch_weights(tmp_path / "planted.pth")
    torch.save([torch.ones(1)], tmp_path / "list.pth")
    with pytest.raises(DataError, match="by name"):
        reading.torch_weights(tmp_path / "list.pth")
    (tmp_path / "text").write_text("none of these")
    with pytest.raises(DataError, match="HDF5"):
        reading.keras_layers(tmp_path / "text")
    with h5py.File(tmp_path / "empty", "w"):
        pass
    with pytest.raises(DataError, match="Keras"):
        reading.keras_layers(tmp_path / "empty")
    with pytest.raises(DataError, match="'net'"):
        reading.matconvnet_layers(tmp_path / "empty")
    with pytest.raises(DataError, match="4 layers"):
        fill(SimpleCNN().convolutions, [[torch.ones(64, 1, 3, 3)]], "one layer")

    def missing(name):
        raise ImportError(name)

    monkeypatch.setattr(importlib, "import_module", missing)
    with pytest.raises(DataError, match="pip install h5py"):
        reading.keras_layers(tmp_path / "empty")


class Scaling(Denoiser):
    """A linear denoiser, :math:`N(u) = u/(1 + s)` plus what it sees in its corner."""

    name = "scaling"

    def __init__(self, corner=0.0):
        super().__init__()
        self.weight = torch.nn.Parameter(torch.tensor(corner, dtype=torch.float64))

    def estimate(self, u, sigma):
        self.seen = u
        return u / (1 + sigma) + self.weight * (u - u)


SHAPE = (4, 6)
KERNEL = torch.rand(SHAPE, generator=DRAWS, dtype=torch.float64)
SYMBOL = torch.fft.rfft2(KERNEL / KERNEL.sum())[None, None]
B = torch.rand(2, 3, *SHAPE, generator=DRAWS, dtype=torch.float64)


def matrix():
    """The circular convolution as a matrix, column by column."""
    units = torch.eye(24, dtype=torch.float64).reshape(24, *SHAPE)
    columns = torch.zeros(24, *SHAPE, dtype=torch.float64)
    k = KERNEL / KERNEL.sum()
    for i in range(SHAPE[0]):
        for j in range(SHAPE[1]):
            columns += k[i, j] * units.roll((i, j), (-2, -1))
    return columns.reshape(24, 24).T


def test_the_data_step_solves_the_normal_equations():
    A = matrix()
    z = torch.rand(B.shape, generator=DRAWS, dtype=torch.float64)
    found = data_step(z, torch.fft.rfft2(B), SYMBOL, 0.3)
    right = B.reshape(6, 24) @ A + 0.3 * z.reshape(6, 24)
    wanted = torch.linalg.solve(A.T @ A + 0.3 * torch.eye(24, dtype=torch.float64), right.T).T
    assert float((found.reshape(6, 24) - wanted).abs().max()) < 1e-12


def test_levels_and_weights_follow_the_published_formulas():
    for schedule, last, weight in ((DPIR, 2.55, 0.23), (IRCNN, 13.0, 1 / 3)):
        levels = [float(s) * 255 for s in schedule.levels(0.01)]
        wanted = np.geomspace(49, last, schedule.steps)
        assert np.allclose(levels, wanted, rtol=1e-12) and schedule.weight == weight
    A, net = matrix(), Scaling()
    z = B.reshape(6, 24)
    for s in DPIR.levels(0.02):
        rho = 0.23 * 0.02**2 / float(s) ** 2
        M = A.T @ A + rho * torch.eye(24, dtype=torch.float64)
        z = torch.linalg.solve(M, (B.reshape(6, 24) @ A + rho * z).T).T / (1 + float(s))
    found = Scheduled(net, DPIR).restore(B, SYMBOL, 0.02)
    assert float((found.reshape(6, 24) - z).abs().max()) < 1e-12


def test_each_image_of_a_batch_may_have_its_own_noise_level():
    sigma = torch.tensor([0.01, 0.03], dtype=torch.float64).reshape(2, 1, 1, 1)
    for schedule in (DPIR, IRCNN, stationary(8, 0.5, 3)):
        both = Scheduled(Scaling(), schedule).restore(B, SYMBOL, sigma)
        for k in (0, 1):
            alone = Scheduled(Scaling(), schedule).restore(B[k : k + 1], SYMBOL, float(sigma[k]))
            assert torch.allclose(both[k], alone[0], atol=1e-13)


def test_the_denoiser_sees_all_eight_symmetries():
    u = torch.arange(9.0, dtype=torch.float64).reshape(1, 1, 3, 3)
    ways = {tuple(turn(u, way).flatten().tolist()) for way in range(8)}
    assert len(ways) == 8 and torch.equal(turn(u, 0), u)
    assert all(torch.equal(turn_back(turn(u, way), way), u) for way in range(8))
    net = Scaling()
    shapes = [tuple(net.seen.shape[-2:]) for _ in Scheduled(net, DPIR).iterates(B, SYMBOL, 0.01)]
    assert set(shapes) == {(4, 6), (6, 4)}
    assert {
        tuple(net.seen.shape[-2:]) for _ in Scheduled(net, IRCNN).iterates(B, SYMBOL, 0.01)
    } == {(4, 6)}


class Leaning(Denoiser):
    """A denoiser that is not the same for a turned image: it looks to the right."""

    name = "leaning"

    def __init__(self):
        super().__init__()
        self.weight = torch.nn.Parameter(torch.ones((), dtype=torch.float64))

    def estimate(self, u, sigma):
        return (1 - sigma) * u + sigma * u.roll(1, -1)


def test_the_mean_of_runs_whose_turns_begin_elsewhere():
    runs = [Scheduled(Leaning(), DPIR, shift).restore(B, SYMBOL, 0.02) for shift in range(8)]
    assert len({tuple(run.flatten().tolist()) for run in runs}) == 8
    assert torch.equal(runs[0], Scheduled(Leaning(), DPIR).restore(B, SYMBOL, 0.02))
    for orders in (1, 2, 4, 8):
        found = Averaged(Leaning(), DPIR, orders).restore(B, SYMBOL, 0.02)
        wanted = sum(runs[:: 8 // orders]) / orders
        assert float((found - wanted).abs().max()) < 1e-14


@pytest.mark.parametrize("schedule, orders", [(DPIR, 3), (DPIR, 16), (DPIR, 0), (IRCNN, 8)])
def test_orders_that_do_not_divide_the_eight_turns_are_refused(schedule, orders):
    with pytest.raises(DomainError, match="orders of a schedule with turns"):
        Averaged(Scaling(), schedule, orders)


def test_the_stationary_scheme_reaches_the_fixed_point_of_its_map():
    rho, c = 0.4 * 0.01**2 / (10 / 255) ** 2, 1 / (1 + 10 / 255)
    found = Scheduled(Scaling(), stationary(10, 0.4, steps=400)).restore(B, SYMBOL, 0.01)
    top = c * SYMBOL.conj() * torch.fft.rfft2(B)
    wanted = torch.fft.irfft2(top / (SYMBOL.abs() ** 2 + rho - c * rho), s=SHAPE)
    assert float((found - wanted).abs().max()) < 1e-10


def test_schedules_and_data_that_do_not_fit_are_refused():
    restorer = Scheduled(Scaling(), DPIR)
    for wrong in ({"steps": 0}, {"first": 0}, {"last": -1}, {"weight": 0}):
        with pytest.raises(DomainError, match="> 0"):
            Schedule(**{"steps": 8, "first": 49, "last": 5, "weight": 0.2, **wrong})
    with pytest.raises(ShapeError, match="b of shape"):
        restorer.restore(B[0], SYMBOL, 0.01)
    with pytest.raises(ShapeError, match="complex symbol"):
        restorer.restore(B, SYMBOL[..., :3], 0.01)
    with pytest.raises(ShapeError, match="complex symbol"):
        restorer.restore(B, SYMBOL.real, 0.01)
    with pytest.raises(DomainError, match="noise level > 0"):
        restorer.restore(B, SYMBOL, 0.0)
