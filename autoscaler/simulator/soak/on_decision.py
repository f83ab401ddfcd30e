"""Invariants of what is begun: growth has a cause, a shrink has complete metrics, a removal has a reason."""

from autoscaler.model import (
    MANAGED_BY_TAG,
    ON_DEMAND,
    OPERATION_TAG,
    SPOT,
    LaunchOperation,
    RemovalOperation,
    RemovalPhase,
)
from autoscaler.pools import WorkerPool
from autoscaler.simulator.soak.assumptions import CLOCKS_DIFFER_S, NOTICED_WITHIN_S
from autoscaler.simulator.soak.clockwork import AHEAD_S, Limits, limits_between
from autoscaler.simulator.soak.leaving import budget_of, is_due
from autoscaler.simulator.soak.on_numbers import CALM, a_forecast_asks, a_signal_asks
from autoscaler.simulator.soak.on_state import new_launches, new_removals
from autoscaler.simulator.soak.pools import workers_of
from autoscaler.simulator.soak.truth import Moment
from autoscaler.simulator.soak.watch import Saved, Watch

VOLUNTARY = CALM | {"above_max"}
"""Reasons of a shrink."""
ROTATION, CHEAPER = "rotation", "cheaper"
REPLACED = frozenset({ROTATION, CHEAPER})
"""Reasons of a removal that comes after a launch. Every other one answers something that happened to the worker."""
REPLACED_WITHIN_S = 4200.0
"""A replacement that could not end is given up an hour after it began."""
RECORDED_AFTER_S = 75.0
"""Pods that were there for shorter may fall between two recordings, or into a gap that a window may have."""
USE_TOLERANCE = 0.05
HIGH_FOR_S = 90.0
"""Use that was high for shorter may fall between two scrapes."""


def by_choice(saved: Saved, *, of: frozenset[str] = VOLUNTARY | REPLACED) -> list[RemovalOperation]:
    """Those of these reasons that begin now: one whose drain is too long ago is drained anew, as a new operation.

    Who was being given back is chosen like anybody else.
    """
    going_on = {r.instance_id for r in saved.old.removals if r.phase is not RemovalPhase.UNCORDONING}
    return [r for r in new_removals(saved) if r.reason in of and r.instance_id not in going_on]


def _voluntary(saved: Saved) -> list[RemovalOperation]:
    return [removal for removal in by_choice(saved) if removal.reason in VOLUNTARY]


def no_shrink_without_complete_metrics(watch: Watch, saved: Saved) -> str | None:
    """Partial, stale or absent metrics start no shrink, and no rotation."""
    shrunk = by_choice(saved)
    # Who is replaced goes by what is there now, not by windows of use: one that is young has none. What comes for it
    # was chosen while the window of requests was known. Who is above max goes whatever the window was.
    rotated = all(removal.reason in {*REPLACED, "above_max"} for removal in shrunk)
    absent = saved.seen.answers[:1] == [False] and not saved.seen.present_in_sight
    incomplete = absent if rotated else saved.seen.metrics_complete is False
    if shrunk and incomplete:
        return f"{shrunk[0].instance_id} is removed on incomplete metrics"
    busy = watch.truth.moments[-1].busy if watch.truth.moments else frozenset()
    hidden = saved.seen.pods_hidden and not rotated
    unseen = [removal for removal in shrunk if removal.instance_id in busy] if hidden else []
    return f"{unseen[0].instance_id} is removed, and its pods were not shown" if unseen else None


def no_shrink_on_an_unknown_window(watch: Watch, saved: Saved) -> str | None:
    """'Low for ten minutes' is not known by a Prometheus that is younger than that, or that looked too seldom."""
    since_s, window_s = watch.metrics_since_s, watch.policy.scale_down.window_s
    low = [removal for removal in _voluntary(saved) if removal.reason in CALM]
    if low and saved.seen.thin_windows:
        return f"{low[0].instance_id} is removed, and the rules were evaluated too seldom"
    if low and since_s is not None and watch.cluster.now_s - since_s < 0.9 * window_s - 60:
        return f"{low[0].instance_id} is removed with {watch.cluster.now_s - since_s:.0f} s of {window_s} s known"
    return None


