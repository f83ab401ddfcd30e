"""Invariants of who leaves by choice: never in a blackout, never more at once than the budget, and replaced first."""

from autoscaler.model import RemovalOperation, RemovalPhase
from autoscaler.simulator.soak.assumptions import CLOCKS_DIFFER_S, NOTICED_WITHIN_S
from autoscaler.simulator.soak.leaving import blacked_out, budget_of, launched_by
from autoscaler.simulator.soak.on_decision import REPLACED, VOLUNTARY, by_choice
from autoscaler.simulator.soak.on_market import RETURN
from autoscaler.simulator.soak.watch import Saved, Watch

LEAVING = frozenset({RemovalPhase.DRAINING, RemovalPhase.DRAINED, RemovalPhase.TERMINATING})


def nobody_leaves_by_choice_in_a_blackout(watch: Watch, saved: Saved) -> str | None:
    """None begins to, by the clock of whoever looked and until it was written."""
    chosen = by_choice(saved, of=VOLUNTARY | REPLACED | {RETURN})
    looked_s, now_s = saved.by.began_s - CLOCKS_DIFFER_S, watch.cluster.now_s + CLOCKS_DIFFER_S
    if chosen and blacked_out(watch.policy, looked_s) and blacked_out(watch.policy, now_s):
        return f"{chosen[0].instance_id} begins to leave ({chosen[0].reason}) in a blackout"
    return None


def no_more_leave_together_than_the_budget(watch: Watch, saved: Saved) -> str | None:
    """Of those that are chosen together so many run pods; and while they leave, none is chosen beside them."""
    chosen = by_choice(saved)
    if not chosen:
        return None
    lately = list(watch.truth.lately(NOTICED_WITHIN_S))
    busy = [r.instance_id for r in chosen if all(r.instance_id in moment.busy for moment in lately)]
    budget = budget_of(watch.policy, max(len(moment.ready) for moment in lately))
    if len(busy) > budget:
        return f"{sorted(busy)} leave together with pods on them; the budget is {budget}"
    if len(chosen) > max(budget, watch.policy.scale_down.max_empty_step):
        return f"{len(chosen)} workers leave together"
    begun = {removal.operation_id for removal in chosen}
    others = [r for r in saved.new.removals if r.operation_id not in begun and _leaves_by_choice(watch, r)]
    if others:
        return f"{chosen[0].instance_id} begins to leave while {others[0].instance_id} does"
    return None


def _leaves_by_choice(watch: Watch, removal: RemovalOperation) -> bool:
    """One that is stuck holds up nobody."""
    young = watch.cluster.now_s - removal.phase_since_s < watch.policy.drain.timeout_s
    chosen = removal.reason in VOLUNTARY | REPLACED
    return chosen and removal.phase in LEAVING and not removal.reclaim and young


def who_is_replaced_is_replaced_first(watch: Watch, saved: Saved) -> str | None:
    """What was launched for it is Ready before it begins to leave."""
    for removal in by_choice(saved):
        if removal.reason not in REPLACED:
            continue
        replacement = saved.new.replacement
        if replacement is None or replacement.instance_id != removal.instance_id:
            return f"{removal.instance_id} goes ({removal.reason}), and the state does not say so"
        new = launched_by(watch, replacement.launched_by)
        ready = {i for moment in watch.truth.lately(NOTICED_WITHIN_S) for i in moment.ready}
        if len(new & ready - {removal.instance_id}) < replacement.count:
            return (
                f"{removal.instance_id} goes ({removal.reason}), and {sorted(new & ready)} of {sorted(new)} are Ready"
            )
    return None
