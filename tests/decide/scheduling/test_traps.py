"""What surprises in the scheduler's own rules, by name. The recorded verdicts hold cases of each as well."""

import pytest

from autoscaler.decide.scheduling.cluster import Cluster
from autoscaler.decide.scheduling.matching import holds
from autoscaler.model.rules import (
    EVERY_ADDRESS,
    Effect,
    HostPort,
    NodeTerm,
    Operator,
    PodRules,
    Requirement,
    Taint,
    Toleration,
    equal_to,
)
from autoscaler.observe.pod_requests import Container, largest, pod_requests
from tests.decide.scheduling.clusters import HOST, ZONE, cluster, near, node, pod, spread, taking

A, B, C = node("a", "z1"), node("b", "z2"), node("c", "z3")
BARE = node("bare")
PROD = {"blue": {"env": "prod"}, "green": {"env": "dev"}, "shop": {}}
IN_PROD = equal_to({"env": "prod"})
NOT_IN_PROD = (Requirement("env", Operator.NOT_IN, ("prod",)),)
KEEP_OFF = Taint(key="only", value="db", effect=Effect.NO_SCHEDULE)
CORDON = Toleration(key="node.kubernetes.io/unschedulable", any_value=True)
BOTH = pod(labels={"app": "web", "tier": "front"})
GUARD = pod(anti_affinity=(near(namespace_selector=IN_PROD),))
DB = pod(labels={"app": "db"})
FULL = (("cpu", 0), ("memory", 0), ("pods", 110))


def at(*addresses: str, port: int = 80) -> PodRules:
    return pod(host_ports=tuple(HostPort(port=port, address=address) for address in addresses))


def terms(*lines: Requirement) -> tuple[NodeTerm, ...]:
    return (NodeTerm(labels=lines),)


