"""Launches of which no worker stays: what counts as one, how long the next waits, how many it may be, what ends it."""

from typing import Any

import pytest

from autoscaler.model import (
    Action,
    CommandOutcome,
    Decision,
    HeldWorker,
    InstanceState,
    JoinFailures,
    OwnerLaunches,
    RemovalPhase,
    Removed,
    State,
)
from autoscaler.policy import ScaleDown
from autoscaler.state.memory import (
    JOIN_WAIT_S,
    MAX_JOIN_WAIT_S,
    METRICS_LAG_S,
    PROVEN_AFTER_S,
    join_failed,
    worker_joined,
    workers_stay,
)
from tests.decide.builders import (
    NOW_S,
    Machine,
    bare,
    decided,
    full,
    iid,
    launch,
    notice,
    pod,
    policy,
    removal,
    snapshot,
    told,
    use,
    waiting,
    waiting_pods,
    worker,
)

CALM = use(cpu=0.5)
FULL = [full(n) for n in range(101, 105)]
NOT_READY: dict[str, Any] = {"ready": False, "unready_long": True}


def failures(count: int, *, ago_s: int = 4000, wait_s: int = 0, after_ready: bool = True) -> JoinFailures:
    failed_at_s = NOW_S - ago_s
    return JoinFailures(failures=count, failed_at_s=failed_at_s, until_s=failed_at_s + wait_s, after_ready=after_ready)


def look(*machines: Machine, state: State | None = None, **changes: Any) -> Decision:
    seen = snapshot([*FULL, *machines], **{"utilisation": CALM, **changes})
    return decided(seen, state if state is not None else State(fence=9), policy(high=30))


def aged(age_s: int) -> dict[str, Any]:
    return {"launched_at_s": NOW_S - age_s}


# ------------------------------------------------------------------------------------------------------- what counts


@pytest.mark.parametrize(
    ("machine", "counts"),
    [
        pytest.param(worker(1, of={**aged(200), "state": InstanceState.TERMINATED}), True, id="died young"),
        pytest.param(worker(1, of={**aged(PROVEN_AFTER_S - 1), "state": InstanceState.TERMINATED}), True, id="almost"),
        pytest.param(worker(1, of={**aged(PROVEN_AFTER_S), "state": InstanceState.TERMINATED}), False, id="died old"),
        pytest.param(
            worker(1, of={**aged(200), "state": InstanceState.TERMINATED, "managed": False}), False, id="not ours"
        ),
        pytest.param(worker(1, of=aged(700), **NOT_READY), True, id="NotReady from 400 s on"),
        pytest.param(worker(1, of=aged(PROVEN_AFTER_S + 299), **NOT_READY), True, id="NotReady just in time"),
        pytest.param(worker(1, of=aged(PROVEN_AFTER_S + 300), **NOT_READY), False, id="worked for half an hour"),
        pytest.param(worker(1, of=aged(700), **NOT_READY, local_volumes=1), False, id="NotReady and kept"),
        pytest.param(worker(1, of=aged(700), ready=False, unready_long=False), False, id="NotReady for a moment"),
        pytest.param(worker(1, of=aged(700)), False, id="well"),
    ],
)
def test_a_worker_that_is_lost_young_counts(machine: Machine, *, counts: bool) -> None:
    expected = JoinFailures(failures=1, failed_at_s=NOW_S, until_s=NOW_S, after_ready=True)
    assert look(machine).state.join_failures == (expected if counts else None)


KMS = "Client.InvalidKMSKey.InvalidState: The KMS key provided is in an incorrect state"


def test_why_ec2_ended_it_is_told_counted_with_it_and_named_while_launches_wait() -> None:
    """aws/karpenter-provider-aws #1407: the console output of such an instance is empty."""
    ended = bare(1, **aged(40), state=InstanceState.TERMINATED, operation_id="l1", state_reason=KMS)
    known = State(fence=9, launches=(launch("l1", ids=[1]),), join_failures=failures(1))
    decision = look(ended, state=known, pods=waiting_pods(4))
    assert decision.done == (f"instance i-001 ended (terminated: {KMS}) before its Node was Ready",)
    assert decision.state.join_failures is not None
    assert (decision.state.join_failures.failures, decision.state.join_failures.cause) == (2, KMS)
    assert (decision.action, decision.reason) == (Action.HELD_BACK, "join_backoff")
    assert f"(EC2 ended the last: {KMS})" in decision.message


def test_why_ec2_ended_one_that_was_ready_is_told() -> None:
    shortage = "Server.SpotInstanceTermination"
    ended = worker(1, of={**aged(200), "state": InstanceState.TERMINATED, "state_reason": shortage})
    decision = look(ended)
    assert decision.done == (f"worker-i-001 lost its instance ({shortage}): its Node is deleted",)
    assert decision.state.join_failures is not None
    assert decision.state.join_failures.cause == shortage


