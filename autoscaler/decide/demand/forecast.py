"""The forecast: what the same time of earlier days asked for, scaled by how today compares with them.

For each five minutes to come the value is the median over the earlier days (the lower of two in the middle), the
seasonal naive method made robust: one day that was like no other moves it neither way. It is multiplied by what is
asked for now over the median of what the same days asked for at this time, within a half and twice: that is the
trend. Sources: R. J. Hyndman, G. Athanasopoulos, "Forecasting: Principles and Practice", 3rd ed., 5.2 (seasonal naive
method) and 5.8 (mean absolute error; why percentages are told over the sum).

It only adds: a signal beside the others, and a floor for who stays. Without history there is no forecast, and nothing
waits for one.
"""

import math
from collections.abc import Callable, Iterable
from datetime import datetime
from typing import Final

import msgspec

from autoscaler.decide.capacity.pools import fillers
from autoscaler.decide.demand.keeping import Keeping
from autoscaler.decide.demand.schedules import SPARED_S, ahead_s
from autoscaler.decide.fleet import FleetView, Standing
from autoscaler.decide.scheduling.offered import offered
from autoscaler.forecast import LEAST_DAYS, REFRESH_S, SLOT_S
from autoscaler.model import Demand, DemandHistory, Foreseen, KeptForecast, KeptSlot, Signal, Snapshot, State
from autoscaler.policy import Policy

NAME: Final = "forecast"
"""Of its signal, and of the growth that it asks for."""
TREND_AT_MOST: Final = 2.0
"""A day that begins with a tenth, or ten times, of what others do says little about its noon."""
COMPARED_AT_MOST: Final = 24 * 3600 // REFRESH_S
_MIB: Final = 2**20
_ROUNDING: Final = 1e-9
_MOST_WORKERS: Final = 1_000_000

Need = Callable[[Demand], int | None]
"""Workers altogether that a demand needs; None where it is unknown."""


class ForecastDemand(msgspec.Struct, frozen=True, kw_only=True):
    """What the forecast comes to in this look."""

    record: KeptForecast | None = None
    """What is kept from now on."""
    foreseen: Foreseen | None = None
    """None with `mode: off`."""
    signals: tuple[Signal, ...] = ()
    keeping: Keeping = Keeping()
    asks: bool = False
    """Whether the history has to be asked for."""


NO_FORECAST: Final = ForecastDemand()


def forecast_demand(
    snapshot: Snapshot, fleet: FleetView, state: State, policy: Policy, *, now_s: int
) -> ForecastDemand:
    """The forecast of this look, made anew where a history came with the snapshot."""
    if policy.forecast.mode == "off":
        return NO_FORECAST
    kept = state.forecast
    need = _need(fleet, state, policy)
    if snapshot.history is not None:
        kept = _made(snapshot.history, kept, need, policy, now_s=now_s)
    due = kept is None or not 0 <= now_s - kept.made_at_s < REFRESH_S
    foreseen = (
        _foreseen(kept, need, fleet, state, policy, now_s=now_s)
        if kept is not None
        else Foreseen(mode=policy.forecast.mode)
    )
    return ForecastDemand(
        record=kept,
        foreseen=foreseen,
        signals=_signals(foreseen),
        keeping=_keeping(foreseen),
        asks=due and snapshot.cluster_known and snapshot.history is None,
    )


def why_it_asks(foreseen: Foreseen, policy: Policy) -> str:
    """Its demand in words."""
    own = policy.forecast
    at = datetime.fromtimestamp(foreseen.at_s or 0, own.zone).strftime("%H:%M")
    wanted = f"{foreseen.earlier_days} earlier days ask for {foreseen.uncapped} workers at {at} ({own.time_zone})"
    asked = max(foreseen.needed_now or 0, policy.workers.min) + own.max_extra
    capped = f", forecast.max_extra is {own.max_extra}" if asked < (foreseen.uncapped or 0) else ""
    return f"{wanted}; {foreseen.needed_now} are needed now{capped}"


# ------------------------------------------------------------------------------------------------------------ making it


def _made(
    history: DemandHistory, before: KeptForecast | None, need: Need, policy: Policy, *, now_s: int
) -> KeptForecast:
    """A new forecast, and how the last one did."""
    if history.problem:
        # No answer says nothing of the next half hour: what the last one said of it holds as far as it reaches.
        kept = before if before is not None else KeptForecast(made_at_s=now_s)
        return msgspec.structs.replace(kept, made_at_s=now_s, problem=history.problem)
    compared = before.compared if before is not None else ()
    slots = [
        KeptSlot(at_s=at_s, demand=demand)
        for at_s in sorted({slot.at_s for slot in history.slots})
        if (demand := _expected(history, at_s, trend=policy.forecast.trend)) != Demand()
    ]
    days = len({slot.days_back for slot in history.slots})
    problem = (
        "" if slots else f"there is a history of {days} of the days that are looked at, and {LEAST_DAYS} are needed"
    )
    return KeptForecast(
        made_at_s=now_s,
        now=history.now,
        slots=tuple(slots),
        earlier_days=days,
        problem=problem,
        compared=(*compared, *_comparison(before, history.now, need, now_s))[-COMPARED_AT_MOST:],
    )


