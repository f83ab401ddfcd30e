"""Pods that change the verdict on their like: which nodes are asked, how often, and in which turn."""

import sys
from collections import Counter
from types import FrameType

from autoscaler.decide.scheduling.cluster import Cluster, NodeInfo
from autoscaler.decide.scheduling.filters.pod_topology_spread import Spread
from autoscaler.decide.scheduling.lanes import Lanes
from autoscaler.decide.scheduling.placing import Trial
from autoscaler.decide.scheduling.shelves import FEW, Opened
from autoscaler.model.rules import NodeSpec, PodRules
from tests.decide.scheduling.clusters import HOST, ZONE, cluster, near, node, pod, spread, template, waiting

BY_HOST = pod(spread=(spread(HOST),))
BY_ZONE = pod(spread=(spread(ZONE),))


def small(name: str, zone: str, pods: int) -> NodeSpec:
    return node(name, zone, offers=(("cpu", 4000), ("memory", 8 << 30), ("pods", pods)))


def placed(trial: Trial) -> list[str]:
    """Where each pod went, in turn."""
    return [step.node.name for step in trial._steps if step is not None for _ in range(step.count)]


def filled(rules: PodRules, count: int, there: Cluster) -> list[str]:
    trial = Trial(there)
    assert trial.fill(rules, count, list(there.nodes.values())) == len(placed(trial))
    return placed(trial)


def test_a_host_that_was_refused_has_its_turn_again_once_every_other_holds_as_many() -> None:
    there = cluster(node("a"), node("b"), node("c"))
    assert filled(BY_HOST, 7, there) == ["a", "b", "c", "a", "b", "c", "a"]


def test_a_host_that_can_hold_no_more_holds_back_the_others() -> None:
    """`b` is full with one pod: the others stop at one more than it holds."""
    there = cluster(node("a"), small("b", "z", 1), node("c"))
    assert Counter(filled(BY_HOST, 9, there)) == {"a": 2, "b": 1, "c": 2}


def test_zones_take_turns_beginning_where_the_first_node_has_room() -> None:
    there = cluster(small("a1", "a", 0), node("b1", "b"), node("a2", "a"))
    assert filled(BY_ZONE, 4, there) == ["b1", "a2", "b1", "a2"]


def test_company_that_comes_lets_pods_onto_nodes_that_were_passed_over() -> None:
    """No pod of `db` is in `b` yet: what wants it goes to `a`, though `b` is told first."""
    wants = pod(labels={"app": "api"}, affinity=(near(ZONE),))
    there = cluster(node("b1", "b"), small("a1", "a", 3), on={"a1": [pod()]})
    assert filled(wants, 5, there) == ["a1", "a1"]


def test_who_refuses_is_not_asked_again_for_each_pod() -> None:
    hosts, rounds = 40, 3
    there = cluster(*(node(f"n{number:02}") for number in range(hosts)))
    asked = 0

    def count(frame: FrameType, event: str, _: object) -> None:
        nonlocal asked
        asked += event == "call" and frame.f_code is Spread.refuses.__code__

    before = sys.getprofile()
    sys.setprofile(count)
    try:
        places = filled(BY_HOST, hosts * rounds, there)
    finally:
        sys.setprofile(before)
    assert Counter(places) == dict.fromkeys(there.nodes, rounds)
    assert hosts * rounds <= asked <= 2 * hosts * rounds, "once for each pod, and once to be refused"


def test_no_node_is_asked_before_its_turn() -> None:
    asked: list[str] = []

    def accepts(info: NodeInfo) -> bool:
        asked.append(info.name)
        return True

    there = cluster(*(node(f"n{number:02}") for number in range(40)))
    lanes = Lanes(pod(anti_affinity=(near(),)), there, accepts)
    assert lanes.fill(3, list(there.nodes.values()), there.place) == 3
    assert asked == ["n00", "n01", "n02"]


def test_of_many_new_nodes_those_that_are_full_for_all_are_passed_over_for_good() -> None:
    trial = Trial(cluster())
    large, tiny = pod(cpu=3000), pod(cpu=1100, labels={"app": "api"})
    opened = Opened(trial, [waiting(1, large), waiting(1, tiny)])
    nodes = [trial.open(template()) for _ in range(FEW + 1)]
    assert opened.with_room() == nodes
    trial.put(large, nodes[0])
    assert opened.with_room() == nodes[1:], "1,000 millicores are of use to nobody"
    nodes.append(trial.open(template()))
    assert opened.with_room() == nodes[1:]
