"""Drains of a teardown: those that were begun before it, that end badly, and what follows them."""

from typing import Any

import pytest

from autoscaler.cli.teardown.memory import Memory, Wishes
from autoscaler.model import (
    CommandOutcome,
    CommandResult,
    State,
)
from tests.cli.teardown.answers import (
    ASKING,
    DEAD,
    DRAINED,
    ENDED,
    NO_NODE,
    OLD,
    RENAMED,
    STAYS,
    STOPPED,
    Phase,
    answered,
    asked,
    look,
    node,
    plan,
    under_way,
)
from tests.decide.builders import bare, iid, removal


@pytest.mark.parametrize("reclaim", [False, True])
def test_a_node_that_is_gone_when_it_is_drained_is_no_leave_to_end_its_machine(reclaim: bool) -> None:
    operation = removal(1, reason="teardown", node_name=RENAMED, reclaim=reclaim)
    done = answered(NO_NODE, OLD, operation=operation, wishes=Wishes(force=reclaim))
    assert under_way(done) == ASKING
    assert done.state.removals[0].operation_id != operation.operation_id


@pytest.mark.parametrize(
    ("result", "expected"),
    [
        pytest.param(node(ready=False, ending_pods=2), ENDED, id="NotReady: no pod can end on a dead machine"),
        pytest.param(node(ready=False, movable_pods=1), STAYS, id="NotReady, and a pod that stays"),
        pytest.param(node(ending_pods=1), STAYS, id="Ready: a pod that does not end"),
    ],
)
def test_a_drain_that_ran_out_of_time_is_looked_at_once_more(
    result: CommandResult, expected: tuple[Phase, str, bool] | None
) -> None:
    late = CommandResult(outcome=CommandOutcome.TIMED_OUT, message="shop/web-1 does not end")
    drained = answered(late, OLD, operation=removal(1, reason="teardown", node_name=RENAMED))
    assert under_way(drained) == (Phase.UNCORDONING, RENAMED, False)
    assert drained.memory.refused == {}
    done = answered(result, OLD, memory=drained.memory)
    assert under_way(done) == expected
    assert done.stopped is (expected is None)
    assert expected is not None or "shop/web-1 does not end" in done.memory.refused[iid(1)]


SUCCESS = CommandResult(outcome=CommandOutcome.SUCCEEDED)


def test_that_second_look_comes_before_another_worker_has_its_turn() -> None:
    back = removal(1, Phase.UNCORDONING, reason="teardown", node_name=RENAMED)
    seen = look(bare(1), bare(2), result=SUCCESS)
    done = plan(seen, State(fence=9, removals=(back,)), memory=Memory(late={iid(1): "a pod does not end"}))
    assert [(r.instance_id, r.phase) for r in done.state.removals] == [(iid(1), Phase.INSPECTING)]


@pytest.mark.parametrize(
    ("phase", "changes", "instance", "expected"),
    [
        pytest.param(Phase.DRAINING, {}, OLD, DRAINED, id="a drain that had ended: drained anew"),
        pytest.param(Phase.DRAINED, {}, OLD, DRAINED, id="drained: drained anew"),
        pytest.param(Phase.TERMINATING, {}, OLD, DRAINED, id="its terminate not sent, or lost: drained anew"),
        pytest.param(Phase.TERMINATING, {"node_name": ""}, OLD, ASKING, id="let go without a Node: asked anew"),
        pytest.param(Phase.TERMINATING, {}, STOPPED, ASKING, id="let go, and stopped: asked anew"),
        pytest.param(Phase.TERMINATING, {"reclaim": True}, OLD, (Phase.TERMINATING, RENAMED, True), id="EC2 takes it"),
        pytest.param(Phase.TERMINATING, {}, DEAD, (Phase.DELETING, RENAMED, False), id="dead: its Node is deleted"),
    ],
)
def test_what_was_found_out_before_this_process_looked_is_found_out_anew(
    phase: Phase, changes: dict[str, Any], instance: dict[str, Any], expected: tuple[Phase, str, bool]
) -> None:
    operation = removal(1, phase, **{"reason": "teardown", "node_name": RENAMED, **changes})
    result = SUCCESS if phase is Phase.DRAINING else None
    done = answered(result, instance, operation=operation)
    assert under_way(done) == expected
    anew = expected[0] in {Phase.DRAINING, Phase.INSPECTING}
    assert (done.state.removals[0].operation_id != operation.operation_id) is anew
    watched = answered(result, instance, operation=operation, memory=Memory(inherited=frozenset()))
    assert under_way(watched) != expected or not anew


def test_a_drain_that_was_seen_at_work_is_believed() -> None:
    operation = removal(1, reason="teardown", node_name=RENAMED)
    running = answered(CommandResult(outcome=CommandOutcome.RUNNING), OLD, operation=operation)
    assert under_way(running) == DRAINED
    assert under_way(answered(SUCCESS, OLD, operation=operation, memory=running.memory)) == ENDED


def test_after_an_end_without_a_node_a_server_is_asked_whether_one_came_after_all() -> None:
    dead = look(bare(1, **DEAD))
    done = plan(dead, State(fence=9, removals=(removal(1, Phase.TERMINATING, node_name="", reason="teardown"),)))
    assert under_way(done) == ASKING
    cleared = answered(NO_NODE, DEAD)
    assert (cleared.done, cleared.state.removed[0].instance_id) == (True, iid(1))


def test_dead_workers_take_no_turn_from_living_ones() -> None:
    seen = look(bare(1, **DEAD), bare(2, **DEAD), bare(3), bare(4))
    assert [r.instance_id for r in plan(seen, State()).state.removals] == [iid(1), iid(2), iid(3)]


def test_a_node_of_a_machine_that_ec2_has_forgotten_stops_nothing() -> None:
    operation = asked(reason="instance_gone")
    done = plan(look(bare(2), result=node()), State(fence=9, removals=(operation,)))
    assert [r.instance_id for r in done.state.removals] == [iid(2)]
    assert done.memory.refused == {}
