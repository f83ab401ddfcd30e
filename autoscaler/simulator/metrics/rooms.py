"""The answers to the rarer questions, from what one scrape saw: what is free on each Node, its pods, and an owner's."""

from collections import Counter
from collections.abc import Iterable, Mapping

from autoscaler.simulator.metrics.exposition import pod_labels, requests_of
from autoscaler.simulator.metrics.promql import Moving, Places, Rooms
from autoscaler.simulator.metrics.recorded_cluster import (
    PARTS,
    ClusterView,
    Row,
    owned_row,
    request_rows,
    requested_on,
    row,
    selector_row,
)
from autoscaler.simulator.metrics.text_format import number_text


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
    asked = view.requested
    found: dict[tuple[str, str], float] = {}
    for node in view.nodes:
        name = node.name
        found[name, "cpu"] = float(number_text(asked.millicores.get(name, 0) / 1000))
        found[name, "memory"] = float(asked.memory_bytes.get(name, 0))
        found[name, ""] = float(asked.pods.get((name, ""), 0))
    return found


def _requested(view: ClusterView, question: Rooms) -> Iterable[Row]:
    whole = (question.with_init and question.with_overhead) or not view.has_parts
    asked = view.requested
    if not whole:
        asked = requested_on(view, with_init=question.with_init, with_overhead=question.with_overhead)
    for name, millicores in asked.millicores.items():
        yield row("requested", number_text(millicores / 1000), node=name, resource="cpu")
    for name, size_bytes in asked.memory_bytes.items():
        yield row("requested", number_text(size_bytes), node=name, resource="memory")
    for (name, stays), count in asked.pods.items():
        yield row("requested", str(count), node=name, stays=stays)


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
