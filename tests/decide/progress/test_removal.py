"""A worker on its way out: every answer in every phase, and never a step back."""

from typing import Any

import msgspec
import pytest

from autoscaler.decide.progress.draining import SEND_ATTEMPTS
from autoscaler.model import (
    CommandOutcome,
    InstanceState,
    MetricsStatus,
    RemovalOperation,
    RemovalPhase,
)
from autoscaler.policy import Drain
from autoscaler.state.transitions import _FORWARD, ForbiddenTransition, enter_phase
from tests.decide.builders import (
    NOW_S,
    bare,
    ghost,
    pod,
    policy,
    removal,
    told,
    waiting_pods,
    worker,
)
from tests.decide.progress.looks import left_of, look, phase_of

Phase = RemovalPhase
Outcome = CommandOutcome
FORCE = policy(drain=Drain(force=True))


# ------------------------------------------------------------------------------------------- what came of the command


@pytest.mark.parametrize(
    ("phase", "outcome", "expected"),
    [
        (Phase.DRAINING, Outcome.RUNNING, Phase.DRAINING),
        (Phase.DRAINING, Outcome.SUCCEEDED, Phase.TERMINATING),
        (Phase.DRAINING, Outcome.REFUSED, None),
        (Phase.DRAINING, Outcome.NO_SUCH_NODE, None),
        (Phase.DRAINING, Outcome.BLOCKED_BY_BUDGET, Phase.UNCORDONING),
        (Phase.DRAINING, Outcome.TIMED_OUT, Phase.UNCORDONING),
        (Phase.DRAINING, Outcome.FENCED_OFF, None),
        (Phase.DRAINING, Outcome.FAILED, Phase.UNCORDONING),
        (Phase.DRAINING, Outcome.API_UNREACHABLE, Phase.DRAINING),
        (Phase.DRAINING, Outcome.UNDELIVERED, Phase.DRAINING),
        (Phase.UNCORDONING, Outcome.RUNNING, Phase.UNCORDONING),
        (Phase.UNCORDONING, Outcome.SUCCEEDED, None),
        (Phase.UNCORDONING, Outcome.NO_SUCH_NODE, None),
        (Phase.UNCORDONING, Outcome.REFUSED, Phase.UNCORDONING),
        (Phase.UNCORDONING, Outcome.BLOCKED_BY_BUDGET, Phase.UNCORDONING),
        (Phase.UNCORDONING, Outcome.TIMED_OUT, Phase.UNCORDONING),
        (Phase.UNCORDONING, Outcome.FENCED_OFF, Phase.UNCORDONING),
        (Phase.UNCORDONING, Outcome.FAILED, Phase.UNCORDONING),
        (Phase.UNCORDONING, Outcome.API_UNREACHABLE, Phase.UNCORDONING),
        (Phase.UNCORDONING, Outcome.UNDELIVERED, Phase.UNCORDONING),
        (Phase.DELETING, Outcome.RUNNING, Phase.DELETING),
        (Phase.DELETING, Outcome.SUCCEEDED, None),
        (Phase.DELETING, Outcome.NO_SUCH_NODE, None),
        (Phase.DELETING, Outcome.REFUSED, Phase.DELETING),
        (Phase.DELETING, Outcome.BLOCKED_BY_BUDGET, Phase.DELETING),
        (Phase.DELETING, Outcome.TIMED_OUT, Phase.DELETING),
        (Phase.DELETING, Outcome.FENCED_OFF, Phase.DELETING),
        (Phase.DELETING, Outcome.FAILED, Phase.DELETING),
        (Phase.DELETING, Outcome.API_UNREACHABLE, Phase.DELETING),
        (Phase.DELETING, Outcome.UNDELIVERED, Phase.DELETING),
    ],
)
def test_every_answer_in_every_phase(phase: Phase, outcome: Outcome, expected: Phase | None) -> None:
    gone = worker(1, ready=False, of={"state": InstanceState.TERMINATED})
    machine = gone if phase is Phase.DELETING else worker(1, cordoned=True)
    assert phase_of(look(removal(1, phase), machine, commands=told(outcome))) is expected


def test_the_rows_above_cover_every_answer_and_phase() -> None:
    rows = test_every_answer_in_every_phase.pytestmark[0].args[1]  # type: ignore[attr-defined]  # set by the decorator
    assert {(row[0], row[1]) for row in rows} == {
        (phase, outcome) for phase in (Phase.DRAINING, Phase.UNCORDONING, Phase.DELETING) for outcome in Outcome
    }


