"""A server is asked before a machine ends that was not drained: what each answer means."""

from typing import Any

import msgspec
import pytest

from autoscaler.act.effects import SendCommand, due_effects
from autoscaler.model import (
    CommandOutcome,
    CommandResult,
    Decision,
    Found,
    JoinFailures,
    MetricsStatus,
    RemovalOperation,
    RemovalPhase,
    State,
    Verb,
)
from tests.decide.builders import (
    NOW_S,
    SERVER,
    Machine,
    bare,
    decided,
    full,
    ghost,
    inspection,
    instance,
    node,
    policy,
    removal,
    snapshot,
    use,
    worker,
)

Phase = RemovalPhase
NOT_READY: dict[str, Any] = {"ready": False, "unready_long": True}
FLEET = [full(n) for n in range(101, 105)]
DATA = Found(count=1, names=("pvc-7",))


def answer(**seen: Any) -> CommandResult:
    return CommandResult(outcome=CommandOutcome.SUCCEEDED, inspection=inspection(**seen))


NO_NODE = CommandResult(outcome=CommandOutcome.NO_SUCH_NODE)


def look(
    result: CommandResult | None, *, reason: str, machine: Machine, age_s: int = 30, **changes: Any
) -> tuple[Decision, RemovalOperation | None]:
    operation = removal(1, Phase.INSPECTING, reason=reason, age_s=age_s)
    commands = () if result is None else (("r1", result),)
    seen = snapshot([*FLEET, machine], utilisation=use(cpu=0.5), commands=commands, **changes)
    decision = decided(seen, State(fence=9, removals=(operation,)))
    return decision, next((r for r in decision.state.removals if r.operation_id == "r1"), None)


@pytest.mark.parametrize(
    ("result", "expected"),
    [
        pytest.param(NO_NODE, Phase.TERMINATING, id="no Node of it: let go"),
        pytest.param(answer(), Phase.TERMINATING, id="NotReady, with nothing that stays: let go"),
        pytest.param(answer(ready=True), None, id="Ready: it stays"),
        pytest.param(answer(local_volumes=DATA), None, id="node-local volumes: it stays"),
        pytest.param(answer(ready=True, local_volumes=DATA), None, id="both"),
        pytest.param(
            CommandResult(outcome=CommandOutcome.REFUSED, rule="identity", message="2 Nodes carry it"),
            None,
            id="which Node it is cannot be told: it stays",
        ),
        pytest.param(
            CommandResult(outcome=CommandOutcome.REFUSED, rule="late"), Phase.INSPECTING, id="too late: asked again"
        ),
        pytest.param(None, Phase.INSPECTING, id="no answer yet"),
        *(
            pytest.param(CommandResult(outcome=outcome), Phase.INSPECTING, id=f"{outcome}: no answer, asked again")
            for outcome in CommandOutcome
            if outcome not in {CommandOutcome.NO_SUCH_NODE, CommandOutcome.REFUSED}
        ),
    ],
)
@pytest.mark.parametrize("reason", ["not_ready", "no_node", "join_timeout"])
def test_what_a_server_says_decides(reason: str, result: CommandResult | None, expected: Phase | None) -> None:
    machine = worker(1, **NOT_READY) if reason == "not_ready" else bare(1)
    _, left = look(result, reason=reason, machine=machine)
    assert (left.phase if left is not None else None) is expected


@pytest.mark.parametrize("status", [MetricsStatus.PARTIAL, MetricsStatus.UNAVAILABLE])
def test_its_word_counts_without_metrics_too(status: MetricsStatus) -> None:
    _, left = look(NO_NODE, reason="no_node", machine=bare(1), status=status, known=False)
    assert left is not None
    assert left.phase is Phase.TERMINATING


def test_one_that_stays_is_told_and_not_asked_about_at_every_look() -> None:
    decision, _ = look(answer(local_volumes=DATA), reason="not_ready", machine=worker(1, **NOT_READY))
    assert "worker-i-001 stays: 1 node-local volumes live on it (pvc-7)" in decision.done
    [refusal] = decision.state.held_workers
    assert (refusal.node_name, refusal.until_s > NOW_S) == ("worker-i-001", True)
    again = decided(snapshot([*FLEET, worker(1, **NOT_READY)], utilisation=use(cpu=0.5)), decision.state)
    assert again.state.removals == ()
    assert any(
        "not_ready: held: 1 node-local volumes live on it (pvc-7); asked again in" in b.reason for b in again.blocked
    )


