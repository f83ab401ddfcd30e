"""What all workers were asked for at the same time of earlier days: one query, by offsets from now.

Small whatever the cluster's size: four recorded series (`workers_demand`), five minutes at a time. "The same time" is
what the policy's clock shows, so an offset may be an hour more or less than whole days.
"""

import math
from collections.abc import Callable, Sequence
from datetime import datetime, timedelta, tzinfo
from typing import Final, NamedTuple

import msgspec

from autoscaler.forecast import AHEAD_S, REFRESH_S, SLOT_S
from autoscaler.model import Demand, DemandHistory, PastSlot, Sample, Snapshot
from autoscaler.observe.promql import Raw, labelled
from autoscaler.observe.series import FAMILY
from autoscaler.policy import Policy
from autoscaler.ports import Metrics, MetricsUnavailable

SLOTS: Final = math.ceil((REFRESH_S + AHEAD_S) / SLOT_S) + 1
TIMEOUT_S: Final = 2.0
"""What one query of this kind may take, for earlier days or for somebody's own expression."""
LEAVES_S: Final = 17.0
"""What they leave of the invocation: a launch needs 15 s, and a closer look may come before it."""
NO_TIME: Final = "the time of this invocation is nearly up"
MAX_PROBLEM: Final = 200
_FIELDS: Final = {
    ("requests", "cpu"): ("cpu_requested_millicores", 1000.0),
    ("requests", "memory"): ("memory_requested_mib", 1 / 2**20),
    ("use", "cpu"): ("cpu_used_millicores", 1000.0),
    ("use", "memory"): ("memory_used_mib", 1 / 2**20),
}


class Point(NamedTuple):
    """Five minutes that ended `offset_s` ago, and what they stand for."""

    days_back: int
    """0: today."""
    slot: int
    """Which of the coming five minutes; -1: those that end now."""
    offset_s: int


def first_slot(now_s: int) -> int:
    """When the five minutes begin that hold this moment."""
    return now_s - now_s % SLOT_S


def points(policy: Policy, now_s: int) -> list[Point]:
    """What is asked for at this moment."""
    zone, first_s = policy.forecast.zone, first_slot(now_s)
    found = [Point(0, -1, 0)]
    for days in policy.forecast.days_back:
        found.append(Point(days, -1, now_s - _days_before(now_s, days, zone)))
        # A window holds its end: what is recorded at the first second of the next slot is not of this one.
        ends = (first_s + SLOT_S * (slot + 1) - 1 for slot in range(SLOTS))
        found += [Point(days, slot, now_s - _days_before(end_s, days, zone)) for slot, end_s in enumerate(ends)]
    return found


def _days_before(at_s: int, days: int, zone: tzinfo) -> int:
    """When that clock showed the same time so many days earlier (PEP 495: of two such moments the same fold's)."""
    wall = datetime.fromtimestamp(at_s, zone)
    earlier = wall.replace(tzinfo=None) - timedelta(days=days)
    return round(earlier.replace(tzinfo=zone, fold=wall.fold).timestamp())


def history_query(policy: Policy, asked: Sequence[Point]) -> str:
    """One query for all of the points; each row carries `family`, `days`, `slot`, `of`, `resource`."""
    demand = Raw(policy.metrics.matchers).recorded("workers_demand")
    return "\nor\n".join(
        labelled(
            f"max by (of, resource) (max_over_time({demand}[{SLOT_S}s]{_offset(point)}))",
            **{FAMILY: "demand", "days": str(point.days_back), "slot": str(point.slot)},
        )
        for point in asked
    )


def _offset(point: Point) -> str:
    """Prometheus takes no duration of 0."""
    return f" offset {point.offset_s}s" if point.offset_s else ""


def has_time(remaining_s: Callable[[], float]) -> bool:
    """Whether a query that nothing hangs on may still be asked."""
    return remaining_s() > TIMEOUT_S + LEAVES_S


def see_history(metrics: Metrics, snapshot: Snapshot, policy: Policy, *, remaining_s: Callable[[], float]) -> Snapshot:
    """The snapshot with what earlier days asked for, or with why that could not be had."""
    if not has_time(remaining_s):
        return without_history(snapshot, NO_TIME)
    now_s = snapshot.taken_at_s
    try:
        samples = metrics.query(history_query(policy, points(policy, now_s)), timeout_s=TIMEOUT_S)
    except MetricsUnavailable as error:
        problem = " ".join(str(error).split())[:MAX_PROBLEM]
        return without_history(snapshot, problem)
    return msgspec.structs.replace(snapshot, history=parse_history(samples, first_slot(now_s)))


def without_history(snapshot: Snapshot, why: str) -> Snapshot:
    """The snapshot where it could not be asked for."""
    return msgspec.structs.replace(snapshot, history=DemandHistory(problem=why))


def parse_history(samples: Sequence[Sample], first_s: int) -> DemandHistory:
    """What an answer says; `first_s`: when slot 0 begins today. What is no finite number is left out. Pure."""
    found: dict[tuple[int, int], dict[str, int]] = {}
    for sample in samples:
        labels = sample.metric
        field = _FIELDS.get((labels.get("of", ""), labels.get("resource", "")))
        days, slot, value = _whole(labels.get("days")), _whole(labels.get("slot")), _finite(sample.value[1])
        if field is not None and days is not None and slot is not None and value is not None:
            name, factor = field
            found.setdefault((days, slot), {})[name] = round(value * factor)
    demands = {key: Demand(**values) for key, values in found.items()}
    now = demands.get((0, -1))
    if now is None:
        problem = "k3s_autoscaler:workers_demand is not recorded: load the present rules (make rules, docs/metrics.md)"
        return DemandHistory(problem=problem)
    return DemandHistory(
        now=now,
        before=tuple((days, demand) for (days, slot), demand in sorted(demands.items()) if days and slot < 0),
        slots=tuple(
            PastSlot(days_back=days, at_s=first_s + SLOT_S * slot, demand=demand)
            for (days, slot), demand in sorted(demands.items())
            if days and slot >= 0
        ),
    )


def _whole(text: str | None) -> int | None:
    return int(text) if text is not None and text.removeprefix("-").isdecimal() else None


def _finite(text: str) -> float | None:
    """Not below zero, as nothing asks for less than nothing; and no larger than what all of EC2 has."""
    try:
        number = float(text)
    except ValueError:
        return None
    return number if 0 <= number <= 1e18 else None
