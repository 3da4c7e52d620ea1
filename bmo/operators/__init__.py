"""Training steps D, each with its metric H and its condition. Book: chapter 4."""

from bmo.operators.admm import LinearisedADMM, ProximalADMM
from bmo.operators.base import Lambda, Operator, Preparing
from bmo.operators.colour_step import FourierColourStep
from bmo.operators.combine import Combination, Composition, Stack
from bmo.operators.data_step import FourierDataStep, FourierGradientStep, FourierStart
from bmo.operators.equilibrium import MonotoneEquilibrium
from bmo.operators.forward_backward import ProximalGradient, forward_backward_delta
from bmo.operators.fourier_denoiser import FourierDouglasRachford, FourierHalfQuadratic
from bmo.operators.fourier_weight import FourierWeight
from bmo.operators.gradient_lagrangian import GradientLinearisedALM
from bmo.operators.lagrangian import LinearisedALM, ProximalALM
from bmo.operators.learned import (
    LearnedALM,
    LearnedLinearisedADMM,
    LearnedPDHG,
    LearnedProximalGradient,
)
from bmo.operators.learned_admm import LearnedSparseADMM
from bmo.operators.learned_blocks import LearnedBlockADMM
from bmo.operators.learned_forward_backward import LearnedForwardBackward
from bmo.operators.learned_linearised import LearnedSparseLADMM
from bmo.operators.learned_splitting import (
    LearnedADMM,
    LearnedDouglasRachford,
    LearnedMonotoneEquilibrium,
    LearnedRED,
)
from bmo.operators.own import Own
from bmo.operators.plug_and_play import RED, PnPProximalGradient
from bmo.operators.primal_dual import PDHG, CondatVu
from bmo.operators.recast import Conjugate, Unrelaxed
from bmo.operators.spectral import largest_eigenvalue
from bmo.operators.splitting import ADMM, DouglasRachford, HalfQuadratic

__all__ = [
    "ADMM",
    "PDHG",
    "RED",
    "Combination",
    "Composition",
    "CondatVu",
    "Conjugate",
    "DouglasRachford",
    "FourierColourStep",
    "FourierDataStep",
    "FourierDouglasRachford",
    "FourierGradientStep",
    "FourierHalfQuadratic",
    "FourierStart",
    "FourierWeight",
    "GradientLinearisedALM",
    "HalfQuadratic",
    "Lambda",
    "LearnedADMM",
    "LearnedALM",
    "LearnedBlockADMM",
    "LearnedDouglasRachford",
    "LearnedForwardBackward",
    "LearnedLinearisedADMM",
    "LearnedMonotoneEquilibrium",
    "LearnedPDHG",
    "LearnedProximalGradient",
    "LearnedRED",
    "LearnedSparseADMM",
    "LearnedSparseLADMM",
    "LinearisedADMM",
    "LinearisedALM",
    "MonotoneEquilibrium",
    "Operator",
    "Own",
    "PnPProximalGradient",
    "Preparing",
    "ProximalADMM",
    "ProximalALM",
    "ProximalGradient",
    "Stack",
    "Unrelaxed",
    "forward_backward_delta",
    "largest_eigenvalue",
]
