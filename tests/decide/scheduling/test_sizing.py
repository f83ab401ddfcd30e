"""How many new nodes, and in which zones."""

from collections.abc import Sequence

import pytest

from autoscaler.decide.scheduling.guard import Budget, guaranteed
from autoscaler.decide.scheduling.placing import Template, Trial, Waiting
from autoscaler.decide.scheduling.sizing import size
from autoscaler.model.rules import (
    BoundClaim,
    Effect,
    FreeVolume,
    HostPort,
    MissingClaim,
    NodeSpec,
    NodeTerm,
    Operator,
    PodRules,
    Requirement,
    Taint,
    WaitingClaim,
    equal_to,
)
from tests.decide.scheduling.clusters import HOST, ROOMY, ZONE, cluster, near, node, pod, spread, template, waiting

ONE_PER_HOST = pod(anti_affinity=(near(HOST),))
ONE_PER_ZONE = pod(anti_affinity=(near(ZONE),))
OVER_ZONES = pod(spread=(spread(ZONE),))
OVER_HOSTS = pod(spread=(spread(HOST),))
SMALL = (("cpu", 1900), ("memory", 1500 << 20), ("pods", 110))
AB = (template("a", "a"), template("b", "b"))
HALF = pod(cpu=900)
API = {"app": "api"}
NO_NODE: tuple[NodeSpec, ...] = ()
FULL_A, FULL_B = (node(name, name, offers=(("cpu", 50), ("memory", 8 << 30), ("pods", 9))) for name in "ab")


@pytest.mark.parametrize(
    ("pods", "templates", "nodes", "new", "left"),
    [
        pytest.param([], AB, NO_NODE, {}, 0, id="nothing waits"),
        pytest.param([waiting(9, HALF)], [template(offers=SMALL)], NO_NODE, {"t": 5}, 0, id="two of 0.9 CPU to a node"),
        pytest.param([waiting(9, HALF)], (), NO_NODE, {}, 9, id="nothing to launch"),
        pytest.param([waiting(9, HALF)], (), [node("n")], {}, 5, id="what is there takes what it can"),
        pytest.param(
            [waiting(9, HALF)], [template(offers=SMALL)], [node("n")], {"t": 3}, 0, id="and new nodes take the rest"
        ),
        pytest.param(
            [waiting(9, HALF)], [template(offers=SMALL, daemons=[HALF])], NO_NODE, {"t": 9}, 0, id="beside the daemons"
        ),
        pytest.param([waiting(5, ONE_PER_HOST)], [template()], NO_NODE, {"t": 5}, 0, id="one to a host"),
        pytest.param(
            [waiting(5, ONE_PER_HOST), waiting(30, pod(labels=API))], [template()], NO_NODE, {"t": 5}, 0,
            id="and others beside them",
        ),
        pytest.param(
            [waiting(3, pod(host_ports=(HostPort(port=80),)))], [template()], NO_NODE, {"t": 3}, 0, id="one port each"
        ),
        pytest.param([waiting(5, ONE_PER_ZONE)], AB, NO_NODE, {"a": 1, "b": 1}, 3, id="one to a zone"),
        pytest.param([waiting(5, ONE_PER_ZONE)], AB, [node("n", "a")], {"b": 1}, 3, id="and one zone is there"),
        pytest.param(
            [waiting(9, OVER_ZONES)], AB, [FULL_A, FULL_B], {"a": 1, "b": 1}, 0, id="spread needs a node in each zone"
        ),
        pytest.param([waiting(9, OVER_ZONES)], AB[:1], [FULL_A, FULL_B], {"a": 1}, 8, id="or gets no further"),
        pytest.param(
            [waiting(4, pod(spread=(spread(ZONE, min_domains=2),)))], AB, NO_NODE, {"a": 1, "b": 1}, 0,
            id="as many zones as asked",
        ),
        pytest.param([waiting(4, OVER_HOSTS)], [template()], NO_NODE, {"t": 1}, 0, id="one host, one domain"),
        pytest.param(
            [waiting(4, pod(labels=API, affinity=(near(ZONE),))), waiting(1, pod())], AB, NO_NODE, {"a": 1}, 0,
            id="near pods that wait as well",
        ),
        pytest.param(
            [waiting(4, pod(labels=API, affinity=(near(ZONE),)))], AB, [node("n", "b", offers=(("pods", 0),))], {}, 4,
            id="near nobody",
        ),
        pytest.param([waiting(2, pod(cpu=5000))], AB, NO_NODE, {}, 2, id="too large for any"),
        pytest.param(
            [waiting(2, pod(claims=(MissingClaim(name="data"),)))], AB, NO_NODE, {}, 2, id="a claim that does not exist"
        ),
        pytest.param([waiting(2, pod(node_selector=((ZONE, "x"),)))], AB, NO_NODE, {}, 2, id="an unknown zone"),
        pytest.param([waiting(2, pod(node_selector=((ZONE, "b"),)))], AB, NO_NODE, {"b": 1}, 0, id="a zone by name"),
        pytest.param(
            [waiting(2, pod())], [template(taints=[Taint(key="k", effect=Effect.NO_EXECUTE)])], NO_NODE, {}, 2,
            id="a taint of the new node",
        ),
        pytest.param([waiting(2, pod(node_selector=((HOST, "t"),)))], [template()], NO_NODE, {}, 2, id="a hostname"),
    ],
)  # fmt: skip
def test_new_nodes(
    pods: list[Waiting], templates: Sequence[Template], nodes: Sequence[NodeSpec], new: dict[str, int], left: int
) -> None:
    sizing = size(pods, templates, cluster(*nodes), at_most=99)
    assert (sizing.new_nodes, sum(group.count for group in sizing.left)) == (new, left)


