"""The four questions that a look may ask of Prometheus, each one instant query.

`sight`: each look, grows with Nodes and waiting pods. `rooms`: what is free where, once pods have to fit somewhere.
`moving`: the single pods of Nodes that may have to go. `places`: where the pods of some owners are.

Each row carries the label `family`: `or` ignores `__name__`, so operands whose label sets could meet are told apart by
it.
"""

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Final

from autoscaler.observe.promql import BOUND, RESOURCES, SIDECAR, Raw, labelled, quoted
from autoscaler.observe.requested import INIT_REQUESTS, OVERHEAD, requested_in_window, requested_now
from autoscaler.observe.series import COUNTED, FAMILY, KUBE_STATE_METRICS, NODE_EXPORTER, UTILISATION_GROUP
from autoscaler.policy import Policy

SETTLED_WINDOW_S: Final = 60
SETTLED_WINDOW: Final = f"{SETTLED_WINDOW_S}s"
"""A source counts as just restarted for this long: kube-state-metrics answers 200 while it still fills its caches."""
INTERVAL_WINDOW_S: Final = 300
OFTEN: Final = 0.9
"""The share of the usual scrapes that a source without a gap has."""
GATE_MATTERS_S: Final = 60
"""How long after its release a pod's age still decides something, beyond `scale_up.pending_for_s`."""
GATE_STEP_S: Final = 5
NAMED: Final = 10
"""Where many of a kind are counted, as many are named."""
NAMED_AT_MOST: Final = 200
"""More names than these do not stand in one selector."""
BARE: Final = "Pod"
"""The kind of a pod without an owner, as `Pod.owner` has it."""
_POD: Final = "namespace, pod, uid"
_OWNED_POD: Final = f"{_POD}, created_by_kind, created_by_name, priority_class"
_SPECIAL: Final = r"[\\.+*?()|\[\]{}^$]"
_ESCAPED: Final = r"\\\g<0>"
"""Names of custom kinds may hold them (Kubernetes: path segment names)."""
_SIGHTS: Final[dict[bool, tuple[Policy, str]]] = {}
_DO_NOT_EVICT: Final = (
    'annotation_cluster_autoscaler_kubernetes_io_safe_to_evict="false"',
    'annotation_karpenter_sh_do_not_disrupt="true"',
)


def sight_query(policy: Policy, *, with_owners: bool = False) -> str:
    """What each look asks. `with_owners`: and when the last owner of pods came, which costs as much as all the rest.

    The text is long and the same at each look: it is kept beside the policy that it was made of.
    """
    kept = _SIGHTS.get(with_owners)
    if kept is None or kept[0] is not policy:
        kept = _SIGHTS[with_owners] = (policy, _union(sight_operands(policy, with_owners=with_owners)))
    return kept[1]


def sight_operands(policy: Policy, *, with_owners: bool = False) -> dict[str, str]:
    """Its operands by family. A family that has several is told apart by a second word."""
    raw = Raw(policy.metrics.matchers)
    rows = {**_nodes(raw), **_unbound_pods(raw, policy)}
    counted = {f"counted {family}": _count(rows[family], of=family) for family in COUNTED}
    counted["counted node_unmeasured"] = _count(_unmeasured(raw), of="node_unmeasured")
    versions = {"node_version": _versions(raw)} if "k3s_version" in policy.rotation.drift else {}
    owners = {"owner_youngest": f"max({_owners_since(raw)})"} if with_owners else {}
    return {**rows, **versions, **owners, **_use(raw, policy), **_about(raw), **counted}


