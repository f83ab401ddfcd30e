"""What a server's inspection says of a machine that is to end without a drain of its own.

Nothing is ended on absence: metrics nominate an orphan, a worker that stays NotReady or never joined, a Node whose
instance EC2 has forgotten; a server says what would be lost with it. *No such Node*, or *NotReady with nothing local*,
lets it go. Ready never does. Local volumes keep it and are named. No answer keeps it: it is asked again, elsewhere.
"""

from typing import Final

import msgspec

from autoscaler.decide.looking import INSTANCE_GONE, JOIN_TIMEOUT, TEARDOWN, Look
from autoscaler.decide.progress.sending import send_again
from autoscaler.model import CommandOutcome, CommandResult, Inspection, RemovalOperation, RemovalPhase, State
from autoscaler.state.transitions import enter_phase, remember_refusal, removal_ended, update_removal, worker_joined

ANSWER_HOLDS_S: Final = 600
"""An answer to a question that was asked longer ago, before a pause perhaps, says nothing about now."""


def judge_inspection(look: Look, state: State, removal: RemovalOperation) -> State:
    """Let the machine go, keep it, or wait for an answer."""
    if removal.reason == TEARDOWN:
        # Nothing was begun but a question, and whoever resumed the cluster keeps it: repair asks by its own rules.
        look.events.append(f"{_title(removal)} stays: the teardown that asked about it was given up")
        return update_removal(state, removal.operation_id, lambda _: None)
    result = answer_of(look, removal)
    if result is not None and result.outcome is CommandOutcome.NO_SUCH_NODE:
        look.events.append(f"{_title(removal)}: a server knows no Node of it")
        return _let_go(look, state, removal, None)
    if result is None or result.outcome is not CommandOutcome.SUCCEEDED or result.inspection is None:
        return send_again(look, state, removal, result)
    seen = result.inspection
    if seen.ready:
        if removal.reason == JOIN_TIMEOUT:
            state = worker_joined(state)  # it was counted among those that did not come
        return _keep(look, state, removal, f"a server says that its Node {seen.node} is Ready")
    if seen.local_volumes.count:
        names = ", ".join(seen.local_volumes.names)
        return _keep(look, state, removal, f"{seen.local_volumes.count} node-local volumes live on it ({names})")
    look.events.append(f"{_title(removal)}: a server says that it is NotReady and holds nothing that stays")
    return _let_go(look, state, removal, seen)


def answer_of(look: Look, removal: RemovalOperation, *, holds_s: int = ANSWER_HOLDS_S) -> CommandResult | None:
    """What a server said to the removal's question; None while it said nothing.

    FAILED for an answer to a question that was asked more than `holds_s` ago, and for a success that shows nothing.
    """
    result = look.commands.get(removal.operation_id)
    if removal.command is not None and look.now_s - removal.command.sent_at_s > holds_s:
        return CommandResult(outcome=CommandOutcome.FAILED, message="the answer is too old")
    if result is not None and result.outcome is CommandOutcome.SUCCEEDED and result.inspection is None:
        return CommandResult(outcome=CommandOutcome.FAILED, message="the inspection did not come back")
    return result


def _let_go(look: Look, state: State, removal: RemovalOperation, seen: Inspection | None) -> State:
    if removal.reason != INSTANCE_GONE:
        return _goes_on(look, state, removal, RemovalPhase.TERMINATING, seen)
    if seen is None:
        return removal_ended(state, removal, now_s=look.now_s)
    return _goes_on(look, state, removal, RemovalPhase.DELETING, seen)


def _goes_on(
    look: Look, state: State, removal: RemovalOperation, phase: RemovalPhase, seen: Inspection | None
) -> State:
    """The Node that is deleted after is the one that was inspected, whatever its name was thought to be."""
    changed = enter_phase(removal, phase, now_s=look.now_s, fence=look.fence, not_after_s=look.start_by_s)
    if seen is not None:
        changed = msgspec.structs.replace(changed, node_name=seen.node)
    return update_removal(state, removal.operation_id, lambda _: changed)


def _keep(look: Look, state: State, removal: RemovalOperation, why: str) -> State:
    look.events.append(f"{_title(removal)} stays: {why}")
    state = remember_refusal(state, _title(removal), why, now_s=look.now_s, policy=look.policy)
    return update_removal(state, removal.operation_id, lambda _: None)


def _title(removal: RemovalOperation) -> str:
    return removal.node_name or removal.instance_id
