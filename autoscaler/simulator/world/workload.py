"""What runs in the simulated cluster: values that `World.apply` takes.

A workload is named by its owner key `namespace/name`; the kinds are Kubernetes' own.
"""

from enum import StrEnum
from typing import Final

import msgspec

from autoscaler.model.rules import (
    DEFAULT_SCHEDULER,
    Amounts,
    HostPort,
    Labels,
    NodeTerm,
    PodTerm,
    SpreadConstraint,
    Toleration,
)

MIB: Final = 1024 * 1024
SYSTEM_CRITICAL: Final = {"system-cluster-critical": 2_000_000_000, "system-node-critical": 2_000_001_000}
"""Priorities that Kubernetes itself defines; every other class counts as 0 here."""
SAFE_TO_EVICT: Final = "cluster-autoscaler.kubernetes.io/safe-to-evict"
DO_NOT_DISRUPT: Final = "karpenter.sh/do-not-disrupt"
CONTROL_PLANE_LABEL: Final = "node-role.kubernetes.io/control-plane"


class Kind(StrEnum):
    """Kinds of workload."""

    DEPLOYMENT = "Deployment"
    DAEMON_SET = "DaemonSet"
    STATEFUL_SET = "StatefulSet"
    POD = "Pod"
    """Bare pods: nobody makes them again."""


class Ask(msgspec.Struct, frozen=True, kw_only=True):
    """A request for CPU and memory; 0 means that the container states none."""

    cpu_millicores: int = 0
    memory_bytes: int = 0


NOTHING: Final = Ask()


class VolumeClaim(msgspec.Struct, frozen=True, kw_only=True):
    """A claim on a network volume: of a class with WaitForFirstConsumer, so that its first pod chooses the zone.

    The pods of a StatefulSet have one each (`NAME-POD`), those of any other owner share it.
    """

    name: str
    zone: str = ""
    """Where its volume lies already; empty: it is made where the first pod goes."""
    missing: bool = False
    """Pods name it and nobody made it."""


class Constraints(msgspec.Struct, frozen=True, kw_only=True):
    """What a pod asks of the scheduler beside room, a node selector and tolerations, in the words of `model.rules`."""

    labels: Labels = ()
    """Empty: `app=NAME` of its workload."""
    node_affinity: tuple[NodeTerm, ...] | None = None
    affinity: tuple[PodTerm, ...] = ()
    anti_affinity: tuple[PodTerm, ...] = ()
    spread: tuple[SpreadConstraint, ...] = ()
    host_ports: tuple[HostPort, ...] = ()
    claims: tuple[VolumeClaim, ...] = ()
    scheduler: str = DEFAULT_SCHEDULER
    """A pod of another one waits for ever, and nobody says that it is unschedulable."""
    priority: int = 0
    """Of a class that Kubernetes does not define itself; it decides who is placed first."""
    preempts: bool = True
    """Told only: nothing is ever pushed off a node here."""


class PodTemplate(msgspec.Struct, frozen=True, kw_only=True):
    """What a pod asks for, and what it then really uses."""

    request: Ask = Ask(cpu_millicores=100, memory_bytes=64 * MIB)
    init: Ask = NOTHING
    sidecar: Ask = NOTHING
    overhead: Ask = NOTHING
    pod_level: Ask = NOTHING
    """`spec.resources` of the pod: takes the place of its containers' sum. kube-state-metrics does not know it."""
    extended: Amounts = ()
    """What the app container asks of extended resources, in pieces, as `InstanceType.extended` has them."""
    constraints: Constraints = Constraints()
    burn_cores: float = 0.0
    """CPU that it wants while it runs; a full node shares what it has."""
    used_memory_bytes: int | None = None
    """Memory that it uses while it runs; None: as much as it requests."""
    priority_class: str = ""
    node_selector: tuple[tuple[str, str], ...] = ()
    tolerations: tuple[Toleration, ...] = ()
    annotations: tuple[tuple[str, str], ...] = ()
    gated: bool = False
    image_pull_fails: bool = False
    host_network: bool = False
    start_s: float = 2.0
    """From binding to Ready."""
    stop_s: float = 1.0
    """From eviction to gone, unless a shorter grace period is given."""
    run_for_s: float | None = None
    """Ends in phase Succeeded after this long; bare pods only."""
    finalizer_s: float = 0.0
    """How long a finalizer holds a pod that is deleted before any node took it; others go when their kubelet says."""

    def effective(self) -> Ask:
        """What the scheduler reserves: pod level, or else max(app + sidecar, init + sidecar), + overhead, per resource.

        Source: Kubernetes' documentation of sidecar containers, "Resource sharing within containers", and of pod-level
        resources.
        """
        cpu_millicores = max(self.request.cpu_millicores, self.init.cpu_millicores) + self.sidecar.cpu_millicores
        memory_bytes = max(self.request.memory_bytes, self.init.memory_bytes) + self.sidecar.memory_bytes
        return Ask(
            cpu_millicores=(self.pod_level.cpu_millicores or cpu_millicores) + self.overhead.cpu_millicores,
            memory_bytes=(self.pod_level.memory_bytes or memory_bytes) + self.overhead.memory_bytes,
        )

    def do_not_evict(self) -> bool:
        """Whether an annotation forbids the eviction."""
        return (SAFE_TO_EVICT, "false") in self.annotations or (DO_NOT_DISRUPT, "true") in self.annotations


