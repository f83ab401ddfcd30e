"""Which pods wait, which are left alone, and what they ask: the cases that the sample does not hold."""

from pathlib import Path

import pytest

from tests.monitoring.cluster import KSM, node, pod, target
from tests.monitoring.promtool import assert_rules, recorded
from tests.monitoring.scrape import series_text

pytestmark = pytest.mark.real_programs

ALWAYS = "{}+0x40"
AT_S = 70
UP = target(KSM, "1+0x40")


def of(name: str) -> dict[str, str]:
    return {"namespace": "shop", "pod": name, "uid": f"uid-{name}", **KSM}


def key(name: str) -> str:
    return f'{{namespace="shop",pod="{name}",uid="uid-{name}"}}'


def test_the_time_of_the_verdict_and_before_2_17_the_pods_creation(tmp_path: Path) -> None:
    series = {
        **UP,
        **pod("old", ALWAYS, phase="Pending", waits="1+0x40"),
        **pod("new", ALWAYS, phase="Pending", waits="1+0x40"),
        series_text("kube_pod_status_unscheduled_time", of("new")): "520+0x40",
    }
    assert_rules(tmp_path, series, recorded(AT_S, "pod_unschedulable_since", {key("old"): 500, key("new"): 520}))


def test_who_does_not_wait(tmp_path: Path) -> None:
    reason = {"reason": "SchedulingGated"}
    series = {
        **UP,
        **pod("gated", ALWAYS, phase="Pending", waits="1+0x40"),
        series_text("kube_pod_status_reason", {**of("gated"), **reason}): "1+0x40",
        **pod("ungated", ALWAYS, phase="Pending", waits="1+0x40"),
        series_text("kube_pod_status_reason", {**of("ungated"), **reason}): "1+0x20 0+0x20",
        **pod("zero", ALWAYS, phase="Pending", waits="0+0x40"),
        **pod("bound", ALWAYS, on="a", waits="1+0x40"),
        **pod("failed", ALWAYS, phase="Failed", waits="1+0x40"),
    }
    assert_rules(
        tmp_path,
        series,
        recorded(30, "pod_gated", {key("gated"): 1, key("ungated"): 1}),
        recorded(30, "pod_unschedulable_since", {}),
        recorded(AT_S, "pod_gated", {key("gated"): 1}),
        recorded(AT_S, "pod_unschedulable_since", {key("ungated"): 500}),
    )


def test_annotations_that_forbid_an_eviction(tmp_path: Path) -> None:
    evict, disrupt = (
        "annotation_cluster_autoscaler_kubernetes_io_safe_to_evict",
        "annotation_karpenter_sh_do_not_disrupt",
    )
    annotations = {
        "kept": {evict: "false"},
        "stays": {disrupt: "true"},
        "both": {evict: "false", disrupt: "true"},
        "movable": {evict: "true", disrupt: "false"},
        "plain": {},
        "finished": {evict: "false"},
    }
    series = dict(UP)
    for name, found in annotations.items():
        series |= pod(name, ALWAYS, on="a", phase="Succeeded" if name == "finished" else "Running")
        series[series_text("kube_pod_annotations", {**of(name), **found})] = "1+0x40"
    kept = {key(name): 1 for name in ("kept", "stays", "both")}
    assert_rules(tmp_path, series, recorded(AT_S, "pod_do_not_evict", kept))


def test_parts_of_a_request(tmp_path: Path) -> None:
    """App containers and sidecars add up, of the other init containers the largest counts, overhead comes on top."""
    request = "kube_pod_init_container_resource_requests"
    info = "kube_pod_init_container_info"
    series = {
        **UP,
        **pod("p", ALWAYS, on="a", cpu=0.25),
        series_text(
            "kube_pod_container_resource_requests", {**of("p"), "container": "second", "resource": "cpu"}
        ): "0.5+0x40",
        series_text(
            "kube_pod_container_resource_requests", {**of("p"), "container": "app", "resource": "nvidia_com_gpu"}
        ): "1+0x40",
        **{
            series_text(request, {**of("p"), "container": name, "resource": "cpu"}): f"{cores}+0x40"
            for name, cores in (("wait", 0.125), ("migrate", 1.5), ("proxy", 0.125), ("logs", 0.25))
        },
        **{
            series_text(info, {**of("p"), "container": name, "restart_policy": policy}): "1+0x40"
            for name, policy in (("wait", ""), ("migrate", ""), ("proxy", "Always"), ("logs", "Always"))
        },
        series_text("kube_pod_overhead_cpu_cores", of("p")): "0.125+0x40",
        series_text("kube_pod_overhead_memory_bytes", of("p")): "1048576+0x40",
    }

    def part(name: str, resource: str = "cpu") -> str:
        return f'{{namespace="shop",part="{name}",pod="p",resource="{resource}",uid="uid-p"}}'

    assert_rules(
        tmp_path,
        series,
        recorded(
            AT_S,
            "pod_requests",
            {
                part("app"): 0.75,
                part("init"): 1.5,
                part("sidecar"): 0.375,
                part("overhead"): 0.125,
                part("overhead", "memory"): 1048576,
            },
        ),
    )


@pytest.mark.parametrize("role", ["control-plane", "master", "etcd"])
def test_every_kind_of_k3s_server_is_no_worker(tmp_path: Path, role: str) -> None:
    series = {
        **UP,
        **node("a", ALWAYS),
        series_text("kube_node_role", {"node": "a", "role": role, **KSM}): "1+0x40",
        series_text("kube_node_role", {"node": "b", "role": "worker", **KSM}): "1+0x40",
    }
    assert_rules(tmp_path, series, recorded(AT_S, "node_control_plane", {'{node="a"}': 1}))


def test_taints_that_only_prefer_do_not_count(tmp_path: Path) -> None:
    taint = {"node": "a", "key": "k", **KSM}
    series = {
        **UP,
        series_text("kube_node_spec_taint", {**taint, "effect": "PreferNoSchedule"}): "1+0x40",
        series_text("kube_node_spec_taint", {**taint, "effect": "NoExecute", "value": "v"}): "1+0x40",
    }
    assert_rules(tmp_path, series, recorded(AT_S, "node_taint", {'{effect="NoExecute",key="k",node="a"}': 1}))
