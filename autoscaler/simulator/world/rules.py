"""The world in the scheduler's words: pods as `PodRules`, Nodes as `NodeSpec`, all of it as a `Cluster`."""

from collections import Counter
from collections.abc import Iterable, Mapping
from functools import lru_cache
from typing import Final

import msgspec

from autoscaler.decide.scheduling.cluster import Cluster
from autoscaler.model.rules import (
    HOSTNAME_LABEL,
    Amounts,
    BoundClaim,
    Claim,
    Effect,
    Labels,
    MissingClaim,
    NodeSpec,
    NodeTerm,
    Operator,
    PodRules,
    Requirement,
    Toleration,
    WaitingClaim,
)
from autoscaler.simulator.world.labels import ZONE_LABEL
from autoscaler.simulator.world.objects import STORAGE_BYTES, ClusterState, SimNode, SimPod, Volume
from autoscaler.simulator.world.workload import SYSTEM_CRITICAL, Ask, Kind, PodTemplate, VolumeClaim, Workload

DAEMON_TOLERATIONS: Final = (
    *(
        Toleration(key=f"node.kubernetes.io/{key}", any_value=True, effect=Effect.NO_EXECUTE)
        for key in ("not-ready", "unreachable")
    ),
    *(
        Toleration(key=f"node.kubernetes.io/{key}", any_value=True, effect=Effect.NO_SCHEDULE)
        for key in ("disk-pressure", "memory-pressure", "pid-pressure", "unschedulable")
    ),
)
"""What the DaemonSet controller adds (Kubernetes' documentation of DaemonSets, Taints and tolerations)."""
_NO_NETWORK: Final = Toleration(key="node.kubernetes.io/network-unavailable", any_value=True, effect=Effect.NO_SCHEDULE)
"""And to those on the host's network."""
LOST_NODE_TOLERATIONS: Final = DAEMON_TOLERATIONS[:2]
"""What admission adds to all other pods, for 300 s each (DefaultTolerationSeconds)."""


def labels_of(workload: Workload) -> Labels:
    """Labels of its pods: what its budget selects, too."""
    return workload.template.constraints.labels or (("app", workload.name),)


def priority_of(template: PodTemplate) -> int:
    """Of its class, if Kubernetes defines it."""
    return SYSTEM_CRITICAL.get(template.priority_class, template.constraints.priority)


@lru_cache(maxsize=4096)
def rules_of(workload: Workload) -> PodRules:
    """What the scheduler asks of the workload's pods, but for their claims (`pod_rules`).

    A DaemonSet's pods are asked the same on each node; that each goes to one only is `SimPod.bound_to`.
    """
    template = workload.template
    constraints, added = template.constraints, LOST_NODE_TOLERATIONS
    if workload.kind is Kind.DAEMON_SET:
        added = (*DAEMON_TOLERATIONS, _NO_NETWORK) if template.host_network else DAEMON_TOLERATIONS
    return PodRules(
        namespace=workload.namespace,
        labels=labels_of(workload),
        requests=amounts_of(template),
        node_selector=tuple(sorted(template.node_selector)),
        node_affinity=constraints.node_affinity,
        tolerations=(*template.tolerations, *added),
        affinity=constraints.affinity,
        anti_affinity=constraints.anti_affinity,
        spread=constraints.spread,
        host_ports=constraints.host_ports,
        scheduler=constraints.scheduler,
        priority=priority_of(template),
        preempts=constraints.preempts,
    )


def amounts_of(template: PodTemplate) -> Amounts:
    """What its pods request, all in all."""
    ask = template.effective()
    amounts = {"cpu": ask.cpu_millicores, "memory": ask.memory_bytes, **dict(template.extended)}
    return tuple(sorted((name, value) for name, value in amounts.items() if value))


def pod_rules(state: ClusterState, pod: SimPod) -> PodRules:
    """What the scheduler asks of the pod now."""
    claims = tuple(_claims(state, pod))
    return msgspec.structs.replace(pod.rules, claims=claims) if claims else pod.rules


def claim_names(pod: SimPod) -> tuple[str, ...]:
    """The claims that the pod names, its local volume's first."""
    network = tuple(claim_name(claim, pod) for claim in pod.template.constraints.claims)
    return (pod.claim, *network) if pod.claim else network


def claim_name(claim: VolumeClaim, pod: SimPod) -> str:
    """A StatefulSet's pods have one each."""
    return f"{claim.name}-{pod.name}" if pod.workload.kind is Kind.STATEFUL_SET else claim.name


def _claims(state: ClusterState, pod: SimPod) -> Iterable[Claim]:
    missing = {claim_name(claim, pod) for claim in pod.template.constraints.claims if claim.missing}
    for name in claim_names(pod):
        volume = state.volumes.get((pod.namespace, name))
        if volume is not None:
            yield BoundClaim(name=name, node_affinity=(_reach(volume),))
        elif name in missing:
            yield MissingClaim(name=name)
        else:
            yield WaitingClaim(name=name, provisioned=True)


def _reach(volume: Volume) -> NodeTerm:
    """Where the volume can be mounted."""
    key, value = (ZONE_LABEL, volume.zone) if volume.zone else (HOSTNAME_LABEL, volume.node_name)
    return NodeTerm(labels=(Requirement(key, Operator.IN, (value,)),))


def node_spec(node: SimNode) -> NodeSpec:
    """What the scheduler reads of the Node."""
    return NodeSpec(
        name=node.name,
        labels=tuple(sorted(node.labels.items())),
        taints=node.taints(),
        unschedulable=node.cordoned,
        allocatable=allocatable_of(node.allocatable, node.max_pods, node.extended),
    )


def allocatable_of(allocatable: Ask, max_pods: int, extended: Mapping[str, int]) -> Amounts:
    """As `NodeSpec` has it."""
    amounts = {
        "cpu": allocatable.cpu_millicores,
        "ephemeral-storage": STORAGE_BYTES,
        "memory": allocatable.memory_bytes,
        "pods": max_pods,
    }
    return tuple(sorted({**amounts, **extended}.items()))


def namespace_labels(state: ClusterState) -> dict[str, dict[str, str]]:
    """Kubernetes gives each namespace its own name as a label; nobody adds others here."""
    names = {workload.namespace for workload in state.workloads.values()}
    names.update(pod.namespace for pod in state.pods.values())
    return {name: {"kubernetes.io/metadata.name": name} for name in sorted(names)}


def cluster_of(state: ClusterState) -> Cluster:
    """All Nodes with their unfinished pods, for the filters."""
    cluster = Cluster(namespace_labels(state))
    for node in state.nodes.values():
        info = cluster.add_node(node_spec(node))
        for (rules, ending), count in Counter(
            (pod.rules, pod.terminating) for pod in node.pods.values() if not pod.finished
        ).items():
            cluster.place(rules, info, count, ending=ending)
    return cluster
