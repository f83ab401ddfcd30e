"""Closer looks: what is free, whose pods would move; and what becomes of an answer that is not whole."""

from collections.abc import Sequence

import pytest

from autoscaler.model import Asks, MetricsStatus, Place, Resources, Sample, Snapshot
from autoscaler.observe.closer import DAEMON_NODES, look_closer, with_places_of, with_pods_of, with_rooms
from autoscaler.observe.query import moving_query, places_query, rooms_query
from autoscaler.observe.series import FAMILY
from autoscaler.ports import MetricsUnavailable
from tests.observe.answers import MIB, NOW_S, POLICY, fleet, healthy, node, sample, seen

ONE, TWO = "worker-i-0001", "worker-i-0002"
WAITING = {"namespace": "shop", "pod": "w", "uid": "w"}
HEALTHY = seen(
    healthy(
        sample("pod_unbound", **WAITING),
        sample("pod_pending", **WAITING),
        sample("pod_unschedulable", NOW_S - 20, **WAITING),
    )
)
ROOMS = (
    sample("requested", 0.75, node=ONE, resource="cpu"),
    sample("requested", 300 * MIB, node=ONE, resource="memory"),
    sample("requested", 3, node=ONE),
    sample("requested", 2, node=ONE, stays="true"),
    sample("daemon_requests", namespace="kube-system", created_by_name="agent"),
    sample("node_labels", node=ONE, label_pool="gpu", label_topology_kubernetes_io_zone="us-east-1a"),
    sample("pod_selector", **WAITING, nodeselector_pool="gpu"),
)


def on(name: str, pod: str, **labels: str) -> Sample:
    return sample("pod", namespace="shop", pod=pod, uid=pod, node=name, **labels)


def asks(pod: str, *, cpu: float, memory_mib: int) -> list[Sample]:
    """What it requests, in one container."""
    of: dict[str, str] = {"namespace": "shop", "pod": pod, "uid": pod, "part": "app"}
    return [
        sample("pod_requests", cpu, resource="cpu", **of),
        sample("pod_requests", memory_mib * MIB, resource="memory", **of),
    ]


ALL_OF_ONE = [
    *(on(ONE, f"p{n}") for n in range(5)),
    *asks("p0", cpu=0.5, memory_mib=300),
    *asks("p1", cpu=0.25, memory_mib=0),
]


class Answers:
    """Gives the answers in turn, and remembers the questions."""

    def __init__(self, *answers: Sequence[Sample] | MetricsUnavailable) -> None:
        self._answers = list(answers)
        self.asked: list[str] = []

    def query(self, promql: str, *, timeout_s: float | None = None) -> Sequence[Sample]:
        del timeout_s
        self.asked.append(promql)
        answer = self._answers.pop(0)
        if isinstance(answer, MetricsUnavailable):
            raise answer
        return answer


def test_what_is_free_on_each_node() -> None:
    snapshot = with_rooms(HEALTHY, ROOMS, POLICY)
    nodes = {n.name: n for n in snapshot.nodes}
    assert (snapshot.rooms_known, snapshot.metrics_status) == (True, MetricsStatus.OK)
    assert nodes[ONE].requested == Resources(cpu_millicores=750, memory_bytes=300 * MIB, pods=5)
    assert (nodes[ONE].movable, nodes[TWO].movable) == (3, 0)
    assert nodes[TWO].requested == Resources(), "a Node without pods has no rows, and the family is there"
    assert nodes[ONE].labels == (("pool", "gpu"), ("topology_kubernetes_io_zone", "us-east-1a"))
    assert [pod.node_selector for pod in snapshot.pods] == [(("pool", "gpu"),)]
    assert [daemon.name for daemon in snapshot.daemons] == ["agent"]


RECORDED = sample("evaluated_at", NOW_S - 5, group="utilisation", interval_s="15")


def window(name: str, *, cpu: float, pods: int, samples: int) -> list[Sample]:
    """What was recorded of a Node's requests in the shrink window."""
    most: list[tuple[dict[str, str], float]] = [
        ({"resource": "cpu"}, cpu),
        ({"resource": "memory"}, 300 * MIB),
        ({}, pods),
    ]
    return [
        *(sample("requested_max", value, node=name, **of) for of, value in most),
        *(sample("requested_count", samples, node=name, **of) for of, _ in most),
    ]


