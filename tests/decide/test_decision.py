"""The decision as a whole: it explains itself, and does one thing at a time."""

import re
from pathlib import Path
from typing import Any

import msgspec
import pytest

from autoscaler.decide.decision import STEPS
from autoscaler.decide.fleet import Standing, view_fleet
from autoscaler.model import (
    Action,
    CommandOutcome,
    InstanceState,
    MetricsStatus,
    RemovalPhase,
    State,
)
from tests.decide.builders import (
    NOW_S,
    SERVER,
    Machine,
    bare,
    decided,
    full,
    ghost,
    instance,
    launch,
    node,
    notice,
    pod,
    policy,
    removal,
    snapshot,
    static,
    told,
    use,
    waiting,
    waiting_pods,
    worker,
)

IDLE = [worker(n, pods=[pod(f"p{n}", cpu=100)]) for n in range(1, 4)]


@pytest.mark.parametrize(
    ("changes", "state", "action", "reason", "message"),
    [
        pytest.param(
            {"pods": waiting_pods(4)},
            State(),
            Action.SCALE_UP,
            "pods_unschedulable",
            "Launching 2 workers: 4 pods fit on no worker.",
            id="pods wait",
        ),
        pytest.param(
            {"pods": waiting_pods(1)},
            State(),
            Action.SCALE_UP,
            "pods_unschedulable",
            "Launching 1 worker: 1 pod fits on no worker.",
            id="one pod waits",
        ),
        pytest.param(
            {"pods": waiting_pods(40)},
            State(),
            Action.SCALE_UP,
            "pods_unschedulable",
            "Launching 8 workers: 40 pods fit on no worker, which asks for 20 workers more; "
            "workers.max is 10 and 2 exist.",
            id="max cuts it short",
        ),
        pytest.param(
            {"workers": 1},
            State(),
            Action.SCALE_UP,
            "below_min",
            "Launching 1 worker: there are fewer than workers.min (2).",
            id="below min",
        ),
        pytest.param(
            {"utilisation": use(cpu=0.9)},
            State(),
            Action.SCALE_UP,
            "cpu_high",
            "Launching 1 worker: CPU use is 90%, above 70% for the whole window.",
            id="CPU high",
        ),
        pytest.param(
            {"workers": IDLE},
            State(),
            Action.SCALE_DOWN,
            "consolidation",
            "Draining: removing worker-i-001; cpu use stayed at or below 10% and memory use stayed at or below 10%.",
            id="quiet",
        ),
        pytest.param(
            {"workers": 10, "pods": waiting_pods(2)},
            State(),
            Action.HELD_BACK,
            "at_max",
            "2 pods fit on no worker, which asks for 1 worker more; "
            "workers.max is 10 and 10 exist: nothing is launched.",
            id="at max",
        ),
        pytest.param(
            {"status": MetricsStatus.UNAVAILABLE},
            State(),
            Action.HELD_BACK,
            "metrics_unavailable",
            "Nothing is decided: something is missing.",
            id="Prometheus cannot be asked",
        ),
        pytest.param(
            {"status": MetricsStatus.PARTIAL, "known": False},
            State(),
            Action.HELD_BACK,
            "metrics_partial",
            "Nothing is computed: something is missing.",
            id="the cluster is not known",
        ),
        pytest.param(
            {"pods": waiting_pods(2, for_s=3)},
            State(),
            Action.NONE,
            "pods_waiting",
            "2 pods unscheduled: too short a time to count, or there is room.",
            id="not long enough",
        ),
        pytest.param(
            {"pods": waiting_pods(2)},
            State(launches=(launch(),)),
            Action.NONE,
            "waiting_for_nodes",
            "1 worker on the way; nothing more is needed now.",
            id="on the way",
        ),
        pytest.param(
            {},
            State(),
            Action.NONE,
            "at_min",
            "Nothing to do: 2 workers are Ready and workers.min is 2.",
            id="nothing to do",
        ),
    ],
)
def test_what_is_said(changes: dict[str, Any], state: State, action: Action, reason: str, message: str) -> None:
    decision = decided(snapshot(**changes), state)
    assert (decision.action, decision.reason, decision.message) == (action, reason, message)


