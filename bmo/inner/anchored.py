"""BMO-H: the inner loop with an anchor."""

from __future__ import annotations

from bmo.inner.loop import Inner


class AnchoredInner(Inner):
    r"""BMO-H: the inner loop with an anchor (Halpern).

    .. math:: w^k = \tfrac{1}{k+1}w^0 + \tfrac{k}{k+1}F_s(w^{k-1})

    One line more than Algorithm 1; ``steps`` is one number :math:`s`. Book: chapter 6
    introduces it, chapter 14 proves what it gains. Ours, not the paper's.

    Example:
        >>> import torch, bmo
        >>> D = bmo.operators.Lambda(lambda u: -u, bmo.metric.Identity())
        >>> inner = bmo.AnchoredInner(bmo.GKM(D, alpha=0.5), mu=0.0, steps=0.5)
        >>> inner(torch.ones(1), lambda u: 0 * u.sum(-1), iterations=3)
        tensor([0.2500])
    """

    def weights(self, k: int) -> tuple[float, float]:
        """The weights of the anchor and of the step in :math:`w^k`."""
        return 1 / (k + 1), k / (k + 1)
