"""Denoisers that others trained, and plug-and-play restoration with them. Class ENA.

Every restorer has ``restore(b, symbol, sigma)``: blurred images, ``rfft2`` of the kernel, and the
noise level. None has a certificate.

* :mod:`~bmo.baselines.denoisers.ffdnet`, :mod:`~bmo.baselines.denoisers.ircnn`,
  :mod:`~bmo.baselines.denoisers.simple`: the networks, with their published weights.
* :mod:`~bmo.baselines.denoisers.schedules`: the schedules of DPIR and of IRCNN, and one level
  for all steps.
* :mod:`~bmo.baselines.denoisers.base`, :mod:`~bmo.baselines.denoisers.reading`: what they share.
"""

from bmo.baselines.denoisers.base import Denoiser
from bmo.baselines.denoisers.ffdnet import FFDNet
from bmo.baselines.denoisers.ircnn import IRCNNGray
from bmo.baselines.denoisers.schedules import (
    DPIR,
    IRCNN,
    Averaged,
    Schedule,
    Scheduled,
    stationary,
)
from bmo.baselines.denoisers.simple import SimpleCNN

__all__ = [
    "DPIR",
    "IRCNN",
    "Averaged",
    "Denoiser",
    "FFDNet",
    "IRCNNGray",
    "Schedule",
    "Scheduled",
    "SimpleCNN",
    "stationary",
]
