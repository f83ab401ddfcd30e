"""What holds removals: of all workers, whoever it would be, and of one worker, whatever the demand.

Each rule says why and, where it ends by itself, when. The first that holds is what a decision tells; a person who asks
is told them all.
"""

from collections.abc import Iterator
from typing import Final

from autoscaler.decide.capacity.pools import is_open
from autoscaler.decide.demand.schedules import Limits
from autoscaler.decide.demand.use import low_enough
from autoscaler.decide.fleet import FleetView, Worker
from autoscaler.decide.removal.elsewhere import movable_pods
from autoscaler.decide.removal.pace import blackout_at, blackout_ends_s
from autoscaler.model import MetricsStatus, Pod, RemovalOperation, RemovalPhase, Snapshot, State, Why
from autoscaler.policy import Policy
from autoscaler.state.memory import held_lately, was_removed

STUCK_AFTER_S: Final = 300
"""A phase that lasts this much longer than a drain may is stuck: it is alarmed, and no longer waited for."""


def all_holds(
    snapshot: Snapshot,
    fleet: FleetView,
    state: State,
    policy: Policy,
    *,
    waiting_pods: int,
    now_s: int,
    limits: Limits,
) -> Iterator[Why]:
    """Why nobody leaves by choice now, whoever it would be; nothing where somebody may."""
    if snapshot.metrics_status is not MetricsStatus.OK:
        problem = f"no shrink without complete metrics: {_first_problem(snapshot)}"
        yield Why(f"metrics_{snapshot.metrics_status.value}", problem)
        if not snapshot.cluster_known:
            return  # how many workers are Ready, and what waits, is not known either
    if waiting_pods:
        yield Why("pods_waiting", f"{waiting_pods} pods wait for a node")
    if state.launches or fleet.joining:
        yield Why("waiting_for_nodes", "workers are joining")
    if any(holds_up_others(removal, policy, now_s) for removal in state.removals):
        yield Why("removal_under_way", "a removal is under way; the next worker waits for its end")
    if fleet.ready == policy.workers.min == 0:  # nobody's use can be low then
        yield Why("at_min", "no worker is Ready")
        return
    low_asked = policy.scale_down.when == "low_use" and fleet.existing <= policy.workers.max
    if low_asked and (why := low_enough(snapshot, fleet, policy)) is not None:
        yield Why("steady", why)
    if fleet.ready <= policy.workers.min:
        yield Why("at_min", f"{fleet.ready} workers are Ready and {limits.min_by} is {policy.workers.min}")
    if (blackout := blackout_at(policy, now_s)) is not None:
        told = f"{blackout}, and nobody leaves by choice before (scale_down.blackouts)"
        yield Why("blackout", told, blackout_ends_s(policy, now_s))
    if left_s := cool_down_left_s(state, policy, now_s):
        last_s = max(state.last_scale_up_s or 0, state.last_undone_s or 0)
        what = "launch" if last_s == state.last_scale_up_s else "removal that was undone"
        told = f"the last {what} is {now_s - last_s} s ago; the cool-down ends in {left_s} s"
        yield Why("cooling_down", told, now_s + left_s)
    if not fleet.servers:
        told = "no running server instance with the tag k3s-autoscaler/role=server: nobody could drain"
        yield Why("no_server", told)


def cool_down_left_s(state: State, policy: Policy, now_s: int) -> int:
    """Seconds until a worker may leave by choice again; 0 when it is over.

    A removal that ended well, without a launch and with nothing that waits now, has proved harmless: it begins none.
    """
    last_s = max(state.last_scale_up_s or 0, state.last_undone_s or 0)
    return max(0, policy.scale_down.cool_down_s - (now_s - last_s))


def holds_up_others(removal: RemovalOperation, policy: Policy, now_s: int) -> bool:
    """Those chosen together end before the next are chosen; one that is stuck blocks its own Node only."""
    leaving = removal.phase in {RemovalPhase.DRAINING, RemovalPhase.DRAINED, RemovalPhase.TERMINATING}
    return leaving and not removal.reclaim and now_s - removal.phase_since_s <= policy.drain.timeout_s + STUCK_AFTER_S


def _first_problem(snapshot: Snapshot) -> str:
    return snapshot.metrics_problems[0] if snapshot.metrics_problems else "unknown"


def keeps(worker: Worker, state: State, policy: Policy, now_s: int) -> Why | None:
    """Why this worker stays, whatever the demand; None when it may be nominated."""
    return next(all_that_keeps(worker, state, policy, now_s), None)


def all_that_keeps(worker: Worker, state: State, policy: Policy, now_s: int) -> Iterator[Why]:
    """Every such reason. Of its pods, as far as they are known."""
    node, instance = worker.node, worker.instance
    if was_removed(state, worker.key):
        yield Why("removed", "EC2 has ended it, and an older answer still shows it")
    if not worker.ours or instance is None:
        yield Why("not_ours", "it lacks the tag ManagedBy=autoscaler of this cluster")
        return
    if node is None or not is_open(worker, policy):
        yield Why("not_schedulable", "cordoned or tainted by somebody else")
    if node is None:
        return
    age_s, least_s = now_s - instance.launched_at_s, policy.scale_down.min_age_s
    if age_s < least_s:
        told = f"{age_s} s old; scale_down.min_age_s is {least_s}"
        yield Why("young", told, instance.launched_at_s + least_s)
    if node.local_volumes:
        yield Why("local_volume", f"{node.local_volumes} node-local volumes live on it")
    if (held := held_lately(state, node.name, now_s)) is not None:
        yield held
    for pod in movable_pods(worker):
        why = pod_keeps(pod, policy)
        if why is not None:
            yield Why(why, pod.title)


def pod_keeps(pod: Pod, policy: Policy) -> str | None:
    """Why a pod is not to be moved, whatever the demand: a stable code; None where it may be."""
    down = policy.scale_down
    if not pod.owner_kind:
        return "bare_pod"
    if pod.do_not_evict:
        return "do_not_evict"
    if f"{pod.namespace}/{pod.owner_name}" in down.movable:
        return None
    if pod.priority_class in down.protected_priority_classes:
        return "critical_pod"
    if pod.namespace in down.protected_namespaces:
        return "protected_namespace"
    return None
