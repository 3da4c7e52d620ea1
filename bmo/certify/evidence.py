"""What a check found: the worst case, where it is, and whether the claim survives it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from torch import Tensor

from bmo.errors import CertificateError


@dataclass(frozen=True)
class Evidence:
    r"""The worst case that a check has found for a claim "measured <= guaranteed".

    It can refute a claim, never prove it: what is measured is a *lower* bound on the supremum
    (for :func:`bmo.certify.circular_norm` and dense matrices it is the supremum itself).

    Attributes:
        name: The claim in words.
        measured: The worst value found.
        guaranteed: The value that the claim allows.
        holds: Whether ``measured <= guaranteed`` up to the tolerance of the check.
        where: The tensors at which it was found, by name.
        method: How it was found ("random pairs", "Jacobian", "ascent", ...).
        found: The worst value of each method.

    Example:
        >>> from bmo.certify import Evidence
        >>> print(Evidence("nonexpansive", 0.5, 1.0, True, {}, "random pairs"))
        nonexpansive: 0.5 <= 1 holds (worst case found by random pairs)
    """

    name: str
    measured: float
    guaranteed: float
    holds: bool
    where: Mapping[str, Tensor] = field(repr=False)
    method: str
    found: Mapping[str, float] = field(default_factory=dict)

    def __bool__(self) -> bool:
        return self.holds

    def __str__(self) -> str:
        verdict = "holds" if self.holds else "FAILS"
        claim = f"{self.name}: {self.measured:.12g} <= {self.guaranteed:g}"
        return f"{claim} {verdict} (worst case found by {self.method})"


def require(evidence: Evidence) -> Evidence:
    """Return the evidence if the claim holds, and raise otherwise.

    Raises:
        CertificateError: The claim does not hold; ``value`` is the evidence.

    Example:
        >>> import torch, bmo
        >>> D = bmo.operators.Lambda(lambda u: 1.1 * u, bmo.metric.Identity())
        >>> try:
        ...     bmo.certify.require(bmo.certify.nonexpansive(D, size=2))
        ... except bmo.errors.CertificateError as error:
        ...     print(round(error.value.measured, 6))
        1.1
    """
    if not evidence.holds:
        raise CertificateError(
            f"{evidence.name} <= {evidence.guaranteed:g}",
            f"{evidence.measured:.10g}, found by {evidence.method}",
            "look at value.where; shorten the step, or claim another metric",
            evidence,
        )
    return evidence
