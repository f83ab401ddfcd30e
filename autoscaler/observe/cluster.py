"""Sorted samples -> Nodes, Pods and Utilisation."""

import re
from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import Final

from autoscaler.model import Node, Pod, Resources, Utilisation
from autoscaler.observe.query import GROW_COUNT, GROW_MIN, READY_COUNT, READY_MAX, SHRINK_COUNT, SHRINK_MAX
from autoscaler.observe.requests import PARTS, pod_resources
from autoscaler.observe.samples import Row, SortedSamples
from autoscaler.policy import Policy

WINDOW_COVERAGE: Final = 0.9
"""A window with fewer of its samples has a gap: what happened in it is unknown."""

_PROVIDER_ID: Final = re.compile(r"aws:///([a-z0-9-]+)/(i-[0-9a-f]+)")
_CORDON_TAINT: Final = "node.kubernetes.io/unschedulable"

PodKey = tuple[str, str, str]


def parse_nodes(samples: SortedSamples, policy: Policy) -> tuple[tuple[Node, ...], list[str]]:
    """Return every Node, and a sentence for each fact that one lacks: such a fact is None, never a default."""
    families = samples.families
    created = _by_node(families.get("node_created", ()))
    ready = _by_node(families.get("node_ready", ()))
    cordoned = _by_node(families.get("node_cordoned", ()))
    volumes = _by_node(families.get("node_local_volumes", ()))
    control_plane = {labels.get("node", "") for labels, _ in families.get("node_control_plane", ())}
    tainted = {
        labels.get("node", "")
        for labels, _ in families.get("node_taint", ())
        if labels.get("key") != _CORDON_TAINT and labels.get("effect") in {"NoSchedule", "NoExecute"}
    }
    node_labels = {labels.get("node", ""): _prefixed(labels, "label_") for labels, _ in families.get("node_labels", ())}
    allocatable = _allocatable(families.get("node_allocatable", ()))
    unready = _unready_long(samples, policy)
    nodes: list[Node] = []
    problems: list[str] = []
    for labels, _ in families.get("node_info", ()):
        name = labels.get("node", "")
        facts = {
            "node_created": created.get(name),
            "node_ready": ready.get(name),
            "node_cordoned": cordoned.get(name),
            "node_allocatable": allocatable.get(name),
        }
        problems.extend(f"{family} of node {name} is missing" for family, value in facts.items() if value is None)
        match = _PROVIDER_ID.fullmatch(labels.get("provider_id", ""))
        created_s, is_ready, is_cordoned = created.get(name), ready.get(name), cordoned.get(name)
        nodes.append(
            Node(
                name=name,
                provider_id=labels.get("provider_id", ""),
                instance_id=match[2] if match else None,
                zone=match[1] if match else None,
                created_at_s=None if created_s is None else int(created_s),
                ready=None if is_ready is None else is_ready == 1,
                unready_long=unready.get(name),
                cordoned=None if is_cordoned is None else is_cordoned == 1,
                control_plane=name in control_plane,
                tainted=name in tainted,
                allocatable=allocatable.get(name),
                local_volumes=int(volumes.get(name, 0)),
                labels=node_labels.get(name, ()),
            )
        )
    return tuple(sorted(nodes, key=lambda node: node.name)), problems


