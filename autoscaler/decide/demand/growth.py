"""How many workers to add: the largest demand, within min, max and the step."""

from collections import Counter
from collections.abc import Sequence
from functools import partial

import msgspec

from autoscaler.decide.capacity.cost import within_cap
from autoscaler.decide.capacity.market import in_markets
from autoscaler.decide.capacity.pools import fillers, rooms
from autoscaler.decide.demand.custom import REASON as CUSTOM_SIGNAL
from autoscaler.decide.demand.custom import custom_signals
from autoscaler.decide.demand.forecast import NAME as FORECAST
from autoscaler.decide.demand.headroom import NO_HEADROOM, HeadroomDemand
from autoscaler.decide.demand.pods import PodDemand
from autoscaler.decide.demand.pool_minima import BELOW_POOL_MIN, POOL_MINIMUM, pool_minima
from autoscaler.decide.demand.use import utilisation_signals
from autoscaler.decide.fleet import FleetView, Standing
from autoscaler.decide.removal.repair import beside_recovering, recovering_workers
from autoscaler.decide.scheduling.costing import Costs
from autoscaler.model import Growth, MetricsStatus, NewWorkers, Notice, Signal, Snapshot, State
from autoscaler.policy import Policy
from autoscaler.state.memory import only_probes_are_launched
from autoscaler.state.transitions import MAX_OPEN_OPERATIONS, open_operations

BLIND_ALERT = "blind_alert"
AT_COST_CAP = "at_cost_cap"
POOLS_AT_MAX = "pools_at_max"
AT_MAX = "at_max"
NO_PLACE = frozenset({AT_MAX, AT_COST_CAP})
"""Limits that the workers which exist have reached together."""


class GrowPlan(msgspec.Struct, frozen=True, kw_only=True):
    """What is wanted, and what of it can be had."""

    signals: tuple[Signal, ...]
    wanted: int
    """Workers altogether, before any limit."""
    growth: Growth | None
    reason: str = ""
    """Stable code of what wants more than there is; empty where nothing does."""
    missing: int = 0
    """How many more are wanted than there are and come, before any limit."""
    limit: str = ""
    """Which limit cut the growth short, or empty: `at_max`, `pools_at_max`, `max_step`, `at_cost_cap`, `state_full`,
    `join_backoff`, `never_seen`."""
    because: str = ""
    """What lies behind the limit, where something more is known of it."""
    blind: Notice | None = None
    """The alert that a blind growth answers."""


def plan_growth(
    snapshot: Snapshot,
    fleet: FleetView,
    state: State,
    policy: Policy,
    *,
    pods: PodDemand,
    headroom: HeadroomDemand,
    replacing: int,
    foreseen: Sequence[Signal] = (),
) -> GrowPlan:
    """Combine the demands. `replacing`: workers that EC2 takes away and that the pods do not ask for by themselves.

    `foreseen`: the forecast's own. More than may be had of it is no reason to refuse anything, nor to hold anything up.
    """
    planned = partial(_planned, snapshot, fleet, state, policy, pods=pods, headroom=headroom, replacing=replacing)
    plan = planned(foreseen)
    if plan.reason == FORECAST and plan.growth is None:
        others = planned([msgspec.structs.replace(signal, wants=None) for signal in foreseen])
        return msgspec.structs.replace(others, wanted=plan.wanted)  # who is about to leave costs no more by staying
    return plan


