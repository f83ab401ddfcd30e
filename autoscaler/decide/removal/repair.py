"""Workers that stay NotReady, are stopped, have no Node, or left only their Node behind."""

import msgspec

from autoscaler.decide.fleet import FleetView, Standing, Worker
from autoscaler.decide.looking import INSTANCE_GONE, NO_NODE, NOT_READY, Look, maybe_its_node, new_removal, why_ended
from autoscaler.decide.progress.launch import SETTLE_S
from autoscaler.model import Blocked, InstanceState, Notice, RemovalOperation, RemovalPhase, State
from autoscaler.policy import Policy
from autoscaler.state.memory import (
    PROVEN_AFTER_S,
    held_lately,
    join_failed,
    maybe_still_shown,
    taken_by_ec2,
    was_removed,
    workers_stay,
)
from autoscaler.state.notices import STOPPED, add_notices
from autoscaler.state.transitions import MAX_OPEN_OPERATIONS, open_operations, open_removal

ORPHAN = "orphan"
STOPPED_KEPT_S = 86_400
"""A stopped worker may be started again for this long."""


def repair_unhealthy(look: Look, state: State, fleet: FleetView) -> tuple[State, tuple[Blocked, ...]]:
    """Replace workers of ours that stay NotReady, and delete the Nodes of workers that are gone.

    Only with the cluster known. Above the policy's share of unhealthy workers the cause lies elsewhere: nothing is
    replaced, and the decision says so.
    """
    if not look.snapshot.cluster_known:
        return state, ()
    blocked: list[Blocked] = []
    for worker in fleet.having(Standing.DEAD, Standing.UNHEALTHY):
        state = _delete_left_node(look, state, fleet, worker)
    state = _end_orphans(look, state, fleet, blocked)
    state = _end_stopped(look, state, fleet, blocked)
    too_many = _too_many_unready(fleet, look.policy, look.now_s)
    leaving = {removal.instance_id for removal in state.removals}
    for worker in _long_unready(fleet, look.policy, look.now_s):
        if worker.key in leaving:
            continue
        why = _stays_unready(worker, too_many=too_many) or _kept(look, state, fleet, worker.title)
        if why is None and open_operations(state) >= MAX_OPEN_OPERATIONS:
            why = "state_full: too many operations are open"
        if why is not None:
            blocked.append(Blocked(subject=worker.title, code="not_ready", text=why))
        elif worker.instance is not None:
            removal = new_removal(look, worker.instance, worker.node, reason=NOT_READY, phase=RemovalPhase.INSPECTING)
            look.done.append(
                f"{worker.title} is NotReady for {look.policy.repair.not_ready_s} s: a server is asked what it holds"
            )
            worked_until_s = look.now_s - look.policy.repair.not_ready_s
            state = _lost_young(look, state, worker, worked_until_s=worked_until_s)
            state = open_removal(state, removal, counts_as_scale_down=False)
    return state, tuple(blocked)


def recovering_workers(fleet: FleetView, policy: Policy, *, now_s: int) -> tuple[Worker, ...]:
    """NotReady workers that are waited for: not for long yet, or so many at once that the cause lies elsewhere."""
    unready = [worker for worker in fleet.having(Standing.UNHEALTHY) if worker.node is not None]
    if _too_many_unready(fleet, policy, now_s):
        return tuple(unready)
    gone = _long_unready(fleet, policy, now_s)
    return tuple(worker for worker in unready if worker not in gone)


def beside_recovering(recovering: int, wants: int, fleet: FleetView) -> int:
    """Of workers that are wanted altogether, those to ask for where some that are NotReady are waited for.

    None is launched in the place of such a one, and nobody leaves for it.
    """
    return min(wants, max(fleet.ready + fleet.joining, wants - recovering))


def _long_unready(fleet: FleetView, policy: Policy, now_s: int) -> list[Worker]:
    """NotReady through the whole window, and for as long as a machine may take to join since it was last started."""
    return [
        worker
        for worker in fleet.having(Standing.UNHEALTHY)
        if worker.node is not None
        and worker.node.unready_long
        and (worker.instance is None or now_s - worker.instance.launched_at_s > policy.workers.join_timeout_s)
    ]


def _too_many_unready(fleet: FleetView, policy: Policy, now_s: int) -> bool:
    """Whether more are NotReady than the policy's share. One may always be: it is the smallest number that fails."""
    workers = len(fleet.having(Standing.READY, Standing.JOINING, Standing.UNHEALTHY))
    return len(_long_unready(fleet, policy, now_s)) > max(1.0, policy.repair.max_unhealthy_share * workers)


