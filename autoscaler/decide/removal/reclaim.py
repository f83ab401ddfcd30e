"""Workers that EC2 takes away: drained at once, without the checks, for as long as there is time."""

from typing import Final

import msgspec

from autoscaler.decide.fleet import FleetView, Worker
from autoscaler.decide.looking import Look, new_removal, node_name_of
from autoscaler.model import ALIVE, Instance, Notice, RemovalOperation, RemovalPhase, State
from autoscaler.state.notices import INTERRUPTION, RETIREMENT, is_over, mark_handled
from autoscaler.state.transitions import MAX_OPEN_OPERATIONS, open_operations, open_removal, update_removal

RECLAIM_NOTICES: Final = frozenset({INTERRUPTION, RETIREMENT})
RECLAIM_BEFORE_S: Final = 1800
"""A retirement is prepared for in an ordinary way until this long before its start; then no time is left for checks."""
SPOT_WARNING_S: Final = 120
"""From an interruption notice to the end (EC2 user guide, "Spot Instance interruption notices")."""
_CAN_BE_UPGRADED: Final = frozenset(
    {RemovalPhase.INSPECTING, RemovalPhase.DRAINING, RemovalPhase.DRAINED, RemovalPhase.UNCORDONING}
)


def reclaim_noticed(look: Look, state: State, fleet: FleetView) -> tuple[State, tuple[str, ...]]:
    """Begin to drain each worker of ours that a notice names; returns the instance ids of those that begin now.

    No metrics are needed for it: the notice is the fact, and a worker of ours has a known Node name. A removal that
    could still be taken back makes way for a new one, whose higher fence stops its command: a short drain without
    the checks. Nothing is begun while the state is full: the notice waits. A notice that is out of date is forgotten.
    """
    workers = {worker.key: worker for worker in fleet.workers}
    begun: list[str] = []
    for notice in state.notices:
        over = is_over(notice, look.now_s)
        if notice.handled or notice.kind not in RECLAIM_NOTICES or (is_far(notice, look.now_s) and not over):
            continue
        worker = workers.get(notice.subject)
        if over and worker is not None:
            look.done.append(f"{worker.title}: EC2's notice ({notice.kind}) is out of date")
        if over or worker is None or worker.instance is None or not _is_to_be_reclaimed(worker) or worker.key in begun:
            state = mark_handled(state, notice.kind, notice.subject)
            continue
        if worker.removal is None and open_operations(state) >= MAX_OPEN_OPERATIONS:
            look.done.append(f"{worker.title}: EC2 gave notice ({notice.kind}), but too many operations are open")
            continue
        if worker.removal is not None:
            state = update_removal(state, worker.removal.operation_id, lambda _: None)
        state = mark_handled(state, notice.kind, notice.subject)
        state = open_removal(state, _reclaim(look, worker, worker.instance, notice), counts_as_scale_down=False)
        look.done.append(f"{worker.title}: EC2 gave notice ({notice.kind}); draining it")
        begun.append(worker.key)
    return state, tuple(begun)


def is_far(notice: Notice, now_s: int) -> bool:
    """Whether there is time for an ordinary removal with all its checks. A retirement that does not say when has it."""
    if notice.kind != RETIREMENT:
        return False
    return notice.due_at_s is None or notice.due_at_s - now_s > RECLAIM_BEFORE_S


def _is_to_be_reclaimed(worker: Worker) -> bool:
    """Whether it is ours, runs, and is not on its way out for good already."""
    if not worker.ours or worker.instance is None or worker.instance.state not in ALIVE:
        return False
    return worker.removal is None or (not worker.removal.reclaim and worker.removal.phase in _CAN_BE_UPGRADED)


def _reclaim(look: Look, worker: Worker, instance: Instance, notice: Notice) -> RemovalOperation:
    # What has not registered when Spot takes it in two minutes runs nothing, and shall not begin to.
    never_joined = worker.node is None and look.snapshot.cluster_known and notice.kind == INTERRUPTION
    phase = RemovalPhase.TERMINATING if never_joined else RemovalPhase.DRAINING
    removal = new_removal(look, instance, worker.node, reason=notice.kind, phase=phase, reclaim=True)
    due_at_s = notice.due_at_s
    if due_at_s is None and notice.kind == INTERRUPTION:
        due_at_s = notice.received_at_s + SPOT_WARNING_S
    upgraded = worker.removal
    name = (upgraded.node_name if upgraded is not None else "") or removal.node_name
    if not name and not never_joined:
        name = node_name_of(instance)
    return msgspec.structs.replace(
        removal,
        node_name=name,
        provider_id=upgraded.provider_id if upgraded is not None else removal.provider_id,
        due_at_s=due_at_s,
    )
