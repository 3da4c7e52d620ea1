r"""A dictionary learned once from clean patches, from which every method starts.

Book: chapter 10. Online dictionary learning: code a batch with FISTA, remember
:math:`S = \sum zz^\top` and :math:`B = \sum xz^\top` with a fading memory, and renew each
atom in turn, :math:`a_j \leftarrow a_j + (B_j - AS_j)/S_{jj}`, scaled to length one.
Source: Mairal, Bach, Ponce, Sapiro, JMLR 11, 2010, Algorithm 2.
"""

from __future__ import annotations

import torch
from torch import Tensor

from bmo.baselines.classical import fista
from bmo.errors import DataError
from bmo.problems.sparse_coding.patches import PatchBank


def learn_dictionary(
    bank: PatchBank,
    atoms: int,
    batches: int = 150,
    batch: int = 512,
    penalty: float = 0.1,
    seed: int = 0,
) -> Tensor:
    r"""Learn unit atoms for patches with their mean removed; atom 0 is constant and stays so.

    Args:
        bank: Clean training patches.
        atoms: n, the number of columns.
        batches: Number of batches.
        batch: Patches in a batch.
        penalty: :math:`\lambda` of the code :math:`\min_z \tfrac12\|Az - x\|^2 + \lambda\|z\|_1`.
        seed: Decides every draw.

    Returns:
        A, shape (p², n), columns of Euclidean length one.

    Raises:
        DataError: Too few patches with any structure to start from.

    Example:
        >>> bank = PatchBank([torch.rand(40, 40, generator=torch.Generator().manual_seed(0))], 4)
        >>> A = learn_dictionary(bank, 24, batches=2, batch=32)
        >>> A.shape, bool(torch.allclose(A.norm(dim=0), torch.ones(24)))
        (torch.Size([16, 24]), True)
    """
    draws = torch.Generator().manual_seed(seed)
    A = _first_atoms(bank, atoms, draws)
    S, B = A.new_zeros(atoms, atoms), torch.zeros_like(A)
    for t in range(batches):
        x = _centred(bank.draw(batch, draws))
        z = fista(A, x, penalty, iterations=30)
        keep = 1 - 1 / (1 + t / 5) if t else 0.0
        S, B = keep * S + z.mT @ z, keep * B + x.mT @ z
        _renew(A, S, B, x, draws)
    return A


def _centred(x: Tensor) -> Tensor:
    return x - x.mean(-1, keepdim=True)


def _first_atoms(bank: PatchBank, atoms: int, draws: torch.Generator) -> Tensor:
    """The constant patch and patches with structure, scaled to length one."""
    x = _centred(bank.draw(40 * atoms, draws))
    x = x[x.norm(dim=1) > 0.03 * bank.size][: atoms - 1]
    if len(x) < atoms - 1:
        raise DataError(
            f"{atoms - 1} patches that are not flat",
            f"{len(x)}",
            "use more or other images",
            len(x),
        )
    flat = torch.full((1, x.shape[1]), 1 / bank.size).to(x)
    return torch.cat([flat, x / x.norm(dim=1, keepdim=True)]).mT.contiguous()


def _renew(A: Tensor, S: Tensor, B: Tensor, x: Tensor, draws: torch.Generator) -> None:
    """One pass over the atoms, in place; an unused atom becomes a patch of the batch."""
    for j in range(1, A.shape[1]):
        if S[j, j] < 1e-6:
            atom = x[torch.randint(len(x), (1,), generator=draws)][0]
        else:
            atom = A[:, j] + (B[:, j] - A @ S[:, j]) / S[j, j]
        length = atom.norm()
        A[:, j] = atom / length if length > 1e-6 else A[:, j]


def flatten_spectrum(A: Tensor, power: float) -> Tensor:
    r"""Bring the singular values closer together.

    .. math:: U\,\mathrm{diag}(\sigma)V^\top \mapsto
        U\,\mathrm{diag}(\sigma^{1-q}\bar\sigma^q)V^\top

    The codes of a flat spectrum are found in fewer steps (:math:`q = 1` is a tight frame);
    the mean :math:`\bar\sigma` is the geometric one, and singular values below half the
    second smallest are raised to it.

    Args:
        A: Shape (m, n).
        power: q in [0, 1]; 0 changes nothing.

    Example:
        >>> torch.linalg.svdvals(flatten_spectrum(torch.diag(torch.tensor([4.0, 1.0])), 1.0))
        tensor([2., 2.])
    """
    if power == 0:
        return A
    U, sigma, Vt = torch.linalg.svd(A, full_matrices=False)
    sigma = sigma.clamp_min(float(sigma[-2]) / 2)
    middle = sigma.log().mean().exp()
    return (U * (sigma ** (1 - power) * middle**power)) @ Vt
