"""How many workers are added, within which limits, and for which reason."""

import msgspec
import pytest

from autoscaler.decide.fleet import view_fleet
from autoscaler.model import (
    Action,
    MetricsStatus,
    NewWorkers,
    Notice,
    RemovalOperation,
    RemovalPhase,
    State,
    Utilisation,
)
from autoscaler.policy import BlindGrowth, Policy
from autoscaler.state.transitions import MAX_OPEN_OPERATIONS
from tests.decide.builders import (
    NOW_S,
    Machine,
    bare,
    decided,
    full,
    instance,
    launch,
    node,
    opened,
    policy,
    removal,
    snapshot,
    static,
    use,
    waiting_pods,
    worker,
)

ALERT = Notice(kind="blind_alert", subject="f1@t1", received_at_s=NOW_S)


@pytest.mark.parametrize(
    ("workers", "pods", "state", "its_policy", "expected"),
    [
        pytest.param(2, 4, State(), policy(), (2, "pods_unschedulable"), id="all that the pods need"),
        pytest.param(2, 50, State(), policy(high=30), (25, "pods_unschedulable"), id="50 pods: 25 workers at once"),
        pytest.param(2, 50, State(), policy(), (8, "pods_unschedulable"), id="no more than max"),
        pytest.param(9, 50, State(), policy(), (1, "pods_unschedulable"), id="the last one below max"),
        pytest.param(10, 2, State(), policy(), (0, "at_max"), id="none at max"),
        pytest.param(11, 2, State(), policy(), (0, "at_max"), id="none above max"),
        pytest.param(2, 50, State(), policy(max_step=3), (3, "pods_unschedulable"), id="no more than max_step"),
        pytest.param(9, 50, State(), policy(max_step=3), (1, "pods_unschedulable"), id="max before max_step"),
        pytest.param(1, 0, State(), policy(), (1, "below_min"), id="up to min"),
        pytest.param(0, 0, State(), policy(low=3), (3, "below_min"), id="from nothing"),
        pytest.param(0, 0, State(), policy(low=0), (0, "at_min"), id="zero may be enough"),
        pytest.param(1, 0, State(launches=(launch(),)), policy(), (0, "waiting_for_nodes"), id="joining counts to min"),
        pytest.param(
            8, 50, State(launches=(launch(count=2),)), policy(), (0, "at_max"), id="what was asked for counts to max"
        ),
    ],
)
def test_growth_and_its_limits(
    workers: int, pods: int, state: State, its_policy: Policy, expected: tuple[int, str]
) -> None:
    decision = decided(snapshot(workers, waiting_pods(pods)), state, its_policy)
    assert (decision.growth.count if decision.growth else 0, decision.reason) == expected


@pytest.mark.parametrize(
    "extra",
    [
        pytest.param(bare(9), id="an instance of ours without a Node"),
        pytest.param(worker(9, ready=False), id="a NotReady worker"),
        pytest.param(worker(9, cordoned=True), id="a cordoned worker"),
        pytest.param(static(9), id="a static worker"),
        pytest.param(
            Machine(instance=instance(9, managed=False), node=worker(9).node),
            id="a static worker with the cluster's tag",
        ),
    ],
)
def test_everything_that_lives_counts_against_max(extra: Machine) -> None:
    at_max = [*(full(n) for n in range(1, 4)), extra]
    decision = decided(snapshot(at_max, waiting_pods(2, cpu=1900)), its_policy=policy(high=4))
    assert (decision.action, decision.reason) == (Action.HELD_BACK, "at_max")


@pytest.mark.parametrize(
    ("operation", "count"),
    [
        pytest.param(removal(4, RemovalPhase.TERMINATING), 0, id="one that leaves counts until it is gone"),
        pytest.param(removal(4, reclaim=True), 1, id="one that EC2 takes away does not"),
        pytest.param(removal(4, RemovalPhase.DELETING), 1, id="a dead one does not"),
    ],
)
def test_leaving_workers_and_max(operation: RemovalOperation, count: int) -> None:
    seen = snapshot([*(full(n) for n in range(1, 5))], waiting_pods(2))
    decision = decided(seen, State(removals=(operation,)), policy(high=4))
    assert (decision.growth.count if decision.growth else 0) == count


def test_no_operation_is_opened_beyond_the_limit() -> None:
    launches = tuple(launch(f"l{n}", ids=[100 + n], age_s=5) for n in range(MAX_OPEN_OPERATIONS))
    machines = [full(1), full(2), *(bare(100 + n, launched_at_s=NOW_S - 5) for n in range(MAX_OPEN_OPERATIONS))]
    pods = waiting_pods(200)
    decision = decided(snapshot(machines, pods), State(launches=launches), policy(high=100))
    assert (decision.action, decision.reason) == (Action.HELD_BACK, "state_full")
    assert len(decision.state.launches) == MAX_OPEN_OPERATIONS


