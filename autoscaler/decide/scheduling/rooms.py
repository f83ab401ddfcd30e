"""Rooms: what is free on a worker that exists, that comes, or that could be launched."""

import re
from collections.abc import Collection, Sequence

import msgspec

from autoscaler.decide.capacity.catalogue import nominal_resources
from autoscaler.decide.fleet import FleetView, Worker
from autoscaler.model import DaemonSet, Pod, Resources
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
    node = worker.node
    if node is None or node.allocatable is None or node.requested is None:
        return None
    return Room(key=worker.key, free=node.allocatable - node.requested, labels=_with_implied(node.labels))


def new_room(instance_type: str, key: str, fleet: FleetView, daemons: Sequence[DaemonSet], policy: Policy) -> Room:
    """What a fresh worker of this type will offer once a pod of each DaemonSet runs there."""
    base = offered(instance_type, fleet, policy)
    for daemon in daemons:
        base -= daemon.requests
    labels = _with_implied({(INSTANCE_TYPE_LABEL, instance_type), (MANAGED_LABEL, "true")})
    return Room(key=key, free=base, labels=labels, any_zone=True)


def offered(instance_type: str, fleet: FleetView, policy: Policy) -> Resources:
    """What pods and DaemonSets get of a worker of this type: the smallest that was seen of it, else the catalogue's."""
    seen = [
        worker.node.allocatable
        for worker in fleet.workers
        if worker.node is not None and worker.node.allocatable is not None and _is_of_type(worker, instance_type)
    ]
    if not seen:
        return nominal_resources(instance_type, policy)
    return Resources(
        cpu_millicores=min(r.cpu_millicores for r in seen),
        memory_bytes=min(r.memory_bytes for r in seen),
        pods=min(r.pods for r in seen),
    )


def _is_of_type(worker: Worker, instance_type: str) -> bool:
    """EC2 says it of its instances; a label says it of the others, once labels were asked for."""
    if worker.instance is not None:
        return worker.instance.instance_type == instance_type
    return worker.node is not None and (INSTANCE_TYPE_LABEL, instance_type) in worker.node.labels


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
