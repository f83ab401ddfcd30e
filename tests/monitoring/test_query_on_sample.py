"""The queries on scrapes of real kube-state-metrics, 2.18 and 2.20 (tests/data): exactly these rows are the answer."""

from collections.abc import Iterable, Mapping, Sequence

import pytest

from autoscaler.observe.query import moving_query, rooms_query
from autoscaler.policy import Policy
from tests.monitoring.cluster import KSM, target
from tests.monitoring.effective import effective
from tests.monitoring.promtool import Case, Cases, Vector, asked, every
from tests.monitoring.scrape import Series, kept, read_scrape, series_text

pytestmark = pytest.mark.real_programs

# Few samples make cheap cases: one each 30 s, as kube-prometheus-stack has it.
INTERVAL_S, SAMPLES, AT_S = 30, 5, 120
OLD = read_scrape("kube-state-metrics.prom")
SHIPPED = read_scrape("kube-state-metrics-2.20-shipped-flags.prom")
BARE = read_scrape("kube-state-metrics-2.20-no-allow-lists.prom")
OLD_NODES = {
    "ip-10-0-1-10": "aws:///us-east-1a/i-0aaaaaaaaaaaaaa10",
    "legacy-no-provider": "k3s://legacy-no-provider",
    "static-1": "aws:///us-east-1a/i-0bbbbbbbbbbbbbb01",
    "static-2": "aws:///us-east-1b/i-0bbbbbbbbbbbbbb02",
    "worker-i-0ccccccccccccc001": "aws:///us-east-1a/i-0ccccccccccccc001",
    "worker-i-0ccccccccccccc002": "aws:///us-east-1b/i-0ccccccccccccc002",
    "worker-i-0ccccccccccccc003": "aws:///us-east-1b/i-0ccccccccccccc003",
    "worker-i-0ccccccccccccc004": "aws:///us-east-1a/i-0ccccccccccccc004",
}
OLD_WORKER = "worker-i-0ccccccccccccc00"
SERVER = "ip-10-0-1-10.eu-central-1.compute.internal"
WORKER = "worker-i-0bbbbbbbbbbbbbbb"
WITH_NODE_ID = f"{WORKER}4-1f2e3d4c"
# name, provider-id, cores, bytes
NEW_NODES = (
    (SERVER, "aws:///eu-central-1a/i-0aaaaaaaaaaaaaaa0", "1.9", "3670016000"),
    (f"{WORKER}1", "aws:///eu-central-1a/i-0bbbbbbbbbbbbbbb1", "1.89", "1596981248"),
    (f"{WORKER}2", "aws:///eu-central-1b/i-0bbbbbbbbbbbbbbb2", "1.89", "1596981248"),
    (f"{WORKER}3", "aws:///eu-central-1b/i-0bbbbbbbbbbbbbbb3", "1.89", "1596981248"),
    # K3s' --with-node-id: the Node is found by its provider-id, not by its name.
    (WITH_NODE_ID, "aws:///eu-central-1a/i-0bbbbbbbbbbbbbbb4", "1.89", "1596981248"),
    ("pi-1", "k3s://pi-1", "3.9", "7864320000"),
)
GATED = 'namespace="batch",pod="gated-85b9d64dc5-pnjkm",uid="666c2f54-0d6a-4063-8f5a-b0973689d6c4"'
UNSCHEDULABLE = {
    'namespace="batch",pod="burst-5b6fc98f65-7mj5p",uid="271c76fd-396c-4b48-9c34-627900fcd1ee"': 1795463435,
    'namespace="batch",pod="burst-5b6fc98f65-c6hql",uid="942155c5-3563-4e1e-aa93-c511680d2d5d"': 1795463435,
    'namespace="batch",pod="burst-5b6fc98f65-hlcpj",uid="d28bd3c3-05f2-469f-a144-d399ac6ec048"': 1795463435,
    'namespace="batch",pod="burst-5b6fc98f65-nrn8c",uid="7b753754-67d6-4cea-b36c-24a4ead31498"': 1795463435,
    'namespace="batch",pod="gpu-867cf748fc-757z8",uid="3d62486e-464e-486b-ab58-0185f32eab89"': 1795463346,
    'namespace="shop",pod="report-86c6f9745f-p5mk9",uid="c9464dd5-7041-4d4b-bc48-031846ca1a21"': 1795463346,
}
NEW_GATED = 'namespace="z",pod="gated",uid="4b18376c-3a63-4c9a-bb39-a837dc9a7e0a"'
OTHER_SCHEDULER = 'namespace="z",pod="othersched",uid="f758deb8-e491-4339-8ad4-bae8d1ebce79"'


