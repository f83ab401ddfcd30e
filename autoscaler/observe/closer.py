"""The closer looks at what a first look saw: what is free on each Node, which pods would move, where others are.

They are asked only when a decision needs them: what they cost grows with the pods that run.
"""

from collections.abc import Sequence
from typing import Final

import msgspec

from autoscaler.model import Asks, MetricsStatus, Node, Pod, Resources, Sample, Snapshot
from autoscaler.observe.nodes import parse_requested_most
from autoscaler.observe.pods import Labels, parse_daemons, parse_places, parse_pods_on_nodes, parse_selectors, prefixed
from autoscaler.observe.query import moving_query, places_query, rooms_query
from autoscaler.observe.samples import Rows, sort_samples
from autoscaler.policy import Policy
from autoscaler.ports import Metrics, MetricsUnavailable

DAEMON_NODES: Final = 50
"""DaemonSets are looked for on as many of the youngest workers."""


def look_closer(metrics: Metrics, snapshot: Snapshot, asks: Asks, policy: Policy) -> Snapshot:
    """Ask what a decision still has to see. What cannot be had makes the snapshot partial, never a guess."""
    # That pods are shown at all is proven by the rooms: an owner without a place has no pod, or none that is shown.
    if (asks.rooms or asks.places_of) and not snapshot.rooms_known and snapshot.cluster_known:
        query = rooms_query(
            policy,
            _daemon_nodes(snapshot.nodes),
            with_init=snapshot.shows_init,
            with_overhead=snapshot.shows_overhead,
        )
        snapshot = with_rooms(snapshot, _ask(metrics, query), policy)
    wanted = tuple(name for name in asks.pods_of if name not in snapshot.pods_of)
    if wanted and snapshot.cluster_known:
        snapshot = with_pods_of(snapshot, wanted, _ask(metrics, moving_query(policy, wanted)))
    owners = tuple(owner for owner in asks.places_of if owner not in snapshot.places_of)
    if owners and snapshot.cluster_known:
        snapshot = with_places_of(snapshot, owners, _ask(metrics, places_query(policy, owners)))
    return snapshot


def with_rooms(snapshot: Snapshot, answer: Sequence[Sample] | MetricsUnavailable, policy: Policy) -> Snapshot:
    """The snapshot with what is free on each Node. Pure."""
    rows = None if isinstance(answer, MetricsUnavailable) else sort_samples(answer)
    why = _unproven(answer, rows)
    if why or rows is None:
        return without_closer_look(snapshot, why)
    requested: dict[str, dict[str, float]] = {}
    movable: dict[str, int] = {}
    stays: dict[str, int] = {}
    for labels, value in rows.of("requested"):
        name, resource = labels.get("node", ""), labels.get("resource", "")
        if resource:
            requested.setdefault(name, {})[resource] = value
        elif labels.get("stays") == "true":
            stays[name] = round(value)
        else:
            movable[name] = round(value)
    node_labels = {labels.get("node", ""): prefixed(labels, "label_") for labels, _ in rows.of("node_labels")}
    selectors = parse_selectors(rows)
    most = parse_requested_most(rows, snapshot.nodes, policy)
    nodes = tuple(
        msgspec.structs.replace(
            node,
            # A Node without any pod has no rows: that the family is shown is proven by the others.
            requested=Resources(
                cpu_millicores=round(requested.get(node.name, {}).get("cpu", 0.0) * 1000),
                memory_bytes=round(requested.get(node.name, {}).get("memory", 0.0)),
                pods=movable.get(node.name, 0) + stays.get(node.name, 0),
            ),
            movable=movable.get(node.name, 0),
            labels=node_labels.get(node.name, ()),
            requested_most=most.get(node.name),
        )
        for node in snapshot.nodes
    )
    at_once = rows.by("requested_at_once", "resource")
    together = Resources(
        cpu_millicores=round(at_once.get("cpu", 0.0) * 1000), memory_bytes=round(at_once.get("memory", 0.0))
    )
    pods = tuple(_with_selector(pod, selectors.get((pod.namespace, pod.name, pod.uid), ())) for pod in snapshot.pods)
    return msgspec.structs.replace(
        snapshot,
        nodes=nodes,
        pods=pods,
        rooms_known=True,
        daemons=parse_daemons(rows),
        requested_at_once=together,
        cpu_used_at_once_millicores=round(1000 * (rows.one("used_at_once", resource="cpu") or 0.0)),
    )


def _with_selector(pod: Pod, selector: Labels) -> Pod:
    """Most pods have none, and stay the value that they are."""
    return pod if pod.node_selector == selector else msgspec.structs.replace(pod, node_selector=selector)


