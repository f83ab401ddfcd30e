"""None and missing differ: what is recorded when a source is down, restarted, doubled or half empty."""

from pathlib import Path

import pytest

from autoscaler.observe.series import CLUSTER_FAMILIES, UTILISATION_FAMILIES
from tests.monitoring.cluster import GIB, KSM, OTHER_KSM, exporter, node, pod, target
from tests.monitoring.promtool import assert_rules, recorded
from tests.monitoring.scrape import series_text

pytestmark = pytest.mark.real_programs

ALWAYS = "{}+0x60"  # 122 s at a sample each 2 s
SOURCE = '{source="kube-state-metrics"}'
HEALTHY = {**target(KSM, "1+0x60"), **node("a", ALWAYS), **pod("web", ALWAYS, on="a")}
# What these two, with nothing waiting, gated, tainted and so on, amount to.
COUNTS = dict.fromkeys(CLUSTER_FAMILIES, 0) | {
    "node_info": 1,
    "node_created": 1,
    "node_ready": 1,
    "node_cordoned": 1,
    "node_allocatable": 3,
    "pod_info": 1,
    "pod_requests": 1,
}


def counts(**changed: int) -> dict[str, float]:
    return {f'{{family="{family}"}}': count for family, count in (COUNTS | changed).items()}


def test_an_empty_family_counts_zero_while_its_source_is_up(tmp_path: Path) -> None:
    assert_rules(tmp_path, HEALTHY, recorded(100, "expected", counts()))


@pytest.mark.parametrize(
    ("family", "changed"),
    [
        ("kube_node_info", {"node_info": 0}),
        ("kube_node_created", {"node_created": 0}),
        ("kube_node_status_condition", {"node_ready": 0}),
        ("kube_node_spec_unschedulable", {"node_cordoned": 0}),
        ("kube_node_status_allocatable", {"node_allocatable": 0}),
        ("kube_pod_info", {"pod_info": 0, "pod_requests": 0}),
        ("kube_pod_status_phase", {"pod_info": 0, "pod_requests": 0}),
        ("kube_pod_container_resource_requests", {"pod_requests": 0}),
    ],
)
def test_a_missing_family_of_metrics_empties_a_family_that_is_never_empty(
    tmp_path: Path, family: str, changed: dict[str, int]
) -> None:
    series = {name: values for name, values in HEALTHY.items() if not name.startswith(f"{family}{{")}
    assert len(series) < len(HEALTHY)
    assert_rules(tmp_path, series, recorded(100, "expected", counts(**changed)))


def test_init_requests_alone_do_not_hide_that_app_requests_are_missing(tmp_path: Path) -> None:
    init = series_text(
        "kube_pod_init_container_resource_requests",
        {"namespace": "shop", "pod": "web", "uid": "uid-web", "container": "i", "resource": "cpu", **KSM},
    )
    series = {name: values for name, values in HEALTHY.items() if "container_resource_requests" not in name}
    assert_rules(
        tmp_path,
        {**series, init: "1+0x60"},
        recorded(100, "pod_requests", {}),
        recorded(100, "expected", counts(pod_requests=0)),
    )


def test_a_source_that_is_down_leaves_nothing_but_the_word_that_it_is_down(tmp_path: Path) -> None:
    """Prometheus marks the series of a failed scrape as gone at once: promtool's `stale`."""
    series = dict.fromkeys(HEALTHY, "1+0x40 stale")
    series |= target(KSM, "1+0x40 0+0x10")
    before, after = 80, 90
    assert_rules(
        tmp_path,
        series,
        recorded(before, "source_up", {SOURCE: 1}, where=SOURCE),
        recorded(before, "scraped_at", {SOURCE: before}),
        recorded(after, "source_up", {SOURCE: 0}, where=SOURCE),
        recorded(after, "scraped_at", {}),
        recorded(after, "source_restarted", {SOURCE: 0}),
        recorded(after, "expected", {}),
        recorded(after, "evaluated_at", {'{group="cluster"}': after, '{group="utilisation"}': after}),
        *(recorded(after, family, {}) for family in CLUSTER_FAMILIES),
    )


