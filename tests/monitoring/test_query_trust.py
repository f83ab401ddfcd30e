"""None and not shown differ: what is told of a source that is down, restarted, doubled, half empty, or not ours."""

from collections.abc import Mapping

import pytest

from autoscaler.metrics_policy import MetricsPolicy
from autoscaler.observe.query import rooms_query, sight_query
from autoscaler.policy import Policy
from tests.monitoring.cluster import GIB, KSM, OTHER_KSM, Labels, exporter, node, pod, target
from tests.monitoring.promtool import Case, Cases, Vector, asked, every
from tests.monitoring.scrape import series_text

pytestmark = pytest.mark.real_programs

ALWAYS = "{}+0x60"  # 122 s at a sample each 2 s
SOURCE = "kube-state-metrics"
HEALTHY = {**target(KSM, "1+0x60"), **node("a", ALWAYS), **pod("web", ALWAYS, on="a")}
ROOMS = rooms_query(Policy(version=1), [], with_init=True, with_overhead=True)
OWNED = {"created_by_kind": "ReplicaSet", "created_by_name": "web"}


def case(name: str, series: Mapping[str, str], *expected: Vector, interval_s: int = 2) -> Case:
    return Case(name, series, expected, interval_s=interval_s, recording=False)


def of_source(at_s: int, family: str, value: float | None) -> Vector:
    """What is told of kube-state-metrics, or that nothing is told."""
    rows = {} if value is None else {f'{{source="{SOURCE}"}}': value}
    return asked(at_s, family, rows, source=SOURCE)


def key(name: str, **more: str) -> str:
    return series_text("", {"namespace": "shop", "pod": name, "uid": f"uid-{name}", **more})


def counted(at_s: int, **counts: int) -> list[Vector]:
    return [asked(at_s, "counted", {f'{{of="{of}"}}': count}, of=of) for of, count in counts.items()]


# --------------------------------------------------------------------------------------------- up, down, just restarted

CALM = case(
    "a source that answers, and none of what would be an exception",
    HEALTHY,
    of_source(100, "targets_down", None),
    of_source(100, "restarted", None),
    of_source(100, "scraped_at", 100),
    *counted(100, node=1, node_incomplete=0, node_not_ready=0, node_cordoned=0, node_control_plane=0, node_taint=0,
             node_managed=0, node_local_volumes=0, pod_unschedulable=0, pod_gated=0, pod_deleting=0),
)  # fmt: skip
# Prometheus marks the series of a failed scrape as gone at once: promtool's `stale`.
DOWN = case(
    "a source that is down leaves nothing but the word that it is down",
    {**dict.fromkeys(HEALTHY, "1+0x40 stale"), **target(KSM, "1+0x40 0+0x10")},
    of_source(80, "scraped_at", 80),
    of_source(90, "targets_down", 1),
    of_source(90, "scraped_at", None),
    of_source(90, "restarted", None),
    *counted(90, node=0, node_not_ready=0),
    asked(90, "node", {}),
    asked(90, "shown", {}),
    asked(90, "source_nodes", {}),
    asked(90, "requested", {}, query=ROOMS),
)
NO_TARGET = case(
    "a job without any target tells nothing, not even a time",
    {series_text("up", {"job": "prometheus", "instance": "localhost:9090"}): "1+0x60"},
    *(asked(100, family, {}) for family in ("targets_down", "restarted", "scraped_at", "scrape_interval")),
)
ONE_OF_TWO = case(
    "one of two targets is down",
    {**HEALTHY, **target(OTHER_KSM, "0+0x60")},
    of_source(100, "targets_down", 1),
    of_source(100, "scraped_at", 100),
    *counted(100, node=1),
)


def restarts(name: str, up: str, *expected: tuple[int, int | None], interval_s: int = 2) -> Case:
    vectors = [of_source(at_s, "restarted", value) for at_s, value in expected]
    return case(f"restarted? {name}", target(KSM, up), *vectors, interval_s=interval_s)


