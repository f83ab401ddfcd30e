"""What holds for all clusters: the filters are total, count right whatever came and went, and know no order."""

from collections import Counter
from random import Random

import msgspec
from hypothesis import given, settings
from hypothesis import strategies as st

from autoscaler.decide.scheduling.cluster import Cluster, NodeInfo
from autoscaler.decide.scheduling.filters import first_refusal, refusals
from autoscaler.decide.scheduling.filters.refusal import Plugin, Refusal
from autoscaler.decide.scheduling.guard import Budget, guaranteed
from autoscaler.decide.scheduling.placing import Template, Trial, Waiting
from autoscaler.decide.scheduling.refusing import Refusing
from autoscaler.decide.scheduling.shelves import shelves_of
from autoscaler.decide.scheduling.sizing import size
from autoscaler.model.rules import Labels, NodeSpec, PodRules
from tests.decide.scheduling import drawn
from tests.decide.scheduling.clusters import HOST, ZONE

SEARCHED = 1_000_000
NAMESPACES = {"shop": {"app": "a"}, "lab": {}}
Placement = tuple[int, PodRules, bool]


def built(nodes: list[NodeSpec], placed: list[Placement]) -> Cluster:
    cluster = Cluster(NAMESPACES)
    for spec in nodes:
        cluster.add_node(spec)
    for number, rules, ending in placed:
        cluster.place(rules, cluster.nodes[nodes[number % len(nodes)].name], ending=ending)
    return cluster


def verdicts(rules: PodRules, cluster: Cluster) -> dict[str, tuple[Refusal | None, set[Plugin]]]:
    return {
        name: (first_refusal(rules, node, cluster), set(refusals(rules, node, cluster)))
        for name, node in cluster.nodes.items()
    }


NODES = st.lists(drawn.nodes(), min_size=1, max_size=4).map(
    lambda specs: [msgspec.structs.replace(spec, name=f"n{number}") for number, spec in enumerate(specs)]
)
CHANCE = st.randoms(use_true_random=False)
PLACED = st.lists(st.tuples(st.integers(0, 3), drawn.pods(claims=False), st.booleans()), max_size=5)


@given(nodes=NODES, placed=PLACED, rules=drawn.pods())
def test_every_question_has_an_answer_and_the_first_no_is_one_of_them(
    nodes: list[NodeSpec], placed: list[Placement], rules: PodRules
) -> None:
    cluster = built(nodes, placed)
    for name, (first, all_of_them) in verdicts(rules, cluster).items():
        assert (first is None) == (not all_of_them)
        assert first is None or (first.plugin in all_of_them and first.reasons)
        assert Trial(cluster).fits(rules, cluster.nodes[name]) == (first is None), "the short way says the same"


@given(nodes=NODES, placed=PLACED, rules=drawn.pods())
def test_who_refuses_is_counted_as_node_by_node_also_once_a_node_left(
    nodes: list[NodeSpec], placed: list[Placement], rules: PodRules
) -> None:
    cluster = built(nodes, placed)
    refusing = Refusing(cluster)
    for gone in (None, nodes[-1].name):
        names = [name for name in cluster.nodes if name != gone]
        first = [first_refusal(rules, cluster.nodes[name], cluster) for name in names]
        assert refusing.count(rules, [*names, "not there"]) == Counter(one.plugin for one in first if one is not None)


@given(nodes=NODES, placed=PLACED, pods=st.lists(drawn.pods(), min_size=1, max_size=3), emptiest_first=st.booleans())
def test_a_shelf_hands_out_every_node_that_fits(
    nodes: list[NodeSpec], placed: list[Placement], pods: list[PodRules], *, emptiest_first: bool
) -> None:
    cluster = built(nodes, placed)
    shelf = shelves_of(cluster, [Waiting(rules, 1) for rules in pods], emptiest_first=emptiest_first)[None]
    for rules in pods:
        handed = {node.name for node in shelf.that_may_hold(rules)}
        assert handed >= {name for name, node in cluster.nodes.items() if Trial(cluster).fits(rules, node)}


