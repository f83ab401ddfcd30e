"""What the scheduler reads of each worker that exists, and what it would read of a new one.

Labels and taints come from the server that was asked last, for Nodes that it showed; else from the metrics, which show
the labels of an allow-list, and from what every worker of ours has by itself. What is observed beats what is implied.
Cordons and free room are always the metrics': they are fresh.
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import Final

from autoscaler.decide.capacity.catalogue import nominal_resources
from autoscaler.decide.fleet import FleetView, Standing, Worker
from autoscaler.decide.scheduling.cluster import Cluster, NodeInfo
from autoscaler.decide.scheduling.filters import LASTING
from autoscaler.decide.scheduling.labels import (
    INSTANCE_TYPE_LABEL,
    OF_ONE_TYPE,
    OLD_ZONE_LABELS,
    REGION_LABEL,
    ZONE_LABEL,
    RealNames,
    as_labels,
    implied,
    labels_by_nature,
    region_of,
    shared,
    zone_valued,
)
from autoscaler.decide.scheduling.matching import HARD
from autoscaler.decide.scheduling.placing import Template
from autoscaler.model import Node, Resources, SchedulingRules, SeenType, Snapshot, State
from autoscaler.model.rules import HOSTNAME_LABEL, Amounts, Effect, NodeSpec, PodRules, Taint
from autoscaler.policy import Policy

UNLIMITED: Final = 2**60
DISK: Final = "ephemeral-storage"
"""Requested now and then and shown by no metric: where nothing is known of it, it is no reason against a node."""
_STATES: Final = "node.kubernetes.io/"
"""Taints under this prefix are made of a node's condition, and come and go with it."""
UNKNOWN_TAINT: Final = Taint(key="k3s-autoscaler/unknown", effect=Effect.NO_SCHEDULE)
NOT_READY_TAINTS: Final = tuple(
    Taint(key="node.kubernetes.io/not-ready", effect=effect) for effect in (Effect.NO_SCHEDULE, Effect.NO_EXECUTE)
)
"""A NotReady node has both: every pod tolerates the second for 300 s, which admission gives it (Kubernetes reference,
"Taints and Tolerations", `DefaultTolerationSeconds`); the first keeps new ones away."""
METRICS_SHOW: Final = frozenset({"cpu", "memory", "pods"})


