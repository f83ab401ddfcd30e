"""Waiting pods whose rules a server told: sized right in one look, and nothing for those that no worker helps."""

from typing import Any

import msgspec
import pytest

from autoscaler.decide.demand.pods import PodDemand, pod_demand
from autoscaler.decide.fleet import view_fleet
from autoscaler.model import (
    InstanceState,
    NewWorkers,
    OwnerRules,
    Place,
    Pod,
    RemovalPhase,
    SchedulingRules,
    Snapshot,
    State,
)
from autoscaler.model.rules import (
    HOSTNAME_LABEL,
    BoundClaim,
    Effect,
    MissingClaim,
    NodeSpec,
    NodeTerm,
    Operator,
    PodRules,
    PodTerm,
    Requirement,
    SpreadConstraint,
    Taint,
    Toleration,
    WaitingClaim,
    WaitingWord,
    equal_to,
)
from autoscaler.policy import Workers
from tests.decide.builders import (
    MIB,
    NOW_S,
    ZONES,
    Machine,
    full,
    launch,
    opened,
    pod,
    policy,
    removal,
    snapshot,
    waiting,
    worker,
)

APP = equal_to({"app": "web"})
ONE_PER_HOST: dict[str, Any] = {"anti_affinity": (PodTerm(selector=APP, topology_key=HOSTNAME_LABEL),)}
EVEN_ZONES: dict[str, Any] = {
    "spread": (SpreadConstraint(topology_key="topology.kubernetes.io/zone", max_skew=1, selector=APP),)
}


def rules(*, cpu: int = 10, memory_mib: int = 10, owner: str = "shop/ReplicaSet/web", **asked: Any) -> OwnerRules:
    requests = {"cpu": cpu, "memory": memory_mib * MIB, **asked.pop("more", {})}
    labels = asked.pop("labels", (("app", "web"),))
    told = PodRules(namespace="shop", labels=labels, requests=tuple(sorted(requests.items())), **asked)
    return OwnerRules(owner=owner, rules=told, seen_at_s=NOW_S)


def seen_with(machines: list[Machine], pods: list[Pod], *owners: OwnerRules, **more: Any) -> Snapshot:
    """All asked for is known: where the pods of these owners are, and where workers can be launched."""
    places = [
        Place(owner=one.owner, node=machine.node.name, count=sum(p.owner == one.owner for p in machine.pods))
        for one in owners
        for machine in machines
        if machine.node is not None
    ]
    told = SchedulingRules(answered_at_s=NOW_S, owners=owners, **more)
    return msgspec.structs.replace(
        snapshot(machines, pods, rules=told),
        places=tuple(place for place in places if place.count),
        places_of=frozenset(one.owner for one in owners),
        zones=ZONES,
    )


def demand(seen: Snapshot, state: State | None = None, **fields: Any) -> PodDemand:
    now = state or State()
    return pod_demand(seen, view_fleet(seen, now), now, policy(**fields))


def small(count: int, **fields: Any) -> list[Pod]:
    return [waiting(f"w{n}", cpu=10, memory_mib=10, **fields) for n in range(count)]


@pytest.mark.parametrize("for_s", [15, 300])
def test_one_per_host_gets_a_worker_each_in_one_look(for_s: int) -> None:
    there = [worker(n, pods=[pod(f"p{n}", cpu=10, memory_mib=10)]) for n in (1, 2)]
    wanted = demand(seen_with(there, small(3, for_s=for_s), rules(**ONE_PER_HOST)))
    assert (wanted.new_workers, wanted.waiting, wanted.unhelped) == ((NewWorkers("t3.small", 3),), 3, ())
    assert demand(seen_with(there, small(8, for_s=for_s), rules(**ONE_PER_HOST))).extra == 8


def test_zone_spread_gets_its_zones() -> None:
    wanted = demand(seen_with([full(1)], [waiting(f"w{n}", cpu=1000) for n in range(4)], rules(cpu=1000, **EVEN_ZONES)))
    assert {(new.zone, new.count) for new in wanted.new_workers} == {(ZONES[0], 2), (ZONES[1], 2)}


