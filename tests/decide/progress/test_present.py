"""A verdict of the past is held against the present look: hands, tags, servers and time that go on in between."""

from typing import Any

import msgspec
import pytest

from autoscaler.act.effects import due_effects
from autoscaler.model import (
    CommandOutcome,
    InstanceState,
    MetricsStatus,
    RemovalPhase,
    State,
)
from autoscaler.policy import Drain
from tests.decide.builders import (
    NOW_S,
    SERVER,
    Machine,
    bare,
    daemon,
    decided,
    full,
    pod,
    policy,
    removal,
    snapshot,
    told,
    worker,
)
from tests.decide.generators import unseen_rooms
from tests.decide.progress.looks import BUSY, OTHER_SERVER, left_of, look, phase_of

Phase = RemovalPhase
Outcome = CommandOutcome


# ------------------------------------------------------------------------------- a verdict of the past, a present look

RECENT_S, EARLIER_S, LONG_AGO_S = 30, 200, 2 * 86_400
HELD_S = NOW_S - 901
"""Since when a terminate is held back that must have landed, and a worker not seen, by now."""


@pytest.mark.parametrize(
    ("age_s", "machine", "known", "expected"),
    [
        pytest.param(RECENT_S, worker(1, cordoned=True), True, Phase.TERMINATING, id="cordoned and empty, as reported"),
        pytest.param(
            RECENT_S, worker(1, cordoned=True, pods=[daemon("d")]), True, Phase.TERMINATING, id="daemons stay behind"
        ),
        pytest.param(RECENT_S, worker(1), True, Phase.DRAINING, id="not seen cordoned yet: metrics may be older"),
        pytest.param(EARLIER_S, worker(1), True, Phase.UNCORDONING, id="open again: somebody's word stands"),
        pytest.param(
            RECENT_S, worker(1, cordoned=True, pods=[pod("p")]), True, Phase.DRAINING, id="not seen empty yet: wait"
        ),
        pytest.param(
            EARLIER_S, worker(1, cordoned=True, pods=[pod("p")]), True, Phase.UNCORDONING, id="pods run there: let go"
        ),
        pytest.param(RECENT_S, worker(1), False, Phase.TERMINATING, id="blind: the server's own fresh word"),
        pytest.param(31, worker(1), False, Phase.DRAINING, id="blind, and not fresh: not ended until it is seen"),
        pytest.param(901, worker(1), False, Phase.UNCORDONING, id="not seen for long: given back"),
        pytest.param(RECENT_S, bare(1), True, Phase.TERMINATING, id="its Node is gone"),
    ],
)
def test_a_success_counts_as_far_as_the_present_look_bears_it_out(
    age_s: int, machine: Machine, known: bool, expected: Phase
) -> None:
    changes: dict[str, Any] = {} if known else {"status": MetricsStatus.PARTIAL, "known": False}
    decision = look(removal(1, age_s=age_s), machine, commands=told(Outcome.SUCCEEDED), **changes)
    assert phase_of(decision) is expected
    if expected is Phase.UNCORDONING:
        assert decision.state.held_workers[0].node_name == "worker-i-001"


@pytest.mark.parametrize(
    ("age_s", "expected"),
    [(RECENT_S, Phase.TERMINATING), (31, Phase.DRAINING), (901, Phase.UNCORDONING)],
)
def test_that_no_pod_is_shown_proves_nothing_while_metrics_may_lack_pods(age_s: int, expected: Phase) -> None:
    """kube-state-metrics restarted, or one of its shards is down: fresh, and not whole."""
    seen = snapshot(
        [full(101), full(102), full(103), worker(1, cordoned=True)],
        status=MetricsStatus.PARTIAL,
        known=True,
        utilisation=BUSY,
        commands=told(Outcome.SUCCEEDED),
    )
    seen = msgspec.structs.replace(seen, absence_proven=False)
    assert phase_of(decided(seen, State(fence=9, removals=(removal(1, age_s=age_s),)))) is expected


