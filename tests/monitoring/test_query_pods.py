"""Who waits, what pods ask, and which Nodes are whole, silent or closed: what the samples do not hold."""

import pytest

from autoscaler.observe.query import moving_query, places_query, rooms_query
from autoscaler.policy import Policy
from tests.monitoring.cluster import KSM, node, of_pod, pod, target
from tests.monitoring.promtool import Case, Cases, Vector, asked
from tests.monitoring.scrape import series_text

pytestmark = pytest.mark.real_programs

ALWAYS = "{}+0x40"
AT_S = 70
UP = target(KSM, "1+0x40")
MOVING = moving_query(Policy(version=1), ["a", "b.c"])
ROOMS = rooms_query(Policy(version=1), ["a"], with_init=True, with_overhead=True)
LEAN_ROOMS = rooms_query(Policy(version=1), ["a"], with_init=False, with_overhead=False)


def case(name: str, series: dict[str, str], *expected: Vector) -> Case:
    return Case(name, {**UP, **series}, expected, recording=False)


def key(name: str, **more: str) -> str:
    return series_text("", {"namespace": "shop", "pod": name, "uid": f"uid-{name}", **more})


def keys(*names: str) -> dict[str, float]:
    return {key(name): 1 for name in names}


# ---------------------------------------------------------------------------------------------------------- who waits

SINCE = case(
    "the time of the verdict, and 1 where it is not shown",
    {
        **pod("old", ALWAYS, phase="Pending", waits="1+0x40"),
        **pod("new", ALWAYS, phase="Pending", waits="1+0x40"),
        of_pod("kube_pod_status_unscheduled_time", "new"): "520+0x40",
        # Of a pod that is bound by now.
        **pod("bound", ALWAYS, on="a"),
        of_pod("kube_pod_status_unscheduled_time", "bound"): "510+0x40",
    },
    asked(AT_S, "pod_unschedulable", {key("old"): 1, key("new"): 520}),
)
RELEASED = case(
    "a gate that is lifted: the verdict keeps its time, and the wait begins",
    {
        **pod("released", ALWAYS, phase="Pending", waits="1+0x40"),
        of_pod("kube_pod_status_unscheduled_time", "released"): "5+0x40",
        of_pod("kube_pod_status_reason", "released", reason="SchedulingGated"): "1+0x30 0+0x10",
        # Another cause counts later than the gate: it was bound, and came back.
        **pod("again", ALWAYS, phase="Pending", waits="1+0x40"),
        of_pod("kube_pod_status_unscheduled_time", "again"): "65+0x40",
        of_pod("kube_pod_status_reason", "again", reason="SchedulingGated"): "1+0x10 0+0x30",
        **pod("held", ALWAYS, phase="Pending", waits="1+0x40"),
        of_pod("kube_pod_status_unscheduled_time", "held"): "5+0x40",
        of_pod("kube_pod_status_reason", "held", reason="SchedulingGated"): "1+0x40",
    },
    asked(AT_S, "pod_unschedulable", {key("released"): 60, key("again"): 65, key("held"): 5}),
)
OWNED = {"created_by_kind": "ReplicaSet", "created_by_name": "web"}
# `failed` finished without ever having had a Node: it is on no Node for good, and no longer pending.
WHO = case(
    "who is on no Node, and who of them waits for none",
    {
        **pod("waits", ALWAYS, phase="Pending", waits="1+0x40"),
        **pod("gated", ALWAYS, phase="Pending", waits="1+0x40"),
        of_pod("kube_pod_status_reason", "gated", reason="SchedulingGated"): "1+0x40",
        **pod("ungated", ALWAYS, phase="Pending", waits="1+0x40"),
        of_pod("kube_pod_status_reason", "ungated", reason="SchedulingGated"): "1+0x20 0+0x20",
        **pod("evicted", ALWAYS, phase="Pending", waits="0+0x40"),
        of_pod("kube_pod_status_reason", "evicted", reason="Evicted"): "1+0x40",
        **pod("deleted", ALWAYS, phase="Pending", waits="1+0x40"),
        of_pod("kube_pod_deletion_timestamp", "deleted"): "60+0x40",
        **pod("bound", ALWAYS, on="a", waits="1+0x40"),
        **pod("bound-and-deleted", ALWAYS, on="a"),
        of_pod("kube_pod_deletion_timestamp", "bound-and-deleted"): "60+0x40",
        **pod("failed", ALWAYS, phase="Failed"),
    },
    asked(30, "pod_gated", keys("gated", "ungated")),
    asked(AT_S, "pod_gated", keys("gated")),
    asked(AT_S, "pod_unbound", {
        key(name, **OWNED): 1 for name in ("waits", "gated", "ungated", "evicted", "deleted", "failed")
    }),
    asked(AT_S, "pod_pending", {**keys("waits", "gated", "ungated", "evicted", "deleted"), key("failed"): 0}),
    asked(AT_S, "pod_unschedulable", {**keys("waits", "gated", "deleted", "bound"), key("ungated"): 40}),
    asked(AT_S, "pod_deleting", {key("deleted"): 60}),
    asked(AT_S, "counted", {'{of="pod_gated"}': 1}, of="pod_gated"),
    asked(AT_S, "counted", {'{of="pod_deleting"}': 1}, of="pod_deleting"),
    asked(AT_S, "counted", {'{of="pod_unschedulable"}': 5}, of="pod_unschedulable"),
)  # fmt: skip
LONG = case(
    "on no Node for a minute",
    {**pod("long", ALWAYS, phase="Pending"), **pod("young", "_x10 {}+0x30", phase="Pending")},
    asked(62, "pod_unbound_long", keys("long")),
    asked(78, "pod_unbound_long", keys("long")),
    asked(82, "pod_unbound_long", keys("long", "young")),
)
OVERWRITTEN = case(
    "labels that the scrape overwrote: honor_labels is off",
    {
        series_text(
            "kube_pod_info",
            {"namespace": "monitoring", "pod": "kube-state-metrics-1", "uid": f"uid-{name}", "exported_pod": name,
             "exported_namespace": "shop", "node": "a", **KSM},
        ): "1+0x40"
        for name in ("web-1", "web-2")
    },
    asked(AT_S, "overwritten", {"{}": 2}),
)  # fmt: skip
NOT_OVERWRITTEN = case("labels as they were", pod("web", ALWAYS, on="a"), asked(AT_S, "overwritten", {}))

