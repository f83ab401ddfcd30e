"""What a server's answer about a machine makes of its worker: nothing goes on a name or an absence."""

from typing import Any

import pytest

from autoscaler.act.effects import SendCommand, Terminate, due_effects
from autoscaler.cli.teardown.memory import Memory, Wishes
from autoscaler.cli.teardown.plan import RETRY_S, Plan, plan_teardown
from autoscaler.model import (
    CommandOutcome,
    CommandResult,
    Found,
    InstanceState,
    JoinFailures,
    State,
    Verb,
)
from autoscaler.policy import LEAST_DRAIN_S, Interruption
from tests.cli.teardown.answers import (
    ASKING,
    BARE,
    DATA,
    DEAD,
    DRAINED,
    ENDED,
    FORCE,
    FORCED,
    FRESH,
    HELD,
    NAMELESS,
    NO_NODE,
    OLD,
    RENAMED,
    STAYS,
    STOPPED,
    YOUNG,
    Phase,
    answered,
    asked,
    look,
    node,
    plan,
    refused,
    under_way,
)
from tests.decide.builders import NOW_S, bare, iid, policy, removal

# --------------------------------------------------------------------------------------------------- one row an answer


@pytest.mark.parametrize(
    ("instance", "result", "expected"),
    [
        pytest.param(OLD, node(movable_pods=3), DRAINED, id="Ready: drained under the name that the server told"),
        pytest.param(OLD, node(), DRAINED, id="Ready and empty: drained as well, pods may come"),
        pytest.param(OLD, node(local_volumes=DATA), DRAINED, id="Ready with volumes: the drain's own checks refuse"),
        pytest.param(YOUNG, node(), DRAINED, id="young and Ready"),
        pytest.param(OLD, node(ready=False, movable_pods=2), DRAINED, id="NotReady, but its pods may still run"),
        pytest.param(OLD, node(ready=False), ENDED, id="NotReady with nothing on it: ended"),
        pytest.param(OLD, node(ready=False, ending_pods=4), ENDED, id="NotReady, its pods given up: ended"),
        pytest.param(YOUNG, node(ready=False), ENDED, id="registered a moment ago, with nothing on it: ended"),
        pytest.param(OLD, node(ready=False, local_volumes=DATA), STAYS, id="NotReady with volumes: it stays"),
        pytest.param(OLD, node(ready=False, local_volumes=DATA, movable_pods=1), STAYS, id="and with pods too"),
        pytest.param(YOUNG, NO_NODE, STAYS, id="no Node yet: it may still join"),
        pytest.param(OLD, NO_NODE, NAMELESS, id="no Node, and it had its time: ended"),
        pytest.param(OLD, refused("identity"), STAYS, id="another machine's Node, or one without a provider-id"),
        pytest.param(OLD, refused("control-plane"), STAYS, id="a server with a worker's tags"),
        pytest.param(STOPPED, node(movable_pods=2), ENDED, id="stopped, its Node still shown as Ready: nothing runs"),
        pytest.param(STOPPED, node(ready=False, local_volumes=DATA), STAYS, id="stopped with volumes: it stays"),
        pytest.param(STOPPED, node(local_volumes=DATA), STAYS, id="stopped with volumes, still shown as Ready"),
        pytest.param(YOUNG | STOPPED, NO_NODE, NAMELESS, id="stopped without a Node: it will not join"),
        pytest.param(DEAD, node(ready=False), (Phase.DELETING, RENAMED, False), id="dead: its Node is deleted"),
        pytest.param(DEAD, node(), (Phase.DELETING, RENAMED, False), id="dead, its Node still shown as Ready"),
        pytest.param(DEAD, NO_NODE, STAYS, id="dead without a Node: over"),
        pytest.param(DEAD, refused("identity"), STAYS, id="dead, and whose Node it is is not known: over"),
        pytest.param(
            {"state": InstanceState.SHUTTING_DOWN}, node(), STAYS, id="EC2 ends it: its Node is asked for after"
        ),
        pytest.param({"managed": False}, node(ready=False), STAYS, id="somebody took our tag away"),
    ],
)
def test_what_a_server_says_decides(
    instance: dict[str, Any], result: CommandResult, expected: tuple[Phase, str, bool] | None
) -> None:
    assert under_way(answered(result, instance)) == expected


UNANSWERED = [
    *(
        CommandResult(outcome=outcome, message="words")
        for outcome in CommandOutcome
        if outcome not in {CommandOutcome.RUNNING, CommandOutcome.NO_SUCH_NODE}
    ),
    refused("late"),
    refused("input"),
]


