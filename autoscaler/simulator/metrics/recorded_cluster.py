"""What one scrape of the cluster answers; rows of an object are made anew only when it changed."""

from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Final

from autoscaler.observe.promql import CORDON_TAINT
from autoscaler.observe.requested import INIT_REQUESTS, OVERHEAD
from autoscaler.observe.series import COUNTED, FAMILY, PROOF_VOLUME
from autoscaler.simulator.metrics.exposition import (
    ALLOWED_NODE_LABELS,
    PROOF_NODE,
    addresses,
    allowed,
    is_gated,
    pod_labels,
    requests_of,
    sanitised,
)
from autoscaler.simulator.metrics.text_format import number_text
from autoscaler.simulator.world.labels import MANAGED_LABEL
from autoscaler.simulator.world.objects import ClusterState, SimNode, SimPod, Volume
from autoscaler.simulator.world.workload import PodTemplate

Row = tuple[dict[str, str], str]
"""Labels, `family` among them, and value. An empty label does not exist for Prometheus and is left out."""
PARTS: Final = (("app", "request"), ("init", "init"), ("sidecar", "sidecar"), ("overhead", "overhead"))
"""Parts of a pod's requests and the template's fields."""
RESOURCES: Final = ("cpu", "memory")
_STAYING: Final = frozenset({"DaemonSet", "Node"})


@dataclass(frozen=True, slots=True, eq=False)
class NodeFacts:
    """What a scrape shows of one Node."""

    name: str
    server: bool
    ready: bool
    takes_pods: bool
    """As `Raw.takers` has it."""
    allocatable: dict[str, float]
    """Cores and bytes."""
    addresses: int
    managed: bool
    rows: tuple[Row, ...]
    """Of the sight."""
    version_row: Row
    """Of the sight, where that is asked."""
    labels_row: Row


@dataclass(frozen=True, slots=True, eq=False)
class PodFacts:
    """What a scrape shows of one pod; what never changes is read from the pod itself."""

    pod: SimPod
    node: str
    """Empty: on no Node."""
    finished: bool
    gated: bool
    init_requests: int
    """How many series it has of kube_pod_init_container_resource_requests."""
    overhead: bool
    requested: tuple[int, int]
    """Millicores and bytes that it asks for altogether, init containers and overhead included."""
    rows: tuple[Row, ...]
    """Of the sight: none once a Node has it."""


@dataclass(frozen=True, eq=False)
class ClusterView:
    """What one scrape saw."""

    nodes: tuple[NodeFacts, ...]
    pods: tuple[PodFacts, ...]
    sight: tuple[Row, ...]
    """All that the sight tells of it, but for what another scrape or a recorded series has a say in."""
    unbound: frozenset[str]
    """Uids of the pods on no Node."""
    ready: dict[str, float]
    """Every Node's `node_ready`."""
    takers: dict[str, dict[str, float]]
    """Allocatable cores and bytes of the workers that take pods."""

    @cached_property
    def names(self) -> tuple[str, ...]:
        """Its Nodes' names."""
        return tuple(facts.name for facts in self.nodes)

    @cached_property
    def youngest_owner(self) -> tuple[Row, ...]:
        """When the youngest owner's oldest pod came; of the sight, where that is asked."""
        since: dict[tuple[str, str, str], int] = {}
        for facts in self.pods:
            pod = facts.pod
            owner = pod.namespace, pod.owner_kind, pod.owner_name
            if pod.owner_kind != "Node":
                since[owner] = min(since.get(owner, int(pod.created_at_s)), int(pod.created_at_s))
        return (row("owner_youngest", str(max(since.values()))),) if since else ()

    @cached_property
    def requested(self) -> "Requested":
        """What is asked for on each Node, all parts counted."""
        return requested_on(self, with_init=True, with_overhead=True)

    @cached_property
    def has_parts(self) -> bool:
        """Whether any pod has init containers' requests, or overhead."""
        return any(facts.init_requests or facts.overhead for facts in self.pods)


@dataclass(frozen=True, slots=True)
class Requested:
    """What the unfinished pods on each Node ask for; a Node without any is missing."""

    millicores: dict[str, int]
    memory_bytes: dict[str, int]
    pods: dict[tuple[str, str], int]
    """By Node and whether they stay: DaemonSets' and the Node's own do ("true"), others do not ("")."""


def requested_on(view: ClusterView, *, with_init: bool, with_overhead: bool) -> Requested:
    """What is asked for on each Node, as far as the series of these parts are read."""
    cpu: dict[str, int] = {}
    memory: dict[str, int] = {}
    pods: dict[tuple[str, str], int] = {}
    whole = with_init and with_overhead
    for facts in view.pods:
        name = facts.node
        if not name or facts.finished:
            continue
        key = (name, "true" if facts.pod.owner_kind in _STAYING else "")
        pods[key] = pods.get(key, 0) + 1
        millicores, size_bytes = facts.requested
        if not whole and (facts.init_requests or facts.overhead):
            template = facts.pod.template
            millicores, size_bytes = requested_by(template, with_init=with_init, with_overhead=with_overhead)
        if millicores:
            cpu[name] = cpu.get(name, 0) + millicores
        if size_bytes:
            memory[name] = memory.get(name, 0) + size_bytes
    return Requested(cpu, memory, pods)


