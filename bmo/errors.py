"""Errors that say what was required, what was given, and what to do about it.

Every error is a :class:`ValueError`, so code that knows nothing of this
package can still catch it. The offending value travels with the error.
"""

from __future__ import annotations

from typing import Any


class BMOError(ValueError):
    """Base of all errors of this package.

    Args:
        required: What the function needs, in words.
        got: What it was given, in words.
        remedy: What the caller can do about it.
        value: The offending value itself, for a debugger or a handler.

    Example:
        >>> from bmo.errors import BMOError
        >>> print(BMOError("alpha in (0, 1)", "alpha = 2", "choose alpha = 0.5"))
        required: alpha in (0, 1); got: alpha = 2; remedy: choose alpha = 0.5
    """

    def __init__(self, required: str, got: str, remedy: str, value: Any = None) -> None:
        super().__init__(f"required: {required}; got: {got}; remedy: {remedy}")
        self.required = required
        self.got = got
        self.remedy = remedy
        self.value = value

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (self.required, self.got, self.remedy, self.value)


class MetricError(BMOError):
    """A metric is not symmetric positive definite, or has the wrong size."""


class DomainError(BMOError):
    """A scalar is outside its range, or a point is outside its set."""


class ShapeError(BMOError):
    """Shape, dtype or device of a tensor does not fit."""


class ScheduleError(BMOError):
    """A step-size schedule is not positive and nonincreasing."""


class ConditionError(BMOError):
    """A condition that a theorem needs is violated (a step size too long, say)."""


class NonFiniteError(BMOError):
    """NaN or infinity, in data or in an iterate. ``value`` holds the result so far."""


class CertificateError(BMOError):
    """A claimed property is broken, or cannot be certified. ``value`` holds the evidence."""


class DataError(BMOError):
    """A data file is missing, truncated or altered."""


class RecordError(BMOError):
    """A record is malformed or altered, or its folder cannot be written."""


class TrainingError(BMOError):
    """A training run cannot start or resume as asked."""
