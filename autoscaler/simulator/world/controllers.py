"""Kubernetes' controllers in small: replicas, binding, starting, eviction with budgets, the loss of a node's pods."""

import hashlib
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final

from autoscaler.simulator.world.objects import (
    SYSTEM_BURN_CORES,
    SYSTEM_MEMORY_BYTES,
    ClusterState,
    Phase,
    SimNode,
    SimPod,
    Volume,
)
from autoscaler.simulator.world.rules import claim_name, claim_names, node_spec, rules_of
from autoscaler.simulator.world.scheduler import belongs, placements
from autoscaler.simulator.world.workload import Kind, Workload

GRACE_S: Final = 30.0
"""A pod's default grace period (terminationGracePeriodSeconds): its deletion timestamp lies that far ahead."""
NETWORK_DRIVER: Final = "ebs.csi.aws.com"
HELD_S: Final = 10.0
"""How often a pod that something holds is looked at again."""
_SUFFIX_LETTERS: Final = "bcdfghjklmnpqrstvwxz2456789"


@dataclass(frozen=True, slots=True)
class BudgetStatus:
    """What a PodDisruptionBudget's status says."""

    expected: int
    healthy: int
    desired_healthy: int

    @property
    def allowed(self) -> int:
        """How many pods may be evicted now."""
        return max(0, self.healthy - self.desired_healthy)


def settle(state: ClusterState) -> None:
    """Let the controllers, the scheduler and the meters follow what changed."""
    while state.dirty_owners:
        for key in sorted(state.dirty_owners):
            state.dirty_owners.discard(key)
            _follow_replicas(state, key)
    while state.schedule_due:
        state.schedule_due = False
        _schedule(state)
    for name in state.dirty_nodes:
        node = state.nodes.get(name)
        if node is not None:
            _measure(state, node)
    state.dirty_nodes.clear()


def _schedule(state: ClusterState) -> None:
    """One pass of the scheduler; another is due when a pod was placed that may let in one that was refused before."""
    choosy = False
    for placement in placements(state):
        pod = placement.pod
        pod.unschedulable_message = placement.message
        if placement.node is not None:
            _bind(state, pod, placement.node)
            state.schedule_due = state.schedule_due or choosy
            continue
        choosy = choosy or bool(pod.rules.affinity or pod.rules.spread)
        if pod.unschedulable_since_s is None:
            pod.unschedulable_since_s = state.now_s
            state.tell("pod", pod.title, f"is unschedulable: {placement.message}")


# ------------------------------------------------------------------------------------------------------------ replicas


def live_pods(state: ClusterState, key: str) -> list[SimPod]:
    """The pods of an owner that count as replicas: neither on their way out nor finished."""
    return [pod for pod in state.owned.get(key, {}).values() if not pod.terminating and not pod.finished]


def _follow_replicas(state: ClusterState, key: str) -> None:
    workload = state.workloads.get(key)
    if workload is None:
        for pod in list(state.owned.get(key, {}).values()):
            delete_pod(state, pod)
        return
    if workload.kind is Kind.DAEMON_SET:
        _one_on_each_node(state, workload)
    elif workload.kind is Kind.STATEFUL_SET:
        _follow_ordinals(state, workload)
    elif workload.kind is Kind.DEPLOYMENT:
        pods = live_pods(state, key)
        for _ in range(workload.replicas - len(pods)):
            create_pod(state, workload, name=f"{workload.name}-{_hash(key)}-{_suffix(state)}")
        for pod in sorted(pods, key=_deletion_rank(pods))[: max(0, len(pods) - workload.replicas)]:
            delete_pod(state, pod)


def _deletion_rank(pods: Sequence[SimPod]) -> Callable[[SimPod], tuple[bool, bool, int, float, str]]:
    """Who goes first of too many: unassigned ones, not ready ones, those with most of their like on their Node.

    Then the youngest. So a smaller Deployment stays spread, and its Nodes do not get empty one by one. Source:
    Kubernetes' ReplicaSet controller, which ranks pods by related pods on the same Node, once for all that it deletes.
    """
    beside = Counter(pod.node.name for pod in pods if pod.node is not None)

    def rank(pod: SimPod) -> tuple[bool, bool, int, float, str]:
        like = beside[pod.node.name] if pod.node is not None else 0
        return pod.node is not None, pod.ready, -like, -pod.created_at_s, pod.uid

    return rank


def _one_on_each_node(state: ClusterState, workload: Workload) -> None:
    present = {pod.bound_to for pod in live_pods(state, workload.key)}
    for node in state.nodes.values():
        # The controller makes no pod where a taint would keep it away; one that runs already stays.
        if node.name not in present and belongs(workload, node_spec(node)):
            create_pod(state, workload, name=f"{workload.name}-{_suffix(state)}", bound_to=node.name)


