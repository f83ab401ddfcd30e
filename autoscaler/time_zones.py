"""Time zones by their names in the IANA database: those that the package brings, so that each is known everywhere."""

from datetime import UTC, tzinfo
from functools import cache
from importlib import import_module


def zone_of(name: str) -> tzinfo:
    """Its rules. Raises KeyError (ZoneInfoNotFoundError) where no such zone is known."""
    if name == "UTC":
        return UTC
    found: tzinfo = import_module("zoneinfo").ZoneInfo(name)  # loaded where a policy names a zone
    return found


def is_known(name: str) -> bool:
    """Whether it is one of `tzdata`'s, to the letter.

    `zoneinfo` opens any file below the system's own: `posixrules`, or `europe/berlin` where files have no case. Neither
    is known where the functions run.
    """
    return name == "UTC" or name in _names()


@cache
def _names() -> frozenset[str]:
    listed = import_module("importlib.resources").files("tzdata") / "zones"
    return frozenset(listed.read_text(encoding="utf-8").split())
