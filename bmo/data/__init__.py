"""Data: public files by address and sha256, pictures that are always there, synthetic draws.

Three kinds, in three modules:

* :mod:`bmo.data.registry`: public test sets. The project ships none of them; it knows where
  each is published and what its sha256 is, and refuses anything else.
* :mod:`bmo.data.reading`: reading them as tensors, and the pictures inside scikit-image's wheel.
* :mod:`bmo.data.synthetic`: seeded sparse codes, metrics and nonexpansive matrices.
"""

from bmo.data.reading import (
    TEST_PICTURES,
    TRAIN_PICTURES,
    gray,
    images,
    kernels,
    load_image,
    page_pictures,
)
from bmo.data.registry import DataFile, data_file, fetch, files, hashes, locate, sets
from bmo.data.synthetic import (
    generator,
    nonexpansive_matrix,
    random_orthogonal,
    random_spd,
    sparse_codes,
)

__all__ = [
    "TEST_PICTURES",
    "TRAIN_PICTURES",
    "DataFile",
    "data_file",
    "fetch",
    "files",
    "generator",
    "gray",
    "hashes",
    "images",
    "kernels",
    "load_image",
    "locate",
    "nonexpansive_matrix",
    "page_pictures",
    "random_orthogonal",
    "random_spd",
    "sets",
    "sparse_codes",
]