def test_a_living_machine_has_no_reason_for_its_end() -> None:
    """EC2 keeps the reason of the last change: a machine that was stopped and started may still show it."""
    late = bare(1, **aged(700), operation_id="l1", state_reason="Client.UserInitiatedShutdown")
    decision = look(late, state=State(fence=9, launches=(launch("l1", ids=[1]),)))
    assert decision.state.join_failures is not None
    assert decision.state.join_failures.cause == ""


@pytest.mark.parametrize("reclaim", [True, False])
def test_one_that_we_remove_or_ec2_takes_is_no_failure(reclaim: bool) -> None:
    going = State(fence=9, removals=(removal(1, RemovalPhase.TERMINATING, reclaim=reclaim),))
    ended = worker(1, of={**aged(200), "state": InstanceState.TERMINATED})
    assert look(ended, state=going).state.join_failures is None
    gone = told(CommandOutcome.SUCCEEDED)
    deleting = State(fence=9, removals=(removal(1, RemovalPhase.DELETING, reclaim=reclaim),))
    after = look(ended, state=deleting, commands=gone)
    assert (after.state.removals, after.state.join_failures) == ((), None)
    later = look(ended, state=after.state, at_s=NOW_S + 20)
    assert (later.action, later.done, later.state) == (Action.NONE, (), after.state), "the metrics lag: nothing is new"


@pytest.mark.parametrize("reclaim", [True, False])
def test_one_that_we_remove_while_it_joins_is_no_failure(reclaim: bool) -> None:
    ended = bare(1, **aged(200), state=InstanceState.SHUTTING_DOWN, operation_id="l1")
    going = removal(1, RemovalPhase.TERMINATING, reclaim=reclaim, node_name="")
    decision = look(ended, state=State(fence=9, launches=(launch("l1", ids=[1]),), removals=(going,)))
    assert (decision.state.launches, decision.state.removals, decision.state.join_failures) == ((), (going,), None)


def test_one_that_ec2_took_before_we_drained_it_is_no_failure() -> None:
    ended = worker(1, of={**aged(200), "state": InstanceState.TERMINATED})
    assert look(ended, state=State(fence=9, notices=(notice(1),))).state.join_failures is None
    young = bare(1, **aged(60), state=InstanceState.TERMINATED, operation_id="l1")
    noticed = State(fence=9, notices=(notice(1, handled=True),), launches=(launch("l1", ids=[1]),))
    assert look(young, state=noticed).state.join_failures is None
    late = bare(1, **aged(700), operation_id="l1")
    assert look(late, state=noticed).state.join_failures is not None, "it had its time, whatever EC2 says now"


def test_a_node_that_registers_again_after_its_removal_is_deleted_and_is_no_failure() -> None:
    removed = Removed(instance_id=iid(1), ended_at_s=NOW_S - METRICS_LAG_S)
    decision = look(
        worker(1, of={**aged(900), "state": InstanceState.TERMINATED}), state=State(fence=9, removed=(removed,))
    )
    assert [(r.instance_id, r.phase) for r in decision.state.removals] == [(iid(1), RemovalPhase.DELETING)]
    assert decision.state.join_failures is None


def test_several_of_one_wave_are_one_failure() -> None:
    dead = [worker(n, of={**aged(200 + n), "state": InstanceState.TERMINATED}) for n in (1, 2, 3)]
    found = look(*dead).state.join_failures
    assert found is not None
    assert found.failures == 1
    late = worker(4, of={**aged(300), "state": InstanceState.TERMINATED})
    known = State(fence=9, join_failures=failures(3, ago_s=100))
    assert look(late, state=known).state.join_failures == known.join_failures, "launched before the last failure"


# ---------------------------------------------------------------------------------------- how long, how many


def test_the_wait_doubles_from_the_second_failure_on() -> None:
    state, waits = State(), []
    for number in range(7):
        at_s = NOW_S + number * 10_000
        state = join_failed(state, launched_at_s=at_s - 100, now_s=at_s)
        assert state.join_failures is not None
        waits.append(state.join_failures.until_s - at_s)
    assert waits == [0, JOIN_WAIT_S, 2 * JOIN_WAIT_S, 4 * JOIN_WAIT_S, *[MAX_JOIN_WAIT_S] * 3]