def rooms_query(policy: Policy, daemon_nodes: Sequence[str], *, with_init: bool, with_overhead: bool) -> str:
    """What is free on each Node. `daemon_nodes`: Nodes whose DaemonSet pods tell what a new worker has to run.

    `with_init`, `with_overhead`: whether any pod has such requests (`shown` of the sight); else they cost nothing.
    """
    raw = Raw(policy.metrics.matchers)
    daemons = _on_nodes(daemon_nodes, 'created_by_kind="DaemonSet"')
    owned = f"max by (uid, namespace, created_by_name) ({raw.state('kube_pod_info', daemons)})"
    parts = {
        f"daemon_requests {part}": labelled(
            f"max by (namespace, created_by_name, resource) "
            f"({expression} * on (namespace, uid) group_left (created_by_name) {owned})",
            part=part,
        )
        for part, expression in _parts(raw, _on_nodes(daemon_nodes)).items()
    }
    unbound = raw.state("kube_pod_info", 'node=""')
    return _union(
        {
            "requested": requested_now(raw, with_init=with_init, with_overhead=with_overhead),
            **requested_in_window(raw, policy.scale_down.window_s),
            "evaluated_at": _evaluated_at(raw),
            **parts,
            "daemon_requests": f"max by (namespace, created_by_name) ({owned})",
            "node_labels": f"max without (instance, job) ({raw.state('kube_node_labels')})",
            "pod_selector": _selectors(raw, unbound),
        }
    )


def moving_query(policy: Policy, nodes: Sequence[str]) -> str:
    """The unfinished pods of these Nodes."""
    raw = Raw(policy.metrics.matchers)
    there = raw.state("kube_pod_info", _on_nodes(nodes))
    parts = {
        f"pod_requests {part}": labelled(f"{expression} and on (uid) {there}", part=part)
        for part, expression in _parts(raw, _on_nodes(nodes)).items()
    }
    kept = " or ".join(raw.state("kube_pod_annotations", annotation) for annotation in _DO_NOT_EVICT)
    return _union(
        {
            "pod": f"max by ({_OWNED_POD}, node) ({there}) and on (uid) {raw.alive}",
            **parts,
            "pod_selector": _selectors(raw, there),
            "pod_do_not_evict": f"max by ({_POD}) ({kept}) and on (uid) {there}",
        }
    )


def places_query(policy: Policy, owners: Sequence[str]) -> str:
    """On which Nodes the unfinished pods of these owners (`namespace/kind/name`) are, and how many on each.

    Others of the same names come along, and of too many owners all of their namespaces: whoever reads picks. A pod
    without an owner is its own, of the kind `Pod`.
    """
    raw = Raw(policy.metrics.matchers)
    parts = [owner.split("/", 2) for owner in owners]
    namespaces = _any_of("namespace", (namespace for namespace, _, _ in parts)) or ""
    operands: dict[str, str] = {}
    for family, alone, by in (
        ("place", False, "created_by_kind, created_by_name"),
        ("place of pods", True, "pod"),
    ):
        names = _any_of(by.split()[-1], (name for _, kind, name in parts if (kind == BARE) is alone))
        if names is None:
            continue
        wanted = (BOUND, f'created_by_kind{"=" if alone else "!="}""', namespaces, names)
        there = raw.state("kube_pod_info", ",".join(matcher for matcher in wanted if matcher))
        each = f"max by (uid, node, namespace, {by}) ({there} and on (uid) {raw.alive_where(namespaces)})"
        operands[family] = f"count by (node, namespace, {by}) ({each})"
    return _union({**operands, "counted": _count(" or ".join(operands.values()), of="place")})


def about_query(policy: Policy) -> str:
    """Which rules record, by the mark that rendering gave them, and which versions run. For people, not for looks."""
    raw = Raw(policy.metrics.matchers)
    versions = f"group by (node, kubelet_version) ({raw.state('kube_node_info')})"
    return _union(
        {
            "rules": f"max by (group, interval_s, rendered) ({raw.recorded('evaluated_at')})",
            "kubelets": f"count by (kubelet_version) ({versions})",
        }
    )


def _union(operands: Mapping[str, str]) -> str:
    """Every operand with its family; a name may carry a second word, so that two operands share a family."""
    rows = (
        f'label_replace({expression}, "{FAMILY}", "{name.split()[0]}", "", "")' for name, expression in operands.items()
    )
    return "\nor\n".join(rows)