def test_a_worker_that_ec2_does_not_list_yet_comes_in_the_zone_of_its_launch() -> None:
    """Its id is known from EC2's answer. Pods that it was launched for got another one meanwhile."""
    db = [pod(f"d{n}", cpu=1890 + 10 * n, memory_mib=10, owner_name="db") for n in (0, 1)]
    there = [worker(1, pods=[pod("p1", cpu=10, memory_mib=10), db[0]]), worker(2, pods=[db[1]])]
    assert [machine.instance and machine.instance.zone for machine in there] == [ZONES[1], ZONES[0]]
    seen = seen_with(there, small(1), rules(cpu=10, **EVEN_ZONES))
    assert demand(seen).extra == 1
    for zone, extra in ((ZONES[0], 0), (ZONES[1], 1)):
        assert demand(seen, State(launches=(launch(ids=[7], zone=zone),))).extra == extra, zone


@pytest.mark.parametrize(("for_s", "extra"), [(250, 0), (310, 1)])
def test_a_pod_waits_for_the_node_of_a_machine_that_has_ended_where_its_zone_counts(for_s: int, extra: int) -> None:
    """A shrink took the last worker of a zone: the scheduler spreads over that zone until the Node is deleted."""
    ending = worker(2, of={"state": InstanceState.SHUTTING_DOWN}, cordoned=True)
    there = worker(1, pods=[pod("p1", cpu=10, memory_mib=10)])
    rows = small(1, for_s=for_s), rules(cpu=10, **EVEN_ZONES)
    going = State(removals=(removal(2, RemovalPhase.TERMINATING),))
    assert demand(seen_with([there, ending], *rows), going).extra == extra
    assert demand(seen_with([there], *rows)).extra == 1, "nothing explains it"


@pytest.mark.parametrize("phase", [RemovalPhase.DRAINING, RemovalPhase.TERMINATING])
@pytest.mark.parametrize(
    ("there", "for_s", "extra", "back"),
    [
        pytest.param(0, 15, 0, False, id="it fits once the Node is gone"),
        pytest.param(0, 310, 1, True, id="but it has not gone in five minutes"),
        pytest.param(1900, 15, 1, True, id="it does not fit even then"),
    ],
)
def test_a_pod_waits_for_the_node_of_a_worker_that_leaves_where_its_zone_counts(
    phase: RemovalPhase, there: int, for_s: int, extra: int, *, back: bool
) -> None:
    """Neither is the drain taken back for the very pods that it moves, nor is a worker launched in the place of it."""
    held = [pod("p1", cpu=10, memory_mib=10), pod("db", cpu=there, memory_mib=10, owner_name="db")]
    seen = seen_with(
        [worker(1, pods=held[: 1 + bool(there)]), worker(2, cordoned=True)], small(1, for_s=for_s), rules(**EVEN_ZONES)
    )
    wanted = demand(seen, State(removals=(removal(2, phase),)))
    backable = back and phase is RemovalPhase.DRAINING
    assert (wanted.extra, bool(wanted.take_back)) == (0 if backable else extra, backable)


def test_requests_of_the_pod_level_count_although_no_metric_shows_them() -> None:
    """kube-state-metrics shows nothing of them: neither for what waits nor for what runs."""
    told = rules(cpu=900, memory_mib=10)
    told = msgspec.structs.replace(told, shown=(("memory", 10 * MIB),))
    waits = [waiting(f"w{n}", cpu=0, memory_mib=10) for n in range(16)]
    assert demand(seen_with([full(1)], waits, told)).extra == 8
    runs = [worker(n, pods=[pod(f"a{n}", cpu=0, memory_mib=10), pod(f"b{n}", cpu=0, memory_mib=10)]) for n in (1, 2)]
    assert demand(seen_with(runs, waits[:4], told)).extra == 2


def test_a_label_that_all_of_our_workers_have_is_expected_of_a_new_one() -> None:
    nodes = tuple(
        NodeSpec(name=f"worker-i-{n:03x}", labels=(("pool", "batch"), ("topology.kubernetes.io/zone", ZONES[n % 2])))
        for n in (1, 2)
    )
    told = rules(cpu=900, memory_mib=100, node_selector=(("pool", "batch"),))
    assert demand(seen_with([full(1), full(2)], [waiting("w")], told, nodes=nodes)).extra == 1
    other = rules(cpu=900, memory_mib=100, node_selector=(("pool", "gpu"),))
    assert demand(seen_with([full(1), full(2)], [waiting("w")], other, nodes=nodes)).extra == 0


