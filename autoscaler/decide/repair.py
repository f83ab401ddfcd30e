"""Workers that EC2 takes away, that stay NotReady, or that left only their Node behind."""

import msgspec

from autoscaler.decide.fleet import FleetView, Standing, Worker
from autoscaler.decide.looking import Look, new_removal
from autoscaler.model import ALIVE, Blocked, MetricsStatus, RemovalPhase, State
from autoscaler.state.transitions import mark_handled, open_removal, update_removal

RECLAIM_NOTICES = frozenset({"interruption", "retirement"})


def reclaim_noticed(look: Look, state: State, fleet: FleetView) -> tuple[State, tuple[str, ...]]:
    """Begin to drain each worker of ours that a notice names; returns the instance ids of those that begin now.

    No metrics are needed for it: the notice is the fact. A removal under way is upgraded, it is not begun again.
    """
    workers = {worker.key: worker for worker in fleet.workers}
    begun: list[str] = []
    for notice in state.notices:
        if notice.handled or notice.kind not in RECLAIM_NOTICES:
            continue
        state = mark_handled(state, notice.kind, notice.subject)
        worker = workers.get(notice.subject)
        if worker is None or worker.instance is None or not worker.ours or worker.instance.state not in ALIVE:
            continue
        if worker.removal is not None:
            state = update_removal(
                state, worker.removal.operation_id, lambda r: msgspec.structs.replace(r, reclaim=True)
            )
            continue
        phase = RemovalPhase.DRAINING if worker.node is not None else RemovalPhase.TERMINATING
        removal = new_removal(look, worker.instance, worker.node, reason=notice.kind, phase=phase, reclaim=True)
        if worker.node is None and look.snapshot.metrics_status is MetricsStatus.UNAVAILABLE:
            # Its Node's name is not known now; a later look drains it once metrics are back, if EC2 leaves the time.
            continue
        state = open_removal(state, removal, counts_as_scale_down=False)
        look.events.append(f"{worker.title}: EC2 gave notice ({notice.kind}); draining it")
        begun.append(worker.key)
    return state, tuple(begun)


def repair_unhealthy(look: Look, state: State, fleet: FleetView) -> tuple[State, tuple[Blocked, ...]]:
    """Replace workers of ours that stay NotReady, and delete the Nodes of workers that are gone.

    Only with the cluster known. Above the policy's share of unhealthy workers the cause lies elsewhere: nothing is
    replaced, and the decision says so.
    """
    if not look.snapshot.cluster_known:
        return state, ()
    blocked: list[Blocked] = []
    for worker in fleet.having(Standing.DEAD):
        state = _delete_left_node(look, state, worker)
    workers = fleet.having(Standing.READY, Standing.JOINING, Standing.UNHEALTHY)
    long_unready = [w for w in fleet.having(Standing.UNHEALTHY) if w.node is not None and w.node.unready_long]
    share = len(long_unready) / len(workers) if workers else 0.0
    for worker in long_unready:
        if not worker.ours or worker.instance is None:
            blocked.append(Blocked(subject=worker.title, reason="not_ready: not ours to replace"))
        elif share > look.policy.repair.max_unhealthy_share:
            blocked.append(
                Blocked(
                    subject=worker.title,
                    reason=f"not_ready: {share:.0%} of the workers are, more than repair.max_unhealthy_share allows",
                )
            )
        else:
            removal = new_removal(
                look, worker.instance, worker.node, reason="not_ready", phase=RemovalPhase.TERMINATING
            )
            state = open_removal(state, removal, counts_as_scale_down=False)
            look.events.append(f"{worker.title} is NotReady for {look.policy.repair.not_ready_s} s: it is replaced")
    return state, tuple(blocked)


def _delete_left_node(look: Look, state: State, worker: Worker) -> State:
    """K3s never removes a dead Node object by itself."""
    if worker.node is None or worker.removal is not None or worker.instance is None or not worker.ours:
        return state
    if worker.instance.state.value != "terminated":
        return state
    removal = new_removal(look, worker.instance, worker.node, reason="instance_gone", phase=RemovalPhase.DELETING)
    look.events.append(f"{worker.title} lost its instance: its Node is deleted")
    return open_removal(state, removal, counts_as_scale_down=False)