def _count(expression: str, of: str) -> str:
    """Always there, 0 for none: what is not told is not none."""
    return labelled(f"(count({expression}) or vector(0))", of=of)


def _selectors(raw: Raw, pods: str) -> str:
    return f"max without (instance, job) ({raw.state('kube_pod_nodeselectors')} and on (uid) {pods})"


def _any_of(label: str, names: Iterable[str]) -> str | None:
    """A matcher for these names, empty where they are too many; None where there is none."""
    unique = sorted(set(names))
    if not unique:
        return None
    if len(unique) > NAMED_AT_MOST:
        return ""
    return f"{label}=~{quoted('|'.join(re.sub(_SPECIAL, _ESCAPED, name) for name in unique))}"


def _on_nodes(nodes: Sequence[str], *more: str) -> str:
    """A matcher; without any Node it matches nothing that is bound."""
    names = "|".join(node.replace("\\", "\\\\\\\\").replace(".", "\\\\.") for node in nodes)
    return ",".join((f'node=~"{names}"', 'node!=""', *more))


# ---------------------------------------------------------------------------------------------------------------- sight


def _nodes(raw: Raw) -> dict[str, str]:
    identity = f"group by (node, provider_id) ({raw.state('kube_node_info')})"
    facts = f"{identity} * on (node) group_left () {raw.created}"
    for resource in ("cpu", "memory", "pods"):
        sizes = raw.state("kube_node_status_allocatable", f'resource="{resource}"')
        facts += f' * on (node) group_left ({resource}) count_values by (node) ("{resource}", max by (node) ({sizes}))'
    not_ready = f"{raw.ready} == 0"
    unmeasured = _unmeasured(raw)
    managed = raw.state("kube_node_labels", 'label_k3s_autoscaler_managed="true"')
    return {
        "node": facts,
        "node_incomplete": f"{identity} unless on (node) ({facts})",
        "node_not_ready": not_ready,
        "node_cordoned": f"{raw.cordoned} == 1",
        "node_control_plane": raw.control_plane,
        "node_taint": raw.taint,
        "node_managed": f"max by (node) ({managed}) and on (node) ({not_ready})",
        "node_local_volumes": raw.local_volumes,
        "node_unmeasured": f"topk({NAMED}, {unmeasured})",
    }


def _versions(raw: Raw) -> str:
    """{node, kubelet_version}, asked where workers are rotated by it."""
    return f"group by (node, kubelet_version) ({raw.state('kube_node_info')})"


def _unmeasured(raw: Raw) -> str:
    """{node, resource} workers that take pods and have no recorded use."""
    return (
        f"({raw.allocatable} and on (node) {raw.takers}) unless on (node, resource) {raw.recorded('node_utilisation')}"
    )


def _waits_since(raw: Raw, policy: Policy) -> str:
    """{namespace, pod, uid} since when no Node fits, epoch seconds; 1 where that is not shown.

    The scheduler's verdict keeps its time when a gate is lifted (`lastTransitionTime` of PodScheduled), so that a pod
    released a second ago would count as one that has waited for hours: it waits since it was last seen gated. Looked
    for as far back as it matters: longer ago, it has waited long enough either way.
    """
    told = f"{raw.state('kube_pod_status_unscheduled_time')} and on (uid) {raw.unschedulable}"
    back_s = policy.scale_up.pending_for_s + GATE_MATTERS_S
    last_gated = f"max_over_time(timestamp({raw.gated})[{back_s}s:{GATE_STEP_S}s])"
    lifted = f"{last_gated} and on (uid) {raw.unschedulable} unless on (uid) {raw.gated}"
    both = f"{labelled(told, when='told')} or {labelled(lifted, when='lifted')}"
    return f"max by ({_POD}) ({both}) or on (uid) max by ({_POD}) {raw.unschedulable}"


