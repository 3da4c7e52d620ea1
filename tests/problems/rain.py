"""Small settings, pairs and methods for the tests of deraining."""

import dataclasses

import torch

from bmo.problems import deraining as rain
from bmo.problems.deraining import draws
from tests.problems.runs import moved_by

DOUBLE = torch.float64


def small(**changes):
    fields = {
        "widths": (4, 6),
        "maps": 3,
        "kernel_side": 5,
        "iterations": 4,
        "back": 2,
        "side": 24,
        "guide_batch": 2,
        "batch": 2,
        "layers": 2,
        "layer_side": 32,
        "guide_steps": 3,
        "steps": 2,
        "warmup": 1,
        "side_held_out": 32,
        "crop": 32,
        "depths": (0, 4),
        "case_depths": (0, 2, 4, 8),
        "bfloat16": False,
    }
    return dataclasses.replace(rain.PAGE, **{**fields, **changes})


def rng(seed=0):
    return torch.Generator().manual_seed(seed)


def pairs(count=2, side=24, seed=3, dtype=torch.float32):
    clean = torch.rand(count, 3, side, side, generator=rng(seed))
    layer = 0.4 * torch.rand(count, side, side, generator=rng(seed + 1)).pow(4)
    return rain.Pairs(clean.to(dtype), draws.wet(clean, layer).to(dtype))


def moved(name, settings=None, amount=0.3, seed=1, dtype=DOUBLE):
    """A method with weights far from its start."""
    model = rain.build(name, settings or small())
    return moved_by(model, amount, seed, dtype)
