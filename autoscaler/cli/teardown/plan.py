"""What a teardown does next: pure, from the state and one look at EC2 and at the commands under way.

It opens the same removals as a shrink does and moves them with the same function (decide/removal_progress), so what it
leaves half done when it is killed is ordinary work under way: another teardown, or a resumed autoscaler, goes on.
"""

from typing import Final

import msgspec

from autoscaler.decide.looking import Look, new_removal, node_name_of
from autoscaler.decide.progress.launch import SETTLE_S
from autoscaler.decide.progress.removal import advance_removal
from autoscaler.decide.progress.sending import GRACE_AFTER_DRAIN_S
from autoscaler.model import (
    ALIVE,
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
    enter_phase,
    open_operations,
    open_removal,
    update_launch,
    update_removal,
)

REASON: Final = "teardown"
RETRY_S: Final = 60
"""Between two tries at a worker that a budget holds, or that has no Node yet."""
FIRM_RULES: Final = frozenset({"identity", "control-plane"})
"""Another machine under the worker's name, or a server that carries a worker's tags."""
NO_SERVER: Final = "no server of the cluster is running, so that no drain can be sent"
_BEING_EMPTIED: Final = frozenset({RemovalPhase.DRAINING, RemovalPhase.DRAINED, RemovalPhase.UNCORDONING})


class Wishes(msgspec.Struct, frozen=True, kw_only=True):
    """How far a teardown may go."""

    at_once: int = 1
    """Workers that are emptied at the same time."""
    force: bool = False
    """What budgets and rules still hold after the drain's time-out is ended all the same."""


class Memory(msgspec.Struct, frozen=True, kw_only=True):
    """What the process remembers between looks. Nothing that safety rests on: without it a step is only done again."""

    first_tried_s: dict[str, int] = {}
    """By instance id."""
    tried_s: dict[str, int] = {}
    """When the last try ended, by instance id."""
    refused: dict[str, str] = {}
    """Why a worker stays, by instance id."""
    firm: frozenset[str] = frozenset()
    """Refused because of what they are: not even `force` ends these."""
    cleared: frozenset[str] = frozenset()
    """Ended instances whose Node is known to be gone."""


class Plan(msgspec.Struct, frozen=True, kw_only=True):
    """The next state, what is told of it, and what is left."""

    state: State
    memory: Memory
    events: tuple[str, ...]
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
    notes = _Notes(memory)
    for removal in state.removals:
        state = _advance(look, state, removal, wishes, notes)
    ours = [i for i in snapshot.instances if i.managed]
    left = tuple(i for i in ours if i.state is not InstanceState.TERMINATED)
    servers = any(i.server and i.state in ALIVE for i in snapshot.instances)
    for instance in ours:
        state = _begin(look, state, instance, wishes, notes, servers=servers)
    idle = not state.launches and not state.removals
    gone = {i.instance_id for i in ours} - {i.instance_id for i in left}
    return Plan(
        state=state,
        memory=notes.memory(),
        events=tuple(look.events),
        left=left,
        done=idle and not left and gone <= notes.cleared,
        stopped=idle and bool(left) and _stays(left, wishes, notes),
    )


def _stays(left: tuple[Instance, ...], wishes: Wishes, notes: "_Notes") -> bool:
    if wishes.force:
        return all(instance.instance_id in notes.firm for instance in left)
    return bool(notes.refused)


class _Notes:
    """A Memory that one plan writes to."""

    def __init__(self, memory: Memory) -> None:
        self.first_tried_s = dict(memory.first_tried_s)
        self.tried_s = dict(memory.tried_s)
        self.refused = dict(memory.refused)
        self.firm = set(memory.firm)
        self.cleared = set(memory.cleared)

    def memory(self) -> Memory:
        return Memory(
            first_tried_s=self.first_tried_s,
            tried_s=self.tried_s,
            refused=self.refused,
            firm=frozenset(self.firm),
            cleared=frozenset(self.cleared),
        )


def _settle_launch(look: Look, state: State, launch: LaunchOperation) -> State:
    """Never send it again; forget it once EC2 has shown all that it made. Its instances are removed like any other."""
    shown = {i.instance_id for i in look.snapshot.instances if i.operation_id == launch.operation_id and i.managed}
    expected = set(launch.instance_ids)
    known = launch.landed and launch.unidentified <= len(shown - expected - set(launch.finished_ids))
    settled = look.now_s - (launch.sent_at_s or launch.created_at_s) >= SETTLE_S
    if settled or (known and expected <= look.instances.keys()):
        look.events.append(f"launch {launch.operation_id} is over: EC2 shows what came of it")
        return update_launch(state, launch.operation_id, lambda _: None)
    return update_launch(state, launch.operation_id, lambda one: msgspec.structs.replace(one, landed=True))


def _advance(look: Look, state: State, removal: RemovalOperation, wishes: Wishes, notes: _Notes) -> State:
    before = state
    result = look.commands.get(removal.operation_id)
    if wishes.force and _overdue(look, removal):
        return _overrule(look, state, removal, notes)
    nameless = result is not None and result.outcome is CommandOutcome.NO_SUCH_NODE
    if removal.phase is RemovalPhase.DRAINING and nameless and not removal.reclaim:
        return _without_node(look, state, removal, notes)
    state = advance_removal(look, state, removal, wanted_back={})
    fresh = {r.node_name: r.reason for r in state.refusals if r not in before.refusals}
    if removal.node_name in fresh:
        said = f" {result.message}" if result is not None and result.message not in fresh[removal.node_name] else ""
        notes.refused[removal.instance_id] = f"{removal.node_name}: {fresh[removal.node_name]}.{said}"
        if result is not None and result.rule in FIRM_RULES:
            notes.firm.add(removal.instance_id)
    if all(r.operation_id != removal.operation_id for r in state.removals):
        notes.tried_s[removal.instance_id] = look.now_s
        instance = look.instances.get(removal.instance_id)
        if instance is None or instance.state is InstanceState.TERMINATED:
            notes.cleared.add(removal.instance_id)
            notes.refused.pop(removal.instance_id, None)
    return state


