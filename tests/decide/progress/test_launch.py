"""What a look says about a launch that is under way."""

from typing import Any

import msgspec
import pytest

from autoscaler.model import InstanceState, LaunchOperation, MetricsStatus, RemovalPhase, State
from autoscaler.state.transitions import MAX_OPEN_OPERATIONS
from tests.decide.builders import (
    NOW_S,
    Machine,
    bare,
    decided,
    full,
    ghost,
    iid,
    launch,
    policy,
    removal,
    snapshot,
    worker,
)

YOUNG = NOW_S - 60


def after(
    operation: LaunchOperation, *machines: Machine, at_s: int = NOW_S, **changes: Any
) -> tuple[LaunchOperation | None, State]:
    """The launch after a look, and the whole state."""
    base = [full(101), full(102)]
    state = decided(snapshot([*base, *machines], at_s=at_s, **changes), State(launches=(operation,))).state
    return (state.launches[0] if state.launches else None), state


@pytest.mark.parametrize(
    ("node_changes", "is_over"),
    [
        pytest.param({}, True, id="Ready: over"),
        pytest.param({"ready": False}, False, id="NotReady: waited for"),
        pytest.param({"ready": None}, False, id="not known: waited for"),
        pytest.param({"tainted": True, "starting": True}, False, id="Ready with a start-up taint: waited for"),
        pytest.param({"tainted": True}, True, id="Ready has joined, whatever other taints say"),
        pytest.param({"cordoned": True}, True, id="somebody's cordon is not ours to wait for"),
    ],
)
def test_when_a_worker_has_joined(node_changes: dict[str, Any], is_over: bool) -> None:
    left, _ = after(launch(ids=[1]), worker(1, of={"launched_at_s": YOUNG}, **node_changes))
    assert (left is None) is is_over


def test_how_long_the_last_joins_took_is_remembered() -> None:
    """Schedules are served ahead by it. A worker that is waited for, or lost, says nothing."""
    young = {"launched_at_s": YOUNG}
    machines = [worker(1, of=young), worker(2, of=young), bare(3, launched_at_s=YOUNG)]
    operation = launch(ids=[1, 2, 3], age_s=41)
    before = State(launches=(operation,), join_times_s=(70,) * 7)
    assert decided(snapshot(machines), before).state.join_times_s == (70, 70, 70, 70, 70, 70, 41, 41)
    lost = State(launches=(launch(ids=[1], age_s=700),))
    assert decided(snapshot([bare(1, launched_at_s=NOW_S - 700)]), lost).state.join_times_s == ()


def test_an_answer_that_is_not_whole_proves_no_node_ready() -> None:
    """The soak, seed 214: of a broken image's Node the row that says NotReady was among those that did not arrive."""
    young = worker(1, of={"launched_at_s": YOUNG})
    left, _ = after(launch(ids=[1]), young, status=MetricsStatus.PARTIAL, known=False)
    assert left is not None


@pytest.mark.parametrize("taint", [{"tainted": True}, {"tainted": True, "starting": True}])
def test_a_ready_worker_is_never_ended_for_its_taints(taint: dict[str, Any]) -> None:
    """A taint of the operator's own, a pressure, a start-up taint that somebody forgot: pods may run there."""
    old = {"launched_at_s": NOW_S - policy().workers.join_timeout_s - 1}
    left, state = after(launch(ids=[1]), worker(1, of=old, **taint))
    assert (left, state.removals, state.join_failures) == (None, (), None)


def test_a_launch_stays_open_until_the_last_has_joined() -> None:
    left, _ = after(launch(ids=[1, 2]), worker(1, of={"launched_at_s": YOUNG}), bare(2, launched_at_s=YOUNG))
    assert left is not None
    assert (left.instance_ids, left.finished_ids) == ((iid(2),), (iid(1),))


