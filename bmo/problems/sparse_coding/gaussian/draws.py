r"""Dictionaries, codes and observations: every draw is decided by its seed.

Book: chapter 10. :math:`A_{ij} \sim N(0, 1/m)`, then columns of length one. A code has
coefficients :math:`N(0, 1)` with probability :math:`\rho`, else 0. An observation is
:math:`b = Ax + \sigma\varepsilon`, with :math:`\sigma^2 = \rho\,n/m\,10^{-\mathrm{SNR}/10}`: the
mean power of :math:`Ax`, lowered by the ratio in dB.
"""

from __future__ import annotations

import hashlib
import math
from dataclasses import dataclass

import torch
from torch import Generator, Tensor

from bmo.data import generator, sparse_codes
from bmo.problems.sparse_coding.gaussian.settings import LEVELS, Settings

#: Seeds of the draws that no repetition changes.
DICTIONARY, VALIDATION, TEST, ERRORS = 0, 77, 78, 79


@dataclass(frozen=True)
class Data:
    """Codes and what is observed of them, in rows.

    An example: :func:`bmo.problems.sparse_coding.gaussian.observe`.
    """

    codes: Tensor
    observed: Tensor

    def sha256(self) -> str:
        """Of the numbers, rounded to float32: equal draws have equal digests."""
        digest = hashlib.sha256()
        for part in (self.codes, self.observed):
            digest.update(part.float().contiguous().numpy().tobytes())
        return digest.hexdigest()


def unit_columns(A: Tensor) -> Tensor:
    """The matrix with every column divided by its length."""
    return A / A.norm(dim=0)


def gaussian_dictionary(rows: int, atoms: int, seed: int = DICTIONARY) -> Tensor:
    """A Gaussian matrix with columns of length one, float64.

    Example:
        >>> A = gaussian_dictionary(5, 8)
        >>> A.shape, bool(torch.allclose(A.norm(dim=0), torch.ones(8, dtype=A.dtype)))
        (torch.Size([5, 8]), True)
    """
    return unit_columns(torch.randn(rows, atoms, generator=generator(seed), dtype=torch.float64))


def perturbed(A: Tensor, relative: float, seed: int = ERRORS) -> Tensor:
    """A dictionary whose columns are off by the given part of their length, on average.

    Example:
        >>> A = gaussian_dictionary(50, 80)
        >>> round(float((perturbed(A, 0.1) - A).norm() / A.norm()), 2)
        0.1
    """
    E = torch.randn(A.shape, generator=generator(seed), dtype=A.dtype)
    return unit_columns(A + relative / math.sqrt(A.shape[0]) * E)


def deviation(density: float, rows: int, atoms: int, level: float | None) -> float:
    r""":math:`\sigma`, the standard deviation of the noise.

    Example:
        >>> deviation(0.1, 250, 500, None), round(deviation(0.1, 250, 500, 30.0), 6)
        (0.0, 0.014142)
    """
    return 0.0 if level is None else math.sqrt(density * atoms / rows) * 10 ** (-level / 20)


def observe(A: Tensor, count: int, density: float, level: float | None, rng: Generator) -> Data:
    """Draw codes and observe them through a dictionary; float64 in, rounded to its dtype.

    Example:
        >>> from bmo.data import generator
        >>> from bmo.problems.sparse_coding import gaussian as bench
        >>> A = bench.gaussian_dictionary(8, 16)
        >>> data = bench.observe(A, 3, density=0.1, level=30.0, rng=generator(0))
        >>> data.codes.shape, data.observed.shape
        (torch.Size([3, 16]), torch.Size([3, 8]))
    """
    rows, atoms = A.shape
    x = sparse_codes(count, atoms, density, rng, A.dtype)
    noise = torch.randn(count, rows, generator=rng, dtype=A.dtype)
    return Data(x, x @ A.mT + deviation(density, rows, atoms, level) * noise)


def evaluation_sets(A: Tensor, noise: str, settings: Settings) -> dict[str, Data]:
    """The test set of a noise level, ``"trained"``, and its shifts, none of them ever trained on.

    Returns:
        Name → data: ``"trained"`` with all codes; ``"20 dB"``, ``"density 0.2"``,
        ``"dictionary off by 10 %"`` and the like with the first few.

    Example:
        >>> from bmo.problems.sparse_coding import gaussian as bench
        >>> A = bench.gaussian_dictionary(50, 100)
        >>> list(bench.evaluation_sets(A, "30db", bench.PAGE))
        ['trained', '20 dB', '40 dB', 'density 0.05', 'density 0.2', 'dictionary off by 10 %']
    """
    s, level = settings, LEVELS[noise]

    def draw(count: int, density: float, at: float | None, through: Tensor = A) -> Data:
        return observe(through, count, density, at, generator(TEST))

    sets = {"trained": draw(s.test, s.density, level)}
    for other in s.shift_levels:
        sets[f"{other:g} dB"] = draw(s.shifted, s.density, other)
    for density in s.shift_densities:
        sets[f"density {density:g}"] = draw(s.shifted, density, level)
    for part in s.perturbations:
        name = f"dictionary off by {100 * part:g} %"
        sets[name] = draw(s.shifted, s.density, level, perturbed(A, part))
    return sets


def held_out(A: Tensor, noise: str, settings: Settings) -> Data:
    """The codes on which everything is chosen.

    Example:
        >>> from bmo.problems.sparse_coding import gaussian as bench
        >>> A = bench.gaussian_dictionary(50, 100)
        >>> bench.held_out(A, "30db", bench.PAGE).codes.shape
        torch.Size([1000, 100])
    """
    s = settings
    return observe(A, s.validation, s.density, LEVELS[noise], generator(VALIDATION))