def test_a_no_op_decision_leaves_the_state_as_it_is() -> None:
    state = State(fence=4, last_scale_up_s=NOW_S - 100, notices=(notice(1, handled=True),))
    for seen in (snapshot(2), snapshot(3, utilisation=use(cpu=0.5)), snapshot(2, status=MetricsStatus.UNAVAILABLE)):
        assert decided(seen, state).state == state


@pytest.mark.parametrize("status", list(MetricsStatus))
def test_counts(status: MetricsStatus) -> None:
    machines = [full(1), full(2), static(3), bare(4, launched_at_s=NOW_S - 30), worker(5), worker(6, ready=False)]
    state = State(launches=(launch(ids=[4]), launch("l2", count=2)), removals=(removal(5),))
    seen = snapshot(machines, status=status, commands=told(CommandOutcome.RUNNING), utilisation=use(cpu=0.5))
    counts = decided(seen, state).nodes
    known = status is not MetricsStatus.UNAVAILABLE
    assert (counts.ready, counts.joining, counts.draining) == (3 if known else None, 3, 1)
    assert (counts.desired, counts.min, counts.max) == (6 if known else None, 2, 10)


def test_signals_say_what_was_measured_and_what_it_wants() -> None:
    signals = {s.name: s for s in decided(snapshot(3, waiting_pods(4), utilisation=use(cpu=0.9))).signals}
    assert signals.keys() == {"unschedulable_pods", "cpu_utilisation", "memory_utilisation", "minimum"}
    pods, cpu, memory = (signals[n] for n in ("unschedulable_pods", "cpu_utilisation", "memory_utilisation"))
    assert (pods.value, pods.threshold, pods.wants) == (4, 0, 5)
    assert (cpu.value, cpu.threshold, cpu.wants) == (0.9, 0.7, 4)
    assert (memory.value, memory.threshold, memory.wants) == (0.1, 0.8, None)


@pytest.mark.parametrize(
    ("machine", "state", "standing"),
    [
        pytest.param(worker(1), State(), Standing.READY, id="Ready"),
        pytest.param(worker(1, cordoned=True), State(), Standing.READY, id="cordoned by somebody: still Ready"),
        pytest.param(worker(1, tainted=True), State(), Standing.READY, id="tainted for good"),
        pytest.param(
            worker(1, tainted=True, starting=True),
            State(launches=(launch(ids=[1]),)),
            Standing.JOINING,
            id="it has not taken off its start-up taint",
        ),
        pytest.param(
            worker(1, tainted=True),
            State(launches=(launch(ids=[1]),)),
            Standing.READY,
            id="Ready has joined, tainted or not",
        ),
        pytest.param(worker(1, ready=False), State(), Standing.UNHEALTHY, id="NotReady"),
        pytest.param(worker(1, ready=None), State(), Standing.UNHEALTHY, id="not known"),
        pytest.param(bare(1), State(), Standing.UNHEALTHY, id="no Node, nobody waits for it"),
        pytest.param(bare(1), State(launches=(launch(ids=[1]),)), Standing.JOINING, id="no Node yet"),
        pytest.param(
            bare(1, operation_id="l1"), State(launches=(launch(),)), Standing.JOINING, id="known by its tag only"
        ),
        pytest.param(ghost(1), State(launches=(launch(ids=[1]),)), Standing.READY, id="Ready before EC2 lists it"),
        pytest.param(worker(1), State(removals=(removal(1),)), Standing.LEAVING, id="drains"),
        pytest.param(
            worker(1), State(removals=(removal(1, RemovalPhase.UNCORDONING),)), Standing.JOINING, id="comes back"
        ),
        pytest.param(
            worker(1), State(removals=(removal(1, RemovalPhase.DELETING),)), Standing.DEAD, id="its Node is deleted"
        ),
        pytest.param(worker(1, of={"state": InstanceState.STOPPED}), State(), Standing.DEAD, id="stopped"),
        pytest.param(static(1), State(), Standing.READY, id="static"),
        pytest.param(
            static(1, instance_id=None, provider_id="k3s://static-1"), State(), Standing.READY, id="no provider-id"
        ),
    ],
)
def test_where_a_worker_stands(machine: Machine, state: State, standing: Standing) -> None:
    [one] = view_fleet(snapshot([machine]), state).workers
    assert one.standing is standing