def rooms(nodes: Iterable[str], *, with_init: bool = True, with_overhead: bool = True) -> str:
    return rooms_query(Policy(version=1), tuple(nodes), with_init=with_init, with_overhead=with_overhead)


def case(name: str, sample: Sequence[Series], *expected: Vector) -> Case:
    series = {one.text(**KSM): every(SAMPLES, one.value) for one in sample}
    return Case(name, {**series, **target(KSM, every(SAMPLES, 1))}, expected, interval_s=INTERVAL_S)


def rows(found: Mapping[str, float]) -> dict[str, float]:
    return {f"{{{labels}}}": value for labels, value in found.items()}


def of_nodes(value: float, *nodes: str) -> dict[str, float]:
    return {f'{{node="{node}"}}': value for node in nodes}


def shown(**found: int) -> Vector:
    return asked(AT_S, "shown", {f'{{of="{family}"}}': count for family, count in found.items()})


def test_the_independent_sum_by_hand() -> None:
    """`pi-1`: 0.1 web, 0.01 daemon, 0.05 app below 0.3 init, 0.25 overhead, 0.05 of a pod whose own request is more."""
    assert effective(BARE)['{node="pi-1",resource="cpu"}'] == 0.71
    assert effective(BARE)['{node="pi-1"}'] == 4
    assert effective(BARE)['{node="pi-1",stays="true"}'] == 1
    assert effective(OLD) != effective([one for one in OLD if "init" not in one.name])
    assert effective(BARE) != effective([one for one in BARE if one.name != "kube_pod_init_container_info"])


# -------------------------------------------------------------------------------------------------------------- samples

NO_INIT = [one for one in OLD if "init_container" not in one.name]
SIDECARS_KNOWN = [
    *OLD,
    *(
        Series(
            "kube_pod_init_container_info",
            {
                **{key: one.labels[key] for key in ("namespace", "pod", "uid", "container")},
                "restart_policy": "Always" if one.labels["container"] == "proxy" else "",
            },
            "1",
        )
        for one in OLD
        if one.name == "kube_pod_init_container_resource_requests" and one.labels["resource"] == "cpu"
    ),
]
GATE_TOLD = [
    *OLD,
    Series("kube_pod_status_reason", {**next(
        one.labels for one in OLD if one.name == "kube_pod_created" and one.labels["pod"].startswith("gated-")
    ), "reason": "SchedulingGated"}, "1"),
]  # fmt: skip

POOL = 'nodeselector_k3s_autoscaler_pool="gpu",'


def old_labels() -> dict[str, float]:
    found = {}
    for node, zone in zip(OLD_NODES, "aaababba", strict=True):
        labels = {
            "node": node,
            "label_k3s_autoscaler_managed": "true" if node.startswith("worker") else "",
            "label_node_kubernetes_io_instance_type": "t3.medium" if node == "ip-10-0-1-10" else "t3.small",
            "label_topology_kubernetes_io_zone": f"us-east-1{zone}",
        }
        found[series_text("", labels)] = 1.0
    return found