def no_shrink_of_a_busy_fleet(watch: Watch, saved: Saved) -> str | None:
    """The real use was low through the window, or was such that the workers that stay could have carried it."""
    chosen = [removal for removal in _voluntary(saved) if removal.reason in CALM]
    if not chosen:
        return None
    down, up = watch.policy.scale_down, watch.policy.scale_up
    limits = {"cpu": down.cpu_below, "memory": down.memory_below}
    if chosen[0].reason == "consolidation":
        now = watch.truth.moments[-1]
        leaving = {removal.instance_id for removal in chosen}
        if not any(i in now.busy for i in now.ready):
            return None  # what machines use by themselves leaves with them
        # Every worker here is of one size; use is that of those that take any pod, as they were seen.
        taking = [moment.taking for moment in watch.truth.lately(NOTICED_WITHIN_S) if moment.taking]
        share = max((len(there - leaving) / len(there) for there in taking), default=0.0)
        limits = {
            "cpu": (up.cpu_above - down.target_margin) * share,
            "memory": (up.memory_above - down.target_margin) * share,
        }
    end_s = watch.cluster.now_s - NOTICED_WITHIN_S
    for name, limit in limits.items():
        high_s = 0.0
        until_s = watch.cluster.now_s
        for moment in watch.truth.lately(down.window_s - NOTICED_WITHIN_S):
            value = moment.cpu if name == "cpu" else moment.memory
            high = value is not None and value > limit + USE_TOLERANCE
            high_s = high_s + min(until_s, end_s) - moment.since_s if high and moment.since_s < end_s else 0.0
            until_s = moment.since_s
            if high_s > HIGH_FOR_S:
                return f"{chosen[0].instance_id} is removed, and {name} use was {value:.0%} for {high_s:.0f} s"
    return None


def only_idle_workers_leave_together(watch: Watch, saved: Saved) -> str | None:
    """Of workers that leave at once for want of load none ran pods that a drain moves at any time of the window.

    But for those within the budget.
    """
    chosen = [removal for removal in _voluntary(saved) if removal.reason in CALM]
    if len(chosen) <= budget_of(watch.policy, max(len(m.ready) for m in watch.truth.lately(NOTICED_WITHIN_S))):
        return None
    for removal in chosen if len(chosen) > 1 else ():
        held_s, until_s = 0.0, watch.cluster.now_s
        for moment in watch.truth.lately(0.9 * watch.policy.scale_down.window_s - NOTICED_WITHIN_S):
            held_s += until_s - moment.since_s if removal.instance_id in moment.busy else 0.0
            until_s = moment.since_s
        if held_s > RECORDED_AFTER_S:
            return f"{removal.instance_id} leaves with others, and ran pods for {held_s:.0f} s of the window"
    return None


def shrink_keeps_the_minimum(watch: Watch, saved: Saved) -> str | None:
    """What stays, without every worker that is being removed, is at least min."""
    chosen = _voluntary(saved)
    if not chosen:
        return None
    leaving = {r.instance_id for r in saved.new.removals if r.phase is not RemovalPhase.UNCORDONING}
    most = max(len(moment.ready - leaving) for moment in watch.truth.lately(NOTICED_WITHIN_S))
    now_s = watch.cluster.now_s
    since_s = now_s - NOTICED_WITHIN_S
    least = limits_between(watch.policies_since(since_s), since_s, now_s).least_min
    if most < least:
        return f"{len(chosen)} more leave and {most} Ready workers stay, fewer than {least}"
    return None


def shrink_waits_for_calm(watch: Watch, saved: Saved) -> str | None:
    """No shrink while workers join, nor within the cool-down after a launch, or a removal that was undone."""
    chosen = _voluntary(saved)
    if not chosen:
        return None
    if saved.new.launches:
        return f"{chosen[0].instance_id} is removed while launch {saved.new.launches[0].operation_id} is open"
    policies = watch.policies_since(watch.cluster.now_s - NOTICED_WITHIN_S)
    last_s, cool_down_s = watch.last_scaling_s, min(policy.scale_down.cool_down_s for policy in policies)
    if last_s is not None and watch.cluster.now_s - last_s < cool_down_s - CLOCKS_DIFFER_S:
        since_s = watch.cluster.now_s - last_s
        return f"{chosen[0].instance_id} is removed {since_s:.0f} s after the last launch or removal that was undone"
    return None


def growth_has_a_cause(watch: Watch, saved: Saved) -> str | None:
    """Nothing is launched without a cause: pods, use, too few workers, headroom, a number, a notice, an alert."""
    for launch in new_launches(saved):
        if not _caused(watch, saved, launch.reason):
            return f"launch {launch.operation_id} says {launch.reason}, and nothing of the kind was so"
    return None


