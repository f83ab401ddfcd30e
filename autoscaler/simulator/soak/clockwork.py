"""Schedules in a soak: some seeds' policy changes by the clock, and what limits an invariant may hold it to."""

import random
from typing import Final, NamedTuple

import msgspec

from autoscaler.policy import Policy
from autoscaler.windows import Headroom, Window

AHEAD_S: Final = 960.0
"""A coming min, or headroom, may count so long before its window: the core's own limit, and the clocks' difference."""
SENT_AGAIN_S: Final = 700.0
"""A launch that was intended under another max is sent again, to the letter, for so long."""
_FIRST_MINUTE: Final = 8 * 60 + 10
_LAST_MINUTE: Final = 10 * 60 + 50
"""Between these the windows begin, in UTC: a seed's faults last from 08:05 to 11:05."""


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


def _window(rng: random.Random, policy: Policy, number: int) -> Window:
    begins = rng.randrange(_FIRST_MINUTE, _LAST_MINUTE)
    ends = begins + rng.choice((3, 20, 60))
    least = rng.choice((policy.workers.min, policy.workers.min + 1, policy.workers.min + 3, 0))
    return Window(
        name=f"w{number}",
        time_zone="UTC",
        from_time=f"{begins // 60:02}:{begins % 60:02}",
        to_time=f"{ends // 60:02}:{ends % 60:02}",
        min=least,
        max=max(least, policy.workers.max + rng.choice((-2, 0, 2))),
        headroom=rng.choice((None, Headroom(workers=2), Headroom(percent=50))),
    )


def limits_between(policy: Policy, since_s: float, until_s: float) -> Limits:
    """What may have held between two moments. By the minutes of UTC's day: not by the code that is tested."""
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
    day_minute = minute % (24 * 60)
    holding = [w for w in policy.schedules if w.minutes[0] <= day_minute < w.minutes[1]]
    return (
        max((w.min for w in holding if w.min is not None), default=policy.workers.min),
        max((w.max for w in holding if w.max is not None), default=policy.workers.max),
        any(w.headroom for w in holding) or bool(policy.headroom),
    )