class Machines:
    """Workers as NodeSpecs, existing and new, by one look's knowledge."""

    def __init__(self, snapshot: Snapshot, fleet: FleetView, state: State, policy: Policy) -> None:
        rules = snapshot.scheduling_rules
        self._fleet, self._state, self._policy = fleet, state, policy
        self._told: dict[str, NodeSpec] = {node.name: node for node in rules.nodes} if rules is not None else {}
        self.names = RealNames({key for node in self._told.values() for key, _ in node.labels})
        self._daemons = _daemons(snapshot, rules)
        self._ours = [(worker, self._labels_of(worker.node)) for worker in fleet.workers if _is_model(worker)]
        self._zone_valued = zone_valued(labels for _, labels in self._ours)
        self.zone_keys = frozenset({ZONE_LABEL, REGION_LABEL, *OLD_ZONE_LABELS, *self._zone_valued})
        """Labels that a new worker has by its zone."""
        self._new_labels: dict[tuple[str, str], dict[str, str]] = {}
        self._templates: dict[tuple[str, str], Template] = {}

    def existing(self, node: Node, worker: Worker | None, *, cordoned: bool) -> NodeSpec:
        """A Node of the cluster: a worker, or a server (then `worker` is None). `allocatable` is what is left of it."""
        labels = self._labels_of(node)
        if node.name not in self._told and worker is not None and worker.instance is not None:
            instance = worker.instance
            like = self._labels_of_new if worker.ours else labels_by_nature
            labels = {**like(instance.instance_type, instance.zone), **labels}
        return NodeSpec(
            name=node.name,
            labels=as_labels({**labels, HOSTNAME_LABEL: labels.get(HOSTNAME_LABEL, node.name)}),
            taints=self._taints_of(node),
            unschedulable=cordoned,
            allocatable=self._left_of(node),
        )

    def new(self, instance_type: str, zone: str = "") -> Template:
        """A fresh worker, with the DaemonSets that would run there. Without a zone it lies in any."""
        known = self._templates.get((instance_type, zone))
        if known is not None:
            return known
        name = f"new {instance_type} {zone}".strip()
        labels = {**self._labels_of_new(instance_type, zone), HOSTNAME_LABEL: name}
        spec = NodeSpec(
            name=name,
            labels=as_labels(labels),
            taints=self._taints_of_new(),
            allocatable=self._allocatable_of_new(instance_type),
        )
        order = self._policy.workers.instance_types
        template = Template(
            name=name,
            node=spec,
            daemons=self._daemons_on(spec, instance_type),
            rank=order.index(instance_type) if instance_type in order else len(order),
            instance_type=instance_type,
            zone=zone,
        )
        self._templates[instance_type, zone] = template
        return template

    def _daemons_on(self, spec: NodeSpec, instance_type: str) -> tuple[PodRules, ...]:
        """Those whose own rules let them on such a node; where none is shown, as much as was seen there."""
        node, nobody = NodeInfo(spec), Cluster({})
        there = tuple(d for d in self._daemons if not any(check(d, node, nobody) for _, check in LASTING))
        seen = self._seen(instance_type)
        if self._daemons or seen is None or not seen.daemons.pods:
            return there
        whole = PodRules(namespace="", requests=_amounts(seen.daemons, with_pods=False))
        return (whole, *(PodRules(namespace=""),) * (seen.daemons.pods - 1))

    def _seen(self, instance_type: str) -> SeenType | None:
        return next((seen for seen in self._state.seen_types if seen.instance_type == instance_type), None)

    # ------------------------------------------------------------------------------------------------------- labels

    def _labels_of(self, node: Node | None) -> dict[str, str]:
        """What was shown of this Node."""
        if node is None:
            return {}
        told = self._told.get(node.name)
        return dict(told.labels) if told is not None else self.names.of(node.labels)

    def _labels_of_new(self, instance_type: str, zone: str) -> dict[str, str]:
        """What it sets by itself, and what all of ours have; of the same type, also what is of the type."""
        if (instance_type, zone) not in self._new_labels:
            self._new_labels[instance_type, zone] = self._learned_labels(instance_type, zone)
        return self._new_labels[instance_type, zone]

    def _learned_labels(self, instance_type: str, zone: str) -> dict[str, str]:
        alike = [labels for worker, labels in self._ours if _type_of(worker, labels) == instance_type]
        common = {k: v for k, v in shared(labels for _, labels in self._ours).items() if k not in OF_ONE_TYPE}
        seen = self._seen(instance_type)
        remembered = dict(seen.labels) if seen is not None and not self._ours else {}
        labels = {**remembered, **common, **implied(instance_type, zone), **shared(alike)}
        if not zone:
            return {key: value for key, value in labels.items() if key not in self._zone_valued}
        return labels | dict.fromkeys(self._zone_valued, zone) | {ZONE_LABEL: zone, REGION_LABEL: region_of(zone)}

    # ------------------------------------------------------------------------------------------------------- taints

    def _taints_of(self, node: Node) -> tuple[Taint, ...]:
        """Told ones while the metrics bear them out: a taint that is gone was taken off, one that nobody told is."""
        told = self._told.get(node.name)
        lasting = tuple(t for t in told.taints if not t.key.startswith(_STATES)) if told is not None else ()
        hard = tuple(taint for taint in lasting if taint.effect in HARD)
        if node.ready is not True:
            return (*hard, *NOT_READY_TAINTS)
        if not node.tainted:
            return ()
        return hard or (UNKNOWN_TAINT,)

    def _taints_of_new(self) -> tuple[Taint, ...]:
        """Those that every worker of ours has: the bootstrap's own."""
        seen = [set(self._taints_of(worker.node)) for worker, _ in self._ours if worker.node is not None]
        common = set.intersection(*seen) if seen else set()
        return tuple(sorted(common - {UNKNOWN_TAINT, *NOT_READY_TAINTS}, key=lambda t: (t.key, t.value, t.effect)))

    # ------------------------------------------------------------------------------------------------------- amounts

    def _left_of(self, node: Node) -> Amounts:
        """Allocatable less what is requested, by the metrics; what they do not show as the server told it, whole."""
        told = self._told.get(node.name)
        other = {name: value for name, value in told.allocatable if name not in METRICS_SHOW} if told else {}
        if told is None:
            other = {DISK: UNLIMITED}
        if node.allocatable is None or node.requested is None:
            return as_amounts({**other, "cpu": 0, "memory": 0, "pods": 0})
        left = node.allocatable - node.requested
        return as_amounts({**other, "cpu": left.cpu_millicores, "memory": left.memory_bytes, "pods": left.pods})

    def _allocatable_of_new(self, instance_type: str) -> Amounts:
        told = [
            {name: value for name, value in self._told[worker.node.name].allocatable if name not in METRICS_SHOW}
            for worker, labels in self._ours
            if worker.node is not None and worker.node.name in self._told and _type_of(worker, labels) == instance_type
        ]
        other = {DISK: UNLIMITED}
        if told:
            other = {name: min(one.get(name, 0) for one in told) for name in told[0]}
        return as_amounts({**other, **dict(_amounts(offered(instance_type, self._fleet, self._state, self._policy)))})