@pytest.mark.parametrize(
    ("outcome", "reclaim", "its_policy", "expected"),
    [
        pytest.param(Outcome.TIMED_OUT, False, FORCE, Phase.TERMINATING, id="force ends what did not drain in time"),
        pytest.param(Outcome.BLOCKED_BY_BUDGET, False, FORCE, Phase.UNCORDONING, id="and nothing else: budgets hold"),
        pytest.param(Outcome.REFUSED, False, FORCE, None, id="nor what the preflight refused"),
        pytest.param(Outcome.TIMED_OUT, True, None, Phase.TERMINATING, id="EC2 takes it: out of time"),
        pytest.param(Outcome.BLOCKED_BY_BUDGET, True, None, Phase.TERMINATING, id="EC2 takes it: a budget in the way"),
        pytest.param(Outcome.FAILED, True, None, Phase.TERMINATING, id="EC2 takes it: the drain failed"),
    ],
)
def test_who_is_terminated_without_a_drain(
    outcome: Outcome, reclaim: bool, its_policy: Any, expected: Phase | None
) -> None:
    decision = look(removal(1, reclaim=reclaim), commands=told(outcome), its_policy=its_policy)
    assert phase_of(decision) is expected


@pytest.mark.parametrize("outcome", [Outcome.REFUSED, Outcome.TIMED_OUT, Outcome.BLOCKED_BY_BUDGET])
def test_a_failed_drain_is_remembered_with_its_reason(outcome: Outcome) -> None:
    decision = look(removal(1), commands=told(outcome, rule="budget shop/web"))
    [refusal] = decision.state.held_workers
    assert (refusal.node_name, refusal.until_s) == ("worker-i-001", NOW_S + 1800)
    assert refusal.reason == f"drain {outcome.value} (budget shop/web)"


@pytest.mark.parametrize(
    ("outcome", "evicted", "costs"),
    [
        (Outcome.SUCCEEDED, 0, True),
        (Outcome.REFUSED, 0, False),
        (Outcome.REFUSED, 2, True),  # in the middle: a person opened the Node again, or an admission refused
        (Outcome.NO_SUCH_NODE, 0, False),
        (Outcome.BLOCKED_BY_BUDGET, 0, False),
        (Outcome.BLOCKED_BY_BUDGET, 1, True),
        (Outcome.FENCED_OFF, 0, False),
        (Outcome.TIMED_OUT, 0, True),
        (Outcome.FAILED, 0, True),
        (Outcome.RUNNING, 0, False),
        (Outcome.UNDELIVERED, 0, False),
        (Outcome.API_UNREACHABLE, 0, True),
    ],
)
@pytest.mark.parametrize("scale_down", [True, False])
def test_a_drain_begins_a_cool_down_when_something_goes(
    outcome: Outcome, evicted: int, costs: bool, scale_down: bool
) -> None:
    """A refusal that changed nothing costs none, nor does a removal that is no shrink."""
    operation = removal(1, attempts=4, scale_down=scale_down)
    decision = look(operation, worker(1, cordoned=True), commands=told(outcome, evicted_pods=evicted))
    assert decision.state.last_scale_down_s == (NOW_S if costs and scale_down else None)
    undone = costs and scale_down and outcome is not Outcome.SUCCEEDED
    assert decision.state.last_undone_s == (NOW_S if undone else None), "what ended well has no cool-down"


def test_a_worker_that_is_taken_back_begins_a_cool_down() -> None:
    decision = look(removal(1, scale_down=True), pods=waiting_pods(2), commands=told(Outcome.RUNNING))
    assert (decision.state.last_scale_down_s, decision.state.last_undone_s) == (NOW_S, NOW_S)


@pytest.mark.parametrize("scale_down", [True, False])
@pytest.mark.parametrize(
    ("phase", "outcome"),
    [
        pytest.param(Phase.DRAINING, Outcome.SUCCEEDED, id="drained, and pods run there again"),
        pytest.param(Phase.DRAINED, None, id="drained a while ago"),
        pytest.param(Phase.TERMINATING, None, id="about to be ended, and held back till then"),
    ],
)
def test_a_worker_that_was_drained_and_is_given_back_begins_a_cool_down(
    phase: Phase, outcome: Outcome | None, scale_down: bool
) -> None:
    operation = removal(
        1, phase, age_s=2000, sent=outcome is not None, scale_down=scale_down, held_since_s=NOW_S - 2000
    )
    again = worker(1, cordoned=True, pods=[pod("again")])
    decision = look(operation, again, commands=told(outcome) if outcome is not None else ())
    left = left_of(decision)
    assert left is not None
    assert left.phase is Phase.UNCORDONING
    assert decision.state.last_undone_s == (NOW_S if scale_down else None)


