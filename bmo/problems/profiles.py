"""What the settings of all experiments share. The settings never follow the hardware."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from typing import Any, TypeVar

from bmo.errors import DomainError


@dataclass(frozen=True)
class Profiled:
    """Settings of one profile.

    Attributes:
        profile: ``"page"``, ``"small"`` or ``"full"``.

    An example: :func:`of_profile`.
    """

    profile: str

    def as_dict(self) -> dict[str, Any]:
        """Plain JSON, for a record."""
        plain: dict[str, Any] = json.loads(json.dumps(asdict(self)))
        return plain


AnyProfile = TypeVar("AnyProfile", bound=Profiled)


def of_profile(profile: str, *known: AnyProfile) -> AnyProfile:
    """The settings of a profile.

    Args:
        profile: Its name.
        known: The settings of an experiment, once for each of its profiles.

    Raises:
        DomainError: Another name.

    Example:
        >>> of_profile("full", Profiled("page"), Profiled("full")).as_dict()
        {'profile': 'full'}
        >>> of_profile("huge", Profiled("page"), Profiled("full"))
        Traceback (most recent call last):
        ...
        bmo.errors.DomainError: required: profile page or full; got: 'huge'; remedy: choose one
    """
    found = {settings.profile: settings for settings in known}
    if profile not in found:
        *others, last = found
        names = f"{', '.join(others)} or {last}"
        raise DomainError(f"profile {names}", repr(profile), "choose one", profile)
    return found[profile]
