"""What EC2 takes away: drained at once, without the checks, in its time."""

from typing import Any

import pytest

from autoscaler.model import (
    Action,
    CommandOutcome,
    InstanceState,
    MetricsStatus,
    Notice,
    RemovalOperation,
    RemovalPhase,
    State,
)
from autoscaler.state.transitions import MAX_OPEN_OPERATIONS
from tests.decide.builders import (
    NOW_S,
    Machine,
    bare,
    full,
    iid,
    instance,
    launch,
    node,
    notice,
    pod,
    removal,
    static,
    told,
    worker,
)
from tests.decide.removal.looks import begun, look

Phase = RemovalPhase


@pytest.mark.parametrize("kind", ["interruption", "retirement"])
@pytest.mark.parametrize("status", list(MetricsStatus))
def test_a_notice_drains_at_once_whatever_the_metrics(kind: str, status: MetricsStatus) -> None:
    changes: dict[str, Any] = {"status": status, "known": status is MetricsStatus.OK}
    near = notice(1, kind, due_at_s=NOW_S + 600)
    decision = look(worker(1), state=State(fence=9, notices=(near,)), **changes)
    [operation] = decision.state.removals
    assert begun(decision) == [(iid(1), kind, Phase.DRAINING)]
    assert (operation.reclaim, operation.node_name, operation.fence) == (True, "worker-i-001", 10)
    assert operation.provider_id == "aws:///us-east-1b/i-001"
    assert [n.handled for n in decision.state.notices] == [True]
    assert decision.state.last_scale_down_s is None
    assert decision.action is Action.REPAIR


@pytest.mark.parametrize(
    "machine",
    [
        pytest.param(static(1), id="a static worker"),
        pytest.param(Machine(instance=instance(1, managed=False), node=node(1)), id="tagged and not ours"),
        pytest.param(bare(1, state=InstanceState.TERMINATED), id="dead: no drain"),
        pytest.param(bare(1, state=InstanceState.SHUTTING_DOWN), id="dying: no drain"),
        pytest.param(full(9), id="unknown here"),
    ],
)
def test_notices_that_are_not_for_us_are_done_with(machine: Machine) -> None:
    decision = look(machine, state=State(notices=(notice(1),)))
    assert begun(decision) == []
    assert [n.handled for n in decision.state.notices] == [True]


def test_a_rebalance_recommendation_drains_nothing() -> None:
    assert begun(look(worker(1), state=State(notices=(notice(1, "rebalance"),)))) == []


def test_a_notice_is_answered_once() -> None:
    first = look(worker(1), state=State(notices=(notice(1),)))
    second = look(worker(1), state=first.state, commands=told(CommandOutcome.RUNNING))
    assert len(second.state.removals) == 1


def test_one_that_never_joined_is_terminated() -> None:
    state = State(notices=(notice(1),), launches=(launch(ids=[1]),))
    assert begun(look(bare(1, launched_at_s=NOW_S - 30), state=state)) == [(iid(1), "interruption", Phase.TERMINATING)]


def test_a_worker_whose_pods_fit_nowhere_else_is_replaced_at_once() -> None:
    decision = look(worker(1, pods=[pod("a"), pod("b")]), state=State(notices=(notice(1),), last_scale_up_s=NOW_S))
    assert decision.growth is not None
    assert (decision.growth.count, decision.reason) == (1, "interruption")
    assert decision.message == "Launching 1 worker: EC2 takes a worker back and its pods need room."


def test_a_worker_whose_pods_fit_elsewhere_is_not_replaced() -> None:
    decision = look(worker(1, pods=[pod("a")]), worker(2), state=State(notices=(notice(1),)))
    assert decision.growth is None