@pytest.mark.parametrize(
    ("market", "base", "capacity", "extra"),
    [
        pytest.param("spot", 0, "spot", 1, id="what EC2 may take is what a Spot pool gives"),
        pytest.param("spot", 0, "on-demand", 0, id="what it may not take is not"),
        pytest.param("spot", 1, "on-demand", 1, id="unless the pool buys on demand too"),
        pytest.param("on-demand", 0, "on-demand", 1, id="an on-demand pool gives it"),
        pytest.param("on-demand", 0, "spot", 0, id="and no Spot"),
    ],
)
def test_the_market_of_a_pool_is_a_label_of_its_workers(market: Any, base: int, capacity: str, extra: int) -> None:
    """Whatever those that are there were bought on."""
    told = rules(cpu=900, memory_mib=100, node_selector=(("k3s-autoscaler/capacity-type", capacity),))
    seen = seen_with([full(1), full(2)], [waiting("w")], told)
    bought = msgspec.structs.replace(policy(), workers=Workers(market=market, on_demand_base=base))
    assert pod_demand(seen, view_fleet(seen, State()), State(), bought).extra == extra


@pytest.mark.parametrize(
    ("asked", "reason"),
    [
        pytest.param(
            {"more": {"nvidia.com/gpu": 1}}, "unfittable: asks 1 nvidia.com/gpu; a new t3.small has 0", id="a GPU"
        ),
        pytest.param(
            {"claims": (MissingClaim(name="data"),)},
            'unhelpable: a new t3.small is refused by VolumeRestrictions: persistentvolumeclaim "data" not found',
            id="a claim that does not exist",
        ),
        pytest.param(
            {
                "node_affinity": (
                    NodeTerm(labels=(Requirement("topology.kubernetes.io/zone", Operator.IN, ("us-east-1z",)),)),
                )
            },
            "unhelpable: a new t3.small is refused by NodeAffinity: node(s) didn't match Pod's node affinity/selector",
            id="a zone that is none of ours",
        ),
        pytest.param(
            {"affinity": (PodTerm(selector=equal_to({"app": "nobody"}), topology_key=HOSTNAME_LABEL),)},
            "unhelpable: a new t3.small is refused by InterPodAffinity: node(s) didn't match pod affinity rules",
            id="the company of a pod that does not exist",
        ),
        pytest.param(
            {"priority": -11}, "expendable: its priority -11 is below -10; it waits for room", id="an expendable pod"
        ),
    ],
)
def test_what_no_worker_helps_neither_grows_nor_waits_and_says_why(asked: dict[str, Any], reason: str) -> None:
    wanted = demand(seen_with([full(1)], small(2, for_s=3600), rules(**asked)))
    assert (wanted.extra, wanted.waiting, wanted.distrusted) == (0, 0, False)
    assert {b.reason for b in wanted.blocked} == {reason}


def test_a_node_that_is_not_ready_is_no_place_for_pods_that_tolerate_it_for_300_s() -> None:
    """Admission gives every pod that toleration: it is of the effect NoExecute alone."""
    waits_out = tuple(
        Toleration(key=f"node.kubernetes.io/{key}", any_value=True, effect=Effect.NO_EXECUTE)
        for key in ("not-ready", "unreachable")
    )
    broken = worker(2, ready=False)
    told = rules(cpu=900, tolerations=waits_out)
    assert demand(seen_with([full(1), broken], [waiting("w", cpu=900)], told)).extra == 1


def test_whether_a_new_worker_lies_in_the_right_zone_is_unknown_while_nobody_says_where_it_would_be() -> None:
    """Not understood is not no: it counts as waiting, and the next look judges it."""
    in_a_zone = Requirement("topology.kubernetes.io/zone", Operator.IN, ("us-east-1z",))
    told = rules(node_affinity=(NodeTerm(labels=(in_a_zone,)),))
    seen = msgspec.structs.replace(
        seen_with([full(1)], small(2, for_s=3600), told), zones=None, zones_problem="EC2 does not say where"
    )
    wanted = demand(seen)
    assert (wanted.extra, wanted.waiting) == (0, 2)
    assert {b.reason for b in wanted.blocked} == {"unknown: EC2 does not say where"}


WAITS_FOR_A_VOLUME: dict[str, Any] = {"claims": (WaitingClaim(name="data", provisioned=True),)}


