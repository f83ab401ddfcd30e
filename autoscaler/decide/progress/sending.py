"""Node commands that ended without their effect go out again, to the next server."""

from typing import Final

import msgspec

from autoscaler.decide.looking import Look
from autoscaler.model import CommandOutcome, CommandResult, RemovalOperation, State
from autoscaler.state.transitions import update_removal

GRACE_AFTER_DRAIN_S: Final = 60
"""The document's execution time-out exceeds the drain's by this much."""


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
        wait = may_end and look.now_s - command.sent_at_s <= look.policy.drain.timeout_s + 2 * GRACE_AFTER_DRAIN_S
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