RESTARTS = (
    restarts("a new target, for a minute", "_x20 1+0x60", (60, 1), (98, 1), (102, None)),
    restarts("one failed scrape, for a minute", "1+0x40 0 1+0x40", (78, None), (90, 1), (140, 1), (146, None)),
    # Its pod left the Service and came back with the same address, and no scrape failed: at 140 s it is back.
    restarts("a gap", "1+0x60 stale _x8 1+0x60", (120, None), (142, 1), (180, 1), (200, None), (230, None)),
    restarts("one scrape that came late", "1+0x40 _ 1+0x60", (90, None), (140, None)),
    # kube-prometheus-stack's interval: as whole as every other.
    restarts(
        "scraped every 30 s", "1+0x20", (60, None), (90, None), (330, None), (345, None), (600, None), interval_s=30
    ),
    restarts("scraped every 30 s, new", "_x4 1+0x20", (150, 1), (180, None), (240, None), interval_s=30),
    restarts("scraped every 30 s, one failed", "1+0x10 0 1+0x10", (360, 1), (420, None), interval_s=30),
    restarts("scraped every 15 s", "1+0x40", (60, None), (67, None), (300, None), (450, None), interval_s=15),
    restarts("scraped every minute", "1+0x20", (120, None), (600, None), interval_s=60),
)
SLOW = case(
    "the interval is what is seen, and the time is the scrape's",
    target(KSM, "1+0x30"),
    asked(615, "scrape_interval", {f'{{source="{SOURCE}"}}': 30}, source=SOURCE),
    of_source(615, "scraped_at", 600),
    interval_s=30,
)
MACHINES = case(
    "node-exporter is told of by itself",
    {
        **HEALTHY,
        **exporter("10.0.1.5:9100", idle=("0+1x60", "0+1x60"), available_gib="3+0x60", up="1+0x60"),
        **exporter("10.0.1.6:9100", idle=("0+1x40 stale",) * 2, available_gib="3+0x40 stale", up="1+0x40 0+0x20"),
    },
    asked(80, "targets_down", {}, source="node-exporter"),
    asked(90, "targets_down", {'{source="node-exporter"}': 1}, source="node-exporter"),
    asked(90, "scraped_at", {'{source="node-exporter"}': 90}, source="node-exporter"),
    of_source(90, "targets_down", None),
)
VERSION = series_text(
    "kube_state_metrics_build_info", {"job": "any", "instance": "10.0.1.20:8081", "version": "v2.20.0", "branch": ""}
)
BUILD = case("the version, from whatever job", {VERSION: "1+0x60"}, asked(100, "version", {'{version="v2.20.0"}': 1}))

# ----------------------------------------------------------------------------------------------------- half of a source


def _hides(metric: str, *expected: Vector) -> Case:
    left = {name: values for name, values in HEALTHY.items() if not name.startswith(f"{metric}{{")}
    assert len(left) < len(HEALTHY)
    return case(f"{metric} is hidden", left, *expected)


INCOMPLETE = {'{node="a",provider_id="aws:///eu-central-1a/i-a"}': 1}
HIDDEN = (
    _hides("kube_node_info", *counted(100, node=0, node_incomplete=0), asked(100, "source_nodes", {})),
    _hides("kube_node_created", *counted(100, node=0), asked(100, "node_incomplete", INCOMPLETE)),
    _hides("kube_node_status_allocatable", *counted(100, node=0), asked(100, "node_incomplete", INCOMPLETE)),
    # One Node, and the condition or the cordon of none: `node_not_ready` and `node_cordoned` would look like none.
    _hides("kube_node_status_condition", *counted(100, node=1, node_not_ready=0),
           asked(100, "shown", {'{of="kube_node_spec_unschedulable"}': 1})),
    _hides("kube_node_spec_unschedulable", *counted(100, node=1, node_cordoned=0),
           asked(100, "shown", {'{of="kube_node_status_condition"}': 1})),
    # Pods without requests, no pods, no phases: what each Node gives away is not whole.
    _hides("kube_pod_container_resource_requests", asked(100, "requested", {'{node="a"}': 1}, query=ROOMS)),
    _hides("kube_pod_info", asked(100, "requested", {'{node="a",resource="cpu"}': 0.5}, query=ROOMS)),
    _hides("kube_pod_status_phase", asked(100, "requested", {}, query=ROOMS)),
)  # fmt: skip
VOLUME = {"persistentvolume": "pvc-1", **KSM}
NODE_OF = "annotation_local_path_provisioner_selected_node"


def volumes(name: str, series: Mapping[str, str], local: dict[str, float], unplaced: int, **kinds: int) -> Case:
    return case(
        f"volumes: {name}",
        {**HEALTHY, **dict.fromkeys(series, "1+0x60")},
        asked(100, "node_local_volumes", local),
        asked(100, "volumes_unplaced", {"{}": unplaced} if unplaced else {}),
        asked(100, "volumes_of", {f'{{csi_driver="{driver}"}}': count for driver, count in kinds.items()}),
    )


def volume(name: str, **labels: str) -> dict[str, str]:
    return {series_text("kube_persistentvolume_info", {"persistentvolume": name, **labels, **KSM}): ""}


def placed(name: str, on: str) -> dict[str, str]:
    return {series_text("kube_persistentvolume_annotations", {"persistentvolume": name, NODE_OF: on, **KSM}): ""}


