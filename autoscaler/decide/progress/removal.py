"""What an observation says about a removal that is under way.

`draining -> drained -> terminating -> deleting -> done`, or from the first two `-> uncordoning -> done`; never back.
What is not drained is inspected first (inspection.py).
"""

from collections.abc import Mapping
from typing import Final

import msgspec

from autoscaler.decide.looking import INSTANCE_GONE, Look, new_removal
from autoscaler.decide.progress.inspection import judge_inspection
from autoscaler.decide.progress.launch import SETTLE_S
from autoscaler.decide.progress.sending import GRACE_AFTER_DRAIN_S, send_again
from autoscaler.model import (
    ALIVE,
    CommandOutcome,
    CommandRef,
    CommandResult,
    InstanceState,
    Node,
    RemovalOperation,
    RemovalPhase,
    State,
)
from autoscaler.state.transitions import (
    STOPPED,
    began_to_go,
    enter_phase,
    open_removal,
    remember_refusal,
    removal_ended,
    update_removal,
)

SEND_ATTEMPTS: Final = 5
"""Deliveries of one drain before it is given up; uncordon, delete-node and the drain of a machine that EC2 takes away
never are."""
LATE_RULE: Final = "late"
"""The script's rule for a command that came after its not-after time: nothing was judged and nothing happened."""

WORD_HOLDS_S: Final = 900
"""A success is believed for the drain's time-out and this long after it was sent; later it is history."""
SHOWN_AFTER_S: Final = 120
"""Metrics have shown a change by then, also where they are scraped every 30 s."""

_TRY_AGAIN: Final = frozenset({CommandOutcome.UNDELIVERED, CommandOutcome.API_UNREACHABLE})
_NOTHING_WENT: Final = frozenset(
    {
        CommandOutcome.REFUSED,
        CommandOutcome.NO_SUCH_NODE,
        CommandOutcome.UNDELIVERED,
        CommandOutcome.FENCED_OFF,
        CommandOutcome.BLOCKED_BY_BUDGET,
    }
)
"""Failures of a drain that moved nothing, unless they tell of evicted pods: each may come in the middle as well."""
_NOTHING_HAPPENED: Final = frozenset({CommandOutcome.REFUSED, CommandOutcome.NO_SUCH_NODE})


def advance_removal(look: Look, state: State, removal: RemovalOperation, *, wanted_back: Mapping[str, str]) -> State:
    """Move one removal as far as this look proves. `wanted_back`: operation id -> why its worker is needed."""
    removal = _by_its_name(look, removal)
    if removal.phase is RemovalPhase.DELETING:
        return _deleting(look, state, removal)
    instance = look.instances.get(removal.instance_id)
    if removal.reason == STOPPED and instance is not None and instance.state in ALIVE:
        look.events.append(f"{removal.node_name} was started again: it stays")
        return update_removal(state, removal.operation_id, lambda _: None)
    if removal.phase is RemovalPhase.INSPECTING and removal.reason == INSTANCE_GONE:
        return judge_inspection(look, state, removal)
    removal = _note_absence(look, removal)
    state = update_removal(state, removal.operation_id, lambda _: removal)
    if _gone(look, removal):
        return _after_death(look, state, removal)
    if removal.phase is RemovalPhase.INSPECTING:
        return judge_inspection(look, state, removal)
    if removal.phase is RemovalPhase.TERMINATING:
        return state
    if removal.phase is RemovalPhase.UNCORDONING:
        return _uncordoning(look, state, removal)
    return _draining(look, state, removal, wanted_back)


def _by_its_name(look: Look, removal: RemovalOperation) -> RemovalOperation:
    """A Node that was not seen yet went by the name that workers register under; agent arguments may change it."""
    node = look.nodes.get(removal.instance_id)
    if node is None or node.name == removal.node_name:
        return removal
    return msgspec.structs.replace(removal, node_name=node.name, provider_id=node.provider_id)


def uncordon(look: Look, state: State, removal: RemovalOperation, why: str) -> State:
    """Give the worker back to the scheduler; its higher fence stops a drain that still runs."""
    look.events.append(f"{removal.node_name} is uncordoned: {why}")
    changed = enter_phase(
        removal,
        RemovalPhase.UNCORDONING,
        now_s=look.now_s,
        fence=look.fence,
        not_after_s=look.start_by_s,
        failure=why,
    )
    return update_removal(state, removal.operation_id, lambda _: changed)