def _planned(
    snapshot: Snapshot,
    fleet: FleetView,
    state: State,
    policy: Policy,
    foreseen: Sequence[Signal],
    *,
    pods: PodDemand,
    headroom: HeadroomDemand,
    replacing: int,
) -> GrowPlan:
    """The largest of all demands, as far as it may be had."""
    coming = fleet.ready + fleet.joining
    # A worker that is NotReady for a moment is not gone: repair says when it is, and opens its removal.
    recovering = len(recovering_workers(fleet, policy, now_s=snapshot.taken_at_s))
    minima = pool_minima(fleet, policy, (*pods.new_workers, *headroom.new_workers), now_s=snapshot.taken_at_s)
    pod_wants = coming + pods.extra if pods.extra else None
    signals = (
        Signal(name="unschedulable_pods", value=pods.waiting, threshold=0, wants=pod_wants),
        *utilisation_signals(snapshot, fleet, state, policy),
        Signal(
            name="minimum",
            value=coming + recovering,
            threshold=policy.workers.min,
            wants=beside_recovering(recovering, policy.workers.min, fleet),
        ),
        *_headroom_signal(headroom, coming + pods.extra, recovering),
        *minima.signals(coming + pods.extra),
        *custom_signals(snapshot, fleet, state, policy, recovering=recovering),
        *(
            msgspec.structs.replace(one, wants=beside_recovering(recovering, one.wants, fleet))
            if one.wants is not None
            else one
            for one in foreseen
        ),
    )
    # Signals that want more than there is, in this order where they want the same.
    reasons = {
        "unschedulable_pods": "pods_unschedulable",
        "cpu_utilisation": "cpu_high",
        "memory_utilisation": "memory_high",
        "minimum": "below_min",
        "headroom": "headroom",
        FORECAST: FORECAST,
        POOL_MINIMUM: BELOW_POOL_MIN,
    }
    best = wants_most(signals)
    wanted = max(best.wants or 0, 0)
    missing = wanted - coming
    reason = (
        "interruption" if replacing and best.name == "unschedulable_pods" else reasons.get(best.name, CUSTOM_SIGNAL)
    )
    if missing <= 0:
        return GrowPlan(signals=signals, wanted=max(wanted, coming), growth=None)
    count, limit = _limited(missing, fleet, state, policy, now_s=snapshot.taken_at_s)
    plan = GrowPlan(signals=signals, wanted=wanted, growth=None, reason=reason, missing=missing, limit=limit)
    if count == 0:
        because = f"EC2 ended the last: {failed.cause}" if (failed := state.join_failures) and failed.cause else ""
        because = because if limit == "join_backoff" else ""
        return msgspec.structs.replace(plan, because=because)
    asked = (*pods.new_workers, *headroom.new_workers, *minima.new_workers)
    chosen = _first(asked, count, fleet, policy, Costs(snapshot, fleet, state, policy))
    if sum(new.count for new in chosen) < count:
        plan = msgspec.structs.replace(plan, limit=POOLS_AT_MAX)
    chosen = in_markets(chosen, fleet, state, policy, now_s=snapshot.taken_at_s)
    workers, because = within_cap(chosen, fleet, policy)
    if because:
        plan = msgspec.structs.replace(plan, limit=AT_COST_CAP, because=because)
    if not workers:
        return plan
    growth = Growth(
        workers=workers,
        reason=reason,
        for_owners=pods.for_owners,
        unhelped=pods.unhelped,
    )
    return msgspec.structs.replace(plan, growth=growth)


def wants_most(signals: Sequence[Signal]) -> Signal:
    """The one that decides: of those that want the same the first."""
    return max(signals, key=lambda signal: signal.wants or 0)


def _headroom_signal(headroom: HeadroomDemand, coming: int, recovering: int) -> tuple[Signal, ...]:
    """None where no headroom is asked for. `coming`: with what waiting pods ask for."""
    if headroom is NO_HEADROOM:
        return ()
    more = max(0, (headroom.missing or 0) - recovering)
    return (Signal(name="headroom", value=headroom.missing, threshold=0, wants=coming + more if more else None),)


