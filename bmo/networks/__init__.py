"""Networks as steps: nonexpansive by construction, and one without a certificate.

Book: chapter 5.
"""

from bmo.networks.bound import circular_bound
from bmo.networks.certified import (
    ACTIVATIONS,
    CertifiedConv,
    CertifiedDense,
    CertifiedNetwork,
    layer_widths,
    sort_pairs,
)
from bmo.networks.maps import Maps
from bmo.networks.potential import PRESETS, CertifiedPotential
from bmo.networks.sequential import CertifiedSequential
from bmo.networks.shrinkage import CertifiedShrinkage
from bmo.networks.unet import UBody, UNet

__all__ = [
    "ACTIVATIONS",
    "PRESETS",
    "CertifiedConv",
    "CertifiedDense",
    "CertifiedNetwork",
    "CertifiedPotential",
    "CertifiedSequential",
    "CertifiedShrinkage",
    "Maps",
    "UBody",
    "UNet",
    "circular_bound",
    "layer_widths",
    "sort_pairs",
]
