r"""Solve a performance-estimation problem, and bound its value without trusting the solver.

Book: chapter 14, "Performance-estimation certificates".
"""

from __future__ import annotations

import contextlib
import importlib
import io
import warnings
from dataclasses import dataclass
from typing import Any

import numpy as np

from bmo.errors import CertificateError

#: Passed on to Clarabel: tighter than it can reach on most problems, so that it does its best.
SETTINGS = {"tol_gap_abs": 1e-10, "tol_gap_rel": 1e-10, "tol_feas": 1e-10, "max_iter": 200}
#: Tried one after the other where Clarabel gives up: other roads to the same optimum.
FALLBACKS: tuple[dict[str, Any], ...] = (
    {},
    {"equilibrate_enable": False},
    {"max_step_fraction": 0.9},
)


@dataclass(frozen=True)
class Certificate:
    r"""The worst case of a method, from below and from above.

    Attributes:
        value: The value of the worst problem that the solver found: right up to its tolerance.
        bound: No problem of the class is worse. It is computed from the multipliers alone, and
            holds whatever the solver did, up to rounding in double precision.
        status: What the solver says of itself (``optimal``, ``optimal_inaccurate``, ...).
        points: The size of the matrix of inner products.

    Example:
        >>> Certificate(0.25, 0.2500001, "optimal", 3).gap < 1e-6
        True
    """

    value: float
    bound: float
    status: str
    points: int

    @property
    def gap(self) -> float:
        """``bound - value``: how much is not known."""
        return self.bound - self.value


def pepit(module: str = "PEPit") -> Any:
    """A module of PEPit, imported when it is needed.

    Raises:
        CertificateError: PEPit or cvxpy is not installed.
    """
    try:
        importlib.import_module("cvxpy")
        return importlib.import_module(module)
    except ImportError as problem:
        raise CertificateError(
            "the packages pepit and cvxpy",
            str(problem),
            "pip install 'bmo-book[certificates]'",
            problem.name,
        ) from problem


def new() -> Any:
    """A new, empty problem.

    Raises:
        CertificateError: PEPit or cvxpy is not installed.
    """
    return pepit().PEP()


def nonexpansive(problem: Any) -> Any:
    """A nonexpansive map of the problem, with the fixed point 0."""
    D = problem.declare_function(pepit("PEPit.operators").LipschitzOperator, L=1.0)
    D.add_point((origin(), origin(), zero()))
    return D


def origin() -> Any:
    """The point 0 of a problem. Nothing is lost: a shift changes no distance."""
    return pepit("PEPit.point").null_point


def zero() -> Any:
    """The number 0 of a problem."""
    return pepit("PEPit.expression").null_expression


def certify(
    problem: Any, measure: Any, trace: float, height: float = 0.0, scale: float = 1.0
) -> Certificate:
    r"""The largest value of ``measure``.

    For multipliers :math:`\lambda_i \ge 0` of the constraints :math:`c_i \le 0`,

    .. math:: m \le m-\sum_i\lambda_ic_i = \tau+\langle R,X\rangle+\langle h,f\rangle
              \le \tau+\lambda_{\max}(R)_+\operatorname{tr}X+\|h\|_1\max_i|f_i|

    with the matrix X of inner products and the function values f. At exact multipliers
    R is negative semidefinite and h = 0. The solver's are not exact; the last expression is
    a bound all the same.

    Args:
        problem: Made by :func:`new`, with all its constraints.
        measure: What is to be as large as possible.
        trace: A number that tr X cannot exceed in this class.
        height: A number that no :math:`|f_i|` can exceed.
        scale: The solver gets this many times the measure; it does best if that is about one.

    Raises:
        CertificateError: The solver finds no bounded worst case.

    Book: chapter 14, Lemma (any multipliers).
    """
    problem.set_performance_metric(scale * measure)
    value, status = _solve(problem)
    matrix, linear, bound = _parts(scale * measure)
    for constraint in problem._list_of_constraints_sent_to_wrapper:
        quadratic, values, constant = _parts(constraint.expression)
        if values[problem.objective.counter]:
            continue  # "objective <= measure": its multiplier is one, and it is used up
        multiplier = max(float(constraint.eval_dual()), 0.0)
        matrix -= multiplier * quadratic
        linear -= multiplier * values
        bound -= multiplier * constant
    top = float(np.linalg.eigvalsh((matrix + matrix.T) / 2)[-1])
    bound += max(top, 0.0) * trace + float(np.abs(linear).sum()) * height
    return Certificate(value / scale, bound / scale, status, len(matrix))


def _solve(problem: Any) -> tuple[float, str]:
    value, status = None, ""
    for changes in FALLBACKS:
        try:
            # The bound tells how far the solver came; its own opinion stands in the status.
            with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
                warnings.filterwarnings("ignore", message="Solution may be inaccurate")
                value = problem.solve(
                    verbose=0,
                    return_primal_or_dual="primal",
                    solver="CLARABEL",
                    **{**SETTINGS, **changes},
                )
        except pepit("cvxpy.error").SolverError as trouble:
            status = str(trouble)
        else:
            status = str(problem.wrapper.prob.status)
            break
    if value is None:
        raise CertificateError(
            "a problem with a bounded worst case, not too large for the solver",
            status,
            "bound the start and the slopes, or take fewer steps",
            status,
        )
    return float(value), status


def _parts(expression: Any) -> tuple[Any, Any, float]:
    """An expression as a matrix, a vector and a number, in the current problem's coordinates."""
    split = pepit("PEPit.tools.expressions_to_matrices").expression_to_matrices
    matrix, linear, constant = split(expression)
    return np.array(matrix, float), np.array(linear, float), float(constant)
