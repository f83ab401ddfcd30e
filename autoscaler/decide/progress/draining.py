"""What an observation says about a drain: it goes on, it is over, or the worker is given back."""

from collections.abc import Mapping
from typing import Final

from autoscaler.decide.looking import Look
from autoscaler.decide.progress.moves import drain_anew, terminate, uncordon
from autoscaler.decide.progress.present import SHOWN_AFTER_S, UNSEEN, WORD_HOLDS_S, against_drained, is_out_of_date
from autoscaler.decide.progress.sending import GRACE_AFTER_DRAIN_S, LATE_RULE, result_of, send_again
from autoscaler.model import CommandOutcome, CommandResult, RemovalOperation, RemovalPhase, State
from autoscaler.state.memory import remember_refusal
from autoscaler.state.transitions import began_to_go, enter_phase, undone, update_removal

SEND_ATTEMPTS: Final = 5
"""Deliveries of one drain before it is given up; uncordon, delete-node, inspect and the drain of a machine that EC2
takes away never are."""
NEARLY_UP_S: Final = 15
"""A machine that EC2 takes away is ended this long before, so that its Node goes with it."""
ADMISSION_RULE: Final = "admission"
"""The script's rule for what an admission policy denied: judged anew by each copy of the command."""
AGAIN_AFTER_S: Final = 30
"""How soon a reclaim that found no Node looks for it again."""

_TRY_AGAIN: Final = frozenset({CommandOutcome.UNDELIVERED, CommandOutcome.API_UNREACHABLE})
_STANDS: Final = frozenset({CommandOutcome.TIMED_OUT, CommandOutcome.BLOCKED_BY_BUDGET, CommandOutcome.FENCED_OFF})
"""Ends of a drain that the script repeats to the same operation, and that a new one may better."""
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
_NOT_CORDONED: Final = frozenset({CommandOutcome.REFUSED, CommandOutcome.NO_SUCH_NODE, CommandOutcome.FENCED_OFF})
"""There is nothing to give back: it was never cordoned, or is another command's by now."""


def advance_drain(look: Look, state: State, removal: RemovalOperation, wanted_back: Mapping[str, str]) -> State:
    """Move a removal whose worker is drained, or was just now."""
    instance = look.instances.get(removal.instance_id)
    if instance is not None and not instance.managed:
        why = "it does not carry the tags of ours any more"
        state = remember_refusal(state, removal.node_name, why, now_s=look.now_s, policy=look.policy)
        return uncordon(look, state, removal, why)
    if removal.reclaim and is_out_of_date(look, removal):
        return uncordon(look, state, removal, "EC2 did not take it at the time that it gave notice of")
    needed = None if removal.reclaim else wanted_back.get(removal.operation_id)
    if needed is not None:
        # Were they its own pods, that fit nowhere else, the next shrink would only begin the same again.
        state = remember_refusal(
            state, removal.node_name, f"taken back, {needed}", now_s=look.now_s, policy=look.policy
        )
        return uncordon(look, undone(state, removal, now_s=look.now_s), removal, needed)
    if removal.phase is RemovalPhase.DRAINED:
        return _drained(look, state, removal, since_s=removal.phase_since_s) or terminate(look, state, removal)
    if removal.command is None:
        return _unsent(look, state, removal)
    result = result_of(look, removal)
    if result is None or result.outcome is CommandOutcome.RUNNING:
        if look.now_s <= _silent_after_s(look, removal):
            return state
        # Not a drain that took too long: it may have been refused, for a volume perhaps. `force` does not cover it.
        result = CommandResult(outcome=CommandOutcome.FAILED, message="the drain never reported")
    return _judge(look, state, removal, result)


def _silent_after_s(look: Look, removal: RemovalOperation) -> int:
    sent_at_s = removal.command.sent_at_s if removal.command is not None else removal.phase_since_s
    begins_s = sent_at_s if removal.reclaim else removal.not_after_s
    return begins_s + look.policy.drain_timeout_s(reclaim=removal.reclaim) + GRACE_AFTER_DRAIN_S


def _unsent(look: Look, state: State, removal: RemovalOperation) -> State:
    if removal.reclaim and _is_nearly_up(look, removal):
        return terminate(look, state, removal)
    if removal.reclaim or removal.attempts < SEND_ATTEMPTS:
        return send_again(look, state, removal, None)
    never = CommandResult(outcome=CommandOutcome.UNDELIVERED, message="no server took the command")
    return _failed(look, state, removal, never)


