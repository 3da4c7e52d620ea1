"""The images of each profile: to train on, to choose by, and to test on.

Book: chapter 10. ``page``: pictures inside scikit-image's wheel. ``full``: training images of
BSDS (of which some are held out for every choice) and, untouched until the end, Set14.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from bmo import data
from bmo.data.registry import picture_hashes
from bmo.problems.sparse_coding.patches import PatchBank
from bmo.problems.sparse_coding.settings import Settings

TRAINING_SETS = ("bsds500_train_clean", "bsds500_test")
HELD_OUT = 20
#: Side of the middle part of each test picture that the page profile restores.
PAGE_PART = 160


@dataclass(frozen=True)
class Pictures:
    """Images of one profile.

    Attributes:
        train: Patches to learn from.
        validation: Patches of other images, for every choice of a setting.
        test: Name → gray image (H, W).
        files: Every file used, as :func:`bmo.data.hashes` wants them.
    """

    train: PatchBank
    validation: PatchBank
    test: dict[str, Tensor]
    files: list[str]


def load(settings: Settings) -> Pictures:
    """Read and verify the images of a profile (float32, gray).

    Raises:
        DataError: A file is missing or altered.
    """
    return _page(settings.size) if settings.profile == "page" else _full(settings.size)


def _page(size: int) -> Pictures:
    train = data.page_pictures("train", torch.float32)
    test = {n: _middle(i) for n, i in data.page_pictures("test", torch.float32).items()}
    names = {name.rsplit(".", 1)[0]: name for name in picture_hashes()}
    files = [f"scikit-image/{names[stem]}" for stem in [*train, *test]]
    images = list(train.values())
    # The lower third of each picture is held out: eight pictures are too few to spare one.
    upper = [i[: 2 * i.shape[0] // 3] for i in images]
    lower = [i[2 * i.shape[0] // 3 :] for i in images]
    return Pictures(PatchBank(upper, size), PatchBank(lower, size), test, files)


def _full(size: int) -> Pictures:
    found = {n: _gray(i) for group in TRAINING_SETS for n, i in data.images(group, torch.float32)}
    test = {n.split("/")[1]: _gray(i) for n, i in data.images("set14", torch.float32)}
    images = list(found.values())
    files = [*found, *data.files("set14")]
    return Pictures(
        PatchBank(images[HELD_OUT:], size), PatchBank(images[:HELD_OUT], size), test, files
    )


def _middle(image: Tensor) -> Tensor:
    row, column = ((length - PAGE_PART) // 2 for length in image.shape)
    return image[row : row + PAGE_PART, column : column + PAGE_PART].contiguous()


def _gray(image: Tensor) -> Tensor:
    return data.gray(image).squeeze(0)