OLD_CASES = (
    case(
        "2.18: nodes",
        OLD,
        asked(
            AT_S,
            "node",
            {
                f'{{node="{node}",provider_id="{provider}",cpu="1.9",pods="110",'
                f'memory="{4089446400 if node == "ip-10-0-1-10" else 1992294400}"}}': 1795463345
                for node, provider in OLD_NODES.items()
            },
        ),
        asked(AT_S, "node_incomplete", {}),
        asked(AT_S, "node_not_ready", of_nodes(0, "static-2")),
        asked(AT_S, "node_cordoned", of_nodes(1, f"{OLD_WORKER}2")),
        asked(AT_S, "node_control_plane", of_nodes(1, "ip-10-0-1-10")),
        # The cordon's own taint is told by the cordon.
        asked(
            AT_S,
            "node_taint",
            {
                '{effect="NoExecute",key="node.kubernetes.io/unreachable",node="static-2"}': 1,
                '{effect="NoSchedule",key="node.kubernetes.io/unreachable",node="static-2"}': 1,
                f'{{effect="NoSchedule",key="node.cloudprovider.kubernetes.io/uninitialized",node="{OLD_WORKER}4"}}': 1,
            },
        ),
        # static-2 is not one of ours.
        asked(AT_S, "node_managed", {}),
        # pvc-db-0 is in use on 001; no pod mounts pvc-idle, whose data lies on 003 all the same.
        asked(AT_S, "node_local_volumes", of_nodes(1, f"{OLD_WORKER}1", f"{OLD_WORKER}3")),
        asked(AT_S, "ready_max", of_nodes(0, "static-2")),
        asked(AT_S, "ready_count", of_nodes(SAMPLES, "static-2")),
    ),
    # The finished pod is bound; an image that cannot be pulled is no lack of capacity. Without 2.19's reason a gated
    # pod cannot be told from an unschedulable one: every pod shows its other reasons, which says so.
    case(
        "2.18: pods",
        OLD,
        asked(AT_S, "pod_pending", rows({**dict.fromkeys(UNSCHEDULABLE, 1), GATED: 1})),
        asked(AT_S, "pod_unschedulable", rows({**UNSCHEDULABLE, GATED: 1795463347})),
        asked(AT_S, "pod_gated", {}),
        asked(AT_S, "pod_deleting", {}),
        asked(AT_S, "pod_unbound_long", rows({**dict.fromkeys(UNSCHEDULABLE, 1), GATED: 1})),
        shown(
            kube_node_spec_unschedulable=8,
            kube_node_status_condition=8,
            kube_node_labels=4,
            kube_persistentvolume_annotations=2,
            kube_persistentvolume_info=2,
            kube_pod_init_container_resource_requests=8,
            kube_pod_status_reason_of_old=47,
        ),
        asked(AT_S, "volumes_of", {}),
        asked(AT_S, "volumes_unplaced", {}),
        asked(AT_S, "source_nodes", {'{instance="10.0.1.20:8080",job="kube-state-metrics"}': 8}),
        asked(AT_S, "restarted", {}),
    ),
    case(
        "2.18 with 2.19's reason: a gated pod is told apart",
        GATE_TOLD,
        asked(AT_S, "pod_gated", rows({GATED: 1})),
        asked(AT_S, "counted", {'{of="pod_gated"}': 1}, of="pod_gated"),
        asked(AT_S, "shown", {'{of="kube_pod_status_reason"}': 1}, of="kube_pod_status_reason"),
    ),
    # Without kube_pod_init_container_info `proxy` cannot be known as a sidecar: the larger of the two counts.
    case(
        "2.18: requests of each Node",
        OLD,
        asked(AT_S, "requested", effective(OLD), query=rooms(OLD_NODES)),
        asked(AT_S, "requested", effective(NO_INIT), query=rooms(OLD_NODES, with_init=False, with_overhead=False)),
        asked(
            AT_S,
            "daemon_requests",
            {
                '{namespace="kube-system",created_by_name="svclb-traefik"}': 1,
                '{namespace="monitoring",created_by_name="node-exporter"}': 1,
                '{namespace="monitoring",created_by_name="node-exporter",part="app",resource="cpu"}': 0.02,
                '{namespace="monitoring",created_by_name="node-exporter",part="app",resource="memory"}': 31457280,
            },
            query=rooms([f"{OLD_WORKER}1"]),
        ),
        asked(AT_S, "node_labels", old_labels(), query=rooms([])),
        asked(
            AT_S,
            "pod_selector",
            rows({(POOL if "gpu" in pod else "") + pod: 1 for pod in (*UNSCHEDULABLE, GATED)}),
            query=rooms([]),
        ),
    ),
    case(
        "2.18 with the family that tells sidecars",
        SIDECARS_KNOWN,
        asked(AT_S, "requested", effective(SIDECARS_KNOWN), query=rooms(OLD_NODES)),
    ),
)