def _gone(look: Look, removal: RemovalOperation) -> bool:
    instance = look.instances.get(removal.instance_id)
    if instance is not None:
        return instance.state not in ALIVE
    return removal.absent_since_s is not None and look.now_s - removal.absent_since_s >= SETTLE_S


def _note_absence(look: Look, removal: RemovalOperation) -> RemovalOperation:
    """An instance that is not listed may only be not listed *yet*: remember since when."""
    absent = removal.instance_id not in look.instances
    if absent == (removal.absent_since_s is not None):
        return removal
    return msgspec.structs.replace(removal, absent_since_s=look.now_s if absent else None)


def _after_death(look: Look, state: State, removal: RemovalOperation) -> State:
    """The Node goes only once the instance is seen terminated: earlier, its agent would register it again."""
    instance = look.instances.get(removal.instance_id)
    if instance is not None and instance.state is not InstanceState.TERMINATED:
        stopped = instance.state in {InstanceState.STOPPING, InstanceState.STOPPED}
        if stopped and removal.phase in {RemovalPhase.DRAINING, RemovalPhase.DRAINED}:
            return _terminate(look, state, removal)  # nothing runs on it any more
        if stopped and removal.phase is RemovalPhase.UNCORDONING:
            return _uncordoning(look, state, removal)  # it may be started again
        return state
    look.events.append(f"instance {removal.instance_id} is terminated")
    if not removal.node_name:
        return removal_ended(state, removal, now_s=look.now_s)
    changed = enter_phase(
        removal, RemovalPhase.DELETING, now_s=look.now_s, fence=look.fence, not_after_s=look.start_by_s
    )
    return update_removal(state, removal.operation_id, lambda _: changed)


def _deleting(look: Look, state: State, removal: RemovalOperation) -> State:
    result = look.commands.get(removal.operation_id)
    if result is not None and result.outcome in {CommandOutcome.SUCCEEDED, CommandOutcome.NO_SUCH_NODE}:
        look.events.append(f"Node {removal.node_name} is deleted")
        return removal_ended(state, removal, now_s=look.now_s)
    unseen = look.snapshot.cluster_known and all(n.name != removal.node_name for n in look.snapshot.nodes)
    if removal.command is None and unseen:
        look.events.append(f"Node {removal.node_name} is gone")
        return removal_ended(state, removal, now_s=look.now_s)
    return send_again(look, state, removal, result)


def _uncordoning(look: Look, state: State, removal: RemovalOperation) -> State:
    result = look.commands.get(removal.operation_id)
    if result is not None and result.outcome in {CommandOutcome.SUCCEEDED, CommandOutcome.NO_SUCH_NODE}:
        return update_removal(state, removal.operation_id, lambda _: None)
    return send_again(look, state, removal, result)


def _draining(look: Look, state: State, removal: RemovalOperation, wanted_back: Mapping[str, str]) -> State:
    result = look.commands.get(removal.operation_id)
    instance = look.instances.get(removal.instance_id)
    if instance is not None and not instance.managed:
        return uncordon(look, state, removal, "it does not carry the tags of ours any more")
    needed = None if removal.reclaim else wanted_back.get(removal.operation_id)
    if needed is not None:
        # Were they its own pods, that fit nowhere else, the next shrink would only begin the same again.
        state = remember_refusal(
            state, removal.node_name, f"taken back, {needed}", now_s=look.now_s, policy=look.policy
        )
        return uncordon(look, began_to_go(state, removal, now_s=look.now_s), removal, needed)
    if removal.phase is RemovalPhase.DRAINED:
        return _terminate(look, state, removal)
    if removal.command is None:
        if removal.attempts < SEND_ATTEMPTS or removal.reclaim:
            return send_again(look, state, removal, None)
        never = CommandResult(outcome=CommandOutcome.UNDELIVERED, message="no server took the command")
        return _drain_failed(look, state, removal, never)
    deadline_s = removal.not_after_s + look.policy.drain.timeout_s + GRACE_AFTER_DRAIN_S
    if result is None or result.outcome is CommandOutcome.RUNNING:
        if look.now_s <= deadline_s:
            return state
        # Not a drain that took too long: it may have been refused, for a volume perhaps. `force` does not cover it.
        silent = CommandResult(outcome=CommandOutcome.FAILED, message="the drain never reported")
        return _drain_failed(look, state, removal, silent)
    if result.outcome is CommandOutcome.SUCCEEDED:
        if not removal.reclaim:
            overtaken = _overtaken(look, state, removal, removal.command)
            if overtaken is not None:
                return overtaken
        look.events.append(f"{removal.node_name} is drained ({result.evicted_pods} pods evicted)")
        drained = enter_phase(
            removal, RemovalPhase.DRAINED, now_s=look.now_s, fence=removal.fence, not_after_s=removal.not_after_s
        )
        state = update_removal(state, removal.operation_id, lambda _: drained)
        state = began_to_go(state, drained, now_s=look.now_s)
        return _terminate(look, state, drained)
    if removal.reclaim and result.outcome is CommandOutcome.FENCED_OFF:
        return send_again(look, state, removal, result)  # with a higher fence: there is time to drain it
    may_try = removal.attempts + 1 < SEND_ATTEMPTS or removal.reclaim
    if (result.outcome in _TRY_AGAIN or result.rule == LATE_RULE) and may_try:
        return send_again(look, state, removal, result)
    return _drain_failed(look, state, removal, result)


