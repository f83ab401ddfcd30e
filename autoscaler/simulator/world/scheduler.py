"""A simple, honest scheduler: filters as kube-scheduler's, then least allocated first. It never preempts."""

from collections.abc import Iterable
from typing import Final

from autoscaler.simulator.world.objects import ClusterState, SimNode, SimPod, Taint
from autoscaler.simulator.world.workload import SYSTEM_CRITICAL, Kind, PodTemplate, Toleration

DAEMON_TOLERATIONS: Final = (
    Toleration(key="node.kubernetes.io/not-ready", effect="NoExecute"),
    Toleration(key="node.kubernetes.io/unreachable", effect="NoExecute"),
    Toleration(key="node.kubernetes.io/disk-pressure", effect="NoSchedule"),
    Toleration(key="node.kubernetes.io/memory-pressure", effect="NoSchedule"),
    Toleration(key="node.kubernetes.io/pid-pressure", effect="NoSchedule"),
    Toleration(key="node.kubernetes.io/unschedulable", effect="NoSchedule"),
)
"""What the DaemonSet controller adds (Kubernetes' documentation of DaemonSets, Taints and tolerations)."""


def tolerates(tolerations: Iterable[Toleration], taint: Taint) -> bool:
    """Whether one of the tolerations covers the taint."""
    return any(
        (not toleration.key or toleration.key == taint.key)
        and (not toleration.effect or toleration.effect == taint.effect)
        for toleration in tolerations
    )


def tolerations_of(pod_template: PodTemplate, kind: Kind) -> tuple[Toleration, ...]:
    """The template's own, and those that the DaemonSet controller adds."""
    return (*pod_template.tolerations, *DAEMON_TOLERATIONS) if kind is Kind.DAEMON_SET else pod_template.tolerations


def fits(pod: SimPod, node: SimNode, volume_node: str | None) -> bool:
    """Whether the pod may run on the node now. `volume_node`: where its local volume lies, if it has one."""
    template, ask = pod.template, pod.ask
    tolerations = tolerations_of(template, pod.workload.kind)
    return (
        (volume_node is None or volume_node == node.name)
        and (not pod.bound_to or pod.bound_to == node.name)
        and (not node.useless or pod.workload.kind is Kind.DAEMON_SET)
        and node.asked_millicores + ask.cpu_millicores <= node.allocatable.cpu_millicores
        and node.asked_bytes + ask.memory_bytes <= node.allocatable.memory_bytes
        and len(node.pods) < node.max_pods
        and all(node.labels.get(key) == value for key, value in template.node_selector)
        and all(tolerates(tolerations, taint) for taint in node.taints())
    )


def score(pod: SimPod, node: SimNode) -> float:
    """The mean free share after placing the pod: kube-scheduler's LeastAllocated."""
    cpu = 1 - (node.asked_millicores + pod.ask.cpu_millicores) / node.allocatable.cpu_millicores
    memory = 1 - (node.asked_bytes + pod.ask.memory_bytes) / node.allocatable.memory_bytes
    return (cpu + memory) / 2


def choose(pod: SimPod, nodes: Iterable[SimNode], volume_node: str | None) -> SimNode | None:
    """The best node for the pod, or None. Ties fall by name, so that a run can be repeated."""
    candidates = [node for node in nodes if fits(pod, node, volume_node)]
    return max(candidates, key=lambda node: (score(pod, node), node.name), default=None)


def placements(state: ClusterState) -> Iterable[tuple[SimPod, SimNode | None]]:
    """Judge the unbound pods that are not gated, by priority and age; the caller binds before it takes the next."""
    waiting = sorted(
        (pod for pod in state.unbound.values() if not pod.template.gated and not pod.terminating),
        key=lambda pod: (-SYSTEM_CRITICAL.get(pod.template.priority_class, 0), pod.created_at_s, pod.uid),
    )
    # Placing pods only takes room away: what did not fit once in this pass need not be tried again.
    hopeless: set[tuple[object, ...]] = set()
    for pod in waiting:
        volume = state.volumes.get((pod.namespace, pod.claim)) if pod.claim else None
        volume_node = volume.node_name if volume is not None else None
        alike = (pod.ask, pod.template.node_selector, pod.template.tolerations, pod.bound_to, volume_node)
        if alike in hopeless:
            yield pod, None
            continue
        node = choose(pod, state.nodes.values(), volume_node)
        if node is None:
            hopeless.add(alike)
        yield pod, node
