"""What a server's inspection says of a machine that is to end without a drain of its own.

Nothing is ended on absence: metrics nominate an orphan, a worker that stays NotReady, is stopped or never joined, a
Node whose instance EC2 has forgotten; a server says what would be lost with it. *No such Node*, or *NotReady with
nothing local*, lets it go. Ready never does. Local volumes keep it and are named. No answer keeps it: it is asked
again, elsewhere.
"""

from typing import Final

import msgspec

from autoscaler.decide.looking import INSTANCE_GONE, JOIN_TIMEOUT, TEARDOWN, Look, maybe_its_node
from autoscaler.decide.progress.sending import LATE_RULE, SILENCE_IS_NEWS_AFTER, result_of, send_again
from autoscaler.model import (
    CommandOutcome,
    CommandResult,
    Inspection,
    InstanceState,
    Node,
    RemovalOperation,
    RemovalPhase,
    State,
)
from autoscaler.state.memory import remember_refusal, worker_joined
from autoscaler.state.transitions import enter_phase, removal_ended, update_removal
from autoscaler.state.zones import joined_in

ANSWER_HOLDS_S: Final = 180
"""An answer to a question that was asked longer ago, before a pause perhaps, says nothing about now: to ask again costs
nothing. Beyond a sweep's interval, for the event of its completion may be lost."""


def judge_inspection(look: Look, state: State, removal: RemovalOperation) -> State:
    """Let the machine go, keep it, or wait for an answer."""
    if removal.reason == TEARDOWN:
        # Nothing was begun but a question, and whoever resumed the cluster keeps it: repair asks by its own rules.
        look.done.append(f"{_title(removal)} stays: the teardown that asked about it was given up")
        return update_removal(state, removal.operation_id, lambda _: None)
    if removal.reason == INSTANCE_GONE and (lives := _lives_after_all(look, removal)) is not None:
        return _keep(look, state, removal, lives)
    instance = look.instances.get(removal.instance_id)
    if removal.reason != INSTANCE_GONE and instance is not None and not instance.managed:
        return _keep(look, state, removal, "it does not carry the tags of ours any more")
    if (node := _ready_now(look, removal)) is not None:
        return _keep_ready(look, state, removal, f"its Node {node.name} is Ready")
    result = answer_of(look, removal)
    if result is None:
        return send_again(look, state, removal, None)
    if result.outcome is CommandOutcome.NO_SUCH_NODE:
        return _without_node(look, state, removal)
    if result.outcome is CommandOutcome.REFUSED and result.rule != LATE_RULE:
        return _keep(look, state, removal, f"a server refused to judge it: {result.message or result.rule}")
    if result.inspection is None:
        return _ask_again(look, state, removal, result)
    return _judge(look, state, removal, result.inspection)


def answer_of(look: Look, removal: RemovalOperation, *, holds_s: int = ANSWER_HOLDS_S) -> CommandResult | None:
    """What a server said to the removal's question; None while it said nothing.

    FAILED for an answer to a question that was asked more than `holds_s` ago, and for a success that shows nothing.
    """
    if removal.command is not None and look.now_s - removal.command.sent_at_s > holds_s:
        return CommandResult(outcome=CommandOutcome.FAILED, message="the answer is too old")
    result = result_of(look, removal)
    if result is not None and result.outcome is CommandOutcome.SUCCEEDED and result.inspection is None:
        return CommandResult(outcome=CommandOutcome.FAILED, message="the inspection did not come back")
    return result


def _ready_now(look: Look, removal: RemovalOperation) -> Node | None:
    """Its Node, if this look shows it Ready: a server may have been asked before that, and before a pause."""
    node = look.nodes.get(removal.instance_id)
    return node if look.snapshot.cluster_known and node is not None and node.ready is True else None


def _keep_ready(look: Look, state: State, removal: RemovalOperation, why: str) -> State:
    if removal.reason == JOIN_TIMEOUT:
        state = worker_joined(state)  # it was counted among those that did not come
        if (instance := look.instances.get(removal.instance_id)) is not None:
            state = joined_in(state, instance.zone, now_s=look.now_s)
    return _keep(look, state, removal, why)


def _judge(look: Look, state: State, removal: RemovalOperation, seen: Inspection) -> State:
    if seen.ready:
        return _keep_ready(look, state, removal, f"a server says that its Node {seen.node} is Ready")
    if seen.local_volumes.count:
        names = ", ".join(seen.local_volumes.names)
        return _keep(look, state, removal, f"{seen.local_volumes.count} node-local volumes live on it ({names})")
    gone = removal.reason == INSTANCE_GONE
    if gone and not look.is_unknown_to_ec2(removal.instance_id) and not _is_dead(look, removal):
        return state  # EC2 has to be asked by id first
    look.done.append(f"{_title(removal)}: a server says that it is NotReady and holds nothing that stays")
    named = msgspec.structs.replace(removal, node_name=seen.node)
    return _enter(look, state, named, RemovalPhase.DELETING if gone else RemovalPhase.TERMINATING)


def _without_node(look: Look, state: State, removal: RemovalOperation) -> State:
    instance = look.instances.get(removal.instance_id)
    if removal.reason != INSTANCE_GONE and instance is not None:
        nameless = maybe_its_node(look.snapshot.nodes, instance)
        if nameless is not None:
            return _keep(look, state, removal, f"Node {nameless} has no EC2 provider-id and may be this instance")
    look.done.append(f"{_title(removal)}: a server knows no Node of it")
    if removal.reason == INSTANCE_GONE:
        return removal_ended(state, removal, now_s=look.now_s)
    return _enter(look, state, removal, RemovalPhase.TERMINATING)


def _lives_after_all(look: Look, removal: RemovalOperation) -> str | None:
    """Why a Node stays whose instance the cluster's tag does not list; None where EC2 knows no living one."""
    instance = look.instances.get(removal.instance_id)
    if instance is None or instance.state is InstanceState.TERMINATED:
        return None
    return f"EC2 knows {removal.instance_id} ({instance.state.value}), without the tags of this cluster's workers"


def _is_dead(look: Look, removal: RemovalOperation) -> bool:
    instance = look.instances.get(removal.instance_id)
    return instance is not None and instance.state is InstanceState.TERMINATED


def _ask_again(look: Look, state: State, removal: RemovalOperation, result: CommandResult) -> State:
    """No answer, or none that is understood, ends nothing; that it stays away is news once."""
    if removal.attempts + 1 == SILENCE_IS_NEWS_AFTER:
        look.done.append(f"{_title(removal)} stays: no server says what it holds, asked {SILENCE_IS_NEWS_AFTER} times")
        look.news = True
    return send_again(look, state, removal, result)


def _enter(look: Look, state: State, removal: RemovalOperation, phase: RemovalPhase) -> State:
    changed = enter_phase(removal, phase, now_s=look.now_s, fence=look.fence, not_after_s=look.start_by_s)
    return update_removal(state, removal.operation_id, lambda _: changed)


def _keep(look: Look, state: State, removal: RemovalOperation, why: str) -> State:
    look.done.append(f"{_title(removal)} stays: {why}")
    state = remember_refusal(state, _title(removal), why, now_s=look.now_s, policy=look.policy)
    return update_removal(state, removal.operation_id, lambda _: None)


def _title(removal: RemovalOperation) -> str:
    return removal.node_name or removal.instance_id
