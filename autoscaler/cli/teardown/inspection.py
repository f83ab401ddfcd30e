"""What a server's answer about a machine makes of its worker: pure.

A name proves nothing and neither does an absence of it: each worker's Node is looked up by its provider-id, under
whatever name it registered. What could still run is drained, with all checks. Without a Node that had time to join, or
NotReady with nothing on it, the machine goes. Node-local volumes keep it. No answer keeps it, and it is asked again.
"""

from typing import Final

import msgspec

from autoscaler.cli.teardown.memory import Notes, Wishes
from autoscaler.decide.looking import JOIN_TIMEOUT, START_WITHIN_S, TEARDOWN, Look, new_removal
from autoscaler.decide.progress.inspection import answer_of
from autoscaler.decide.progress.sending import send_again
from autoscaler.model import (
    ALIVE,
    CommandOutcome,
    CommandResult,
    Found,
    Inspection,
    Instance,
    InstanceState,
    RemovalOperation,
    RemovalPhase,
    State,
)
from autoscaler.state.memory import worker_joined
from autoscaler.state.transitions import enter_phase, open_removal, removal_ended, update_removal

FIRM_RULES: Final = frozenset({"identity", "control-plane"})
"""Nobody knows whose Node it is, or it is a server that carries a worker's tags."""


def judge_answer(
    look: Look, state: State, removal: RemovalOperation, instance: Instance, *, wishes: Wishes, notes: Notes
) -> State:
    """Drain the worker, end it, let it stay, or ask again."""
    if not instance.managed or instance.state is InstanceState.SHUTTING_DOWN:
        return _close(state, removal)  # somebody took the tag away; or EC2 ends it: its Node is asked for after
    result = answer_of(look, removal, holds_s=START_WITHIN_S)
    if result is not None and result.outcome is CommandOutcome.NO_SUCH_NODE:
        return _without_node(look, state, removal, instance, notes)
    if result is not None and result.outcome is CommandOutcome.REFUSED and result.rule in FIRM_RULES:
        if instance.state is InstanceState.TERMINATED:
            look.done.append(f"{instance.instance_id} is terminated, and its Node may be left: {result.message}")
            notes.clear(instance.instance_id)
            return _close(state, removal)
        return refuse_for_good(look, state, removal, result, notes)
    if result is not None and result.inspection is not None:
        return _with_node(look, state, removal, instance, result.inspection, wishes=wishes, notes=notes)
    if result is not None and result.outcome is not CommandOutcome.RUNNING:
        words = f"{result.outcome.value}: {result.message}" if result.message else result.outcome.value
        look.done.append(f"{instance.instance_id}: no server says what it holds ({words}); it is asked again")
    return send_again(look, state, removal, result)


def refuse_for_good(look: Look, state: State, removal: RemovalOperation, result: CommandResult, notes: Notes) -> State:
    """What a server says of its Node stands above every wish."""
    why = result.message or f"a server refuses it ({result.rule})"
    notes.refuse(removal.instance_id, why, now_s=look.now_s, firm=True)
    look.done.append(f"{removal.instance_id} stays: {why}")
    return _close(state, removal)


def _without_node(look: Look, state: State, removal: RemovalOperation, instance: Instance, notes: Notes) -> State:
    key = instance.instance_id
    if instance.state is InstanceState.TERMINATED:
        notes.clear(key)
        return removal_ended(state, removal, now_s=look.now_s)
    limit_s = look.policy.workers.join_timeout_s
    if instance.state in ALIVE and look.now_s - instance.launched_at_s < limit_s:
        notes.tried_s[key] = look.now_s
        look.done.append(f"{key} has no Node yet: it is asked again until it is {limit_s} s old")
        return _close(state, removal)
    look.done.append(f"{key}: a server knows no Node of it; it is terminated")
    return _enter(look, state, removal, RemovalPhase.TERMINATING)


def _with_node(
    look: Look,
    state: State,
    removal: RemovalOperation,
    instance: Instance,
    seen: Inspection,
    *,
    wishes: Wishes,
    notes: Notes,
) -> State:
    key = instance.instance_id
    late = notes.late.pop(key, None)
    named = msgspec.structs.replace(removal, node_name=seen.node)
    if instance.state is InstanceState.TERMINATED:
        return _enter(look, state, named, RemovalPhase.DELETING)
    if removal.reason == JOIN_TIMEOUT and seen.ready:
        state = worker_joined(state)  # it was counted among those that did not come
    # A machine that EC2 shows as stopped runs nothing, whatever its Node still says.
    runs = instance.state in ALIVE and (seen.ready or seen.movable_pods > 0)
    condition = "is not Ready" if instance.state in ALIVE else f"is {instance.state.value}"
    forced = wishes.force and notes.refused_for_s(key, look.now_s) >= look.policy.drain.timeout_s
    if seen.local_volumes.count and not forced and not (instance.state in ALIVE and seen.ready):
        why = f"its Node {seen.node} {condition} and holds node-local volumes ({_names(seen.local_volumes)})"
        return _refuse(look, state, removal, why, notes)
    if not runs:
        lost = _lost(seen) if forced else ""
        look.done.append(f"{seen.node} {condition} and nothing runs on it: it is terminated{lost}")
        return _enter(look, state, named, RemovalPhase.TERMINATING)
    if late is not None and not forced:
        return _refuse(look, state, removal, late, notes)
    if notes.refused and not wishes.force:
        return _close(state, removal)  # another one stops the teardown: nothing more is emptied for it
    does = f"{seen.node} is emptied without regard to budgets and rules (--force){_lost(seen)}"
    look.done.append(does if forced else f"draining {seen.node}")
    drain = new_removal(look, instance, None, reason=TEARDOWN, phase=RemovalPhase.DRAINING, reclaim=forced)
    drain = msgspec.structs.replace(drain, node_name=seen.node)
    return open_removal(_close(state, removal), drain, counts_as_scale_down=False)


def _refuse(look: Look, state: State, removal: RemovalOperation, why: str, notes: Notes) -> State:
    notes.refuse(removal.instance_id, why, now_s=look.now_s)
    look.done.append(f"{removal.instance_id} stays: {why}")
    return _close(state, removal)


def _lost(seen: Inspection) -> str:
    """What goes with the machine, for the sentence that says so; empty where nothing does."""
    kinds = (("node-local volumes", seen.local_volumes), ("pods without a controller", seen.bare_pods))
    told = [f"{kind} ({_names(found)})" for kind, found in kinds if found.count]
    return f"; lost with it: {' and '.join(told)}" if told else ""


def _names(found: Found) -> str:
    more = found.count - len(found.names)
    return ", ".join(found.names) + (f" and {more} more" if more > 0 else "")


def _enter(look: Look, state: State, removal: RemovalOperation, phase: RemovalPhase) -> State:
    changed = enter_phase(removal, phase, now_s=look.now_s, fence=look.fence, not_after_s=look.start_by_s)
    return update_removal(state, removal.operation_id, lambda _: changed)


def _close(state: State, removal: RemovalOperation) -> State:
    return update_removal(state, removal.operation_id, lambda _: None)
