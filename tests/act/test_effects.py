"""Which calls the open operations ask for: from the state alone, so that any invocation resumes them."""

from typing import Any

import msgspec
import pytest

from autoscaler.act.effects import Effect, SendCommand, SendLaunch, Terminate, due_effects, node_command
from autoscaler.model import Instance, InstanceState, LaunchOperation, RemovalOperation, RemovalPhase, State, Verb
from autoscaler.policy import Drain, Interruption
from autoscaler.state.backoffs import LAUNCH_PATH, back_off
from tests.decide.builders import NOW_S, SERVER, bare, launch, policy, removal, snapshot, worker

OTHER_SERVER = msgspec.structs.replace(SERVER, instance_id="i-0bbb")
STOPPED_SERVER = msgspec.structs.replace(SERVER, state=InstanceState.STOPPED)
POLICY = policy(drain=Drain(timeout_s=222), interruption=Interruption(grace_s=33))


def due(state: State, *machines: Any, servers: tuple[Instance, ...] = (SERVER,)) -> list[Effect]:
    return list(due_effects(state, snapshot(list(machines) or [worker(1)], servers=servers), POLICY))


@pytest.mark.parametrize(
    ("operation", "is_due"),
    [
        pytest.param(launch(), True, id="not sent yet, or sent and not answered: to the letter"),
        pytest.param(launch(ids=[1]), False, id="landed"),
        pytest.param(launch(landed=True, unidentified=1), False, id="EC2 knew the token: never again"),
        pytest.param(launch(landed=False, unidentified=0), False, id="nothing is expected of it"),
    ],
)
def test_launches(operation: LaunchOperation, is_due: bool) -> None:
    assert due(State(launches=(operation,))) == ([SendLaunch(operation=operation)] if is_due else [])


@pytest.mark.parametrize(
    ("phase", "verb"),
    [
        (RemovalPhase.DRAINING, Verb.DRAIN),
        (RemovalPhase.UNCORDONING, Verb.UNCORDON),
        (RemovalPhase.DELETING, Verb.DELETE_NODE),
    ],
)
def test_each_phase_has_its_command_with_everything_that_guards_it(phase: RemovalPhase, verb: Verb) -> None:
    operation = removal(1, phase, sent=False, fence=7)
    [effect] = due(State(removals=(operation,)))
    assert isinstance(effect, SendCommand)
    command = effect.command
    assert (command.verb, command.node_name, command.provider_id) == (verb, "worker-i-001", "aws:///us-east-1b/i-001")
    assert (command.operation_id, command.fence, command.not_after_s) == ("r1", 7, operation.not_after_s)
    assert (command.timeout_s, command.grace_s, command.reclaim) == (222, -1, False)
    assert effect.server_id == SERVER.instance_id


def test_what_ec2_takes_away_is_drained_with_a_short_grace() -> None:
    [effect] = due(State(removals=(removal(1, sent=False, reclaim=True),)))
    assert isinstance(effect, SendCommand)
    assert (effect.command.timeout_s, effect.command.grace_s, effect.command.reclaim) == (33, 33, True)


def test_a_drain_without_grace_still_has_a_time_that_the_document_takes() -> None:
    """A policy may say `interruption: {grace_s: 0}`; a time-out of zero would be refused, and none to kubectl."""
    hard = policy(interruption=Interruption(grace_s=0))
    command = node_command(removal(1, sent=False, reclaim=True), Verb.DRAIN, hard)
    assert (command.timeout_s, command.grace_s) == (10, 0)


@pytest.mark.parametrize("phase", list(RemovalPhase))
def test_a_command_that_was_sent_is_not_sent_again_by_itself(phase: RemovalPhase) -> None:
    effects = due(State(removals=(removal(1, phase),)))
    assert not any(isinstance(effect, SendCommand) for effect in effects)


