"""The methods by name. Book: chapter 11."""

from __future__ import annotations

import torch

from bmo.errors import DomainError
from bmo.networks import CertifiedPotential, UNet
from bmo.problems.deconvolution.centred import CentredPotential
from bmo.problems.deconvolution.corrected import CorrectedDeblurrer
from bmo.problems.deconvolution.methods import Deblurrer
from bmo.problems.deconvolution.referred import ReferredDeblurrer
from bmo.problems.deconvolution.settings import CORRECTED, METHODS, REFERRED, Settings


def build(name: str, settings: Settings, seed: int = 0) -> Deblurrer:
    """A fresh model of a method; equal seeds give equal weights where methods share a network.

    Args:
        name: Out of :data:`~bmo.problems.deconvolution.settings.METHODS`.
        settings: Of the experiment.
        seed: Decides the weights.

    Raises:
        DomainError: Another name.

    Example:
        >>> from bmo.problems import deconvolution as dec
        >>> dec.build("gkm", dec.PAGE).name
        'gkm'
    """
    if name not in METHODS:
        raise DomainError(f"one of the methods {METHODS}", repr(name), "choose one", name)
    kept = torch.get_rng_state()
    torch.manual_seed(seed)
    model = _fresh(name, settings, settings.mu if name.startswith("bmo") else 0.0)
    torch.set_rng_state(kept)
    return model


def _fresh(name: str, s: Settings, mu: float) -> Deblurrer:
    if name == "bmo-free":
        return Deblurrer(name, UNet(3, s.free_widths), s, mu)
    if name == "bmo-blind":
        return Deblurrer(name, CertifiedPotential(3, s.features, s.blocks), s, mu)
    if name in REFERRED:
        return ReferredDeblurrer(name, s, mu)
    net = CentredPotential(s.features, s.blocks, s.widths, s.map_widths, name != "ena")
    kind = CorrectedDeblurrer if name in CORRECTED else Deblurrer
    return kind(name, net, s, mu)
