"""Pure `State -> State` functions: the only way in which the truth about what is under way changes."""

from collections.abc import Callable, Container
from typing import Final, TypeVar

import msgspec

from autoscaler.model import (
    Backoff,
    CommandRef,
    JoinFailures,
    LaunchOperation,
    Lease,
    Mode,
    ModeSetting,
    Notice,
    OwnerLaunches,
    Pool,
    Refusal,
    RemovalOperation,
    RemovalPhase,
    Removed,
    State,
)
from autoscaler.policy import Policy

MAX_OPEN_OPERATIONS: Final = 50
"""At the limit nothing new is opened: the item stays far below its 64 KB."""
MAX_NOTICES: Final = 100
NOTICE_KEPT_S: Final = 3600
STOPPED: Final = "stopped"
"""Kind of the notice that repair keeps of a stopped worker for as long as it is stopped."""
OWNER_KEPT_S: Final = 3600
MAX_REMOVED: Final = 50
REMOVED_KEPT_S: Final = 3600
MAX_REFUSALS: Final = 30
REFUSED_REASON: Final = 80
"""Characters of a reason that are kept."""
REFUSED_AT_MOST: Final = 4
"""A worker that is refused again and again is asked again after this many times `scale_down.refused_for_s`."""
HANDED_BACK_WITHIN_S: Final = 120
"""Until then the uncordon of a worker that is given back must have started, or it is sent anew."""
_TAKING: Final = frozenset({"interruption", "retirement"})
METRICS_LAG_S: Final = 300
"""Metrics may be this much older than the answer that shows them (Prometheus looks back five minutes)."""
TOLERATED_JOIN_FAILURES: Final = 1
"""One launch that fails is replaced at once: it happens. From the second in a row on the cause is not the machine."""
JOIN_WAIT_S: Final = 600
MAX_JOIN_WAIT_S: Final = 3600
PROVEN_AFTER_S: Final = 1800
"""A worker that is lost within this time of its launch, by nobody's will, was never a good one."""

_FORWARD: Final[dict[RemovalPhase, frozenset[RemovalPhase]]] = {
    RemovalPhase.INSPECTING: frozenset({RemovalPhase.TERMINATING, RemovalPhase.DELETING}),
    RemovalPhase.DRAINING: frozenset(
        {RemovalPhase.DRAINED, RemovalPhase.UNCORDONING, RemovalPhase.TERMINATING, RemovalPhase.DELETING}
    ),
    RemovalPhase.DRAINED: frozenset({RemovalPhase.TERMINATING, RemovalPhase.UNCORDONING, RemovalPhase.DELETING}),
    RemovalPhase.TERMINATING: frozenset({RemovalPhase.DELETING}),
    RemovalPhase.DELETING: frozenset(),
    RemovalPhase.UNCORDONING: frozenset({RemovalPhase.DELETING}),
}
"""Phases only move forward. A worker that dies while it is emptied or uncordoned goes straight to `deleting`.

Out of `terminating` there is one other way, `hand_back`: EC2 itself said that it ends nothing.
"""


_Operation = TypeVar("_Operation", LaunchOperation, RemovalOperation)


class ForbiddenTransition(ValueError):
    """A phase would move backwards: a fault of ours, never carried out."""


# ---------------------------------------------------------------------------------------------------------------- mode


def effective_mode(state: State, policy: Policy, now_s: int) -> Mode:
    """The operator's word, else the policy's."""
    return operators_mode(state.mode, now_s) or policy.mode


def operators_mode(setting: ModeSetting | None, now_s: int) -> Mode | None:
    """The operator's word while it holds, then the lasting one that it interrupted; None where there is none."""
    if setting is None:
        return None
    if setting.until_s is None or now_s < setting.until_s:
        return setting.mode
    return setting.then


def set_mode(state: State, setting: ModeSetting | None) -> State:
    """Put the operator's word in; None takes it back. One with an end keeps in mind the lasting one before it.

    Else a cluster that shall only observe would act when a `pause --for` has ended.
    """
    before = state.mode
    if setting is not None and setting.until_s is not None and before is not None:
        lasting = before.mode if before.until_s is None else before.then
        setting = msgspec.structs.replace(setting, then=lasting)
    return msgspec.structs.replace(state, mode=setting)


