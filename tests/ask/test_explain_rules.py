"""A row for every rule that holds a removal, keeps a worker, or refuses a pod: what is told, its field, its end."""

from typing import Any

import msgspec
import pytest

from autoscaler.ask.explain_fleet import growth_limits, removal_holds, verdicts
from autoscaler.ask.explain_pod import explain_pod, find_pod
from autoscaler.ask.explain_worker import WorkerAnswer, explain_worker, find_worker
from autoscaler.ask.lines import Line
from autoscaler.decide.decision import decision_of, judge
from autoscaler.decide.steps import Course
from autoscaler.model import HeldWorker, MetricsStatus, MovedOwner, Resources, Snapshot, State
from autoscaler.model.rules import Budget, OwnerRules, PodRules, SchedulingRules, equal_to
from autoscaler.policy import Policy, ScaleDown, Workers
from autoscaler.pools import WorkerPool
from autoscaler.windows import Blackout, Headroom, Window
from tests.decide.builders import (
    DECISION_ID,
    MIB,
    NOW_S,
    full,
    launch,
    pod,
    policy,
    removal,
    snapshot,
    static,
    use,
    waiting,
    waiting_pods,
    worker,
)


def course(seen: Snapshot, state: State | None = None, its_policy: Policy | None = None) -> Course:
    return judge(seen, state or State(fence=9), its_policy or policy(), now_s=seen.taken_at_s, decision_id=DECISION_ID)


def told(lines: tuple[Line, ...]) -> dict[str, Line]:
    return {line.about: line for line in lines}


HELD: dict[str, tuple[Snapshot, State, Policy, str, int | None]] = {
    "metrics_partial": (
        snapshot(3, status=MetricsStatus.PARTIAL, known=True), State(), policy(), "docs/monitoring.md", None
    ),
    "pods_waiting": (snapshot(3, waiting_pods(1)), State(), policy(high=3), "k3s-autoscaler explain", None),
    "waiting_for_nodes": (
        snapshot(3), State(launches=(launch(landed=True, ids=[7]),)), policy(), "workers.join_timeout_s", None
    ),
    "removal_under_way": (
        snapshot(3), State(removals=(removal(1),)), policy(), "scale_down.budget, drain.timeout_s", None
    ),
    "at_min": (snapshot(2), State(), policy(), "workers.min", None),
    "steady": (
        snapshot(3, utilisation=use(cpu=0.5)), State(), policy(down=ScaleDown(when="low_use")),
        "scale_down.cpu_below, scale_down.memory_below, scale_down.when", None,
    ),
    "cooling_down": (
        snapshot(3), State(last_scale_up_s=NOW_S - 100), policy(), "scale_down.cool_down_s", NOW_S + 500
    ),
    "no_server": (snapshot(3, servers=()), State(), policy(), "tag the server", None),
    "blackout": (
        snapshot(3), State(),
        policy(down=ScaleDown(blackouts=(Blackout(name="day", time_zone="UTC", from_time="07:00", to_time="09:00"),))),
        "scale_down.blackouts", NOW_S + 3600,
    ),
}  # fmt: skip


@pytest.mark.parametrize("code", HELD)
def test_what_holds_every_removal(code: str) -> None:
    seen, state, its_policy, lever, until_s = HELD[code]
    found = told(removal_holds(course(seen, state, its_policy)))
    assert code in found, found
    assert lever in ", ".join((*found[code].fields, found[code].instead))
    assert found[code].until_s == until_s


def test_all_that_hold_are_told_and_not_the_first_alone() -> None:
    found = removal_holds(course(snapshot(2, servers=()), State(last_scale_up_s=NOW_S - 10)))
    assert [line.about for line in found] == ["at_min", "cooling_down", "no_server"]


@pytest.mark.parametrize("status", [MetricsStatus.UNAVAILABLE, MetricsStatus.PARTIAL])
def test_what_is_not_known_is_not_counted_as_none(status: MetricsStatus) -> None:
    """Of a cluster that nobody sees no worker is Ready, and none is not at its minimum for that."""
    (line,) = removal_holds(course(snapshot(3, status=status, known=False)))
    assert line.about == f"metrics_{status.value}"


