"""Bad calls of networks, measures, data, records, weights, training, and what surrounds them."""

from __future__ import annotations

import math
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from PIL import Image

from bmo import (
    baselines,
    bounds,
    data,
    measure,
    networks,
    notebook,
    parameters,
    performance,
    plotting,
    record,
)
from bmo.data.reading import decode
from bmo.problems import deraining, sparse_coding
from bmo.problems.deconvolution import kernels
from bmo.problems.deconvolution.blur import symbol_of
from bmo.train import Plan, train

FOLDER = Path(tempfile.gettempdir()) / "bmo-no-such-folder"
IMAGE = torch.rand(1, 16, 16, dtype=torch.float64)
FACTS: dict[str, Any] = {
    "experiment": "harness",
    "profile": "page",
    "created": "2026-01-31T12:00:00+00:00",
    "command": "python -m bmo",
    "settings": {"depth": 16},
    "seeds": [0],
    "data": [],
    "device": "CPU",
    "versions": {"torch": "2"},
    "commit": None,
    "seconds": 1.0,
    "rows": [record.row("bmo", {"depth": 16}, "psnr", 27.5)],
}


def a_record(**changes: Any) -> record.Record:
    """A good record, but for the changes."""
    return record.Record(**{**FACTS, **changes})


def file(content: bytes, name: str = "harness.page.json") -> Path:
    """A file with this content."""
    path = Path(tempfile.mkdtemp(prefix="bmo-bad-")) / name
    path.write_bytes(content)
    return path


def transparent() -> Path:
    """A picture with an alpha channel."""
    path = file(b"", "x.png")
    Image.new("RGBA", (3, 3)).save(path)
    return path


def trained(loss: Callable[[Any], Any], **options: Any) -> object:
    """A training of one number, for two steps."""
    model = torch.nn.Linear(1, 1)
    sample = options.pop("sample", lambda rng: torch.rand(4, 1, generator=rng))
    plan = options.pop("plan", Plan(steps=2, rate=0.1))
    return train(model, lambda x: loss(model(x)), sample, plan, progress=False, **options)


def square(x: torch.Tensor) -> torch.Tensor:
    """A loss."""
    return x.square().mean()