def new_nodes() -> dict[str, float]:
    return {
        f'{{node="{node}",provider_id="{provider}",cpu="{cpu}",memory="{memory}",pods="110"}}': 1795646677
        for node, provider, cpu, memory in NEW_NODES
    }


def new_case(name: str, sample: Sequence[Series], *more: Vector) -> Case:
    """What both scrapes of the cluster tell. `gated` waits for a gate, `othersched` for its own scheduler."""
    names = [node for node, *_ in NEW_NODES]
    daemon = '{namespace="z",created_by_name="dsx"'
    return case(
        name,
        sample,
        asked(AT_S, "node", new_nodes()),
        asked(AT_S, "node_incomplete", {}),
        asked(AT_S, "node_not_ready", {}),
        asked(AT_S, "node_cordoned", {}),
        asked(AT_S, "node_control_plane", of_nodes(1, SERVER)),
        asked(AT_S, "node_taint", {f'{{effect="NoSchedule",key="dedicated",node="{WITH_NODE_ID}"}}': 1}),
        asked(AT_S, "pod_unbound", rows({NEW_GATED: 1, OTHER_SCHEDULER: 1})),
        asked(AT_S, "pod_pending", rows({NEW_GATED: 1, OTHER_SCHEDULER: 1})),
        asked(AT_S, "pod_unschedulable", rows({NEW_GATED: 1795646680})),
        asked(AT_S, "pod_gated", rows({NEW_GATED: 1})),
        asked(
            AT_S,
            "pod_requests",
            {
                f'{{{NEW_GATED},part="app",resource="cpu"}}': 0.5,
                f'{{{OTHER_SCHEDULER},part="app",resource="cpu"}}': 0.02,
            },
        ),
        asked(AT_S, "source_nodes", {'{instance="10.0.1.20:8080",job="kube-state-metrics"}': 6}),
        asked(AT_S, "requested", effective(sample), query=rooms(names)),
        asked(
            AT_S,
            "daemon_requests",
            {
                f"{daemon}}}": 1,
                f'{daemon},part="app",resource="cpu"}}': 0.01,
                f'{daemon},part="app",resource="memory"}}': 16777216,
            },
            query=rooms(names),
        ),
        *more,
    )


NEW_CASES = (
    # With the flags that hid kube_persistentvolume_info and kube_node_status_addresses.
    new_case(
        "2.20 with flags",
        SHIPPED,
        asked(AT_S, "node_local_volumes", of_nodes(1, f"{WORKER}2")),
        asked(AT_S, "volumes_of", {}),
        asked(AT_S, "volumes_unplaced", {}),
        shown(
            kube_node_spec_unschedulable=6,
            kube_node_status_condition=6,
            kube_node_labels=4,
            kube_persistentvolume_annotations=1,
            kube_pod_init_container_resource_requests=12,
            kube_pod_overhead_cpu_cores=2,
            kube_pod_status_reason=1,
        ),
        asked(
            AT_S,
            "pod_do_not_evict",
            {'{namespace="z",pod="runjob-hwfn6",uid="17ba58d2-9873-4414-a692-ea404f783ffb"}': 1},
            query=moving_query(Policy(version=1), [SERVER]),
        ),
    ),
    # As kube-prometheus-stack leaves it: no annotation says where a volume lies. It is unplaced, which is not none.
    new_case(
        "2.20 without lists",
        BARE,
        asked(AT_S, "node_local_volumes", {}),
        asked(AT_S, "volumes_of", {'{csi_driver="topolvm.io"}': 1}),
        asked(AT_S, "volumes_unplaced", {"{}": 1}),
        shown(
            kube_node_spec_unschedulable=6,
            kube_node_status_condition=6,
            kube_node_status_addresses=16,
            kube_persistentvolume_info=2,
            kube_pod_init_container_resource_requests=12,
            kube_pod_overhead_cpu_cores=2,
            kube_pod_status_reason=1,
        ),
        asked(AT_S, "node_labels", {}, query=rooms([])),
        asked(AT_S, "pod_selector", {}, query=rooms([])),
    ),
)


