"""What makes each field of a record valid: one predicate and one sentence for each."""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from datetime import datetime
from typing import Any

from bmo.errors import RecordError

#: ``page`` runs everywhere within minutes; ``small`` is real data with small networks, some hours
#: on a CPU; ``full`` is the paper's scale.
PROFILES = ("page", "small", "full")
#: What every experiment has; ``small`` belongs to those whose ``full`` needs a GPU.
COMMON = ("page", "full")
_SLUG = re.compile(r"[a-z0-9]+(-[a-z0-9]+)*")
_COMMIT = re.compile(r"[0-9a-f]{7,40}(-dirty)?")
_SHA256 = re.compile(r"[0-9a-f]{64}")


def _is_json(value: Any) -> bool:
    if isinstance(value, dict):
        return all(isinstance(k, str) and _is_json(v) for k, v in value.items())
    if isinstance(value, list):
        return all(_is_json(v) for v in value)
    return value is None or isinstance(value, str | bool | int) or _is_finite(value)


def _is_finite(value: Any) -> bool:
    return _is_number(value) and math.isfinite(value)


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _is_int(value: Any, least: int) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= least


def _is_text(value: Any) -> bool:
    return isinstance(value, str) and bool(value.strip())


def _is_time(value: Any) -> bool:
    try:
        return isinstance(value, str) and datetime.fromisoformat(value).tzinfo is not None
    except ValueError:
        return False


def _matches(pattern: re.Pattern[str]) -> Callable[[Any], bool]:
    return lambda value: isinstance(value, str) and pattern.fullmatch(value) is not None


def _is_list(least: int, holds: Callable[[Any], bool]) -> Callable[[Any], bool]:
    return lambda v: isinstance(v, list) and len(v) >= least and all(holds(x) for x in v)


def _is_dict(value: Any) -> bool:
    return isinstance(value, dict) and _is_json(value)


Checks = dict[str, tuple[Callable[[Any], bool], str]]
FIELDS: Checks = {
    "experiment": (_matches(_SLUG), "lower-case words joined by hyphens"),
    "profile": (lambda v: v in PROFILES, "page, small or full"),
    "created": (_is_time, "an ISO 8601 date and time with its zone"),
    "command": (_is_text, "a command"),
    "settings": (_is_dict, "plain JSON (dicts, lists, texts, finite numbers)"),
    "seeds": (_is_list(0, lambda v: _is_int(v, 0)), "a list of nonnegative integers"),
    "data": (_is_list(0, lambda v: isinstance(v, dict)), "a list of {file, sha256}"),
    "device": (_is_text, "the device in words"),
    "versions": (
        lambda v: _is_dict(v) and all(_is_text(x) for x in v.values()),
        "package → version",
    ),
    "commit": (lambda v: v is None or _matches(_COMMIT)(v), "a commit's hexadecimal name or None"),
    "seconds": (lambda v: _is_finite(v) and v >= 0, "a finite number of seconds"),
    "rows": (_is_list(1, lambda v: isinstance(v, dict)), "a nonempty list of rows"),
    "curves": (
        lambda v: isinstance(v, dict) and all(isinstance(k, str) for k in v),
        "named lists of numbers",
    ),
}
DATA: Checks = {
    "file": (_is_text, "a file's name"),
    "sha256": (_matches(_SHA256), "64 hexadecimal digits"),
}
ROW: Checks = {
    "method": (_is_text, "a method's name"),
    "setting": (_is_dict, "plain JSON"),
    "metric": (_is_text, "a metric's name"),
    "value": (_is_finite, "a finite number"),
    "std": (lambda v: v is None or (_is_finite(v) and v >= 0), "a finite number ≥ 0 or None"),
    "n": (lambda v: v is None or _is_int(v, 1), "a count ≥ 1 or None"),
    "source": (lambda v: v in ("measured", "published"), "measured or published"),
}


def check_keys(where: str, entry: dict[str, Any], checks: Checks) -> None:
    """Refuse an entry whose keys or values are not as ``checks`` says, naming the place."""
    if set(entry) != set(checks):
        raise wrong(where, f"the fields {', '.join(checks)}", ", ".join(map(str, entry)))
    for name, (holds, required) in checks.items():
        if not holds(entry[name]):
            label = f" ({entry['method']}, {entry['metric']})" if "method" in entry else ""
            raise wrong(f"{where}.{name}{label}", required, entry[name])


def check_curve(name: str, curve: Any) -> None:
    """Refuse a curve that is not a list of finite numbers, naming the place."""
    if not isinstance(curve, list):
        raise wrong(f"curves[{name!r}]", "a list of finite numbers", curve)
    for index, value in enumerate(curve):
        if not _is_finite(value):
            raise wrong(f"curves[{name!r}][{index}]", "a finite number", value)


def wrong(name: str, required: str, value: Any) -> RecordError:
    """The error for a field, which it names."""
    shown = repr(value) if len(repr(value)) <= 80 else repr(value)[:77] + "..."
    return RecordError(f"{name}: {required}", shown, f"mend the field {name}", value)
