"""Schedules in a soak: some seeds' policy changes by the clock, and what limits an invariant may hold it to."""

import random
from collections.abc import Iterable
from datetime import date, datetime
from functools import lru_cache
from typing import Final, NamedTuple
from zoneinfo import ZoneInfo

import msgspec

from autoscaler.policy import Policy
from autoscaler.simulator.cluster import START_S
from autoscaler.simulator.soak.assumptions import CLOCKS_DIFFER_S
from autoscaler.windows import Headroom, Window

AHEAD_S: Final = 960.0
"""A coming min, or headroom, may count so long before its window: the core's own limit, and the clocks' difference."""
SENT_AGAIN_S: Final = 700.0
"""A launch that was intended under another max is sent again, to the letter, for so long."""
_FIRST_MINUTE: Final = 8 * 60 + 10
_LAST_MINUTE: Final = 10 * 60 + 50
"""Between these the windows begin, in UTC: a seed's faults last from 08:05 to 11:05."""
CHANGE_SEEDS: Final = 0.4
"""In so many of those with windows the clocks are changed meanwhile."""
_CHANGING: Final = "America/Los_Angeles"
_WINTER_MINUTES: Final = 8 * 60
"""How far behind UTC it is in winter."""
CHANGES: Final = (1_805_011_200.0, 1_825_574_400.0)
"""2027-03-14 and 2027-11-07, 08:00 UTC: its clocks jump at 10:00 UTC, and go back at 09:00 UTC."""


class Limits(NamedTuple):
    """What min and max were, at any moment of a stretch of time."""

    least_min: int
    most_min: int
    most_max: int
    headroom: bool


def with_schedules(policy: Policy, seed: int) -> Policy:
    """The policy, in one seed of four with a window or two that begin and end while faults last."""
    rng = random.Random(f"{seed}: what the clock changes")
    if rng.random() >= 0.25:
        return policy
    windows = tuple(_window(rng, policy, number) for number in range(rng.choice((1, 1, 2))))
    return msgspec.structs.replace(policy, schedules=windows)


def with_change_of_clocks(policy: Policy, seed: int) -> tuple[Policy, float]:
    """The policy, and when the run begins: in some seeds with windows on a day on which their clocks are changed."""
    dice = random.Random(f"{seed}: on what day")
    if not policy.schedules or dice.random() >= CHANGE_SEEDS:
        return policy, START_S
    windows = tuple(_in_winter(window) for window in policy.schedules)
    return msgspec.structs.replace(policy, schedules=windows), dice.choice(CHANGES)


def _in_winter(window: Window) -> Window:
    """At the same time, where clocks are changed in the night."""
    begins, ends = (minute - _WINTER_MINUTES for minute in window.minutes)
    return msgspec.structs.replace(window, time_zone=_CHANGING, from_time=_clock(begins), to_time=_clock(ends))


def _clock(minute: int) -> str:
    return f"{minute // 60:02}:{minute % 60:02}"


def _window(rng: random.Random, policy: Policy, number: int) -> Window:
    begins = rng.randrange(_FIRST_MINUTE, _LAST_MINUTE)
    ends = begins + rng.choice((3, 20, 60))
    least = rng.choice((policy.workers.min, policy.workers.min + 1, policy.workers.min + 3, 0))
    return Window(
        name=f"w{number}",
        time_zone="UTC",
        from_time=_clock(begins),
        to_time=_clock(ends),
        min=least,
        max=max(least, policy.workers.max + rng.choice((-2, 0, 2))),
        headroom=rng.choice((None, Headroom(workers=2), Headroom(percent=50))),
    )


def limits_between(policies: Iterable[Policy], since_s: float, until_s: float) -> Limits:
    """What may have held between two moments, under any of these policies, for whoever's clock differs."""
    each = [limits_of(policy, since_s - CLOCKS_DIFFER_S, until_s + CLOCKS_DIFFER_S) for policy in policies]
    return Limits(
        min(one.least_min for one in each),
        max(one.most_min for one in each),
        max(one.most_max for one in each),
        any(one.headroom for one in each),
    )


def limits_of(policy: Policy, since_s: float, until_s: float) -> Limits:
    """What holds between two moments, by the minutes that a clock on the wall shows: not by the code that is tested."""
    own = Limits(policy.workers.min, policy.workers.min, policy.workers.max, headroom=bool(policy.headroom))
    if not policy.schedules:
        return own
    seen = [_at(policy, minute) for minute in range(int(since_s // 60), int(until_s // 60) + 1)]
    return Limits(
        min(least for least, _, _ in seen),
        max(least for least, _, _ in seen),
        max(most for _, most, _ in seen),
        any(headroom for _, _, headroom in seen),
    )


def _at(policy: Policy, minute: int) -> tuple[int, int, bool]:
    holding = [window for window in policy.schedules if _holds(window.time_zone, window.minutes, minute)]
    return (
        max((w.min for w in holding if w.min is not None), default=policy.workers.min),
        max((w.max for w in holding if w.max is not None), default=policy.workers.max),
        any(w.headroom for w in holding) or bool(policy.headroom),
    )


def _holds(time_zone: str, minutes: tuple[int, int], at_minute: int) -> bool:
    """Whether a window holds that begins and ends on one day. Minutes since the epoch, and of the day.

    From the first time that the clock shows its begin to the last that it shows its end, or from and to the jump.
    """
    shown = _shown(time_zone, datetime.fromtimestamp(at_minute * 60, ZoneInfo(time_zone)).date())
    begins = next((minute for minute, clock in shown if clock >= minutes[0]), at_minute + 1)
    at_end = [minute for minute, clock in shown if clock == minutes[1]] or [
        m for m, clock in shown if clock > minutes[1]
    ][:1]
    ends = at_end[-1] if at_end else at_minute + 1
    return begins <= at_minute < ends


@lru_cache(maxsize=16)
def _shown(time_zone: str, day: date) -> tuple[tuple[int, int], ...]:
    """Every minute of that day there, since the epoch, and what the clock on the wall shows then."""
    zone = ZoneInfo(time_zone)
    noon = int(datetime(day.year, day.month, day.day, 12, tzinfo=zone).timestamp()) // 60
    clocks = ((minute, datetime.fromtimestamp(minute * 60, zone)) for minute in range(noon - 900, noon + 900))
    return tuple((minute, clock.hour * 60 + clock.minute) for minute, clock in clocks if clock.date() == day)
