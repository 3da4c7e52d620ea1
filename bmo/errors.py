"""Errors that say what was required, what was given, and what to do about it.

Every error is a :class:`ValueError`, so code that knows nothing of this
package can still catch it. The offending value travels with the error.
"""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor


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


def require_number(name: str, value: Any) -> float:
    """A value as a float; a word, ``None`` or a list is refused by its name.

    Raises:
        DomainError: It is not a number.

    Example:
        >>> require_number("alpha", 0.5)
        0.5
        >>> require_number("alpha", "half")
        Traceback (most recent call last):
        ...
        bmo.errors.DomainError: required: a number alpha; got: 'half'; remedy: use alpha = 0.5
    """
    try:
        if not isinstance(value, str | bytes):
            return float(value)
    except (TypeError, ValueError, RuntimeError):
        pass  # float itself does not know the name
    raise DomainError(f"a number {name}", _short(value), f"use {name} = 0.5", value)


def require_whole(name: str, value: Any, least: int = 0) -> int:
    """A value as an int; a fraction, a word, infinity, or less than ``least`` is refused.

    Raises:
        DomainError: It is not a whole number, or too small.

    Example:
        >>> require_whole("iterations", 3)
        3
    """
    number = require_number(name, value)
    if not least <= number < math.inf or number != int(number):
        raise DomainError(
            f"a whole number {name} >= {least}",
            f"{name} = {value}",
            f"{name} = {least}, say",
            value,
        )
    return int(number)


def require_tensor(name: str, value: Any) -> Tensor:
    """A value that is a tensor; a list or an array is refused by its name.

    Raises:
        ShapeError: It is not a tensor.

    Example:
        >>> require_tensor("u0", torch.ones(1))
        tensor([1.])
    """
    if not isinstance(value, Tensor):
        remedy = f"use torch.as_tensor({name})"
        raise ShapeError(
            f"a tensor {name}", f"{type(value).__name__} {_short(value)}", remedy, value
        )
    return value


def as_numbers(value: Any, dtype: torch.dtype | None = None) -> Tensor:
    """:func:`torch.as_tensor`, which refuses a word in words.

    Raises:
        DomainError: It is neither a number nor a tensor.

    Example:
        >>> as_numbers(2.0, torch.float64)
        tensor(2., dtype=torch.float64)
    """
    try:
        return torch.as_tensor(value, dtype=dtype)
    except (TypeError, ValueError, RuntimeError):
        raise DomainError("a number or a tensor", _short(value), "use 0.5, say", value) from None


def _short(value: Any) -> str:
    text = " ".join(repr(value).split())
    return text if len(text) <= 60 else f"{text[:57]}..."