@pytest.mark.parametrize(
    ("operation", "replaced"),
    [
        pytest.param(removal(1), True, id="drains with the pods' own grace: a short drain takes over"),
        pytest.param(removal(1, Phase.UNCORDONING), True, id="comes back: it goes after all"),
        pytest.param(removal(1, Phase.TERMINATING), False, id="is being terminated"),
        pytest.param(removal(1, reclaim=True), False, id="is being reclaimed already"),
    ],
)
def test_a_notice_on_a_worker_that_is_leaving_already(operation: RemovalOperation, replaced: bool) -> None:
    state = State(fence=9, notices=(notice(1),), removals=(operation,))
    decision = look(worker(1), state=state, commands=told(CommandOutcome.RUNNING))
    [left] = decision.state.removals
    assert [n.handled for n in decision.state.notices] == [True]
    assert (left.operation_id != operation.operation_id) is replaced
    if replaced:
        assert (left.phase, left.reclaim, left.command) == (Phase.DRAINING, True, None)
        assert left.fence > operation.fence, "a higher fence stops the command that runs"
        assert (left.node_name, left.provider_id) == (operation.node_name, operation.provider_id)


def test_a_notice_on_a_refused_drain_is_not_a_reason_to_terminate_undrained() -> None:
    """The preflight refused the ordinary drain; the reclaim drain has fewer checks and must be tried first."""
    state = State(notices=(notice(1),), removals=(removal(1),))
    decision = look(worker(1), state=state, commands=told(CommandOutcome.REFUSED, rule="bare_pod"))
    assert [r.phase for r in decision.state.removals] == [Phase.DRAINING]


def test_a_notice_waits_while_the_state_is_full() -> None:
    removals = tuple(
        removal(200 + n, Phase.TERMINATING, operation_id=f"r{n}", sent=False) for n in range(MAX_OPEN_OPERATIONS)
    )
    state = State(notices=(notice(1),), removals=removals)
    decision = look(worker(1), *(worker(200 + n) for n in range(MAX_OPEN_OPERATIONS)), state=state)
    assert begun(decision) == []
    assert [n.handled for n in decision.state.notices] == [False]


@pytest.mark.parametrize(
    ("kind", "received_s", "due_in_s", "expected"),
    [
        pytest.param("interruption", 0, 120, "begins", id="Spot's two minutes"),
        pytest.param("interruption", 0, None, "begins", id="an interruption that does not say when is now"),
        pytest.param("interruption", -86_400, -86_280, "over", id="saved during a pause, and it still runs"),
        pytest.param("retirement", -86_400, 1800, "begins", id="near its start: a reclaim"),
        pytest.param("retirement", 0, 1801, "waits", id="there is time: an ordinary removal"),
        pytest.param("retirement", 0, 14 * 86_400, "waits", id="two weeks ahead"),
        pytest.param("retirement", 0, None, "waits", id="it does not say when: with all checks"),
        pytest.param("retirement", -8 * 86_400, -7 * 86_400, "over", id="of last week"),
    ],
)
def test_a_notice_counts_at_its_time(kind: str, received_s: int, due_in_s: int | None, expected: str) -> None:
    due_at_s = None if due_in_s is None else NOW_S + due_in_s
    told_of = notice(1, kind, received_at_s=NOW_S + received_s, due_at_s=due_at_s)
    decision = look(worker(1, pods=[pod("db", owner_kind="StatefulSet")]), state=State(fence=9, notices=(told_of,)))
    reclaimed = [r for r in decision.state.removals if r.reclaim]
    assert bool(reclaimed) is (expected == "begins")
    assert [n.handled for n in decision.state.notices] == [expected != "waits"]


@pytest.mark.parametrize(
    ("told_of", "due_at_s"),
    [
        pytest.param(notice(1, due_at_s=NOW_S + 90), NOW_S + 90, id="as the event says"),
        pytest.param(notice(1), NOW_S - 1 + 120, id="two minutes after it came, where it does not say"),
        pytest.param(notice(1, "retirement", due_at_s=NOW_S + 900), NOW_S + 900, id="a retirement's start"),
    ],
)
def test_a_reclaim_knows_when_its_time_is_up(told_of: Notice, due_at_s: int) -> None:
    [operation] = look(worker(1), state=State(notices=(told_of,))).state.removals
    assert operation.due_at_s == due_at_s


def test_before_a_retirement_a_machine_without_a_node_is_not_ended_on_absence() -> None:
    """Spot takes it in two minutes; a retirement leaves half an hour in which it may register, under any name."""
    state = State(notices=(notice(1, "retirement", due_at_s=NOW_S + 900),), launches=(launch(ids=[1]),))
    decision = look(bare(1, launched_at_s=NOW_S - 30), state=state)
    assert begun(decision) == [(iid(1), "retirement", Phase.DRAINING)]