def test_what_an_admission_refused_is_given_back_since_a_copy_of_the_command_may_cordon_it_yet() -> None:
    """Each copy is judged anew, and the answer to a send may be lost: the uncordon's higher fence stops the other."""
    left = left_of(look(removal(1), commands=told(Outcome.REFUSED, rule="admission")))
    assert left is not None
    assert (left.phase, left.fence > removal(1).fence) == (Phase.UNCORDONING, True)
    assert left_of(look(removal(1), commands=told(Outcome.REFUSED, rule="bare_pod"))) is None


def test_a_drain_that_came_too_late_has_judged_nothing_and_is_sent_again() -> None:
    decision = look(removal(1), commands=told(Outcome.REFUSED, rule="late"))
    left = left_of(decision)
    assert left is not None
    assert (left.phase, left.command, left.attempts, left.not_after_s) == (Phase.DRAINING, None, 1, NOW_S + 120)
    assert decision.state.held_workers == ()


# ----------------------------------------------------------------------------------------------- deadlines and attempts


@pytest.mark.parametrize(
    ("age_s", "expected"),
    [
        pytest.param(480, Phase.DRAINING, id="120 s to start + 300 s to drain + 60 s"),
        pytest.param(481, Phase.UNCORDONING, id="then it never reported"),
    ],
)
@pytest.mark.parametrize("answers", [(), told(Outcome.RUNNING)], ids=["not known", "running"])
@pytest.mark.parametrize("its_policy", [None, FORCE], ids=["ordinary", "force"])
def test_a_drain_that_never_reports(age_s: int, expected: Phase, answers: Any, its_policy: Any) -> None:
    assert phase_of(look(removal(1, age_s=age_s), commands=answers, its_policy=its_policy)) is expected


@pytest.mark.parametrize(
    ("age_s", "attempts", "not_after_s"),
    [
        pytest.param(120, 0, NOW_S, id="it may still be sent"),
        pytest.param(121, 1, NOW_S + 120, id="too late: with a new time"),
    ],
)
@pytest.mark.parametrize("phase", [Phase.DRAINING, Phase.UNCORDONING, Phase.DELETING])
def test_a_command_that_was_not_sent(phase: Phase, age_s: int, attempts: int, not_after_s: int) -> None:
    machine = worker(1, of={"state": InstanceState.TERMINATED}) if phase is Phase.DELETING else worker(1)
    left = left_of(look(removal(1, phase, age_s=age_s, sent=False), machine))
    assert left is not None
    assert (left.command, left.attempts, left.not_after_s, left.fence) == (None, attempts, not_after_s, 3)


@pytest.mark.parametrize(
    ("phase", "attempts", "sent", "reclaim", "expected"),
    [
        pytest.param(Phase.DRAINING, SEND_ATTEMPTS - 2, True, False, Phase.DRAINING, id="a drain is delivered again"),
        pytest.param(Phase.DRAINING, SEND_ATTEMPTS - 1, True, False, Phase.UNCORDONING, id="so many times"),
        pytest.param(Phase.DRAINING, SEND_ATTEMPTS, False, False, Phase.UNCORDONING, id="no server takes it"),
        pytest.param(Phase.DRAINING, 99, True, True, Phase.DRAINING, id="EC2 takes it: as long as there is time"),
        pytest.param(Phase.DRAINING, 99, False, True, Phase.DRAINING, id="EC2 takes it: no server takes the command"),
        pytest.param(Phase.UNCORDONING, 99, True, False, Phase.UNCORDONING, id="an uncordon is never given up"),
        pytest.param(Phase.DELETING, 99, True, False, Phase.DELETING, id="a deletion is never given up"),
    ],
)
def test_attempts(phase: Phase, attempts: int, sent: bool, reclaim: bool, expected: Phase) -> None:
    machine = worker(1, of={"state": InstanceState.TERMINATED}) if phase is Phase.DELETING else worker(1)
    operation = removal(1, phase, attempts=attempts, sent=sent, reclaim=reclaim)
    decision = look(operation, machine, commands=told(Outcome.UNDELIVERED) if sent else ())
    assert phase_of(decision) is expected


def test_a_resend_keeps_the_phases_fence_so_that_the_first_copy_may_go_on() -> None:
    left = left_of(look(removal(1), commands=told(Outcome.UNDELIVERED)))
    assert left is not None
    assert (left.fence, left.command, left.attempts) == (3, None, 1)