def _caused(watch: Watch, saved: Saved, reason: str) -> bool:
    up, lately = watch.policy.scale_up, list(watch.truth.lately(NOTICED_WITHIN_S))
    window = list(watch.truth.lately(NOTICED_WITHIN_S + up.window_s + watch.policy.metrics.cpu_rate_window_s + 30))
    leaving = {removal.instance_id for removal in (*saved.old.removals, *saved.new.removals)}
    healthy = [moment.ready & (moment.ours | moment.others) - leaving for moment in lately]
    match reason:
        case "pods_unschedulable":
            return any(moment.waiting for moment in lately)
        case "cpu_high":
            return any(moment.cpu is not None and moment.cpu > up.cpu_above - USE_TOLERANCE for moment in window)
        case "memory_high":
            return any(
                moment.memory is not None and moment.memory > up.memory_above - USE_TOLERANCE for moment in window
            )
        case "below_min":
            return any(len(workers) < _soon(watch).most_min for workers in healthy)
        case "below_pool_min":
            pools = watch.policy.pools
            return any(len(workers_of(watch.truth, pool, there)) < pool.min for pool in pools for there in healthy)
        case "headroom":
            return _soon(watch).headroom
        case "custom_signal":
            return a_signal_asks(watch, min(len(workers) for workers in healthy))
        case "forecast":
            return a_forecast_asks(watch, min(len(workers) for workers in healthy))
        case "interruption":
            return bool(watch.truth.noticed)
        case "retirement":
            return bool(watch.truth.announced)
        case "blind_growth":
            return saved.seen.alerted and saved.seen.metrics_complete is False
        case _:
            return _chosen(watch, saved, reason)


def _chosen(watch: Watch, saved: Saved, reason: str) -> bool:
    """Whether a worker is there that one may be launched in the place of."""
    replacement = saved.new.replacement
    if reason == ROTATION:
        return replacement is not None and is_due(watch, replacement.instance_id)
    if reason == CHEAPER:
        return replacement is not None and _may_save(watch)
    if reason == "return_to_spot":
        known = watch.cluster.ec2.instances
        lately = watch.truth.lately(NOTICED_WITHIN_S)
        there = {known[i].market for moment in lately for i in moment.ready if i in known}
        return _buys_spot(watch) and ON_DEMAND in there
    return False


def _may_save(watch: Watch) -> bool:
    """Whether dearer workers went for cheaper ones at any time that a replacement takes."""
    policies = watch.policies_since(watch.cluster.now_s - REPLACED_WITHIN_S)
    return any(policy.scale_down.replace_when_saves is not None for policy in policies)


def _buys_spot(watch: Watch) -> bool:
    return any(pool.market == SPOT for pool in watch.policy.pools)


def _soon(watch: Watch) -> Limits:
    now_s = watch.cluster.now_s
    since_s = now_s - NOTICED_WITHIN_S
    return limits_between(watch.policies_since(since_s), since_s, now_s + AHEAD_S)


def growth_is_no_more_than_waits(watch: Watch, saved: Saved) -> str | None:
    """Each worker of a pool that is launched or joining for waiting pods has a pod of its own that waited.

    Every worker here is of one size, so one that joins takes at least one pod before another of its pool is asked for.
    """
    launches = [launch for launch in new_launches(saved) if launch.reason == "pods_unschedulable"]
    if not launches or watch.truth.noticed:
        return None
    verdicts = (_more_than_waits(watch, saved, launches, pool) for pool in watch.policy.pools)
    return next((verdict for verdict in verdicts if verdict is not None), None)


def _more_than_waits(watch: Watch, saved: Saved, launches: list[LaunchOperation], pool: WorkerPool) -> str | None:
    asked = sum(launch.request.count for launch in launches if launch.request.pool == pool.name)
    earlier = [o for o in saved.new.launches if o not in launches and o.request.pool == pool.name]
    newcomers = workers_of(watch.truth, pool, _listed_newcomers(watch))
    known = {i for launch in earlier for i in launch.instance_ids}
    leaving = {removal.instance_id for removal in saved.new.removals}
    ids = {i for i in known | newcomers if not _not_coming(watch, i)} - leaving
    coming = len(ids) + sum(launch.unidentified for launch in earlier)
    waiting = max(moment.waiting for moment in watch.truth.lately(NOTICED_WITHIN_S))
    if asked and asked + coming > waiting:
        return f"{asked} workers are launched while {coming} join, for at most {waiting} pods that waited"
    return None


def _listed_newcomers(watch: Watch) -> set[str]:
    """Workers of ours that were launched, never Ready, and listed for certain when the look was taken."""
    since_s = watch.cluster.now_s - watch.listed_within_s - 30
    instances = watch.cluster.ec2.instances
    alive = watch.truth.moments[-1].ours - watch.truth.ever_ready
    # Whose tag somebody took off a moment ago is nobody's any more, and who was started again is no newcomer.
    ours = {i for i in alive if MANAGED_BY_TAG in instances[i].tags and not instances[i].started_again}
    return {i for i in ours if instances[i].launched_at_s < since_s}