def test_a_limit_of_a_schedule_names_the_schedule() -> None:
    day = Window(name="day", time_zone="UTC", from_time="07:00", to_time="20:00", min=2, max=2)
    its_policy = policy(low=1, schedules=(day,))
    its_course = course(snapshot(2, waiting_pods(4)), its_policy=its_policy)
    decision = decision_of(its_course, its_policy)
    (limit,) = growth_limits(its_course, decision.reason, decision.message)
    assert (limit.about, limit.fields) == ("at_max", ("schedules[].max",))
    assert told(removal_holds(its_course))["at_min"].fields == ("schedules[].min",)


def test_who_would_be_drained_is_told_where_nothing_holds() -> None:
    spare = course(snapshot([full(1), full(2), worker(3)]))
    (line,) = removal_holds(spare)
    assert line.says == "nothing: worker-i-003 would be drained"
    answer = of_worker(spare, "worker-i-003")
    assert (answer.leaves, answer.own, answer.demand) == (True, (), ())


# ------------------------------------------------------------------------------------------------------- one worker


def of_worker(its_course: Course, name: str = "worker-i-001") -> WorkerAnswer:
    found = find_worker(its_course, name)
    assert found is not None
    return explain_worker(its_course, found)


PROTECTING = policy(down=ScaleDown(protected_namespaces=("bank",)))
OWN: dict[str, tuple[Any, State, Policy, str, int | None]] = {
    "young": (
        worker(1, of={"launched_at_s": NOW_S - 100}), State(), policy(), "scale_down.min_age_s", NOW_S + 500
    ),
    "local_volume": (worker(1, local_volumes=2), State(), policy(), "move its data", None),
    "not_schedulable": (worker(1, cordoned=True), State(), policy(), "kubectl uncordon", None),
    "held": (
        worker(1),
        State(held_workers=(HeldWorker(node_name="worker-i-001", until_s=NOW_S + 90, reason="bare_pod", failures=1),)),
        policy(), "scale_down.refused_for_s", NOW_S + 90,
    ),
    "bare_pod": (worker(1, pods=[pod("one", owner_kind="", owner_name="")]), State(), policy(), "an owner", None),
    "do_not_evict": (worker(1, pods=[pod("one", do_not_evict=True)]), State(), policy(), "annotation", None),
    "critical_pod": (
        worker(1, pods=[pod("dns", priority_class="system-cluster-critical")]), State(), policy(),
        "scale_down.protected_priority_classes", None,
    ),
    "protected_namespace": (
        worker(1, pods=[pod("till", namespace="bank")]), State(), PROTECTING, "scale_down.protected_namespaces", None
    ),
}  # fmt: skip


@pytest.mark.parametrize("code", OWN)
def test_what_keeps_one_worker(code: str) -> None:
    machine, state, its_policy, lever, until_s = OWN[code]
    answer = of_worker(course(snapshot([machine, full(2), full(3)]), state, its_policy))
    assert [line.about for line in answer.own] == [code]
    (line,) = answer.own
    assert lever in ", ".join((*line.fields, line.instead))
    assert line.until_s == until_s
    assert answer.turn is None


def test_a_static_worker_is_never_ours_to_remove() -> None:
    answer = of_worker(course(snapshot([static(1), full(2), full(3)])), "static-1")
    assert [line.about for line in answer.own] == ["not_ours"]


def test_several_reasons_are_told_together() -> None:
    machine = worker(1, of={"launched_at_s": NOW_S - 100}, local_volumes=1, pods=[pod("a", do_not_evict=True)])
    answer = of_worker(course(snapshot([machine, full(2), full(3)])))
    assert [line.about for line in answer.own] == ["young", "local_volume", "do_not_evict"]


SPARE = [worker(1, pods=[pod("a", cpu=500)]), full(2), full(3)]
KNOWN = SchedulingRules(
    answered_at_s=NOW_S - 5,
    owners=(
        OwnerRules(
            owner="shop/ReplicaSet/web", rules=PodRules(namespace="shop", labels=(("app", "web"),)), seen_at_s=NOW_S - 5
        ),
    ),
    budgets=(Budget(namespace="shop", name="web", selector=equal_to({"app": "web"}), allowed=0),),
)
ONCE = Resources(cpu_millicores=3_000, memory_bytes=MIB, pods=9)
MIN_OF_POOL = Workers(pools=(WorkerPool(name="general", instance_types=("t3.small",), min=3),))
DAY = Window(name="day", time_zone="UTC", from_time="08:20", to_time="20:00", min=3)