@pytest.mark.parametrize(
    ("known", "young", "joining", "count"),
    [
        pytest.param(failures(1), 0, 0, 10, id="one failure is tolerated"),
        pytest.param(failures(2), 0, 0, 1, id="then a probe"),
        pytest.param(failures(2, ago_s=100, wait_s=600), 0, 0, 0, id="not before its time"),
        pytest.param(failures(2), 0, 1, 0, id="not while one is on its way"),
        pytest.param(failures(2), 1, 0, 1, id="one stays: one more"),
        pytest.param(failures(2), 3, 0, 3, id="three stay: three more"),
        pytest.param(failures(5), 12, 0, 10, id="never more than are wanted"),
        pytest.param(failures(5, after_ready=False), 2, 0, 2, id="whatever the failures were"),
    ],
)
def test_how_many_may_be_launched(known: JoinFailures, young: int, joining: int, count: int) -> None:
    stayed = [full(n, of=aged(900)) for n in range(1, young + 1)]
    launches = (launch("l1", ids=[50], age_s=60),) if joining else ()
    coming = [bare(50, **aged(60), operation_id="l1")] if joining else []
    decision = look(
        *stayed, *coming, state=State(fence=9, join_failures=known, launches=launches), pods=waiting_pods(20 + joining)
    )
    assert (decision.growth.count if decision.growth else 0) == count
    if count < 10:
        assert decision.reason in {"join_backoff", "pods_unschedulable"}


def test_an_old_worker_is_no_witness() -> None:
    decision = look(state=State(fence=9, join_failures=failures(2)), pods=waiting_pods(8))
    assert decision.growth is not None
    assert decision.growth.count == 1, "the four old ones are Ready, and prove nothing about what is launched now"


# ---------------------------------------------------------------------------------------- what ends it


@pytest.mark.parametrize(
    ("age_s", "changes", "ends"),
    [
        (PROVEN_AFTER_S, {}, True),
        (PROVEN_AFTER_S - 1, {}, False),
        (4001, {}, False),  # launched before the last failure
        (PROVEN_AFTER_S, {"ready": False}, False),
        (PROVEN_AFTER_S, {"of": {"managed": False}}, False),
    ],
)
def test_a_worker_that_stays_ends_it(age_s: int, changes: dict[str, Any], *, ends: bool) -> None:
    of = {**aged(age_s), **changes.pop("of", {})}
    decision = look(full(1, of=of, **changes), state=State(fence=9, join_failures=failures(4)))
    assert (decision.state.join_failures is None) is ends
    assert any("launches are trusted again" in event for event in decision.done) is ends


def test_one_that_joins_ends_failures_to_join_only() -> None:
    never, after = (State(join_failures=failures(3, after_ready=was)) for was in (False, True))
    assert worker_joined(never).join_failures is None
    assert worker_joined(after) == after
    assert workers_stay(after).join_failures is None


def test_once_a_worker_was_lost_after_it_was_ready_later_failures_keep_that() -> None:
    state = join_failed(State(), launched_at_s=0, now_s=10, after_ready=True)
    state = join_failed(state, launched_at_s=20, now_s=30)
    assert state.join_failures is not None
    assert (state.join_failures.failures, state.join_failures.after_ready) == (2, True)


# ------------------------------------------------------------------------------ a place that the scheduler does not use


def test_nobody_is_drained_onto_a_worker_that_no_pod_can_use() -> None:
    """An empty worker is no place for others' pods while pods wait that the model would put there."""
    machines = [worker(1, pods=[pod("p1", cpu=300)]), worker(2, pods=[pod("p2", cpu=1700)]), worker(3), worker(4)]
    young = ScaleDown(cool_down_s=0, min_age_s=0)
    its_policy = policy(low=1, down=young)
    empty_stay = {f"worker-i-00{n}" for n in (3, 4)}
    held = tuple(HeldWorker(node_name=n, reason="x", until_s=NOW_S + 99) for n in sorted(empty_stay))
    stuck = waiting("stuck", for_s=500, cpu=500, owner_name="odd")
    record = OwnerLaunches(
        owner="shop/ReplicaSet/odd", launched_at_s=NOW_S - 300, zones=(), unhelped=2, retry_at_s=NOW_S + 600
    )
    alone = decided(snapshot(machines), State(fence=9, held_workers=held), its_policy)
    assert [r.instance_id for r in alone.state.removals] == ["i-001"], "its pod fits on an empty one"
    beside = decided(snapshot(machines, [stuck]), State(fence=9, held_workers=held, owners=(record,)), its_policy)
    assert beside.state.removals == ()
    assert {b.subject: b.reason for b in beside.blocked}["worker-i-001"].startswith("no_room")
    empties = decided(snapshot(machines, [stuck]), State(fence=9, owners=(record,)), its_policy)
    assert [r.instance_id for r in empties.state.removals] == ["i-003", "i-004"], "the empty ones go"


@pytest.mark.parametrize(
    ("of", "changes"),
    [({}, {"control_plane": True}), ({"server": True}, {}), ({"managed": False}, {})],
)
def test_a_machine_that_became_a_server_or_somebody_elses_is_not_ended_for_not_joining(
    of: dict[str, Any], changes: dict[str, Any]
) -> None:
    late = worker(1, of={**aged(9000), "operation_id": "l1", **of}, ready=False, **changes)
    decision = look(late, state=State(fence=9, launches=(launch("l1", ids=[1], age_s=9000),)))
    assert (decision.state.launches, decision.state.removals) == ((), ())