def offered(instance_type: str, fleet: FleetView, state: State, policy: Policy) -> Resources:
    """What pods and DaemonSets get of a worker of this type: the smallest that is or was seen, else the catalogue's."""
    seen = [seen.allocatable for seen in state.seen_types if seen.instance_type == instance_type]
    seen += [size for kind, size in seen_sizes(fleet) if kind == instance_type]
    return smallest(seen) if seen else nominal_resources(instance_type, policy)


def seen_sizes(fleet: FleetView) -> Iterator[tuple[str, Resources]]:
    """(instance type, allocatable) of each worker whose Node is shown: EC2 says the type, or a label does."""
    names = RealNames()
    for worker in fleet.workers:
        if worker.node is not None and worker.node.allocatable is not None:
            instance_type = _type_of(worker, names.of(worker.node.labels))
            if instance_type:
                yield instance_type, worker.node.allocatable


def smallest(sizes: Sequence[Resources]) -> Resources:
    """Each dimension by itself."""
    return Resources(
        cpu_millicores=min(size.cpu_millicores for size in sizes),
        memory_bytes=min(size.memory_bytes for size in sizes),
        pods=min(size.pods for size in sizes),
    )


def as_amounts(amounts: Mapping[str, int]) -> Amounts:
    """Sorted pairs."""
    return tuple(sorted(amounts.items()))


def _amounts(resources: Resources, *, with_pods: bool = True) -> Amounts:
    amounts = {"cpu": resources.cpu_millicores, "memory": resources.memory_bytes}
    return as_amounts({**amounts, "pods": resources.pods} if with_pods else amounts)


def _is_model(worker: Worker) -> bool:
    """Whether new workers are taken to be like it."""
    return worker.ours and worker.node is not None and worker.standing in {Standing.READY, Standing.LEAVING}


def _type_of(worker: Worker, labels: Mapping[str, str]) -> str:
    return worker.instance.instance_type if worker.instance is not None else labels.get(INSTANCE_TYPE_LABEL, "")


def _daemons(snapshot: Snapshot, rules: SchedulingRules | None) -> tuple[PodRules, ...]:
    if rules is not None and rules.daemons:
        return tuple(daemon.rules for daemon in rules.daemons)
    return tuple(
        PodRules(
            namespace=daemon.namespace,
            requests=_amounts(daemon.requests, with_pods=False),
        )
        for daemon in snapshot.daemons
    )