@pytest.mark.parametrize(
    ("kind", "asked", "told_s_ago", "since_s_ago"),
    [
        pytest.param("ReplicaSet", {}, 7200, None, id="a ReplicaSet's pods ask the same for good"),
        pytest.param("Job", {}, 7200, None, id="a Job's too"),
        pytest.param("StatefulSet", {}, 7200, 15, id="a StatefulSet's template may have changed since"),
        pytest.param("StatefulSet", {}, 14, None, id="and has not since its pod is there"),
        pytest.param("ReplicaSet", WAITS_FOR_A_VOLUME, 7200, 15, id="the claim may have its volume by now"),
        pytest.param("ReplicaSet", WAITS_FOR_A_VOLUME, 14, None, id="and had none when the pod began to wait"),
        pytest.param("ReplicaSet", {"claims": (BoundClaim(name="data"),)}, 7200, None, id="a bound claim stays bound"),
    ],
)
def test_what_may_have_changed_since_a_server_told_is_asked_again(
    kind: str, asked: dict[str, Any], told_s_ago: int, since_s_ago: int | None
) -> None:
    owner = f"shop/{kind}/web"
    told = msgspec.structs.replace(rules(owner=owner, **asked), seen_at_s=NOW_S - told_s_ago)
    wanted = demand(seen_with([full(1)], small(1, owner_kind=kind), told))
    expected = ((), 0) if since_s_ago is None else ((owner,), NOW_S - since_s_ago)
    assert (wanted.asks.rules_of, wanted.asks.rules_since_s) == expected


def test_a_claim_that_is_missing_is_looked_for_again_every_refresh_s() -> None:
    """Somebody may make it, and the pod waits all the while."""
    told = rules(claims=(MissingClaim(name="data"),))
    for told_s_ago, asks in ((599, ()), (601, ("shop/ReplicaSet/web",))):
        old = msgspec.structs.replace(told, seen_at_s=NOW_S - told_s_ago)
        assert demand(seen_with([full(1)], small(1, for_s=7200), old)).asks.rules_of == asks


def test_such_pods_hold_no_shrink_and_take_no_drain_back() -> None:
    told = rules(more={"nvidia.com/gpu": 1})
    idle = [worker(n) for n in range(1, 5)]
    decision = opened(seen_with(idle, small(3, for_s=3600), told))
    assert (decision.action, len(decision.state.removals)) == ("scale_down", 2)
    again = opened(seen_with(idle, small(3, for_s=3600), told), decision.state)
    assert [r.phase for r in again.state.removals] == [r.phase for r in decision.state.removals]


def test_workers_with_a_taint_serve_those_that_tolerate_it() -> None:
    taint = Taint(key="dedicated", value="batch", effect=Effect.NO_SCHEDULE)
    nodes = tuple(NodeSpec(name=f"worker-i-{n:03x}", taints=(taint,)) for n in (1, 2))
    machines = [worker(n, tainted=True) for n in (1, 2)]
    tolerant = rules(cpu=900, memory_mib=100, tolerations=(Toleration(key="dedicated", any_value=True),))
    assert demand(seen_with(machines, [waiting("w")], tolerant, nodes=nodes)).extra == 0, "there is room"
    packed = [full(n, tainted=True) for n in (1, 2)]
    assert demand(seen_with(packed, [waiting("w")], tolerant, nodes=nodes)).extra == 1
    assert demand(seen_with(packed, [waiting("w")], rules(cpu=900), nodes=nodes)).extra == 0, "a new one has it too"


def test_pods_that_wait_for_preemption_get_no_worker() -> None:
    word = WaitingWord(pod="shop/w0", nominated_node="worker-i-001")
    wanted = demand(seen_with([full(1)], [waiting("w0")], rules(cpu=900, memory_mib=100), waiting=(word,)))
    assert (wanted.extra, [b.reason for b in wanted.blocked]) == (
        0,
        ["nominated: the scheduler makes room by preemption"],
    )


def test_without_an_answer_it_is_decided_as_before() -> None:
    """Rules that cannot be had are unknown: requests and selectors decide, and the scheduler corrects."""
    assert demand(snapshot([worker(1)], small(3))).extra == 0, "there is room for 10m"
    assert demand(snapshot([worker(1)], small(3, for_s=60))).extra == 1, "and the scheduler does not see it"
