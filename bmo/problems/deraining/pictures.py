"""The images of each profile: to train on, to choose by, and to test on.

Book: chapter 12. ``page``: colour pictures inside scikit-image's wheel, with synthetic rain.
``small`` and ``full``: the BSDS images that show no test background, in their full size; of these
and of the twelve real training pairs a few are held out for every choice. The test pairs are those
of Rain100L and Rain100H.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from bmo import data
from bmo.baselines.deraining.pairs import DATASETS, names, pair
from bmo.data.packing import TRAINING_SETS
from bmo.measure import to_uint8
from bmo.problems.deconvolution import pictures as scikit
from bmo.problems.deraining.draws import held_out
from bmo.problems.deraining.settings import Settings

REAL = "rain100h_train_min12"
#: Every fourth real pair is held out.
APART = 4


@dataclass(frozen=True)
class Pictures:
    """Images of one profile.

    Attributes:
        train: Clean images to draw patches from, uint8 (3, H, W).
        held_out: Other clean images, for every choice.
        real: Real training pairs (rainy, clean) on [0, 1], float32.
        real_held_out: Other real pairs, for every choice.
        files: Every file used, as :func:`bmo.data.hashes` wants them.
    """

    train: list[Tensor]
    held_out: list[Tensor]
    real: list[tuple[Tensor, Tensor]]
    real_held_out: list[tuple[Tensor, Tensor]]
    files: list[str]


def load(settings: Settings) -> Pictures:
    """Read and verify the training images of a profile.

    Raises:
        DataError: A file is missing or altered.
    """
    return _page(settings) if settings.profile == "page" else _real(settings)


def _real(settings: Settings) -> Pictures:
    every = {
        name: to_uint8(image)
        for group in TRAINING_SETS
        for name, image in data.images(group, torch.float32)
    }
    chosen = list(every)[:: max(1, len(every) // settings.held_out)][: settings.held_out]
    pairs = real_pairs()
    apart = pairs[::APART]
    known = [f for group in (*TRAINING_SETS, REAL) for f in data.files(group)]
    tests = [name for dataset in DATASETS for k in settings.pairs for name in names(dataset, k)]
    return Pictures(
        [image for name, image in every.items() if name not in chosen],
        [every[name] for name in chosen],
        [p for k, p in enumerate(pairs) if k % APART],
        apart,
        [*known, *dict.fromkeys(tests)],
    )


def real_pairs() -> list[tuple[Tensor, Tensor]]:
    """The twelve real training pairs (rainy, clean), in the order of their numbers."""
    files = [f for f in data.files(REAL) if "/norain-" in f]
    files = sorted(files, key=lambda f: int(f.rsplit("-", 1)[1].split(".")[0]))
    return [
        (
            data.load_image(f.replace("/norain-", "/rain-"), torch.float32),
            data.load_image(f, torch.float32),
        )
        for f in files
    ]


def _page(settings: Settings) -> Pictures:
    every = (scikit.TRAIN, scikit.HELD_OUT)
    train, apart = ([to_uint8(scikit.small_picture(n)) for n in names] for names in every)
    files = [f"scikit-image/{name}" for name in (*scikit.TRAIN, *scikit.HELD_OUT, *scikit.TEST)]
    return Pictures(train, apart, [], [], files)


def test_pairs(settings: Settings) -> Iterator[tuple[str, int, Tensor, Tensor]]:
    """The test pairs: (name of the set, number, rainy, clean), images (3, H, W) on [0, 1].

    Those of ``page`` are a picture of scikit-image with synthetic rain, light and heavy.
    """
    if settings.profile == "page":
        image = to_uint8(scikit.small_picture(scikit.TEST[0]))
        for name, (clean, rainy) in held_out([image], settings).items():
            yield f"page-{name}", 1, rainy[0], clean[0]
        return
    for dataset in DATASETS:
        for number in settings.pairs:
            yield dataset, number, *pair(dataset, number)
