"""Rows -> Pods: those that are on no Node, and those of the Nodes that were asked for."""

from collections import defaultdict
from collections.abc import Mapping

from autoscaler.model import DaemonSet, Place, Pod
from autoscaler.observe.requests import PARTS, pod_resources
from autoscaler.observe.samples import Rows

PodKey = tuple[str, str, str]
Parts = dict[str, dict[str, float]]
"""Resource -> part -> value."""
Labels = tuple[tuple[str, str], ...]

UNKNOWN_SINCE_S = 1
"""What `pod_unschedulable` says where the time is not shown."""


def parse_unbound(rows: Rows) -> tuple[tuple[Pod, ...], list[str]]:
    """Return the pods that are on no Node and have not finished, and a sentence for each that cannot be read.

    A pod that is being deleted asks for nothing: nobody schedules it any more.
    """
    since = {pod_key(labels): value for labels, value in rows.of("pod_unschedulable")}
    gated = {pod_key(labels) for labels, _ in rows.of("pod_gated")}
    deleting = {pod_key(labels) for labels, _ in rows.of("pod_deleting")}
    pending = {pod_key(labels): value for labels, value in rows.of("pod_pending")}
    requests, problems = _requests(rows)
    pods: list[Pod] = []
    described: set[PodKey] = set()
    for labels, _ in rows.of("pod_unbound"):
        key = pod_key(labels)
        described.add(key)
        if key in deleting or pending.get(key) == 0:
            continue
        if key not in pending:
            problems.append(
                f"whether pod {key[0]}/{key[1]} has finished is not shown: "
                "let kube-state-metrics expose kube_pod_status_phase"
            )
        since_s = None if key in gated else since.get(key)
        if since_s == UNKNOWN_SINCE_S:
            problems.append(
                f"since when pod {key[0]}/{key[1]} waits is not shown: let kube-state-metrics (2.19 or newer) expose "
                "kube_pod_status_unscheduled_time"
            )
            since_s = None
        pods.append(_pod(key, labels, requests, since_s=None if since_s is None else int(since_s)))
    problems.extend(
        f"pod {key[0]}/{key[1]} waits and is not described: let kube-state-metrics expose kube_pod_info"
        for key in since.keys() - described - deleting
    )
    return tuple(sorted(pods, key=_order)), sorted(problems)


def parse_pods_on_nodes(rows: Rows) -> tuple[tuple[Pod, ...], list[str]]:
    """Return the pods of the Nodes that were asked for, and a sentence for each that cannot be read."""
    keep = {pod_key(labels) for labels, _ in rows.of("pod_do_not_evict")}
    selectors = parse_selectors(rows)
    requests, problems = _requests(rows)
    pods = (
        _pod(key, labels, requests, do_not_evict=key in keep, selector=selectors.get(key, ()))
        for labels, _ in rows.of("pod")
        for key in (pod_key(labels),)
    )
    return tuple(sorted(pods, key=_order)), problems


def parse_selectors(rows: Rows) -> dict[PodKey, Labels]:
    """Node selectors by pod, under sanitised names."""
    return {pod_key(labels): prefixed(labels, "nodeselector_") for labels, _ in rows.of("pod_selector")}


def parse_daemons(rows: Rows) -> tuple[DaemonSet, ...]:
    """Return what each DaemonSet asks of a worker: for each part the largest of its pods."""
    parts: dict[tuple[str, str], Parts] = defaultdict(lambda: {"cpu": {}, "memory": {}})
    for labels, value in rows.of("daemon_requests"):
        owner = labels.get("namespace", ""), labels.get("created_by_name", "")
        asked = parts[owner]  # one that asks for nothing still takes a pod's place
        if labels.get("resource"):
            asked.setdefault(labels["resource"], {})[labels.get("part", "")] = value
    return tuple(
        DaemonSet(namespace=owner[0], name=owner[1], requests=pod_resources(found["cpu"], found["memory"]))
        for owner, found in sorted(parts.items())
    )


def parse_places(rows: Rows) -> tuple[tuple[Place, ...], str]:
    """Return where the owners' pods are, and what is wrong with the answer, in one clause."""
    if rows.garbage:
        family, text = next(iter(rows.garbage.items()))
        return (), f"{family} holds {text!r}, which is not a finite number"
    came, counted = len(rows.of("place")), rows.one("counted", of="place")
    if counted != came:
        return (), f"{came} rows came, and {'nothing was' if counted is None else f'{counted:g} were'} counted"
    places = []
    for labels, value in rows.of("place"):
        kind, name = labels.get("created_by_kind") or "Pod", labels.get("created_by_name") or labels.get("pod", "")
        if not (labels.get("node") and labels.get("namespace") and name) or value < 1 or value % 1:
            return (), f"a row says {value:g} pods of {name!r} on {labels.get('node')!r}"
        owner = f"{labels['namespace']}/{kind}/{name}"
        places.append(Place(owner=owner, node=labels["node"], count=int(value)))
    return tuple(sorted(places, key=lambda place: (place.owner, place.node))), ""


def pod_key(labels: Mapping[str, str]) -> PodKey:
    """What tells a pod from every other."""
    return labels.get("namespace", ""), labels.get("pod", ""), labels.get("uid", "")


def prefixed(labels: Mapping[str, str], prefix: str) -> Labels:
    """The labels of that prefix, without it."""
    begin = len(prefix)
    return tuple(sorted([(key[begin:], value) for key, value in labels.items() if key.startswith(prefix)]))


def _requests(rows: Rows) -> tuple[dict[PodKey, Parts], list[str]]:
    requests: dict[PodKey, Parts] = defaultdict(lambda: {"cpu": {}, "memory": {}})
    problems: list[str] = []
    for labels, value in rows.of("pod_requests"):
        resource, part = labels.get("resource", ""), labels.get("part", "")
        if resource not in {"cpu", "memory"} or part not in PARTS:
            problems.append(f"pod_requests of {labels.get('pod')} names resource {resource!r} and part {part!r}")
        else:
            requests[pod_key(labels)][resource][part] = value
    return requests, problems


def _pod(
    key: PodKey,
    labels: Mapping[str, str],
    requests: Mapping[PodKey, Parts],
    *,
    since_s: int | None = None,
    do_not_evict: bool = False,
    selector: Labels = (),
) -> Pod:
    # A pod that asks for nothing has no request series: that the family is shown at all is proven by `requested`.
    parts = requests.get(key) or {"cpu": {}, "memory": {}}
    return Pod(
        namespace=key[0],
        name=key[1],
        uid=key[2],
        node=labels.get("node", ""),
        owner_kind=labels.get("created_by_kind", ""),
        owner_name=labels.get("created_by_name", ""),
        priority_class=labels.get("priority_class", ""),
        requests=pod_resources(parts["cpu"], parts["memory"]),
        unschedulable_since_s=since_s,
        do_not_evict=do_not_evict,
        node_selector=selector,
    )


def _order(pod: Pod) -> tuple[str, str, str]:
    return pod.namespace, pod.name, pod.uid