def plan_blind_growth(snapshot: Snapshot, fleet: FleetView, state: State, policy: Policy) -> GrowPlan:
    """A scale-up alert fires while Prometheus cannot be asked: one bounded step an alert, with nothing joining.

    Workers that EC2 does not list count against max as they were last seen; of a cluster that was never seen nobody
    knows how many there are.
    """
    nothing = GrowPlan(signals=(), wanted=0, growth=None, reason="blind_growth")
    if snapshot.metrics_status is not MetricsStatus.UNAVAILABLE or policy.blind_growth.step == 0 or fleet.joining:
        return nothing
    alert = next((n for n in state.notices if n.kind == BLIND_ALERT and not n.handled), None)
    if alert is None:
        return nothing
    step = policy.blind_growth.step
    nothing = msgspec.structs.replace(nothing, missing=step)
    if state.unlisted_workers is None:
        return msgspec.structs.replace(nothing, wanted=fleet.existing + step, limit="never_seen")
    unlisted = state.unlisted_workers
    count, limit = _limited(step, fleet, state, policy, now_s=snapshot.taken_at_s, unlisted=unlisted)
    if count == 0:
        return msgspec.structs.replace(nothing, wanted=fleet.existing + unlisted + step, limit=limit)
    chosen = _first((), count, fleet, policy, Costs(snapshot, fleet, state, policy))
    chosen = in_markets(chosen, fleet, state, policy, now_s=snapshot.taken_at_s)
    limit = limit if chosen else POOLS_AT_MAX
    workers, because = within_cap(chosen, fleet, policy, unlisted=unlisted)
    if not workers:
        limit = AT_COST_CAP if because else limit
        return msgspec.structs.replace(nothing, wanted=fleet.existing + unlisted + step, limit=limit, because=because)
    growth = Growth(workers=workers, reason="blind_growth")
    limit = AT_COST_CAP if because else limit
    nothing = msgspec.structs.replace(nothing, because=because)
    wanted = fleet.existing + unlisted + growth.count
    return msgspec.structs.replace(nothing, wanted=wanted, growth=growth, limit=limit, blind=alert)


def _limited(
    missing: int, fleet: FleetView, state: State, policy: Policy, *, now_s: int, unlisted: int = 0
) -> tuple[int, str]:
    """How many of the missing may be launched. `unlisted`: workers that exist and are not in this view of the fleet."""
    count, limit = missing, ""
    if open_operations(state) >= MAX_OPEN_OPERATIONS:
        return 0, "state_full"
    room = max(0, policy.workers.max - fleet.existing - unlisted)
    if room < count:
        count, limit = room, AT_MAX
    step = policy.scale_up.max_step
    if step is not None and step < count:
        count, limit = step, limit or "max_step"
    trusted = _trusted(fleet, state, now_s=now_s)
    if trusted is not None and trusted < count:
        return trusted, "join_backoff"
    return count, limit


def _trusted(fleet: FleetView, state: State, *, now_s: int) -> int | None:
    """How many may be launched at once after launches in a row failed; None without a limit.

    One at a time, ever more rarely, until one is Ready; then as many more as have stayed Ready since the last failure.
    """
    failed = state.join_failures
    if failed is None or not only_probes_are_launched(state):
        return None
    if now_s < failed.until_s or fleet.joining:
        return 0
    stayed = [w for w in fleet.having(Standing.READY) if w.launched_by_us_after(failed.failed_at_s)]
    return max(1, len(stayed))


def _first(
    wanted: Sequence[NewWorkers], count: int, fleet: FleetView, policy: Policy, costs: Costs
) -> tuple[NewWorkers, ...]:
    """The first `count` of what is asked for by pool; what other signals want beyond is of the pools that serve all.

    Of these the ones last that EC2 has nothing left of. Fewer where they are at their own max.
    """
    room = rooms(fleet, policy)
    chosen: Counter[NewWorkers] = Counter()
    serve = sorted(fillers(fleet, policy), key=lambda pool: costs.is_exhausted(pool, pool.instance_types[0], "", ""))
    fill = (NewWorkers(pool.instance_types[0], count, pool=pool.name) for pool in serve)
    for new in (*wanted, *fill):
        taken = min(new.count, count, room.get(new.pool, count))
        if taken:
            chosen[new.kind] += taken
            count -= taken
            if new.pool in room:
                room[new.pool] -= taken
    return tuple(kind.times(number) for kind, number in chosen.items())
