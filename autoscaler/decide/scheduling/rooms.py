"""Rooms: what is free on a worker that exists, that comes, or that could be launched."""

import re
from collections.abc import Collection, Sequence

import msgspec

from autoscaler.decide.capacity.catalogue import nominal_resources
from autoscaler.decide.fleet import FleetView, Worker
from autoscaler.model import Pod, Resources
from autoscaler.policy import Policy

INSTANCE_TYPE_LABEL = "node_kubernetes_io_instance_type"
_ZONE_LABEL = "topology_kubernetes_io_zone"
MANAGED_LABEL = "k3s_autoscaler_managed"
_GRAVITON = re.compile(r"a1|[a-z]+\d+g[a-z]*")
"""AWS' naming: `g` right after the generation stands for Graviton (t4g, m7gd, im4gn)."""


class Room(msgspec.Struct, kw_only=True):
    """Free space on one real or coming worker. Changes while pods are put in."""

    key: str
    free: Resources
    labels: frozenset[tuple[str, str]]
    any_zone: bool = False
    """A coming worker may still land in any zone."""

    def accepts(self, pod: Pod) -> bool:
        """Whether the pod fits now."""
        wanted = {(key, value) for key, value in pod.node_selector if not (self.any_zone and key == _ZONE_LABEL)}
        return wanted <= self.labels and pod.requests.fits_in(self.free)

    def takes(self, pod: Pod) -> bool:
        """Put the pod in if it fits."""
        if not self.accepts(pod):
            return False
        self.free -= pod.requests
        return True

    def another(self, key: str) -> "Room":
        """A room like this one, as free as this one is now."""
        return Room(key=key, free=self.free, labels=self.labels, any_zone=self.any_zone)

    def in_zone(self, zone: str, key: str) -> "Room":
        """A room like this one whose zone is settled."""
        return Room(key=key, free=self.free, labels=self.labels | {(_ZONE_LABEL, zone)})


def zone_of(pod: Pod) -> str:
    """The zone that the pod's node selector names, or empty."""
    return dict(pod.node_selector).get(_ZONE_LABEL, "")


def free_room(worker: Worker) -> Room | None:
    """What is left on a worker that has a Node; None while that is not known."""
    if worker.node is None or worker.node.allocatable is None:
        return None
    free = worker.node.allocatable
    for pod in worker.pods:
        free -= pod.requests
    return Room(key=worker.key, free=free, labels=_with_implied(worker.node.labels))


def new_room(instance_type: str, key: str, fleet: FleetView, pods: Sequence[Pod], policy: Policy) -> Room:
    """What a fresh worker of this type will offer.

    The smallest allocatable seen on a worker of the type, else the catalogue's, minus one pod of each DaemonSet that
    runs on the workers.
    """
    seen = [
        worker.node.allocatable
        for worker in fleet.workers
        if worker.node is not None
        and worker.node.allocatable is not None
        and (INSTANCE_TYPE_LABEL, instance_type) in worker.node.labels
    ]
    base = (
        Resources(
            cpu_millicores=min(r.cpu_millicores for r in seen),
            memory_bytes=min(r.memory_bytes for r in seen),
            pods=min(r.pods for r in seen),
        )
        if seen
        else nominal_resources(instance_type, policy)
    )
    worker_nodes = {worker.node.name for worker in fleet.workers if worker.node is not None}
    daemons: dict[str, Resources] = {}
    for pod in pods:
        if pod.owner_kind == "DaemonSet" and (pod.node in worker_nodes or not worker_nodes):
            owner = f"{pod.namespace}/{pod.owner_name}"
            daemons[owner] = _larger(daemons.get(owner), pod.requests)
    for daemon in daemons.values():
        base -= daemon
    labels = _with_implied({(INSTANCE_TYPE_LABEL, instance_type), (MANAGED_LABEL, "true")})
    return Room(key=key, free=base, labels=labels, any_zone=True)


def _with_implied(labels: Collection[tuple[str, str]]) -> frozenset[tuple[str, str]]:
    """With what the kubelet sets on every node and no allow-list needs to show: system and architecture.

    Charts ask for both as a matter of course (`nodeSelector: kubernetes.io/os: linux`).
    """
    implied = {("kubernetes_io_os", "linux")}
    for key, value in labels:
        if key == INSTANCE_TYPE_LABEL:
            graviton = _GRAVITON.fullmatch(value.partition(".")[0])
            implied.add(("kubernetes_io_arch", "arm64" if graviton else "amd64"))
    return frozenset({*labels, *implied})


def _larger(one: Resources | None, other: Resources) -> Resources:
    if one is None:
        return other
    return Resources(
        cpu_millicores=max(one.cpu_millicores, other.cpu_millicores),
        memory_bytes=max(one.memory_bytes, other.memory_bytes),
        pods=max(one.pods, other.pods),
    )
