"""The certificates that the book shows, as one record.

Book: chapter 14, "Performance-estimation certificates".
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from importlib import metadata
from pathlib import Path
from typing import Any

from bmo.errors import DomainError
from bmo.performance.certificate import SETTINGS, Certificate
from bmo.performance.fixed_points import halpern_worst_case, km_worst_case
from bmo.performance.loops import loop_worst_case
from bmo.record import COMMON, Record, provenance_now, row, write

EXPERIMENT = "certificates"
METHODS = {False: "bmo", True: "bmo-h"}
#: The steps s_1 ... s_K of each schedule that the record names.
SCHEDULES: dict[str, Callable[[int], list[float]]] = {
    "1": lambda K: [1.0] * K,
    "1/4": lambda K: [0.25] * K,
    "1/(k+1)": lambda K: [1 / (k + 1) for k in range(1, K + 1)],
    "4/(k+1)": lambda K: [4 / (k + 1) for k in range(1, K + 1)],
    "K^(-1/2)": lambda K: [K**-0.5] * K,
}
_SHORT, _LONG = [1, 2, 4, 8, 12, 16], [1, 2, 4, 8, 12, 16, 20, 24, 32]
_FULL: dict[str, Any] = {
    "alphas": [0.05, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 0.95],
    "steps": [1, 2, 3, 5, 8, 13],
    "halpern": [1, 2, 3, 5, 8, 13],
    "alpha": 0.5,
    "mu": 0.5,
    "lipschitz": 1.0,
    "slope": 1.0,
    "loops": [
        ["value", "1", [False, True], _LONG],
        ["value", "1/4", [False, True], _SHORT],
        ["residual", "K^(-1/2)", [False, True], _SHORT],
        ["residual", "1/(k+1)", [False], [1, 2, 3, 4, 6, 8, 12, 16]],
        ["residual", "4/(k+1)", [False], [1, 2, 3, 4, 6, 8, 12, 16]],
    ],
}
_PAGE: dict[str, Any] = {
    **_FULL,
    "alphas": [0.2, 0.5, 0.8],
    "steps": [1, 3],
    "halpern": [2],
    "loops": [["value", "1", [False, True], [2]], ["residual", "1/(k+1)", [False], [2]]],
}


def settings_of(profile: str) -> dict[str, Any]:
    """What is certified: a few points for ``page``, the whole grid for ``full``.

    Raises:
        DomainError: There is no such profile.

    Example:
        >>> settings_of("page")["alphas"]
        [0.2, 0.5, 0.8]
    """
    if profile not in COMMON:
        raise DomainError(f"a profile of {', '.join(COMMON)}", profile, "choose one", profile)
    return {"profile": profile, **(_FULL if profile == "full" else _PAGE), "solver": SETTINGS}


def certificates(settings: dict[str, Any]) -> Iterator[tuple[str, dict[str, Any], Certificate]]:
    """Compute one certificate after the other: method, setting, certificate.

    Raises:
        CertificateError: The extra ``certificates`` is not installed.
    """
    for alpha in settings["alphas"]:
        for k in settings["steps"]:
            point = {"problem": "krasnoselskii-mann", "alpha": alpha, "k": k}
            yield "gkm", point, km_worst_case(alpha, k)
    for k in settings["halpern"]:
        yield "halpern", {"problem": "halpern", "k": k}, halpern_worst_case(k)
    known = {key: settings[key] for key in ("alpha", "mu", "lipschitz", "slope")}
    for measure, schedule, kinds, lengths in settings["loops"]:
        for anchored in kinds:
            for K in lengths:
                found = loop_worst_case(
                    SCHEDULES[schedule](K), measure=measure, anchored=anchored, **known
                )
                point = {"problem": "loop", "measure": measure, "schedule": schedule, "K": K}
                yield METHODS[anchored], point, found


def save(profile: str, folder: Path | str, tell: Callable[[str], None] = print) -> Path:
    """Compute the certificates of a profile and write them as a record.

    Each one is two rows, ``value`` and ``bound``, with the solver's status in the setting.
    Residuals and moves are squared.

    Args:
        profile: ``"page"`` (a few seconds) or ``"full"`` (some minutes).
        folder: Where the record goes.
        tell: Gets one line for each certificate.

    Returns:
        Path of the record.

    Raises:
        CertificateError: The extra ``certificates`` is not installed.
        RecordError: The folder cannot be written.
    """
    settings, started = settings_of(profile), time.perf_counter()
    rows, origin = [], provenance_now()
    for method, point, found in certificates(settings):
        setting = {**point, "status": found.status}
        rows.append(row(method, setting, "value", found.value))
        rows.append(row(method, setting, "bound", found.bound))
        tell(f"{method} {point}: {found.value:.8f}, bound {found.bound:.8f} ({found.status})")
    packages = {name: metadata.version(name) for name in ("pepit", "cvxpy", "clarabel")}
    record = Record(
        **{
            **origin,
            "command": f"python -m bmo certificates --profile {profile}",
            "versions": {**origin["versions"], **packages},
        },
        experiment=EXPERIMENT,
        profile=profile,
        settings=settings,
        seeds=[],
        data=[],
        seconds=round(time.perf_counter() - started, 1),
        rows=rows,
    )
    return write(record, folder)