def _unbound_pods(raw: Raw, policy: Policy) -> dict[str, str]:
    unbound = raw.state("kube_pod_info", 'node=""')
    pending = raw.state("kube_pod_status_phase", 'phase="Pending"')
    # Where two targets disagree, bound wins over not yet bound.
    bound = raw.state("kube_pod_info", 'node!=""')
    parts = {
        f"pod_requests {part}": labelled(expression, part=part) for part, expression in _parts(raw, 'node=""').items()
    }
    return {
        "pod_unbound": f"max by ({_OWNED_POD}) ({unbound}) unless on (uid) {bound}",
        "pod_pending": f"max by ({_POD}) ({pending} and on (uid) {unbound})",
        "pod_unschedulable": _waits_since(raw, policy),
        "pod_gated": f"max by ({_POD}) {raw.gated}",
        "pod_deleting": f"max by ({_POD}) ({raw.state('kube_pod_deletion_timestamp')}) and on (uid) {unbound}",
        "pod_unbound_long": f"max by ({_POD}) ({unbound}) and on (uid) {unbound} offset {SETTLED_WINDOW}",
        **parts,
    }


def _owners_since(raw: Raw) -> str:
    """{namespace, created_by_kind, created_by_name} when the oldest of its pods was created.

    Pods without an owner are one owner a namespace here; those of a Node itself ask no scheduler.
    """
    owned = raw.state("kube_pod_info", 'created_by_kind!="Node"')
    owner = "created_by_kind, created_by_name"
    created = f"{raw.state('kube_pod_created')} * on (uid) group_left ({owner}) max by (uid, {owner}) ({owned})"
    return f"min by (namespace, {owner}) ({created})"


def _parts(raw: Raw, where: str) -> dict[str, str]:
    """What the containers of the pods there ask: {namespace, pod, uid, resource}, by part.

    Sidecars are init containers that are restarted always; they run beside the app for the pod's whole life. The other
    init containers run one after the other: the largest counts. Overhead has no label `node`; whoever uses the parts
    joins them with the pods that he means.
    """
    app = raw.state("kube_pod_container_resource_requests", f"{RESOURCES},{where}")
    init = raw.state(INIT_REQUESTS, f"{RESOURCES},{where}")
    sidecars = raw.state("kube_pod_init_container_info", SIDECAR)
    cpu, memory = raw.state("kube_pod_overhead_cpu_cores"), raw.state("kube_pod_overhead_memory_bytes")
    there = raw.state("kube_pod_info", where)
    return {
        "app": f"sum by ({_POD}, resource) (max by ({_POD}, container, resource) ({app}))",
        "sidecar": f"sum by ({_POD}, resource) "
        f"(max by ({_POD}, container, resource) ({init} and on (uid, container) {sidecars}))",
        "init": f"max by ({_POD}, resource) ({init} unless on (uid, container) {sidecars})",
        "overhead": f'((label_replace(max by ({_POD}) ({cpu}), "resource", "cpu", "", "") '
        f'or label_replace(max by ({_POD}) ({memory}), "resource", "memory", "", "")) and on (uid) {there})',
    }


def _use(raw: Raw, policy: Policy) -> dict[str, str]:
    low = raw.recorded("workers_utilisation", 'bound="low"')
    high = raw.recorded("workers_utilisation", 'bound="high"')
    ready = raw.recorded("node_ready")
    grow_s, shrink_s, repair_s = policy.scale_up.window_s, policy.scale_down.window_s, policy.repair.not_ready_s
    not_ready = f"({raw.ready} == 0)"
    return {
        "use": f"max by (resource) ({low})",
        "use_grow_min": f"min by (resource) (min_over_time({low}[{grow_s}s]))",
        "use_grow_count": f"max by (resource) (count_over_time({low}[{grow_s}s]))",
        "use_shrink_max": f"max by (resource) (max_over_time({high}[{shrink_s}s]))",
        "use_shrink_count": f"max by (resource) (count_over_time({high}[{shrink_s}s]))",
        "ready_max": f"max by (node) (max_over_time({ready}[{repair_s}s])) and on (node) {not_ready}",
        "ready_count": f"max by (node) (count_over_time({ready}[{repair_s}s])) and on (node) {not_ready}",
    }


