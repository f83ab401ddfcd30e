"""Pure `State -> State` functions: the only way in which the truth about what is under way changes."""

from collections.abc import Callable
from typing import Final, TypeVar

import msgspec

from autoscaler.model import CommandRef, LaunchOperation, Lease, RemovalOperation, RemovalPhase, Removed, State
from autoscaler.policy import Policy
from autoscaler.state.memory import MAX_REMOVED, no_longer_held, remember_refusal
from autoscaler.state.replacing import REPLACING

MAX_OPEN_OPERATIONS: Final = 50
"""At the limit nothing new is opened: the item stays far below its 64 KB."""
PROTECTED_FOR_S: Final = 86_400
HANDED_BACK_WITHIN_S: Final = 120
"""Until then the uncordon of a worker that is given back must have started, or it is sent anew."""
_FORWARD: Final[dict[RemovalPhase, frozenset[RemovalPhase]]] = {
    RemovalPhase.INSPECTING: frozenset({RemovalPhase.TERMINATING, RemovalPhase.DELETING}),
    RemovalPhase.DRAINING: frozenset(
        {RemovalPhase.DRAINED, RemovalPhase.UNCORDONING, RemovalPhase.TERMINATING, RemovalPhase.DELETING}
    ),
    RemovalPhase.DRAINED: frozenset({RemovalPhase.TERMINATING, RemovalPhase.UNCORDONING, RemovalPhase.DELETING}),
    RemovalPhase.TERMINATING: frozenset({RemovalPhase.DELETING, RemovalPhase.UNCORDONING}),
    RemovalPhase.DELETING: frozenset(),
    RemovalPhase.UNCORDONING: frozenset({RemovalPhase.DELETING}),
}
"""Phases only move forward. A worker that dies while it is emptied or uncordoned goes straight to `deleting`.

Out of `terminating` a worker comes back only while EC2 shows that nothing of a terminate has happened.
"""
_Operation = TypeVar("_Operation", LaunchOperation, RemovalOperation)


class ForbiddenTransition(ValueError):
    """A phase would move backwards: a fault of ours, never carried out."""


def lease_held_by_other(state: State, owner: str, now_s: int) -> bool:
    """Whether somebody else may be acting right now."""
    return state.lease is not None and state.lease.owner != owner and now_s < state.lease.expires_at_s


def take_lease(state: State, owner: str, expires_at_s: int) -> State:
    """Become the one who acts; every acquisition raises the fence by one."""
    return msgspec.structs.replace(state, lease=Lease(owner=owner, expires_at_s=expires_at_s), fence=state.fence + 1)


def outbid_fences(state: State, now_s: int) -> State:
    """Raise the fence above all that a Node can have seen: a restored or new state is behind its Nodes.

    Fences count acquisitions of the lease, or were raised like this before; there are fewer of those than seconds.
    """
    return msgspec.structs.replace(state, fence=max(state.fence, now_s))


def release_lease(state: State, owner: str) -> State:
    """Let go, if it is still ours to let go."""
    if state.lease is None or state.lease.owner != owner:
        return state
    return msgspec.structs.replace(state, lease=None)


def open_operations(state: State) -> int:
    """How many operations are under way."""
    return len(state.launches) + len(state.removals)


def open_launch(state: State, operation: LaunchOperation) -> State:
    """Add the intent, with its complete request, before its effect. What only replaces a worker is no scale-up."""
    state = msgspec.structs.replace(state, launches=(*state.launches, operation))
    if operation.reason in REPLACING:
        return state
    return msgspec.structs.replace(state, last_scale_up_s=operation.created_at_s)


def update_launch(
    state: State, operation_id: str, change: Callable[[LaunchOperation], LaunchOperation | None]
) -> State:
    """Apply `change` to one launch; None closes it. Unknown ids change nothing: somebody else closed it."""
    return msgspec.structs.replace(state, launches=_update(state.launches, operation_id, change))


def launch_landed(state: State, operation_id: str, instance_ids: tuple[str, ...]) -> State:
    """EC2 answered: ids accumulate, and what it did not give is no longer expected (a fresh look may ask anew)."""

    def change(operation: LaunchOperation) -> LaunchOperation | None:
        ids = tuple(dict.fromkeys((*operation.instance_ids, *instance_ids)))
        if not ids:
            return None
        return msgspec.structs.replace(operation, instance_ids=ids, landed=True, unidentified=0)

    return update_launch(state, operation_id, change)


def open_removal(state: State, operation: RemovalOperation, *, counts_as_scale_down: bool) -> State:
    """Add the intent before its first command. One that counts is a scale-down once something goes, not now."""
    operation = msgspec.structs.replace(operation, scale_down=counts_as_scale_down)
    return msgspec.structs.replace(state, removals=(*state.removals, operation))