@given(nodes=NODES, placed=PLACED, rules=drawn.pods(), chance=CHANCE)
def test_neither_the_order_of_nodes_nor_of_pods_matters(
    nodes: list[NodeSpec], placed: list[Placement], rules: PodRules, chance: Random
) -> None:
    by_name = [(nodes[number % len(nodes)].name, pod, ending) for number, pod, ending in placed]
    shuffled = chance.sample(nodes, len(nodes))
    places = {spec.name: number for number, spec in enumerate(shuffled)}
    others = [(places[name], pod, ending) for name, pod, ending in chance.sample(by_name, len(by_name))]
    assert verdicts(rules, built(nodes, placed)) == verdicts(rules, built(shuffled, others))


@given(nodes=NODES, placed=PLACED, later=PLACED, rules=drawn.pods())
def test_what_is_counted_as_pods_and_nodes_come_and_go_is_what_is_counted_afresh(
    nodes: list[NodeSpec], placed: list[Placement], later: list[Placement], rules: PodRules
) -> None:
    cluster = built(nodes[:1], [])
    verdicts(rules, cluster)  # from here on it counts along
    for spec in nodes[1:]:
        cluster.add_node(spec)
    for number, pod, ending in (*placed, *later):
        cluster.place(pod, cluster.nodes[nodes[number % len(nodes)].name], ending=ending)
    assert verdicts(rules, cluster) == verdicts(rules, built(nodes, [*placed, *later]))
    for number, pod, ending in later:
        cluster.place(pod, cluster.nodes[nodes[number % len(nodes)].name], -1, ending=ending)
    assert verdicts(rules, cluster) == verdicts(rules, built(nodes, placed))
    kept = [(0, pod, ending) for number, pod, ending in placed if not number % len(nodes)]
    for number, pod, ending in placed:
        if number % len(nodes):
            cluster.place(pod, cluster.nodes[nodes[number % len(nodes)].name], -1, ending=ending)
    for spec in nodes[1:]:
        cluster.remove_node(cluster.nodes[spec.name])
    assert verdicts(rules, cluster) == verdicts(rules, built(nodes[:1], kept))


# --------------------------------------------------------------------------------------------------------------- sizing

TEMPLATES = [
    Template(
        name=zone,
        node=NodeSpec(name=f"new-{zone}", labels=((HOST, "x"), (ZONE, zone)), allocatable=(("cpu", 4), ("pods", 3))),
    )
    for zone in ("a", "b")
]
EXISTING = [
    NodeSpec(name="n0", labels=((HOST, "n0"), (ZONE, "a")), allocatable=(("cpu", 4), ("pods", 9))),
    NodeSpec(name="n1", labels=((HOST, "n1"), (ZONE, "b")), allocatable=(("cpu", 4), ("pods", 9))),
]
WAITING = st.lists(st.builds(Waiting, drawn.SMALL_PODS, st.integers(1, 3)), min_size=1, max_size=3)
ON_THEM = st.lists(st.tuples(st.integers(0, 1), drawn.SMALL_PODS, st.booleans()), max_size=4)
COUNTS = st.integers(1, 2)
SLOW = settings(max_examples=40)
"""Every choice of the scheduler is followed: some tenths of a second where the rules leave many."""


def pods_of(waiting: list[Waiting] | tuple[Waiting, ...]) -> int:
    return sum(group.count for group in waiting)


@SLOW
@given(waiting=WAITING, placed=ON_THEM, zones=COUNTS, chance=CHANCE)
def test_the_same_pods_in_any_order_get_the_same_nodes(
    waiting: list[Waiting], placed: list[Placement], zones: int, chance: Random
) -> None:
    one_by_one = [Waiting(group.rules, 1) for group in waiting for _ in range(group.count)]
    chance.shuffle(one_by_one)
    nodes = chance.sample(EXISTING, 2)
    turned = [(number if nodes == EXISTING else 1 - number % 2, pod, ending) for number, pod, ending in placed]
    first = size(waiting, TEMPLATES[:zones], built(EXISTING, placed), at_most=9)
    assert first == size(one_by_one, TEMPLATES[:zones], built(nodes, turned), at_most=9)


