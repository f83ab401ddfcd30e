"""The moves of a removal that more than one of its phases makes."""

import msgspec

from autoscaler.decide.looking import Look, new_removal
from autoscaler.model import Instance, RemovalOperation, RemovalPhase, State
from autoscaler.state.transitions import enter_phase, open_removal, update_removal


def terminate(look: Look, state: State, removal: RemovalOperation, *, although: str = "") -> State:
    """Intend to end the machine; `although`: what its drain failed by, where that is overruled."""
    changed = enter_phase(
        removal,
        RemovalPhase.TERMINATING,
        now_s=look.now_s,
        fence=look.fence,
        not_after_s=look.start_by_s,
        failure=although,
    )
    return update_removal(state, removal.operation_id, lambda _: changed)


def uncordon(look: Look, state: State, removal: RemovalOperation, why: str) -> State:
    """Give the worker back to the scheduler; its higher fence stops a drain that still runs."""
    title = removal.node_name or removal.instance_id
    look.done.append(f"{title} is uncordoned: {why}" if removal.node_name else f"{title} stays: {why}")
    changed = enter_phase(
        removal,
        RemovalPhase.UNCORDONING,
        now_s=look.now_s,
        fence=look.fence,
        not_after_s=look.start_by_s,
        failure=why,
    )
    return update_removal(state, removal.operation_id, lambda _: changed if removal.node_name else None)


def drain_anew(look: Look, state: State, removal: RemovalOperation, why: str) -> State:
    """The same intent as a new operation: the script would only repeat the old one's result."""
    instance = look.instances.get(removal.instance_id)
    if instance is None:
        return state  # not listed: whether it is gone is being asked
    look.done.append(f"{removal.node_name}: {why}; it is drained anew")
    return _anew(look, state, removal, instance, RemovalPhase.DRAINING)


def ask_anew(look: Look, state: State, removal: RemovalOperation, instance: Instance, why: str) -> State:
    """The same question as a new operation: what led to it has not changed, and metrics need not lead to it again."""
    look.done.append(f"{removal.node_name or removal.instance_id}: {why}; it is asked anew")
    return _anew(look, state, removal, instance, RemovalPhase.INSPECTING)


def _anew(look: Look, state: State, removal: RemovalOperation, instance: Instance, phase: RemovalPhase) -> State:
    state = update_removal(state, removal.operation_id, lambda _: None)
    fresh = msgspec.structs.replace(
        new_removal(look, instance, None, reason=removal.reason, phase=phase, reclaim=removal.reclaim),
        node_name=removal.node_name,
        provider_id=removal.provider_id,
        due_at_s=removal.due_at_s,
    )
    return open_removal(state, fresh, counts_as_scale_down=removal.scale_down)