def began_to_go(state: State, removal: RemovalOperation, *, now_s: int) -> State:
    """Pods or a worker really went: from now on the use is another one. A refusal that changed nothing is none."""
    return msgspec.structs.replace(state, last_scale_down_s=now_s) if removal.scale_down else state


def undone(state: State, removal: RemovalOperation, *, now_s: int) -> State:
    """Pods or room had gone, and the worker is needed or cannot go after all: the next removal waits its cool-down."""
    state = began_to_go(state, removal, now_s=now_s)
    return msgspec.structs.replace(state, last_undone_s=now_s) if removal.scale_down else state


def update_removal(
    state: State, operation_id: str, change: Callable[[RemovalOperation], RemovalOperation | None]
) -> State:
    """Apply `change` to one removal; None closes it."""
    return msgspec.structs.replace(state, removals=_update(state.removals, operation_id, change))


def enter_phase(
    operation: RemovalOperation, phase: RemovalPhase, *, now_s: int, fence: int, not_after_s: int, failure: str = ""
) -> RemovalOperation:
    """Move one removal forward: a new phase has no command yet. Raises ForbiddenTransition."""
    if phase not in _FORWARD[operation.phase]:
        raise ForbiddenTransition(f"removal {operation.operation_id} may not go from {operation.phase} to {phase}")
    return msgspec.structs.replace(
        operation,
        phase=phase,
        phase_since_s=now_s,
        fence=fence,
        not_after_s=not_after_s,
        held_since_s=None,
        command=None,
        attempts=0,
        failure=failure or operation.failure,
        told_failure="",
        retry_at_s=None,
    )


def command_sent(state: State, operation_id: str, phase: RemovalPhase, command: CommandRef) -> State:
    """Remember where the result is asked for, unless the operation has moved on meanwhile."""

    def change(operation: RemovalOperation) -> RemovalOperation:
        if operation.phase is not phase:
            return operation
        return msgspec.structs.replace(operation, command=command, told_failure="")

    return update_removal(state, operation_id, change)


def hand_back(state: State, operation_id: str, why: str, *, now_s: int, policy: Policy) -> State:
    """Give a worker back that EC2 refuses to end: nothing of a terminate that is refused like this can happen later.

    Each further try would move its pods for nothing, and the protection is a person's will: it is asked again in a day.
    """
    operation = next((o for o in state.removals if o.operation_id == operation_id), None)
    if operation is None or operation.phase is not RemovalPhase.TERMINATING:
        return state
    title = operation.node_name or operation.instance_id
    state = remember_refusal(state, title, why, now_s=now_s, policy=policy, at_least_s=PROTECTED_FOR_S, by_ec2=True)
    state = undone(state, operation, now_s=now_s)
    returning = enter_phase(
        operation,
        RemovalPhase.UNCORDONING,
        now_s=now_s,
        fence=state.fence,
        not_after_s=now_s + HANDED_BACK_WITHIN_S,
        failure=why,
    )
    return update_removal(state, operation_id, lambda _: returning if operation.node_name else None)


def failure_told(state: State, operation_id: str, cause: str) -> State:
    """Remember that people know of this failure of an operation; an empty cause: it is over."""
    state = update_launch(state, operation_id, lambda o: msgspec.structs.replace(o, told_failure=cause))
    return update_removal(state, operation_id, lambda o: msgspec.structs.replace(o, told_failure=cause))


def not_ended(state: State, operation: RemovalOperation, *, retry_at_s: int) -> State:
    """EC2 did not end the machine: once more, and not before that time."""

    def change(current: RemovalOperation) -> RemovalOperation:
        if current.phase is not operation.phase:
            return current
        return msgspec.structs.replace(current, attempts=operation.attempts + 1, retry_at_s=retry_at_s)

    return update_removal(state, operation.operation_id, change)


def end_taken(state: State, operation_id: str) -> State:
    """EC2 took the call to end the machine: what failed before it is over."""
    return update_removal(
        state, operation_id, lambda o: msgspec.structs.replace(o, told_failure="", attempts=0, retry_at_s=None)
    )


def removal_ended(state: State, removal: RemovalOperation, *, now_s: int) -> State:
    """Close a removal whose machine is gone, and remember it: metrics may show its Node for a while yet."""
    others = tuple(r for r in state.removed if r.instance_id != removal.instance_id)
    state = no_longer_held(state, removal.node_name or removal.instance_id)
    ended = Removed(instance_id=removal.instance_id, ended_at_s=now_s)
    state = msgspec.structs.replace(state, removed=(*others, ended)[-MAX_REMOVED:])
    return update_removal(state, removal.operation_id, lambda _: None)


def _update(
    operations: tuple[_Operation, ...], operation_id: str, change: Callable[[_Operation], _Operation | None]
) -> tuple[_Operation, ...]:
    changed = ((change(o) if o.operation_id == operation_id else o) for o in operations)
    return tuple(o for o in changed if o is not None)