def without_closer_look(snapshot: Snapshot, why: str) -> Snapshot:
    """The snapshot where a closer look could not be had: nothing that rests on it is computed."""
    # Whether anything has room is the base of every growth from pods, and of every shrink.
    known = snapshot.cluster_known and snapshot.rooms_known
    return _partial(snapshot, f"what is free on the Nodes is not known: {why}", cluster_known=known)


def with_pods_of(snapshot: Snapshot, names: Sequence[str], answer: Sequence[Sample] | MetricsUnavailable) -> Snapshot:
    """The snapshot with the single pods of these Nodes. Pure.

    A Node of which fewer pods came than were counted, or which ask for less than was summed, is left out: the rest is
    not shown, or just left.
    """
    if isinstance(answer, MetricsUnavailable):
        return _partial(snapshot, f"the pods of {names[0]} are not known: {answer}")
    rows = sort_samples(answer)
    pods: tuple[Pod, ...] = ()
    problems: list[str] = []
    if rows is not None:
        pods, problems = parse_pods_on_nodes(rows)
        problems.extend(
            f"{family} holds {text!r}, which is not a finite number" for family, text in rows.garbage.items()
        )
    if problems:
        return _partial(snapshot, f"the pods of {names[0]} are not known: {problems[0]}")
    requested = {node.name: node.requested or Resources() for node in snapshot.nodes}
    came: dict[str, list[Resources]] = {}
    for pod in pods:
        came.setdefault(pod.node, []).append(pod.requests)
    whole = frozenset(name for name in names if _are_all(came.get(name, []), requested.get(name, Resources())))
    return msgspec.structs.replace(
        snapshot,
        pods=(*snapshot.pods, *(pod for pod in pods if pod.node in whole)),
        pods_of=snapshot.pods_of | whole,
    )


def _are_all(each: Sequence[Resources], counted: Resources) -> bool:
    """Whether they are as many, and ask for as much: what each asks was rounded by itself."""
    asked = sum(each, start=Resources(cpu_millicores=len(each), memory_bytes=len(each)))
    enough = asked.cpu_millicores >= counted.cpu_millicores and asked.memory_bytes >= counted.memory_bytes
    return len(each) >= counted.pods and enough


def with_places_of(
    snapshot: Snapshot, owners: Sequence[str], answer: Sequence[Sample] | MetricsUnavailable
) -> Snapshot:
    """The snapshot with where the pods of these owners are. Pure."""
    rows = None if isinstance(answer, MetricsUnavailable) else sort_samples(answer)
    if rows is None:
        why = str(answer) if isinstance(answer, MetricsUnavailable) else "Prometheus answered with an empty vector"
        return _partial(snapshot, f"where the pods of {owners[0]} are is not known: {why}")
    places, problem = parse_places(rows)
    if problem:
        return _partial(snapshot, f"where the pods of {owners[0]} are is not known: {problem}")
    wanted = frozenset(owners)
    return msgspec.structs.replace(
        snapshot,
        places=(*snapshot.places, *(place for place in places if place.owner in wanted)),
        places_of=snapshot.places_of | wanted,
    )


def _daemon_nodes(nodes: Sequence[Node]) -> tuple[str, ...]:
    """The youngest workers; without any, all Nodes: what runs on a server may run on a worker too."""
    workers = [node for node in nodes if not node.control_plane] or list(nodes)
    youngest = sorted(workers, key=lambda node: (-(node.created_at_s or 0), node.name))
    return tuple(sorted(node.name for node in youngest[:DAEMON_NODES]))


def _unproven(answer: Sequence[Sample] | MetricsUnavailable, rows: Rows | None) -> str:
    if isinstance(answer, MetricsUnavailable):
        return str(answer)
    if rows is None:
        return "Prometheus answered with an empty vector"
    if rows.garbage:
        family, text = next(iter(rows.garbage.items()))
        return f"{family} holds {text!r}, which is not a finite number"
    shown = {labels.get("resource", "") for labels, _ in rows.of("requested")}
    missing = [
        family
        for resource, family in (
            ("", "kube_pod_info and kube_pod_status_phase"),
            ("cpu", "kube_pod_container_resource_requests of cpu"),
            ("memory", "kube_pod_container_resource_requests of memory"),
        )
        if resource not in shown
    ]
    if missing:
        return f"{missing[0]} is empty, which no K3s cluster's can be: let kube-state-metrics expose it"
    return ""


def _partial(snapshot: Snapshot, problem: str, *, cluster_known: bool | None = None) -> Snapshot:
    return msgspec.structs.replace(
        snapshot,
        metrics_status=MetricsStatus.PARTIAL,
        metrics_problems=(problem, *snapshot.metrics_problems),
        cluster_known=snapshot.cluster_known if cluster_known is None else cluster_known,
    )


def _ask(metrics: Metrics, promql: str) -> Sequence[Sample] | MetricsUnavailable:
    try:
        return metrics.query(promql)
    except MetricsUnavailable as error:
        return error