def test_no_more_than_asked_for() -> None:
    sizing = size([waiting(9, ONE_PER_HOST)], [template()], cluster(), at_most=4)
    assert (sizing.total, [group.count for group in sizing.left]) == (4, [5])


def test_a_full_cluster_is_looked_at_once_for_all_classes() -> None:
    """A class that asks nothing keeps every node in sight."""
    nothing = PodRules(namespace="shop")
    sizing = size([waiting(1, nothing), waiting(1, HALF)], (), cluster(FULL_A), at_most=0)
    assert [group.rules for group in sizing.left] == [HALF]


def test_a_new_node_is_named_as_no_other() -> None:
    trial = Trial(cluster(node("t+0"), node("t+1")))
    opened = [trial.open(template()) for _ in range(2)]
    assert len({*trial.cluster.nodes}) == 4
    assert [info.labels[HOST] for info in opened] == [info.name for info in opened]
    trial.undo()
    assert list(trial.cluster.nodes) == ["t+0", "t+1"]


def test_an_unlucky_choice_is_paid_for_with_a_node() -> None:
    """Two large pods, two small ones that may take the large ones' places."""
    large, small = pod(cpu=3540), pod(labels=API, cpu=1740)
    sizing = size([waiting(2, large), waiting(2, small)], AB, cluster(), at_most=9)
    assert (sizing.total, sizing.sure) == (4, 4)


def test_one_template_is_packed_like_the_estimator_packs() -> None:
    large, small = pod(cpu=3540), pod(labels=API, cpu=1740)
    sizing = size([waiting(2, large), waiting(2, small)], AB[:1], cluster(), at_most=9)
    assert (sizing.total, sizing.sure) == (3, None)


def test_what_cannot_be_proven_is_not_promised() -> None:
    trial = Trial(cluster())
    trial.open(AB[0])
    two_sizes = [waiting(2, pod()), waiting(1, HALF)]
    assert guaranteed(trial, two_sizes, [], Budget(1_000), beat=-1) == 3
    spent = Budget(2)
    assert guaranteed(trial, two_sizes, [], spent, beat=-1) == -1
    assert spent.spent


def test_pods_that_differ_by_name_alone_need_no_search() -> None:
    trial = Trial(cluster())
    trial.open(AB[0])
    asked = Budget(0)
    assert guaranteed(trial, [waiting(1, HALF), waiting(4, pod("lab", cpu=900))], [], asked, beat=-1) == 4
    assert not asked.left


def test_a_crowd_is_shared_out_over_the_zones() -> None:
    pods = [waiting(300, pod(cpu=cpu, labels={"app": str(cpu)})) for cpu in range(100, 1100, 100)]
    sizing = size(pods, AB, cluster(), at_most=1000)
    assert abs(sizing.new_nodes["a"] - sizing.new_nodes["b"]) <= 1
    assert sizing.total <= sum(cpu * 300 for cpu in range(100, 1100, 100)) / dict(ROOMY)["cpu"] * 1.15


def test_a_selector_that_names_several_values_finds_all_of_them() -> None:
    several = (Requirement("app", Operator.IN, ("api", "web")),)
    placed = cluster(node("a"), node("b"), node("c"), on={"a": [pod()], "b": [pod(labels=API)]})
    sizing = size([waiting(2, pod(labels={"app": "x"}, anti_affinity=(near(HOST, several),)))], (), placed, at_most=0)
    assert sizing.left == (), "both go to c"


def test_a_plan_holds_its_pods_when_all_its_nodes_are_there_at_once() -> None:
    """Zone a alone would take all four `web`; with two nodes of b full of `api`, a may not have more than one."""
    api = pod(labels=API, cpu=1300, node_selector=((ZONE, "b"),))
    web = pod(cpu=900, spread=(spread(ZONE),))
    sizing = size([waiting(4, web), waiting(6, api)], AB, cluster(), at_most=9)
    assert (sizing.new_nodes, sizing.left) == ({"b": 3}, ())


def small(name: str, zone: str, cpu: int) -> NodeSpec:
    return node(name, zone, offers=(("cpu", cpu), ("memory", 8 << 30), ("pods", 9)))


def test_small_pods_leave_the_large_room_to_the_large_ones() -> None:
    """Whatever the nodes are called, and in whichever order they are told."""
    pods = [waiting(8, pod(cpu=3000, labels=API, node_selector=((ZONE, "a"),))), waiting(2, pod(cpu=900))]
    for large, other in (("e", "f"), ("f", "e")):
        nodes = [small(large, "a", 3000), small(other, "a", 2000)]
        for told in (nodes, nodes[::-1]):
            assert size(pods, AB[:1], cluster(*told), at_most=99).new_nodes == {"a": 7}


