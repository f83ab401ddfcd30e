"""What a server's inspection says of a machine that is to end without a drain of its own.

Nothing is ended on absence: metrics nominate an orphan, a worker that stays NotReady or never joined, a Node whose
instance EC2 has forgotten; a server says what would be lost with it. *No such Node*, or *NotReady with nothing local*,
lets it go. Ready never does. Local volumes keep it and are named. No answer keeps it: it is asked again, elsewhere.
"""

from typing import Final

from autoscaler.decide.looking import INSTANCE_GONE, JOIN_TIMEOUT, Look
from autoscaler.decide.progress.sending import send_again
from autoscaler.model import CommandOutcome, CommandResult, RemovalOperation, RemovalPhase, State
from autoscaler.state.memory import remember_refusal, worker_joined
from autoscaler.state.transitions import enter_phase, removal_ended, update_removal

ANSWER_HOLDS_S: Final = 600
"""An answer to a question that was asked longer ago, before a pause perhaps, says nothing about now."""


def judge_inspection(look: Look, state: State, removal: RemovalOperation) -> State:
    """Let the machine go, keep it, or wait for an answer."""
    result = look.commands.get(removal.operation_id)
    if removal.command is not None and look.now_s - removal.command.sent_at_s > ANSWER_HOLDS_S:
        result = CommandResult(outcome=CommandOutcome.FAILED, message="the answer is too old")
    if result is not None and result.outcome is CommandOutcome.NO_SUCH_NODE:
        look.events.append(f"{_title(removal)}: a server knows no Node of it")
        return _let_go(look, state, removal)
    if result is None or result.outcome is not CommandOutcome.SUCCEEDED or result.inspection is None:
        return send_again(look, state, removal, _unanswered(result))
    seen = result.inspection
    if seen.ready:
        if removal.reason == JOIN_TIMEOUT:
            state = worker_joined(state)  # it was counted among those that did not come
        return _keep(look, state, removal, f"a server says that its Node {seen.node} is Ready")
    if seen.local_volumes.count:
        names = ", ".join(seen.local_volumes.names)
        return _keep(look, state, removal, f"{seen.local_volumes.count} node-local volumes live on it ({names})")
    look.events.append(f"{_title(removal)}: a server says that it is NotReady and holds nothing that stays")
    return _let_go(look, state, removal)


def _unanswered(result: CommandResult | None) -> CommandResult | None:
    """A success without what was asked for is no answer either."""
    if result is not None and result.outcome is CommandOutcome.SUCCEEDED:
        return CommandResult(outcome=CommandOutcome.FAILED, message="the inspection did not come back")
    return result


def _let_go(look: Look, state: State, removal: RemovalOperation) -> State:
    if removal.reason != INSTANCE_GONE:
        return _goes_on(look, state, removal, RemovalPhase.TERMINATING)
    result = look.commands.get(removal.operation_id)
    if result is not None and result.outcome is CommandOutcome.NO_SUCH_NODE:
        return removal_ended(state, removal, now_s=look.now_s)
    return _goes_on(look, state, removal, RemovalPhase.DELETING)


def _goes_on(look: Look, state: State, removal: RemovalOperation, phase: RemovalPhase) -> State:
    changed = enter_phase(removal, phase, now_s=look.now_s, fence=look.fence, not_after_s=look.start_by_s)
    return update_removal(state, removal.operation_id, lambda _: changed)


def _keep(look: Look, state: State, removal: RemovalOperation, why: str) -> State:
    look.events.append(f"{_title(removal)} stays: {why}")
    state = remember_refusal(state, _title(removal), why, now_s=look.now_s, policy=look.policy)
    return update_removal(state, removal.operation_id, lambda _: None)


def _title(removal: RemovalOperation) -> str:
    return removal.node_name or removal.instance_id
