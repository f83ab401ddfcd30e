"""What a worker of a type gives to pods: as it is seen, as it was seen, else by the catalogue."""

from collections.abc import Mapping, Sequence

from autoscaler.decide.capacity.catalogue import nominal_resources
from autoscaler.decide.fleet import FleetView, Worker
from autoscaler.decide.scheduling.labels import INSTANCE_TYPE_LABEL, RealNames
from autoscaler.model import Resources, State
from autoscaler.policy import Policy


def offered(
    instance_type: str, fleet: FleetView, state: State, policy: Policy, *, seen: Mapping[str, Resources] | None = None
) -> Resources:
    """What pods and DaemonSets get of a worker of this type: the smallest that is or was seen, else the catalogue's.

    `seen`: what `sizes_seen` gives of this fleet, for whoever asks about many types.
    """
    known = [one.allocatable for one in state.seen_types if one.instance_type == instance_type]
    now = (sizes_seen(fleet) if seen is None else seen).get(instance_type)
    known += [now] if now is not None else []
    return smallest(known) if known else nominal_resources(instance_type, policy)


def sizes_seen(fleet: FleetView) -> dict[str, Resources]:
    """The smallest allocatable of each instance type of which a Node is shown: EC2 says the type, or a label does."""
    names = RealNames()
    found: dict[str, Resources] = {}
    for worker in fleet.workers:
        node = worker.node
        if node is None or node.allocatable is None:
            continue
        instance_type = type_of(worker, {} if worker.instance is not None else names.of(node.labels))
        if instance_type:
            known = found.get(instance_type)
            if known is None or not known.fits_in(node.allocatable):
                found[instance_type] = node.allocatable if known is None else smallest([known, node.allocatable])
    return found


def smallest(sizes: Sequence[Resources]) -> Resources:
    """Each dimension by itself."""
    return Resources(
        cpu_millicores=min(size.cpu_millicores for size in sizes),
        memory_bytes=min(size.memory_bytes for size in sizes),
        pods=min(size.pods for size in sizes),
    )


def type_of(worker: Worker, labels: Mapping[str, str]) -> str:
    """EC2 says it, or a label does; empty where neither."""
    return worker.instance.instance_type if worker.instance is not None else labels.get(INSTANCE_TYPE_LABEL, "")