@pytest.mark.parametrize(
    ("age_s", "samples", "known"),
    [
        pytest.param(7200, 40, True, id="every sample"),
        pytest.param(7200, 36, True, id="nine of ten"),
        pytest.param(7200, 35, False, id="a gap"),
        pytest.param(195, 11, True, id="a young Node, since it is there"),
        pytest.param(195, 10, False, id="a young Node with a gap"),
        pytest.param(20, 1, False, id="one sample is no window"),
        pytest.param(20, 2, True, id="two are"),
    ],
)
def test_the_highest_requests_of_the_window_are_known_where_it_is_whole(age_s: int, samples: int, known: bool) -> None:
    aged = [node(ONE, "aws:///us-east-1a/i-0001", age_s=age_s) if s.metric.get("node") == ONE else s for s in healthy()]
    rows = window(ONE, cpu=1.25, pods=4, samples=samples)
    found = {n.name: n.requested_most for n in with_rooms(seen(aged), [*ROOMS, RECORDED, *rows], POLICY).nodes}
    most = Resources(cpu_millicores=1250, memory_bytes=300 * MIB, pods=4)
    assert found == {**dict.fromkeys(found), ONE: most if known else None}


def test_what_all_workers_asked_for_and_used_at_once_counts_those_that_are_gone() -> None:
    told = [sample("requested_at_once", 9.5, resource="cpu"), sample("requested_at_once", 300 * MIB, resource="memory")]
    seen_all = with_rooms(HEALTHY, [*ROOMS, *told, sample("used_at_once", 5.1234, resource="cpu")], POLICY)
    assert seen_all.requested_at_once == Resources(cpu_millicores=9500, memory_bytes=300 * MIB)
    assert seen_all.cpu_used_at_once_millicores == 5123
    before = with_rooms(HEALTHY, ROOMS, POLICY)
    assert (before.requested_at_once, before.cpu_used_at_once_millicores) == (Resources(), 0), (
        "rules of before, or a gap"
    )


@pytest.mark.parametrize(
    "answer",
    [
        pytest.param([RECORDED], id="rules of an older version record nothing of it"),
        pytest.param(window(ONE, cpu=1, pods=1, samples=40), id="how often it is recorded is not known"),
        pytest.param([RECORDED, *window(ONE, cpu=1, pods=1, samples=40)[1:]], id="CPU is missing"),
        pytest.param([RECORDED, *window(ONE, cpu=1, pods=1, samples=40)[:-1]], id="how many samples is missing"),
    ],
)
def test_a_window_of_requests_that_is_not_told_is_unknown_and_nothing_else_is(answer: list[Sample]) -> None:
    snapshot = with_rooms(HEALTHY, [*ROOMS, *answer], POLICY)
    assert {n.requested_most for n in snapshot.nodes} == {None}
    assert (snapshot.rooms_known, snapshot.metrics_status) == (True, MetricsStatus.OK)


@pytest.mark.parametrize(
    ("answer", "problem"),
    [
        pytest.param(MetricsUnavailable("no answer within 5 s"), "no answer within 5 s", id="no answer"),
        pytest.param([], "an empty vector", id="empty"),
        pytest.param(ROOMS[1:], "kube_pod_container_resource_requests of cpu is empty", id="no CPU"),
        pytest.param([ROOMS[0], *ROOMS[2:]], "requests of memory is empty", id="no memory"),
        pytest.param([*ROOMS[:2], *ROOMS[3:4]], "", id="nothing that moves runs anywhere"),
        pytest.param(ROOMS[:2], "kube_pod_info and kube_pod_status_phase is empty", id="no pods"),
        pytest.param(
            [*ROOMS, sample("requested", "NaN", node=TWO, resource="cpu")], "requested holds 'NaN'", id="not a number"
        ),
    ],
)
def test_rooms_that_are_not_known_make_nothing_up(answer: Sequence[Sample] | MetricsUnavailable, problem: str) -> None:
    snapshot = with_rooms(HEALTHY, answer, POLICY)
    assert snapshot.rooms_known is not bool(problem)
    assert snapshot.cluster_known is not bool(problem)
    if problem:
        assert snapshot.metrics_status is MetricsStatus.PARTIAL
        assert problem in snapshot.metrics_problems[0]
        assert {n.requested for n in snapshot.nodes} == {None}


def counted() -> Snapshot:
    return with_rooms(HEALTHY, [*ROOMS, sample("requested", 1, node=TWO)], POLICY)


def test_the_pods_of_a_node() -> None:
    answer = [*ALL_OF_ONE, on(TWO, "q")]
    snapshot = with_pods_of(counted(), (ONE, TWO), answer)
    assert snapshot.pods_of == {ONE, TWO}
    assert sorted(pod.name for pod in snapshot.pods) == ["p0", "p1", "p2", "p3", "p4", "q", "w"]


