"""What restores blurred images, beside the book's methods: five ways, one interface.

Each is a :class:`~bmo.baselines.restoration.base.Restorer`: ``restore(b, symbol, sigma)``, with the
blur as the ``rfft2`` of its kernel and the noise level on the scale of the image, [0, 1].

* :class:`Wiener`: the linear filter for an image with a known spectrum.
* :class:`TotalVariation`: isotropic, colours coupled, ADMM with Fourier solves.
* :class:`WaveletPrior`: a fixed point of :class:`WaveletShrinkage`, the classical certified D.
* :class:`EPLL`: a :class:`PatchMixture` as the prior of all patches.
* :class:`FDN`: a trained network of Fourier solves and CNNs (class ENA).
"""

from bmo.baselines.restoration.base import Restorer
from bmo.baselines.restoration.epll import EPLL
from bmo.baselines.restoration.fdn import FDN
from bmo.baselines.restoration.mixture import PatchMixture, expectation_maximisation
from bmo.baselines.restoration.variation import TotalVariation
from bmo.baselines.restoration.wavelet import WaveletPrior, Wavelets, WaveletShrinkage
from bmo.baselines.restoration.wiener import Wiener, fit_spectrum

__all__ = [
    "EPLL",
    "FDN",
    "PatchMixture",
    "Restorer",
    "TotalVariation",
    "WaveletPrior",
    "WaveletShrinkage",
    "Wavelets",
    "Wiener",
    "expectation_maximisation",
    "fit_spectrum",
]
