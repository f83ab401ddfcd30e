"""The judgement: one snapshot, one state, one policy, one moment -> one decision that explains itself."""

from collections.abc import Container

import msgspec

from autoscaler.decide.capacity.launch import LaunchPlan
from autoscaler.decide.demand.growth import GrowPlan, plan_blind_growth, plan_growth
from autoscaler.decide.demand.pods import NO_DEMAND, PodDemand, pod_demand
from autoscaler.decide.fleet import FleetView, Standing, view_fleet
from autoscaler.decide.looking import Look, new_removal
from autoscaler.decide.progress.launch import advance_launch
from autoscaler.decide.progress.removal import advance_removal
from autoscaler.decide.removal.elsewhere import movable_pods
from autoscaler.decide.removal.reclaim import reclaim_noticed
from autoscaler.decide.removal.repair import repair_unhealthy, trust_launches_again
from autoscaler.decide.removal.retire import Retirement, plan_retirement
from autoscaler.decide.removal.shrink import ShrinkPlan, plan_shrink
from autoscaler.decide.scheduling.picture import take_backable
from autoscaler.decide.words import count, in_words, not_launched
from autoscaler.model import (
    Action,
    Asks,
    Blocked,
    CommandOutcome,
    Decision,
    Growth,
    MetricsStatus,
    NewWorkers,
    NodeCounts,
    Pod,
    RemovalPhase,
    Snapshot,
    State,
)
from autoscaler.policy import Policy
from autoscaler.state.moved import moved_in_vain, owners_moved
from autoscaler.state.notices import mark_handled, mark_replaced
from autoscaler.state.transitions import MAX_OPEN_OPERATIONS, open_operations, open_removal, outbid_fences


def decide(snapshot: Snapshot, state: State, policy: Policy, *, now_s: int, decision_id: str) -> Decision:
    """Advance what is under way, then repair, grow or shrink - at most one of the three begins in one decision.

    Pure and total: it never raises for a valid snapshot. `growth` of the result becomes operations in `plan_launch`.
    """
    if any(result.outcome is CommandOutcome.FENCED_OFF for _, result in snapshot.commands):
        state = outbid_fences(state, now_s)
    look = Look(snapshot, policy, now_s=now_s, fence=state.fence + 1, decision_id=decision_id)
    before = state
    for launch in state.launches:
        state = advance_launch(look, state, launch)
    joined = {i for launch in before.launches for i in launch.instance_ids}
    state, reclaimed = reclaim_noticed(look, state, view_fleet(snapshot, state))
    fleet = view_fleet(snapshot, state)
    pods = _pods(look, fleet, state, reclaimed, joined)
    unseen = tuple(w.title for w in fleet.workers if w.key in reclaimed and w.node is not None and w.pods is None)
    wanted_back = _wanted_back(look, fleet, state, pods)
    for removal in before.removals:
        current = next((r for r in state.removals if r.operation_id == removal.operation_id), None)
        if current is not None:
            state = advance_removal(look, state, current, wanted_back=wanted_back)
    state, unhealthy = repair_unhealthy(look, state, view_fleet(snapshot, state))
    state = trust_launches_again(look, state, view_fleet(snapshot, state))
    repaired = bool({r.operation_id for r in state.removals} - {r.operation_id for r in before.removals})
    fleet = view_fleet(snapshot, state)
    grow = _grow(look, fleet, state, pods, reclaimed)
    if pods.take_back or (grow.growth is not None and pods.extra):
        state = moved_in_vain(state, pods.for_owners, look.now_s)
    if grow.growth is not None and grow.blind is not None:
        state = mark_handled(state, grow.blind.kind, grow.blind.subject)
    state, grow, retirement = _retire(look, fleet, state, pods, grow, busy=repaired or bool(wanted_back))
    busy = repaired or bool(wanted_back) or retirement.removes is not None
    shrink = _shrink(look, fleet, state, pods, grow, busy=busy)
    for worker in shrink.candidates:
        if worker.instance is not None and open_operations(state) < MAX_OPEN_OPERATIONS:
            removal = new_removal(look, worker.instance, worker.node, reason=shrink.reason, phase=RemovalPhase.DRAINING)
            state = open_removal(state, removal, counts_as_scale_down=True)
            state = owners_moved(state, shrink.moves, look.now_s)
    repaired = repaired or retirement.removes is not None
    action, reason, message = in_words(look, fleet, pods, grow, shrink, repaired=repaired)
    known = snapshot.metrics_status is not MetricsStatus.UNAVAILABLE
    return Decision(
        action=action,
        reason=reason,
        message=message,
        nodes=NodeCounts(
            ready=fleet.ready if known else None,
            joining=fleet.joining,
            draining=len(fleet.having(Standing.LEAVING)) + len(shrink.candidates),
            desired=_desired(fleet, grow, shrink) if known else None,
            min=policy.workers.min,
            max=policy.workers.max,
        ),
        signals=grow.signals,
        blocked=(*pods.blocked, *unhealthy, *retirement.blocked, *shrink.blocked),
        events=tuple(look.events),
        news=look.news,
        growth=grow.growth,
        state=state,
        asks=_asks(look, unseen, pods.asks, retirement.asks, shrink.asks),
    )


