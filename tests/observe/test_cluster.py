"""Sorted samples become Nodes, Pods and Utilisation."""

from typing import Any

import pytest

from autoscaler.model import Node, Pod, Resources, Sample, Utilisation
from autoscaler.observe.cluster import parse_nodes, parse_pods, parse_utilisation
from autoscaler.observe.samples import sort_samples
from tests.observe.samples import NOW_S, POLICY, sample, window

GIB = 2**30


def node_samples(name: str = "n", provider_id: str = "aws:///us-east-1a/i-0123abcd", missing: str = "") -> list[Sample]:
    series = {
        "node_info": [sample("node_info", 1, node=name, provider_id=provider_id)],
        "node_created": [sample("node_created", NOW_S - 60, node=name)],
        "node_ready": [sample("node_ready", 1, node=name)],
        "node_cordoned": [sample("node_cordoned", 0, node=name)],
        "node_allocatable": [
            sample("node_allocatable", value, node=name, resource=resource)
            for resource, value in (("cpu", 1.9), ("memory", 2 * GIB), ("pods", 110))
        ],
    }
    return [one for family, rows in series.items() if family != missing for one in rows]


def nodes_of(*samples: Sample) -> tuple[tuple[Node, ...], list[str]]:
    sorted_samples = sort_samples(samples, now_s=NOW_S, max_age_s=30)
    assert sorted_samples is not None
    return parse_nodes(sorted_samples, POLICY)


def one_node(*samples: Sample) -> Node:
    [node], problems = nodes_of(*samples)
    assert problems == []
    return node


def pods_of(*samples: Sample) -> tuple[tuple[Pod, ...], list[str]]:
    sorted_samples = sort_samples(samples, now_s=NOW_S, max_age_s=30)
    assert sorted_samples is not None
    return parse_pods(sorted_samples)


def use_of(*samples: Sample) -> dict[str, Utilisation]:
    sorted_samples = sort_samples(samples, now_s=NOW_S, max_age_s=30)
    assert sorted_samples is not None
    return {one.resource: one for one in parse_utilisation(sorted_samples, POLICY)}


# --------------------------------------------------------------------------------------------------------------- nodes


def test_what_a_node_says() -> None:
    node = one_node(*node_samples())
    assert (node.name, node.instance_id, node.zone) == ("n", "i-0123abcd", "us-east-1a")
    assert (node.created_at_s, node.ready, node.cordoned) == (NOW_S - 60, True, False)
    assert node.allocatable == Resources(cpu_millicores=1900, memory_bytes=2 * GIB, pods=110)
    assert (node.control_plane, node.tainted, node.local_volumes, node.labels) == (False, False, 0, ())
    assert node.unready_long is None


@pytest.mark.parametrize(
    ("provider_id", "instance_id", "zone"),
    [
        pytest.param("aws:///eu-central-1b/i-0abc", "i-0abc", "eu-central-1b", id="EC2"),
        pytest.param("aws:///us-west-2-lax-1a/i-0abc", "i-0abc", "us-west-2-lax-1a", id="a local zone"),
        pytest.param("k3s://n", None, None, id="K3s' default"),
        pytest.param("", None, None, id="none yet"),
        pytest.param("aws:///us-east-1a/fargate-x", None, None, id="no instance"),
        pytest.param("aws:///us-east-1a/i-0abc/more", None, None, id="more than an instance"),
        pytest.param("gce://p/z/i-0abc", None, None, id="another cloud"),
    ],
)
def test_provider_ids(provider_id: str, instance_id: str | None, zone: str | None) -> None:
    node = one_node(*node_samples(provider_id=provider_id))
    assert (node.instance_id, node.zone, node.provider_id) == (instance_id, zone, provider_id)


@pytest.mark.parametrize(
    ("key", "effect", "tainted"),
    [
        pytest.param("dedicated", "NoSchedule", True, id="NoSchedule"),
        pytest.param("dedicated", "NoExecute", True, id="NoExecute"),
        pytest.param("dedicated", "PreferNoSchedule", False, id="a preference is no taint to wait for"),
        pytest.param("node.kubernetes.io/unschedulable", "NoSchedule", False, id="the cordon's own"),
        pytest.param("node.cloudprovider.kubernetes.io/uninitialized", "NoSchedule", True, id="the cloud provider's"),
        pytest.param("node.kubernetes.io/not-ready", "NoExecute", True, id="not ready"),
    ],
)
def test_taints(key: str, effect: str, tainted: bool) -> None:
    node = one_node(*node_samples(), sample("node_taint", 1, node="n", key=key, effect=effect))
    assert node.tainted is tainted


