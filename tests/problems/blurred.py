"""What the tests of methods around a restoration by others observe."""

import torch

from bmo.problems.deconvolution import draws

DOUBLE = torch.float64


def seen(count=2, side=32, seed=3, dtype=DOUBLE):
    """What is observed of random images: b, symbol, sigma."""
    g = torch.Generator().manual_seed(seed)
    clean = torch.rand(count, 3, side, side, generator=g)
    _, b, symbol, sigma = draws.blurred(clean, draws.spread(count, 0.005, 0.04, g), g)
    wide = torch.complex128 if dtype == DOUBLE else torch.complex64
    return b.to(dtype), symbol.to(wide), sigma.to(dtype)