def test_one_that_joined_and_fails_later_is_not_joining_any_more() -> None:
    """Its launch is open because of another: it must not be waited for, nor hide from repair."""
    operation = launch(ids=[2], finished=[1], operation_id="l1")
    machines = [
        worker(1, ready=False, unready_long=True, of={"operation_id": "l1"}),
        bare(2, launched_at_s=YOUNG, operation_id="l1"),
        *(full(n) for n in range(101, 105)),
    ]
    decision = decided(snapshot(machines), State(launches=(operation,)))
    assert [r.reason for r in decision.state.removals] == ["not_ready"]
    assert decision.nodes.joining == 1


# --------------------------------------------------------------------------------------------------------- adopt by tag


def test_instances_with_the_operations_tag_are_adopted() -> None:
    left, _ = after(launch(count=2), bare(1, operation_id="l1", launched_at_s=YOUNG))
    assert left is not None
    assert (left.instance_ids, left.landed, left.unidentified) == ((iid(1),), True, 1)


@pytest.mark.parametrize(
    "machine",
    [
        pytest.param(bare(1, operation_id="other", launched_at_s=YOUNG), id="another operation's"),
        pytest.param(bare(1, operation_id="l1", managed=False), id="not ours, whatever its tag"),
    ],
)
def test_what_is_not_adopted(machine: Machine) -> None:
    left, _ = after(launch(count=1), machine)
    assert left is not None
    assert (left.instance_ids, left.landed) == ((), False)


def test_one_that_joined_already_is_not_adopted_again_nor_counted_for_another() -> None:
    operation = launch(count=2, finished=[1], landed=True, unidentified=1, age_s=30)
    decision = decided(
        snapshot([full(101), full(102), worker(1, of={"operation_id": "l1"})]), State(launches=(operation,))
    )
    [left] = decision.state.launches
    assert (left.instance_ids, left.unidentified) == ((), 1)
    assert decision.nodes.joining == 1


@pytest.mark.parametrize(
    ("age_s", "unidentified"),
    [
        pytest.param(299, 1, id="more may still appear"),
        pytest.param(300, 0, id="after 300 s DescribeInstances has settled"),
    ],
)
def test_how_long_unidentified_workers_are_expected(age_s: int, unidentified: int) -> None:
    operation = launch(ids=[1], landed=True, unidentified=1, age_s=age_s)
    left, _ = after(operation, bare(1, launched_at_s=YOUNG))
    assert left is not None
    assert left.unidentified == unidentified


def test_a_launch_that_is_sent_again_settles_from_then() -> None:
    first, _ = after(launch(count=2, age_s=590))
    assert first is not None
    assert first.sent_at_s == NOW_S
    second, _ = after(first, bare(1, operation_id="l1", launched_at_s=NOW_S), at_s=NOW_S + 20)
    assert second is not None
    assert (second.landed, second.unidentified) == (True, 1)


def test_a_launch_that_is_sent_again_within_the_same_second_is_no_first_copy() -> None:
    left, _ = after(launch(count=2, age_s=0))
    assert left is not None
    assert left.sent_at_s is not None
    assert left.sent_at_s > left.created_at_s


# ------------------------------------------------------------------------------------------------- absent, late or dead


def test_an_instance_that_is_not_listed_is_given_up_after_two_looks_five_minutes_apart() -> None:
    first, _ = after(launch(ids=[1]))
    assert first is not None
    assert first.absent_since_s == ((iid(1), NOW_S),)
    second, _ = after(first, at_s=NOW_S + 299)
    assert second is not None
    third, state = after(second, at_s=NOW_S + 300)
    assert third is None
    assert state.removals == ()


def test_an_instance_that_is_listed_again_starts_anew() -> None:
    first, _ = after(launch(ids=[1]))
    assert first is not None
    second, _ = after(first, bare(1, launched_at_s=YOUNG), at_s=NOW_S + 100)
    assert second is not None
    assert second.absent_since_s == ()


def test_of_one_that_has_not_joined_in_time_a_server_is_asked() -> None:
    left, state = after(launch(ids=[1], age_s=700), bare(1, launched_at_s=NOW_S - 601))
    assert left is None
    assert [(r.instance_id, r.phase, r.reason, r.node_name) for r in state.removals] == [
        (iid(1), RemovalPhase.INSPECTING, "join_timeout", "")
    ]
    assert state.last_scale_down_s is None