def _overtaken(look: Look, state: State, removal: RemovalOperation, command: CommandRef) -> State | None:
    """What follows where the present look does not bear out that the drain succeeded; None where it does.

    A terminate cannot be taken back, and a success says how things were when it was reported: days ago, after a pause;
    or before a person uncordoned the Node. While the cluster is not known the server's own young word has to do.
    """
    age_s = look.now_s - command.sent_at_s
    node = look.nodes.get(removal.instance_id)
    if age_s > look.policy.drain.timeout_s + WORD_HOLDS_S:
        return _drain_anew(look, state, removal, node)
    if not look.snapshot.cluster_known or node is None:
        return None
    if node.cordoned is not True:
        if age_s <= SHOWN_AFTER_S:
            return state  # the metrics may be older than the cordon
        why = "somebody uncordoned it while it was drained"
        state = remember_refusal(state, removal.node_name, why, now_s=look.now_s, policy=look.policy)
        return uncordon(look, state, removal, why)
    if not look.snapshot.rooms_known:
        look.asks_rooms = True
        return state
    if node.movable:
        if age_s <= SHOWN_AFTER_S:
            return state  # the metrics may be older than the last eviction
        why = f"{node.movable} pods run there again"
        state = remember_refusal(state, removal.node_name, why, now_s=look.now_s, policy=look.policy)
        return uncordon(look, state, removal, why)
    return None


def _drain_anew(look: Look, state: State, removal: RemovalOperation, node: Node | None) -> State:
    """The same intent as a new operation: the script would only repeat the old one's result."""
    state = update_removal(state, removal.operation_id, lambda _: None)
    instance = look.instances.get(removal.instance_id)
    if instance is None or node is None:
        return state
    look.events.append(f"{removal.node_name}: that it was drained is too long ago; it is drained anew")
    fresh = new_removal(look, instance, node, reason=removal.reason, phase=RemovalPhase.DRAINING)
    fresh = msgspec.structs.replace(fresh, scale_down=removal.scale_down)
    return open_removal(state, fresh, counts_as_scale_down=False)


def _drain_failed(look: Look, state: State, removal: RemovalOperation, result: CommandResult) -> State:
    why = f"drain {result.outcome.value}" + (
        f" ({result.rule or result.message})" if result.rule or result.message else ""
    )
    look.events.append(f"{removal.node_name}: {why}")
    forced = look.policy.drain.force and result.outcome is CommandOutcome.TIMED_OUT
    if removal.reclaim or forced:
        return _terminate(look, began_to_go(state, removal, now_s=look.now_s), removal)
    state = remember_refusal(state, removal.node_name, why, now_s=look.now_s, policy=look.policy)
    if _something_went(result):
        state = began_to_go(state, removal, now_s=look.now_s)
    if result.outcome in _NOTHING_HAPPENED:
        return update_removal(state, removal.operation_id, lambda _: None)
    return uncordon(look, state, removal, why)


def _something_went(result: CommandResult) -> bool:
    """Whether a drain that failed may have moved pods."""
    return result.evicted_pods > 0 or result.outcome not in _NOTHING_WENT


def _terminate(look: Look, state: State, removal: RemovalOperation) -> State:
    changed = enter_phase(
        removal, RemovalPhase.TERMINATING, now_s=look.now_s, fence=look.fence, not_after_s=look.start_by_s
    )
    return update_removal(state, removal.operation_id, lambda _: changed)