def test_a_job_without_any_target_is_down_not_absent(tmp_path: Path) -> None:
    assert_rules(
        tmp_path,
        {series_text("up", {"job": "prometheus", "instance": "localhost:9090"}): "1+0x60"},
        recorded(100, "source_up", {SOURCE: 0, '{source="node-exporter"}': 0}),
        recorded(100, "source_restarted", {SOURCE: 0}),
        recorded(100, "scraped_at", {}),
        recorded(100, "expected", {}),
    )


def test_one_of_two_targets_down_is_not_up(tmp_path: Path) -> None:
    assert_rules(
        tmp_path,
        {**HEALTHY, **target(OTHER_KSM, "0+0x60")},
        recorded(100, "source_up", {SOURCE: 0}, where=SOURCE),
        recorded(100, "scraped_at", {SOURCE: 100}),
        recorded(100, "node_ready", {'{node="a"}': 1}),
        recorded(100, "expected", {}),
    )


@pytest.mark.parametrize(
    ("up", "restarted_at", "settled_at"),
    [
        pytest.param("_x20 1+0x60", 60, 106, id="a new target"),
        pytest.param("1+0x40 0 1+0x40", 90, 150, id="one failed scrape"),
        pytest.param("1+0x40 stale _x9 1+0x60", 110, 170, id="a gap"),
    ],
)
def test_a_target_that_was_not_up_for_a_minute_counts_as_restarted(
    tmp_path: Path, up: str, restarted_at: int, settled_at: int
) -> None:
    assert_rules(
        tmp_path,
        target(KSM, up),
        recorded(restarted_at, "source_up", {SOURCE: 1}, where=SOURCE),
        recorded(restarted_at, "source_restarted", {SOURCE: 1}),
        recorded(settled_at, "source_restarted", {SOURCE: 0}),
    )


def test_doubled_targets_count_once(tmp_path: Path) -> None:
    """The new instance of kube-state-metrics already knows that the pod was bound and the Node cordoned."""
    new = {
        **node("a", ALWAYS, told_by=OTHER_KSM),
        **pod("web", ALWAYS, on="a", told_by=OTHER_KSM),
        **pod("late", ALWAYS, on="a", told_by=OTHER_KSM),
    }
    cordoned = series_text("kube_node_spec_unschedulable", {"node": "a", **OTHER_KSM})
    old = pod("late", ALWAYS, phase="Pending", waits="1+0x60")
    pod_labels = 'namespace="shop",node="a",owner_kind="ReplicaSet",owner_name="web"'
    assert_rules(
        tmp_path,
        {**HEALTHY, **old, **new, cordoned: "1+0x60", **target(OTHER_KSM, "1+0x60")},
        recorded(100, "node_cordoned", {'{node="a"}': 1}),
        recorded(
            100,
            "node_allocatable",
            {
                '{node="a",resource="cpu"}': 2,
                '{node="a",resource="memory"}': 4 * GIB,
                '{node="a",resource="pods"}': 110,
            },
        ),
        recorded(
            100,
            "pod_info",
            {f'{{{pod_labels},pod="late",uid="uid-late"}}': 1, f'{{{pod_labels},pod="web",uid="uid-web"}}': 1},
        ),
        recorded(
            100,
            "pod_requests",
            {
                f'{{namespace="shop",part="app",pod="{name}",resource="cpu",uid="uid-{name}"}}': 0.5
                for name in ("late", "web")
            },
        ),
        recorded(100, "pod_unschedulable_since", {}),
        recorded(100, "expected", counts(pod_info=2, pod_requests=2)),
    )


def test_node_exporters_counts_go_with_their_source(tmp_path: Path) -> None:
    machine = exporter("10.0.1.5:9100", idle=("0+1x60", "0+1x60"), available_gib="3+0x60", up="1+0x40 0+0x20")
    series = {**HEALTHY, **node("a", ALWAYS, ip="10.0.1.5"), **machine}
    here = {f'{{family="{family}"}}': count for family, count in zip(UTILISATION_FAMILIES, (2, 4), strict=True)}
    only = '{family=~".*_utilisation"}'
    source = '{source="node-exporter"}'
    assert_rules(
        tmp_path,
        series,
        recorded(80, "expected", here, where=only),
        recorded(80, "source_up", {source: 1}, where=source),
        recorded(80, "scraped_at", {source: 80}, where=source),
        recorded(90, "expected", {}, where=only),
        recorded(90, "source_up", {source: 0}, where=source),
        recorded(90, "scraped_at", {}, where=source),
    )