def test_flags_volumes_and_labels() -> None:
    node = one_node(
        *node_samples(),
        sample("node_control_plane", 1, node="n"),
        sample("node_local_volumes", 2, node="n"),
        sample("node_labels", 1, node="n", label_topology_kubernetes_io_zone="us-east-1a", label_a="b", other="c"),
    )
    assert (node.control_plane, node.local_volumes) == (True, 2)
    assert node.labels == (("a", "b"), ("topology_kubernetes_io_zone", "us-east-1a"))


@pytest.mark.parametrize(
    ("family", "field"),
    [
        ("node_created", "created_at_s"),
        ("node_ready", "ready"),
        ("node_cordoned", "cordoned"),
        ("node_allocatable", "allocatable"),
    ],
)
def test_a_fact_that_is_missing_is_unknown_and_told(family: str, field: str) -> None:
    [node], problems = nodes_of(*node_samples(missing=family))
    assert getattr(node, field) is None
    assert problems == [f"{family} of node n is missing"]


def test_half_an_allocatable_is_unknown() -> None:
    samples = [s for s in node_samples() if s.metric.get("resource") != "memory"]
    [node], problems = nodes_of(*samples)
    assert node.allocatable is None
    assert problems == ["node_allocatable of node n is missing"]


@pytest.mark.parametrize(("ready", "expected"), [(1, True), (0, False)])
def test_ready(ready: int, expected: bool) -> None:
    assert one_node(*node_samples(missing="node_ready"), sample("node_ready", ready, node="n")).ready is expected


@pytest.mark.parametrize(
    ("windows", "expected"),
    [
        pytest.param({"ready_max": 0, "ready_count": 150}, True, id="never Ready in a full window"),
        pytest.param({"ready_max": 1, "ready_count": 150}, False, id="Ready once"),
        pytest.param({"ready_max": 0, "ready_count": 135}, True, id="90 % of the samples are enough"),
        pytest.param({"ready_max": 0, "ready_count": 134}, None, id="a gap: unknown"),
        pytest.param({"ready_max": 0}, None, id="not counted: unknown"),
        pytest.param({"ready_count": 150}, None, id="no value: unknown"),
        pytest.param({"ready_max": "NaN", "ready_count": 150}, None, id="NaN: unknown"),
    ],
)
def test_not_ready_for_long(windows: dict[str, Any], expected: bool | None) -> None:
    samples = [window(name, value, node="n") for name, value in windows.items()]
    assert one_node(*node_samples(), *samples).unready_long is expected


def test_nodes_come_sorted_by_name() -> None:
    nodes, _ = nodes_of(*node_samples("b"), *node_samples("a"))
    assert [node.name for node in nodes] == ["a", "b"]


# ---------------------------------------------------------------------------------------------------------------- pods

POD = {"namespace": "shop", "pod": "web-1", "uid": "u1"}


def test_what_a_pod_says() -> None:
    [pod], problems = pods_of(
        sample("pod_info", 1, **POD, node="n", owner_kind="ReplicaSet", owner_name="web", priority_class="high"),
        sample("pod_requests", 0.25, **POD, resource="cpu", part="app"),
        sample("pod_requests", 1024, **POD, resource="memory", part="app"),
        sample("pod_requests", 0.1, **POD, resource="cpu", part="sidecar"),
        sample("pod_do_not_evict", 1, **POD),
    )
    assert problems == []
    assert (pod.title, pod.uid, pod.node) == ("shop/web-1", "u1", "n")
    assert (pod.owner_kind, pod.owner_name, pod.priority_class) == ("ReplicaSet", "web", "high")
    assert pod.requests == Resources(cpu_millicores=350, memory_bytes=1024, pods=1)
    assert (pod.do_not_evict, pod.unschedulable_since_s, pod.node_selector) == (True, None, ())