def without_window(seen: Snapshot) -> Snapshot:
    """Nobody recorded what pods asked for."""
    nodes = tuple(msgspec.structs.replace(node, requested_most=None) for node in seen.nodes)
    return msgspec.structs.replace(seen, nodes=nodes)


DEMAND: dict[str, tuple[Snapshot, State, Policy, str]] = {
    "needed: 3 workers are wanted": (snapshot(SPARE), State(), policy(low=3), "workers.min"),
    "no_room: ": (snapshot(SPARE), State(), policy(), "its pods need a place first"),
    "needed: cpu use would be": (
        snapshot(SPARE, utilisation=use(cpu=0.65)), State(), policy(), "scale_up.cpu_above, scale_down.target_margin"
    ),
    "budget: scale_down.budget": (
        snapshot(SPARE), State(), policy(down=ScaleDown(budget=0)), "scale_down.budget"
    ),
    "budget: shop/web allows no eviction": (
        snapshot(SPARE, rules=KNOWN), State(), policy(), "PodDisruptionBudget"
    ),
    "needed: headroom": (
        snapshot([worker(1), full(2), full(3)]), State(), policy(headroom=Headroom(workers=1)), "headroom"
    ),
    "window_unknown: it is not known": (
        without_window(snapshot(SPARE)), State(), policy(), "scale_down.window_s"
    ),
    "needed: in the last 600 s": (
        snapshot([worker(1, pods=[pod("a", cpu=10)], requested_most=ONCE), worker(2), full(3)]), State(), policy(),
        "scale_down.window_s",
    ),
    "needed: pool general has a min": (
        snapshot([worker(1), full(2), full(3)]), State(), policy(workers=MIN_OF_POOL), "workers.pools[].min"
    ),
    "moved_in_vain: ": (
        snapshot(SPARE),
        State(moved=(MovedOwner(owner="shop/ReplicaSet/web", moved_at_s=0, in_vain=1, until_s=NOW_S + 60),)),
        policy(), "tried again by itself",
    ),
    "on_demand: 1 of 2 workers": (
        snapshot([worker(1), worker(2, of={"market": "spot"}), worker(3, of={"market": "spot"})]), State(),
        policy(workers=Workers(market="spot", on_demand_base=1)), "workers.on_demand_base",
    ),
    "needed: 3 workers are wanted (min of the schedule": (
        snapshot(SPARE), State(), policy(schedules=(DAY,)), "schedules[].min"
    ),
    "cooling_down: the use without": (
        snapshot(SPARE), State(last_scale_down_s=NOW_S - 5), policy(), "scale_down.cool_down_s"
    ),
}  # fmt: skip


@pytest.mark.parametrize("words", DEMAND)
def test_what_demand_has_against_a_removal(words: str) -> None:
    seen, state, its_policy, lever = DEMAND[words]
    answer = of_worker(course(seen, state, its_policy))
    found = [line for line in answer.demand if f"{line.about}: {line.says}".startswith(words)]
    assert found, answer.demand
    assert lever in ", ".join((*found[0].fields, found[0].instead))


def test_the_order_of_judgement_is_told() -> None:
    """Why this one and not that one: empty ones first, then the oldest."""
    machines = [worker(1, pods=[pod("a", cpu=10)]), worker(2), full(3)]
    answer = of_worker(course(snapshot(machines)), "worker-i-001")
    assert (answer.turn, answer.before) == (2, ("worker-i-002",))


def test_what_is_unseen_is_said_and_not_taken_for_nothing() -> None:
    seen = msgspec.structs.replace(snapshot(SPARE), pods_of=frozenset())
    answer = of_worker(course(seen))
    assert answer.unknown == "its pods, or what the scheduler asks of them, could not be seen"


def test_an_operation_under_way_is_told() -> None:
    answer = of_worker(course(snapshot(3), State(removals=(removal(1),))))
    assert answer.standing == "leaving"
    assert answer.under_way == "removal r1 for low_utilisation: draining for 30 s"


# ---------------------------------------------------------------------------------------------------------- growth


