"""What a teardown does next: pure, from the state and one look at EC2 and at the commands under way.

It opens the same removals as a shrink does and moves them with the same functions (decide/progress), so what it leaves
half done when it is killed is ordinary work under way: another teardown, or a resumed autoscaler, goes on.
"""

from typing import Final

import msgspec

from autoscaler.cli.teardown.inspection import FIRM_RULES, judge_answer, refuse_for_good
from autoscaler.cli.teardown.memory import Memory, Notes, Wishes
from autoscaler.decide.looking import TEARDOWN, Look, new_removal
from autoscaler.decide.progress.launch import SETTLE_S
from autoscaler.decide.progress.removal import advance_removal
from autoscaler.decide.progress.sending import GRACE_AFTER_DRAIN_S
from autoscaler.model import (
    ALIVE,
    ENDING,
    CommandOutcome,
    Instance,
    InstanceState,
    LaunchOperation,
    RemovalOperation,
    RemovalPhase,
    Snapshot,
    State,
)
from autoscaler.policy import Policy
from autoscaler.state.transitions import (
    MAX_OPEN_OPERATIONS,
    open_operations,
    open_removal,
    update_launch,
    update_removal,
)

RETRY_S: Final = 60
"""Between two tries at a worker that a budget holds, or that has no Node yet."""
NO_SERVER: Final = "no server of the cluster is running, and nobody else can say what a worker holds, or drain it"
_TURN: Final = frozenset(
    {RemovalPhase.INSPECTING, RemovalPhase.DRAINING, RemovalPhase.DRAINED, RemovalPhase.UNCORDONING}
)
"""Phases in which a worker has its turn."""


class Plan(msgspec.Struct, frozen=True, kw_only=True):
    """The next state, what is told of it, and what is left."""

    state: State
    memory: Memory
    said: tuple[str, ...]
    left: tuple[Instance, ...]
    """Workers of ours that are not terminated yet."""
    done: bool
    """No instance of ours is left, and no Node of one that EC2 still remembers."""
    stopped: bool
    """What is left is refused, and nothing is under way any more."""


def plan_teardown(
    snapshot: Snapshot, state: State, policy: Policy, wishes: Wishes, memory: Memory, *, now_s: int, decision_id: str
) -> Plan:
    """Move everything that is under way, then begin with the oldest workers. Never launches anything."""
    look = Look(snapshot, policy, now_s=now_s, fence=state.fence + 1, decision_id=decision_id)
    for launch in state.launches:
        state = _settle_launch(look, state, launch)
    notes = Notes(memory)
    if memory.inherited is None:
        notes.inherited = {removal.operation_id for removal in state.removals}
    _note_protected(look, state, notes)
    for removal in state.removals:
        state = _advance(look, state, removal, wishes, notes)
    ours = [i for i in snapshot.instances if i.managed]
    left = tuple(i for i in ours if i.state is not InstanceState.TERMINATED)
    servers = any(i.server and i.state in ALIVE for i in snapshot.instances)
    for instance in ours:
        state = _begin(look, state, instance, wishes, notes, servers=servers)
    notes.ending = {r.instance_id for r in state.removals if r.phase is RemovalPhase.TERMINATING}
    idle = not state.launches and not state.removals
    gone = {i.instance_id for i in ours} - {i.instance_id for i in left}
    return Plan(
        state=state,
        memory=notes.memory(),
        said=tuple(look.done),
        left=left,
        done=idle and not left and gone <= notes.cleared,
        stopped=idle and bool(left) and _stays(left, wishes, notes),
    )


def _stays(left: tuple[Instance, ...], wishes: Wishes, notes: Notes) -> bool:
    if wishes.force:
        return all(instance.instance_id in notes.firm for instance in left)
    return bool(notes.refused)


def _settle_launch(look: Look, state: State, launch: LaunchOperation) -> State:
    """Never send it again; forget it once EC2 has shown all that it made. Its instances are removed like any other."""
    shown = {i.instance_id for i in look.snapshot.instances if i.operation_id == launch.operation_id and i.managed}
    expected = set(launch.instance_ids)
    known = launch.landed and launch.unidentified <= len(shown - expected - set(launch.finished_ids))
    settled = look.now_s - (launch.sent_at_s or launch.created_at_s) >= SETTLE_S
    if settled or (known and expected <= look.instances.keys()):
        look.done.append(f"launch {launch.operation_id} is over: EC2 shows what came of it")
        return update_launch(state, launch.operation_id, lambda _: None)
    return update_launch(state, launch.operation_id, lambda one: msgspec.structs.replace(one, landed=True))