DATA: dict[str, Callable[[], object]] = {
    # numbers that stay in their range, networks
    "positive parameter, start 0": lambda: parameters.Positive(0.0),
    "positive parameter, a word": lambda: parameters.Positive("one"),
    "interval parameter, start outside": lambda: parameters.Interval(3.0, 0.0, 2.0),
    "interval parameter, ends swapped": lambda: parameters.Interval(0.5, 2.0, 0.0),
    "network, averagedness 2": lambda: networks.CertifiedConv(averaged=2.0),
    "network, even kernel": lambda: networks.CertifiedConv(kernel=4),
    "network, depth 0": lambda: networks.CertifiedConv(depth=0),
    "network, activation unknown": lambda: networks.CertifiedConv(activation="relu6"),
    "network, image with other channels": lambda: networks.CertifiedConv(channels=1)(
        torch.rand(1, 3, 16, 16)
    ),
    "baseline, depth 0": lambda: baselines.LISTA(torch.eye(2), 0, 0.1),
    "baseline, penalty negative": lambda: baselines.ISTA(torch.eye(2), -0.1),
    "baseline, step too long": lambda: baselines.ISTA(torch.eye(2), 0.1, step=5.0),
    # measures
    "psnr of two shapes": lambda: measure.psnr(IMAGE, IMAGE[..., :8]),
    "psnr of NaN": lambda: measure.psnr(IMAGE * math.nan, IMAGE),
    "psnr, range 0": lambda: measure.psnr(IMAGE, IMAGE, data_range=0.0),
    "psnr of arrays": lambda: measure.psnr(IMAGE.numpy(), IMAGE.numpy()),
    "ssim of a small image": lambda: measure.ssim(IMAGE[..., :8, :8], IMAGE[..., :8, :8]),
    "nmse against zero": lambda: measure.nmse_db(IMAGE, 0 * IMAGE),
    "luma of two channels": lambda: measure.luma(torch.rand(2, 8, 8)),
    # bounds and worst cases
    "rate, alpha = 1": lambda: bounds.km_residual(1.0, 5, 1.0),
    "rate, -1 steps": lambda: bounds.km_residual(0.5, -1, 1.0),
    "rate, half a step": lambda: bounds.km_residual(0.5, 2.5, 1.0),
    "rate, distance a word": lambda: bounds.km_residual(0.5, 5, "far"),
    "worst case, alpha 2": lambda: performance.km_worst_case(2.0, 3),
    "worst case of an unknown measure": lambda: performance.loop_worst_case(
        [1.0], 0.5, 0.5, measure="speed"
    ),
    # data
    "seed negative": lambda: data.generator(-1),
    "seed a word": lambda: data.generator("lucky"),
    "codes, density 0": lambda: data.sparse_codes(1, 1, 0.0, data.generator(0)),
    "codes of size 0": lambda: data.sparse_codes(1, 0, 0.5, data.generator(0)),
    "condition number below 1": lambda: data.random_spd(3, 0.5, data.generator(0)),
    "a set that is not registered": lambda: data.files("set15"),
    "a file that is not registered": lambda: data.locate("set3c/leafs.png"),
    "pictures of an unknown split": lambda: data.page_pictures("validation"),
    "gray of two channels": lambda: data.gray(torch.rand(2, 8, 8)),
    "a corrupt image": lambda: decode(file(b"\x89PNG\r\n half of it", "x.png")),
    "an image with its alpha channel": lambda: decode(transparent()),
    # records and weights
    "record, profile unknown": lambda: a_record(profile="huge"),
    "record, NaN in a row": lambda: a_record(rows=[record.row("bmo", {}, "psnr", math.nan)]),
    "record, seconds negative": lambda: a_record(seconds=-1.0),
    "record, created without zone": lambda: a_record(created="2026-01-31T12:00:00"),
    "record, digest of 3 letters": lambda: a_record(data=[{"file": "x", "sha256": "abc"}]),
    "row of no values": lambda: record.row("bmo", {}, "psnr", []),
    "row, value a word": lambda: record.row("bmo", {}, "psnr", "high"),
    "record, no such value": lambda: a_record().value(method="nobody"),
    "record, half of a file": lambda: record.read(file(b'{"experiment": ')),
    "record, not text": lambda: record.read(file(bytes(range(128, 256)))),
    "record, another kind of JSON": lambda: record.read(file(b"[]")),
    "record, no file": lambda: record.read(FOLDER / "harness.page.json"),
    "record, a folder": lambda: record.read(file(b"").parent),
    "record, not a record": lambda: record.write({"experiment": "harness"}, FOLDER),
    "record, name unknown": lambda: record.find("no-such-experiment.page"),
    "table of an unknown style": lambda: record.table(a_record(), style="latex"),
    "seal a folder that is not there": lambda: record.seal(FOLDER, FOLDER / "records.json"),
    "weights, infinite": lambda: record.save_weights(
        {"a": torch.tensor([math.inf])}, FOLDER / "a.safetensors"
    ),
    "weights, another ending": lambda: record.save_weights({"a": torch.ones(1)}, "a.pt"),
    "weights, not tensors": lambda: record.save_weights({"a": 1.0}, FOLDER / "a.safetensors"),
    "weights, no file": lambda: record.load_weights(FOLDER / "a.safetensors", "0" * 64),
    "weights, another file": lambda: record.load_weights(file(b"x", "a.safetensors"), "0" * 64),
    "weights, name unknown": lambda: record.find_weights("no-such-weights"),
    # training
    "plan, steps negative": lambda: Plan(steps=-1, rate=0.1),
    "plan, rate 0": lambda: Plan(steps=1, rate=0.0),
    "plan, rate a word": lambda: Plan(steps=1, rate="fast"),
    "plan, steps a fraction": lambda: Plan(steps=1.5, rate=0.1),
    "training, loss NaN": lambda: trained(lambda x: x.mean() * math.nan),
    "training, a loss of many values": lambda: trained(lambda x: x.square()),
    "training, loss not a tensor": lambda: trained(lambda x: 1.0),
    "training, loss without a slope": lambda: trained(lambda x: x.mean().detach()),
    "training, checkpoint of half a file": lambda: trained(
        square, folder=file(b"PK half", "checkpoint.pt").parent, resume=True
    ),
    "training, folder is a file": lambda: trained(square, folder=file(b"")),
    "training, a model without parameters": lambda: train(
        torch.nn.Identity(), square, lambda rng: torch.ones(1), Plan(2, 0.1), progress=False
    ),
    # problems
    "motion kernel of an even side": lambda: kernels.motion_kernel(data.generator(0), 10),
    "kernel larger than the picture": lambda: symbol_of(torch.ones(9, 9) / 81, (8, 8)),
    "patches larger than the picture": lambda: sparse_coding.cut(IMAGE[0], 32, 1),
    "a noise that is not known": lambda: sparse_coding.corrupt(IMAGE, "pink", data.generator(0)),
    "rain streak of length 0": lambda: deraining.line_kernel(9, 0.0, 0.0),
    "rain pairs of a missing folder": lambda: deraining.folder_pairs(FOLDER),
    # notebooks and figures
    "verdicts of nothing": lambda: notebook.verdicts([]),
    "a verdict that does not hold": lambda: notebook.verdicts([("claim", 2.0, 1.0)]),
    "a verdict with an unknown relation": lambda: notebook.verdicts([("c", 1.0, 1.0, "~")]),
    "setup with a negative seed": lambda: notebook.setup(-1),
    "a role without colour": lambda: plotting.role("sky"),
    "a figure of 0 rows": lambda: plotting.panels(rows=0),
}