@pytest.mark.parametrize("result", UNANSWERED, ids=lambda r: f"{r.outcome} {r.rule}")
@pytest.mark.parametrize("wishes", [Wishes(), FORCE], ids=["", "force"])
def test_no_answer_keeps_it_is_told_and_goes_to_the_next_server(result: CommandResult, wishes: Wishes) -> None:
    done = answered(result, OLD, wishes=wishes, memory=HELD)
    assert under_way(done) == ASKING
    [operation] = done.state.removals
    assert (operation.command, operation.attempts) == (None, 1)
    assert any("no server says what it holds" in event for event in done.said)


@pytest.mark.parametrize("result", [None, CommandResult(outcome=CommandOutcome.RUNNING)])
def test_an_answer_is_waited_for(result: CommandResult | None) -> None:
    done = answered(result, OLD)
    assert done.state.removals == (asked(),)
    assert done.said == ()


@pytest.mark.parametrize("result", [NO_NODE, node(ready=False), node()])
def test_an_answer_to_what_another_process_asked_long_ago_says_nothing_about_now(result: CommandResult) -> None:
    done = answered(result, OLD, operation=asked(age_s=121))
    assert under_way(done) == ASKING
    assert done.state.removals[0].command is None


def test_a_young_worker_is_asked_about_again_and_again_until_it_had_its_time() -> None:
    done = answered(NO_NODE, YOUNG)
    assert "i-001 has no Node yet: it is asked again until it is 600 s old" in done.said
    assert (done.memory.tried_s, done.stopped, done.done) == ({iid(1): NOW_S}, False, False)
    later = plan_teardown(
        look(bare(1, **YOUNG)), done.state, policy(), Wishes(), done.memory, now_s=NOW_S + RETRY_S, decision_id="d2"
    )
    assert under_way(later) == ASKING


def test_volumes_that_keep_a_worker_are_named_and_stop_the_teardown() -> None:
    many = Found(count=3, names=("pvc-7",))
    done = answered(node(ready=False, local_volumes=many), OLD)
    why = "i-001: its Node worker-i-001-1f2e3d4c is not Ready and holds node-local volumes (pvc-7 and 2 more)."
    assert (done.memory.refused, done.stopped) == ({iid(1): why}, True)


def test_nothing_more_is_emptied_once_another_worker_stands_against_it() -> None:
    other = Memory(refused={iid(2): "it stays"}, refused_since_s={iid(2): NOW_S})
    assert under_way(answered(node(), OLD, memory=other)) is None
    assert under_way(answered(node(), OLD, memory=other, wishes=FORCE)) == DRAINED


def test_a_drain_goes_out_under_what_the_server_told_with_an_operation_of_its_own() -> None:
    seen = look(bare(1), result=node())
    done = plan(seen, State(fence=9, removals=(asked(),)))
    [effect] = due_effects(done.state, seen, policy())
    assert isinstance(effect, SendCommand)
    command = effect.command
    assert (command.verb, command.node_name, command.provider_id) == (Verb.DRAIN, RENAMED, "aws:///us-east-1b/i-001")
    assert (command.operation_id, command.reclaim) == ("d1-001", False)


@pytest.mark.parametrize("reason", ["no_node", "not_ready", "join_timeout"])
@pytest.mark.parametrize(("result", "expected"), [(node(), DRAINED), (NO_NODE, NAMELESS), (refused("identity"), STAYS)])
def test_a_question_of_the_autoscaler_is_taken_over(
    reason: str, result: CommandResult, expected: tuple[Phase, str, bool] | None
) -> None:
    done = answered(result, OLD, operation=asked(reason=reason, node_name="worker-i-001"))
    assert (under_way(done) or (None,))[0] == (expected or (None,))[0]
    assert done.state.held_workers == (), "a Ready worker is no refusal of a teardown"


@pytest.mark.parametrize(("result", "failures"), [(node(), None), (NO_NODE, 1)])
def test_a_worker_that_came_late_is_no_failed_launch_after_a_resume(
    result: CommandResult, failures: int | None
) -> None:
    counted = JoinFailures(failures=1, failed_at_s=NOW_S - 30, until_s=NOW_S - 30)
    state = State(fence=9, removals=(asked(reason="join_timeout"),), join_failures=counted)
    after = plan(look(bare(1), result=result), state).state.join_failures
    assert (after.failures if after is not None else None) == failures


# --------------------------------------------------------------------------------------------------------------- force


