"""The answers to the rarer questions, from what one scrape saw: what is free on each Node, its pods, and an owner's."""

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping
from typing import Final

from autoscaler.simulator.metrics.exposition import pod_labels, requests_of
from autoscaler.simulator.metrics.promql import Moving, Places, Rooms
from autoscaler.simulator.metrics.recorded_cluster import (
    PARTS,
    ClusterView,
    PodFacts,
    Row,
    owned_row,
    request_rows,
    row,
    selector_row,
)
from autoscaler.simulator.metrics.text_format import number_text
from autoscaler.simulator.world.workload import Ask, PodTemplate

_STAYING: Final = frozenset({"DaemonSet", "Node"})


def rooms_rows(view: ClusterView, question: Rooms, told: Mapping[str, str]) -> Iterable[Row]:
    """What is free on each Node. `told`: labels that a scrape adds beside instance and job."""
    yield from _requested(view, question)
    yield from _daemon_requests(view, frozenset(question.daemon_nodes))
    yield from (node.labels_row for node in view.nodes)
    yield from (selector_row(facts.pod, told) for facts in view.pods if not facts.node)


def moving_rows(view: ClusterView, question: Moving, told: Mapping[str, str]) -> Iterable[Row]:
    """The pods of the Nodes."""
    nodes = frozenset(question.nodes)
    for facts in view.pods:
        if facts.node not in nodes:
            continue
        pod = facts.pod
        if not facts.finished:
            yield owned_row("pod", pod, node=facts.node)
        yield from request_rows(pod)
        yield selector_row(pod, told)
        if pod.template.do_not_evict():
            yield row("pod_do_not_evict", "1", **pod_labels(pod))


def places_rows(view: ClusterView | None, question: Places) -> Iterable[Row]:
    """Where the owners' pods are, and how many rows that is."""
    found: Counter[tuple[tuple[str, str], ...]] = Counter()
    for facts in view.pods if view is not None else ():
        pod = facts.pod
        owned = bool(pod.owner_kind)
        names, name = (question.owners, pod.owner_name) if owned else (question.pods, pod.name)
        if not facts.node or facts.finished or not (_in(pod.namespace, question.namespaces) and _in(name, names)):
            continue
        whose = {"created_by_kind": pod.owner_kind, "created_by_name": name} if owned else {"pod": name}
        found[tuple({"node": facts.node, "namespace": pod.namespace, **whose}.items())] += 1
    for labels, count in found.items():
        yield row("place", str(count), **dict(labels))
    yield row("counted", str(len(found)), of="place")


def _in(name: str, names: tuple[str, ...] | None) -> bool:
    return names is None or name in names


def requested_of(view: ClusterView) -> dict[tuple[str, str], float]:
    """What rules record as `node_requested`: by (node, resource), the number of pods without a resource."""
    found = {(facts.name, resource): 0.0 for facts in view.nodes for resource in ("cpu", "memory", "")}
    everything = Rooms(daemon_nodes=(), with_init=True, with_overhead=True)
    for labels, text in _requested(view, everything):
        if "stays" not in labels:
            found[labels["node"], labels.get("resource", "")] = float(text)
    return found


def _requested(view: ClusterView, question: Rooms) -> Iterable[Row]:
    sums: dict[tuple[str, str], int] = defaultdict(int)
    pods: Counter[tuple[str, str]] = Counter()
    for facts in view.pods:
        if not facts.node or facts.finished:
            continue
        pods[facts.node, "true" if facts.pod.owner_kind in _STAYING else ""] += 1
        cpu_millicores, memory_bytes = _effective(facts, question)
        if cpu_millicores is not None:
            sums[facts.node, "cpu"] += cpu_millicores
        if memory_bytes is not None:
            sums[facts.node, "memory"] += memory_bytes
    for (node, resource), amount in sums.items():
        yield row(
            "requested", number_text(amount / 1000 if resource == "cpu" else amount), node=node, resource=resource
        )
    for (node, stays), count in pods.items():
        yield row("requested", str(count), node=node, stays=stays)


def _effective(facts: PodFacts, question: Rooms) -> tuple[int | None, int | None]:
    """Millicores and bytes; None where no series of the pod says anything."""
    template = facts.pod.template
    parts = [
        (template.request, True),
        (template.overhead, question.with_overhead),
        (template.sidecar, question.with_init),
    ]
    if question.with_init:
        parts.append((_on_top(template), True))
    asks = [ask for ask, counts in parts if counts]
    cpu = sum(ask.cpu_millicores for ask in asks)
    memory = sum(ask.memory_bytes for ask in asks)
    return cpu or None, memory or None


def _on_top(template: PodTemplate) -> Ask:
    """What its init container asks beyond its app container."""
    init, app = template.init, template.request
    return Ask(
        cpu_millicores=max(0, init.cpu_millicores - app.cpu_millicores),
        memory_bytes=max(0, init.memory_bytes - app.memory_bytes),
    )


def _daemon_requests(view: ClusterView, nodes: frozenset[str]) -> Iterable[Row]:
    largest: dict[tuple[str, str, str, str], float] = {}
    owners: set[tuple[str, str]] = set()
    for facts in view.pods:
        if facts.node not in nodes or facts.pod.owner_kind != "DaemonSet":
            continue
        owners.add((facts.pod.namespace, facts.pod.owner_name))
        for part, field in PARTS:
            for resource, _, value in requests_of(getattr(facts.pod.template, field)):
                key = (facts.pod.namespace, facts.pod.owner_name, resource, part)
                largest[key] = max(largest.get(key, 0.0), value)
    for (namespace, owner, resource, part), value in largest.items():
        labels = {"namespace": namespace, "created_by_name": owner, "resource": resource, "part": part}
        yield row("daemon_requests", number_text(value), **labels)
    for namespace, owner in owners:
        yield row("daemon_requests", "1", namespace=namespace, created_by_name=owner)