def _note_protected(look: Look, state: State, notes: Notes) -> None:
    """A terminate that is over although its instance lives was refused by EC2, and its worker was given back."""
    # Where it has no Node there is nothing to uncordon, and only the refusal under its id is left.
    back = {r.instance_id for r in state.removals if r.phase is RemovalPhase.UNCORDONING}
    back |= {refusal.node_name for refusal in state.held_workers}
    going = {r.instance_id for r in state.removals if r.phase is RemovalPhase.TERMINATING}
    for key in sorted((notes.ending & back) - going):
        instance = look.instances.get(key)
        if instance is not None and instance.managed and instance.state not in ENDING:
            why = "EC2 protects it from termination: switch the protection off, or terminate it yourself."
            notes.refuse(key, why, now_s=look.now_s, firm=True)


def _advance(look: Look, state: State, removal: RemovalOperation, wishes: Wishes, notes: Notes) -> State:
    instance = look.instances.get(removal.instance_id)
    result = look.commands.get(removal.operation_id)
    if wishes.force and _overdue(look, removal):
        return _overrule(look, state, removal, notes)
    if instance is not None and _is_history(look, removal, instance, notes):
        return _anew(look, state, removal, instance)
    if removal.phase is RemovalPhase.INSPECTING and instance is not None:
        return judge_answer(look, state, removal, instance, wishes=wishes, notes=notes)
    if removal.phase is RemovalPhase.DRAINING and result is not None:
        nameless = result.outcome is CommandOutcome.NO_SUCH_NODE
        if nameless and (removal.reason == TEARDOWN or not removal.reclaim):
            look.done.append(f"there is no Node {removal.node_name} any more: its machine is asked about anew")
            return update_removal(state, removal.operation_id, lambda _: None)
        if result.outcome is CommandOutcome.REFUSED and result.rule in FIRM_RULES:
            return refuse_for_good(look, state, removal, result, notes)
    after = advance_removal(look, state, removal, wanted_back={})
    if instance is not None and instance.managed:
        _note_refusal(look, state, after, removal, notes)
    if all(r.operation_id != removal.operation_id for r in after.removals):
        _note_end(look, removal, instance, notes)
    return after


def _is_history(look: Look, removal: RemovalOperation, instance: Instance, notes: Notes) -> bool:
    """Whether what lets this machine go was found out before this process looked: it may be in use again since.

    Not where EC2 takes it, or a forced end was begun: that was decided against all that runs there.
    """
    if removal.operation_id not in notes.inherited or removal.reclaim or instance.state in ENDING:
        return False
    if removal.phase is not RemovalPhase.DRAINING:
        return removal.phase in {RemovalPhase.DRAINED, RemovalPhase.TERMINATING}
    result = look.commands.get(removal.operation_id)
    if result is not None and result.outcome is CommandOutcome.RUNNING:
        notes.inherited.discard(removal.operation_id)
    return result is not None and result.outcome is CommandOutcome.SUCCEEDED


def _anew(look: Look, state: State, removal: RemovalOperation, instance: Instance) -> State:
    """The same intent as a new operation. One that may have left a cordon is a drain again: it can still be undone."""
    drained = bool(removal.node_name) and instance.state in ALIVE
    name = removal.node_name or removal.instance_id
    does = "it is drained anew" if drained else "its machine is asked about anew"
    look.done.append(f"{name} was let go before this teardown began: {does}")
    closed = update_removal(state, removal.operation_id, lambda _: None)
    phase = RemovalPhase.DRAINING if drained else RemovalPhase.INSPECTING
    return _open(look, closed, instance, phase, node_name=removal.node_name if drained else "")


def _note_refusal(look: Look, before: State, after: State, removal: RemovalOperation, notes: Notes) -> None:
    """What the drain came to, in the words that a person is told."""
    result = look.commands.get(removal.operation_id)
    name = removal.node_name or removal.instance_id
    why = next((r.reason for r in after.held_workers if r.node_name == name and r not in before.held_workers), None)
    if why is None:
        return
    said = f" {result.message}" if result is not None and result.message not in why else ""
    why = f"Node {name}: {why}.{said}"
    if result is not None and result.outcome is CommandOutcome.TIMED_OUT:
        notes.late[removal.instance_id] = why
    else:
        notes.refuse(removal.instance_id, why, now_s=look.now_s)


