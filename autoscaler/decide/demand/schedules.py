"""Schedules: which windows hold at a moment, and what limits follow, ahead of time where more is asked for soon.

A window begins when the clock on the wall shows its `from`, and ends when it shows its `to`. Where the clock jumps over
such a time, the jump is that moment. Where it shows one twice, a window begins at the first and ends at the last: an
hour too long rather than pods that wait. So a window from 22:00 to 06:00 takes seven hours in the night when summer
time begins, and nine when it ends. The rules are the IANA database's, as `zoneinfo` reads it (PEP 615).

Where several hold at once, the highest min and the highest max of those that give one count, and every headroom; what
none of them gives is the policy's own.
"""

from collections.abc import Iterator, Sequence
from datetime import UTC, datetime, timedelta, tzinfo
from typing import Final

import msgspec

from autoscaler.model import Schedule, State
from autoscaler.policy import Policy
from autoscaler.windows import DAYS, ClockWindow, Headroom

SWEEP_S: Final = 120
"""A look may come so long after the moment from which it would have seen a window coming: the default sweep's rate."""
LONGEST_AHEAD_S: Final = 900
"""Nothing is launched longer before its window, whatever a join once took."""
SPARED_S: Final = 1_800
"""Nobody leaves who would be launched again so soon after."""
_LOOKS_ON_S: Final = 8 * 86_400
"""A window that begins again where it ends is followed so far."""
OWN_MIN: Final = "workers.min"
OWN_MAX: Final = "workers.max"


class Limits(msgspec.Struct, frozen=True, kw_only=True):
    """What holds at this moment instead of the policy's own `workers.min`, `workers.max` and `headroom`."""

    min: int
    max: int
    headroom: tuple[Headroom, ...] = ()
    """All of them are kept."""
    min_by: str = OWN_MIN
    """What the limit is called in sentences."""
    max_by: str = OWN_MAX
    coming_min: int = 0
    """The highest min within half an hour: a shrink leaves as many, growth does not ask for them yet."""
    coming_by: str = ""
    coming_headroom: tuple[Headroom, ...] = ()
    """What more is to stay free within half an hour: alike."""
    schedules: tuple[Schedule, ...] = ()
    """The windows that hold, and those that are served ahead."""


def limits_at(policy: Policy, state: State, now_s: int) -> Limits:
    """What holds now; a higher min or more headroom that comes within the time that a worker needs to join, already."""
    own = Limits(min=policy.workers.min, max=policy.workers.max, headroom=(policy.headroom,) if policy.headroom else ())
    if not policy.schedules:
        return own
    until_s, spared_s = now_s + ahead_s(policy, state), now_s + SPARED_S
    spans = {window.name: list(spans_of(window, now_s, spared_s)) for window in policy.schedules}
    edges = {edge_s for rows in spans.values() for span in rows for edge_s in span if now_s < edge_s <= spared_s}
    now = _merged(policy, own, spans, now_s)
    least = coming = now
    headroom, spared = dict.fromkeys(now.headroom), dict.fromkeys(now.headroom)
    for edge_s in sorted(edges):
        then = _merged(policy, own, spans, edge_s)
        coming = then if then.min > coming.min else coming
        spared |= dict.fromkeys(then.headroom)
        if edge_s <= until_s:
            least = then if then.min > least.min else least
            headroom |= dict.fromkeys(then.headroom)
    return Limits(
        min=least.min,
        max=max(now.max, least.min),
        headroom=tuple(headroom),
        min_by=least.min_by,
        max_by=now.max_by if now.max >= least.min else least.min_by,
        coming_min=coming.min,
        coming_by=coming.min_by,
        coming_headroom=tuple(one for one in spared if one not in headroom),
        schedules=tuple(_told(policy, spans, now_s, until_s, now)),
    )


def in_force(policy: Policy, limits: Limits) -> Policy:
    """The policy as this moment has it: everything that asks for `workers.min` and `workers.max` reads these."""
    if (limits.min, limits.max) == (policy.workers.min, policy.workers.max):
        return policy
    workers = msgspec.structs.replace(policy.workers, min=limits.min, max=limits.max)
    return msgspec.structs.replace(policy, workers=workers, schedules=())


