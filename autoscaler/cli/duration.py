"""Durations as people write them: `90s`, `30m`, `2h`, `1h30m`, `1d`."""

from decimal import Decimal
from typing import Final

from autoscaler.policyfile.units import SECONDS, UnitError

UNITS: Final = {"d": 86_400, "h": 3_600, "m": 60, "s": 1}
LONGEST_S: Final = 365 * 86_400


class DurationError(ValueError):
    """Not a duration; the message says what is allowed."""


def parse_duration(text: str) -> int:
    """Return seconds. Raises DurationError."""
    try:
        seconds = SECONDS.amount(text.strip().lower())
    except UnitError:
        seconds = Decimal(0)
    if not 0 < seconds <= LONGEST_S or seconds != int(seconds):
        raise DurationError(
            f"{text!r} is not a duration: write a positive one such as 45s, 30m, 2h, 1h30m or 1d, at most 365d."
        )
    return int(seconds)


def say_duration(seconds: int) -> str:
    """The two largest units, as people say it: `1h30m`, `2d`, `45s`."""
    parts: list[str] = []
    rest = max(0, seconds)
    for unit, size in UNITS.items():
        count, rest = divmod(rest, size)
        if count:
            parts.append(f"{count}{unit}")
    return "".join(parts[:2]) or "0s"