def row(family: str, text: str, **labels: str) -> Row:
    """One row."""
    if not all(labels.values()):
        labels = {key: value for key, value in labels.items() if value}
    labels[FAMILY] = family
    return labels, text


class ClusterRows:
    """Makes views, and remembers the rows of what has not changed. `target`: labels of kube-state-metrics' target."""

    def __init__(self, target: Mapping[str, str]) -> None:
        self._target = dict(target)
        self._told = {key: value for key, value in target.items() if key not in {"instance", "job"}}
        """What is left on rows that are aggregated without instance and job."""
        self._pods: dict[str, tuple[object, PodFacts]] = {}
        self._nodes: dict[str, tuple[object, NodeFacts]] = {}
        self._last: tuple[int, ClusterView] | None = None

    def view(self, state: ClusterState) -> ClusterView:
        """The view of the state as it is; the same object while nothing changed."""
        if self._last is None or self._last[0] != state.version:
            self._last = (state.version, self._build(state))
        return self._last[1]

    def _build(self, state: ClusterState) -> ClusterView:
        nodes: dict[str, tuple[object, NodeFacts]] = {}
        pods: dict[str, tuple[object, PodFacts]] = {}
        for node in state.nodes.values():
            mark = (node.ready, node.cordoned, node.extra_taints, node.machine.alive, node.machine.k3s_version)
            known = self._nodes.get(node.uid)
            nodes[node.uid] = known if known and known[0] == mark else (mark, _node_facts(node, self._told))
        for pod in state.pods.values():
            place = pod.node.name if pod.node is not None else ""
            pod_mark = (place, pod.phase, pod.unschedulable_since_s, pod.deletion_at_s)
            seen = self._pods.get(pod.uid)
            pods[pod.uid] = seen if seen and seen[0] == pod_mark else (pod_mark, _pod_facts(pod, place))
        self._nodes, self._pods = nodes, pods
        node_facts = tuple(facts for _, facts in nodes.values())
        pod_facts = tuple(facts for _, facts in pods.values())
        rows = [one for facts in node_facts for one in facts.rows]
        for uid in state.unbound:
            rows.extend(pods[uid][1].rows)
        rows.extend(_volume_rows(state.volumes.values()))
        rows.extend(counted_rows(rows))
        rows.extend(_shown_rows(node_facts, pod_facts, state.volumes.values()))
        rows.append(row("source_nodes", str(len(node_facts)), **self._target))
        return ClusterView(
            nodes=node_facts,
            pods=pod_facts,
            sight=tuple(rows),
            unbound=frozenset(state.unbound),
            ready={facts.name: float(facts.ready) for facts in node_facts},
            takers={facts.name: facts.allocatable for facts in node_facts if facts.takes_pods},
        )


# --------------------------------------------------------------------------------------------------------------- nodes


def _node_facts(node: SimNode, told: Mapping[str, str]) -> NodeFacts:
    cores, memory_bytes = node.allocatable.cpu_millicores / 1000, float(node.allocatable.memory_bytes)
    taints = {
        (taint.key, taint.effect)
        for taint in node.taints()
        if taint.effect in {"NoSchedule", "NoExecute"} and taint.key != CORDON_TAINT
    }
    server, name = node.machine.server, node.name
    managed = node.labels.get(MANAGED_LABEL) == "true"
    rows = [
        row(
            "node",
            str(int(node.created_at_s)),
            node=name,
            provider_id=node.provider_id,
            cpu=number_text(cores),
            memory=number_text(memory_bytes),
            pods=str(node.max_pods),
        )
    ]
    if not node.ready:
        rows.append(row("node_not_ready", "0", node=name))
        if managed:
            rows.append(row("node_managed", "1", node=name))
    if node.cordoned:
        rows.append(row("node_cordoned", "1", node=name))
    if server:
        rows.append(row("node_control_plane", "1", node=name))
    rows += [row("node_taint", "1", node=name, key=key, effect=effect) for key, effect in sorted(taints)]
    return NodeFacts(
        name=name,
        server=server,
        ready=node.ready,
        takes_pods=node.ready and not (server or node.cordoned or taints),
        allocatable={"cpu": cores, "memory": memory_bytes},
        addresses=sum(1 for _ in addresses(node)),
        managed=managed,
        rows=tuple(rows),
        version_row=row("node_version", "1", node=name, kubelet_version=node.machine.k3s_version),
        labels_row=row("node_labels", "1", node=name, **told, **allowed("label", node.labels, ALLOWED_NODE_LABELS)),
    )


