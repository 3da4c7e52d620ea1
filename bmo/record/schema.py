"""What a record holds. A :class:`Record` that exists is valid: it is checked when it is made."""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from bmo.errors import RecordError, require_number
from bmo.record.checks import DATA, FIELDS, ROW, check_curve, check_keys, wrong


@dataclass(frozen=True)
class Record:
    """One run and its results.

    Attributes:
        experiment: Such as ``"sparse-coding"``: lower-case words joined by hyphens.
        profile: ``"page"``, ``"small"`` or ``"full"``.
        created: Date and time with its zone, ISO 8601.
        command: The command that repeats the run.
        settings: Every setting of the run, as plain JSON.
        seeds: The seeds, one for each repetition.
        data: The files used: ``{"file": name, "sha256": digest}`` each.
        device: What computed it, in words.
        versions: Package → version.
        commit: Commit of this project (``-dirty`` if files were changed), or None.
        seconds: Wall-clock time.
        rows: The results, each made by :func:`row`.
        curves: Named lists of finite numbers, for figures.

    Raises:
        RecordError: A field is missing or malformed; the error names it.

    Example:
        >>> record = Record(
        ...     experiment="sparse-coding", profile="page", created="2026-01-31T12:00:00+00:00",
        ...     command="python -m bmo train sparse-coding", settings={"depth": 16}, seeds=[0],
        ...     data=[], device="CPU", versions={"torch": "2.13.0"}, commit=None, seconds=1.5,
        ...     rows=[row("bmo", {"depth": 16}, "NMSE dB", -12.6)],
        ... )
        >>> record.name, record.value(method="bmo", metric="NMSE dB", depth=16)
        ('sparse-coding.page', -12.6)
    """

    experiment: str
    profile: str
    created: str
    command: str
    settings: dict[str, Any]
    seeds: list[int]
    data: list[dict[str, str]]
    device: str
    versions: dict[str, str]
    commit: str | None
    seconds: float
    rows: list[dict[str, Any]]
    curves: dict[str, list[float]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.validate()

    @property
    def name(self) -> str:
        """``<experiment>.<profile>``: the file's name without its ending."""
        return f"{self.experiment}.{self.profile}"

    def as_dict(self) -> dict[str, Any]:
        """The fields as plain JSON, in their order."""
        return asdict(self)

    def validate(self) -> None:
        """Check every field again (its lists can be changed after it was made).

        Raises:
            RecordError: Naming the first field, row or curve that is malformed.
        """
        for name, (holds, required) in FIELDS.items():
            value = getattr(self, name)
            if not holds(value):
                raise wrong(name, required, value)
        for number, entry in enumerate(self.data):
            check_keys(f"data[{number}]", entry, DATA)
        for number, entry in enumerate(self.rows):
            check_keys(f"rows[{number}]", entry, ROW)
            if entry["source"] == "measured" and entry["n"] is None:
                raise wrong(f"rows[{number}].n", "a count, since the row is measured", None)
        for name, curve in self.curves.items():
            check_curve(name, curve)

    def select(self, **wanted: Any) -> list[dict[str, Any]]:
        """The rows with these values: of ``method``, ``metric``, ``source``, or of a setting.

        Example:
            ``record.select(method="bmo", depth=16)``
        """
        return [r for r in self.rows if all(field_of(r, key) == v for key, v in wanted.items())]

    def value(self, **wanted: Any) -> float:
        """The value of the one row that :meth:`select` finds.

        Raises:
            RecordError: No row, or more than one.
        """
        found = self.select(**wanted)
        if len(found) != 1:
            methods = sorted({r["method"] for r in self.rows})
            raise RecordError(
                f"one row of {self.name} with {wanted}",
                f"{len(found)} rows",
                f"name other fields; its methods are {', '.join(methods)}",
                wanted,
            )
        return float(found[0]["value"])


def row(
    method: str,
    setting: dict[str, Any],
    metric: str,
    value: float | Sequence[float],
    std: float | None = None,
    n: int | None = None,
    source: str = "measured",
) -> dict[str, Any]:
    """One result. A sequence of values becomes its mean, standard deviation (n - 1) and count.

    Args:
        method: Its name, beginning with its class (``bmo``, ``unh-ista``, ``ena-lista``).
        setting: What it was measured on, as plain JSON.
        metric: What was measured, with its unit.
        value: The value, or one for each repetition.
        std: Standard deviation over repetitions, when ``value`` is one number.
        n: Number of repetitions; 1 by default for a measured value.
        source: ``"measured"``, or ``"published"`` for a figure that others printed.

    Raises:
        RecordError: No value at all, or ``std``/``n`` given beside a sequence.
        DomainError: A value is not a number.

    Example:
        >>> row("bmo", {}, "PSNR dB", [30.0, 31.0, 32.0])["std"]
        1.0
    """
    if isinstance(value, Sequence) and not isinstance(value, str | bytes):
        if not value or std is not None or n is not None:
            raise wrong("value", "a nonempty sequence without std and n beside it", value)
        numbers = [require_number("value", v) for v in value]
        finite = all(math.isfinite(v) for v in numbers)
        std = statistics.stdev(numbers) if len(numbers) > 1 and finite else None
        value, n = math.fsum(numbers) / len(numbers) if finite else math.nan, len(numbers)
    elif n is None and source == "measured":
        n = 1
    return {
        "method": method,
        "setting": dict(setting),
        "metric": metric,
        "value": require_number("value", value),
        "std": None if std is None else float(std),
        "n": n,
        "source": source,
    }


def field_of(entry: dict[str, Any], key: str) -> Any:
    """A field of a row; any other name means one of its settings."""
    return entry[key] if key in ROW and key != "setting" else entry["setting"].get(key)
