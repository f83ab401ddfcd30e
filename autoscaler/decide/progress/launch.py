"""What an observation says about a launch that is under way."""

from typing import Final

import msgspec

from autoscaler.decide.looking import INSTANCE_GONE, JOIN_TIMEOUT, Look, maybe_its_node, new_removal, why_ended
from autoscaler.model import ALIVE, Instance, InstanceState, LaunchOperation, Node, RemovalPhase, State
from autoscaler.state.backoffs import path_held
from autoscaler.state.memory import (
    LISTED_AFTER_S,
    join_failed,
    joined_after,
    not_listed_yet,
    taken_by_ec2,
    was_removed,
    worker_joined,
)
from autoscaler.state.transitions import MAX_OPEN_OPERATIONS, open_operations, open_removal, update_launch
from autoscaler.state.zones import failed_in, is_left_out, joined_in

SETTLE_S: Final = LISTED_AFTER_S
"""DescribeInstances has shown whatever a call did by then."""
RESEND_FOR_S: Final = 600
"""A launch without a trace is sent again, to the letter, until it is this old."""


def advance_launch(look: Look, state: State, launch: LaunchOperation) -> State:
    """Adopt what carries the operation's tag, let go of what is Ready or given up, close what has nothing left."""
    launch = _adopt(look, launch)
    if not launch.landed and look.now_s - launch.created_at_s < RESEND_FOR_S:
        launch = _sent_again(look, launch, held=path_held(state, look.now_s) is not None)
    absent = dict(launch.absent_since_s)
    waiting: list[str] = []
    finished = list(launch.finished_ids)
    for instance_id in launch.instance_ids:
        instance, node = look.instances.get(instance_id), look.nodes.get(instance_id)
        if node is not None and _has_joined(look, node, instance):
            took_s = look.now_s - launch.created_at_s
            look.done.append(f"worker {node.name} is Ready, {took_s} s after its launch")
            finished.append(instance_id)
            state = joined_after(worker_joined(state), took_s)
            if (zone := _zone_of(node, instance)) is not None:
                state = joined_in(state, zone, now_s=look.now_s)
            if instance is None or look.now_s - (launch.sent_at_s or launch.created_at_s) < LISTED_AFTER_S:
                state = not_listed_yet(state, instance_id, launch.request, now_s=look.now_s)
        elif instance is None:
            first_s = absent.setdefault(instance_id, look.now_s)
            if look.now_s - first_s >= SETTLE_S:
                look.done.append(f"instance {instance_id} of launch {launch.operation_id} was not seen again: given up")
                finished.append(instance_id)
            else:
                waiting.append(instance_id)
        elif (nameless := _nameless(look, instance, node)) is not None:
            look.done.append(
                f"{instance_id} stays: Node {nameless} has no EC2 provider-id and may be this instance; "
                "let K3s set it (provider-id), or end the worker yourself"
            )
            look.news = True
            finished.append(instance_id)
        elif (gone_because := _lost(look, instance)) is not None and open_operations(state) < MAX_OPEN_OPERATIONS:
            look.done.append(f"instance {instance_id} {gone_because}")
            finished.append(instance_id)
            if _is_failure(state, instance):
                state = _failed(look, state, launch, instance)
            state = _clear_away(look, state, instance, node)
        else:
            waiting.append(instance_id)
    still_absent = tuple((i, s) for i, s in absent.items() if i in waiting and i not in look.instances)
    changed = msgspec.structs.replace(
        launch, instance_ids=tuple(waiting), finished_ids=tuple(finished), absent_since_s=still_absent
    )
    return update_launch(state, launch.operation_id, lambda _: None if _is_over(look, changed) else changed)


def _adopt(look: Look, launch: LaunchOperation) -> LaunchOperation:
    """Any instance with the operation's tag shows that the call landed."""
    known = {*launch.instance_ids, *launch.finished_ids}
    fresh = tuple(
        i.instance_id
        for i in look.snapshot.instances
        if i.operation_id == launch.operation_id and i.managed and i.instance_id not in known
    )
    if fresh:
        launch = msgspec.structs.replace(
            launch,
            instance_ids=(*launch.instance_ids, *fresh),
            unidentified=max(0, launch.unidentified - len(fresh)),
            landed=True,
        )
    settled = look.now_s - (launch.sent_at_s or launch.created_at_s) >= SETTLE_S
    if launch.landed and launch.unidentified and settled:
        launch = msgspec.structs.replace(launch, unidentified=0)
    return launch