def _expected(history: DemandHistory, at_s: int, *, trend: bool) -> Demand:
    """What is expected of the five minutes that begin then; None in it is unknown."""
    then = {slot.days_back: slot.demand for slot in history.slots if slot.at_s == at_s}
    before = dict(history.before)
    expected: dict[str, int | None] = {}
    for field in Demand.__struct_fields__:
        values = {days: value for days, demand in then.items() if (value := getattr(demand, field)) is not None}
        ratio = 1.0
        if trend:
            bases = {days: base for days in values if (base := getattr(before.get(days), field, None)) is not None}
            now = getattr(history.now, field)
            values = {days: values[days] for days in bases} if now is not None else {}
            base = _median_low(bases.values()) if values else 0
            ratio = min(max(now / base, 1 / TREND_AT_MOST), TREND_AT_MOST) if base else 1.0
        expected[field] = round(_median_low(values.values()) * ratio) if len(values) >= LEAST_DAYS else None
    return Demand(**expected)


def _median_low(values: Iterable[int]) -> int:
    """The middle value, the lower of two: as `statistics` has it, which costs every cold start 3 ms to import."""
    ordered = sorted(values)
    return ordered[(len(ordered) - 1) // 2]


def _comparison(before: KeptForecast | None, now: Demand, need: Need, now_s: int) -> tuple[tuple[int, int], ...]:
    """What the last forecast had foreseen for now, and what is needed."""
    slots = before.slots if before is not None else ()
    expected = next((slot.demand for slot in slots if slot.at_s <= now_s < slot.at_s + SLOT_S), None)
    foreseen, needed = need(expected) if expected is not None else None, need(now)
    return ((foreseen, needed),) if foreseen is not None and needed is not None else ()


def _need(fleet: FleetView, state: State, policy: Policy) -> Need:
    """Workers of the preferred type beside those that are Ready, each weighed by its size.

    Whoever takes pods by now: what was recorded is over all of them, too.
    """
    new = offered(fillers(fleet, policy)[0].instance_types[0], fleet, state, policy)
    nodes = [worker.node for worker in fleet.having(Standing.READY)]
    sizes = [new if node is None or node.allocatable is None else node.allocatable for node in nodes]
    there = {
        "cpu": sum(size.cpu_millicores for size in sizes),
        "memory": sum(size.memory_bytes for size in sizes) / _MIB,
    }
    each = {"cpu": max(1, new.cpu_millicores), "memory": max(1.0, new.memory_bytes / _MIB)}
    fields = (
        ("cpu", "cpu_requested_millicores", 1.0),
        ("memory", "memory_requested_mib", 1.0),
        ("cpu", "cpu_used_millicores", policy.scale_up.cpu_above),
        ("memory", "memory_used_mib", policy.scale_up.memory_above),
    )

    def need(demand: Demand) -> int | None:
        missing: list[float] = [
            (value / target - there[resource]) / each[resource]
            for resource, field, target in fields
            if (value := getattr(demand, field)) is not None
        ]
        if not missing:
            return None
        return max(0, fleet.ready + math.ceil(min(max(missing), _MOST_WORKERS) - _ROUNDING))

    return need


# -------------------------------------------------------------------------------------------------------- what it means


def _foreseen(
    kept: KeptForecast, need: Need, fleet: FleetView, state: State, policy: Policy, *, now_s: int
) -> Foreseen:
    horizon_s = policy.forecast.horizon_s or ahead_s(policy, state)
    needed_now = need(kept.now)
    soon, later = _most(kept, need, now_s, horizon_s), _most(kept, need, now_s, max(horizon_s, SPARED_S))
    most = max(needed_now or 0, policy.workers.min) + policy.forecast.max_extra
    # What max leaves: who foresees more is no reason to refuse anything.
    room = fleet.ready + fleet.joining + max(0, policy.workers.max - fleet.existing)
    error = _error(kept.compared)
    return Foreseen(
        mode=policy.forecast.mode,
        wants=min(soon[0], most, room) if soon is not None and needed_now is not None else None,
        keeps=min(later[0], most) if later is not None and needed_now is not None else None,
        uncapped=soon[0] if soon is not None else None,
        needed_now=needed_now,
        at_s=soon[1] if soon is not None else None,
        made_at_s=kept.made_at_s,
        earlier_days=kept.earlier_days,
        error_workers=error[0],
        error_percent=error[1],
        compared=len(kept.compared),
        problem=kept.problem or ("" if soon is not None else "the last forecast is too old to tell"),
    )


def _most(kept: KeptForecast, need: Need, now_s: int, ahead: int) -> tuple[int, int] | None:
    """The most workers that any five minutes need which begin by then, and when they do; of equal ones the first."""
    found = [
        (needed, slot.at_s)
        for slot in kept.slots
        if now_s < slot.at_s + SLOT_S and slot.at_s <= now_s + ahead and (needed := need(slot.demand)) is not None
    ]
    return max(found, key=lambda one: (one[0], -one[1]), default=None)


def _error(compared: tuple[tuple[int, int], ...]) -> tuple[float | None, float | None]:
    """Mean absolute error in workers, and the errors' sum over what was needed."""
    if not compared:
        return None, None
    off = sum(abs(foreseen - needed) for foreseen, needed in compared)
    needed = sum(needed for _, needed in compared)
    return round(off / len(compared), 2), round(100 * off / needed, 1) if needed else None


def _signals(foreseen: Foreseen) -> tuple[Signal, ...]:
    acts = foreseen.mode == "on"
    wants = foreseen.wants if acts else None
    return (Signal(name=NAME, value=foreseen.uncapped, threshold=foreseen.needed_now, wants=wants),)


def _keeping(foreseen: Foreseen) -> Keeping:
    if foreseen.mode != "on" or foreseen.keeps is None:
        return Keeping()
    return Keeping(workers=foreseen.keeps, by=f"forecast: {foreseen.keeps} within half an hour")
