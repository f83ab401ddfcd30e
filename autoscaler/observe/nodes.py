"""Rows -> Nodes, each fact known or None, and the use of the workers."""

import math
import re
from collections.abc import Mapping, Sequence
from typing import Final

from autoscaler.model import Node, Resources, Utilisation
from autoscaler.observe.samples import Rows
from autoscaler.observe.series import UTILISATION_GROUP
from autoscaler.policy import Policy

WINDOW_COVERAGE: Final = 0.9
"""A window with fewer of its samples has a gap: what happened in it is unknown."""

REQUESTED: Final = ("cpu", "memory", "")
"""What is recorded of a Node's requests: cores, bytes, and the number of pods that a drain would move."""
STARTUP_TAINTS: Final = frozenset(
    {
        "ebs.csi.aws.com/agent-not-ready",
        "efs.csi.aws.com/agent-not-ready",
        "node.cilium.io/agent-not-ready",
        "node.cloudprovider.kubernetes.io/uninitialized",
        "node.kubernetes.io/network-unavailable",
        "node.kubernetes.io/not-ready",
    }
)
"""Taints that whoever starts the node takes off when it is ready for pods. Any other is there to stay, or a state of
its own: a Ready Node that has one has joined, and takes no pods for now.

Sources: Kubernetes documentation, "Taints and Tolerations" and "Well-Known Labels, Annotations and Taints"; Cilium
documentation, "Taints and unmanaged pods"; the AWS EBS and EFS CSI drivers' READMEs ("startup taint").
"""

_PROVIDER_ID: Final = re.compile(r"aws:///([a-z0-9-]+)/(i-[0-9a-f]+)")


def parse_nodes(rows: Rows, policy: Policy, *, volumes_shown: bool, labels_shown: bool) -> tuple[Node, ...]:
    """Return every Node that is shown whole, by name.

    Readiness and cordons are told of the exceptions only: whether the rest is proven stands in presence.py.
    """
    not_ready = {labels.get("node", "") for labels, _ in rows.of("node_not_ready")}
    cordoned = {labels.get("node", "") for labels, _ in rows.of("node_cordoned")}
    control_plane = {labels.get("node", "") for labels, _ in rows.of("node_control_plane")}
    tainted: dict[str, set[str]] = {}
    for labels, _ in rows.of("node_taint"):
        tainted.setdefault(labels.get("node", ""), set()).add(labels.get("key", ""))
    starting = {
        labels.get("node", "") for labels, _ in rows.of("node_taint") if labels.get("key", "") in STARTUP_TAINTS
    }
    managed = {labels.get("node", "") for labels, _ in rows.of("node_managed")}
    volumes = rows.by("node_local_volumes", "node")
    versions = _versions(rows)
    ready_in_window = _covered(rows, "ready_max", "ready_count", label="node", window_s=policy.repair.not_ready_s)
    nodes = []
    for labels, created_s in rows.of("node"):
        name = labels.get("node", "")
        provider_id = labels.get("provider_id", "")
        match = _PROVIDER_ID.fullmatch(provider_id)
        reached = ready_in_window.get(name)
        nodes.append(
            Node(
                name=name,
                provider_id=provider_id,
                instance_id=match[2] if match else None,
                zone=match[1] if match else None,
                created_at_s=int(created_s),
                ready=name not in not_ready,
                unready_long=False if name not in not_ready else None if reached is None else reached == 0,
                cordoned=name in cordoned,
                control_plane=name in control_plane,
                tainted=name in tainted,
                taint_keys=tuple(sorted(tainted.get(name, ()))),
                starting=name in starting,
                allocatable=_allocatable(labels),
                local_volumes=int(volumes.get(name, 0)) if volumes_shown else None,
                managed=name in managed if labels_shown else None,
                kubelet_version=versions.get(name, ""),
            )
        )
    return tuple(sorted(nodes, key=lambda node: node.name))