# --------------------------------------------------------------------------------------------------- parts of a request


def _parts(on: str) -> dict[str, str]:
    """App containers and sidecars add up, of the other init containers the largest counts, overhead comes on top."""
    asks = {
        **pod("p", ALWAYS, on=on, phase="Running" if on else "Pending", cpu=0.25, kind="DaemonSet"),
        of_pod("kube_pod_container_resource_requests", "p", container="second", resource="cpu", node=on): "0.5+0x40",
        of_pod(
            "kube_pod_container_resource_requests", "p", container="app", resource="nvidia_com_gpu", node=on
        ): "1+0x40",
        of_pod("kube_pod_overhead_cpu_cores", "p"): "0.125+0x40",
        of_pod("kube_pod_overhead_memory_bytes", "p"): "1048576+0x40",
    }
    for name, cores in (("wait", 0.125), ("migrate", 1.5), ("proxy", 0.125), ("logs", 0.25)):
        init = of_pod("kube_pod_init_container_resource_requests", "p", container=name, resource="cpu", node=on)
        policy = "Always" if name in {"proxy", "logs"} else ""
        asks[init] = f"{cores}+0x40"
        asks[of_pod("kube_pod_init_container_info", "p", container=name, restart_policy=policy)] = "1+0x40"
    return asks


PARTS = {("app", "cpu"): 0.75, ("init", "cpu"): 1.5, ("sidecar", "cpu"): 0.375, ("overhead", "cpu"): 0.125,
         ("overhead", "memory"): 1048576.0}  # fmt: skip
