"""Invariants of pools: each launch is of one, within its max; who leaves leaves it its min; no money is lost on it."""

from autoscaler.instance_types import arch_of
from autoscaler.model import OPERATION_TAG, POOL_TAG, SPOT, LaunchRequest
from autoscaler.simulator.soak.assumptions import NOTICED_WITHIN_S
from autoscaler.simulator.soak.clockwork import SENT_AGAIN_S
from autoscaler.simulator.soak.on_decision import by_choice
from autoscaler.simulator.soak.on_effect import unknown_to_all
from autoscaler.simulator.soak.pools import template_id_of, workers_of
from autoscaler.simulator.soak.watch import Effect, Saved, Watch


def a_launch_is_of_one_pool(watch: Watch, effect: Effect) -> str | None:
    """It has the pool's types, market, tag and template, and one architecture: a template has one image."""
    request = effect.subject
    if not isinstance(request, LaunchRequest):
        return None
    pool = next((pool for pool in watch.policy.pools if pool.name == request.pool), None)
    if pool is None:
        return f"a launch is of the pool {request.pool}, which the policy does not name"
    tag = dict(request.tags).get(POOL_TAG)
    if tag != pool.name:
        return f"a launch of the pool {pool.name} is tagged {tag}"
    types = [row.instance_type for row in request.overrides]
    if not types or not set(types) <= set(pool.instance_types):
        return f"a launch of the pool {pool.name} asks for {sorted(set(types))}"
    wanted = {template_id_of(watch.policy, pool, kind, watch.cluster.ec2.settings.template_id) for kind in types}
    if len({arch_of(kind) for kind in types}) > 1 or wanted != {request.template_id}:
        return f"a launch of the pool {pool.name} is from {request.template_id}; {sorted(wanted)} are its types'"
    if request.market == SPOT and pool.market != SPOT:
        return f"a launch of the pool {pool.name} is on Spot"
    return None


def never_above_a_pools_max(watch: Watch, effect: Effect) -> str | None:
    """Living workers of a pool, but those that EC2 takes back, are at most its max after a launch."""
    request = effect.subject
    if not isinstance(request, LaunchRequest):
        return None
    pool = next((pool for pool in watch.policy.pools if pool.name == request.pool), None)
    if pool is None or pool.max is None:
        return None
    watch.truth.look()
    gone = watch.truth.noticed.keys() | watch.truth.stopped | unknown_to_all(watch, effect)
    # Who was nobody's when the launch was intended may be ours again when it is sent.
    gone |= {i for i in watch.truth.untagged_s if watch.truth.changed_hands(i, SENT_AGAIN_S)}
    there = workers_of(watch.truth, pool, watch.truth.moments[-1].ours - gone)
    operation_id = dict(request.tags).get(OPERATION_TAG, "")
    instances = watch.cluster.ec2.instances
    launched = any(instances[i].tags.get(OPERATION_TAG) == operation_id for i in there)
    if launched and len(there) > pool.max:
        return f"{len(there)} workers of the pool {pool.name} live after {operation_id}; its max is {pool.max}"
    return None


def who_leaves_leaves_each_pool_its_min(watch: Watch, saved: Saved) -> str | None:
    """Whoever is let go by choice leaves its pool so many Ready workers as it shall have at least."""
    chosen = {removal.instance_id for removal in by_choice(saved)}
    leaving = {removal.instance_id for removal in saved.new.removals}
    for pool in watch.policy.pools if chosen else ():
        if pool.min and workers_of(watch.truth, pool, chosen):
            lately = watch.truth.lately(NOTICED_WITHIN_S)
            most = max(len(workers_of(watch.truth, pool, moment.ready - leaving)) for moment in lately)
            if most < pool.min:
                return f"{sorted(chosen)} leave, and {most} Ready workers stay of {pool.name}, whose min is {pool.min}"
    return None