def test_what_is_not_known_of_its_pods_is_asked_first() -> None:
    machines = [full(101), full(102), full(103), worker(1, cordoned=True)]
    seen = unseen_rooms(snapshot(machines, utilisation=BUSY, commands=told(Outcome.SUCCEEDED)))
    decision = decided(seen, State(fence=9, removals=(removal(1),)))
    assert decision.asks.rooms
    assert phase_of(decision) is Phase.DRAINING


IN_USE = [pod("db", owner_kind="StatefulSet")]


@pytest.mark.parametrize(
    ("machine", "expected"),
    [
        pytest.param(worker(1, cordoned=True, pods=IN_USE), Phase.UNCORDONING, id="cordoned, and in use: let go"),
        pytest.param(worker(1, pods=IN_USE), Phase.UNCORDONING, id="open, and in use: let go"),
        pytest.param(worker(1, cordoned=True, local_volumes=1), Phase.UNCORDONING, id="a volume was bound: let go"),
        pytest.param(worker(1, cordoned=True), Phase.TERMINATING, id="the present look bears it out"),
    ],
)
@pytest.mark.parametrize("phase", [Phase.DRAINING, Phase.DRAINED, Phase.TERMINATING])
def test_a_success_of_days_ago_is_history_and_the_present_look_decides(
    phase: Phase, machine: Machine, expected: Phase
) -> None:
    """Paused in the middle of a drain, or before its terminate, and resumed two days later."""
    decision = look(removal(1, phase, age_s=LONG_AGO_S, held_since_s=HELD_S), machine, commands=told(Outcome.SUCCEEDED))
    assert phase_of(decision) is expected


@pytest.mark.parametrize(
    ("machine", "expected"),
    [
        pytest.param(worker(1, cordoned=True, pods=IN_USE), Phase.TERMINATING, id="with the pods that would not go"),
        pytest.param(worker(1, pods=IN_USE), Phase.UNCORDONING, id="a person's uncordon stands all the same"),
    ],
)
def test_what_drain_force_overruled_does_not_speak_against_it_again(machine: Machine, expected: Phase) -> None:
    forced = policy(drain=Drain(force=True))
    first = left_of(look(removal(1), machine, commands=told(Outcome.TIMED_OUT), its_policy=forced))
    assert first is not None
    assert (first.phase, first.failure) == (Phase.TERMINATING, "drain timed_out")
    later = msgspec.structs.replace(first, held_since_s=HELD_S)
    assert phase_of(look(later, machine, its_policy=forced, at_s=NOW_S + 130)) is expected


@pytest.mark.parametrize("phase", [Phase.DRAINING, Phase.TERMINATING])
def test_where_the_present_is_not_seen_a_drain_of_days_ago_is_given_back(phase: Phase) -> None:
    """To drain it anew would be a shrink without metrics (the soak, seed 50: a person had uncordoned it)."""
    blind: dict[str, Any] = {"status": MetricsStatus.PARTIAL, "known": False, "commands": told(Outcome.SUCCEEDED)}
    left = left_of(look(removal(1, phase, age_s=LONG_AGO_S, held_since_s=HELD_S), worker(1), **blind))
    assert left is not None
    assert (left.phase, left.fence, left.operation_id) == (Phase.UNCORDONING, 10, "r1")


def test_a_reclaim_is_ended_whatever_came_back() -> None:
    """The machine goes away whatever we do."""
    decision = look(removal(1, reclaim=True), worker(1, pods=[pod("p")]), commands=told(Outcome.SUCCEEDED))
    assert phase_of(decision) is Phase.TERMINATING


# ------------------------------------------------------------------------------------------ what EC2 takes, and by when