def parse_pods(samples: SortedSamples) -> tuple[tuple[Pod, ...], list[str]]:
    """Return every pod in phase Pending or Running, and a sentence for each that cannot be read."""
    families = samples.families
    since = {_pod_key(labels): value for labels, value in families.get("pod_unschedulable_since", ())}
    keep = {_pod_key(labels) for labels, _ in families.get("pod_do_not_evict", ())}
    selectors = {
        _pod_key(labels): _prefixed(labels, "nodeselector_") for labels, _ in families.get("pod_node_selector", ())
    }
    requests: dict[PodKey, dict[str, dict[str, float]]] = defaultdict(lambda: {"cpu": {}, "memory": {}})
    problems: list[str] = []
    for labels, value in families.get("pod_requests", ()):
        resource, part = labels.get("resource", ""), labels.get("part", "")
        if resource not in {"cpu", "memory"} or part not in PARTS:
            problems.append(f"pod_requests of {labels.get('pod')} names resource {resource!r} and part {part!r}")
        else:
            requests[_pod_key(labels)][resource][part] = value
    pods: list[Pod] = []
    for labels, _ in families.get("pod_info", ()):
        key = _pod_key(labels)
        # A pod that asks for nothing has no request series: the family as a whole is proved complete by its count.
        parts = requests.get(key, {"cpu": {}, "memory": {}})
        since_s = since.get(key)
        pods.append(
            Pod(
                namespace=key[0],
                name=key[1],
                uid=key[2],
                node=labels.get("node", ""),
                owner_kind=labels.get("owner_kind", ""),
                owner_name=labels.get("owner_name", ""),
                priority_class=labels.get("priority_class", ""),
                requests=pod_resources(parts["cpu"], parts["memory"]),
                unschedulable_since_s=None if since_s is None else int(since_s),
                do_not_evict=key in keep,
                node_selector=selectors.get(key, ()),
            )
        )
    known = {(pod.namespace, pod.name, pod.uid) for pod in pods}
    problems.extend(f"unschedulable pod {key[0]}/{key[1]} has no pod_info" for key in since if key not in known)
    return tuple(sorted(pods, key=lambda pod: (pod.namespace, pod.name, pod.uid))), problems


def parse_utilisation(samples: SortedSamples, policy: Policy) -> tuple[Utilisation, ...]:
    """Return CPU and memory over the policy's windows; a window with a gap is None."""
    interval_s = policy.metrics.utilisation_interval_s
    now = {
        labels.get("resource", ""): value
        for labels, value in samples.families.get("workers_utilisation", ())
        if labels.get("bound") == "low"
    }
    grow_wanted = WINDOW_COVERAGE * (policy.scale_up.window_s // interval_s)
    shrink_wanted = WINDOW_COVERAGE * (policy.scale_down.window_s // interval_s)
    grow = _covered(samples, GROW_MIN, GROW_COUNT, label="resource", wanted=grow_wanted)
    shrink = _covered(samples, SHRINK_MAX, SHRINK_COUNT, label="resource", wanted=shrink_wanted)
    return tuple(
        Utilisation(
            resource=resource,
            now_low=now.get(resource),
            grow_min=grow.get(resource),
            shrink_max=shrink.get(resource),
        )
        for resource in ("cpu", "memory")
    )


def _by_node(rows: Sequence[Row]) -> dict[str, float]:
    return {labels.get("node", ""): value for labels, value in rows}


def _allocatable(rows: Sequence[Row]) -> dict[str, Resources]:
    by_node: dict[str, dict[str, float]] = defaultdict(dict)
    for labels, value in rows:
        by_node[labels.get("node", "")][labels.get("resource", "")] = value
    return {
        node: Resources(
            cpu_millicores=round(values["cpu"] * 1000), memory_bytes=round(values["memory"]), pods=round(values["pods"])
        )
        for node, values in by_node.items()
        if {"cpu", "memory", "pods"} <= values.keys()
    }


def _unready_long(samples: SortedSamples, policy: Policy) -> dict[str, bool]:
    wanted = WINDOW_COVERAGE * (policy.repair.not_ready_s // policy.metrics.cluster_interval_s)
    best = _covered(samples, READY_MAX, READY_COUNT, label="node", wanted=wanted)
    return {node: value == 0 for node, value in best.items()}


def _covered(
    samples: SortedSamples, value_window: str, count_window: str, *, label: str, wanted: float
) -> dict[str, float]:
    """Values of a window by `label`, only where it holds at least `wanted` samples (and one in any case)."""
    counts = samples.windows.get(count_window, ())
    enough = {labels.get(label, "") for labels, count in counts if count >= max(1.0, wanted)}
    return {
        labels.get(label, ""): value
        for labels, value in samples.windows.get(value_window, ())
        if labels.get(label, "") in enough
    }


def _pod_key(labels: Mapping[str, str]) -> PodKey:
    return labels.get("namespace", ""), labels.get("pod", ""), labels.get("uid", "")


def _prefixed(labels: Mapping[str, str], prefix: str) -> tuple[tuple[str, str], ...]:
    return tuple(sorted((k.removeprefix(prefix), v) for k, v in labels.items() if k.startswith(prefix)))