def _stays_unready(worker: Worker, *, too_many: bool) -> str | None:
    """Why a worker that stays NotReady is not replaced."""
    if not worker.ours or worker.instance is None:
        return "not ours to replace"
    if worker.node is not None and worker.node.local_volumes:
        return f"{worker.node.local_volumes} node-local volumes live on it, and would be lost with it"
    if too_many:
        return "more of the workers are than repair.max_unhealthy_share allows, so the cause lies elsewhere"
    return None


def _kept(look: Look, state: State, fleet: FleetView, title: str, *, gone: bool = False) -> str | None:
    """Why a server is not asked about it now: none is there, or one said lately that it has to stay."""
    if not fleet.servers:
        return "no running server instance with the tag k3s-autoscaler/role=server: nobody could say what it holds"
    held = held_lately(state, title, look.now_s, gone=gone)
    return None if held is None else str(held)


def _delete_left_node(look: Look, state: State, fleet: FleetView, worker: Worker) -> State:
    """K3s never removes a dead Node object by itself."""
    node, instance = worker.node, worker.instance
    if node is None or node.instance_id is None or worker.removal is not None:
        return state
    if maybe_still_shown(state, worker.key, look.snapshot.metrics_at_s):
        return state  # we deleted it ourselves
    if open_operations(state) >= MAX_OPEN_OPERATIONS:
        return state
    if instance is None:
        # EC2 forgets an ended instance within the hour. Then its label shows that it was ours, and silence that it is;
        # a tag that somebody took off hides a machine that lives, so that EC2 is asked for it by id.
        silent = node.managed is True and node.unready_long is True
        asked = silent and _kept(look, state, fleet, node.name, gone=True) is None
        gone = asked and look.is_unknown_to_ec2(node.instance_id)
    else:
        gone = worker.ours and instance.state is InstanceState.TERMINATED
    if not gone:
        return state
    removal = RemovalOperation(
        operation_id=f"{look.decision_id}-{node.instance_id.removeprefix('i-')}",
        created_at_s=look.now_s,
        reason=INSTANCE_GONE,
        instance_id=node.instance_id,
        node_name=node.name,
        provider_id=node.provider_id,
        phase=RemovalPhase.INSPECTING if instance is None else RemovalPhase.DELETING,
        phase_since_s=look.now_s,
        fence=look.fence,
        not_after_s=look.start_by_s,
    )
    does = "a server is asked what it holds" if instance is None else "its Node is deleted"
    why = f" ({reason})" if instance is not None and (reason := why_ended(instance)) else ""
    look.done.append(f"{worker.title} lost its instance{why}: {does}")
    if instance is not None:
        state = _lost_young(look, state, worker, worked_until_s=look.now_s)
    return open_removal(state, removal, counts_as_scale_down=False)


def _started_again(worker: Worker) -> bool:
    """Whether the machine is older than EC2's launch time: a person stopped and started it, and no launch of ours."""
    node, instance = worker.node, worker.instance
    if node is None or instance is None or node.created_at_s is None:
        return False
    return node.created_at_s < instance.launched_at_s


def _lost_young(look: Look, state: State, worker: Worker, *, worked_until_s: int) -> State:
    """Remember a worker that nobody ended and that did not last: what is launched next may be as bad."""
    instance = worker.instance
    if instance is None or _started_again(worker):
        return state
    if was_removed(state, instance.instance_id) or taken_by_ec2(state, instance.instance_id):
        return state
    if worked_until_s - instance.launched_at_s >= PROVEN_AFTER_S:
        return state
    return join_failed(
        state,
        launched_at_s=instance.launched_at_s,
        now_s=look.now_s,
        after_ready=True,
        cause=why_ended(instance),
    )


def trust_launches_again(look: Look, state: State, fleet: FleetView) -> State:
    """Forget failed launches once a worker that was launched after the last of them has proven itself."""
    failed = state.join_failures
    if failed is None:
        return state
    for worker in fleet.having(Standing.READY):
        launched_at_s = worker.instance.launched_at_s if worker.instance is not None else look.now_s
        if worker.launched_by_us_after(failed.failed_at_s) and look.now_s - launched_at_s >= PROVEN_AFTER_S:
            look.done.append(f"{worker.title} stays Ready: launches are trusted again")
            return workers_stay(state)
    return state


