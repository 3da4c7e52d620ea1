r"""A step of your own, with your claim about it, put to the test before it is used.

Book: appendix C. Whoever brings a map :math:`D`, a metric :math:`H` and a constant a claims that
:math:`N = I + (D - I)/a` is nonexpansive in :math:`H`. The claim is tested where it is made.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from bmo.certify import Evidence, averaged, usable
from bmo.certify.expansion import Undone
from bmo.errors import CertificateError, ConditionError
from bmo.metric import Identity, Metric
from bmo.operators.base import Lambda
from bmo.sets import Set


class Own(Lambda):
    r"""Your own step: a function, or a module whose parameters become part of omega.

    It must map points with batch axes in front to points of the same shape. Then the claim that
    it is a-averaged in H is searched for a counterexample (:func:`bmo.certify.averaged`). A step
    that is refused names the worst pair. A step that is accepted is *tested*, not proved: prove
    the claim, or subclass :class:`Operator` where your proof holds for every parameter.

    Args:
        function: :math:`u \mapsto D(u)`.
        point: ONE point such as the step will meet, ``u0[0]`` of a batch: its shape, dtype, device
            and size are taken. (With a metric of fewer axes, the axes in front are batch.)
        metric: :math:`H`, or a function without arguments that returns it at the current
            parameters. By default the Euclidean one, all axes of ``point`` making one point.
        averaged: The claimed a in (0, 1]; 1 claims nonexpansive only.
        domain: The set in which the claim is made.
        scale: Typical size of an entry of a point; that of ``point`` by default (1 for zeros).
        check: ``False`` tests nothing, and ``certified`` is then ``"none"``.
        **search: ``trials``, ``ascent``, ``seed``, ``tol`` of :func:`bmo.certify.nonexpansive`.

    Attributes:
        evidence: What the last check found (``None`` without one).

    Raises:
        CertificateError: The step expands; ``value.where`` holds the worst pair u, v.
        ConditionError, ShapeError, NonFiniteError: The step cannot be iterated, batched or
            differentiated (:func:`bmo.certify.usable`).

    Book: appendix C, "Fifteen lines".

    Example:
        >>> import torch, bmo
        >>> A = torch.tensor([[2.0, 0.0], [0.0, 1.0]], dtype=torch.float64)
        >>> b, u0 = torch.ones(2).double(), torch.zeros(2).double()
        >>> D = bmo.operators.Own(lambda u: u - 0.5 * (u @ A.mT - b) @ A, point=u0)
        >>> print(D.evidence)
        nonexpansive in its metric: 1 <= 1 holds (worst case found by random pairs)
        >>> [round(x, 4) for x in bmo.GKM(D, 0.9).iterate(u0, tol=1e-6).value.tolist()]
        [0.5, 1.0]
        >>> try:
        ...     bmo.operators.Own(lambda u: u - 0.75 * (u @ A.mT - b) @ A, point=u0)
        ... except bmo.errors.CertificateError as error:
        ...     print(error.got.split(":")[0])
        a pair whose distance grows by the factor 2
    """

    point: Tensor
    evidence: Evidence | None = None

    def __init__(
        self,
        function: Callable[[Tensor], Tensor],
        point: Tensor,
        metric: Metric | Callable[[], Metric] | None = None,
        averaged: float = 1.0,
        domain: Set | None = None,
        scale: float | None = None,
        check: bool = True,
        **search: Any,
    ) -> None:
        if not callable(function):
            raise ConditionError(
                "a step as a function u -> D(u)", type(function).__name__, "pass the function"
            )
        axes = point.dim() if isinstance(point, Tensor) else 1
        super().__init__(function, Identity(max(axes, 1)), averaged)
        self._given = metric
        if isinstance(point, Tensor):  # what else it may be is refused by the check
            self.register_buffer("point", point.detach().clone(), persistent=False)
        else:
            self.point = point
        self.domain, self.scale, self.search = domain, scale, search
        self.certified = "tested" if check else "none"
        if check:
            self.verify()

    @property
    def metric(self) -> Metric:
        if self._given is None:
            return self._metric
        return self._given if isinstance(self._given, Metric) else self._given()

    def verify(self) -> Evidence:
        """Test the claim at the current parameters: after learning, and before it is relied on.

        Returns:
            The evidence, also kept as ``evidence``.

        Raises:
            CertificateError: The step expands; ``value.where`` holds the worst pair u, v.
        """
        metric, point = self.metric, self.point
        size = self.scale
        if size is None and isinstance(point, Tensor) and point.is_floating_point():
            size = float(point.square().mean().sqrt()) if point.numel() else 0.0
        scale = size or 1.0
        usable(self, point, metric, scale, self.domain)
        shape = tuple(point.shape)
        options = {"shape": shape, "scale": scale, "domain": self.domain, **self.search}
        if self._averaged == 1:
            options.setdefault("name", "nonexpansive in its metric")
        found = averaged(self, self._averaged, metric=metric, **options)
        if not found.holds:
            found = replace(found, where=worst_pair(self, self._averaged, found, metric, scale))
        self.evidence = found
        return self._accept(found, metric)

    def _accept(self, found: Evidence, metric: Metric) -> Evidence:
        """Return the evidence of a claim that holds, and refuse one that does not."""
        if found.holds:
            return found
        u, v = found.where["u"], found.where["v"]
        N = Undone(self, self._averaged)
        with torch.no_grad():
            before = float(metric.distance(u, v).max())
            after = float(metric.distance(N(u[None])[0], N(v[None])[0]).max())
        what = "D" if self._averaged == 1 else "N = I + (D - I)/a"
        raise CertificateError(
            f"a step that is {found.name}",
            f"a pair whose distance grows by the factor {found.measured:.6g}: {what} takes "
            f"|u - v|_H = {before:.4g} to {after:.4g} (found by {found.method})",
            "value.where holds u and v; shorten the step, divide it by its norm, or claim another "
            "metric, constant or domain",
            found,
        )


def worst_pair(
    D: Callable[[Tensor], Tensor], a: float, found: Evidence, metric: Metric, scale: float
) -> dict[str, Tensor]:
    r"""The pair of an evidence; where it is a point and a direction, the worst pair along it."""
    where = dict(found.where)
    if "v" in where:
        return where
    N, u, d = Undone(D, a), where["u"], where["direction"]
    lengths = scale * torch.logspace(-5, 0, 11, dtype=u.dtype, device=u.device)
    v = u + lengths.reshape(-1, *[1] * u.dim()) * d / metric.norm(d)
    with torch.no_grad():
        ratio = metric.distance(N(v), N(u[None])) / metric.distance(v, u)
    return {"u": u, "v": v[int(ratio.argmax())]}