def _follow_ordinals(state: ClusterState, workload: Workload) -> None:
    pods = {pod.ordinal: pod for pod in state.owned.get(workload.key, {}).values()}
    for ordinal in range(workload.replicas):
        if ordinal not in pods:  # a terminating one still holds the name
            create_pod(state, workload, name=f"{workload.name}-{ordinal}", ordinal=ordinal)
    for ordinal, pod in pods.items():
        if ordinal >= workload.replicas:
            delete_pod(state, pod)


def create_pod(state: ClusterState, workload: Workload, *, name: str, ordinal: int = -1, bound_to: str = "") -> SimPod:
    """Make a Pod object; the scheduler looks at it at once."""
    replica_set = f"{workload.name}-{_hash(workload.key)}"
    owner_kind, owner_name = {
        Kind.DEPLOYMENT: ("ReplicaSet", replica_set),
        Kind.DAEMON_SET: ("DaemonSet", workload.name),
        Kind.STATEFUL_SET: ("StatefulSet", workload.name),
        Kind.POD: ("", ""),
    }[workload.kind]
    pod = SimPod(
        namespace=workload.namespace,
        name=name,
        uid=state.new_uid(),
        created_at_s=state.now_s,
        workload=workload,
        template=workload.template,
        ask=workload.template.effective(),
        rules=rules_of(workload),
        owner_kind=owner_kind,
        owner_name=owner_name,
        ordinal=ordinal,
        bound_to=bound_to,
    )
    for claim in workload.template.constraints.claims:
        key = (workload.namespace, claim_name(claim, pod))
        if claim.zone and key not in state.volumes:
            state.volumes[key] = Volume("-".join(("pvc", *key)), *key, csi_driver=NETWORK_DRIVER, zone=claim.zone)
    state.pods[pod.uid] = pod
    state.owned.setdefault(workload.key, {})[pod.uid] = pod
    state.unbound[pod.uid] = pod
    state.schedule_due = True
    if workload.template.gated:
        pod.unschedulable_since_s = state.now_s
    return pod


def create_bare_pods(state: ClusterState, workload: Workload) -> None:
    """Make the pods of a bare workload, once."""
    names = [workload.name] if workload.replicas == 1 else [f"{workload.name}-{n}" for n in range(workload.replicas)]
    for name in names:
        create_pod(state, workload, name=name)


def _hash(key: str) -> str:
    """As a ReplicaSet's: of the letters of apimachinery's rand.SafeEncodeString."""
    return "".join(_SUFFIX_LETTERS[byte % len(_SUFFIX_LETTERS)] for byte in hashlib.sha256(key.encode()).digest()[:9])


def _suffix(state: ClusterState) -> str:
    return "".join(state.rng.choices(_SUFFIX_LETTERS, k=5))


# -------------------------------------------------------------------------------------------------------- life of pods


def _bind(state: ClusterState, pod: SimPod, node: SimNode) -> None:
    del state.unbound[pod.uid]
    pod.node = node
    pod.scheduled_at_s = state.now_s
    if pod.unschedulable_since_s is not None:
        waited_s = state.now_s - pod.unschedulable_since_s
        state.tell("pod", pod.title, f"is scheduled to {node.name} after {waited_s:.0f} s")
        pod.unschedulable_since_s = None
    node.pods[pod.uid] = pod
    node.asked_millicores += pod.ask.cpu_millicores
    node.asked_bytes += pod.ask.memory_bytes
    _bind_claims(state, pod, node)
    pod.ip = f"10.42.{sum(node.name.encode()) % 250}.{state.rng.randrange(2, 254)}"
    if not pod.template.image_pull_fails:
        state.at(state.now_s + pod.template.start_s, lambda: start_pod(state, pod))


def _bind_claims(state: ClusterState, pod: SimPod, node: SimNode) -> None:
    for claim in claim_names(pod):
        if (pod.namespace, claim) in state.volumes:
            continue
        name = f"pvc-{state.new_uid()}"
        if claim == pod.claim:
            volume = Volume(name, pod.namespace, claim, node_name=node.name, csi_driver=pod.workload.csi_driver)
        else:
            volume = Volume(name, pod.namespace, claim, csi_driver=NETWORK_DRIVER, zone=node.machine.zone)
        state.volumes[pod.namespace, claim] = volume


def start_pod(state: ClusterState, pod: SimPod) -> None:
    """The kubelet starts the containers, if it works and the pod is still wanted."""
    node = pod.node
    if node is None or pod.uid not in state.pods or pod.terminating or pod.started or not node.kubelet_works:
        return
    pod.started = True
    pod.phase = Phase.RUNNING
    state.dirty_nodes.add(node.name)
    if pod.template.run_for_s is not None and pod.workload.kind is Kind.POD:
        state.at(state.now_s + pod.template.run_for_s, lambda: _finish(state, pod))