def test_a_node_of_which_fewer_pods_came_than_were_counted_is_left_out() -> None:
    """The rest is not shown, or just left: nobody is judged on half of its pods."""
    snapshot = with_pods_of(counted(), (ONE, TWO), [on(ONE, "p0"), on(TWO, "q"), on(TWO, "new")])
    assert snapshot.pods_of == {TWO}
    assert sorted(pod.name for pod in snapshot.pods) == ["new", "q", "w"]
    assert with_pods_of(counted(), (ONE,), []).pods_of == frozenset()


def test_a_node_whose_pods_ask_for_less_than_was_summed_is_left_out() -> None:
    """Half of the series are missing: what a pod asks for is not nothing where that is not shown."""
    for lost in ("p0", "p1"):
        rows = [row for row in ALL_OF_ONE if row.metric[FAMILY] != "pod_requests" or row.metric["pod"] != lost]
        assert with_pods_of(counted(), (ONE,), rows).pods_of == frozenset(), lost


@pytest.mark.parametrize(
    ("answer", "problem"),
    [
        pytest.param(MetricsUnavailable("HTTP status 503"), "HTTP status 503", id="no answer"),
        pytest.param(
            [on(TWO, "q"), sample("pod_requests", 1, uid="q", pod="q", namespace="shop", resource="x", part="app")],
            "names resource 'x'",
            id="not understood",
        ),
        pytest.param([on(TWO, "q"), sample("pod", "NaN", node=TWO)], "pod holds 'NaN'", id="not a number"),
    ],
)
def test_pods_that_are_not_known_shrink_nothing(answer: Sequence[Sample] | MetricsUnavailable, problem: str) -> None:
    snapshot = with_pods_of(counted(), (TWO,), answer)
    assert (snapshot.metrics_status, snapshot.cluster_known) == (MetricsStatus.PARTIAL, True)
    assert (snapshot.pods_of, problem in snapshot.metrics_problems[0]) == (frozenset(), True)


# ------------------------------------------------------------------------------------------------ what is asked for it


def test_only_what_is_wanted_and_not_known_is_asked() -> None:
    metrics = Answers(ROOMS, ALL_OF_ONE)
    once = look_closer(metrics, HEALTHY, Asks(rooms=True, pods_of=(ONE,)), POLICY)
    daemons_on = ("static-1", ONE, TWO)
    assert metrics.asked == [
        rooms_query(POLICY, daemons_on, with_init=False, with_overhead=False),
        moving_query(POLICY, (ONE,)),
    ]
    assert look_closer(Answers(), once, Asks(rooms=True, pods_of=(ONE,)), POLICY) == once


def test_without_rooms_no_pods_are_asked_for() -> None:
    metrics = Answers(MetricsUnavailable("gone"))
    snapshot = look_closer(metrics, HEALTHY, Asks(rooms=True, pods_of=(ONE,)), POLICY)
    assert (len(metrics.asked), snapshot.cluster_known) == (1, False)


def test_parts_that_somebody_has_are_asked_for() -> None:
    shown = ("kube_pod_init_container_resource_requests", "kube_pod_overhead_cpu_cores")
    metrics = Answers(ROOMS)
    look_closer(metrics, seen(healthy(*(sample("shown", 1, of=of) for of in shown))), Asks(rooms=True), POLICY)
    assert metrics.asked == [rooms_query(POLICY, ("static-1", ONE, TWO), with_init=True, with_overhead=True)]


def test_daemons_are_looked_for_on_the_youngest_workers_and_on_servers_where_there_is_none() -> None:
    many = [node(f"w{n:03}", "", age_s=n) for n in range(DAEMON_NODES + 10)]
    metrics = Answers(ROOMS)
    facts = ("kube_node_status_condition", "kube_node_spec_unschedulable")
    count = len(many) + 2
    crowd = [
        *(
            s
            for s in healthy(*many, workers=0)
            if s.metric.get("of") not in facts and s.metric["family"] != "source_nodes"
        ),
        *(sample("shown", count, of=fact) for fact in facts),
        sample("source_nodes", count),
    ]
    look_closer(metrics, seen(crowd, fleet(0)), Asks(rooms=True), POLICY)
    assert 'node=~"w000|w001|' in metrics.asked[0]
    assert "|w049" in metrics.asked[0]
    assert "w050" not in metrics.asked[0]
    alone = Answers(ROOMS)
    servers = [s for s in crowd if s.metric["family"] != "node" or s.metric["node"] == "server"]
    one = [
        sample("shown", 1, of=s.metric["of"]) if s.metric.get("of") in facts
        else sample("counted", 1, of="node") if s.metric.get("of") == "node"
        else s
        for s in servers
    ]  # fmt: skip
    look_closer(alone, seen(one, fleet(0)), Asks(rooms=True), POLICY)
    assert 'node=~"server"' in alone.asked[0]