def _retire(
    look: Look, fleet: FleetView, state: State, pods: PodDemand, grow: GrowPlan, *, busy: bool
) -> tuple[State, GrowPlan, Retirement]:
    """Prepare for the next retirement that is days away: a replacement where one is needed, then the removal."""
    if busy or grow.growth is not None or grow.limit or pods.waiting:
        return state, grow, Retirement()
    plan = plan_retirement(look, state, fleet)
    if plan.notice is not None and plan.launches:
        new = NewWorkers(look.policy.workers.instance_types[0], 1)
        growth = Growth(workers=(new,), reason="retirement")
        state = mark_replaced(state, plan.notice.kind, plan.notice.subject)
        return state, msgspec.structs.replace(grow, wanted=fleet.ready + 1, growth=growth), plan
    if plan.removes is not None and plan.removes.instance is not None and open_operations(state) < MAX_OPEN_OPERATIONS:
        worker = plan.removes
        begins = new_removal(look, plan.removes.instance, worker.node, reason="retirement", phase=RemovalPhase.DRAINING)
        state = open_removal(state, begins, counts_as_scale_down=False)
        look.events.append(f"{worker.title} will be retired by EC2: it is drained in time")
    return state, grow, plan


def _asks(look: Look, unseen: tuple[str, ...], *asks: Asks) -> Asks:
    """What to see before all of this can be judged. `unseen`: Nodes that EC2 takes away, whose pods need a place."""
    asked = Asks(instances=tuple(look.asks_instances))
    if not look.snapshot.cluster_known:
        return asked
    for further in asks:
        asked |= further
    return asked | Asks(pods_of=unseen, rooms=look.asks_rooms or (bool(unseen) and not look.snapshot.rooms_known))


def _pods(look: Look, fleet: FleetView, state: State, reclaimed: tuple[str, ...], joined: Container[str]) -> PodDemand:
    if not look.snapshot.cluster_known:
        return NO_DEMAND
    displaced: list[Pod] = []
    for worker in fleet.workers:
        if worker.key in reclaimed:
            displaced.extend(movable_pods(worker))
    return pod_demand(
        look.snapshot,
        fleet,
        state,
        look.policy,
        displaced=displaced,
        just_joined=joined,
    )


def _wanted_back(look: Look, fleet: FleetView, state: State, pods: PodDemand) -> dict[str, str]:
    """Removals to undo before anything is launched, with the reason: for pods that fit there, else the newest first."""
    back = dict.fromkeys(pods.take_back, f"{count(pods.waiting, 'pod')} could run there")
    if not look.snapshot.cluster_known:
        return back
    wanted = plan_growth(look.snapshot, fleet, state, look.policy, pods=NO_DEMAND, replacing=0).wanted
    for worker in take_backable(fleet):
        if worker.removal is not None and wanted > fleet.ready + fleet.joining + len(back):
            back.setdefault(worker.removal.operation_id, "more workers are wanted")
    return back


def _grow(look: Look, fleet: FleetView, state: State, pods: PodDemand, reclaimed: tuple[str, ...]) -> GrowPlan:
    if look.snapshot.metrics_status is MetricsStatus.UNAVAILABLE:
        return plan_blind_growth(look.snapshot, fleet, state, look.policy)
    if not look.snapshot.cluster_known:
        return GrowPlan(signals=(), wanted=fleet.ready + fleet.joining, growth=None)
    return plan_growth(look.snapshot, fleet, state, look.policy, pods=pods, replacing=len(reclaimed))


def _shrink(look: Look, fleet: FleetView, state: State, pods: PodDemand, grow: GrowPlan, *, busy: bool) -> ShrinkPlan:
    if grow.growth is not None or grow.limit or busy:
        return ShrinkPlan(candidates=(), reason="busy", message="another step comes first", blocked=())
    return plan_shrink(
        look.snapshot,
        fleet,
        state,
        look.policy,
        waiting_pods=pods.waiting,
        distrusted=pods.distrusted,
        now_s=look.now_s,
    )


def _desired(fleet: FleetView, grow: GrowPlan, shrink: ShrinkPlan) -> int:
    if grow.growth is not None:
        return fleet.ready + fleet.joining + grow.growth.count
    return fleet.ready + fleet.joining - len(shrink.candidates)


def with_plan(decision: Decision, plan: LaunchPlan, *, blocked: tuple[Blocked, ...] = ()) -> Decision:
    """The decision once its growth became operations, or could not."""
    if decision.growth is not None and plan.refused >= decision.growth.count:
        reason, message = not_launched(plan)
        decision = msgspec.structs.replace(
            decision, action=Action.REFUSED, reason=reason, message=message, refused_for=plan.codes
        )
    elif decision.growth is not None and plan.refused:
        told = f"{decision.message} {not_launched(plan)[1]}"
        decision = msgspec.structs.replace(decision, message=told)
    return msgspec.structs.replace(decision, state=plan.state, growth=None, blocked=(*decision.blocked, *blocked))