def _note_end(look: Look, removal: RemovalOperation, instance: Instance | None, notes: Notes) -> None:
    key = removal.instance_id
    if instance is not None and instance.state is not InstanceState.TERMINATED:
        if key not in notes.late:
            notes.tried_s[key] = look.now_s
    elif removal.node_name:
        notes.clear(key)
    # Else nobody deleted a Node of it: whether one came after all is asked.


def _overdue(look: Look, removal: RemovalOperation) -> bool:
    """A phase that should have ended by any path of its own: its command is not delivered, or the server is gone."""
    if removal.phase is RemovalPhase.TERMINATING:
        return False
    draining = removal.phase is RemovalPhase.DRAINING
    own_s = look.policy.drain_timeout_s(reclaim=removal.reclaim) if draining else 0
    return look.now_s - removal.phase_since_s > own_s + look.policy.drain.timeout_s + 2 * GRACE_AFTER_DRAIN_S


def _overrule(look: Look, state: State, removal: RemovalOperation, notes: Notes) -> State:
    """Forced: end the instance without its drain or an answer, or leave a Node that no server deletes."""
    name = removal.node_name or removal.instance_id
    instance = look.instances.get(removal.instance_id)
    closed = update_removal(state, removal.operation_id, lambda _: None)
    gone = instance is None or instance.state is InstanceState.TERMINATED
    if removal.phase is RemovalPhase.DELETING or (removal.phase is RemovalPhase.INSPECTING and gone):
        look.done.append(f"Node {name} could not be deleted in time: it may be left in the cluster")
        notes.clear(removal.instance_id)
        return closed
    if instance is None or not instance.managed:
        return state
    silent = "no server says what it holds" if removal.phase is RemovalPhase.INSPECTING else "its drain does not end"
    look.done.append(f"{name}: {silent}; it is terminated all the same (--force)")
    return _open(look, closed, instance, RemovalPhase.TERMINATING, node_name=removal.node_name)


def _begin(look: Look, state: State, instance: Instance, wishes: Wishes, notes: Notes, *, servers: bool) -> State:
    """Ask a server about one worker, if it is its turn: what follows, its answer decides."""
    key = instance.instance_id
    if any(r.instance_id == key for r in state.removals) or open_operations(state) >= MAX_OPEN_OPERATIONS:
        return state
    if instance.state is InstanceState.SHUTTING_DOWN or key in notes.cleared:
        return state  # EC2 ends it already, and its Node is looked for once it is dead
    if instance.state is InstanceState.TERMINATED:
        if servers:
            return _open(look, state, instance, RemovalPhase.INSPECTING)
        notes.clear(key)  # nobody is left who could be asked for its Node
        return state
    if servers:
        if not _has_turn(look, state, key, wishes, notes):
            return state
        look.done.append(f"a server is asked what {key} holds")
        return _open(look, state, instance, RemovalPhase.INSPECTING)
    if not wishes.force:
        notes.refuse(key, f"{NO_SERVER}.", now_s=look.now_s)
        return state
    look.done.append(f"{key}: {NO_SERVER}; it is terminated all the same (--force)")
    return _open(look, state, instance, RemovalPhase.TERMINATING)


def _has_turn(look: Look, state: State, key: str, wishes: Wishes, notes: Notes) -> bool:
    if key in notes.firm or (notes.refused and not wishes.force):
        return False
    if key in notes.tried_s and look.now_s - notes.tried_s[key] < RETRY_S:
        return False
    return sum(r.phase in _TURN and not _dead(look, r) for r in state.removals) < wishes.at_once


def _dead(look: Look, removal: RemovalOperation) -> bool:
    instance = look.instances.get(removal.instance_id)
    return instance is None or instance.state is InstanceState.TERMINATED


def _open(look: Look, state: State, instance: Instance, phase: RemovalPhase, *, node_name: str = "") -> State:
    removal = new_removal(look, instance, None, reason=TEARDOWN, phase=phase)
    removal = msgspec.structs.replace(removal, node_name=node_name)
    return open_removal(state, removal, counts_as_scale_down=False)