TRAPS = [
    # 1
    pytest.param(
        pod(spread=(spread(selector=()),)), cluster(A, B, on={"a": [pod()] * 3}), "a b",
        id="1: an empty spread selector counts no pod that is there",
    ),
    pytest.param(
        pod(spread=(spread(selector=(), min_domains=3, skew=0),)), cluster(A, B), "",
        id="1: but it counts the pod itself",
    ),
    pytest.param(
        pod(spread=(spread(selector=None),)), cluster(A, B, on={"a": [pod()] * 3}), "a b",
        id="1: a missing selector counts nothing at all",
    ),
    # 2
    pytest.param(
        pod(spread=(spread(), spread(HOST, skew=9))), cluster(A, B, BARE, on={"a": [pod()], "b": [pod()]}), "a b",
        id="2: a node without one of the keys always fails",
    ),
    pytest.param(
        pod(spread=(spread(), spread(HOST, skew=2))), cluster(A, B, BARE, on={"a": [pod()], "b": [pod()]}), "a b",
        id="2: and is no domain for the others either, though it is empty",
    ),
    # 3
    pytest.param(
        pod(spread=(spread(),)), cluster(A, on={"a": [pod()] * 5}), "a",
        id="3: one zone in sight lets all into it",
    ),
    pytest.param(
        pod(spread=(spread(),)), cluster(A, B, on={"a": [pod()] * 5}), "b",
        id="3: a node in a new zone tightens the rule",
    ),
    pytest.param(
        pod(spread=(spread(min_domains=2),)), cluster(A, on={"a": [pod()]}), "",
        id="3: unless fewer domains than asked make the emptiest empty",
    ),
    # 4
    pytest.param(
        pod(spread=(spread(),)), cluster(A, node("b", "z2", cordoned=True), on={"a": [pod()]}), "",
        id="4: a cordoned node is a domain with no pods",
    ),
    pytest.param(
        pod(spread=(spread(),)), cluster(A, node("b", "z2", offers=FULL), on={"a": [pod()]}), "",
        id="4: a full node is one too",
    ),
    pytest.param(
        pod(spread=(spread(),)), cluster(A, node("b", "z2", taints=[KEEP_OFF]), on={"a": [pod()]}), "",
        id="4: taints are ignored unless told otherwise",
    ),
    pytest.param(
        pod(spread=(spread(honor_taints=True),)),
        cluster(A, node("b", "z2", taints=[KEEP_OFF]), on={"a": [pod()]}), "a",
        id="4: nodeTaintsPolicy Honor leaves tainted nodes out",
    ),
    pytest.param(
        pod(spread=(spread(honor_taints=True),)),
        cluster(A, node("b", "z2", cordoned=True), on={"a": [pod()]}), "",
        id="4: but looks at taints only, not at the cordon",
    ),
    pytest.param(
        pod(spread=(spread(),), node_selector=((ZONE, "z1"),)), cluster(A, B, on={"a": [pod()] * 5}), "a",
        id="4: the pod's own node selector is honoured unless told otherwise",
    ),
    pytest.param(
        pod(spread=(spread(honor_affinity=False),), node_selector=((ZONE, "z1"),)),
        cluster(A, B, on={"a": [pod()]}), "",
        id="4: nodeAffinityPolicy Ignore counts what the pod cannot use",
    ),
    # 5
    pytest.param(
        pod(spread=(spread(),)), cluster(A, B, ending={"a": [pod()] * 3}), "a b",
        id="5: spread ignores pods that are being deleted",
    ),
    pytest.param(
        pod(anti_affinity=(near(),)), cluster(A, B, ending={"a": [pod()]}), "b",
        id="5: anti-affinity counts them",
    ),
    pytest.param(
        DB, cluster(A, B, ending={"a": [pod(anti_affinity=(near(selector=equal_to({"app": "db"})),))]}), "b",
        id="5: and they go on avoiding others",
    ),
    pytest.param(
        pod(cpu=3000), cluster(A, ending={"a": [pod(cpu=3000)]}), "",
        id="5: and hold what they requested",
    ),
    # 6
    pytest.param(
        pod(affinity=(near(), near(selector=equal_to({"tier": "front"})))),
        cluster(A, B, on={"a": [pod(), pod(labels={"tier": "front"})], "b": [BOTH]}), "b",
        id="6: several affinity terms need one pod that matches them all",
    ),
    pytest.param(
        PodRules(namespace="shop", anti_affinity=(near(), near(selector=equal_to({"tier": "front"})))),
        cluster(A, B, C, on={"a": [pod()], "b": [pod(labels={"tier": "front"})]}), "c",
        id="6: anti-affinity terms are judged one by one",
    ),
    # 7
    pytest.param(
        pod(affinity=(near(ZONE),)), cluster(A, B, BARE), "a b",
        id="7: the first of its kind goes anywhere that has the key",
    ),
    pytest.param(
        pod(affinity=(near(ZONE),)), cluster(A, B, on={"b": [pod()]}), "b",
        id="7: only while no such pod is anywhere",
    ),
    pytest.param(
        pod(affinity=(near(ZONE),)), cluster(A, BARE, on={"bare": [pod()]}), "a",
        id="7: on a node that has the key",
    ),
    pytest.param(
        pod(labels={"app": "db"}, affinity=(near(ZONE),)), cluster(A, B), "",
        id="7: and only if it is of that kind itself",
    ),
    # 8
    pytest.param(
        pod(affinity=(near(ZONE),)), cluster(A, BARE, on={"a": [pod()], "bare": [pod()]}), "a",
        id="8: a missing topology key fails affinity",
    ),
    pytest.param(
        pod(anti_affinity=(near(ZONE),)), cluster(A, BARE, on={"a": [pod()], "bare": [pod()]}), "bare",
        id="8: and passes anti-affinity",
    ),
    pytest.param(
        pod(), cluster(A, BARE, on={"bare": [pod(anti_affinity=(near(ZONE),))]}), "a bare",
        id="8: that of the pods that are there too",
    ),
    # 9
    pytest.param(
        pod("blue"), cluster(A, B, on={"a": [GUARD]}, namespaces=PROD),
        "b", id="9: the others' anti-affinity is judged with the waiting pod's namespace labels",
    ),
    pytest.param(
        pod("green"), cluster(A, B, on={"a": [GUARD]}, namespaces=PROD),
        "a b", id="9: and passes where they do not match",
    ),
    pytest.param(
        pod(anti_affinity=(near(namespaces=("green",), namespace_selector=IN_PROD),)),
        cluster(A, B, C, on={"a": [pod("blue")], "b": [pod("green")]}, namespaces=PROD), "c",
        id="9: namespaces and namespaceSelector are a union",
    ),
    pytest.param(
        pod(anti_affinity=(near(namespaces=("green",)),)), cluster(A, B, on={"a": [pod()]}, namespaces=PROD), "a b",
        id="9: without the own namespace unless it is selected",
    ),
    pytest.param(
        pod(anti_affinity=(near(),)), cluster(A, B, on={"a": [pod()], "b": [pod("green")]}, namespaces=PROD), "b",
        id="9: which is the only one where neither is given",
    ),
    # 10
    pytest.param(
        pod(anti_affinity=(near(namespace_selector=NOT_IN_PROD),)),
        cluster(A, B, on={"a": [pod("blue")]}, namespaces=PROD), "b",
        id="10: 1.36.2 lets a waiting pod's negative namespaceSelector select every namespace",
    ),
    pytest.param(
        pod("blue"),
        cluster(A, B, on={"a": [pod(anti_affinity=(near(namespace_selector=NOT_IN_PROD),))]}, namespaces=PROD), "a b",
        id="10: and reads that of the pods that are there as documented",
    ),
    # 11
    pytest.param(
        pod(cpu=0), cluster(node("a", offers=(("cpu", 0), ("memory", 8 << 30), ("pods", 9)))), "a",
        id="11: what is asked as 0 is not checked",
    ),
    pytest.param(
        pod(cpu=0), cluster(A, on={"a": [pod(cpu=9000)]}), "a",
        id="11: not even where more was promised than there is",
    ),
    pytest.param(
        pod(), cluster(node("a", offers=(("cpu", 4000), ("memory", 8 << 30)))), "",
        id="11: a node that does not say how many pods takes none",
    ),
    # 13
    pytest.param(
        at(EVERY_ADDRESS), cluster(A, B, on={"a": [at("10.0.0.7")]}), "b",
        id="13: no address of its own clashes with every address",
    ),
    pytest.param(
        at("10.0.0.7"), cluster(A, B, on={"a": [at(EVERY_ADDRESS)], "b": [at("10.0.0.8")]}), "b",
        id="13: both ways",
    ),
    pytest.param(
        at("::"), cluster(A, on={"a": [at("10.0.0.7")]}), "a",
        id="13: :: is an address like any other",
    ),
    pytest.param(
        pod(host_ports=(HostPort(port=80, protocol="UDP"),)), cluster(A, on={"a": [at(EVERY_ADDRESS)]}), "a",
        id="13: another protocol is another port",
    ),
    # 14
    pytest.param(pod(node_affinity=(NodeTerm(),)), cluster(A, B), "", id="14: an empty term matches nothing"),
    pytest.param(
        pod(node_affinity=terms(Requirement("disk", Operator.NOT_IN, ("hdd",)))),
        cluster(A, node("b", labels={"disk": "hdd"})), "a",
        id="14: NotIn matches an absent label",
    ),
    pytest.param(
        pod(node_affinity=terms(Requirement("gen", Operator.GT, ("3",)))),
        cluster(A, node("b", labels={"gen": "four"}), node("c", labels={"gen": "3"}), node("d", labels={"gen": "4"})),
        "d", id="14: Gt is false on absent and non-integer labels",
    ),
    pytest.param(
        pod(node_affinity=(NodeTerm(fields=(Requirement("metadata.name", Operator.IN, ("a",)),)),)),
        cluster(node("a", labels={HOST: "b"}), node("b", labels={HOST: "a"})), "a",
        id="14: metadata.name is the Node's name, whatever its hostname label says",
    ),
    # 15
    pytest.param(
        pod(tolerations=(CORDON,)), cluster(node("a", cordoned=True)), "a",
        id="15: tolerating the cordon's taint lets a pod onto a cordoned node",
    ),
    pytest.param(pod(), cluster(node("a", cordoned=True)), "", id="15: and nothing else does"),
]  # fmt: skip