def test_fifty_pods_get_their_workers_at_once_and_no_more_while_they_join() -> None:
    seen, chosen = snapshot(2, waiting_pods(50)), policy(high=30)
    first = opened(seen, None, chosen)
    assert first.action is Action.SCALE_UP
    assert sum(operation.request.count for operation in first.state.launches) == 25
    second = decided(msgspec.structs.replace(seen, taken_at_s=NOW_S + 10, metrics_at_s=NOW_S + 10), first.state, chosen)
    assert (second.action, second.growth, second.reason) == (Action.NONE, None, "waiting_for_nodes")


# ---------------------------------------------------------------------------------------------------------- utilisation


@pytest.mark.parametrize(
    ("ready", "cpu", "memory", "count", "reason"),
    [
        pytest.param(4, 0.71, 0.1, 1, "cpu_high", id="just above the threshold: one"),
        pytest.param(4, 0.70, 0.1, 0, "no_candidate", id="at the threshold: none"),
        pytest.param(4, 1.00, 0.1, 2, "cpu_high", id="ceil(4 x 1.00 / 0.70) = 6"),
        pytest.param(4, 0.1, 0.81, 1, "memory_high", id="memory has its own threshold"),
        pytest.param(4, 0.1, 0.80, 0, "no_candidate", id="memory at its threshold"),
        pytest.param(4, 1.00, 0.81, 2, "cpu_high", id="the larger demand wins"),
        pytest.param(8, 1.00, 0.1, 2, "cpu_high", id="not beyond max"),
    ],
)
def test_use_that_stays_high(ready: int, cpu: float, memory: float, count: int, reason: str) -> None:
    decision = decided(snapshot(ready, utilisation=use(cpu=cpu, memory=memory)))
    assert (decision.growth.count if decision.growth else 0) == count
    assert decision.reason == reason


def test_use_that_was_high_only_now_is_not_high() -> None:
    [cpu, memory] = use(cpu=0.95)
    spike = msgspec.structs.replace(cpu, grow_min=0.5)
    assert decided(snapshot(4, utilisation=(spike, memory))).growth is None


@pytest.mark.parametrize("field", ["now_low", "grow_min"])
def test_use_that_is_not_known_asks_for_nothing(field: str) -> None:
    [cpu, memory] = use(cpu=0.95)
    unknown = msgspec.structs.replace(cpu, **{field: None})
    assert decided(snapshot(4, utilisation=(unknown, memory))).growth is None


def test_high_use_asks_for_no_more_while_enough_are_joining() -> None:
    state = State(launches=(launch(count=2),))
    assert decided(snapshot(4, utilisation=use(cpu=1.0)), state).growth is None


def test_partial_metrics_still_grow_for_pods_that_wait() -> None:
    seen = snapshot(2, waiting_pods(2), status=MetricsStatus.PARTIAL, known=True)
    assert decided(seen).action is Action.SCALE_UP


def test_an_unknown_cluster_is_never_computed_from() -> None:
    seen = snapshot(0, waiting_pods(9), status=MetricsStatus.PARTIAL, known=False, utilisation=use(cpu=1.0))
    decision = decided(seen)
    assert (decision.action, decision.reason, decision.growth) == (Action.HELD_BACK, "metrics_partial", None)


# ------------------------------------------------------------------------------------------------- take back, not Ready


@pytest.mark.parametrize(
    ("workers", "utilisation", "launched"),
    [
        pytest.param([full(1), full(2)], use(), 0, id="below min"),
        pytest.param([*(full(n) for n in range(1, 5))], use(cpu=0.9), 0, id="use is high"),
        pytest.param([*(full(n) for n in range(1, 5))], use(cpu=1.0), 1, id="use is so high that one is not enough"),
    ],
)
def test_a_drain_is_undone_rather_than_a_worker_launched(
    workers: list[Machine], utilisation: tuple[Utilisation, ...], launched: int
) -> None:
    seen = snapshot(workers, utilisation=utilisation)
    decision = decided(seen, State(removals=(removal(1),)))
    assert [r.phase for r in decision.state.removals] == [RemovalPhase.UNCORDONING]
    assert (decision.growth.count if decision.growth else 0) == launched


