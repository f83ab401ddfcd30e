"""Whose pods removals moved, so that one which was in vain is not repeated soon: pure `State -> State` functions."""

from collections.abc import Iterable
from typing import Final

import msgspec

from autoscaler.model import MovedOwner, State, Why

JUDGED_FOR_S: Final = 3600
"""A launch for moved pods within this time says that the removal was in vain."""
MAX_KEPT_S: Final = 24 * 3600
MAX_MOVED: Final = 60


def owners_moved(state: State, owners: Iterable[str], now_s: int) -> State:
    """A removal that begins will move pods of these owners. What was harmless the last time is forgiven."""
    known = {record.owner: record for record in state.moved}
    for owner in dict.fromkeys(owners):
        before = known.pop(owner, None)
        harmless = before is None or (before.moved_at_s and now_s - before.moved_at_s >= JUDGED_FOR_S)
        in_vain = 0 if before is None or harmless else before.in_vain
        known[owner] = MovedOwner(owner=owner, moved_at_s=now_s, in_vain=in_vain)
    return msgspec.structs.replace(state, moved=tuple(known.values())[-MAX_MOVED:])


def moved_in_vain(state: State, owners: Iterable[str], now_s: int) -> State:
    """A worker is launched, or a removal undone, for pods of these owners: those that were just moved stay for a while.

    An hour the first time, twice as long each time in a row. Each move is counted once.
    """
    asked = set(owners)
    records = tuple(
        _in_vain(record, now_s)
        if record.owner in asked and record.moved_at_s and now_s - record.moved_at_s < JUDGED_FOR_S
        else record
        for record in state.moved
    )
    return msgspec.structs.replace(state, moved=records) if records != state.moved else state


def _in_vain(record: MovedOwner, now_s: int) -> MovedOwner:
    times = record.in_vain + 1
    until_s = now_s + min(JUDGED_FOR_S * 2 ** (times - 1), MAX_KEPT_S)
    return msgspec.structs.replace(record, moved_at_s=0, in_vain=times, until_s=until_s)


def moved_too_often(state: State, owner: str, now_s: int) -> Why | None:
    """Why pods of this owner are not moved now; None where they may be."""
    record = next((r for r in state.moved if r.owner == owner and now_s < r.until_s), None)
    if record is None:
        return None
    told = f"{owner} needed a worker again each time it was moved; not before {record.until_s - now_s} s"
    return Why("moved_in_vain", told, record.until_s)


def still_meaning(state: State, now_s: int) -> tuple[MovedOwner, ...]:
    """Without what has lost its meaning: a move of an hour ago, and one in vain a day after its wait ended."""
    return tuple(
        record
        for record in state.moved
        if now_s - record.moved_at_s < JUDGED_FOR_S or (record.in_vain and now_s - record.until_s < MAX_KEPT_S)
    )