# --------------------------------------------------------------------------------------------------------------- places

WEB, BARE, DONE = "shop/ReplicaSet/web", "shop/Pod/bare", "shop/Job/done"
OF_WEB = {"namespace": "shop", "created_by_kind": "ReplicaSet", "created_by_name": "web"}
PLACES = (
    sample("place", 2, node=ONE, **OF_WEB),
    sample("place", 1, node=TWO, **OF_WEB),
    sample("place", 1, node=TWO, namespace="shop", created_by_kind="Job", created_by_name="web"),
    sample("place", 1, node=TWO, namespace="shop", pod="bare"),
    sample("counted", 4, of="place"),
)


def test_where_the_pods_of_owners_are() -> None:
    snapshot = with_places_of(HEALTHY, (WEB, BARE, DONE), PLACES)
    assert snapshot.places == (
        Place(owner=BARE, node=TWO, count=1),
        Place(owner=WEB, node=ONE, count=2),
        Place(owner=WEB, node=TWO, count=1),
    ), "of a like name another owner came along"
    assert snapshot.places_of == {WEB, BARE, DONE}
    assert snapshot.metrics_status is MetricsStatus.OK


def test_owners_of_which_nothing_runs_have_no_place() -> None:
    snapshot = with_places_of(HEALTHY, (WEB,), [sample("counted", 0, of="place")])
    assert (snapshot.places, set(snapshot.places_of)) == ((), {WEB})


@pytest.mark.parametrize(
    ("answer", "problem"),
    [
        pytest.param(MetricsUnavailable("no answer within 5 s"), "no answer within 5 s", id="no answer"),
        pytest.param([], "an empty vector", id="empty"),
        pytest.param(PLACES[1:], "3 rows came, and 4 were counted", id="a row is lost"),
        pytest.param(PLACES[:4], "4 rows came, and nothing was counted", id="the count is lost"),
        pytest.param([sample("place", "NaN", node=ONE, **OF_WEB)], "place holds 'NaN'", id="not a number"),
        pytest.param(
            [sample("place", 1.5, node=ONE, **OF_WEB), sample("counted", 1, of="place")],
            "a row says 1.5 pods of 'web' on",
            id="half a pod",
        ),
        pytest.param(
            [sample("place", 1, **OF_WEB), sample("counted", 1, of="place")], "pods of 'web' on None", id="no Node"
        ),
        pytest.param(
            [sample("place", 1, node=ONE, namespace="shop"), sample("counted", 1, of="place")],
            "1 pods of '' on",
            id="nobody's",
        ),
    ],
)
def test_places_that_are_not_known_are_not_made_up(answer: Sequence[Sample] | MetricsUnavailable, problem: str) -> None:
    snapshot = with_places_of(HEALTHY, (WEB,), answer)
    assert (snapshot.places, snapshot.places_of) == ((), frozenset())
    assert snapshot.metrics_status is MetricsStatus.PARTIAL
    assert snapshot.metrics_problems[0].startswith(f"where the pods of {WEB} are is not known: ")
    assert problem in snapshot.metrics_problems[0]
    assert snapshot.cluster_known


def test_places_rest_on_the_proof_of_the_rooms_and_are_asked_once() -> None:
    metrics = Answers(ROOMS, PLACES)
    snapshot = look_closer(metrics, HEALTHY, Asks(places_of=(WEB,)), POLICY)
    assert metrics.asked[1] == places_query(POLICY, (WEB,))
    assert (snapshot.rooms_known, set(snapshot.places_of)) == (True, {WEB})
    again = Answers(PLACES)
    more = look_closer(again, snapshot, Asks(places_of=(WEB, BARE)), POLICY)
    assert again.asked == [places_query(POLICY, (BARE,))]
    assert len(more.places) == 3
    unproven = look_closer(Answers(MetricsUnavailable("down")), HEALTHY, Asks(places_of=(WEB,)), POLICY)
    assert (unproven.places_of, unproven.cluster_known) == (frozenset(), False)