@pytest.mark.parametrize(
    ("instance", "result", "expected", "lost"),
    [
        pytest.param(OLD, node(local_volumes=DATA, bare_pods=BARE, movable_pods=1), FORCED,
                     "node-local volumes (pvc-7) and pods without a controller (batch/job)", id="Ready"),
        pytest.param(OLD, node(ready=False, local_volumes=DATA), ENDED, "node-local volumes (pvc-7)", id="NotReady"),
        pytest.param(OLD, node(ready=False, local_volumes=DATA, movable_pods=1), FORCED,
                     "node-local volumes (pvc-7)", id="NotReady, its pods may still run"),
        pytest.param(STOPPED, node(local_volumes=DATA), ENDED, "node-local volumes (pvc-7)", id="stopped"),
    ],
)  # fmt: skip
def test_force_overrules_what_held_it_for_a_drains_time_and_says_what_is_lost(
    instance: dict[str, Any], result: CommandResult, expected: tuple[Phase, str, bool], lost: str
) -> None:
    done = answered(result, instance, wishes=FORCE, memory=HELD)
    assert under_way(done) == expected
    assert any(event.endswith(f"; lost with it: {lost}") for event in done.said)


@pytest.mark.parametrize(("wishes", "memory"), [(FORCE, FRESH), (FORCE, Memory()), (Wishes(), HELD)])
def test_before_that_and_without_it_nothing_is_overruled(wishes: Wishes, memory: Memory) -> None:
    held = answered(node(ready=False, local_volumes=DATA), OLD, wishes=wishes, memory=memory)
    assert under_way(held) is None
    assert iid(1) in held.memory.refused


@pytest.mark.parametrize("rule", ["identity", "control-plane"])
@pytest.mark.parametrize("drain", [False, True], ids=["asked", "drained without checks"])
def test_what_a_machine_is_stands_above_force(rule: str, drain: bool) -> None:
    operation = removal(1, reclaim=True, reason="teardown", node_name=RENAMED) if drain else asked()
    done = answered(refused(rule), OLD, operation=operation, wishes=FORCE, memory=HELD)
    assert under_way(done) is None
    assert (done.memory.firm, done.stopped) == (frozenset({iid(1)}), True)
    assert done.memory.refused[iid(1)] == f"i-001: It is refused by {rule}. --force does not overrule that."
    later = plan_teardown(
        look(bare(1)), done.state, policy(), FORCE, done.memory, now_s=NOW_S + 10_000, decision_id="d2"
    )
    assert (later.state.removals, later.stopped) == ((), True)


@pytest.mark.parametrize("age_s", [419, 421])
def test_silence_is_overruled_by_force_alone_and_after_its_time(age_s: int) -> None:
    silent = CommandResult(outcome=CommandOutcome.UNDELIVERED)
    operation = asked(phase_since_s=NOW_S - age_s)
    assert under_way(answered(silent, OLD, operation=operation)) == ASKING
    forced = answered(silent, OLD, operation=operation, wishes=FORCE)
    assert under_way(forced) == (NAMELESS if age_s > 420 else ASKING)
    assert age_s < 420 or "i-001: no server says what it holds; it is terminated all the same (--force)" in forced.said


def test_a_forced_drain_without_any_grace_still_gets_its_moment() -> None:
    impatient = policy(interruption=Interruption(grace_s=0))
    limit_s = LEAST_DRAIN_S + 300 + 2 * 60

    def after(age_s: int) -> Plan:
        operation = removal(1, reclaim=True, reason="teardown", age_s=age_s)
        state = State(fence=9, removals=(operation,))
        running = CommandResult(outcome=CommandOutcome.RUNNING)
        seen = look(bare(1), result=running)
        return plan_teardown(seen, state, impatient, FORCE, HELD, now_s=NOW_S, decision_id="d1")

    said = "worker-i-001: its drain does not end; it is terminated all the same (--force)"
    assert said not in after(limit_s).said
    assert said in after(limit_s + 1).said


@pytest.mark.parametrize("instance", [OLD, YOUNG, STOPPED])
def test_without_a_server_nobody_is_ended_but_by_force(instance: dict[str, Any]) -> None:
    seen = look(bare(1, **instance), servers=())
    assert (plan(seen, State()).state.removals, plan(seen, State()).stopped) == ((), True)
    forced = plan(seen, State(), wishes=FORCE)
    [effect] = due_effects(forced.state, seen, policy())
    assert isinstance(effect, Terminate)
    assert any("no server of the cluster is running" in event for event in forced.said)
