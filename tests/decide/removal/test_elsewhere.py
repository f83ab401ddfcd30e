"""Whose pods fit elsewhere: the scheduler's rules keep a worker, or let it go."""

import msgspec

from autoscaler.model import Pod, RulesQuestion, SchedulingRules, Snapshot, State
from autoscaler.model.rules import Budget, NodeSpec, NodeTerm, Operator, Requirement, equal_to
from autoscaler.state.moved import moved_in_vain, owners_moved
from tests.decide.builders import NOW_S, ZONES, Machine, decided, full, opened, pod, policy, snapshot, static, worker
from tests.decide.demand.test_scheduling_rules import APP, ONE_PER_HOST, demand, rules, seen_with, small

OWNER = "shop/ReplicaSet/web"


def light(number: int, **fields: object) -> Pod:
    return pod(f"p{number}", cpu=10, memory_mib=10, **fields)


def reasons(seen: Snapshot, *, low: int) -> dict[str, str]:
    return {b.subject: b.reason for b in decided(seen, its_policy=policy(low=low)).blocked}


def going(seen: Snapshot, *, low: int) -> list[str]:
    return [r.node_name for r in decided(seen, its_policy=policy(low=low)).state.removals]


def test_one_per_host_keeps_every_worker_that_has_one() -> None:
    machines = [worker(n, pods=[light(n)]) for n in range(1, 5)]
    seen = seen_with(machines, [], rules(**ONE_PER_HOST))
    assert going(seen, low=2) == []
    assert reasons(seen, low=2)["worker-i-001"] == "no_room: shop/p1 fits on no other worker (InterPodAffinity on 3)"
    with_an_empty_one = seen_with([*machines, worker(5)], [], rules(**ONE_PER_HOST))
    assert going(with_an_empty_one, low=2) == ["worker-i-005"]


def test_a_selector_that_only_a_worker_of_ours_has_keeps_it() -> None:
    """A static Raspberry Pi is no place for a pod that wants amd64."""
    pi = static(9, name="pi-1", instance_id=None, zone=None, provider_id="k3s://pi-1")
    nodes = (NodeSpec(name="pi-1", labels=(("kubernetes.io/arch", "arm64"), ("kubernetes.io/hostname", "pi-1"))),)
    picky = rules(node_affinity=(NodeTerm(labels=(Requirement("kubernetes.io/arch", Operator.IN, ("amd64",)),)),))
    machines: list[Machine] = [worker(1, pods=[light(1)]), pi]
    assert going(seen_with(machines, [], picky, nodes=nodes), low=0) == []
    assert going(seen_with(machines, [], rules(), nodes=nodes), low=0) == ["worker-i-001"]


def test_a_worker_that_nobody_needs_goes_whatever_the_zones() -> None:
    """Static workers in one zone, ours in the other: evenness keeps none."""
    machines = [*(static(n, zone=ZONES[0], pods=[light(n)]) for n in (7, 8, 9)), worker(2, of={"zone": ZONES[1]})]
    assert going(snapshot(machines), low=1) == ["worker-i-002"]


def test_a_budget_that_allows_nothing_keeps_the_worker_while_the_answer_is_fresh() -> None:
    machines = [worker(n, pods=[light(n)]) for n in (1, 2)]
    budget = Budget(namespace="shop", name="web", selector=APP, allowed=0)
    seen = seen_with(machines, [], rules(), budgets=(budget,))
    assert going(seen, low=1) == []
    assert reasons(seen, low=1)["worker-i-001"] == "budget: shop/web allows no eviction of shop/p1 now"
    assert seen.scheduling_rules is not None
    old = msgspec.structs.replace(seen.scheduling_rules, answered_at_s=NOW_S - 121)
    assert going(msgspec.structs.replace(seen, scheduling_rules=old), low=1) == ["worker-i-001"]
    other = Budget(namespace="shop", name="db", selector=equal_to({"app": "db"}), allowed=0)
    assert going(seen_with(machines, [], rules(), budgets=(other,)), low=1) == ["worker-i-001"]


def test_rules_are_asked_for_where_a_pod_would_move_and_its_owner_is_not_known() -> None:
    machines = [worker(n, pods=[light(n)]) for n in (1, 2)]
    unknown = msgspec.structs.replace(snapshot(machines), rules_problem="", scheduling_rules=None)
    first = decided(unknown, its_policy=policy(low=1))
    assert (first.asks.rules, first.state.removals) == (True, ())
    kept = msgspec.structs.replace(unknown, scheduling_rules=SchedulingRules(answered_at_s=NOW_S - 9000))
    second = decided(kept, its_policy=policy(low=1))
    assert (second.asks.rules_of, second.state.removals) == ((OWNER,), ())
    unread = msgspec.structs.replace(unknown, rules_problem="DynamoDB is silent")
    waits = decided(unread, its_policy=policy(low=1))
    assert (waits.state.removals, waits.blocked[0].reason) == ((), "rules_unknown: DynamoDB is silent")
    in_vain = State(rules_question=RulesQuestion(failures=3))
    assert len(decided(unread, in_vain, policy(low=1)).state.removals) == 1
    told = msgspec.structs.replace(kept, rules_problem="the server is silent")
    assert [r.node_name for r in decided(told, its_policy=policy(low=1)).state.removals] == ["worker-i-001"]


def test_where_companions_are_is_asked_before_they_are_judged() -> None:
    machines = [worker(n, pods=[light(n)]) for n in (1, 2, 3)]
    seen = msgspec.structs.replace(seen_with(machines, [], rules(**ONE_PER_HOST)), places=(), places_of=frozenset())
    assert decided(seen, its_policy=policy(low=1)).asks.places_of == (OWNER,)


def test_what_was_moved_in_vain_is_not_moved_again_for_twice_as_long_each_time() -> None:
    seen = snapshot([worker(n, pods=[light(n)]) for n in (1, 2, 3)])
    first = opened(seen, None, policy(low=1))
    assert [(m.owner, m.moved_at_s) for m in first.state.moved] == [(OWNER, NOW_S)]
    once = moved_in_vain(first.state, [OWNER, "other"], NOW_S + 600)
    assert [(m.in_vain, m.until_s) for m in once.moved] == [(1, NOW_S + 600 + 3600)]
    assert moved_in_vain(once, [OWNER], NOW_S + 700) == once, "each move counts once"
    kept = decided(seen, msgspec.structs.replace(once, removals=(), last_scale_down_s=None), policy(low=1))
    assert kept.state.removals == ()
    assert {b.reason.split(":")[0] for b in kept.blocked} == {"moved_in_vain"}
    twice = moved_in_vain(owners_moved(once, [OWNER], NOW_S + 9000), [OWNER], NOW_S + 9100)
    assert [(m.in_vain, m.until_s - NOW_S) for m in twice.moved] == [(2, 9100 + 7200)]
    harmless = owners_moved(owners_moved(twice, [OWNER], NOW_S + 20_000), [OWNER], NOW_S + 30_000)
    assert [m.in_vain for m in harmless.moved] == [0]


def test_a_launch_for_what_was_just_moved_is_noted() -> None:
    state = owners_moved(decided(snapshot([full(1)])).state, [OWNER], NOW_S - 600)
    seen = seen_with([full(1)], small(2), rules(**ONE_PER_HOST))
    assert demand(seen, state).for_owners == (OWNER,)
    decision = opened(seen, state, policy(low=1))
    assert [(m.owner, m.in_vain) for m in decision.state.moved] == [(OWNER, 1)]