def test_a_pod_that_waits() -> None:
    [pod], problems = pods_of(
        sample("pod_info", 1, **POD),
        sample("pod_unschedulable_since", NOW_S - 20, **POD),
        sample("pod_node_selector", 1, **POD, nodeselector_kubernetes_io_os="linux"),
    )
    assert problems == []
    assert (pod.node, pod.owner_kind, pod.unschedulable_since_s) == ("", "", NOW_S - 20)
    assert pod.node_selector == (("kubernetes_io_os", "linux"),)


def test_a_pod_that_asks_for_nothing_takes_one_place() -> None:
    [pod], problems = pods_of(sample("pod_info", 1, **POD))
    assert problems == []
    assert pod.requests == Resources(pods=1)


def test_a_recreated_pod_of_the_same_name_is_another() -> None:
    """StatefulSets reuse names: the requests of the old one are not the new one's."""
    old, new = {**POD, "uid": "old"}, {**POD, "uid": "new"}
    pods, problems = pods_of(sample("pod_info", 1, **new), sample("pod_requests", 9, **old, resource="cpu", part="app"))
    assert problems == []
    assert [pod.requests.cpu_millicores for pod in pods] == [0]


@pytest.mark.parametrize(
    ("labels", "problem"),
    [
        pytest.param({"resource": "gpu", "part": "app"}, "names resource 'gpu' and part 'app'", id="a new resource"),
        pytest.param({"resource": "cpu", "part": "init2"}, "names resource 'cpu' and part 'init2'", id="a new part"),
        pytest.param({"resource": "cpu"}, "names resource 'cpu' and part ''", id="no part"),
    ],
)
def test_requests_that_are_not_understood_are_told(labels: dict[str, str], problem: str) -> None:
    _, problems = pods_of(sample("pod_info", 1, **POD), sample("pod_requests", 1, **POD, **labels))
    assert problems == [f"pod_requests of web-1 {problem}"]


def test_a_waiting_pod_that_nobody_lists_is_told() -> None:
    pods, problems = pods_of(sample("pod_unschedulable_since", NOW_S, **POD))
    assert (pods, problems) == ((), ["unschedulable pod shop/web-1 has no pod_info"])


# --------------------------------------------------------------------------------------------------------- utilisation


def windows_of(resource: str = "cpu", /, **values: float | str) -> list[Sample]:
    return [window(name, value, resource=resource) for name, value in values.items()]


@pytest.mark.parametrize(
    ("values", "grow_min", "shrink_max"),
    [
        pytest.param({"grow_min": 0.8, "grow_count": 4}, 0.8, None, id="a full grow window"),
        pytest.param({"grow_min": 0.8, "grow_count": 3}, None, None, id="3 of 4 samples are a gap"),
        pytest.param({"grow_min": 0.8}, None, None, id="not counted"),
        pytest.param({"shrink_max": 0.2, "shrink_count": 40}, None, 0.2, id="a full shrink window"),
        pytest.param({"shrink_max": 0.2, "shrink_count": 36}, None, 0.2, id="90 % of it"),
        pytest.param({"shrink_max": 0.2, "shrink_count": 35}, None, None, id="less: a gap"),
        pytest.param({"shrink_max": "NaN", "shrink_count": 40}, None, None, id="NaN"),
        pytest.param({"shrink_max": 0.2, "shrink_count": "NaN"}, None, None, id="the count is NaN"),
    ],
)
def test_windows(values: dict[str, float | str], grow_min: float | None, shrink_max: float | None) -> None:
    cpu = use_of(*windows_of(**values))["cpu"]
    assert (cpu.grow_min, cpu.shrink_max) == (grow_min, shrink_max)


def test_the_latest_value_is_the_lower_bound() -> None:
    use = use_of(
        sample("workers_utilisation", 0.5, resource="cpu", bound="low"),
        sample("workers_utilisation", 0.9, resource="cpu", bound="high"),
    )
    assert use["cpu"].now_low == 0.5
    assert use["memory"].now_low is None


def test_resources_are_not_mixed_up() -> None:
    use = use_of(*windows_of("cpu", grow_min=0.8, grow_count=4), *windows_of("memory", grow_min=0.1, grow_count=1))
    assert (use["cpu"].grow_min, use["memory"].grow_min) == (0.8, None)


def test_an_empty_answer_says_nothing() -> None:
    assert sort_samples([], now_s=NOW_S, max_age_s=30) is None