def begin_after(state: State, start_mode: Mode) -> State:
    """Let a cluster that was set to a mode for a while before its first look begin in `start_mode` after that."""
    word = state.mode
    if word is None or word.until_s is None or word.then is not None or state != State(mode=word):
        return state
    return msgspec.structs.replace(state, mode=msgspec.structs.replace(word, then=start_mode))


# --------------------------------------------------------------------------------------------------------------- lease


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


# ------------------------------------------------------------------------------------------------------------- notices


def add_notices(state: State, notices: tuple[Notice, ...]) -> State:
    """Save facts that no observation shows; the same fact twice is one. Of too many, the handled and old ones go."""
    facts = {(notice.kind, notice.subject): notice for notice in state.notices}
    for notice in notices:
        facts.setdefault((notice.kind, notice.subject), notice)
    if len(facts) == len(state.notices):
        return state
    first_to_go = sorted(facts, key=lambda fact: not facts[fact].handled)
    for fact in first_to_go[: max(0, len(facts) - MAX_NOTICES)]:
        del facts[fact]
    return msgspec.structs.replace(state, notices=tuple(facts.values()))


def mark_handled(state: State, kind: str, subject: str) -> State:
    """What the notice asked for is under way or needs nothing."""
    return msgspec.structs.replace(
        state,
        notices=tuple(
            msgspec.structs.replace(notice, handled=True)
            if (notice.kind, notice.subject) == (kind, subject)
            else notice
            for notice in state.notices
        ),
    )


def mark_replaced(state: State, kind: str, subject: str) -> State:
    """A worker is launched in the place of the one that the notice is about: once."""
    notices = tuple(
        msgspec.structs.replace(n, replaced=True) if (n.kind, n.subject) == (kind, subject) else n
        for n in state.notices
    )
    return msgspec.structs.replace(state, notices=notices)


def take_back_notices(state: State, kind: str, before: State) -> State:
    """Let notices of one kind be as they were in `before`: nothing followed from the fresh ones."""
    kept = tuple(n for n in state.notices if n.kind != kind or n in before.notices)
    return msgspec.structs.replace(state, notices=kept)


def forget_old(state: State, now_s: int) -> State:
    """Drop what has lost its meaning. Called only when something else is written: tidiness is no reason for a write."""
    return msgspec.structs.replace(
        state,
        notices=tuple(
            n
            for n in state.notices
            if n.kind == STOPPED or now_s - max(n.received_at_s, n.due_at_s or 0) < NOTICE_KEPT_S
        ),
        backoffs=tuple(b for b in state.backoffs if now_s < b.until_s + OWNER_KEPT_S),
        refusals=tuple(r for r in state.refusals if now_s < r.until_s + OWNER_KEPT_S),
        owners=tuple(o for o in state.owners if now_s - o.launched_at_s < OWNER_KEPT_S or now_s < o.retry_at_s),
        join_failures=None
        if state.join_failures and state.join_failures.until_s + OWNER_KEPT_S < now_s
        else state.join_failures,
        mode=None if operators_mode(state.mode, now_s) is None else state.mode,
    )


# ------------------------------------------------------------------------------------------------------------ launches


def open_operations(state: State) -> int:
    """How many operations are under way."""
    return len(state.launches) + len(state.removals)


def open_launch(state: State, operation: LaunchOperation) -> State:
    """Add the intent, with its complete request, before its effect."""
    return msgspec.structs.replace(state, launches=(*state.launches, operation), last_scale_up_s=operation.created_at_s)


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


