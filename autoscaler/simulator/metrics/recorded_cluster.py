"""The cluster group's series of one state; rows of an object are made anew only when it changed."""

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

from autoscaler.observe.series import PREFIX
from autoscaler.simulator.metrics.exposition import (
    ALLOWED_NODE_LABELS,
    allowed,
    is_gated,
    node_info,
    pod_labels,
    requests_of,
    sanitised,
)
from autoscaler.simulator.world.objects import ClusterState, SimNode, SimPod

Row = tuple[str, dict[str, str], str]
"""Family, labels, value. An empty label does not exist for Prometheus and is left out."""
_PARTS: Final = (("app", "request"), ("init", "init"), ("sidecar", "sidecar"), ("overhead", "overhead"))


@dataclass(frozen=True, slots=True, eq=False)
class ClusterView:
    """What the cluster group records of one state."""

    rows: tuple[Row, ...]
    """With the label `__name__`."""
    counts: dict[str, int]
    """Series by family."""
    ready: dict[str, float]
    """Every node's `node_ready`."""
    workers: dict[str, dict[str, float]]
    """Allocatable cores and bytes of the Ready nodes that are no servers."""


class ClusterRows:
    """Makes views, and remembers the rows of what has not changed."""

    def __init__(self) -> None:
        self._pods: dict[str, tuple[object, tuple[Row, ...]]] = {}
        self._nodes: dict[str, tuple[object, tuple[Row, ...]]] = {}
        self._last: tuple[int, ClusterView] | None = None

    def view(self, state: ClusterState) -> ClusterView:
        """The view of the state as it is; the same object while nothing changed."""
        if self._last is None or self._last[0] != state.version:
            self._last = (state.version, self._build(state))
        return self._last[1]

    def _build(self, state: ClusterState) -> ClusterView:
        rows: list[Row] = []
        nodes: dict[str, tuple[object, tuple[Row, ...]]] = {}
        pods: dict[str, tuple[object, tuple[Row, ...]]] = {}
        for node in state.nodes.values():
            mark = (node.uid, node.ready, node.cordoned, node.extra_taints)
            known = self._nodes.get(node.uid)
            if not known or known[0] != mark:
                known = (mark, tuple(named(_node_rows(node))))
            nodes[node.uid] = known
            rows.extend(known[1])
        for pod in state.pods.values():
            place = pod.node.name if pod.node is not None else ""
            pod_mark = (place, pod.phase, pod.unschedulable_since_s)
            known = self._pods.get(pod.uid)
            if not known or known[0] != pod_mark:
                known = (pod_mark, tuple(named(_pod_rows(pod))))
            pods[pod.uid] = known
            rows.extend(known[1])
        self._nodes, self._pods = nodes, pods
        volumes = Counter(volume.node_name for volume in state.volumes.values())
        rows.extend(named(("node_local_volumes", {"node": name}, str(count)) for name, count in volumes.items()))
        return ClusterView(
            rows=tuple(rows),
            counts=dict(Counter(family for family, _, _ in rows)),
            ready={node.name: float(node.ready) for node in state.nodes.values()},
            workers={
                node.name: {
                    "cpu": node.allocatable.cpu_millicores / 1000,
                    "memory": float(node.allocatable.memory_bytes),
                }
                for node in state.nodes.values()
                if node.ready and not node.machine.server
            },
        )


def named(rows: Iterable[Row]) -> Iterable[Row]:
    """The rows with the label `__name__`, as Prometheus hands them out."""
    for family, labels, text in rows:
        yield family, {**labels, "__name__": PREFIX + family}, text


def _node_rows(node: SimNode) -> Iterable[Row]:
    name = {"node": node.name}
    info = node_info(node)
    yield "node_info", _filled({key: info[key] for key in ("node", "provider_id", "internal_ip")}), "1"
    yield "node_created", name, str(int(node.created_at_s))
    yield "node_ready", name, str(int(node.ready))
    yield "node_cordoned", name, str(int(node.cordoned))
    for resource, value in (
        ("cpu", node.allocatable.cpu_millicores / 1000),
        ("memory", node.allocatable.memory_bytes),
        ("pods", node.max_pods),
    ):
        yield "node_allocatable", {**name, "resource": resource}, f"{value:.15g}"
    if node.machine.server:
        yield "node_control_plane", name, "1"
    for taint in node.taints():
        yield "node_taint", {**name, "key": taint.key, "effect": taint.effect}, "1"
    yield "node_labels", {**name, **allowed("label", node.labels, ALLOWED_NODE_LABELS)}, "1"


def _pod_rows(pod: SimPod) -> Iterable[Row]:
    if pod.finished:
        return
    template, labels = pod.template, pod_labels(pod)
    yield (
        "pod_info",
        _filled(
            {
                **labels,
                "node": pod.node.name if pod.node is not None else "",
                "owner_kind": pod.owner_kind,
                "owner_name": pod.owner_name,
                "priority_class": template.priority_class,
            }
        ),
        "1",
    )
    for part, attribute in _PARTS:
        for resource, _, value in requests_of(getattr(template, attribute)):
            yield "pod_requests", {**labels, "resource": resource, "part": part}, f"{value:.15g}"
    if template.do_not_evict():
        yield "pod_do_not_evict", labels, "1"
    if is_gated(pod):
        yield "pod_gated", labels, "1"
    elif pod.unschedulable_since_s is not None:
        yield "pod_unschedulable_since", labels, str(int(pod.unschedulable_since_s))
        selector = {f"nodeselector_{sanitised(key)}": value for key, value in template.node_selector}
        yield "pod_node_selector", {**labels, **selector}, "1"


def _filled(labels: dict[str, str]) -> dict[str, str]:
    return {key: value for key, value in labels.items() if value}
