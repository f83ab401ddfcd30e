"""Node commands that ended without their effect, or whose server is gone, go out again, to the next server."""

from typing import Final

import msgspec

from autoscaler.decide.looking import Look
from autoscaler.model import ALIVE, CommandOutcome, CommandResult, RemovalOperation, RemovalPhase, State
from autoscaler.state.transitions import update_removal

GRACE_AFTER_DRAIN_S: Final = 60
"""The document's execution time-out exceeds the drain's by this much."""
INSPECTED_WITHIN_S: Final = 120
"""An inspection reads three lists: one that has not answered by then is asked for elsewhere."""
LATE_RULE: Final = "late"
"""The script's rule for a command that came after its not-after time: nothing was judged and nothing happened."""
SILENCE_IS_NEWS_AFTER: Final = 3
"""Questions without an answer, after which people hear of it."""


def result_of(look: Look, removal: RemovalOperation) -> CommandResult | None:
    """What is known of the command that the removal waits for; a server that is gone will say nothing more."""
    result = look.commands.get(removal.operation_id)
    if removal.command is None or (result is not None and result.outcome is not CommandOutcome.RUNNING):
        return result
    server_id = removal.command.server_id
    server = look.instances.get(server_id)
    gone = look.is_unknown_to_ec2(server_id) if server is None else server.state not in ALIVE
    if gone:
        return CommandResult(outcome=CommandOutcome.UNDELIVERED, message=f"the server {server_id} is gone")
    return result


def send_again(look: Look, state: State, removal: RemovalOperation, result: CommandResult | None) -> State:
    """A command that ended without its effect goes to the next server; one that may still end is waited for.

    The fence stays the phase's own: a higher one would stop the first copy, should it be running after all. Only what
    was itself fenced off (a state that was restored is behind its Nodes) goes out with the present fence.
    """
    command = removal.command
    if command is None:
        wait = look.now_s <= removal.not_after_s
    else:
        may_end = result is None or result.outcome is CommandOutcome.RUNNING
        wait = may_end and look.now_s - command.sent_at_s <= _answer_within_s(look, removal)
    if wait:
        return state
    fenced_off = result is not None and result.outcome is CommandOutcome.FENCED_OFF
    changed = msgspec.structs.replace(
        removal,
        command=None,
        attempts=removal.attempts + 1,
        not_after_s=look.start_by_s,
        fence=look.fence if fenced_off else removal.fence,
    )
    return update_removal(state, removal.operation_id, lambda _: changed)


def _answer_within_s(look: Look, removal: RemovalOperation) -> int:
    if removal.phase is RemovalPhase.INSPECTING:
        return INSPECTED_WITHIN_S
    return look.policy.drain_timeout_s(reclaim=removal.reclaim) + 2 * GRACE_AFTER_DRAIN_S
