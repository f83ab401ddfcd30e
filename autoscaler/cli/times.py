"""Instants as people read and write them: in the zone of their own desk, with its name. Programs get UTC (--json)."""

from datetime import UTC, date, datetime, time, timedelta
from typing import Final

from autoscaler.cli.duration import DurationError, parse_duration, say_duration

ALLOWED: Final = (
    "write how long ago (30m, 2h, 7d), a time of day (14:00), a date (2026-11-26), or both, with a zone or without"
)


class MomentError(ValueError):
    """No instant; the message says what is allowed."""


def moment(at_s: int) -> str:
    """An instant in the local zone: `2026-11-26 14:00:05 CET`."""
    return datetime.fromtimestamp(at_s, UTC).astimezone().strftime("%Y-%m-%d %H:%M:%S %Z")


def ago(at_s: int | None, now_s: int) -> str:
    """An instant and how long ago it was."""
    return "never" if at_s is None else f"{moment(at_s)} ({say_duration(now_s - at_s)} ago)"


def utc(at_s: int) -> str:
    """An instant for programs: `2026-11-26T13:00:05Z`."""
    return datetime.fromtimestamp(at_s, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def of_utc(text: str) -> str:
    """What `utc` wrote, for people; as it stands where it is something else."""
    try:
        return moment(int(datetime.fromisoformat(text).timestamp()))
    except ValueError:
        return text


def parse_moment(text: str, now_s: int) -> int:
    """Epoch seconds of `2h` (ago), `14:00` (the last one), `2026-11-26 14:00` or ISO 8601; local without a zone.

    Raises MomentError.
    """
    text = text.strip()
    try:
        return now_s - parse_duration(text)
    except DurationError:
        pass
    try:
        at_s = _time_of_day(time.fromisoformat(text), now_s) if ":" in text[:3] else _instant(text)
    except (ValueError, OverflowError, OSError):
        raise MomentError(f"{text!r} is no time: {ALLOWED}.") from None
    if at_s < 0:
        raise MomentError(f"{text!r} is no time: {ALLOWED}.")
    return at_s


def _time_of_day(wanted: time, now_s: int) -> int:
    """The last time that the clock on the wall showed it."""
    today = datetime.fromtimestamp(now_s, wanted.tzinfo or UTC)
    if wanted.tzinfo is None:
        today = today.astimezone()
    for days in (0, 1):
        at_s = int(datetime.combine(today.date() - timedelta(days=days), wanted).timestamp())
        if at_s <= now_s:
            break
    return at_s


def _instant(text: str) -> int:
    try:
        return int(datetime.combine(date.fromisoformat(text), time()).timestamp())
    except ValueError:
        return int(datetime.fromisoformat(text).timestamp())