def ahead_s(policy: Policy, state: State) -> int:
    """How long before its moment a higher min is asked for, in seconds.

    The longest of the last joins; as long as none was seen, the time that the policy gives one. And one sweep.
    """
    join_s = max(state.join_times_s, default=policy.workers.join_timeout_s)
    return min(join_s + SWEEP_S, LONGEST_AHEAD_S)


def spans_of(window: ClockWindow, since_s: int, until_s: int) -> Iterator[tuple[int, int]]:
    """When it holds, as (begin, end) in epoch seconds, in order: all that touch the time between the two."""
    zone = window.zone
    days = {DAYS.index(day) for day in window.days}
    begins, ends = window.minutes
    # A span lasts two days at most and no zone is farther than a day from UTC.
    day = datetime.fromtimestamp(since_s, UTC).replace(hour=0, minute=0, second=0, tzinfo=None) - timedelta(days=3)
    last = datetime.fromtimestamp(until_s, UTC).replace(tzinfo=None) + timedelta(days=1)
    while day <= last:
        if day.weekday() in days:
            begin_s = _moment(day + timedelta(minutes=begins), zone, last=False)
            end_s = _moment(day + timedelta(minutes=ends), zone, last=True)
            if since_s < end_s and begin_s <= until_s and begin_s < end_s:
                yield begin_s, end_s
        day += timedelta(days=1)


def _moment(wall: datetime, zone: tzinfo, *, last: bool) -> int:
    """When the zone's clock shows this time, or jumps over it; of two such moments the first, or the last."""
    # PEP 495: the fold tells two moments of one time apart; in a gap it extrapolates from before, or from after it.
    early = round(wall.replace(tzinfo=zone, fold=0).timestamp())
    late = round(wall.replace(tzinfo=zone, fold=1).timestamp())
    if early <= late:
        return late if last else early
    before_s, after_s = late, early
    changed = datetime.fromtimestamp(after_s, zone).utcoffset()
    while after_s - before_s > 1:
        middle_s = (before_s + after_s) // 2
        if datetime.fromtimestamp(middle_s, zone).utcoffset() == changed:
            after_s = middle_s
        else:
            before_s = middle_s
    return after_s


def _merged(policy: Policy, own: Limits, spans: dict[str, list[tuple[int, int]]], at_s: int) -> Limits:
    holding = [window for window in policy.schedules if _holds(spans[window.name], at_s)]
    mins = [(window.min, f"min of the schedule {window.name}") for window in holding if window.min is not None]
    maxes = [(window.max, f"max of the schedule {window.name}") for window in holding if window.max is not None]
    most, most_by = max(maxes, default=(own.max, own.max_by))
    least, least_by = max(mins, default=(own.min, own.min_by))
    given = tuple(window.headroom for window in holding if window.headroom is not None)
    return Limits(
        min=min(least, most),  # three windows in different zones may do what validation asks two of them about
        max=most,
        headroom=tuple(headroom for headroom in given if headroom) if given else own.headroom,
        min_by=least_by,
        max_by=most_by,
    )


def _holds(spans: Sequence[tuple[int, int]], at_s: int) -> bool:
    return any(begin_s <= at_s < end_s for begin_s, end_s in spans)


def _told(
    policy: Policy, spans: dict[str, list[tuple[int, int]]], now_s: int, until_s: int, now: Limits
) -> Iterator[Schedule]:
    for window in policy.schedules:
        served_ahead = (window.min or 0) > now.min or bool(window.headroom)
        for begin_s, end_s in spans[window.name][:1]:
            if begin_s <= (until_s if served_ahead else now_s):
                last_s = end_s if begin_s > now_s else last_end(window, end_s, now_s)
                yield Schedule(name=window.name, holds=begin_s <= now_s, from_s=begin_s, until_s=last_s)


def last_end(window: ClockWindow, end_s: int, now_s: int) -> int | None:
    """When it really ends, as it may begin again where it ends; None where that goes on all week."""
    for begin_s, later_s in spans_of(window, now_s, now_s + _LOOKS_ON_S):
        if begin_s <= end_s:
            end_s = max(end_s, later_s)
    return end_s if end_s <= now_s + _LOOKS_ON_S else None