def _without_node(look: Look, state: State, removal: RemovalOperation, notes: _Notes) -> State:
    """No Node of its name: a worker that may still join is asked again, one that had its time never will."""
    instance = look.instances.get(removal.instance_id)
    limit_s = look.policy.workers.join_timeout_s
    if instance is not None and look.now_s - instance.launched_at_s < limit_s:
        notes.tried_s[removal.instance_id] = look.now_s
        look.events.append(f"{removal.instance_id} has no Node yet: it is asked again until it is {limit_s} s old")
        return update_removal(state, removal.operation_id, lambda _: None)
    look.events.append(f"{removal.instance_id} has no Node {removal.node_name}: it is terminated")
    return _enter(look, state, removal, RemovalPhase.TERMINATING)


def _enter(look: Look, state: State, removal: RemovalOperation, phase: RemovalPhase) -> State:
    changed = enter_phase(removal, phase, now_s=look.now_s, fence=look.fence, not_after_s=look.start_by_s)
    return update_removal(state, removal.operation_id, lambda _: changed)


def _overdue(look: Look, removal: RemovalOperation) -> bool:
    """A phase that should have ended by any path of its own: its command is not delivered, or the server is gone."""
    if removal.phase is RemovalPhase.TERMINATING:
        return False
    drain_s = look.policy.interruption.grace_s if removal.reclaim else look.policy.drain.timeout_s
    own_s = drain_s if removal.phase is RemovalPhase.DRAINING else 0
    return look.now_s - removal.phase_since_s > own_s + look.policy.drain.timeout_s + 2 * GRACE_AFTER_DRAIN_S


def _overrule(look: Look, state: State, removal: RemovalOperation, notes: _Notes) -> State:
    """Forced: end the instance without its drain, or leave a Node that no server deletes."""
    name = removal.node_name or removal.instance_id
    if removal.phase is RemovalPhase.DELETING:
        look.events.append(f"Node {name} could not be deleted in time: it may be left in the cluster")
        notes.cleared.add(removal.instance_id)
        return update_removal(state, removal.operation_id, lambda _: None)
    instance = look.instances.get(removal.instance_id)
    if instance is None or not instance.managed:
        return state
    look.events.append(f"{name}: its drain does not end; it is terminated all the same (--force)")
    fresh = new_removal(look, instance, None, reason=REASON, phase=RemovalPhase.TERMINATING)
    state = update_removal(state, removal.operation_id, lambda _: None)
    fresh = msgspec.structs.replace(fresh, node_name=removal.node_name)
    return open_removal(state, fresh, counts_as_scale_down=False)


def _begin(look: Look, state: State, instance: Instance, wishes: Wishes, notes: _Notes, *, servers: bool) -> State:
    """Open the removal of one worker, if it is its turn."""
    key = instance.instance_id
    if any(r.instance_id == key for r in state.removals) or open_operations(state) >= MAX_OPEN_OPERATIONS:
        return state
    if not servers and instance.state is InstanceState.TERMINATED:
        notes.cleared.add(key)  # nobody is left who could be asked for its Node
        return state
    if not servers and not wishes.force:
        notes.refused[key] = f"{key}: {NO_SERVER}"
        return state
    name = node_name_of(instance) if servers else ""
    if instance.state is InstanceState.TERMINATED:
        return state if key in notes.cleared else _open(look, state, instance, RemovalPhase.DELETING, name)
    if instance.state not in ALIVE or not servers:
        return _open(look, state, instance, RemovalPhase.TERMINATING, name)
    if not _may_drain(look, state, key, wishes, notes):
        return state
    notes.first_tried_s.setdefault(key, look.now_s)
    if key in notes.refused:
        held_s = look.now_s - notes.first_tried_s[key]
        if held_s >= look.policy.drain.timeout_s:
            look.events.append(f"{name} is emptied without regard to budgets and rules, for {held_s} s they held it")
            return _open(look, state, instance, RemovalPhase.DRAINING, name, reclaim=True)
    look.events.append(f"draining {name}")
    return _open(look, state, instance, RemovalPhase.DRAINING, name)


def _may_drain(look: Look, state: State, key: str, wishes: Wishes, notes: _Notes) -> bool:
    if key in notes.firm or (notes.refused and not wishes.force):
        return False
    if key in notes.tried_s and look.now_s - notes.tried_s[key] < RETRY_S:
        return False
    return sum(r.phase in _BEING_EMPTIED for r in state.removals) < wishes.at_once


def _open(
    look: Look, state: State, instance: Instance, phase: RemovalPhase, node_name: str, *, reclaim: bool = False
) -> State:
    removal = new_removal(look, instance, None, reason=REASON, phase=phase, reclaim=reclaim)
    named = msgspec.structs.replace(removal, node_name=node_name)
    return open_removal(state, named, counts_as_scale_down=False)