OF_POD = {key("p", part=part, resource=resource): value for (part, resource), value in PARTS.items()}
OF_DAEMON = {
    series_text("", {"namespace": "shop", "created_by_name": "web", "part": part, "resource": resource}): value
    for (part, resource), value in PARTS.items()
}
UNBOUND_PARTS = case(
    "parts of a waiting pod's request",
    _parts(""),
    asked(AT_S, "pod_requests", OF_POD),
    # What is on no Node takes no room.
    asked(AT_S, "requested", {}, query=ROOMS),
)
# Effective: 0.75 + 0.375 + max(0, 1.5 - 0.75) + 0.125.
BOUND_PARTS = case(
    "parts of a bound pod's request",
    _parts("a"),
    asked(AT_S, "pod_requests", {}),
    asked(AT_S, "pod_requests", OF_POD, query=MOVING),
    asked(AT_S, "daemon_requests", {'{namespace="shop",created_by_name="web"}': 1, **OF_DAEMON}, query=ROOMS),
    asked(
        AT_S,
        "requested",
        {'{node="a",resource="cpu"}': 2.0, '{node="a",resource="memory"}': 1048576, '{node="a",stays="true"}': 1},
        query=ROOMS,
    ),
    asked(AT_S, "requested", {'{node="a",resource="cpu"}': 0.75, '{node="a",stays="true"}': 1}, query=LEAN_ROOMS),
)
INIT_ALONE = case(
    "an init container's request where the app has none",
    {
        **{name: value for name, value in pod("p", ALWAYS, on="a").items() if "container_resource" not in name},
        of_pod("kube_pod_init_container_resource_requests", "p", container="i", resource="cpu", node="a"): "0.5+0x40",
        of_pod("kube_pod_init_container_info", "p", container="i"): "1+0x40",
    },
    asked(AT_S, "requested", {'{node="a",resource="cpu"}': 0.5, '{node="a"}': 1}, query=ROOMS),
)
FINISHED = case(
    "finished pods hold nothing, whatever they ask; pending ones with a Node do",
    {
        **pod("runs", ALWAYS, on="a", cpu=0.5),
        **pod("starts", ALWAYS, on="a", phase="Pending", cpu=0.25),
        **pod("static", ALWAYS, on="a", cpu=0.125, kind="Node"),
        **pod("done", ALWAYS, on="a", phase="Succeeded", cpu=4),
        **pod("failed", ALWAYS, on="a", phase="Failed", cpu=4),
        **pod("elsewhere", ALWAYS, on="b.c", cpu=1, kind="DaemonSet"),
    },
    asked(
        AT_S,
        "requested",
        {
            '{node="a",resource="cpu"}': 0.875,
            '{node="a"}': 2,
            '{node="a",stays="true"}': 1,
            '{node="b.c",resource="cpu"}': 1,
            '{node="b.c",stays="true"}': 1,
        },
        query=ROOMS,
    ),
    # Of the Nodes that were named, none of which has a DaemonSet's pod.
    asked(AT_S, "daemon_requests", {}, query=ROOMS),
    asked(
        AT_S,
        "pod",
        {
            key("runs", node="a", **OWNED): 1,
            key("starts", node="a", **OWNED): 1,
            key("static", node="a", created_by_kind="Node", created_by_name="web"): 1,
            key("elsewhere", node="b.c", created_by_kind="DaemonSet", created_by_name="web"): 1,
        },
        query=MOVING,
    ),
)
# A name is a name: `b.c` does not name `bxc`.
NAMES = case(
    "Nodes are named exactly",
    {**pod("there", ALWAYS, on="b.c"), **pod("other", ALWAYS, on="bxc"), **pod("longer", ALWAYS, on="ab.c")},
    asked(AT_S, "pod", {key("there", node="b.c", **OWNED): 1}, query=MOVING),
)