@pytest.mark.parametrize(("rules", "nodes", "takes"), TRAPS)
def test_the_schedulers_traps(rules: PodRules, nodes: Cluster, takes: str) -> None:
    assert taking(rules, nodes) == set(takes.split())


def asks(cpu: int, *, sidecar: bool = False) -> Container:
    return Container(requests=(("cpu", cpu),), sidecar=sidecar)


@pytest.mark.parametrize(
    ("containers", "init", "more", "cpu"),
    [
        pytest.param([asks(100), asks(200)], [], {}, 300, id="12: containers add up"),
        pytest.param([asks(100)], [asks(500)], {}, 500, id="12: an init container runs alone"),
        pytest.param([asks(100)], [asks(50, sidecar=True)], {}, 150, id="12: a sidecar adds to the containers"),
        pytest.param([asks(100)], [asks(50, sidecar=True), asks(500)], {}, 550, id="12: and to later init containers"),
        pytest.param([asks(100)], [asks(500), asks(50, sidecar=True)], {}, 500, id="12: not to earlier ones"),
        pytest.param(
            [asks(100)], [asks(50, sidecar=True), asks(90), asks(70, sidecar=True)], {}, 220, id="12: all in the end"
        ),
        pytest.param(
            [asks(100)], [asks(500)], {"pod_level": (("cpu", 200),)}, 200, id="12: pod level replaces the sum"
        ),
        pytest.param([asks(100)], [], {"pod_level": (("memory", 9),)}, 100, id="12: resource by resource"),
        pytest.param([asks(100)], [], {"overhead": (("cpu", 10),)}, 110, id="12: overhead comes on top"),
        pytest.param(
            [asks(100)], [], {"overhead": (("cpu", 10),), "pod_level": (("cpu", 200),)}, 210, id="12: of both"
        ),
    ],
)
def test_effective_requests(
    containers: list[Container], init: list[Container], more: dict[str, tuple[tuple[str, int], ...]], cpu: int
) -> None:
    assert dict(pod_requests(containers, init, **more))["cpu"] == cpu


