"""Pods that wait because every pool that would take them is at its own max: they are told, and hold up nothing."""

from collections.abc import Iterable, Sequence

import msgspec

from autoscaler.decide.capacity.pools import at_max, full_pools, rooms
from autoscaler.decide.fleet import FleetView
from autoscaler.decide.scheduling.fresh import FreshWorkers
from autoscaler.decide.scheduling.placing import Waiting
from autoscaler.model import NewWorkers, Why
from autoscaler.model.rules import PodRules
from autoscaler.policy import Policy


class HeldBack(msgspec.Struct, frozen=True, kw_only=True):
    """Pods of one class."""

    count: int
    why: Why


def held_by_pools(
    left: Iterable[Waiting], fresh: FreshWorkers, new_workers: Sequence[NewWorkers], fleet: FleetView, policy: Policy
) -> dict[PodRules, HeldBack]:
    """Of what a sizing has left over, the pods that only full pools would take; nothing where none has a max."""
    room = rooms(fleet, policy)
    full = full_pools(room, new_workers)
    held: dict[PodRules, HeldBack] = {}
    for group in left if full else ():
        takers = fresh.takers(group.rules)
        if takers and takers <= full:
            why = "; ".join(at_max(name, fleet, policy) for name in sorted(takers))
            before = held[group.rules].count if group.rules in held else 0
            held[group.rules] = HeldBack(count=before + group.count, why=Why("pool_at_max", why))
    return held