def join_failed(state: State, *, launched_at_s: int, now_s: int, after_ready: bool = False) -> State:
    """A worker launched then did not come, or did not last. From the second launch in a row on the next one waits.

    Not for what we removed ourselves (`was_removed`). The wait doubles each time.
    """
    known = state.join_failures
    if known is not None and launched_at_s < known.failed_at_s:
        return state
    failures = 1 if known is None else known.failures + 1
    doublings = failures - TOLERATED_JOIN_FAILURES - 1
    wait_s = 0 if doublings < 0 else min(JOIN_WAIT_S * 2**doublings, MAX_JOIN_WAIT_S)
    fresh = JoinFailures(
        failures=failures,
        failed_at_s=now_s,
        until_s=now_s + wait_s,
        after_ready=after_ready or (known is not None and known.after_ready),
    )
    return msgspec.structs.replace(state, join_failures=fresh)


def worker_joined(state: State) -> State:
    """What is launched joins: earlier failures to join mean nothing any more; losses after it was Ready still do."""
    if state.join_failures is not None and state.join_failures.after_ready:
        return state
    return workers_stay(state)


def workers_stay(state: State) -> State:
    """A worker launched after the last failure has proven itself: every earlier failure is forgotten."""
    return msgspec.structs.replace(state, join_failures=None)


def only_probes_are_launched(state: State) -> bool:
    """Whether so many launches in a row failed that one worker at a time is tried."""
    return state.join_failures is not None and state.join_failures.failures > TOLERATED_JOIN_FAILURES


# ------------------------------------------------------------------------------------------------------------ removals


def open_removal(state: State, operation: RemovalOperation, *, counts_as_scale_down: bool) -> State:
    """Add the intent before its first command. One that counts begins its cool-down when something goes, not now."""
    operation = msgspec.structs.replace(operation, scale_down=counts_as_scale_down)
    return msgspec.structs.replace(state, removals=(*state.removals, operation))


def began_to_go(state: State, removal: RemovalOperation, *, now_s: int) -> State:
    """Pods or a worker really went: from now on the cool-down counts. A refusal that changed nothing costs none."""
    return msgspec.structs.replace(state, last_scale_down_s=now_s) if removal.scale_down else state


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
        command=None,
        attempts=0,
        failure=failure or operation.failure,
        told_failure="",
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

    Each further try would move its pods for nothing, so it waits as long as a worker may, from the first time on.
    """
    operation = next((o for o in state.removals if o.operation_id == operation_id), None)
    if operation is None or operation.phase is not RemovalPhase.TERMINATING:
        return state
    title = operation.node_name or operation.instance_id
    state = remember_refusal(state, title, why, now_s=now_s, policy=policy, longest=True)
    returning = msgspec.structs.replace(
        operation,
        phase=RemovalPhase.UNCORDONING,
        phase_since_s=now_s,
        fence=state.fence,
        not_after_s=now_s + HANDED_BACK_WITHIN_S,
        command=None,
        attempts=0,
        failure=why,
        told_failure="",
    )
    return update_removal(state, operation_id, lambda _: returning if operation.node_name else None)


def failure_told(state: State, operation_id: str, cause: str) -> State:
    """Remember that people know of this failure of an operation; an empty cause: it is over."""
    state = update_launch(state, operation_id, lambda o: msgspec.structs.replace(o, told_failure=cause))
    return update_removal(state, operation_id, lambda o: msgspec.structs.replace(o, told_failure=cause))


def removal_ended(state: State, removal: RemovalOperation, *, now_s: int) -> State:
    """Close a removal whose machine is gone, and remember it: metrics may show its Node for a while yet."""
    others = tuple(r for r in state.removed if r.instance_id != removal.instance_id)
    state = _without_refusal(state, removal.node_name or removal.instance_id)
    ended = Removed(instance_id=removal.instance_id, ended_at_s=now_s)
    state = msgspec.structs.replace(state, removed=(*others, ended)[-MAX_REMOVED:])
    return update_removal(state, removal.operation_id, lambda _: None)


def was_removed(state: State, instance_id: str) -> bool:
    """Whether a removal of ours ended, or will end, this machine: its loss is nobody's failure."""
    ids = {r.instance_id for r in state.removals} | {r.instance_id for r in state.removed}
    return instance_id in ids


def taken_by_ec2(state: State, instance_id: str) -> bool:
    """Whether EC2 said that it would take this machine."""
    return any(n.subject == instance_id and n.kind in _TAKING for n in state.notices)


