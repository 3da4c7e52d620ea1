"""The images of each profile: to train on, to choose by, and to test on.

Book: chapter 11. ``page``: colour pictures inside scikit-image's wheel. ``small`` and ``full``:
the packed BSDS images (of which a few are held out for every choice) and, untouched until the
end, Set3C.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from bmo import data
from bmo.baselines.denoisers.ffdnet import FILES
from bmo.data.packages import skimage_pictures
from bmo.data.packing import TRAINING_SETS, halved, training_images
from bmo.data.reading import decode
from bmo.data.registry import picture_hashes
from bmo.files import check
from bmo.measure import to_uint8
from bmo.problems.deconvolution.kernels import SIDES, levin, motion_kernel
from bmo.problems.deconvolution.settings import CORRECTED, REFERRED, Settings

#: Colour pictures of scikit-image's wheel: to learn from, to choose by, and to test on.
TRAIN, HELD_OUT, TEST = ("astronaut.png", "coffee.png"), ("chelsea.png",), ("rocket.jpg",)

#: Seed of the page's test kernels.
PAGE_KERNELS = 2**40


@dataclass(frozen=True)
class Pictures:
    """Images of one profile, uint8 (3, H, W).

    Attributes:
        train: Images to draw patches from.
        held_out: Other images, for every choice.
        test: Name → float64 image on [0, 1].
        files: Every file used, as :func:`bmo.data.hashes` wants them.
    """

    train: list[Tensor]
    held_out: list[Tensor]
    test: dict[str, Tensor]
    files: list[str]


def load(settings: Settings) -> Pictures:
    """Read and verify the images of a profile.

    Raises:
        DataError: A file is missing or altered.
    """
    return _page(settings) if settings.profile == "page" else _real(settings)


def test_kernels(settings: Settings) -> list[Tensor]:
    """The kernels of the test: those of Levin et al.; for ``page`` as many random ones.

    No training kernel is among them: those are drawn by other generators.
    """
    if settings.profile != "page":
        return levin()
    draws = torch.Generator().manual_seed(PAGE_KERNELS)
    return [motion_kernel(draws, side) for side in SIDES]


def _real(settings: Settings) -> Pictures:
    packed = training_images()
    chosen = list(packed)[:: max(1, len(packed) // settings.held_out)][: settings.held_out]
    test = {name.split("/")[1].split(".")[0]: image for name, image in data.images("set3c")}
    read = (*TRAINING_SETS, "set3c", "levin09")
    files = [f for group in read for f in data.files(group)]
    public = {*CORRECTED, *REFERRED} & {*settings.methods}
    return Pictures(
        [image for name, image in packed.items() if name not in chosen],
        [packed[name] for name in chosen],
        test,
        [*files, *[FILES[3]] * bool(public)],  # the weights of FFDNet, where one asks it
    )


def _page(settings: Settings) -> Pictures:
    small = small_picture
    test = {name.split(".")[0]: _middle(small(name), settings.crop).double() for name in TEST}
    return Pictures(
        [to_uint8(small(name)) for name in TRAIN],
        [to_uint8(small(name)) for name in HELD_OUT],
        {name: to_uint8(image).double() / 255 for name, image in test.items()},
        [f"scikit-image/{name}" for name in (*TRAIN, *HELD_OUT, *TEST)],
    )


def small_picture(name: str) -> Tensor:
    """A colour picture of scikit-image's wheel, halved: shape (3, H, W) on [0, 1], float32."""
    return halved(_picture(name))


def _picture(name: str) -> Tensor:
    path = skimage_pictures() / name
    return decode(
        check(path, picture_hashes()[name], source="scikit-image, reinstalled"), torch.float32
    )


def _middle(image: Tensor, side: int) -> Tensor:
    top, left = ((length - side) // 2 for length in image.shape[1:])
    return image[:, top : top + side, left : left + side]