@SLOW
@given(waiting=WAITING, placed=ON_THEM, zones=COUNTS, at_most=st.integers(0, 9))
def test_a_question_leaves_no_trace_and_stays_within_its_limit(
    waiting: list[Waiting], placed: list[Placement], zones: int, at_most: int
) -> None:
    cluster = built(EXISTING, placed)
    before = [verdicts(group.rules, cluster) for group in waiting]
    sizing = size(waiting, TEMPLATES[:zones], cluster, at_most=at_most)
    assert [verdicts(group.rules, cluster) for group in waiting] == before
    assert list(cluster.nodes) == ["n0", "n1"]
    assert sizing.total <= at_most
    assert 0 <= pods_of(sizing.left) <= pods_of(waiting)
    assert sizing.total <= pods_of(waiting), "a node without a pod"


@SLOW
@given(waiting=WAITING, placed=ON_THEM, data=st.data())
def test_what_is_sure_is_placed_whatever_the_scheduler_chooses(
    waiting: list[Waiting], placed: list[Placement], data: st.DataObject
) -> None:
    cluster = built(EXISTING, placed)
    sizing = size(waiting, TEMPLATES, cluster, at_most=9)
    if sizing.sure is None:
        return
    trial = Trial(cluster)
    for template in TEMPLATES:
        for _ in range(sizing.new_nodes.get(template.name, 0)):
            trial.open(template)
    left = [group.rules for group in waiting for _ in range(group.count)]
    done = 0
    while choices := [
        (number, node)
        for number, rules in enumerate(left)
        for node in cluster.nodes.values()
        if first_refusal(rules, node, cluster) is None
    ]:
        number, node = data.draw(st.sampled_from(choices))
        trial.put(left.pop(number), node)
        done += 1
    assert done >= sizing.sure


@SLOW
@given(waiting=WAITING, placed=ON_THEM, zones=COUNTS)
def test_a_place_is_found_where_every_filter_agrees(
    waiting: list[Waiting], placed: list[Placement], zones: int
) -> None:
    cluster = built(EXISTING, placed)
    trial = Trial(cluster)
    for template in TEMPLATES[:zones]:
        trial.open(template)
    for group in waiting:
        mark = trial.mark
        found = trial.fill(group.rules, group.count, list(cluster.nodes.values()))
        steps = [step for step in trial._steps[mark:] if step is not None]
        assert found == sum(step.count for step in steps) <= group.count
        trial.undo(mark)
        for step in steps:
            for _ in range(step.count):
                assert first_refusal(step.rules, step.node, cluster) is None
                trial.put(step.rules, step.node)
        if found < group.count:
            fitting = [n for n in cluster.nodes.values() if first_refusal(group.rules, n, cluster) is None]
            assert not fitting, "a pod was left over that would have fitted"


def fewest_placed(trial: Trial, groups: list[Waiting], nodes: list[NodeInfo]) -> int:
    """How many of the pods are placed when every choice is the unluckiest: each order, each node that fits."""
    worst: int | None = None
    for number, group in enumerate(groups):
        for node in nodes:
            if trial.fits(group.rules, node):
                mark = trial.mark
                trial.put(group.rules, node)
                rest = [Waiting(one.rules, one.count - (n == number)) for n, one in enumerate(groups)]
                placed = 1 + fewest_placed(trial, [one for one in rest if one.count], nodes)
                trial.undo(mark)
                worst = placed if worst is None else min(worst, placed)
    return worst or 0


@settings(max_examples=60)
@given(
    nodes=NODES,
    placed=PLACED,
    rules=drawn.pods(claims=False),
    others=st.lists(st.tuples(drawn.NAMESPACES, drawn.LABELS), min_size=1, max_size=2),
)
def test_the_fewest_that_are_placed_are_those_of_the_unluckiest_choices(
    nodes: list[NodeSpec], placed: list[Placement], rules: PodRules, others: list[tuple[str, Labels]]
) -> None:
    cluster = built(nodes, placed)
    alike = [msgspec.structs.replace(rules, namespace=name, labels=labels) for name, labels in others]
    groups = [Waiting(one, 1) for one in dict.fromkeys([rules, *alike])]
    groups[0] = Waiting(rules, 2)
    trial, there = Trial(cluster), [*cluster.nodes.values()]
    found = guaranteed(trial, groups, there, Budget(SEARCHED), beat=-1)
    assert found == fewest_placed(trial, groups, there)