@pytest.mark.parametrize(
    ("result", "expected"),
    [
        pytest.param(NO_NODE, None, id="the Node is gone: over"),
        pytest.param(answer(), Phase.DELETING, id="silent, with nothing that stays: its Node is deleted"),
        pytest.param(answer(ready=True), None, id="Ready: it stays"),
        pytest.param(answer(local_volumes=DATA), None, id="volumes name it: it stays"),
        pytest.param(None, Phase.INSPECTING, id="no answer yet"),
    ],
)
def test_a_node_whose_instance_ec2_has_forgotten(result: CommandResult | None, expected: Phase | None) -> None:
    asked = frozenset({"i-001"})
    _, left = look(result, reason="instance_gone", machine=ghost(1, **NOT_READY), looked_up=asked)
    assert (left.phase if left is not None else None) is expected


@pytest.mark.parametrize(("reason", "expected"), [("no_node", Phase.TERMINATING), ("instance_gone", Phase.DELETING)])
def test_the_node_that_goes_after_is_the_one_that_was_inspected(reason: str, expected: Phase) -> None:
    seen = msgspec.structs.replace(inspection(), node="worker-i-001-1f2e3d4c")
    said = CommandResult(outcome=CommandOutcome.SUCCEEDED, inspection=seen)
    machine = bare(1) if reason == "no_node" else ghost(1, **NOT_READY)
    _, left = look(said, reason=reason, machine=machine, looked_up=frozenset({"i-001"}))
    assert left is not None
    assert (left.phase, left.node_name) == (expected, "worker-i-001-1f2e3d4c")


@pytest.mark.parametrize("result", [None, NO_NODE, answer(), answer(ready=True), answer(local_volumes=DATA)])
def test_a_question_of_a_teardown_that_was_given_up_ends_nobody(result: CommandResult | None) -> None:
    decision, left = look(result, reason="teardown", machine=bare(1, launched_at_s=NOW_S - 60))
    assert (left, decision.state.removals, decision.state.held_workers) == (None, (), ())
    assert any("the teardown that asked about it was given up" in event for event in decision.done)


def test_the_question_goes_to_a_server_by_provider_id_and_then_to_the_next() -> None:
    other = type(SERVER)(**{**{f: getattr(SERVER, f) for f in SERVER.__struct_fields__}, "instance_id": "i-0bbb"})
    seen = snapshot([*FLEET, worker(1, **NOT_READY)], servers=(SERVER, other))
    operation = removal(1, Phase.INSPECTING, sent=False, reason="not_ready", attempts=1)
    [effect] = due_effects(State(removals=(operation,)), seen, policy())
    assert isinstance(effect, SendCommand)
    assert (effect.command.verb, effect.server_id) == (Verb.INSPECT, "i-0bbb")
    assert effect.command.provider_id == "aws:///us-east-1b/i-001"


@pytest.mark.parametrize("reason", ["not_ready", "join_timeout", "instance_gone"])
def test_a_node_that_is_ready_again_stays_although_a_server_saw_it_not_ready(reason: str) -> None:
    """The soak, seed 82: the answer was minutes old, for a pause lay between."""
    decision, left = look(answer(ready=False), reason=reason, machine=worker(1))
    assert left is None
    assert decision.state.removals == ()


def test_an_answer_from_before_a_pause_says_nothing_about_now() -> None:
    decision, left = look(NO_NODE, reason="no_node", machine=bare(1), age_s=2 * 86_400)
    assert left is not None
    assert (left.phase, left.command, left.attempts) == (Phase.INSPECTING, None, 1)
    assert decision.state.join_failures is None