# ---------------------------------------------------------------------------------------------------------------- pods


def _pod_facts(pod: SimPod, node: str) -> PodFacts:
    template = pod.template
    return PodFacts(
        pod=pod,
        node=node,
        finished=pod.finished,
        gated=is_gated(pod),
        init_requests=len(requests_of(template.init)) + len(requests_of(template.sidecar)),
        overhead=bool(requests_of(template.overhead)),
        requested=requested_by(template, with_init=True, with_overhead=True),
        rows=() if node else tuple(_unbound_rows(pod)),
    )


def requested_by(template: PodTemplate, *, with_init: bool, with_overhead: bool) -> tuple[int, int]:
    """Millicores and bytes that such a pod asks for, as far as the series of these parts are read; 0: no series."""
    app, init = template.request, template.init
    asks = [app]
    if with_overhead:
        asks.append(template.overhead)
    cpu = sum(ask.cpu_millicores for ask in asks)
    memory = sum(ask.memory_bytes for ask in asks)
    if with_init:  # sidecars run beside the app; of the init containers counts what they ask beyond it
        cpu += template.sidecar.cpu_millicores + max(0, init.cpu_millicores - app.cpu_millicores)
        memory += template.sidecar.memory_bytes + max(0, init.memory_bytes - app.memory_bytes)
    return cpu, memory


def _unbound_rows(pod: SimPod) -> Iterable[Row]:
    labels = pod_labels(pod)
    yield owned_row("pod_unbound", pod)
    yield row("pod_pending", str(int(pod.phase == "Pending")), **labels)
    if pod.unschedulable_since_s is not None:
        yield row("pod_unschedulable", str(int(pod.unschedulable_since_s)), **labels)
    if is_gated(pod):
        yield row("pod_gated", "1", **labels)
    if pod.deletion_at_s is not None:
        yield row("pod_deleting", str(int(pod.deletion_at_s)), **labels)
    yield from request_rows(pod)


def owned_row(family: str, pod: SimPod, **more: str) -> Row:
    """A row that says whose pod it is."""
    return row(
        family,
        "1",
        **pod_labels(pod),
        created_by_kind=pod.owner_kind,
        created_by_name=pod.owner_name,
        priority_class=pod.template.priority_class,
        **more,
    )


def request_rows(pod: SimPod) -> Iterable[Row]:
    """Its `pod_requests`."""
    for part, field in PARTS:
        for resource, _, value in requests_of(getattr(pod.template, field)):
            yield row("pod_requests", number_text(value), **pod_labels(pod), resource=resource, part=part)


def selector_row(pod: SimPod, told: Mapping[str, str]) -> Row:
    """Its `pod_selector`; a pod without a selector has one that says so."""
    selector = {f"nodeselector_{sanitised(key)}": value for key, value in pod.template.node_selector}
    return row("pod_selector", "1", **told, **pod_labels(pod), **selector)


# -------------------------------------------------------------------------------------------------- volumes and counts


def _volume_rows(volumes: Iterable[Volume]) -> Iterable[Row]:
    placed = Counter(volume.node_name for volume in volumes if not volume.csi_driver)
    placed[PROOF_NODE] += 1
    for name, count in placed.items():
        yield row("node_local_volumes", str(count), node=name)
    drivers = Counter(volume.csi_driver for volume in volumes if volume.csi_driver)
    drivers[PROOF_VOLUME] += 1
    for driver, count in drivers.items():
        yield row("volumes_of", str(count), csi_driver=driver)


def counted_rows(rows: Iterable[Row]) -> Iterable[Row]:
    """How many rows there are of what tells exceptions."""
    counts = Counter(labels[FAMILY] for labels, _ in rows)
    return [row("counted", str(counts[family]), of=family) for family in COUNTED]


def _shown_rows(nodes: Sequence[NodeFacts], pods: Sequence[PodFacts], volumes: Collection[Volume]) -> Iterable[Row]:
    shown = {
        "kube_node_status_condition": len(nodes),
        "kube_node_spec_unschedulable": len(nodes),
        "kube_node_status_addresses": sum(node.addresses for node in nodes),
        "kube_node_labels": sum(node.managed for node in nodes),
        # The volume that proves it is there as well.
        "kube_persistentvolume_info": 1 + len(volumes),
        "kube_persistentvolume_annotations": 1 + sum(not volume.csi_driver for volume in volumes),
        "kube_pod_status_reason": sum(pod.gated for pod in pods),
        INIT_REQUESTS: sum(pod.init_requests for pod in pods if pod.node),
        OVERHEAD: sum(pod.overhead for pod in pods),
    }
    return [row("shown", str(count), of=family) for family, count in shown.items() if count]