def parse_utilisation(rows: Rows, policy: Policy) -> tuple[Utilisation, ...]:
    """Return CPU and memory over the policy's windows; a window with a gap is None."""
    now = rows.by("use", "resource")
    grow = _covered(rows, "use_grow_min", "use_grow_count", label="resource", window_s=policy.scale_up.window_s)
    shrink = _covered(rows, "use_shrink_max", "use_shrink_count", label="resource", window_s=policy.scale_down.window_s)
    return tuple(
        Utilisation(
            resource=resource,
            now_low=now.get(resource),
            grow_min=grow.get(resource),
            shrink_max=shrink.get(resource),
        )
        for resource in ("cpu", "memory")
    )


def parse_requested_most(rows: Rows, nodes: Sequence[Node], policy: Policy) -> dict[str, Resources]:
    """Return what each Node's pods asked for at most in the shrink window, by name.

    Of a younger Node since it was there. A Node of which samples are missing is left out.
    """
    interval_s = recording_interval_s(rows)
    if interval_s is None:
        return {}
    most, counts = _by_resource(rows, "requested_max"), _by_resource(rows, "requested_count")
    found = {}
    for node in nodes:
        # It is recorded from the first evaluation after its creation on.
        there_s = rows.at_s - node.created_at_s - interval_s if node.created_at_s is not None else math.inf
        wanted = _samples_wanted(min(policy.scale_down.window_s, max(0.0, there_s)), interval_s)
        own, count = most.get(node.name, {}), counts.get(node.name, {})
        if len(own) == len(REQUESTED) == len(count) and min(count.values()) >= wanted:
            found[node.name] = Resources(
                cpu_millicores=round(own["cpu"] * 1000), memory_bytes=round(own["memory"]), pods=round(own[""])
            )
    return found


def _by_resource(rows: Rows, family: str) -> dict[str, dict[str, float]]:
    """Values of what is recorded of a Node's requests, by Node and resource."""
    found: dict[str, dict[str, float]] = {}
    for labels, value in rows.of(family):
        resource = labels.get("resource", "")
        if resource in REQUESTED:
            found.setdefault(labels.get("node", ""), {})[resource] = value
    return found


def recording_interval_s(rows: Rows) -> float | None:
    """How often the windows' series are recorded, as they say themselves; None while they say nothing."""
    for labels, _ in rows.of("evaluated_at"):
        if labels.get("group") == UTILISATION_GROUP:
            try:
                interval_s = float(labels.get("interval_s", ""))
            except ValueError:
                return None
            return interval_s if interval_s > 0 else None
    return None


def _versions(rows: Rows) -> dict[str, str]:
    """What each kubelet says it is; a Node of which two targets tell two versions is left out."""
    told: dict[str, set[str]] = {}
    for labels, _ in rows.of("node_version"):
        told.setdefault(labels.get("node", ""), set()).add(labels.get("kubelet_version", ""))
    return {name: versions.pop() for name, versions in told.items() if len(versions) == 1}


def _allocatable(labels: Mapping[str, str]) -> Resources | None:
    try:
        return Resources(
            cpu_millicores=round(float(labels["cpu"]) * 1000),
            memory_bytes=round(float(labels["memory"])),
            pods=round(float(labels["pods"])),
        )
    except (KeyError, ValueError, OverflowError):
        return None


def _covered(rows: Rows, value_family: str, count_family: str, *, label: str, window_s: int) -> dict[str, float]:
    """Values of a window by `label`, only where it holds its samples (and two in any case)."""
    interval_s = recording_interval_s(rows)
    if interval_s is None:
        return {}
    wanted = _samples_wanted(window_s, interval_s)
    counts = rows.by(count_family, label)
    return {key: value for key, value in rows.by(value_family, label).items() if counts.get(key, 0.0) >= wanted}


def _samples_wanted(window_s: float, interval_s: float) -> float:
    return max(2.0, WINDOW_COVERAGE * (window_s // interval_s))