def maybe_still_shown(state: State, instance_id: str, metrics_at_s: int | None) -> bool:
    """Whether a Node that is shown may be that of a removal which ended after these metrics were scraped."""
    return any(removed.instance_id == instance_id and not _is_newer(metrics_at_s, removed) for removed in state.removed)


def forget_removed(state: State, shown: Container[str], *, metrics_at_s: int | None, now_s: int) -> State:
    """Drop what metrics that are newer do not show any more, and what is old. `shown`: instance ids with a Node.

    As `forget_old`, called only when something else is written. `metrics_at_s` is None where the Nodes are not known.
    """
    kept = tuple(
        removed
        for removed in state.removed
        if now_s - removed.ended_at_s < REMOVED_KEPT_S
        and (removed.instance_id in shown or not _is_newer(metrics_at_s, removed))
    )
    return msgspec.structs.replace(state, removed=kept)


def _is_newer(metrics_at_s: int | None, removed: Removed) -> bool:
    return metrics_at_s is not None and metrics_at_s - removed.ended_at_s >= METRICS_LAG_S


# ----------------------------------------------------------------------------------------------------------- back-offs


def back_off(state: State, pool: Pool, error_code: str, *, now_s: int, policy: Policy) -> State:
    """Leave an exhausted pool alone, twice as long each time in a row."""
    previous = next((b for b in state.backoffs if b.pool == pool), None)
    failures = previous.failures + 1 if previous is not None else 1
    wait_s = min(policy.capacity.back_off_s * 2 ** (failures - 1), policy.capacity.max_back_off_s)
    others = tuple(b for b in state.backoffs if b.pool != pool)
    fresh = Backoff(pool=pool, error_code=error_code, until_s=now_s + wait_s, failures=failures)
    return msgspec.structs.replace(state, backoffs=(*others, fresh))


def pool_gave(state: State, pool: Pool) -> State:
    """Capacity is back: forget its failures."""
    return msgspec.structs.replace(state, backoffs=tuple(b for b in state.backoffs if b.pool != pool))


def remember_refusal(
    state: State, node_name: str, reason: str, *, now_s: int, policy: Policy, longest: bool = False
) -> State:
    """Do not nominate this worker again for a while, twice as long each time in a row; its removal forgets it.

    `longest`: at once as long as it may be.
    """
    failures = max(times_refused(state, node_name) + 1, REFUSED_AT_MOST if longest else 0)
    wait_s = policy.scale_down.refused_for_s * min(2 ** (failures - 1), REFUSED_AT_MOST)
    fresh = Refusal(node_name=node_name, reason=reason[:REFUSED_REASON], until_s=now_s + wait_s, failures=failures)
    others = _without_refusal(state, node_name).refusals
    return msgspec.structs.replace(state, refusals=(*others, fresh)[-MAX_REFUSALS:])


def times_refused(state: State, node_name: str) -> int:
    """How often in a row the removal of this worker was refused or failed."""
    return next((r.failures for r in state.refusals if r.node_name == node_name), 0)


def refused_lately(state: State, node_name: str, now_s: int) -> str | None:
    """Why this worker is left alone now; None when it may be asked again."""
    refusal = next((r for r in state.refusals if r.node_name == node_name and now_s < r.until_s), None)
    return None if refusal is None else f"refused: {refusal.reason}; asked again in {refusal.until_s - now_s} s"


def _without_refusal(state: State, node_name: str) -> State:
    return msgspec.structs.replace(state, refusals=tuple(r for r in state.refusals if r.node_name != node_name))


def remember_owner(state: State, record: OwnerLaunches) -> State:
    """Replace what is known of the launches made for one pod owner."""
    return msgspec.structs.replace(state, owners=(*(o for o in state.owners if o.owner != record.owner), record))


def _update(
    operations: tuple[_Operation, ...], operation_id: str, change: Callable[[_Operation], _Operation | None]
) -> tuple[_Operation, ...]:
    changed = ((change(o) if o.operation_id == operation_id else o) for o in operations)
    return tuple(o for o in changed if o is not None)