def test_an_uncordon_gets_the_next_fence_so_that_a_running_drain_stops() -> None:
    left = left_of(look(removal(1), commands=told(Outcome.TIMED_OUT)))
    assert left is not None
    assert (left.fence, left.command, left.attempts, left.not_after_s) == (10, None, 0, NOW_S + 120)
    assert left.failure == "drain timed_out"


@pytest.mark.parametrize("phase", [Phase.UNCORDONING, Phase.DELETING])
def test_what_was_fenced_off_goes_out_with_the_present_fence(phase: Phase) -> None:
    """A state that was restored from a backup is behind its Nodes: the same fence would be refused for ever."""
    machine = worker(1, of={"state": InstanceState.TERMINATED}) if phase is Phase.DELETING else worker(1)
    left = left_of(look(removal(1, phase), machine, commands=told(Outcome.FENCED_OFF)))
    assert left is not None
    assert (left.fence, left.command) == (NOW_S + 1, None)


def test_a_reclaimed_worker_whose_drain_was_fenced_off_is_drained_with_a_higher_fence() -> None:
    decision = look(removal(1, age_s=3, reclaim=True, reason="retirement"), commands=told(Outcome.FENCED_OFF))
    left = left_of(decision)
    assert left is not None
    assert (left.phase, left.fence, left.command) == (Phase.DRAINING, NOW_S + 1, None)


# ------------------------------------------------------------------------------------------------------------ take back


@pytest.mark.parametrize(
    ("operation", "expected"),
    [
        pytest.param(removal(1), Phase.UNCORDONING, id="while it drains"),
        pytest.param(removal(1, sent=False), Phase.UNCORDONING, id="before the drain was sent: it may have been"),
        pytest.param(removal(1, Phase.DRAINED), Phase.UNCORDONING, id="drained and not yet terminated"),
        pytest.param(removal(1, Phase.TERMINATING), Phase.TERMINATING, id="never once terminating"),
        pytest.param(removal(1, reclaim=True), Phase.DRAINING, id="never what EC2 takes"),
    ],
)
def test_pods_that_it_could_take_bring_a_worker_back(operation: RemovalOperation, expected: Phase) -> None:
    decision = look(operation, worker(1, cordoned=True), pods=waiting_pods(2), commands=told(Outcome.RUNNING))
    assert phase_of(decision) is expected
    assert bool(decision.state.held_workers) == (expected is Phase.UNCORDONING)


def test_a_worker_comes_back_after_its_drain_and_before_its_end() -> None:
    decision = look(removal(1), pods=waiting_pods(2), commands=told(Outcome.SUCCEEDED))
    assert phase_of(decision) is Phase.UNCORDONING


def test_a_worker_whose_tag_somebody_took_away_is_given_back() -> None:
    machine = worker(1, of={"managed": False})
    assert phase_of(look(removal(1), machine, commands=told(Outcome.SUCCEEDED))) is Phase.UNCORDONING
    assert phase_of(look(removal(1, reclaim=True), machine, commands=told(Outcome.RUNNING))) is Phase.UNCORDONING


def test_a_drained_worker_goes_on_to_its_end() -> None:
    assert phase_of(look(removal(1, Phase.DRAINED), worker(1, cordoned=True))) is Phase.TERMINATING


# ------------------------------------------------------------------------------------------------------------- the end


@pytest.mark.parametrize(
    ("phase", "state", "expected"),
    [
        (Phase.TERMINATING, InstanceState.RUNNING, Phase.TERMINATING),
        (Phase.TERMINATING, InstanceState.SHUTTING_DOWN, Phase.TERMINATING),
        (Phase.TERMINATING, InstanceState.STOPPED, Phase.TERMINATING),
        (Phase.TERMINATING, InstanceState.TERMINATED, Phase.DELETING),
        (Phase.DRAINING, InstanceState.SHUTTING_DOWN, Phase.DRAINING),
        (Phase.DRAINING, InstanceState.TERMINATED, Phase.DELETING),
        (Phase.DRAINING, InstanceState.STOPPED, Phase.DRAINING),
        (Phase.UNCORDONING, InstanceState.TERMINATED, Phase.DELETING),
        (Phase.DELETING, InstanceState.TERMINATED, Phase.DELETING),
    ],
)
def test_the_node_is_deleted_only_once_the_instance_is_terminated(
    phase: Phase, state: InstanceState, expected: Phase
) -> None:
    machine = worker(1, ready=False, cordoned=True, of={"state": state})
    decision = look(removal(1, phase), machine, commands=told(Outcome.RUNNING))
    left = left_of(decision)
    assert left is not None
    assert left.phase is expected
    assert (left.command is None) == (expected is not phase)