@pytest.mark.parametrize(
    ("launched_at_s", "changes"),
    [
        pytest.param(NOW_S - 600, {}, id="not before the time-out is over"),
        pytest.param(NOW_S - 9000, {"status": MetricsStatus.UNAVAILABLE}, id="never while Prometheus cannot be asked"),
        pytest.param(NOW_S - 9000, {"status": MetricsStatus.PARTIAL, "known": False}, id="never with nodes unknown"),
    ],
)
def test_missing_metrics_never_end_a_worker(launched_at_s: int, changes: dict[str, Any]) -> None:
    left, state = after(launch(ids=[1], age_s=9000), bare(1, launched_at_s=launched_at_s), **changes)
    assert left is not None
    assert state.removals == ()


@pytest.mark.parametrize(
    ("machine", "phases"),
    [
        pytest.param(
            bare(1, state=InstanceState.TERMINATED), [], id="terminated before it had a Node: nothing is left"
        ),
        pytest.param(bare(1, state=InstanceState.SHUTTING_DOWN), [], id="it ended itself"),
        pytest.param(bare(1, managed=False), [], id="too late, and somebody took our tag away: not ours to end"),
        pytest.param(
            worker(1, ready=False, of={"state": InstanceState.TERMINATED}),
            [RemovalPhase.DELETING],
            id="terminated: its Node is deleted",
        ),
        pytest.param(
            worker(1, ready=False, of={"state": InstanceState.SHUTTING_DOWN}),
            [],
            id="shutting down: its Node goes only after `terminated`",
        ),
        pytest.param(bare(1, state=InstanceState.STOPPED), [], id="stopped: it may be started again"),
    ],
)
def test_one_that_died_while_joining(machine: Machine, phases: list[RemovalPhase]) -> None:
    left, state = after(launch(ids=[1]), machine)
    assert left is None
    assert [r.phase for r in state.removals] == phases


def test_a_time_out_waits_where_no_operation_may_be_opened() -> None:
    removals = tuple(
        removal(200 + n, RemovalPhase.TERMINATING, operation_id=f"r{n}") for n in range(MAX_OPEN_OPERATIONS)
    )
    machines = [full(101), full(102), bare(1, launched_at_s=NOW_S - 9000), *(worker(200 + n) for n in range(50))]
    state = decided(snapshot(machines), State(launches=(launch(ids=[1]),), removals=removals)).state
    assert [operation.instance_ids for operation in state.launches] == [(iid(1),)]
    assert len(state.removals) == MAX_OPEN_OPERATIONS


# -------------------------------------------------------------------------------------------------------- left no trace


@pytest.mark.parametrize(
    ("age_s", "is_over"),
    [pytest.param(599, False, id="sent again until it is 600 s old"), pytest.param(600, True, id="then given up")],
)
def test_a_launch_without_a_trace(age_s: int, is_over: bool) -> None:
    left, _ = after(launch(count=2, age_s=age_s))
    assert (left is None) is is_over


def test_a_launch_that_landed_without_a_trace_is_over_once_settled() -> None:
    """EC2 knew the token (IdempotentParameterMismatch), and nothing of it is to be seen."""
    assert after(launch(landed=True, unidentified=1, age_s=299))[0] is not None
    assert after(launch(landed=True, unidentified=1, age_s=300))[0] is None


def test_a_node_that_is_ready_counts_although_ec2_does_not_list_it_yet() -> None:
    left, _ = after(launch(ids=[1]), ghost(1))
    assert left is None


def test_ids_only_accumulate() -> None:
    operation = launch(count=3, ids=[1])
    left, _ = after(
        msgspec.structs.replace(operation, unidentified=2),
        bare(1, launched_at_s=YOUNG),
        bare(2, operation_id="l1", launched_at_s=YOUNG),
    )
    assert left is not None
    assert left.instance_ids == (iid(1), iid(2))
    assert left.unidentified == 1