def _not_coming(watch: Watch, instance_id: str) -> bool:
    """Whether the worker is Ready or gone, or was just now."""
    return any(instance_id in m.ready or instance_id not in m.ours for m in watch.truth.lately(NOTICED_WITHIN_S))


def removal_has_a_reason(watch: Watch, saved: Saved) -> str | None:
    """A worker that is not spared for want of load is removed for something that really is so."""
    lately = list(watch.truth.lately(NOTICED_WITHIN_S))
    for removal in new_removals(saved):
        if removal.reason not in VOLUNTARY and not _justified(watch, removal, lately):
            return f"removal of {removal.instance_id} says {removal.reason}, and it is not so"
    return None


def _justified(watch: Watch, removal: RemovalOperation, lately: list[Moment]) -> bool:
    instance_id = removal.instance_id
    instance = watch.cluster.ec2.instances.get(instance_id)
    age_s = watch.cluster.now_s - instance.launched_at_s if instance is not None else 0.0
    old_enough = age_s > watch.policy.workers.join_timeout_s - CLOCKS_DIFFER_S
    unready = any(instance_id not in moment.ready for moment in lately)
    match removal.reason:
        case "interruption":
            return instance_id in watch.truth.noticed
        case "retirement":
            return instance_id in watch.truth.announced
        case "return_to_spot":
            return instance is not None and _buys_spot(watch) and instance.market == ON_DEMAND
        case "rotation":
            return is_due(watch, instance_id)
        case "cheaper":
            return _may_save(watch)
        case "join_timeout":
            return old_enough and unready
        case "no_node":
            return old_enough and any(instance_id not in moment.nodes for moment in lately)
        case "not_ready":
            return unready and _was_unready(watch, instance_id, lately)
        case "instance_gone":
            return not all(instance_id in moment.ours | moment.others for moment in lately)
        case _:
            return False


def _was_unready(watch: Watch, instance_id: str, lately: list[Moment]) -> bool:
    """NotReady all through the window, but for its edges, which the metrics round."""
    window = list(watch.truth.lately(0.85 * watch.policy.repair.not_ready_s))
    return not any(instance_id in moment.ready for moment in window[len(lately) :])


def nothing_is_decided_for_another_cluster(_watch: Watch, saved: Saved) -> str | None:
    """Metrics of another cluster, alone or beside ours, launch nothing for its pods and remove nothing of ours."""
    if not saved.seen.another_cluster:
        return None
    for launch in new_launches(saved):
        if launch.reason in {"pods_unschedulable", "cpu_high", "memory_high", *REPLACED}:
            return f"launch {launch.operation_id} says {launch.reason}, of another cluster's metrics"
    for removal in new_removals(saved):
        if removal.reason not in {"interruption", "retirement", "instance_gone"}:
            return f"removal of {removal.instance_id} says {removal.reason}, of another cluster's metrics"
    return None


def no_failure_is_counted_for_what_we_removed(watch: Watch, saved: Saved) -> str | None:
    """A launch failed when its own worker did not come or did not last, and never because we or EC2 ended it."""
    old, new = saved.old.join_failures, saved.new.join_failures
    if new is None or (old is not None and new.failures <= old.failures):
        return None
    opened = new_removals(saved)
    lost = {r.instance_id for r in opened if r.reason in {"instance_gone", "not_ready", "join_timeout"}}
    launches = {launch.operation_id for launch in saved.old.launches}
    lost |= {
        instance.instance_id
        for instance in watch.cluster.ec2.instances.values()
        if (instance.ended_at_s is not None or instance.instance_id in watch.truth.untagged_s)
        and instance.tags.get(OPERATION_TAG) in launches
    }
    late_s = watch.cluster.now_s - watch.policy.workers.join_timeout_s + CLOCKS_DIFFER_S
    waited_for = {i for launch in saved.old.launches for i in launch.instance_ids} - watch.truth.ever_ready
    known = watch.cluster.ec2.instances
    never_came = {i for i in waited_for if i in known and known[i].launched_at_s < late_s}
    never_came |= {r.instance_id for r in opened if r.reason == "join_timeout"}
    lost |= never_came
    noticed = {n.subject for n in saved.old.notices if n.kind in {"interruption", "retirement"}}
    if lost - watch.removed - (noticed - never_came):
        return None
    return f"{new.failures} launches failed, it says, and what was lost ({sorted(lost)}) we or EC2 removed"


def nothing_is_removed_twice(watch: Watch, saved: Saved) -> str | None:
    """What we removed is gone, however long the metrics show it."""
    for removal in new_removals(saved):
        instance_id = removal.instance_id
        gone = not watch.truth.alive(instance_id) and watch.truth.node_of(instance_id) is None
        if gone and instance_id in watch.removed:
            return f"{instance_id} was removed, and is to be removed again ({removal.reason})"
    return None