class Budget(msgspec.Struct, frozen=True, kw_only=True):
    """A PodDisruptionBudget over one workload: exactly one of the two is given."""

    max_unavailable: int | None = None
    min_available: int | None = None

    def __post_init__(self) -> None:
        if (self.max_unavailable is None) == (self.min_available is None):
            raise ValueError("a Budget takes exactly one of max_unavailable and min_available")

    def desired_healthy(self, expected: int) -> int:
        """How many pods must stay healthy of `expected`."""
        if self.min_available is not None:
            return self.min_available
        return max(0, expected - (self.max_unavailable or 0))


class Workload(msgspec.Struct, frozen=True, kw_only=True):
    """One Deployment, DaemonSet, StatefulSet or set of bare pods."""

    namespace: str
    name: str
    kind: Kind = Kind.DEPLOYMENT
    replicas: int = 1
    """Not used by a DaemonSet."""
    template: PodTemplate = PodTemplate()
    budget: Budget | None = None
    local_volume: bool = False
    """StatefulSet only: each pod gets a volume on its first node's own disk, which binds it to that node for ever."""
    csi_driver: str = ""
    """Of those volumes. Empty: local-path, whose volumes name their node; no metric tells the node of a driver's."""

    def __post_init__(self) -> None:
        if self.local_volume and self.kind is not Kind.STATEFUL_SET:
            raise ValueError(f"{self.key} is a {self.kind}: only a StatefulSet has local volumes here")
        if self.csi_driver and not self.local_volume:
            raise ValueError(f"{self.key} names the driver {self.csi_driver} of volumes that it does not have")
        if self.replicas < 0:
            raise ValueError(f"{self.key} wants {self.replicas} replicas: 0 is the least")

    @property
    def key(self) -> str:
        """The owner key, `namespace/name`."""
        return f"{self.namespace}/{self.name}"


def packaged_add_ons() -> tuple[Workload, ...]:
    """What K3s brings along, pinned to the server, and one DaemonSet for node-exporter."""
    on_server = ((CONTROL_PLANE_LABEL, "true"),)
    everywhere = (Toleration(any_value=True),)

    def deployment(name: str, priority_class: str, request: Ask, burn_cores: float) -> Workload:
        template = PodTemplate(
            request=request,
            burn_cores=burn_cores,
            used_memory_bytes=48 * MIB,
            priority_class=priority_class,
            node_selector=on_server,
            tolerations=everywhere,
        )
        return Workload(namespace="kube-system", name=name, template=template)

    def daemon_set(namespace: str, name: str, request: Ask, *, host_network: bool) -> Workload:
        template = PodTemplate(
            request=request,
            burn_cores=0.002,
            used_memory_bytes=16 * MIB,
            tolerations=everywhere,
            host_network=host_network,
        )
        return Workload(namespace=namespace, name=name, kind=Kind.DAEMON_SET, template=template)

    return (
        deployment("coredns", "system-cluster-critical", Ask(cpu_millicores=100, memory_bytes=70 * MIB), 0.01),
        deployment("metrics-server", "system-node-critical", Ask(cpu_millicores=100, memory_bytes=70 * MIB), 0.01),
        deployment("local-path-provisioner", "system-node-critical", NOTHING, 0.002),
        deployment("traefik", "system-cluster-critical", NOTHING, 0.01),
        daemon_set("kube-system", "svclb-traefik", NOTHING, host_network=False),
        daemon_set("monitoring", "node-exporter", Ask(cpu_millicores=10, memory_bytes=30 * MIB), host_network=True),
    )
