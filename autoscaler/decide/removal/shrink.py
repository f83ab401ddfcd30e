"""Which worker could go, and why the others may not. Metrics only nominate: the drain's preflight decides."""

from collections import Counter
from collections.abc import Sequence

import msgspec

from autoscaler.decide.demand.use import low_enough, too_full_without
from autoscaler.decide.fleet import FleetView, Standing, Worker
from autoscaler.decide.scheduling.packing import pack
from autoscaler.decide.scheduling.rooms import free_room
from autoscaler.model import Asks, Blocked, MetricsStatus, Pod, RemovalOperation, RemovalPhase, Snapshot, State
from autoscaler.policy import Policy
from autoscaler.state.memory import refused_lately, times_refused
from autoscaler.state.notices import REBALANCE

_STAYS_BEHIND = frozenset({"DaemonSet", "Node"})
"""Owner kinds whose pods need no new home: daemons, and static pods (owned by their Node)."""


SEEN_AT_ONCE = 20
"""Workers whose single pods are asked for in one question, oldest first."""
STUCK_AFTER_S = 300
"""A phase that lasts this much longer than a drain may is stuck: it is alarmed, and no longer waited for."""


class ShrinkPlan(msgspec.Struct, frozen=True, kw_only=True):
    """Whom to remove, or why nobody."""

    candidates: tuple[Worker, ...]
    reason: str
    """Stable code: `low_utilisation`, `above_max`, or why not."""
    message: str
    blocked: tuple[Blocked, ...]
    asks: Asks = Asks()
    """What has to be seen before anybody can be nominated."""


def plan_shrink(
    snapshot: Snapshot,
    fleet: FleetView,
    state: State,
    policy: Policy,
    *,
    waiting_pods: int,
    now_s: int,
    distrusted: bool = False,
) -> ShrinkPlan:
    """Nominate workers to remove: all that are empty, else one; nobody unless everything is known and calm.

    `distrusted`: the scheduler leaves pods waiting for which the packing model finds room. Then only a worker that
    runs pods by now counts as a place for others: an empty one may be what no pod can use.
    """
    above_max = fleet.existing > policy.workers.max
    refusal = _not_now(snapshot, fleet, state, policy, waiting_pods=waiting_pods, now_s=now_s, above_max=above_max)
    if refusal is not None:
        return ShrinkPlan(candidates=(), reason=refusal[0], message=refusal[1], blocked=())
    if not snapshot.rooms_known:
        message = "what is free on the Nodes is not known"
        return ShrinkPlan(candidates=(), reason="unseen", message=message, blocked=(), asks=Asks(rooms=True))
    blocked: list[Blocked] = []
    eligible: list[Worker] = []
    for worker in fleet.having(Standing.READY):
        why = _keeps(worker, state, policy, now_s)
        if why is None:
            eligible.append(worker)
        elif worker.ours:
            blocked.append(Blocked(subject=worker.title, reason=why))
    places = [w for w in fleet.having(Standing.READY) if w.schedulable and not (w.empty and distrusted)]
    at_risk = {notice.subject for notice in state.notices if notice.kind == REBALANCE}
    # What EC2 may take soon goes first; of the others each gets its turn, the oldest first.
    eligible.sort(key=lambda worker: (times_refused(state, worker.title), worker.key not in at_risk))
    chosen, unseen = _choose(snapshot, fleet, eligible, policy, blocked, places=places, above_max=above_max)
    if chosen:
        reason = "above_max" if above_max else "low_utilisation"
        names = ", ".join(worker.title for worker in chosen)
        return ShrinkPlan(candidates=tuple(chosen), reason=reason, message=f"removing {names}", blocked=tuple(blocked))
    if unseen:
        return ShrinkPlan(
            candidates=(),
            reason="unseen",
            message=f"the pods of {unseen[0]} are not known",
            blocked=tuple(blocked),
            asks=Asks(pods_of=unseen),
        )
    return ShrinkPlan(
        candidates=(),
        reason="no_candidate",
        message="every worker is needed, protected or not ours: see blocked",
        blocked=tuple(blocked),
    )


def movable_pods(worker: Worker) -> list[Pod]:
    """Pods that a drain evicts, as far as its pods are known."""
    return [pod for pod in worker.pods or () if pod.owner_kind not in _STAYS_BEHIND]


def _not_now(
    snapshot: Snapshot,
    fleet: FleetView,
    state: State,
    policy: Policy,
    *,
    waiting_pods: int,
    now_s: int,
    above_max: bool,
) -> tuple[str, str] | None:
    if snapshot.metrics_status is not MetricsStatus.OK:
        return (
            f"metrics_{snapshot.metrics_status.value}",
            f"no shrink without complete metrics: {_first_problem(snapshot)}",
        )
    if waiting_pods:
        return "pods_waiting", f"{waiting_pods} pods wait for a node"
    if state.launches or fleet.joining:
        return "waiting_for_nodes", "workers are joining"
    if any(_holds_up_others(removal, policy, now_s) for removal in state.removals):
        return "removal_under_way", "a removal is under way; the next worker waits for its end"
    if fleet.ready == policy.workers.min == 0:  # nobody's use can be low then
        return "at_min", "no worker is Ready"
    if not above_max and (why := low_enough(snapshot, policy)) is not None:
        return "steady", why
    if fleet.ready <= policy.workers.min:
        return "at_min", f"{fleet.ready} workers are Ready and workers.min is {policy.workers.min}"
    last_s = max(state.last_scale_up_s or 0, state.last_scale_down_s or 0)
    if now_s - last_s < policy.scale_down.cool_down_s:
        left_s = policy.scale_down.cool_down_s - (now_s - last_s)
        return "cooling_down", f"the last change is {now_s - last_s} s ago; the cool-down ends in {left_s} s"
    if not fleet.servers:
        return "no_server", "no running server instance with the tag k3s-autoscaler/role=server: nobody could drain"
    return None