@pytest.mark.parametrize(
    ("seen", "its_policy", "limit", "field"),
    [
        (snapshot(2, waiting_pods(4)), policy(high=2), "at_max", "workers.max"),
        (snapshot(2, waiting_pods(9)), policy(max_step=1), "max_step", "scale_up.max_step"),
    ],
)
def test_a_limit_of_growth_names_its_field(seen: Snapshot, its_policy: Policy, limit: str, field: str) -> None:
    its_course = course(seen, its_policy=its_policy)
    decision = decision_of(its_course, its_policy)
    (line,) = growth_limits(its_course, decision.reason, decision.message)
    assert (line.about, line.fields) == (limit, (field,))


def test_every_signal_has_a_verdict_and_a_field() -> None:
    its_course = course(snapshot(2, waiting_pods(2), utilisation=use(high=0.9)))
    found = {verdict.name: verdict for verdict in verdicts(its_course, policy())}
    assert set(found) == {"unschedulable_pods", "cpu_utilisation", "memory_utilisation", "minimum"}
    assert found["unschedulable_pods"].more == 1
    assert found["cpu_utilisation"].line.says == "90%; above 70% for 60 s counts; asks for 1 more worker"
    assert found["minimum"].more == 0
    assert all(verdict.line.fields for verdict in found.values())


def test_a_value_that_is_not_known_is_said_to_be_unknown() -> None:
    its_course = course(snapshot(2, utilisation=use(cpu=None)))
    (cpu,) = [one for one in verdicts(its_course, policy()) if one.name == "cpu_utilisation"]
    assert cpu.line.says.startswith("unknown; ")


# ------------------------------------------------------------------------------------------------------------- pods


def of_pod(its_course: Course, title: str) -> Any:
    found = find_pod(its_course.look.snapshot, title)
    assert found is not None
    return explain_pod(its_course, found)


def test_a_pod_that_has_not_waited_long_enough_is_told_when_it_counts() -> None:
    answer = of_pod(course(snapshot(2, [waiting("w", for_s=3)])), "shop/w")
    assert answer.why[0].about == "too_short"
    assert answer.why[0].until_s == NOW_S + 7
    assert answer.why[0].fields == ("scale_up.pending_for_s",)


def test_each_worker_and_each_new_one_is_told_with_its_filter() -> None:
    its_policy = policy(types=("t3.small", "m6i.xlarge"))
    answer = of_pod(course(snapshot(2, [waiting("w", cpu=1_900, memory_mib=4_000)]), its_policy=its_policy), "shop/w")
    refused = {place.name: place.line.about if place.line else "fits" for place in answer.places}
    assert refused == {
        "worker-i-001": "NodeResourcesFit",
        "worker-i-002": "NodeResourcesFit",
        "new t3.small": "NodeResourcesFit",
        "new m6i.xlarge": "fits",
    }
    first = answer.places[0].line
    assert first.says == "Insufficient cpu; Insufficient memory (0m cpu is free, 1400 MiB memory is free)"


def test_a_pod_that_runs_says_whether_it_keeps_its_worker() -> None:
    machine = worker(1, pods=[pod("till", namespace="bank")])
    answer = of_pod(course(snapshot([machine, full(2), full(3)]), its_policy=PROTECTING), "bank/till")
    (why,) = answer.why
    assert "keeps that worker: protected_namespace" in why.says
    assert why.fields == ("scale_down.protected_namespaces", "scale_down.movable")
    assert answer.places == ()


def pod_told(seen: Snapshot, state: State | None = None, its_policy: Policy | None = None) -> tuple[str, str]:
    (why,) = of_pod(course(seen, state, its_policy), "shop/w").why
    return why.about, ", ".join((*why.fields, why.instead))


WAITS = [waiting("w")]
PODS: dict[str, tuple[Snapshot, State, Policy, str]] = {
    "launching": (snapshot(2, WAITS), State(), policy(), "scale_up.pending_for_s"),
    "at_max": (snapshot(2, WAITS), State(), policy(high=2), "workers.max"),
    "room": (snapshot([full(1), worker(2)], WAITS), State(), policy(), "kubectl describe pod"),
    "gated": (snapshot(2, [pod("w")]), State(), policy(), "scheduling gates"),
    "shop/w": (snapshot(2, [waiting("w", cpu=64_000)]), State(), policy(), "workers.instance_types"),
}


@pytest.mark.parametrize("about", PODS)
def test_why_a_pod_waits(about: str) -> None:
    seen, state, its_policy, lever = PODS[about]
    found, levers = pod_told(seen, state, its_policy)
    assert found == about
    assert lever in levers
