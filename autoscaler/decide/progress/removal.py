"""What an observation says about a removal that is under way.

`draining -> drained -> terminating -> deleting -> done`, or `-> uncordoning -> done` where the worker is given back.
What is not drained is inspected first (inspection.py).
"""

from collections.abc import Mapping
from typing import Final

import msgspec

from autoscaler.decide.looking import INSPECTED_FOR, INSTANCE_GONE, Look
from autoscaler.decide.progress.draining import advance_drain
from autoscaler.decide.progress.inspection import judge_inspection
from autoscaler.decide.progress.launch import SETTLE_S
from autoscaler.decide.progress.moves import ask_anew, uncordon
from autoscaler.decide.progress.present import STALE, UNSEEN, WORD_HOLDS_S, against_ending
from autoscaler.decide.progress.sending import result_of, send_again
from autoscaler.model import ALIVE, CommandOutcome, InstanceState, RemovalOperation, RemovalPhase, State
from autoscaler.state.memory import remember_refusal
from autoscaler.state.notices import STOPPED
from autoscaler.state.transitions import enter_phase, removal_ended, undone, update_removal

LANDED_BY_S: Final = 120
"""A terminate whose response was lost has taken effect by then, and shows."""

_STOPPED: Final = frozenset({InstanceState.STOPPING, InstanceState.STOPPED})


def advance_removal(look: Look, state: State, removal: RemovalOperation, *, wanted_back: Mapping[str, str]) -> State:
    """Move one removal as far as this look proves. `wanted_back`: operation id -> why its worker is needed."""
    removal = _by_its_name(look, removal)
    if removal.phase is RemovalPhase.DELETING:
        return _deleting(look, state, removal)
    instance = look.instances.get(removal.instance_id)
    if removal.reason == STOPPED and instance is not None and instance.state in ALIVE:
        look.done.append(f"{removal.node_name or removal.instance_id} was started again: it stays")
        return update_removal(state, removal.operation_id, lambda _: None)
    if removal.phase is RemovalPhase.INSPECTING and removal.reason == INSTANCE_GONE:
        return judge_inspection(look, state, removal)
    removal = _note_absence(look, removal)
    state = update_removal(state, removal.operation_id, lambda _: removal)
    if instance is not None and instance.state in _STOPPED:
        return _stopped(look, state, removal, wanted_back)
    if _gone(look, removal):
        return _after_death(look, state, removal)
    match removal.phase:
        case RemovalPhase.INSPECTING:
            return judge_inspection(look, state, removal)
        case RemovalPhase.TERMINATING:
            return _terminating(look, state, removal)
        case RemovalPhase.UNCORDONING:
            return _uncordoning(look, state, removal)
        case _:
            return advance_drain(look, state, removal, wanted_back)


def _by_its_name(look: Look, removal: RemovalOperation) -> RemovalOperation:
    """A Node that was not seen yet went by the name that workers register under; agent arguments may change it."""
    node = look.nodes.get(removal.instance_id)
    if node is None or node.name == removal.node_name:
        return removal
    return msgspec.structs.replace(removal, node_name=node.name, provider_id=node.provider_id)


def _gone(look: Look, removal: RemovalOperation) -> bool:
    """Whether EC2 says that the machine is ending, or was asked for it by id and has known of none for long enough."""
    instance = look.instances.get(removal.instance_id)
    if instance is not None:
        return instance.state not in ALIVE
    settled = removal.absent_since_s is not None and look.now_s - removal.absent_since_s >= SETTLE_S
    return settled and look.is_unknown_to_ec2(removal.instance_id)


def _note_absence(look: Look, removal: RemovalOperation) -> RemovalOperation:
    """An instance that is not listed may only be not listed *yet*: remember since when."""
    absent = removal.instance_id not in look.instances
    if absent == (removal.absent_since_s is not None):
        return removal
    return msgspec.structs.replace(removal, absent_since_s=look.now_s if absent else None)


def _stopped(look: Look, state: State, removal: RemovalOperation, wanted_back: Mapping[str, str]) -> State:
    """Nothing runs on it, its disks are there, and it may be started again: repair waits for that."""
    if removal.phase is RemovalPhase.INSPECTING:
        return judge_inspection(look, state, removal)
    if removal.phase is RemovalPhase.UNCORDONING:
        return _uncordoning(look, state, removal)
    if removal.phase is RemovalPhase.TERMINATING:
        return state
    if removal.reclaim:
        return uncordon(look, state, removal, "EC2 stopped it, and it may be started again")
    return advance_drain(look, state, removal, wanted_back)


def _after_death(look: Look, state: State, removal: RemovalOperation) -> State:
    """The Node goes only once the instance is seen terminated: earlier, its agent would register it again."""
    instance = look.instances.get(removal.instance_id)
    if instance is not None and instance.state is not InstanceState.TERMINATED:
        return state
    look.done.append(f"instance {removal.instance_id} is terminated")
    if not removal.node_name:
        return removal_ended(state, removal, now_s=look.now_s)
    changed = enter_phase(
        removal, RemovalPhase.DELETING, now_s=look.now_s, fence=look.fence, not_after_s=look.start_by_s
    )
    return update_removal(state, removal.operation_id, lambda _: changed)


def _terminating(look: Look, state: State, removal: RemovalOperation) -> State:
    """The machine still runs: what the step was decided on is looked at again before each try.

    What speaks against it holds the next try back at once. Given back the worker is only when the last try must have
    taken effect by then, had it reached EC2: else a machine that ends would count as one in use.
    """
    instance = look.instances.get(removal.instance_id)
    if instance is None:
        return state
    why = against_ending(look, removal, instance)
    if why is None:
        return _held(state, removal, None)
    title = removal.node_name or removal.instance_id
    if removal.held_since_s is None:
        look.done.append(f"{title} is not ended for now: {why}")
        return _held(state, removal, look.now_s)
    if look.now_s - removal.held_since_s <= (WORD_HOLDS_S if why == UNSEEN else LANDED_BY_S):
        return state
    if why == STALE:
        return ask_anew(look, state, removal, instance, why)
    state = remember_refusal(state, title, why, now_s=look.now_s, policy=look.policy)
    if removal.reason in INSPECTED_FOR:
        look.done.append(f"{title} stays: {why}")
        return update_removal(state, removal.operation_id, lambda _: None)
    return uncordon(look, undone(state, removal, now_s=look.now_s), removal, why)


def _held(state: State, removal: RemovalOperation, since_s: int | None) -> State:
    held = msgspec.structs.replace(removal, held_since_s=since_s)
    return update_removal(state, removal.operation_id, lambda _: held)


def _deleting(look: Look, state: State, removal: RemovalOperation) -> State:
    result = result_of(look, removal)
    if result is not None and result.outcome in {CommandOutcome.SUCCEEDED, CommandOutcome.NO_SUCH_NODE}:
        look.done.append(f"Node {removal.node_name} is deleted")
        return removal_ended(state, removal, now_s=look.now_s)
    unseen = look.snapshot.cluster_known and all(n.name != removal.node_name for n in look.snapshot.nodes)
    if removal.command is None and unseen:
        look.done.append(f"Node {removal.node_name} is gone")
        return removal_ended(state, removal, now_s=look.now_s)
    return send_again(look, state, removal, result)


def _uncordoning(look: Look, state: State, removal: RemovalOperation) -> State:
    result = result_of(look, removal)
    if result is not None and result.outcome in {CommandOutcome.SUCCEEDED, CommandOutcome.NO_SUCH_NODE}:
        return update_removal(state, removal.operation_id, lambda _: None)
    return send_again(look, state, removal, result)