def _holds_up_others(removal: RemovalOperation, policy: Policy, now_s: int) -> bool:
    """Workers leave one at a time; one that is stuck blocks its own Node only."""
    leaving = removal.phase in {RemovalPhase.DRAINING, RemovalPhase.DRAINED, RemovalPhase.TERMINATING}
    return leaving and not removal.reclaim and now_s - removal.phase_since_s <= policy.drain.timeout_s + STUCK_AFTER_S


def _first_problem(snapshot: Snapshot) -> str:
    return snapshot.metrics_problems[0] if snapshot.metrics_problems else "unknown"


def _keeps(worker: Worker, state: State, policy: Policy, now_s: int) -> str | None:
    """Why this worker stays, whatever the demand; None when it may be nominated."""
    node, instance = worker.node, worker.instance
    if not worker.ours or instance is None:
        return "not_ours: it lacks the tag ManagedBy=autoscaler of this cluster"
    if node is None or not worker.schedulable:
        return "not_schedulable: cordoned or tainted by somebody else"
    age_s = now_s - instance.launched_at_s
    if age_s < policy.scale_down.min_age_s:
        return f"young: {age_s} s old; scale_down.min_age_s is {policy.scale_down.min_age_s}"
    if node.local_volumes:
        return f"local_volume: {node.local_volumes} node-local volumes live on it"
    if (refused := refused_lately(state, node.name, now_s)) is not None:
        return refused
    for pod in movable_pods(worker):
        why = _pod_keeps(pod, policy)
        if why is not None:
            return f"{why}: {pod.title}"
    return None


def _pod_keeps(pod: Pod, policy: Policy) -> str | None:
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


def _choose(
    snapshot: Snapshot,
    fleet: FleetView,
    eligible: Sequence[Worker],
    policy: Policy,
    blocked: list[Blocked],
    *,
    places: Sequence[Worker],
    above_max: bool,
) -> tuple[list[Worker], tuple[str, ...]]:
    """Empty ones together, else the first that may go; each judged on the cluster without those chosen before.

    Returns them, and the first Nodes whose pods have to be seen before they can be judged.
    """
    floor = policy.workers.min
    spare = fleet.ready - floor
    if above_max:
        # Use need not be low for this: no more go than are too many.
        spare = min(spare, fleet.existing - policy.workers.max)
    # What workers use that run nothing for anybody is their own and leaves with them: `min: 0` may be reached.
    use_counts = not above_max and any(not worker.empty for worker in fleet.having(Standing.READY))
    chosen: list[Worker] = []
    unseen: list[str] = []
    for worker in sorted(eligible, key=lambda worker: not worker.empty):
        if len(chosen) >= spare:
            blocked.append(Blocked(subject=worker.title, reason=f"needed: {floor} workers are wanted"))
            continue
        if chosen and (not worker.empty or len(chosen) >= policy.scale_down.max_empty_step):
            break
        gone = {worker.key, *(other.key for other in chosen)}
        why = too_full_without(snapshot, fleet, gone, policy) if use_counts else None
        if why is not None:
            blocked.append(Blocked(subject=worker.title, reason=f"needed: {why}"))
            continue
        if not worker.empty and worker.pods is None:
            unseen.append(worker.title)
            continue
        why = cannot_lose(fleet, worker, chosen, places)
        if why is not None:
            blocked.append(Blocked(subject=worker.title, reason=why))
            continue
        chosen.append(worker)
        if not worker.empty:
            break
    return chosen, tuple(unseen[:SEEN_AT_ONCE])


def cannot_lose(fleet: FleetView, worker: Worker, gone: Sequence[Worker], places: Sequence[Worker]) -> str | None:
    """Why the cluster without it (and those in `gone`) has no room for its pods, or uneven zones; None where it has."""
    staying = [w for w in fleet.having(Standing.READY) if w.key != worker.key and w not in gone]
    rooms = [room for w in staying if w in places and (room := free_room(w)) is not None]
    left = pack(movable_pods(worker), rooms).left
    if left:
        return f"no_room: {left[0].title} fits on no other worker"
    before = _unevenness([*staying, worker])
    after = _unevenness(staying, zones=[*staying, worker])
    if after > max(1, before):
        return f"zones: without it the zones would differ by {after} workers"
    return None


def _unevenness(workers: Sequence[Worker], zones: Sequence[Worker] = ()) -> int:
    """Largest difference between the zones; a zone that loses its last worker counts with zero."""
    counts = Counter({worker.zone: 0 for worker in (*workers, *zones) if worker.zone is not None})
    counts.update(worker.zone for worker in workers if worker.zone is not None)
    return max(counts.values()) - min(counts.values()) if counts else 0