def test_pod_level_asks_for_cpu_memory_and_huge_pages_only() -> None:
    gpu = Container(requests=(("example.com/gpu", 1),))
    level = (("example.com/gpu", 5), ("hugepages-2Mi", 4))
    assert pod_requests([gpu], pod_level=level) == (("example.com/gpu", 1), ("hugepages-2Mi", 4))


def test_a_pod_that_is_resized_holds_the_larger() -> None:
    assert largest({"cpu": 100, "memory": 9}, {"cpu": 300}) == {"cpu": 300, "memory": 9}


@pytest.mark.parametrize(
    ("value", "greater", "less"),
    [
        ("4", True, False),
        ("+4", True, False),
        ("-4", False, True),
        ("3", False, False),
        ("1_000", False, False),
        (" 4", False, False),
        ("4.0", False, False),
        ("٤", False, False),
        ("", False, False),
        (str(2**63 - 1), True, False),
        (str(2**63), False, False),
        ("9" * 5000, False, False),
    ],
)
def test_integers_are_read_as_the_scheduler_reads_them(value: str, *, greater: bool, less: bool) -> None:
    labels = {"gen": value}
    assert holds(Requirement("gen", Operator.GT, ("3",)), labels) is greater
    assert holds(Requirement("gen", Operator.LT, ("3",)), labels) is less


def test_an_empty_selector_selects_all_and_a_missing_one_nothing() -> None:
    everybody, nobody = pod(anti_affinity=(near(selector=()),)), pod(anti_affinity=(near(selector=None),))
    nodes = cluster(A, B, on={"a": [DB]})
    assert taking(everybody, nodes) == {"b"}
    assert taking(nobody, nodes) == {"a", "b"}