# Our own scrape drops what nobody reads: no row may depend on it.
KEPT = kept(BARE, "kube-state-metrics")
KEPT_CASE = new_case(
    "2.20 as our scrape keeps it",
    KEPT,
    asked(AT_S, "volumes_unplaced", {"{}": 1}),
    asked(AT_S, "requested", effective(BARE), query=rooms([])),
)


def test_the_scrape_keeps_a_third_less() -> None:
    """Of the sample, where most families are ones that kube-state-metrics' own list keeps out."""
    dropped = [one for one in BARE if one not in KEPT]
    assert {one.name for one in dropped} == {
        "kube_pod_status_phase", "kube_node_status_condition", "kube_node_status_allocatable",
    }  # fmt: skip
    assert len(dropped) == 3 * 23 + (72 - 6) + 6


def moved(node: str) -> dict[str, float]:
    """The unfinished pods of the Node, as the scrape tells them."""
    finished = {
        one.labels["uid"]
        for one in BARE
        if one.name == "kube_pod_status_phase" and one.labels["phase"] in {"Succeeded", "Failed"} and one.value == "1"
    }
    kept = ("namespace", "pod", "uid", "node", "created_by_kind", "created_by_name", "priority_class")
    return {
        series_text("", {key: one.labels.get(key, "") for key in kept}): 1
        for one in BARE
        if one.name == "kube_pod_info" and one.labels.get("node") == node and one.labels["uid"] not in finished
    }


def requests_of(pod: str, uid: str, **parts: tuple[float, float]) -> dict[str, float]:
    return {
        f'{{namespace="z",part="{part}",pod="{pod}",resource="{resource}",uid="{uid}"}}': value
        for part, pair in parts.items()
        for resource, value in zip(("cpu", "memory"), pair, strict=True)
    }


MIB = 2**20
MOVING = case(
    "2.20: the pods of a Node that may go",
    BARE,
    asked(AT_S, "pod", moved(f"{WORKER}1"), query=moving_query(Policy(version=1), [f"{WORKER}1"])),
    # Finished pods are on no list; that of their requests is longer, which does no harm.
    asked(AT_S, "pod", {**moved(SERVER), **moved("pi-1")}, query=moving_query(Policy(version=1), [SERVER, "pi-1"])),
    asked(
        AT_S,
        "pod_requests",
        {
            **requests_of("dsx-5cnjq", "7f044381-8a91-433e-8960-d3d928d2492a", app=(0.01, 16 * MIB)),
            **requests_of(
                "sidecar",
                "d51375b7-aedb-476f-a631-68fa67d16723",
                app=(0.05, 16 * MIB),
                sidecar=(0.06, 20 * MIB),
                init=(0.1, 30 * MIB),
            ),
        },
        query=moving_query(Policy(version=1), [f"{WORKER}1"]),
    ),
    asked(AT_S, "pod", {}, query=moving_query(Policy(version=1), [])),
)

CASES = Cases(*OLD_CASES, *NEW_CASES, KEPT_CASE, MOVING)


@CASES.each
def test_samples(case: str) -> None:
    CASES.check(case)