def _sent_again(look: Look, launch: LaunchOperation, *, held: bool) -> LaunchOperation:
    """About to be sent again: it settles from then. It is no first copy any more, even within the same second.

    `held`: no launch is sent now; what a killed invocation did with it is not known all the same.
    """
    sent_at_s = launch.sent_at_s or launch.created_at_s if held else look.now_s
    return msgspec.structs.replace(launch, sent_at_s=max(sent_at_s, launch.created_at_s + 1))


def _has_joined(look: Look, node: Node, instance: Instance | None) -> bool:
    """A Ready Node has joined, whatever its taints say: only known start-up taints are waited for, and not for ever.

    An answer that is not whole proves no Node Ready: what it lacks may be the row that says otherwise.
    """
    if not look.snapshot.cluster_known:
        return False
    if node.ready is not True or not node.starting:
        return node.ready is True
    return instance is None or look.now_s - instance.launched_at_s > look.policy.workers.join_timeout_s


def _zone_of(node: Node, instance: Instance | None) -> str | None:
    return instance.zone if instance is not None else node.zone


def _failed(look: Look, state: State, launch: LaunchOperation, instance: Instance) -> State:
    """It counts for its zone; and for every launch, unless the zone is known to be the matter."""
    launched_at_s, now_s = launch.created_at_s, look.now_s
    state = failed_in(state, instance.zone, launched_at_s=launched_at_s, now_s=now_s)
    if is_left_out(state, instance.zone):
        return state
    return join_failed(state, launched_at_s=launched_at_s, now_s=now_s, cause=why_ended(instance))


def _is_failure(state: State, instance: Instance) -> bool:
    """Whether it is the launch that failed: neither we, nor EC2, nor a person ended it.

    A worker that shuts itself down is terminated (cloudformation/workers.yml): whoever is stopped was stopped by hand.
    """
    if instance.state in {InstanceState.STOPPING, InstanceState.STOPPED} or was_removed(state, instance.instance_id):
        return False
    return instance.state in ALIVE or not taken_by_ec2(state, instance.instance_id)


def _nameless(look: Look, instance: Instance, node: Node | None) -> str | None:
    """A Node that may be this worker's without its provider-id, once the time to join is over."""
    if node is not None or instance.state not in ALIVE or not look.snapshot.cluster_known:
        return None
    if look.now_s - instance.launched_at_s <= look.policy.workers.join_timeout_s:
        return None
    return maybe_its_node(look.snapshot.nodes, instance)


def _lost(look: Look, instance: Instance) -> str | None:
    """Why a worker that has not joined will not join any more; None while it may."""
    if instance.state not in ALIVE:
        why = f": {reason}" if (reason := why_ended(instance)) else ""
        return f"ended ({instance.state.value}{why}) before its Node was Ready"
    limit_s = look.policy.workers.join_timeout_s
    # Whether it has joined is known only with the cluster in sight: missing metrics never end a worker.
    if look.snapshot.cluster_known and look.now_s - instance.launched_at_s > limit_s:
        return f"did not join within {limit_s} s: a server is asked whether it knows a Node of it"
    return None


def _clear_away(look: Look, state: State, instance: Instance, node: Node | None) -> State:
    alive = instance.state in ALIVE
    dead = instance.state is InstanceState.TERMINATED
    if not alive and not dead:
        return state  # shutting down, its Node is repair's; stopped, it may be started again
    if dead and node is None:
        return state
    if was_removed(state, instance.instance_id):
        return state  # EC2 gave notice of it while it joined
    if not instance.managed or instance.server or (node is not None and node.control_plane):
        return state  # somebody took the tag away, and the machine over; a server least of all is ours to end
    removal = new_removal(
        look,
        instance,
        node,
        reason=JOIN_TIMEOUT if alive else INSTANCE_GONE,
        # The Node goes only once the instance is seen terminated: earlier, its agent would register it again.
        phase=RemovalPhase.INSPECTING if alive else RemovalPhase.DELETING,
    )
    return open_removal(state, removal, counts_as_scale_down=False)


def _is_over(look: Look, launch: LaunchOperation) -> bool:
    if launch.instance_ids:
        return False
    if launch.landed:
        return launch.unidentified == 0
    if look.now_s - launch.created_at_s < RESEND_FOR_S:
        return False
    look.done.append(f"launch {launch.operation_id} left no trace within {RESEND_FOR_S} s: given up")
    return True