@pytest.mark.parametrize(
    ("machines", "count"),
    [
        pytest.param([full(1), worker(2, ready=False)], 0, id="NotReady for a moment: it comes back"),
        pytest.param([full(1), worker(2, ready=False, unready_long=None)], 0, id="NotReady, nobody knows how long"),
        pytest.param([worker(1, ready=False), worker(2, ready=False)], 0, id="all at once: the server restarts"),
        pytest.param(
            [worker(n, ready=False, unready_long=True) for n in (1, 2, 3)], 0, id="all for long: the cause is elsewhere"
        ),
        pytest.param([full(1), static(2, ready=False, unready_long=True)], 1, id="a static one that is gone for good"),
        pytest.param([full(1), worker(2, ready=False, unready_long=True)], 1, id="one of ours, as it is replaced"),
        pytest.param([full(1), bare(2)], 1, id="an instance that lost its Node gives nothing"),
    ],
)
def test_min_waits_for_workers_that_are_not_ready_for_a_moment(machines: list[Machine], count: int) -> None:
    decision = decided(snapshot(machines))
    assert (decision.growth.count if decision.growth else 0) == count


# --------------------------------------------------------------------------------------------------------- blind growth


@pytest.mark.parametrize(
    ("notices", "state", "its_policy", "count"),
    [
        pytest.param((ALERT,), State(), policy(), 1, id="one step an alert"),
        pytest.param((), State(), policy(), 0, id="nothing without an alert"),
        pytest.param((msgspec.structs.replace(ALERT, handled=True),), State(), policy(), 0, id="once an alert"),
        pytest.param((ALERT,), State(launches=(launch(),)), policy(), 0, id="nothing while workers join"),
        pytest.param((ALERT,), State(), policy(high=2), 0, id="not beyond max"),
        pytest.param((ALERT,), State(), policy(high=3, blind_growth=BlindGrowth(step=5)), 1, id="up to max"),
        pytest.param((ALERT,), State(), policy(blind_growth=BlindGrowth(step=5)), 5, id="the policy's step"),
        pytest.param((ALERT,), State(), policy(blind_growth=BlindGrowth(step=0)), 0, id="0 = never"),
    ],
)
def test_blind_growth(notices: tuple[Notice, ...], state: State, its_policy: Policy, count: int) -> None:
    seen = snapshot([worker(1), worker(2)], status=MetricsStatus.UNAVAILABLE)
    state = msgspec.structs.replace(state, notices=notices, unlisted_workers=0)
    decision = decided(seen, state, its_policy)
    assert (decision.growth.count if decision.growth else 0) == count
    assert decision.nodes.ready is None
    if count:
        assert (decision.reason, [n.handled for n in decision.state.notices]) == ("blind_growth", [True])


def test_blind_growth_counts_tagged_static_workers_whose_nodes_nobody_sees() -> None:
    static_instance = Machine(instance=instance(3, managed=False), node=None)
    seen = snapshot([worker(1), worker(2), static_instance], status=MetricsStatus.UNAVAILABLE)
    assert decided(seen, State(notices=(ALERT,), unlisted_workers=0), policy(high=3)).growth is None


@pytest.mark.parametrize(
    ("unlisted", "count", "reason"),
    [(0, 3, "blind_growth"), (1, 2, "blind_growth"), (3, 0, "at_max"), (9, 0, "at_max"), (None, 0, "never_seen")],
)
def test_blind_growth_counts_workers_as_they_were_last_seen(unlisted: int | None, count: int, reason: str) -> None:
    seen = snapshot([worker(1), worker(2)], status=MetricsStatus.UNAVAILABLE)
    its_policy = policy(high=5, blind_growth=BlindGrowth(step=5))
    decision = decided(seen, State(notices=(ALERT,), unlisted_workers=unlisted), its_policy)
    assert (decision.growth.count if decision.growth else 0, decision.reason) == (count, reason)


@pytest.mark.parametrize(
    ("machine", "unlisted"),
    [
        (static(1), 1),
        (static(1, ready=False), 1),
        (worker(1), 0),
        (bare(1), 0),
        (Machine(instance=instance(1, managed=False), node=node(1)), 0),
    ],
)
def test_workers_that_only_their_nodes_show(machine: Machine, unlisted: int) -> None:
    assert view_fleet(snapshot([worker(2), machine]), State()).unlisted == unlisted


def test_an_alert_is_answered_from_the_metrics_while_they_can_be_asked() -> None:
    for status in (MetricsStatus.OK, MetricsStatus.PARTIAL):
        seen = snapshot(2, status=status)
        assert decided(seen, State(notices=(ALERT,))).growth is None


def test_which_instance_types_growth_beyond_the_pods_gets() -> None:
    decision = decided(snapshot(1, waiting_pods(1)), its_policy=policy(low=4, types=("t3.small", "t3.xlarge")))
    assert decision.growth is not None
    assert decision.growth.workers == (NewWorkers("t3.small", 3),)