def _finish(state: ClusterState, pod: SimPod) -> None:
    if pod.uid not in state.pods or pod.terminating or pod.node is None or not pod.node.kubelet_works:
        return
    pod.phase = Phase.SUCCEEDED
    pod.node.asked_millicores -= pod.ask.cpu_millicores
    pod.node.asked_bytes -= pod.ask.memory_bytes
    state.dirty_nodes.add(pod.node.name)
    state.schedule_due = True


def delete_pod(state: ClusterState, pod: SimPod, *, grace_s: float = -1) -> None:
    """Ask for its end. It goes when the kubelet says so; without a kubelet it stays until the Node object goes."""
    if pod.terminating or pod.uid not in state.pods:
        return
    state.dirty_owners.add(pod.workload.key)
    if pod.node is None:
        pod.deletion_at_s = state.now_s
        if pod.template.finalizer_s:
            state.at(state.now_s + pod.template.finalizer_s, lambda: end_pod(state, pod))
        else:
            remove_pod(state, pod)
        return
    pod.deletion_at_s = state.now_s + (GRACE_S if grace_s < 0 else grace_s)
    stop_s = pod.template.stop_s if grace_s < 0 else min(grace_s, pod.template.stop_s)
    state.at(state.now_s + stop_s, lambda: end_pod(state, pod))


def end_pod(state: ClusterState, pod: SimPod) -> None:
    """The kubelet confirms the end, if it works and nothing holds the pod."""
    if state.faults.pods_stay and pod.node is not None:
        state.at(state.now_s + HELD_S, lambda: end_pod(state, pod))
    elif pod.uid in state.pods and (pod.node is None or pod.node.kubelet_works):
        remove_pod(state, pod)


def remove_pod(state: ClusterState, pod: SimPod) -> None:
    """Take the Pod object away."""
    del state.pods[pod.uid]
    state.unbound.pop(pod.uid, None)
    owned = state.owned[pod.workload.key]
    del owned[pod.uid]
    if not owned:
        del state.owned[pod.workload.key]
    node = pod.node
    if node is not None:
        del node.pods[pod.uid]
        if not pod.finished:
            node.asked_millicores -= pod.ask.cpu_millicores
            node.asked_bytes -= pod.ask.memory_bytes
        state.dirty_nodes.add(node.name)
        state.schedule_due = True
    state.dirty_owners.add(pod.workload.key)
    for action in list(state.after_termination):
        action()


def kubelet_returned(state: ClusterState, node: SimNode) -> None:
    """Start and end what could not be started or ended while the kubelet did not work."""
    for pod in list(node.pods.values()):
        if pod.terminating:
            end_pod(state, pod)
        elif not pod.started and not pod.template.image_pull_fails:
            start_pod(state, pod)


def give_up_pods(state: ClusterState, node: SimNode) -> None:
    """Delete what does not tolerate a lost node: after 300 s of `not-ready` or `unreachable` by default."""
    for pod in list(node.pods.values()):
        if pod.workload.kind is not Kind.DAEMON_SET:
            delete_pod(state, pod)


# -------------------------------------------------------------------------------------------------------------- budgets


def budget_status(state: ClusterState, workload: Workload) -> BudgetStatus | None:
    """The status of the workload's budget; None where it has none."""
    if workload.budget is None:
        return None
    pods = live_pods(state, workload.key)
    expected = len(pods) if workload.kind is Kind.POD else workload.replicas
    healthy = sum(1 for pod in pods if pod.ready)
    return BudgetStatus(expected, healthy, workload.budget.desired_healthy(expected))


def may_evict(state: ClusterState, pod: SimPod) -> bool:
    """Whether the eviction API would let the pod go now. Pods that are not Ready are not protected by a budget."""
    workload = state.workloads.get(pod.workload.key)
    status = budget_status(state, workload) if workload is not None else None
    return status is None or not pod.ready or status.allowed > 0


def evictable_pods(node: SimNode) -> list[SimPod]:
    """What a drain has to move: everything but DaemonSets' pods and those already on their way."""
    return [pod for pod in node.pods.values() if pod.workload.kind is not Kind.DAEMON_SET and not pod.terminating]


# --------------------------------------------------------------------------------------------------------------- meters


def _measure(state: ClusterState, node: SimNode) -> None:
    if not node.machine.alive:
        node.machine.cpu.set(state.now_s, 0.0)
        node.machine.memory.set(state.now_s, 0.0)
        return
    burn = SYSTEM_BURN_CORES
    used = float(SYSTEM_MEMORY_BYTES)
    for pod in node.pods.values():
        if pod.phase is Phase.RUNNING:
            template = pod.template
            burn += template.burn_cores
            used += pod.ask.memory_bytes if template.used_memory_bytes is None else template.used_memory_bytes
    node.machine.cpu.set(state.now_s, min(burn, node.capacity.cpu_millicores / 1000))
    node.machine.memory.set(state.now_s, min(used, float(node.capacity.memory_bytes)))