@pytest.mark.parametrize(
    ("servers", "attempts", "expected"),
    [
        pytest.param((SERVER, OTHER_SERVER), 0, "i-0aaa", id="the first by id"),
        pytest.param((OTHER_SERVER, SERVER), 0, "i-0aaa", id="in whatever order EC2 lists them"),
        pytest.param((SERVER, OTHER_SERVER), 1, "i-0bbb", id="another one after a failed delivery"),
        pytest.param((SERVER, OTHER_SERVER), 2, "i-0aaa", id="and round again"),
        pytest.param(
            (msgspec.structs.replace(SERVER, state=InstanceState.STOPPED), OTHER_SERVER),
            0,
            "i-0bbb",
            id="not a stopped one",
        ),
        pytest.param((), 0, None, id="without a server nothing is sent"),
    ],
)
def test_one_server_at_a_time(servers: tuple[Instance, ...], attempts: int, expected: str | None) -> None:
    effects = due(State(removals=(removal(1, sent=False, attempts=attempts),)), servers=servers)
    assert [effect.server_id for effect in effects if isinstance(effect, SendCommand)] == (
        [expected] if expected else []
    )


@pytest.mark.parametrize(
    ("machine", "is_due"),
    [
        pytest.param(worker(1), True, id="ours and running"),
        pytest.param(bare(1, state=InstanceState.PENDING), True, id="ours and starting"),
        pytest.param(bare(1, state=InstanceState.STOPPED), True, id="ours and stopped: it still costs"),
        pytest.param(bare(1, state=InstanceState.SHUTTING_DOWN), False, id="ending already"),
        pytest.param(bare(1, state=InstanceState.TERMINATED), False, id="ended"),
        pytest.param(bare(1, managed=False), False, id="without our tag, whatever the state says"),
        pytest.param(bare(1, managed=False, server=True), False, id="a server, whatever the state says"),
        pytest.param(bare(2), False, id="not listed by EC2 now"),
    ],
)
def test_only_what_ec2_shows_as_ours_is_terminated(machine: Any, is_due: bool) -> None:
    operation = removal(1, RemovalPhase.TERMINATING, sent=False)
    assert due(State(removals=(operation,)), machine) == ([Terminate(operation=operation)] if is_due else [])


@pytest.mark.parametrize("phase", [phase for phase in RemovalPhase if phase is not RemovalPhase.TERMINATING])
def test_no_other_phase_terminates(phase: RemovalPhase) -> None:
    for sent in (True, False):
        effects = due(State(removals=(removal(1, phase, sent=sent),)))
        assert not any(isinstance(effect, Terminate) for effect in effects)


def test_launches_come_first_then_commands_then_ends() -> None:
    state = State(
        launches=(launch(),),
        removals=(
            removal(1, RemovalPhase.TERMINATING, sent=False),
            removal(2, RemovalPhase.DRAINING, sent=False, operation_id="r2"),
        ),
    )
    kinds = [type(effect) for effect in due(state, worker(1), worker(2))]
    assert kinds == [SendLaunch, SendCommand, Terminate]


def test_the_same_state_asks_for_the_same_again() -> None:
    """Whoever comes next resumes what a killed invocation left."""
    state = State(launches=(launch(),), removals=(removal(1, sent=False),))
    assert due(state) == due(state)
    first: list[RemovalOperation] = [e.operation for e in due(state) if isinstance(e, SendCommand)]
    assert first == list(state.removals)


@pytest.mark.parametrize(
    ("retry_in_s", "waits", "is_due"), [(None, True, True), (1, True, False), (0, True, True), (1, False, True)]
)
def test_what_ec2_refused_to_end_is_left_alone_for_a_while_unless_a_person_waits(
    retry_in_s: int | None, waits: bool, is_due: bool
) -> None:
    retry_at_s = None if retry_in_s is None else NOW_S + retry_in_s
    ending = removal(1, RemovalPhase.TERMINATING, sent=False, retry_at_s=retry_at_s)
    effects = due_effects(State(removals=(ending,)), snapshot([worker(1)]), policy(), waits=waits)
    assert [type(effect) for effect in effects] == [Terminate] * is_due


def test_no_launch_is_due_while_every_launch_is_held() -> None:
    state = back_off(State(launches=(launch(),)), [(LAUNCH_PATH, "Blocked")], now_s=NOW_S - 119, policy=policy())
    assert due(state) == []
    assert len(due_effects(state, snapshot(2, at_s=NOW_S + 1), policy())) == 1
