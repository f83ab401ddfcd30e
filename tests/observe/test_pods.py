"""Rows become the pods that are on no Node, and those of Nodes that were asked for."""

import pytest

from autoscaler.model import DaemonSet, Pod, Resources, Sample
from autoscaler.observe.pods import parse_daemons, parse_pods_on_nodes, parse_unbound
from tests.observe.answers import NOW_S, rows_of, sample

POD = {"namespace": "shop", "pod": "web-1", "uid": "u1"}
OWNED = {"created_by_kind": "ReplicaSet", "created_by_name": "web", "priority_class": "high"}


def unbound(*rows: Sample, pending: int | None = 1) -> tuple[tuple[Pod, ...], list[str]]:
    phase = () if pending is None else (sample("pod_pending", pending, **POD),)
    return parse_unbound(rows_of(sample("pod_unbound", **POD, **OWNED), *phase, *rows))


def one_unbound(*rows: Sample) -> Pod:
    [pod], problems = unbound(*rows)
    assert problems == []
    return pod


def test_what_an_unbound_pod_says() -> None:
    pod = one_unbound(
        sample("pod_requests", 0.25, **POD, resource="cpu", part="app"),
        sample("pod_requests", 1024, **POD, resource="memory", part="app"),
        sample("pod_requests", 0.1, **POD, resource="cpu", part="sidecar"),
        sample("pod_unschedulable", NOW_S - 20, **POD),
    )
    assert (pod.title, pod.uid, pod.node) == ("shop/web-1", "u1", "")
    assert (pod.owner_kind, pod.owner_name, pod.priority_class) == ("ReplicaSet", "web", "high")
    assert pod.requests == Resources(cpu_millicores=350, memory_bytes=1024, pods=1)
    assert (pod.unschedulable_since_s, pod.node_selector) == (NOW_S - 20, ())


def test_a_pod_that_was_not_judged_yet_waits_for_nothing() -> None:
    assert one_unbound().unschedulable_since_s is None


def test_a_gated_pod_does_not_wait() -> None:
    """kube_pod_status_unschedulable is shown of it all the same."""
    assert (
        one_unbound(sample("pod_unschedulable", NOW_S, **POD), sample("pod_gated", **POD)).unschedulable_since_s is None
    )


@pytest.mark.parametrize(
    "gone",
    [
        pytest.param(sample("pod_deleting", NOW_S, **POD), id="it is being deleted: nobody schedules it any more"),
        pytest.param(sample("pod_pending", 0, **POD), id="it has finished"),
    ],
)
def test_a_pod_that_asks_for_nothing_any_more(gone: Sample) -> None:
    pods, problems = unbound(sample("pod_unschedulable", NOW_S - 20, **POD), gone, pending=None)
    assert (pods, problems) == ((), [])


def test_a_pod_that_asks_for_no_resource_takes_one_place() -> None:
    assert one_unbound().requests == Resources(pods=1)


def test_a_recreated_pod_of_the_same_name_is_another() -> None:
    """StatefulSets reuse names: the requests of the old one are not the new one's."""
    old = {**POD, "uid": "old"}
    assert one_unbound(sample("pod_requests", 9, **old, resource="cpu", part="app")).requests.cpu_millicores == 0


@pytest.mark.parametrize(
    ("labels", "problem"),
    [
        pytest.param({"resource": "gpu", "part": "app"}, "names resource 'gpu' and part 'app'", id="a new resource"),
        pytest.param({"resource": "cpu", "part": "init2"}, "names resource 'cpu' and part 'init2'", id="a new part"),
        pytest.param({"resource": "cpu"}, "names resource 'cpu' and part ''", id="no part"),
    ],
)
def test_requests_that_are_not_understood_are_told(labels: dict[str, str], problem: str) -> None:
    _, problems = unbound(sample("pod_requests", 1, **POD, **labels))
    assert problems == [f"pod_requests of web-1 {problem}"]


# ------------------------------------------------------------------------------------------------------ pods on Nodes


def test_what_a_pod_on_a_node_says() -> None:
    rows = rows_of(
        sample("pod", **POD, **OWNED, node="n"),
        sample("pod_requests", 0.25, **POD, resource="cpu", part="app"),
        sample("pod_selector", **POD, nodeselector_kubernetes_io_os="linux"),
        sample("pod_do_not_evict", **POD),
        sample("pod", namespace="shop", pod="a", uid="u2", node="n", created_by_kind="", created_by_name=""),
    )
    (bare, pod), problems = parse_pods_on_nodes(rows)
    assert problems == []
    assert (pod.title, pod.node, pod.do_not_evict) == ("shop/web-1", "n", True)
    assert pod.requests == Resources(cpu_millicores=250, memory_bytes=0, pods=1)
    assert pod.node_selector == (("kubernetes_io_os", "linux"),)
    assert (bare.owner_kind, bare.do_not_evict, bare.node_selector) == ("", False, ())


def test_what_daemon_sets_ask_of_a_worker() -> None:
    agent = {"namespace": "kube-system", "created_by_name": "agent"}
    rows = rows_of(
        sample("daemon_requests", **agent),
        sample("daemon_requests", 0.1, **agent, resource="cpu", part="app"),
        sample("daemon_requests", 0.3, **agent, resource="cpu", part="init"),
        sample("daemon_requests", 64, **agent, resource="memory", part="app"),
        sample("daemon_requests", namespace="kube-system", created_by_name="svclb"),
    )
    assert parse_daemons(rows) == (
        DaemonSet(
            namespace="kube-system", name="agent", requests=Resources(cpu_millicores=300, memory_bytes=64, pods=1)
        ),
        # One that asks for nothing takes a pod's place all the same.
        DaemonSet(namespace="kube-system", name="svclb", requests=Resources(pods=1)),
    )
