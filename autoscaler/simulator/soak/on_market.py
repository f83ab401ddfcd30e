"""Invariants of Spot: the base is kept, one stands for one, and a return launches before it drains."""

import math

from autoscaler.model import ON_DEMAND, OPERATION_TAG, SPOT, LaunchRequest
from autoscaler.pools import WorkerPool
from autoscaler.simulator.soak.assumptions import CLOCKS_DIFFER_S, NOTICED_WITHIN_S
from autoscaler.simulator.soak.on_effect import lost_its_tag
from autoscaler.simulator.soak.on_numbers import CALM
from autoscaler.simulator.soak.on_state import new_launches, new_removals
from autoscaler.simulator.soak.pools import workers_of
from autoscaler.simulator.soak.watch import Effect, Saved, Watch

FALLBACK = "-od"
RETURN = "return_to_spot"
AGAIN_AFTER_S = 600.0


def least_on_demand(pool: WorkerPool, total: int) -> int:
    """Of so many workers, how many are to be on demand. By arithmetic of its own: not by the code that is tested."""
    beyond = max(0, total - pool.on_demand_base)
    return min(total, pool.on_demand_base) + math.ceil(round(beyond * pool.on_demand_share, 6))


def one_stands_for_one(watch: Watch, effect: Effect) -> str | None:
    """What is launched on Spot and what is launched in its place are no more together than was wanted."""
    if not isinstance(effect.subject, LaunchRequest):
        return None
    operation_id = dict(effect.subject.tags).get(OPERATION_TAG, "")
    asked = operation_id.removesuffix(FALLBACK)
    wanted = watch.requests.get(asked)
    known = watch.cluster.ec2.instances.values()
    tags = {asked, f"{asked}{FALLBACK}"}
    started = [i for i in known if i.tags.get(OPERATION_TAG) in tags and not lost_its_tag(watch, i)]
    if wanted is not None and len(started) > wanted.count:
        return f"{len(started)} workers were started for {asked} and in its place, which wanted {wanted.count}"
    return None


def a_shrink_keeps_the_base(watch: Watch, saved: Saved) -> str | None:
    """Nobody is let go for want of load, nor for Spot, whom base and share ask to be on demand."""
    chosen = [r for r in new_removals(saved) if r.reason in {*CALM, RETURN}]
    going_on = {removal.instance_id for removal in saved.old.removals}
    leaving = {removal.instance_id for removal in saved.new.removals}
    fresh = {removal.instance_id for removal in chosen} - going_on
    for pool in watch.policy.pools if chosen else ():
        instances = watch.cluster.ec2.instances
        own = workers_of(watch.truth, pool, instances)
        if pool.market != SPOT or not any(instances[i].market == ON_DEMAND for i in fresh & own):
            continue
        kept = []
        for moment in watch.truth.lately(NOTICED_WITHIN_S):
            markets = [instances[i].market for i in moment.ours & own - leaving]
            kept.append(markets.count(ON_DEMAND) - least_on_demand(pool, len(markets)))
        if max(kept) < 0:
            return f"{sorted(fresh)} leave, and {-max(kept)} too few workers on demand stay"
    return None


class ReturnRules:
    """Rules that remember the last return. One object a run."""

    def __init__(self) -> None:
        self._begun_s: float | None = None
        """When the last return was begun whose worker was not drained yet."""
        self._instance_id = ""
        """That worker."""

    def a_return_launches_first_and_one_at_a_time(self, watch: Watch, saved: Saved) -> str | None:
        """A Spot worker came before an on-demand one is drained for it; the next is begun after that, or much later."""
        now_s = watch.cluster.now_s
        for removal in new_removals(saved):
            if removal.reason != RETURN or any(r.instance_id == removal.instance_id for r in saved.old.removals):
                continue
            begun_s, self._begun_s = self._begun_s, None
            if begun_s is None:
                return f"{removal.instance_id} is drained for Spot, and no Spot worker was launched in its place"
            instances = watch.cluster.ec2.instances
            ready = {i for moment in watch.truth.lately(NOTICED_WITHIN_S) for i in moment.ready if i in instances}
            if not any(
                instances[i].market == SPOT and instances[i].launched_at_s >= begun_s - CLOCKS_DIFFER_S for i in ready
            ):
                return f"{removal.instance_id} is drained for Spot, and the Spot worker in its place is not Ready"
        launched = [launch for launch in new_launches(saved) if launch.reason == RETURN]
        if not launched:
            return None
        if sum(launch.request.count for launch in launched) > 1 or launched[0].request.market != SPOT:
            return "a return launches more than one worker, or one that is not on Spot"
        least_s = AGAIN_AFTER_S - 2 * CLOCKS_DIFFER_S - 30
        still_there = all(self._instance_id in moment.ready for moment in watch.truth.lately(AGAIN_AFTER_S))
        if self._begun_s is not None and now_s - self._begun_s < least_s and still_there:
            return f"a return is begun {now_s - self._begun_s:.0f} s after one of which nobody was drained"
        record = saved.new.spot_return
        if record is None or not record.instance_id:
            return "a return is launched, and the state does not say whom it is for"
        self._begun_s, self._instance_id = now_s, record.instance_id
        return None
