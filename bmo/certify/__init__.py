"""Assumptions as checks. Each returns the worst case found, where it is, and who found it.

A check can refute a claim and never prove it. What is proved stands in the book.
"""

from bmo.certify.checks import circular_norm, fejer, metric_is_spd, residual
from bmo.certify.evidence import Evidence, require
from bmo.certify.expansion import averaged, contraction, nonexpansive
from bmo.certify.laws import firmly_nonexpansive, moreau, projection, prox_optimality
from bmo.certify.usable import usable

__all__ = [
    "Evidence",
    "averaged",
    "circular_norm",
    "contraction",
    "fejer",
    "firmly_nonexpansive",
    "metric_is_spd",
    "moreau",
    "nonexpansive",
    "projection",
    "prox_optimality",
    "require",
    "residual",
    "usable",
]