def _judge(look: Look, state: State, removal: RemovalOperation, result: CommandResult) -> State:
    if result.outcome is CommandOutcome.SUCCEEDED:
        return _succeeded(look, state, removal, result)
    if removal.reclaim:
        return _reclaim_failed(look, state, removal, result)
    again = result.outcome in _TRY_AGAIN or result.rule == LATE_RULE
    if again and removal.attempts + 1 < SEND_ATTEMPTS:
        return send_again(look, state, removal, result)
    return _failed(look, state, removal, result)


def _succeeded(look: Look, state: State, removal: RemovalOperation, result: CommandResult) -> State:
    sent_at_s = removal.command.sent_at_s if removal.command is not None else removal.phase_since_s
    instead = _drained(look, state, removal, since_s=sent_at_s if result.ended_at_s is None else result.ended_at_s)
    if instead is not None:
        return instead
    look.done.append(f"{removal.node_name} is drained ({result.evicted_pods} pods evicted)")
    drained = enter_phase(
        removal, RemovalPhase.DRAINED, now_s=look.now_s, fence=removal.fence, not_after_s=removal.not_after_s
    )
    state = update_removal(state, removal.operation_id, lambda _: drained)
    state = began_to_go(state, drained, now_s=look.now_s)
    return terminate(look, state, drained)


def _drained(look: Look, state: State, removal: RemovalOperation, *, since_s: int) -> State | None:
    """What follows where the present look does not bear out that it is drained; None where it does."""
    if removal.reclaim:
        return None
    why = against_drained(look, removal, since_s=since_s)
    holds_s = WORD_HOLDS_S if why == UNSEEN else SHOWN_AFTER_S
    if why is not None and look.now_s - since_s > holds_s:
        state = remember_refusal(state, removal.node_name, why, now_s=look.now_s, policy=look.policy)
        return uncordon(look, undone(state, removal, now_s=look.now_s), removal, why)
    if why is not None or look.asks_rooms:
        return state  # it is not seen for a while; or the metrics are older than the cordon, or the last eviction
    return None


def _is_nearly_up(look: Look, removal: RemovalOperation) -> bool:
    """Whether EC2 takes it now: no more can be moved."""
    return removal.due_at_s is not None and removal.due_at_s - look.now_s <= NEARLY_UP_S


def _reclaim_failed(look: Look, state: State, removal: RemovalOperation, result: CommandResult) -> State:
    """EC2 takes it whatever we do. Until its time is nearly up each further try may still move a pod.

    Where nobody said when, a drain that failed for good was the last try.
    """
    why = _words(result)
    judged_anew = result.rule in {LATE_RULE, ADMISSION_RULE}
    if result.outcome is CommandOutcome.REFUSED and not judged_anew and removal.due_at_s is not None:
        return state  # another machine has its name, or it is a server: whatever it is, EC2 takes it without us
    stands = result.outcome in _STANDS
    undone = result.outcome in _TRY_AGAIN or judged_anew or result.outcome is CommandOutcome.FENCED_OFF
    if _is_nearly_up(look, removal) or (removal.due_at_s is None and not undone):
        look.done.append(f"{removal.node_name}: {why}; EC2 takes it now")
        return terminate(look, state, removal)
    sent_at_s = removal.command.sent_at_s if removal.command is not None else look.now_s
    if result.outcome is CommandOutcome.NO_SUCH_NODE:
        # It has not registered, or not under that name: there is nothing to drain yet.
        if look.now_s - sent_at_s < AGAIN_AFTER_S:
            return state
        stands = True
    if stands:
        return drain_anew(look, state, removal, why)
    return send_again(look, state, removal, result)


def _failed(look: Look, state: State, removal: RemovalOperation, result: CommandResult) -> State:
    why = _words(result)
    look.done.append(f"{removal.node_name}: {why}")
    if look.policy.drain.force and result.outcome is CommandOutcome.TIMED_OUT:
        return terminate(look, began_to_go(state, removal, now_s=look.now_s), removal, although=why)
    state = remember_refusal(state, removal.node_name, why, now_s=look.now_s, policy=look.policy)
    if _something_went(result):
        state = undone(state, removal, now_s=look.now_s)
    # Another copy of the command, whose answer was lost on its way to us, may be judged otherwise and cordon it yet.
    if result.outcome in _NOT_CORDONED and result.rule != ADMISSION_RULE:
        return update_removal(state, removal.operation_id, lambda _: None)
    return uncordon(look, state, removal, why)


def _words(result: CommandResult) -> str:
    detail = result.rule or result.message
    return f"drain {result.outcome.value}" + (f" ({detail})" if detail else "")


def _something_went(result: CommandResult) -> bool:
    """Whether a drain that failed may have moved pods."""
    return result.evicted_pods > 0 or result.outcome not in _NOTHING_WENT
