"""Zones in which launches do not join, while they do in others: pure `State -> State` functions.

The failures of every launch are counted in memory.py. A zone of its own is left alone sooner, and holds up no other.
"""

from typing import Final

import msgspec

from autoscaler.model import State, ZoneJoins

OUT_FROM: Final = 2
"""One launch that fails happens. From the second in a row on, while others join elsewhere, the cause is the zone's."""
ZONE_WAIT_S: Final = 600
MAX_ZONE_WAIT_S: Final = 3600
KEPT_S: Final = 3600
"""After the wait has ended, or the last join: then a zone is as good as any."""
MAX_ZONES: Final = 12
"""A service has so many subnets at most (docs/deploy.md)."""


def joined_in(state: State, zone: str, *, now_s: int) -> State:
    """A worker launched in the zone is Ready: its earlier failures mean nothing any more."""
    return _with(state, ZoneJoins(zone=zone, joined_at_s=now_s))


def failed_in(state: State, zone: str, *, launched_at_s: int, now_s: int) -> State:
    """A worker launched there did not come. Launches of one wave count once; the wait doubles with each in a row."""
    known = record_of(state, zone)
    if known.failures and launched_at_s < known.failed_at_s:
        return state
    wait_s = min(ZONE_WAIT_S << min(known.failures, 10), MAX_ZONE_WAIT_S)
    fresh = msgspec.structs.replace(
        known,
        failures=known.failures + 1,
        since_s=known.since_s if known.failures else launched_at_s,
        failed_at_s=now_s,
        until_s=now_s + wait_s,
    )
    return _with(state, fresh)


def record_of(state: State, zone: str) -> ZoneJoins:
    """What is known of the zone."""
    return next((record for record in state.zones if record.zone == zone), ZoneJoins(zone=zone))


def is_left_out(state: State, zone: str) -> bool:
    """Whether launches in a row failed there, and one elsewhere has joined since the first of them was sent."""
    record = record_of(state, zone)
    elsewhere = (r.joined_at_s for r in state.zones if r.zone != zone and r.joined_at_s is not None)
    return record.failures >= OUT_FROM and any(joined_s >= record.since_s for joined_s in elsewhere)


def is_doubtful(state: State, zone: str, *, now_s: int) -> bool:
    """Whether the last launch there failed lately: others come first, while there are others."""
    record = record_of(state, zone)
    return record.failures > 0 and now_s < record.until_s


def zones_with_meaning(state: State, now_s: int) -> tuple[ZoneJoins, ...]:
    """What is kept: of waits and joins that are not long over."""
    return tuple(r for r in state.zones if now_s < max(r.until_s, r.joined_at_s or 0) + KEPT_S)


def _with(state: State, record: ZoneJoins) -> State:
    others = tuple(r for r in state.zones if r.zone != record.zone)
    return msgspec.structs.replace(state, zones=(*others, record)[-MAX_ZONES:])