@pytest.mark.parametrize(("result", "failures"), [(NO_NODE, 1), (answer(), 1), (answer(ready=True), 0)])
def test_one_that_did_come_after_all_is_no_failure(result: CommandResult, failures: int) -> None:
    operation = removal(1, Phase.INSPECTING, reason="join_timeout")
    counted = JoinFailures(failures=1, failed_at_s=NOW_S - 30, until_s=NOW_S - 30)
    seen = snapshot([*FLEET, bare(1)], utilisation=use(cpu=0.5), commands=(("r1", result),))
    after = decided(seen, State(fence=9, removals=(operation,), join_failures=counted)).state.join_failures
    assert (after.failures if after is not None else 0) == failures


def test_without_a_server_nobody_is_ended() -> None:
    decision = decided(snapshot([*FLEET, worker(1, **NOT_READY)], utilisation=use(cpu=0.5), servers=()))
    assert decision.state.removals == ()
    assert any("nobody could say what it holds" in b.reason for b in decision.blocked)


@pytest.mark.parametrize("result", [NO_NODE, answer()])
def test_a_machine_that_lost_its_tags_keeps_its_node(result: CommandResult) -> None:
    living = instance(1, managed=False)
    found: dict[str, Any] = {"looked_up": frozenset({"i-001"}), "unlisted": (living,)}
    decision, left = look(result, reason="instance_gone", machine=ghost(1, **NOT_READY), **found)
    assert left is None
    assert any("EC2 knows i-001 (running), without the tags" in event for event in decision.done)
    decision, left = look(result, reason="no_node", machine=bare(1, managed=False))
    assert left is None
    assert "worker-i-001 stays: it does not carry the tags of ours any more" in decision.done


@pytest.mark.parametrize("reason", ["no_node", "join_timeout"])
def test_a_node_that_may_be_it_without_a_provider_id_keeps_it(reason: str) -> None:
    nameless = Machine(instance=None, node=node(2, name="worker-i-001", instance_id=None, provider_id="k3s://x"))
    operation = removal(1, Phase.INSPECTING, reason=reason)
    seen = snapshot([*FLEET, bare(1), nameless], utilisation=use(cpu=0.5), commands=(("r1", NO_NODE),))
    decision = decided(seen, State(fence=9, removals=(operation,)))
    assert decision.state.removals == ()
    assert any("Node worker-i-001 has no EC2 provider-id and may be this instance" in e for e in decision.done)


@pytest.mark.parametrize(("attempts", "news"), [(1, False), (2, True), (3, False)])
def test_silence_ends_nothing_and_is_told_once(attempts: int, news: bool) -> None:
    operation = removal(1, Phase.INSPECTING, reason="not_ready", attempts=attempts)
    silent = (("r1", CommandResult(outcome=CommandOutcome.API_UNREACHABLE)),)
    seen = snapshot([*FLEET, worker(1, **NOT_READY)], utilisation=use(cpu=0.5), commands=silent)
    decision = decided(seen, State(fence=9, removals=(operation,)))
    assert (decision.state.removals[0].phase, decision.news) == (Phase.INSPECTING, news)


@pytest.mark.parametrize(
    ("machine", "age_s", "expected"),
    [
        pytest.param(worker(1), 130, None, id="it is Ready by now: it stays"),
        pytest.param(worker(1, **NOT_READY), 130, Phase.TERMINATING, id="as the server said"),
        pytest.param(worker(1, **NOT_READY), 901, Phase.INSPECTING, id="too long ago: asked anew"),
    ],
)
def test_what_a_server_said_is_held_against_each_further_look(
    machine: Machine, age_s: int, expected: Phase | None
) -> None:
    """The terminate of a look before failed, or was never sent."""
    held_since_s = NOW_S - 121
    operation = removal(1, Phase.TERMINATING, reason="not_ready", age_s=age_s, sent=False, held_since_s=held_since_s)
    seen = snapshot([*FLEET, machine], utilisation=use(cpu=0.5), servers=())
    after = decided(seen, State(fence=9, removals=(operation,))).state
    assert [r.phase for r in after.removals] == ([expected] if expected else [])
    assert len(after.held_workers) == (machine.node is not None and machine.node.ready is True), "no word, no refusal"