def _end_orphans(look: Look, state: State, fleet: FleetView, blocked: list[Blocked]) -> State:
    """End instances of ours that should have joined and have no Node: nobody else knows of them, and they cost.

    Only what was an orphan five minutes ago as well: an agent whose Node was deleted registers again within seconds.
    """
    limit_s = look.policy.workers.join_timeout_s
    orphans = {
        worker.key: worker.instance
        for worker in fleet.having(Standing.UNHEALTHY)
        if worker.node is None
        and worker.instance is not None
        and worker.ours
        and worker.removal is None
        and look.now_s - worker.instance.launched_at_s > limit_s
    }
    first_seen_s = {n.subject: n.received_at_s for n in state.notices if n.kind == ORPHAN}
    if first_seen_s.keys() - orphans.keys():
        kept = tuple(n for n in state.notices if n.kind != ORPHAN or n.subject in orphans)
        state = msgspec.structs.replace(state, notices=kept)
    fresh = (Notice(kind=ORPHAN, subject=key, received_at_s=look.now_s, handled=True) for key in orphans)
    state = add_notices(state, tuple(fresh))
    # Metrics in which nobody of ours has a Node may be another cluster's.
    ours_seen = any(worker.ours and worker.node is not None for worker in fleet.workers)
    workers = len(fleet.having(Standing.READY, Standing.JOINING, Standing.UNHEALTHY))
    for key, instance in orphans.items():
        if look.now_s - first_seen_s.get(key, look.now_s) < SETTLE_S:
            continue
        why = None
        nameless = maybe_its_node(look.snapshot.nodes, instance)
        if not ours_seen:
            why = "no worker of ours has a Node in these metrics: they may be another cluster's"
        elif nameless is not None:
            why = f"Node {nameless} has no EC2 provider-id and may be this instance"
        elif len(orphans) > max(1.0, look.policy.repair.max_unhealthy_share * workers):
            why = "more of the workers are than repair.max_unhealthy_share allows, so the cause lies elsewhere"
        elif open_operations(state) >= MAX_OPEN_OPERATIONS:
            why = "state_full: too many operations are open"
        else:
            why = _kept(look, state, fleet, key)
        if why is not None:
            blocked.append(Blocked(subject=key, code="no_node", text=why))
            continue
        removal = new_removal(look, instance, None, reason=NO_NODE, phase=RemovalPhase.INSPECTING)
        state = open_removal(state, removal, counts_as_scale_down=False)
        look.done.append(f"instance {key} is a worker of ours without a Node: a server is asked whether it knows one")
    return state


def _end_stopped(look: Look, state: State, fleet: FleetView, blocked: list[Blocked]) -> State:
    """Tell of stopped workers of ours once, and end them after a day: they are replaced, and cost their disks."""
    stopped = {
        worker.key: worker
        for worker in fleet.having(Standing.DEAD)
        if worker.ours and worker.instance is not None and worker.instance.state is InstanceState.STOPPED
    }
    since_s = {n.subject: n.received_at_s for n in state.notices if n.kind == STOPPED}
    if since_s.keys() - stopped.keys():
        kept = tuple(n for n in state.notices if n.kind != STOPPED or n.subject in stopped)
        state = msgspec.structs.replace(state, notices=kept)
    for key, worker in stopped.items():
        if key not in since_s:
            noted = Notice(kind=STOPPED, subject=key, received_at_s=look.now_s, handled=True)
            state = add_notices(state, (noted,))
            hours = STOPPED_KEPT_S // 3600
            look.done.append(f"{worker.title} is stopped: start it within {hours} hours, or it is ended")
            look.news = True
        elif look.now_s - since_s[key] >= STOPPED_KEPT_S:
            why = _stays_stopped(look, state, fleet, worker)
            if why is not None:
                blocked.append(Blocked(subject=worker.title, code="stopped", text=why))
            elif worker.instance is not None:
                removal = new_removal(look, worker.instance, worker.node, reason=STOPPED, phase=RemovalPhase.INSPECTING)
                state = open_removal(state, removal, counts_as_scale_down=False)
                stopped_s = look.now_s - since_s[key]
                look.done.append(f"{worker.title} was stopped for {stopped_s} s: a server is asked what it holds")
    return state


def _stays_stopped(look: Look, state: State, fleet: FleetView, worker: Worker) -> str | None:
    """Why a worker that is stopped for long is not ended."""
    if open_operations(state) >= MAX_OPEN_OPERATIONS:
        return "state_full: too many operations are open"
    return _stays_unready(worker, too_many=False) or _kept(look, state, fleet, worker.title)