@pytest.mark.parametrize(
    ("outcome", "left_s", "expected"),
    [
        (Outcome.TIMED_OUT, 1500, Phase.DRAINING),
        (Outcome.BLOCKED_BY_BUDGET, 1500, Phase.DRAINING),
        (Outcome.FENCED_OFF, 100, Phase.DRAINING),
        (Outcome.API_UNREACHABLE, 100, Phase.DRAINING),
        (Outcome.UNDELIVERED, 100, Phase.DRAINING),
        (Outcome.FAILED, 100, Phase.DRAINING),
        (Outcome.NO_SUCH_NODE, 100, Phase.DRAINING),
        (Outcome.REFUSED, 100, Phase.DRAINING),
        (Outcome.TIMED_OUT, 15, Phase.TERMINATING),
        (Outcome.API_UNREACHABLE, 15, Phase.TERMINATING),
        (Outcome.REFUSED, 15, Phase.DRAINING),
        (Outcome.NO_SUCH_NODE, 15, Phase.TERMINATING),
        (Outcome.RUNNING, 15, Phase.DRAINING),
        (Outcome.API_UNREACHABLE, -1801, Phase.UNCORDONING),
        (Outcome.SUCCEEDED, 100, Phase.TERMINATING),
    ],
)
def test_a_reclaim_is_tried_until_its_time_is_nearly_up(outcome: Outcome, left_s: int, expected: Phase) -> None:
    operation = removal(1, age_s=40, reclaim=True, reason="retirement", due_at_s=NOW_S + left_s)
    assert phase_of(look(operation, worker(1, cordoned=True), commands=told(outcome))) is expected


@pytest.mark.parametrize("outcome", [Outcome.TIMED_OUT, Outcome.BLOCKED_BY_BUDGET, Outcome.NO_SUCH_NODE])
def test_what_the_script_would_only_repeat_is_a_new_operation(outcome: Outcome) -> None:
    operation = removal(1, age_s=40, reclaim=True, reason="retirement", due_at_s=NOW_S + 1500)
    left = left_of(look(operation, commands=told(outcome)))
    assert left is not None
    assert left.operation_id != "r1"
    assert (left.reclaim, left.due_at_s, left.reason, left.fence) == (True, NOW_S + 1500, "retirement", 10)


def test_a_reclaim_that_is_silent_goes_to_the_next_server_after_its_own_time() -> None:
    """The ordinary drain's time would be over long after EC2 took the machine."""
    operation = removal(1, age_s=120, reclaim=True, due_at_s=NOW_S + 600)
    assert left_of(look(operation, commands=told(Outcome.RUNNING))) == operation
    left = left_of(look(operation, commands=told(Outcome.RUNNING), at_s=NOW_S + 1))
    assert left is not None
    assert (left.phase, left.command, left.attempts) == (Phase.DRAINING, None, 1)


@pytest.mark.parametrize("phase", [Phase.DRAINING, Phase.TERMINATING])
def test_what_ec2_did_not_take_is_given_back(phase: Phase) -> None:
    """A notice of last week, acted on before a pause: the machine was moved, and still runs."""
    operation = removal(
        1, phase, age_s=86_400, reclaim=True, reason="retirement", due_at_s=NOW_S - 1801, held_since_s=HELD_S
    )
    assert phase_of(look(operation, commands=told(Outcome.RUNNING))) is Phase.UNCORDONING


def test_what_ec2_stopped_may_be_started_again() -> None:
    machine = worker(1, ready=False, of={"state": InstanceState.STOPPED})
    operation = removal(1, reclaim=True, reason="retirement", due_at_s=NOW_S - 60)
    assert phase_of(look(operation, machine, commands=told(Outcome.RUNNING))) is Phase.UNCORDONING


# ---------------------------------------------------------------------------------- tags and servers that go meanwhile


