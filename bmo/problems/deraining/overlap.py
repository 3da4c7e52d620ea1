"""No picture to test on among the pictures to learn from: compared by content, not by name.

A fingerprint is a picture averaged to a few grey fields, without its mean brightness, of norm one.
It survives another format, a crop of some pixels and a change of contrast. Rotated and mirrored
pictures are compared, too.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor
from torch.nn import functional

from bmo.data import gray
from bmo.errors import DataError

FIELDS = 16
#: Inner product of two fingerprints from which on two pictures count as one.
SAME = 0.99


def fingerprint(image: Tensor) -> Tensor:
    """The fingerprint of an image (3 or 1, H, W): shape (16, 16), norm one, mean zero.

    Example:
        >>> import torch
        >>> u = torch.rand(3, 40, 60)
        >>> round(float((fingerprint(u) * fingerprint(0.5 * u + 0.2)).sum()), 5)
        1.0
    """
    fields = functional.adaptive_avg_pool2d(gray(image.double())[None], FIELDS)[0, 0]
    fields = fields - fields.mean()
    return fields / fields.norm().clamp_min(1e-12)


def likeness(image: Tensor, others: Tensor) -> Tensor:
    """The largest inner product of a fingerprint with eight views of each of the others.

    Args:
        image: One fingerprint, shape (16, 16).
        others: Fingerprints, shape (n, 16, 16).

    Returns:
        Shape (n,), values at most 1.
    """
    views = [image.rot90(k) for k in range(4)]
    views += [view.flip(0) for view in views]
    return torch.einsum("vij,nij->vn", torch.stack(views), others).amax(0)


def require_disjoint(train: Mapping[str, Tensor], test: Mapping[str, Tensor]) -> float:
    """Refuse a training set that shows a picture of the test set.

    Args:
        train: Name → image.
        test: Name → image.

    Returns:
        The largest likeness of a training picture and a test picture, below :data:`SAME`.

    Raises:
        DataError: Two pictures are the same; both are named.

    Example:
        >>> import torch
        >>> from bmo.problems import deraining as rain
        >>> train, test = {"a": torch.rand(3, 32, 32)}, {"b": torch.rand(3, 32, 32)}
        >>> rain.require_disjoint(train, test) < 0.9
        True
    """
    names = list(test)
    prints = torch.stack([fingerprint(test[name]) for name in names])
    most = -1.0
    for name, image in train.items():
        found = likeness(fingerprint(image), prints)
        at = int(found.argmax())
        if float(found[at]) >= SAME:
            raise DataError(
                "training pictures that are no test pictures",
                f"{name} shows {names[at]} (likeness {float(found[at]):.4f})",
                "leave it out of the training",
                (name, names[at]),
            )
        most = max(most, float(found[at]))
    return most