PROOF = {**volume("k3s-autoscaler-proof", csi_driver="proof"), **placed("k3s-autoscaler-proof", "none")}
ON_A = {'{node="a"}': 1.0}
VOLUMES = (
    # `none` and `not shown` would be the same, but for the proof: its row, and its place.
    volumes("none", PROOF, {'{node="none"}': 1}, 0, proof=1),
    volumes("nothing is shown", {}, {}, 0),
    volumes("a placed one", {**volume("pvc-1", local_path="/data"), **placed("pvc-1", "a")}, ON_A, 0),
    volumes("on a host path", {**volume("pvc-1", host_path="/data"), **placed("pvc-1", "a")}, ON_A, 0),
    # kube-prometheus-stack shows no annotation: without the label, or without the series.
    volumes("without its place", volume("pvc-1", local_path="/data"), {}, 1),
    volumes("with annotations that are not shown", {
        **volume("pvc-1", host_path="/data"), series_text("kube_persistentvolume_annotations", VOLUME): "",
    }, {}, 1),
    volumes("of a CSI driver", {**volume("v1", csi_driver="topolvm"), **volume("v2", csi_driver="topolvm"),
                                **volume("v3", csi_driver="ebs")}, {}, 0, topolvm=2, ebs=1),
)  # fmt: skip

# ------------------------------------------------------------------------------------------------ told twice, and whose


def _doubled() -> Case:
    """The new instance of kube-state-metrics already knows that the pod was bound and the Node cordoned."""
    new = {
        **node("a", ALWAYS, cordoned=1, told_by=OTHER_KSM),
        **pod("web", ALWAYS, on="a", told_by=OTHER_KSM),
        **pod("late", ALWAYS, on="a", told_by=OTHER_KSM),
    }
    old = pod("late", ALWAYS, phase="Pending", waits="1+0x60")
    volume_of_both = {
        series_text(
            "kube_persistentvolume_annotations", {"persistentvolume": "pvc-1", NODE_OF: "a", **told_by}
        ): "1+0x60"
        for told_by in (KSM, OTHER_KSM)
    }
    return case(
        "what two targets tell counts once, and bound wins",
        {**HEALTHY, **old, **new, **volume_of_both, **target(OTHER_KSM, "1+0x60")},
        asked(
            100,
            "node",
            {f'{{node="a",provider_id="aws:///eu-central-1a/i-a",cpu="2",memory="{4 * GIB}",pods="110"}}': 1000},
        ),
        asked(100, "node_cordoned", {'{node="a"}': 1}),
        asked(100, "node_local_volumes", {'{node="a"}': 1}),
        asked(100, "pod_unbound", {}),
        asked(100, "node_twice", {}),
        asked(
            100,
            "requested",
            {'{node="a",resource="cpu"}': 1, '{node="a"}': 2},
            query=ROOMS,
        ),
        asked(
            100,
            "source_nodes",
            {f'{{instance="{told_by["instance"]}",job="kube-state-metrics"}}': 1 for told_by in (KSM, OTHER_KSM)},
        ),
    )


def in_cluster(cluster: str, told_by: Labels, *nodes: str, waits: str) -> dict[str, str]:
    labels = {**told_by, "cluster": cluster}
    return {
        **target(labels, "1+0x60"),
        **{
            name: values
            for each in nodes
            for name, values in node(each, ALWAYS, machine=f"{cluster}-{each}", told_by=labels).items()
        },
        **pod("web", ALWAYS, on=nodes[0], told_by=labels),
        **pod(waits, ALWAYS, phase="Pending", waits="1+0x60", told_by=labels),
    }


TWO_CLUSTERS = {
    **in_cluster("shop", KSM, "server", "w1", waits="ours"),
    **in_cluster("bank", OTHER_KSM, "server", "w2", waits="theirs"),
}
SHOP = Policy(version=1, metrics=MetricsPolicy(matchers={"cluster": "shop"}))
OURS = sight_query(SHOP)


def _source(cluster: str, told_by: Labels) -> str:
    return series_text("", {"cluster": cluster, **told_by})