def test_one_that_never_was_a_node_is_over_when_it_is_terminated() -> None:
    operation = removal(1, Phase.TERMINATING, node_name="", sent=False)
    assert phase_of(look(operation, bare(1, state=InstanceState.RUNNING))) is Phase.TERMINATING
    assert phase_of(look(operation, bare(1, state=InstanceState.TERMINATED))) is None


def test_an_instance_that_is_not_listed_counts_as_gone_after_two_looks_five_minutes_apart() -> None:
    first = left_of(look(removal(1, Phase.TERMINATING, sent=False), ghost(1)))
    assert first is not None
    assert (first.phase, first.absent_since_s) == (Phase.TERMINATING, NOW_S)
    asked = frozenset({"i-001"})
    assert phase_of(look(first, ghost(1), at_s=NOW_S + 299, looked_up=asked)) is Phase.TERMINATING
    assert phase_of(look(first, ghost(1), at_s=NOW_S + 300, looked_up=asked)) is Phase.DELETING
    unasked = look(first, ghost(1), at_s=NOW_S + 300)
    assert (phase_of(unasked), unasked.asks.instances) == (Phase.TERMINATING, ("i-001",))
    listed_again = left_of(look(first, worker(1, cordoned=True), at_s=NOW_S + 300))
    assert listed_again is not None
    assert (listed_again.phase, listed_again.absent_since_s) == (Phase.TERMINATING, None)


@pytest.mark.parametrize(
    ("changes", "sent", "expected"),
    [
        pytest.param({}, False, None, id="the metrics show no such Node: somebody deleted it"),
        pytest.param({"status": MetricsStatus.PARTIAL, "known": False}, False, Phase.DELETING, id="nodes not known"),
        pytest.param({"status": MetricsStatus.UNAVAILABLE}, False, Phase.DELETING, id="Prometheus not asked"),
        pytest.param({}, True, Phase.DELETING, id="our command is under way: its answer is waited for"),
    ],
)
def test_a_node_that_is_gone_already(changes: dict[str, Any], sent: bool, expected: Phase | None) -> None:
    dead = bare(1, state=InstanceState.TERMINATED)
    assert phase_of(look(removal(1, Phase.DELETING, sent=sent), dead, **changes)) is expected


def test_removals_go_on_without_metrics() -> None:
    decision = look(removal(1), status=MetricsStatus.UNAVAILABLE, commands=told(Outcome.SUCCEEDED, evicted_pods=3))
    assert phase_of(decision) is Phase.TERMINATING
    assert "worker-i-001 is drained (3 pods evicted)" in decision.done


# ------------------------------------------------------------------------------------------------------ never backwards


@pytest.mark.parametrize("before", list(Phase))
@pytest.mark.parametrize("after", list(Phase))
def test_phases_only_move_forward(before: Phase, after: Phase) -> None:
    operation = removal(1, before, attempts=2, failure="why")
    if after in _FORWARD[before]:
        moved = enter_phase(operation, after, now_s=NOW_S, fence=5, not_after_s=NOW_S + 1)
        assert (moved.phase, moved.command, moved.attempts, moved.fence) == (after, None, 0, 5)
        assert (moved.phase_since_s, moved.not_after_s, moved.failure) == (NOW_S, NOW_S + 1, "why")
    else:
        with pytest.raises(ForbiddenTransition, match=f"from {before.value} to {after.value}"):
            enter_phase(operation, after, now_s=NOW_S, fence=5, not_after_s=NOW_S)


def test_from_terminating_a_worker_is_given_back_or_gone_and_never_drained_again() -> None:
    reachable: set[Phase] = set()
    todo = [Phase.TERMINATING]
    while todo:
        for following in _FORWARD[todo.pop()] - reachable:
            reachable.add(following)
            todo.append(following)
    assert reachable == {Phase.UNCORDONING, Phase.DELETING}


def test_nothing_else_of_the_operation_changes() -> None:
    operation = removal(1)
    left = left_of(look(operation, commands=told(Outcome.SUCCEEDED)))
    assert left is not None
    for name in ("operation_id", "instance_id", "node_name", "provider_id", "created_at_s", "reason", "reclaim"):
        assert getattr(left, name) == getattr(operation, name)
    assert msgspec.structs.replace(operation, phase=Phase.DRAINED) != operation