EVICT, DISRUPT = "annotation_cluster_autoscaler_kubernetes_io_safe_to_evict", "annotation_karpenter_sh_do_not_disrupt"
ANNOTATED: dict[str, dict[str, str]] = {
    "kept": {EVICT: "false"},
    "stays": {DISRUPT: "true"},
    "both": {EVICT: "false", DISRUPT: "true"},
    "movable": {EVICT: "true", DISRUPT: "false"},
    "plain": {},
}
DO_NOT_EVICT = case(
    "annotations that forbid an eviction",
    {
        name: values
        for pod_name, found in ANNOTATED.items()
        for name, values in {
            **pod(pod_name, ALWAYS, on="a"),
            of_pod("kube_pod_annotations", pod_name, KSM, **found): "1+0x40",
        }.items()
    },
    asked(AT_S, "pod_do_not_evict", keys("kept", "stays", "both"), query=MOVING),
)

# ----------------------------------------------------------------------------------------------------------- the owners

OWNERS = ["shop/ReplicaSet/web", "shop/Pod/bare.1", "shop/Odd/a:b", "shop/Job/none"]
PLACES = places_query(Policy(version=1), OWNERS)
ALL_PLACES = places_query(Policy(version=1), [f"shop/Job/{number}" for number in range(201)])


def _owned(
    name: str, kind: str, owner: str, *, on: str = "a", phase: str = "Running", ns: str = "shop"
) -> dict[str, str]:
    labels = {"namespace": ns, "pod": name, "uid": f"uid-{ns}-{name}", **KSM}
    return {
        series_text(
            "kube_pod_info", {**labels, "node": on, "created_by_kind": kind, "created_by_name": owner}
        ): "1+0x40",
        series_text("kube_pod_status_phase", {**labels, "phase": phase}): "1+0x40",
    }


def _place(node: str, **labels: str) -> str:
    return series_text("", {"node": node, "namespace": "shop", **labels})


WHERE = case(
    "where owners' unfinished pods are, each counted once whoever tells",
    {
        **_owned("w1", "ReplicaSet", "web"),
        **{name.replace("10.0.1.20", "10.0.1.21"): one for name, one in _owned("w1", "ReplicaSet", "web").items()},
        **_owned("w2", "ReplicaSet", "web"),
        **_owned("w3", "ReplicaSet", "web", on="b.c", phase="Pending"),
        **_owned("waits", "ReplicaSet", "web", on="", phase="Pending"),
        **_owned("done", "ReplicaSet", "web", phase="Succeeded"),
        **_owned("other", "ReplicaSet", "web", ns="shop2"),
        **_owned("longer", "ReplicaSet", "web2"),
        **_owned("job", "Job", "web"),
        **_owned("odd", "Odd", "a:b"),
        **_owned("bare.1", "", ""),
        **_owned("barex1", "", ""),
    },
    asked(
        AT_S,
        "place",
        {
            _place("a", created_by_kind="ReplicaSet", created_by_name="web"): 2,
            _place("b.c", created_by_kind="ReplicaSet", created_by_name="web"): 1,
            # Of a like name: whoever reads passes over it.
            _place("a", created_by_kind="Job", created_by_name="web"): 1,
            _place("a", created_by_kind="Odd", created_by_name="a:b"): 1,
            _place("a", pod="bare.1"): 1,
        },
        query=PLACES,
    ),
    asked(AT_S, "counted", {'{of="place"}': 5}, query=PLACES),
    asked(AT_S, "counted", {'{of="place"}': 5}, query=ALL_PLACES),
)
NOWHERE = case("owners of which nothing runs", {}, asked(AT_S, "counted", {'{of="place"}': 0}, query=PLACES))
YOUNGEST = case(
    "when the owner came that came last: by its oldest pod, whoever tells, static pods aside",
    {
        **pod("old", ALWAYS, on="a"),
        of_pod("kube_pod_created", "old"): "100+0x40",
        # A new pod of an owner that is known for long.
        **pod("new", ALWAYS, on="a"),
        of_pod("kube_pod_created", "new"): "900+0x40",
        **_owned("first", "Job", "j"),
        **{name.replace("10.0.1.20", "10.0.1.21"): one for name, one in _owned("first", "Job", "j").items()},
        series_text(
            "kube_pod_created", {"namespace": "shop", "pod": "first", "uid": "uid-shop-first", **KSM}
        ): "500+0x40",
        **_owned("static", "Node", "a"),
        series_text(
            "kube_pod_created", {"namespace": "shop", "pod": "static", "uid": "uid-shop-static", **KSM}
        ): "990+0x40",
    },
    asked(AT_S, "owner_youngest", {"{}": 500}),
)
AGELESS = case("when pods were created is not shown", pod("old", ALWAYS, on="a"), asked(AT_S, "owner_youngest", {}))