# A name that both have is one Node to whoever does not look at where a row comes from: the machines tell them apart.
MIXED = case(
    "two clusters in one store, and no matchers: no one target shows all Nodes",
    TWO_CLUSTERS,
    asked(100, "source_nodes", {_source("shop", KSM): 2, _source("bank", OTHER_KSM): 2}),
    asked(100, "node_twice", {'{node="server"}': 2}),
    *counted(100, node=3, pod_unschedulable=2),
)
APART = case(
    "two clusters in one store, told apart by the policy's matchers",
    TWO_CLUSTERS,
    asked(100, "source_nodes", {_source("shop", KSM): 2}, query=OURS),
    asked(100, "node_twice", {}, query=OURS),
    asked(100, "pod_unbound", {key("ours", **OWNED): 1}, query=OURS),
    asked(100, "pod_unschedulable", {key("ours"): 1}, query=OURS),
    asked(100, "counted", {'{of="node"}': 2}, of="node", query=OURS),
    asked(100, "scraped_at", {f'{{source="{SOURCE}"}}': 100}, source=SOURCE, query=OURS),
    asked(
        100,
        "requested",
        {'{node="server",resource="cpu"}': 0.5, '{node="server"}': 1},
        query=rooms_query(SHOP, [], with_init=True, with_overhead=True),
    ),
)
USED = Case(
    "one of two clusters is measured by its own machines, and its rules record under its labels",
    {
        name: values
        for cluster, told_by, idle in (("shop", KSM, "0+1x60"), ("bank", OTHER_KSM, "0+0x60"))
        for name, values in {
            **node("w", ALWAYS, ip="10.0.1.5", told_by={**told_by, "cluster": cluster}),
            **exporter("10.0.1.5:9100", idle=(idle, idle), available_gib=every(61, 3), up=every(61, 1),
                       more={"cluster": cluster}),
        }.items()
    },
    [
        Vector(
            110,
            "round(k3s_autoscaler:node_utilisation, 0.0001)",
            {
                '{cluster="shop",node="w",resource="cpu"}': 0.5,
                '{cluster="shop",node="w",resource="memory"}': 0.25,
            },
        ),
        Vector(110, "k3s_autoscaler:node_ready", {'k3s_autoscaler:node_ready{cluster="shop",node="w"}': 1}),
        asked(110, "use", {'{resource="cpu"}': 0.5, '{resource="memory"}': 0.25}, query=OURS),
        asked(110, "evaluated_at", {'{group="utilisation",interval_s="15"}': 110}, query=OURS),
        asked(110, "node_unmeasured", {}, query=OURS),
    ],
    policy=SHOP,
)  # fmt: skip

# -------------------------------------------------------------------------------------------------------------- windows

# Recorded as the rules do, every 15 s; the windows are the default policy's 60, 600 and 300 s.
BOUNDS = {
    f'k3s_autoscaler:workers_utilisation{{bound="{bound}",resource="cpu"}}': values
    for bound, values in (("low", "0.9 0.2 0.4+0x40 0.5 0.6 0.7 0.8"), ("high", "0.9 0.95 0.4+0x40 0.5 0.6 0.7 0.6"))
}
CPU = '{resource="cpu"}'
WINDOWS = case(
    "extremes and counts over the policy's windows",
    BOUNDS,
    asked(690, "use", {CPU: 0.8}),
    asked(690, "use_grow_min", {CPU: 0.4}),
    asked(690, "use_grow_count", {CPU: 5}),
    # The 95 % of 15 s are out of the ten minutes.
    asked(690, "use_shrink_max", {CPU: 0.7}),
    asked(690, "use_shrink_count", {CPU: 41}),
    asked(600, "use_shrink_max", {CPU: 0.95}),
    interval_s=15,
)
# Half of the window is recorded: the extreme says nothing, its count says so.
RECORDED = case(
    "a window that has a hole",
    dict.fromkeys(BOUNDS, "0.4+0x10 stale _x28 0.4+0x5"),
    asked(675, "use_grow_min", {CPU: 0.4}),
    asked(675, "use_shrink_count", {CPU: 12}),
    interval_s=15,
)
# A Prometheus of one's own may evaluate more seldom than the policy says: between two records the window is empty.
SELDOM = case(
    "a window shorter than the interval of the records",
    dict.fromkeys(BOUNDS, "1+0x10"),
    asked(600, "use_grow_count", {CPU: 1}),
    asked(665, "use_grow_count", {}),
    asked(665, "use_grow_min", {}),
    asked(665, "use", {CPU: 1}),
    interval_s=100,
)
READY = case(
    "how long a Node has not been Ready",
    {
        **node("broken", "{}+0x40", ready="0+0x40"),
        **node("late", "{}+0x40", ready="0+0x40"),
        **node("fine", "{}+0x40"),
        'k3s_autoscaler:node_ready{node="broken"}': "0+0x40",
        'k3s_autoscaler:node_ready{node="late"}': "1+0x30 0+0x9",
        'k3s_autoscaler:node_ready{node="fine"}': "1+0x40",
    },
    asked(600, "ready_max", {'{node="broken"}': 0, '{node="late"}': 1}),
    asked(600, "ready_count", {'{node="broken"}': 21, '{node="late"}': 21}),
    interval_s=15,
)

CASES = Cases(
    CALM, DOWN, NO_TARGET, ONE_OF_TWO, *RESTARTS, SLOW, MACHINES, BUILD, *HIDDEN, *VOLUMES, _doubled(), MIXED, APART,
    USED, WINDOWS, RECORDED, SELDOM, READY,
)  # fmt: skip


@CASES.each
def test_trust(case: str) -> None:
    CASES.check(case)