@pytest.mark.parametrize(
    "machine",
    [
        pytest.param(worker(1, control_plane=True), id="a control-plane node"),
        pytest.param(Machine(instance=instance(1, managed=False), node=None), id="tagged, without a Node, not ours"),
        pytest.param(Machine(instance=instance(1, managed=False, server=True), node=node(1)), id="a server"),
    ],
)
def test_what_is_no_worker(machine: Machine) -> None:
    assert view_fleet(snapshot([machine]), State()).workers == ()


def test_who_is_awaited_is_a_worker_though_somebody_took_its_tag() -> None:
    """It will join, and take pods: counted out, one more would be launched beside it, above max."""
    taken = [Machine(instance=instance(n, managed=False, operation_id="l1"), node=None) for n in (1, 2)]
    fleet = view_fleet(snapshot(taken), State(launches=(launch(ids=[1], count=2),)))
    assert (fleet.joining, fleet.existing) == (2, 2)


def test_servers_that_run_are_where_commands_can_go() -> None:
    stopped = msgspec.structs.replace(SERVER, instance_id="i-0bbb", state=InstanceState.STOPPED)
    assert view_fleet(snapshot(0, servers=(SERVER, stopped)), State()).servers == (SERVER,)


def test_nothing_is_counted_twice_whoever_knows_it() -> None:
    """By the operation, by EC2 and by its Node: one worker."""
    state = State(launches=(launch(ids=[1]), launch("l2", count=1)))
    fleet = view_fleet(snapshot([worker(1, ready=False, of={"operation_id": "l1"}), bare(2, operation_id="l2")]), state)
    assert (len(fleet.workers), fleet.unidentified, fleet.joining, fleet.existing) == (2, 0, 2, 2)


def test_growth_comes_before_a_shrink_and_a_repair_before_it() -> None:
    machines = [*IDLE, full(4), worker(5, ready=False, unready_long=True)]
    decision = decided(snapshot(machines, [waiting("w", cpu=1895)]), its_policy=policy())
    assert decision.action is Action.SCALE_UP
    assert [r.reason for r in decision.state.removals] == ["not_ready"]


@pytest.mark.parametrize("phase", [RemovalPhase.DRAINING, RemovalPhase.UNCORDONING])
@pytest.mark.parametrize("fence", [3, NOW_S + 50])
def test_a_state_that_is_behind_its_nodes_catches_up_in_one_look(phase: RemovalPhase, fence: int) -> None:
    """A restored state: its Nodes have seen fences that it does not know, but none above the time."""
    machines = [worker(1, pods=[pod("web")]), full(2), full(3)]
    behind = State(fence=fence, removals=(removal(1, phase, fence=fence),))
    decision = decided(snapshot(machines, commands=told(CommandOutcome.FENCED_OFF)), behind)
    assert decision.state.fence == max(fence, NOW_S)
    again = [(operation.phase, operation.fence) for operation in decision.state.removals]
    # A drain that was fenced off cordoned nothing: it is over. An uncordon has to get through.
    assert again == ([(phase, decision.state.fence + 1)] if phase is RemovalPhase.UNCORDONING else [])


def test_the_order_of_judgement_is_what_the_architecture_tells() -> None:
    told = (Path(__file__).parents[2] / "docs" / "architecture.md").read_text(encoding="utf-8")
    table = told.partition("## The order of judgement")[2].partition("\n## ")[0]
    assert re.findall(r"^\| `(\w+)` \|", table, re.MULTILINE) == [step.__name__ for step in STEPS]
