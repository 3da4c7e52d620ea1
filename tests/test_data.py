"""The registry, images and kernels on small made files; synthetic draws against closed forms."""

from __future__ import annotations

import hashlib
import importlib
import importlib.util
import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

from bmo import data
from bmo.data import registry
from bmo.data.reading import decode
from bmo.errors import BMOError, DataError, DomainError, MetricError, ShapeError

CONTENT = b"the content of a small file"


@pytest.fixture
def entry(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> data.DataFile:
    """A file published in one folder; BMO_DATA and the cache are two others, empty."""
    source = tmp_path / "published" / "small.bin"
    source.parent.mkdir()
    source.write_bytes(CONTENT)
    monkeypatch.setenv("BMO_DATA", str(tmp_path / "offline"))
    monkeypatch.setenv("BMO_CACHE", str(tmp_path / "cache"))
    digest = hashlib.sha256(CONTENT).hexdigest()
    return data.DataFile("made", "made/small.bin", source.as_uri(), digest, len(CONTENT), "MIT")


def put(folder: Path, entry: data.DataFile, content: bytes = CONTENT) -> Path:
    path = folder / entry.file
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    return path


def test_bmo_data_comes_first_then_the_cache_then_the_address(
    entry: data.DataFile, tmp_path: Path
) -> None:
    cached = tmp_path / "cache" / entry.file
    assert data.fetch(entry) == cached  # downloaded
    assert cached.read_bytes() == CONTENT
    (tmp_path / "published" / "small.bin").unlink()
    assert data.fetch(entry) == cached  # found again without the address
    offline = put(tmp_path / "offline", entry)
    assert data.fetch(entry) == offline


def test_without_bmo_data_the_cache_is_used(
    entry: data.DataFile, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    put(tmp_path / "offline", entry)
    monkeypatch.delenv("BMO_DATA")
    assert data.fetch(entry) == tmp_path / "cache" / entry.file


@pytest.mark.parametrize("folder", ["offline", "cache"])
@pytest.mark.parametrize("damage", [CONTENT[:-1], CONTENT.upper(), b""])
def test_a_damaged_file_is_refused_even_where_a_good_one_could_be_had(
    entry: data.DataFile, tmp_path: Path, folder: str, damage: bytes
) -> None:
    path = put(tmp_path / folder, entry, damage)
    with pytest.raises(DataError, match="altered or truncated") as caught:
        data.fetch(entry)
    assert caught.value.value == str(path)
    assert entry.url in caught.value.remedy
    assert path.read_bytes() == damage


def test_damage_after_the_first_use_is_noticed(entry: data.DataFile, tmp_path: Path) -> None:
    path = put(tmp_path / "offline", entry)
    assert data.fetch(entry) == path
    path.write_bytes(CONTENT.swapcase())
    os.utime(path, ns=(1, 1))
    with pytest.raises(DataError, match="altered"):
        data.fetch(entry)


def test_offline_error_names_address_and_both_ways_out(
    entry: data.DataFile, tmp_path: Path
) -> None:
    (tmp_path / "published" / "small.bin").unlink()
    with pytest.raises(DataError) as caught:
        data.fetch(entry, pause=0)
    assert entry.url in caught.value.got
    assert "BMO_DATA" in caught.value.remedy
    assert str(tmp_path / "cache" / entry.file) in caught.value.remedy
    assert caught.value.value == entry.file


def test_an_altered_publication_never_reaches_the_cache(
    entry: data.DataFile, tmp_path: Path
) -> None:
    (tmp_path / "published" / "small.bin").write_bytes(CONTENT.upper())
    with pytest.raises(DataError, match="sha256"):
        data.fetch(entry, pause=0)
    assert not list((tmp_path / "cache").rglob("*.*"))


def test_registry_is_complete_and_well_formed() -> None:
    everything = [data.data_file(name) for group in data.sets() for name in data.files(group)]
    assert len(everything) == len({e.file for e in everything}) == 781
    for e in everything:
        assert e.file.startswith(e.set + "/")
        assert e.url.startswith("https://raw.githubusercontent.com/")
        assert len(e.url.split("/")[5]) == 40  # a commit, not a branch
        assert len(e.sha256) == 64 and int(e.sha256, 16) >= 0
        assert e.bytes > 0 and e.licence


def test_pairs_of_sets_run_in_step() -> None:
    rain, clean = data.files("rain100l_test/rain"), data.files("rain100l_test/norain")
    assert [r.rpartition("-")[2] for r in rain] == [c.rpartition("-")[2] for c in clean]
    assert data.files("rain100h_test/rain")[:3] == tuple(
        f"rain100h_test/rain/{k}.png" for k in (1, 2, 3)
    )


def test_unknown_names_are_refused_with_a_hint() -> None:
    with pytest.raises(DataError, match="did you mean set3c/leaves.png"):
        data.locate("set3c/leafs.png")
    with pytest.raises(DataError, match="see bmo.data.files"):
        data.locate("?")
    with pytest.raises(DataError, match="set14"):
        data.files("set15")


def test_hashes_for_a_record(entry: data.DataFile) -> None:
    known = data.hashes(["set3c/leaves.png", "scikit-image/coins.png"])
    assert known[0] == {
        "file": "set3c/leaves.png",
        "sha256": data.data_file("set3c/leaves.png").sha256,
    }
    assert known[1]["sha256"] == registry.picture_hashes()["coins.png"]
    with pytest.raises(DataError):
        data.hashes(["scikit-image/nobody.png"])


def registered(monkeypatch: pytest.MonkeyPatch, folder: Path, group: str) -> None:
    """Make the files of a folder the whole registry, and BMO_DATA their place."""
    entries = {}
    for path in sorted((folder / group).iterdir()):
        name = f"{group}/{path.name}"
        digest = hashlib.sha256(path.read_bytes()).hexdigest()
        entries[name] = data.DataFile(group, name, path.as_uri(), digest, 1, "MIT")
    monkeypatch.setattr(registry, "_registry", lambda: entries)
    monkeypatch.setenv("BMO_DATA", str(folder))


def test_images_come_in_order_as_float_tensors(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "made").mkdir()
    pixels = np.random.RandomState(0).randint(0, 256, (5, 4, 3)).astype(np.uint8)
    for name in ("10", "9", "1"):
        Image.fromarray(pixels).save(tmp_path / "made" / f"{name}.png")
    registered(monkeypatch, tmp_path, "made")
    found = list(data.images("made", dtype=torch.float32))
    assert [name for name, _ in found] == ["made/1.png", "made/9.png", "made/10.png"]
    for _, u in found:
        assert u.dtype == torch.float32 and u.is_contiguous()
        assert torch.equal(u, torch.from_numpy(pixels.transpose(2, 0, 1).copy()).float() / 255)


@pytest.mark.parametrize("mode", ["L", "RGB", "P"])
def test_decode_of_each_mode(tmp_path: Path, mode: str) -> None:
    picture = Image.fromarray(np.arange(48, dtype=np.uint8).reshape(4, 4, 3) * 5).convert(mode)
    picture.save(tmp_path / "x.png")
    u = decode(tmp_path / "x.png")
    expected = np.asarray(picture if mode == "L" else picture.convert("RGB"))
    channels_first = expected[None] if mode == "L" else expected.transpose(2, 0, 1)
    assert u.dtype == torch.float64
    assert u.shape == ((1, 4, 4) if mode == "L" else (3, 4, 4))
    assert np.array_equal((u * 255).round().numpy(), channels_first)


@pytest.mark.parametrize("mode", ["RGBA", "I;16", "1", "CMYK"])
def test_decode_refuses_what_is_not_8_bit_colour(tmp_path: Path, mode: str) -> None:
    path = tmp_path / ("x.tif" if mode == "CMYK" else "x.png")
    Image.new(mode, (3, 3)).save(path)
    with pytest.raises(DataError, match="8-bit") as caught:
        decode(path)
    assert mode in caught.value.got


def test_decode_refuses_half_an_image(tmp_path: Path) -> None:
    path = tmp_path / "x.png"
    Image.fromarray(np.random.RandomState(0).randint(0, 255, (64, 64)).astype(np.uint8)).save(path)
    path.write_bytes(path.read_bytes()[:2000])
    with pytest.raises(DataError, match="an image file"):
        decode(path)


def test_gray_is_luma_and_keeps_gray() -> None:
    u = torch.rand(2, 3, 4, 5, dtype=torch.float64)
    assert torch.allclose(
        data.gray(u)[:, 0], 0.299 * u[:, 0] + 0.587 * u[:, 1] + 0.114 * u[:, 2], atol=1e-15, rtol=0
    )
    one = u[:, :1]
    assert data.gray(one) is one
    with pytest.raises(ShapeError):
        data.gray(u[:, :2])


def made_kernels(folder: Path) -> list[np.ndarray]:
    """A MATLAB v7.3 file as MATLAB writes it: references to arrays stored column by column."""
    rng = np.random.RandomState(0)
    made = [rng.rand(3, 5), rng.rand(7, 7)]
    (folder / "levin09").mkdir()
    with h5py.File(folder / "levin09" / "Levin09.mat", "w") as store:
        cells = store.create_dataset("kernels", (len(made), 1), dtype=h5py.ref_dtype)
        for k, kernel in enumerate(made):
            cells[k, 0] = store.create_dataset(f"#refs#/{k}", data=kernel.T).ref
    return made


def test_kernels_are_transposed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made = made_kernels(tmp_path)
    registered(monkeypatch, tmp_path, "levin09")
    found = data.kernels()
    assert [tuple(k.shape) for k in found] == [(3, 5), (7, 7)]
    for kernel, expected in zip(found, made, strict=True):
        assert np.array_equal(kernel.numpy(), expected)


def test_kernels_without_h5py_say_what_to_install(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made_kernels(tmp_path)
    registered(monkeypatch, tmp_path, "levin09")
    plain = importlib.import_module

    def without(name: str, *arguments: Any) -> Any:
        if name == "h5py":
            raise ImportError(name)
        return plain(name, *arguments)

    monkeypatch.setattr(importlib, "import_module", without)
    with pytest.raises(DataError, match="pip install h5py"):
        data.kernels()


def test_page_pictures_are_fixed_gray_and_disjoint(monkeypatch: pytest.MonkeyPatch) -> None:
    # The network is out of reach: opening a socket would fail the test.
    monkeypatch.setattr("socket.socket.connect", None)
    train, test = data.page_pictures("train"), data.page_pictures("test", torch.float32)
    assert tuple(train) == data.TRAIN_PICTURES and tuple(test) == data.TEST_PICTURES
    assert not set(train) & set(test)
    assert len(train) == 8 and len(test) == 4
    for u in train.values():
        assert u.ndim == 2 and u.dtype == torch.float64
        assert 0 <= u.min() < u.max() <= 1
    assert all(u.dtype == torch.float32 for u in test.values())


def test_page_pictures_agree_with_scikit_image() -> None:
    from skimage import data as skimage_data

    expected = torch.from_numpy(skimage_data.camera()).double() / 255
    assert torch.equal(data.page_pictures("test")["camera"], expected)
    colours = skimage_data.astronaut() / 255.0
    luma = torch.from_numpy(colours @ np.array([0.299, 0.587, 0.114]))
    assert (data.page_pictures()["astronaut"] - luma).abs().max().item() < 1e-15


def test_page_pictures_refuse_another_version(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Elsewhere:
        origin = str(tmp_path / "__init__.py")

    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "camera.png").write_bytes(b"an older camera")
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: Elsewhere)
    with pytest.raises(DataError, match="altered"):
        data.page_pictures("test")
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(DataError, match="pip install scikit-image"):
        data.page_pictures("test")
    with pytest.raises(DataError, match="'train' or 'test'"):
        data.page_pictures("validation")


def test_generator_is_a_function_of_its_seed() -> None:
    draws = [data.sparse_codes(5, 7, 0.5, data.generator(seed)) for seed in (3, 3, 4)]
    assert torch.equal(draws[0], draws[1]) and not torch.equal(draws[0], draws[2])
    for seed in (-1, 1.5, True, "0"):
        with pytest.raises(DomainError, match="seed"):
            data.generator(seed)  # type: ignore[arg-type]


def test_sparse_codes_are_bernoulli_gaussian() -> None:
    u = data.sparse_codes(2000, 100, 0.1, data.generator(0))
    kept = u[u != 0]
    # Five standard deviations of each estimate, for 200,000 entries and 20,000 values.
    assert abs(kept.numel() / u.numel() - 0.1) < 5 * (0.09 / u.numel()) ** 0.5
    assert abs(kept.mean().item()) < 5 / kept.numel() ** 0.5
    assert abs(kept.var().item() - 1) < 5 * (2 / kept.numel()) ** 0.5
    assert abs(kept.pow(4).mean().item() - 3) < 5 * (96 / kept.numel()) ** 0.5
    full = data.sparse_codes(3, 4, 1, data.generator(0), torch.float32)
    assert full.dtype == torch.float32 and bool((full != 0).all())


@pytest.mark.parametrize("condition", [1.0, 10.0, 1e4])
@pytest.mark.parametrize("n", [2, 5, 30])
def test_random_spd_has_the_condition_number(n: int, condition: float) -> None:
    H = data.random_spd(n, condition, data.generator(n))
    assert torch.equal(H, H.T)
    values = np.linalg.eigvalsh(H.numpy())
    expected = condition ** (np.arange(n) / (n - 1))
    assert np.abs(values / expected - 1).max() < 1e-10


def test_random_orthogonal_is_orthogonal_and_not_biased() -> None:
    n = 4
    draws = torch.stack([data.random_orthogonal(n, data.generator(k)) for k in range(400)])
    assert (draws.mT @ draws - torch.eye(n, dtype=torch.float64)).abs().max().item() < 1e-13
    # Haar: mean 0 and variance 1/n in each entry. Without the signs, Q[0, 0] is never positive.
    assert draws.mean(0).abs().max().item() < 5 / (n * 400) ** 0.5
    assert (n * draws.square().mean(0) - 1).abs().max().item() < 5 * (2 / 400) ** 0.5


@pytest.mark.parametrize("condition", [1.0, 100.0, 1e4])
@pytest.mark.parametrize("norm", [0.0, 0.7, 1.0])
def test_nonexpansive_matrix_has_its_norm_in_the_metric(condition: float, norm: float) -> None:
    H = data.random_spd(6, condition, data.generator(1))
    D = data.nonexpansive_matrix(H, data.generator(2), norm)
    # ||D||_H is the Euclidean norm of L^T D L^{-T} for any factor H = L L^T: Cholesky here.
    L = torch.linalg.cholesky(H)
    other = L.T @ D @ torch.linalg.inv(L.T)
    assert abs(torch.linalg.matrix_norm(other, 2).item() - norm) < 1e-10


def test_the_metric_matters_for_the_drawn_map() -> None:
    H = data.random_spd(6, 100.0, data.generator(0))
    D = data.nonexpansive_matrix(H, data.generator(1))
    euclidean = torch.linalg.matrix_norm(D, 2).item()
    assert 1.5 < euclidean < 10.0 + 1e-9  # at most the root of the condition number


def eye(n: int) -> Tensor:
    return torch.eye(n, dtype=torch.float64)


REFUSED: Sequence[tuple[str, type[BMOError], Any]] = [
    ("density in", DomainError, lambda g: data.sparse_codes(1, 1, 0.0, g)),
    ("density in", DomainError, lambda g: data.sparse_codes(1, 1, 1.1, g)),
    ("count ≥ 1", DomainError, lambda g: data.sparse_codes(0, 1, 0.5, g)),
    ("size ≥ 1", DomainError, lambda g: data.sparse_codes(1, 0, 0.5, g)),
    ("n ≥ 1", DomainError, lambda g: data.random_orthogonal(0, g)),
    ("n ≥ 2", DomainError, lambda g: data.random_spd(1, 5.0, g)),
    ("condition ≥ 1", DomainError, lambda g: data.random_spd(3, 0.5, g)),
    ("condition ≥ 1", DomainError, lambda g: data.random_spd(3, float("inf"), g)),
    ("square", ShapeError, lambda g: data.nonexpansive_matrix(eye(3)[:2], g)),
    ("norm ≥ 0", DomainError, lambda g: data.nonexpansive_matrix(eye(3), g, -1.0)),
    ("symmetric", MetricError, lambda g: data.nonexpansive_matrix(eye(3).cumsum(0), g)),
    ("symmetric", MetricError, lambda g: data.nonexpansive_matrix(eye(3) * float("nan"), g)),
    ("positive definite", MetricError, lambda g: data.nonexpansive_matrix(-eye(3), g)),
]


@pytest.mark.parametrize(("message", "error", "draw"), REFUSED)
def test_draws_that_make_no_sense_are_refused(
    message: str, error: type[BMOError], draw: Any
) -> None:
    with pytest.raises(error, match=message):
        draw(data.generator(0))


@pytest.fixture
def real() -> Path:
    """The folder of real files; a missing one is a failure, never a skip."""
    folder = os.environ.get("BMO_DATA")
    if not folder:
        raise RuntimeError("tests marked data need BMO_DATA")
    return Path(folder)


@pytest.mark.data
def test_every_registered_file_is_as_the_registry_says(real: Path) -> None:
    for group in data.sets():
        for name in data.files(group):
            path = data.locate(name)
            assert path.stat().st_size == data.data_file(name).bytes
            assert real in path.parents


@pytest.mark.data
def test_registry_repeats_the_manifest(real: Path) -> None:
    manifest = json.loads((real / "MANIFEST.json").read_text())["files"]
    assert len(manifest) == sum(len(data.files(group)) for group in data.sets())
    for line in manifest:
        known = data.data_file(line["file"])
        for key in ("set", "file", "url", "sha256", "bytes", "licence"):
            assert getattr(known, key) == line[key]


@pytest.mark.data
def test_the_real_kernels(real: Path) -> None:
    found = data.kernels()
    assert [k.shape[0] for k in found] == [19, 17, 15, 27, 13, 21, 23, 23]
    for kernel in found:
        assert bool((kernel >= 0).all()) and abs(kernel.sum().item() - 1) < 1e-12


@pytest.mark.data
def test_the_real_images(real: Path) -> None:
    shapes = {name: tuple(u.shape) for name, u in data.images("set3c")}
    assert set(shapes.values()) == {(3, 256, 256)}
    channels = [u.shape[0] for _, u in data.images("set14")]
    assert sorted(channels) == [1] + [3] * 13