@pytest.mark.parametrize(
    ("held_s", "expected"),
    [
        pytest.param(None, Phase.TERMINATING, id="no further terminate goes out"),
        pytest.param(120, Phase.TERMINATING, id="the last one may be on its way"),
        pytest.param(121, Phase.UNCORDONING, id="it runs: given back"),
    ],
)
@pytest.mark.parametrize("listed", [True, False], ids=["ManagedBy taken off", "the cluster's tag taken off"])
def test_a_tag_that_goes_before_the_end(held_s: int | None, listed: bool, expected: Phase) -> None:
    held_since_s = None if held_s is None else NOW_S - held_s
    operation = removal(1, Phase.TERMINATING, age_s=300, held_since_s=held_since_s)
    machine = worker(1, cordoned=True, of={"managed": False})
    if listed:
        decision = look(operation, machine)
    else:
        node_only = Machine(instance=None, node=machine.node)
        assert machine.instance is not None
        decision = look(operation, node_only, looked_up=frozenset({"i-001"}), unlisted=(machine.instance,))
    assert phase_of(decision) is expected
    assert not any("is terminated" in event for event in decision.done)


def test_a_node_that_was_not_seen_yet_goes_by_its_own_name_once_it_is() -> None:
    """The soak, with K3s' `--with-node-id`: the name that workers register under was a guess."""
    renamed = worker(1, name="worker-i-001-1a2b3c4d", ready=False, of={"state": InstanceState.TERMINATED})
    [going] = look(removal(1, Phase.TERMINATING, reclaim=True), renamed).state.removals
    assert (going.phase, going.node_name) == (Phase.DELETING, "worker-i-001-1a2b3c4d")


def test_what_speaks_against_the_end_holds_it_back_until_the_last_try_has_landed() -> None:
    """The soak, seed 263: uncordoned by a person five seconds after the terminate went out, which EC2 carried out."""
    opened = worker(1)
    first = look(removal(1, Phase.TERMINATING, age_s=5), opened)
    held = left_of(first)
    assert held is not None
    assert (held.phase, held.held_since_s) == (Phase.TERMINATING, NOW_S)
    assert "worker-i-001 is not ended for now: somebody uncordoned it while it was drained" in first.done
    seen = snapshot([opened])
    assert due_effects(first.state, seen, policy()) == (), "no further try"
    again = left_of(look(held, worker(1, cordoned=True), at_s=NOW_S + 60))
    assert again is not None
    assert again.held_since_s is None, "the metrics were late: it goes on"
    assert phase_of(look(held, opened, at_s=NOW_S + 121)) is Phase.UNCORDONING


GONE = {state: msgspec.structs.replace(SERVER, state=state) for state in InstanceState}


@pytest.mark.parametrize(
    ("changes", "goes_on"),
    [
        pytest.param({}, False, id="it runs: its answer is waited for"),
        pytest.param({"servers": (GONE[InstanceState.SHUTTING_DOWN], OTHER_SERVER)}, True, id="shutting down"),
        pytest.param({"servers": (GONE[InstanceState.STOPPED], OTHER_SERVER)}, True, id="stopped"),
        pytest.param({"servers": (OTHER_SERVER,)}, False, id="not listed, and not asked for yet"),
        pytest.param(
            {"servers": (OTHER_SERVER,), "looked_up": frozenset({SERVER.instance_id})}, True, id="unknown to EC2"
        ),
        pytest.param(
            {"servers": (OTHER_SERVER,), "looked_up": frozenset({SERVER.instance_id}), "unlisted": (SERVER,)},
            False,
            id="without its tag, and alive",
        ),
    ],
)
@pytest.mark.parametrize("reclaim", [True, False])
@pytest.mark.parametrize("phase", [Phase.INSPECTING, Phase.DRAINING, Phase.UNCORDONING])
def test_a_server_that_is_gone_is_not_waited_for(
    phase: Phase, reclaim: bool, changes: dict[str, Any], goes_on: bool
) -> None:
    operation = removal(1, phase, age_s=3, reclaim=reclaim, due_at_s=NOW_S + 117 if reclaim else None)
    machine = worker(1, ready=phase is not Phase.INSPECTING)
    left = left_of(look(operation, machine, **{"servers": (SERVER, OTHER_SERVER), **changes}))
    assert left is not None
    assert (left.phase, left.command is None, left.attempts) == (phase, goes_on, int(goes_on))