def test_equal_nodes_and_equal_classes_are_told_apart_by_name_not_by_order() -> None:
    web = pod(cpu=900, labels={"app": "x1"}, spread=(spread(selector=equal_to({"app": "x1"})),))
    one_per_host = pod(cpu=900, labels={"app": "x0"}, anti_affinity=(near(selector=equal_to({"app": "x0"})),))
    pods, nodes = [waiting(8, one_per_host), waiting(8, web)], [small("e", "a", 3000), small("f", "b", 1000)]
    sizings = [
        size(some, AB, cluster(*others), at_most=99) for some in (pods, pods[::-1]) for others in (nodes, nodes[::-1])
    ]
    assert len({str(sizing.new_nodes) for sizing in sizings}) == 1


def test_among_equal_plans_the_evener_is_taken() -> None:
    pods = [waiting(6, pod(cpu=900, labels=API)), waiting(7, pod(cpu=900, node_selector=((ZONE, "a"),)))]
    sizing = size(pods, AB, cluster(small("e", "b", 2000), small("f", "a", 2000)), at_most=99)
    assert sizing.new_nodes == {"a": 2, "b": 1}


def test_a_crowd_with_rules_is_packed_well_by_the_first_order() -> None:
    """3,000 pods leave time for one order: the choosier classes come first, the others fill what those leave."""
    choosy = [
        waiting(100, pod(cpu=100, labels={"app": str(n)}, anti_affinity=(near(selector=equal_to({"app": str(n)})),)))
        for n in range(3)
    ]
    plain = [waiting(900, pod(cpu=120 + n, labels={"app": f"plain-{n}"})) for n in range(3)]
    sizing = size([*choosy, *plain], AB, cluster(), at_most=1000)
    assert sum(group.count for group in sizing.left) == 0
    assert sizing.total == 100, "one to a host, and the others beside them"


def test_alike_but_for_the_name_or_the_zone() -> None:
    """A verdict is remembered by what the class reads of a node: its name and the volume's zone among it."""
    by_field = NodeTerm(fields=(Requirement("metadata.name", Operator.NOT_IN, ("a",)),))
    in_b = BoundClaim(name="data", zones=((ZONE, "b"),))
    cases = (pod(node_name="b"), pod(node_affinity=(by_field,)), pod(claims=(in_b,)))
    for rules in cases:
        alike = cluster(node("a", "a", labels={HOST: "x"}), node("b", "b", labels={HOST: "x"}))
        sizing = size([waiting(99, rules)], (), alike, at_most=0)
        assert [group.count for group in sizing.left] == [59], "40 go to b, none to a"


def test_one_volume_is_not_taken_twice() -> None:
    def claim(name: str) -> WaitingClaim:
        return WaitingClaim(name=name, provisioned=False, free=(FreeVolume(name="v1"),))

    assert size([waiting(1, pod(claims=(claim("x"),)))], (), cluster(node("a")), at_most=0).left == ()
    assert size([waiting(1, pod(claims=(claim("x"), claim("y"))))], (), cluster(node("a")), at_most=0).left


def test_the_order_in_which_nodes_are_told_decides_nothing() -> None:
    pods = [waiting(7, pod(cpu=900)), waiting(5, pod(cpu=1300, labels=API, spread=(spread(),)))]
    nodes = [small("e", "a", 3900), small("f", "a", 3000), small("g", "a", 3000)]
    told = [size(pods, AB[:1], cluster(*some), at_most=99).new_nodes for some in (nodes, nodes[::-1])]
    assert told[0] == told[1]


def test_where_not_all_find_room_the_small_ones_do() -> None:
    pods = [waiting(1, pod(cpu=1900)), waiting(2, pod(cpu=900, labels=API))]
    (left,) = size(pods, (), cluster(small("e", "a", 2000)), at_most=0).left
    assert (left.count, dict(left.rules.requests)["cpu"]) == (1, 1900)


def test_emptier_nodes_first_where_packing_would_mix_what_keeps_apart() -> None:
    """`web` stays off hosts with `api`: each node, and the one new one, is left to one of them."""
    web = pod(cpu=900, anti_affinity=(near(selector=equal_to(API)),))
    nodes = [small("e", "a", 3900), small("f", "a", 2000), small("g", "a", 3000)]
    pods = [waiting(6, web), waiting(3, pod(cpu=1900, labels=API))]
    assert size(pods, [template()], cluster(*nodes), at_most=9).new_nodes == {"t": 1}


def test_new_hosts_are_all_there_when_a_spread_over_hosts_is_judged() -> None:
    """Four hosts are full of `api`: with none of `web` there, no other host may have two."""
    over_hosts = [waiting(4, pod(cpu=3000, labels=API)), waiting(6, pod(cpu=1900, spread=(spread(HOST),)))]
    sizing = size(over_hosts, [template()], cluster(), at_most=99)
    assert (sizing.new_nodes, sizing.left) == ({"t": 10}, ())
