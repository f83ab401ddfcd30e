"""Schedule windows, blackouts and headroom, as `policy.yml` states them: typed, and all that is wrong in sentences.

When a window holds is decide's question (decide/demand/schedules.py).
"""

import re
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime, timedelta, tzinfo
from itertools import permutations
from typing import Annotated, Final

import msgspec

from autoscaler.time_zones import is_known, zone_of

DAYS: Final = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")
"""In the order of `datetime.weekday()`."""
MOST_WINDOWS: Final = 20
DAY_MINUTES: Final = 24 * 60
_WEEK_MINUTES: Final = 7 * DAY_MINUTES
_TIME: Final = r"([01]\d|2[0-3]):([0-5]\d)"
_EVERY_WEEK: Final = tuple(datetime(2026, 1, 1, tzinfo=UTC) + timedelta(weeks=week) for week in range(53))
"""A year in which zones show how far apart they may be: some change their clocks weeks before others do."""


class PodShape(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """So many pods of this shape, as the scheduler counts requests."""

    cpu_millicores: Annotated[int, msgspec.Meta(ge=1, le=2_000_000)]
    """Requested by each."""
    memory_mib: Annotated[int, msgspec.Meta(ge=1, le=64 * 1024 * 1024)]
    """Requested by each."""
    count: Annotated[int, msgspec.Meta(ge=1, le=1_000)] = 1
    """So many of them at once."""


class Headroom(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What stays free beside all that runs and waits; of several the one that asks for most."""

    workers: Annotated[int, msgspec.Meta(ge=0, le=1_000)] = 0
    """As much as so many new workers offer."""
    percent: Annotated[int, msgspec.Meta(ge=0, le=90)] = 0
    """Of the workers' CPU and memory."""
    pod: PodShape | None = None
    """Room for pods of one shape."""

    def __bool__(self) -> bool:
        return bool(self.workers or self.percent or self.pod is not None)


class ClockWindow(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """From one time of the day to another, on some days of the week."""

    name: Annotated[
        str,
        msgspec.Meta(
            pattern=r"^[a-z0-9][a-z0-9-]*$", max_length=40, description="at most 40 small letters, digits and -"
        ),
    ]
    """What decisions call it."""
    time_zone: Annotated[
        str, msgspec.Meta(min_length=1, max_length=64, description="a time zone, such as Europe/Berlin")
    ]
    """A name of the IANA time zone database, `Europe/Berlin`."""
    days: Annotated[tuple[str, ...], msgspec.Meta(max_length=7)] = DAYS
    """Days of the week on which it begins."""
    from_time: Annotated[str, msgspec.Meta(max_length=5)] | None = msgspec.field(default=None, name="from")
    """`09:00` by the clock on the wall; None, as `to`: the whole day."""
    to_time: Annotated[str, msgspec.Meta(max_length=5)] | None = msgspec.field(default=None, name="to")
    """Not after `from`: on the next day. `24:00` is the end of the day."""

    @property
    def zone(self) -> tzinfo:
        """Its rules. Raises KeyError (ZoneInfoNotFoundError) where no such zone is known: such a window is refused."""
        return zone_of(self.time_zone)

    @property
    def minutes(self) -> tuple[int, int]:
        """Where it begins and ends by the clock on the wall, in minutes from the start of its day."""
        begins, ends = _minutes(self.from_time or "00:00"), _minutes(self.to_time or "24:00")
        return begins, ends if ends > begins else ends + DAY_MINUTES


class Window(ClockWindow, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A time of the week at which other limits hold."""

    min: Annotated[int, msgspec.Meta(ge=0, le=1_000)] | None = None
    """In the place of `workers.min`; of several the highest counts."""
    max: Annotated[int, msgspec.Meta(ge=0, le=1_000)] | None = None
    """In the place of `workers.max`; of several the highest counts."""
    headroom: Headroom | None = None
    """In the place of the section `headroom`."""


class Blackout(ClockWindow, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A time of the week at which no worker begins to leave by choice."""


def faults(windows: Sequence[Window], *, base_min: int, base_max: int) -> list[str]:
    """What is wrong with the schedules, a sentence each; nothing where all is right."""
    found = _faults_of_clocks("schedules", windows)
    for window in windows if len(windows) <= MOST_WINDOWS else ():
        found += [f"schedules.{window.name}: {fault}" for fault in _faults_of_limits(window, base_min, base_max)]
    # Whether two of them meet can be told of windows that are right in themselves only.
    return found or [f"schedules: {fault}" for fault in _contradictions(windows)]


def blackout_faults(blackouts: Sequence[Blackout]) -> list[str]:
    """What is wrong with the blackouts, a sentence each; nothing where all is right."""
    return _faults_of_clocks("scale_down.blackouts", blackouts)


def _faults_of_clocks(field: str, windows: Sequence[ClockWindow]) -> list[str]:
    """`field`: what holds them in the policy."""
    if len(windows) > MOST_WINDOWS:
        return [f"{field} holds {len(windows)} windows: at most {MOST_WINDOWS} are allowed"]
    names = [window.name for window in windows]
    found = [f"{field} names {name} twice: give each window its own name" for name in _repeated(names)]
    return found + [f"{field}.{window.name}: {fault}" for window in windows for fault in _faults_of_clock(window)]


def _faults_of_clock(window: ClockWindow) -> Iterator[str]:
    if not is_known(window.time_zone):
        yield f"the time_zone {window.time_zone} is unknown: give a name of the IANA database, such as Europe/Berlin"
    if not window.days:
        yield "days is empty: name at least one, or leave it out for every day"
    for day in window.days:
        if day not in DAYS:
            yield f"the day {day} is unknown: write {', '.join(DAYS)}"
    for day in _repeated(window.days):
        yield f"days names {day} twice"
    yield from _faults_of_times(window)


def _faults_of_limits(window: Window, base_min: int, base_max: int) -> Iterator[str]:
    if window.min is None and window.max is None and window.headroom is None:
        yield "it changes nothing: give it min, max or headroom"
    low, high = window.min, window.max
    if low is not None and high is not None and low > high:
        yield f"min is {low} and max is {high}: min may not exceed max"
    elif low is not None and high is None and low > base_max:
        yield f"min is {low} and workers.max is {base_max}: give the window a max of at least {low} too"
    elif high is not None and low is None and high < base_min:
        yield f"max is {high} and workers.min is {base_min}: give the window a min of at most {high} too"


def _faults_of_times(window: ClockWindow) -> Iterator[str]:
    begins, ends = window.from_time, window.to_time
    if (begins is None) is not (ends is None):
        there, missing = ("to", "from") if begins is None else ("from", "to")
        yield f"it has {there} without {missing}: give both, or neither for whole days"
    if begins is not None and not re.fullmatch(_TIME, begins):
        yield f"from is {begins!r}: write a time of the day, such as 09:00"
    if ends is not None and ends != "24:00" and not re.fullmatch(_TIME, ends):
        yield f"to is {ends!r}: write a time of the day, such as 18:00; 24:00 is the end of the day"
    if begins is not None and begins == ends:
        yield f"from and to are both {begins}: leave both out for whole days"


def _contradictions(windows: Sequence[Window]) -> Iterator[str]:
    """Of what holds at once the highest min and the highest max count: a min may be above the max of another."""
    for one, other in permutations(windows, 2):
        if one.min is None or one.max is not None or other.max is None or one.min <= other.max:
            continue
        if _meet(one, other):
            yield (
                f"{one.name} has min {one.min} and {other.name}, which holds at the same time, max {other.max}: "
                f"give {one.name} a max of at least {one.min} too"
            )


def _meet(one: Window, other: Window) -> bool:
    """Whether there are moments of the week at which both hold, as far apart as their zones are in some week."""
    apart = {0}
    if one.time_zone != other.time_zone:
        apart = {_offset(moment, one.zone) - _offset(moment, other.zone) for moment in _EVERY_WEEK}
    return any(
        _overlap(span, (start + shift, end + shift))
        for shift in apart
        for span in _weekly(one)
        for start, end in _weekly(other)
    )


def _offset(moment: datetime, zone: tzinfo) -> int:
    """Minutes ahead of UTC."""
    offset = moment.astimezone(zone).utcoffset() or timedelta()
    return round(offset.total_seconds() / 60)


def _weekly(window: Window) -> list[tuple[int, int]]:
    begins, ends = window.minutes
    starts = (DAYS.index(day) * DAY_MINUTES for day in window.days)
    return [(start + begins, start + ends) for start in starts]


def _overlap(one: tuple[int, int], other: tuple[int, int]) -> bool:
    """Whether they meet, the week being a circle."""
    shifts = (-_WEEK_MINUTES, 0, _WEEK_MINUTES)
    return any(one[0] < other[1] + shift and other[0] + shift < one[1] for shift in shifts)


def _minutes(time: str) -> int:
    hours, minutes = time.split(":")
    return int(hours) * 60 + int(minutes)


def _repeated(names: Sequence[str]) -> list[str]:
    return sorted({name for name in names if names.count(name) > 1})