# ------------------------------------------------------------------------------------------------------------ the nodes

ROLES = tuple(
    case(
        f"every kind of K3s server is no worker: {role}",
        {
            **node("a", ALWAYS),
            series_text("kube_node_role", {"node": "a", "role": role, **KSM}): "1+0x40",
            series_text("kube_node_role", {"node": "b", "role": "worker", **KSM}): "1+0x40",
        },
        asked(AT_S, "node_control_plane", {'{node="a"}': 1}),
    )
    for role in ("control-plane", "master", "etcd")
)
TAINT = {"node": "a", "key": "k", **KSM}
TAINTS = case(
    "taints that only prefer do not count, nor does the cordon's own",
    {
        series_text("kube_node_spec_taint", {**TAINT, "effect": "PreferNoSchedule"}): "1+0x40",
        series_text("kube_node_spec_taint", {**TAINT, "effect": "NoExecute", "value": "v"}): "1+0x40",
        **node("b", ALWAYS, cordoned=1, taint="node.kubernetes.io/unschedulable"),
    },
    asked(AT_S, "node_taint", {'{effect="NoExecute",key="k",node="a"}': 1}),
    asked(AT_S, "node_cordoned", {'{node="b"}': 1}),
)


def _without(missing: str) -> dict[str, str]:
    return {name: values for name, values in node("a", ALWAYS).items() if missing not in name}


# Each of them is needed to judge the Node: without one it is named as incomplete, not forgotten.
INCOMPLETE = tuple(
    case(
        f"a Node without {missing}",
        {**_without(missing), **node("whole", ALWAYS)},
        asked(AT_S, "node_incomplete", {'{node="a",provider_id="aws:///eu-central-1a/i-a"}': 1}),
        asked(AT_S, "counted", {'{of="node"}': 1}, of="node"),
        asked(AT_S, "counted", {'{of="node_incomplete"}': 1}, of="node_incomplete"),
    )
    for missing in ("kube_node_created", 'resource="cpu"', 'resource="memory"', 'resource="pods"')
)
MANAGED = {"label_k3s_autoscaler_managed": "true", **KSM}
SILENT = case(
    "a NotReady Node of ours is told as ours",
    {
        **node("ours", ALWAYS, ready="0+0x40"),
        **node("theirs", ALWAYS, ready="0+0x40"),
        **node("fine", ALWAYS),
        series_text("kube_node_labels", {"node": "ours", **MANAGED}): "1+0x40",
        series_text("kube_node_labels", {"node": "fine", **MANAGED}): "1+0x40",
    },
    asked(AT_S, "node_managed", {'{node="ours"}': 1}),
    asked(AT_S, "shown", {'{of="kube_node_labels"}': 2}, of="kube_node_labels"),
)

CASES = Cases(
    SINCE, RELEASED, WHO, LONG, OVERWRITTEN, NOT_OVERWRITTEN, UNBOUND_PARTS, BOUND_PARTS, INIT_ALONE, FINISHED, NAMES,
    DO_NOT_EVICT, WHERE, NOWHERE, YOUNGEST, AGELESS, *ROLES, TAINTS, *INCOMPLETE, SILENT,
)  # fmt: skip


@CASES.each
def test_pods(case: str) -> None:
    CASES.check(case)
