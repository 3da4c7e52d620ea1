"""The ranges in which the bounds are proved; outside of them they are refused."""

from __future__ import annotations

import math

from bmo.errors import DomainError, require_number


def require_open(name: str, value: float, low: float, high: float) -> float:
    """Refuse a value outside the open interval (low, high)."""
    if not low < require_number(name, value) < high:
        raise DomainError(
            f"{name} in ({low:g}, {high:g})", f"{name} = {value}", f"choose another {name}", value
        )
    return float(value)


def require_half_open(name: str, value: float, low: float, high: float) -> float:
    """Refuse a value outside [low, high)."""
    if not low <= require_number(name, value) < high:
        raise DomainError(
            f"{name} in [{low:g}, {high:g})", f"{name} = {value}", f"choose another {name}", value
        )
    return float(value)


def require_closed(name: str, value: float, low: float, high: float) -> float:
    """Refuse a value outside [low, high]."""
    if not low <= require_number(name, value) <= high:
        raise DomainError(
            f"{name} in [{low:g}, {high:g}]", f"{name} = {value}", f"choose another {name}", value
        )
    return float(value)


def require_averaged(name: str, value: float) -> float:
    """Refuse a constant outside (0, 1]; 1 means nonexpansive only."""
    if not 0 < require_number(name, value) <= 1:
        raise DomainError(
            f"{name} in (0, 1]", f"{name} = {value}", "1 means nonexpansive only", value
        )
    return float(value)


def require_positive(name: str, value: float) -> float:
    """Refuse a value that is not finite and positive."""
    return require_open(name, value, 0.0, math.inf)


def require_nonnegative(name: str, value: float) -> float:
    """Refuse a value that is negative, infinite or NaN."""
    return require_half_open(name, value, 0.0, math.inf)


def require_finite(name: str, value: float) -> float:
    """Refuse a value that is infinite or NaN; any sign will do."""
    return require_open(name, value, -math.inf, math.inf)


def require_count(name: str, value: int) -> int:
    """Refuse a number of steps that is not a nonnegative integer."""
    if not 0 <= require_number(name, value) < math.inf or value != int(value):
        raise DomainError(f"an integer {name} >= 0", f"{name} = {value}", "count steps", value)
    return int(value)