def _about(raw: Raw) -> dict[str, str]:
    """What proves that the rest is whole, fresh, and of one cluster."""
    machines = f"group by (node, system_uuid) ({raw.state('kube_node_info')})"
    old_reason = raw.state("kube_pod_status_reason", 'reason="Evicted"')
    families = {
        "kube_node_status_condition": raw.ready,
        "kube_node_spec_unschedulable": raw.cordoned,
        "kube_node_status_addresses": raw.state("kube_node_status_addresses"),
        "kube_node_labels": raw.state("kube_node_labels", 'label_k3s_autoscaler_managed="true"'),
        "kube_persistentvolume_info": raw.state("kube_persistentvolume_info"),
        "kube_persistentvolume_annotations": raw.placed_volumes,
        "kube_pod_status_reason": raw.state("kube_pod_status_reason", 'reason="SchedulingGated"'),
        "kube_pod_status_reason_of_old": f"({old_reason} == 0)",
        "kube_node_spec_pod_cidrs": raw.state("kube_node_spec_pod_cidrs"),
        INIT_REQUESTS: raw.state(INIT_REQUESTS, f"{RESOURCES},{BOUND}"),
        OVERHEAD: f"({raw.state(OVERHEAD)} or {raw.state('kube_pod_overhead_memory_bytes')})",
    }
    volume = raw.state("kube_persistentvolume_info", 'csi_driver!=""')
    overwritten = raw.state("kube_pod_info", 'exported_pod!=""')
    return {
        **{f"shown {name}": labelled(f"count({expression})", of=name) for name, expression in families.items()},
        "volumes_of": f"count by (csi_driver) (max by (persistentvolume, csi_driver) ({volume}))",
        "volumes_unplaced": f"count({raw.unplaced_volumes})",
        "source_nodes": raw.told_by,
        "node_twice": f"count by (node) ({machines}) > 1",
        "version": f"group by (version) ({raw.telemetry('kube_state_metrics_build_info')})",
        "overwritten": f"count({overwritten})",
        **{
            f"{family} {source}": labelled(expression, source=source)
            for source, up in ((KUBE_STATE_METRICS, raw.state("up")), (NODE_EXPORTER, raw.machine("up")))
            for family, expression in _about_source(up).items()
        },
        "evaluated_at": _evaluated_at(raw),
    }


def _evaluated_at(raw: Raw) -> str:
    recorded = raw.recorded("evaluated_at", f'group="{UTILISATION_GROUP}"')
    return f"max by (group, interval_s) ({recorded})"


def _about_source(up: str) -> dict[str, str]:
    """`up` carries the time of the scrape; a derived vector would carry the time of the evaluation."""
    # A target that left and came back in between leaves a gap, and no failed scrape has to show it: then it was scraped
    # less often than in the minute before. One scrape may fall on either side of the edge.
    counted = f"count_over_time({up}[{SETTLED_WINDOW}]"
    seldom = f"{counted}) + 1 < {OFTEN} * {counted} offset {SETTLED_WINDOW})"
    settled = f"min_over_time({up}[{SETTLED_WINDOW}]) == 1 and {up} offset {SETTLED_WINDOW} unless {seldom}"
    return {
        "targets_down": f"count({up} == 0)",
        "restarted": f"count({up} == 1 unless ({settled}))",
        "scraped_at": f"max(timestamp({up}) and {up} == 1)",
        "scrape_interval": f"{INTERVAL_WINDOW_S} / max(count_over_time({up}[{INTERVAL_WINDOW_S}s]))",
    }
