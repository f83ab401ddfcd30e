"""Workers that stay NotReady, are stopped, that left only a Node or only an instance behind."""

from typing import Any

import pytest

from autoscaler.decide.removal.repair import STOPPED_KEPT_S
from autoscaler.model import (
    Action,
    CommandOutcome,
    HeldWorker,
    InstanceState,
    MetricsStatus,
    Notice,
    RemovalPhase,
    State,
)
from autoscaler.state.memory import forget_old
from tests.decide.builders import (
    NOW_S,
    OLD_S,
    Machine,
    bare,
    decided,
    full,
    ghost,
    iid,
    instance,
    node,
    notice,
    pod,
    policy,
    removal,
    snapshot,
    static,
    told,
    waiting_pods,
    worker,
)
from tests.decide.removal.looks import CALM, NOT_READY, begun, look

Phase = RemovalPhase


# ------------------------------------------------------------------------------------------------------------ NotReady


@pytest.mark.parametrize(
    ("machine", "reason"),
    [
        pytest.param(worker(1, **NOT_READY), None, id="ours: replaced"),
        pytest.param(worker(1, ready=False, unready_long=False), "", id="not for long enough"),
        pytest.param(worker(1, ready=False, unready_long=None), "", id="nobody knows how long"),
        pytest.param(static(1, **NOT_READY), "not_ready: not ours to replace", id="not ours"),
        pytest.param(worker(1, local_volumes=None, **NOT_READY), None, id="what is not shown a server is asked"),
        pytest.param(
            worker(1, local_volumes=1, **NOT_READY),
            "not_ready: 1 node-local volumes live on it, and would be lost with it",
            id="data live on it",
        ),
    ],
)
def test_workers_that_stay_not_ready(machine: Machine, reason: str | None) -> None:
    decision = look(machine)
    assert begun(decision) == ([(iid(1), "not_ready", Phase.INSPECTING)] if reason is None else [])
    assert [b.reason for b in decision.blocked if b.reason.startswith("not_ready")] == ([reason] if reason else [])


@pytest.mark.parametrize("node_age_s", [7200, 0], ids=["started again", "new"])
@pytest.mark.parametrize(
    ("age_s", "replaced"),
    [pytest.param(20, False, id="it boots"), (600, False), pytest.param(601, True, id="too late")],
)
def test_a_worker_that_was_started_again_may_join_in_the_usual_time_and_is_no_failed_launch(
    age_s: int, replaced: bool, node_age_s: int
) -> None:
    """Its Node was NotReady all the while that it was stopped, which says nothing of the machine that boots now."""
    launched_at_s = NOW_S - age_s
    machine = worker(1, of={"launched_at_s": launched_at_s}, created_at_s=launched_at_s - node_age_s, **NOT_READY)
    decision = look(machine)
    assert bool(begun(decision)) is replaced
    assert (decision.state.join_failures is not None) is (replaced and not node_age_s)


@pytest.mark.parametrize(
    ("broken", "healthy", "replaced"),
    [
        pytest.param(1, 1, 1, id="one of two: one may always be"),
        pytest.param(1, 9, 1, id="one of ten"),
        pytest.param(3, 6, 3, id="3 of 9 are 33 %"),
        pytest.param(4, 6, 0, id="4 of 10 are more than 34 %"),
        pytest.param(3, 0, 0, id="all of them: the server's fault"),
    ],
)
def test_above_a_share_nothing_is_replaced(broken: int, healthy: int, replaced: int) -> None:
    machines = [*(worker(n, **NOT_READY) for n in range(1, broken + 1)), *(full(50 + n) for n in range(healthy))]
    decision = decided(snapshot(machines, utilisation=CALM), its_policy=policy(high=50))
    assert len(begun(decision)) == replaced
    told_of = [b for b in decision.blocked if "max_unhealthy_share" in b.reason]
    assert len(told_of) == (0 if replaced else broken)


def test_repair_needs_the_cluster_known() -> None:
    changes: dict[str, Any] = {"status": MetricsStatus.PARTIAL, "known": False}
    assert begun(look(worker(1, **NOT_READY), bare(2, state=InstanceState.TERMINATED), **changes)) == []


def test_one_that_is_leaving_is_not_repaired_on_top() -> None:
    decision = look(worker(1, **NOT_READY), state=State(removals=(removal(1),)), commands=told(CommandOutcome.RUNNING))
    assert begun(decision) == []


def test_a_replaced_worker_counts_to_max_until_it_is_gone() -> None:
    machines = [full(1), full(2), worker(3, **NOT_READY)]
    decision = decided(snapshot(machines, waiting_pods(2), utilisation=CALM), its_policy=policy(high=3))
    assert begun(decision) == [(iid(3), "not_ready", Phase.INSPECTING)]
    assert decision.growth is None


# -------------------------------------------------------------------------------------------------- ghosts and orphans


@pytest.mark.parametrize(
    ("machine", "expected"),
    [
        pytest.param(
            worker(1, ready=False, of={"state": InstanceState.TERMINATED}),
            Phase.DELETING,
            id="its instance is terminated, by EC2's own word",
        ),
        pytest.param(
            worker(1, ready=False, of={"state": InstanceState.SHUTTING_DOWN}), None, id="not yet: it would come back"
        ),
        pytest.param(
            ghost(1, **NOT_READY), Phase.INSPECTING, id="EC2 forgot it; labelled ours, silent: a server is asked"
        ),
        pytest.param(ghost(1, ready=False, unready_long=False), None, id="silent for a moment only"),
        pytest.param(ghost(1), None, id="it answers: an instance that is not listed *yet*"),
        pytest.param(ghost(1, managed=False, **NOT_READY), None, id="not ours"),
        pytest.param(ghost(1, managed=None, **NOT_READY), None, id="labels are not shown: whose it was is not known"),
        pytest.param(ghost(1, instance_id=None, provider_id="k3s://x", **NOT_READY), None, id="not on EC2"),
        pytest.param(
            Machine(instance=instance(1, managed=False, state=InstanceState.TERMINATED), node=node(1, **NOT_READY)),
            None,
            id="a static worker's Node is not ours to delete",
        ),
    ],
)
def test_nodes_that_are_left_behind(machine: Machine, expected: Phase | None) -> None:
    assert begun(look(machine, looked_up=frozenset({iid(1)}))) == (
        [(iid(1), "instance_gone", expected)] if expected is not None else []
    )


def test_a_node_whose_instance_is_not_listed_is_asked_for_by_id_before_anything_follows() -> None:
    silent = ghost(1, local_volumes=2, **NOT_READY)
    unasked = look(silent)
    assert (begun(unasked), unasked.asks.instances) == ([], (iid(1),))
    living = instance(1, managed=False)
    untagged = look(silent, looked_up=frozenset({iid(1)}), unlisted=(living,))
    assert (begun(untagged), untagged.asks.instances) == ([], ())


@pytest.mark.parametrize(("by_ec2", "asked"), [(True, True), (False, False)])
def test_what_ec2_protects_from_termination_may_be_gone_all_the_same(*, by_ec2: bool, asked: bool) -> None:
    """EC2 took the Spot worker and forgot it: its Node counted for the day that it was to be left alone."""
    held = HeldWorker(node_name="worker-i-001", reason="it has to stay", until_s=NOW_S + 80_000, by_ec2=by_ec2)
    decision = look(ghost(1, **NOT_READY), state=State(held_workers=(held,)), looked_up=frozenset({iid(1)}))
    assert bool(begun(decision)) is asked


ORPHAN = Notice(kind="orphan", subject=iid(1), received_at_s=NOW_S - 300, handled=True)


@pytest.mark.parametrize(
    ("machines", "state", "expected"),
    [
        pytest.param([bare(1)], State(notices=(ORPHAN,)), True, id="without a Node for five minutes"),
        pytest.param([bare(1)], State(), False, id="seen for the first time: noted"),
        pytest.param([bare(1, launched_at_s=NOW_S - 600)], State(notices=(ORPHAN,)), False, id="it may still join"),
        pytest.param([bare(1, managed=False)], State(notices=(ORPHAN,)), False, id="not ours"),
        pytest.param([worker(1)], State(notices=(ORPHAN,)), False, id="its Node is back"),
        pytest.param(
            [bare(1), static(2, instance_id=None, provider_id="")],
            State(notices=(ORPHAN,)),
            False,
            id="a Node without provider-id may be it",
        ),
        pytest.param(
            [bare(1), static(2, instance_id=None, name="worker-i-001-7f", provider_id="k3s://worker-i-001-7f")],
            State(notices=(ORPHAN,)),
            False,
            id="a Node that bears its id in its name may be it",
        ),
        pytest.param(
            [
                bare(1, private_dns_name="ip-10-0-0-9.ec2.internal"),
                static(2, instance_id=None, name="ip-10-0-0-9.ec2.internal", provider_id="k3s://ip-10-0-0-9"),
            ],
            State(notices=(ORPHAN,)),
            False,
            id="a Node under its host name may be it",
        ),
        pytest.param(
            [bare(1), static(2, instance_id=None, name="pi-2", provider_id="k3s://pi-2")],
            State(notices=(ORPHAN,)),
            True,
            id="a bare-metal agent under its own name is not",
        ),
        pytest.param(
            [bare(1), static(9, instance_id=None, provider_id="k3s://pi-1", created_at_s=OLD_S - 90 * 86400)],
            State(notices=(ORPHAN,)),
            True,
            id="a bare-metal agent that is older than the instance is not",
        ),
        pytest.param(
            [bare(1), bare(2), bare(3)], State(notices=(ORPHAN,)), False, id="many at once: metrics are wrong"
        ),
    ],
)
def test_instances_without_a_node(machines: list[Machine], state: State, expected: bool) -> None:
    decision = look(*machines, state=state)
    assert begun(decision) == ([(iid(1), "no_node", Phase.INSPECTING)] if expected else [])


def test_an_orphan_that_is_asked_about_already_is_in_no_second_removal() -> None:
    """The soak, seed 9: it never joined, and no server had answered for five minutes."""
    asked = State(removals=(removal(1, Phase.INSPECTING, reason="join_timeout"),), notices=(ORPHAN,))
    assert [r.operation_id for r in look(bare(1), state=asked).state.removals] == ["r1"]


def test_in_another_clusters_metrics_nobody_is_an_orphan() -> None:
    """A Prometheus of the other stage: its Nodes are unknown to EC2, and ours have none there."""
    state = State(fence=9)
    for at_s in (NOW_S, NOW_S + 120, NOW_S + 301, NOW_S + 1000):
        foreign = [ghost(100 + n) for n in range(9)]
        seen = snapshot([*foreign, bare(1), bare(2), bare(3)], at_s=at_s, status=MetricsStatus.PARTIAL, known=True)
        decision = decided(seen, state, policy(high=20))
        state = decision.state
        assert state.removals == ()
    assert {b.reason for b in decision.blocked if b.reason.startswith("no_node")} == {
        "no_node: no worker of ours has a Node in these metrics: they may be another cluster's"
    }


def test_an_orphan_is_remembered_from_look_to_look_and_forgotten_when_it_joins() -> None:
    first = look(bare(1))
    assert [(n.kind, n.subject, n.received_at_s, n.handled) for n in first.state.notices] == [
        ("orphan", iid(1), NOW_S, True)
    ]
    joined = look(worker(1), state=first.state, at_s=NOW_S + 100)
    assert joined.state.notices == ()
    again = look(bare(1), state=joined.state, at_s=NOW_S + 400)
    assert begun(again) == []


def test_repair_and_shrink_never_begin_in_one_decision_although_another_removal_ends() -> None:
    idle = [worker(n, pods=[pod(f"p{n}", cpu=100)]) for n in range(1, 5)]
    seen = snapshot(
        [*idle, worker(9, **NOT_READY), bare(8, state=InstanceState.TERMINATED)],
        commands=told(CommandOutcome.SUCCEEDED),
    )
    decision = decided(seen, State(removals=(removal(8, Phase.DELETING),)))
    assert begun(decision) == [(iid(9), "not_ready", Phase.INSPECTING)]
    assert decision.action is Action.REPAIR


@pytest.mark.parametrize(
    ("machine", "state", "expected"),
    [
        pytest.param(worker(9), State(notices=(notice(9),)), "interruption", id="EC2 takes one away"),
        pytest.param(
            worker(9, ready=False, of={"state": InstanceState.TERMINATED}), State(), "instance_gone", id="ghost"
        ),
    ],
)
def test_a_quiet_fleet_waits_with_its_shrink_until_the_repair_has_begun(
    machine: Machine, state: State, expected: str
) -> None:
    idle = [worker(n, pods=[pod(f"p{n}", cpu=100)]) for n in range(1, 5)]
    decision = decided(snapshot([*idle, machine]), state)
    assert [r.reason for r in decision.state.removals] == [expected]


# ------------------------------------------------------------------------------------------------------------- stopped


def stopped(number: int, **node_changes: Any) -> Machine:
    return worker(number, of={"state": InstanceState.STOPPED}, **{**NOT_READY, **node_changes})


def test_a_stopped_worker_is_told_once_and_ended_after_a_day() -> None:
    first = look(stopped(1))
    assert (first.news, first.done) == (
        True,
        ("worker-i-001 is stopped: start it within 24 hours, or it is ended",),
    )
    state = forget_old(first.state, NOW_S + STOPPED_KEPT_S)
    before = look(stopped(1), state=state, at_s=NOW_S + STOPPED_KEPT_S - 1)
    assert (before.news, before.state) == (False, state), "told once, and no reason for a write"
    after = look(stopped(1), state=state, at_s=NOW_S + STOPPED_KEPT_S)
    assert begun(after) == [(iid(1), "stopped", Phase.INSPECTING)]
    assert after.state.join_failures is None
    again = look(worker(1), state=after.state, at_s=NOW_S + STOPPED_KEPT_S + 60)
    assert (again.state.removals, again.state.notices) == ((), ()), "started in the last moment: it stays"


@pytest.mark.parametrize(
    ("machine", "kept"),
    [
        pytest.param(stopped(1, local_volumes=1), "1 node-local volumes live on it", id="volumes"),
        pytest.param(worker(1, of={"state": InstanceState.STOPPED, "managed": False}), None, id="not ours"),
    ],
)
def test_stopped_workers_that_stay(machine: Machine, kept: str | None) -> None:
    noted = Notice(kind="stopped", subject=iid(1), received_at_s=NOW_S - STOPPED_KEPT_S, handled=True)
    decision = look(machine, state=State(fence=9, notices=(noted,)))
    assert begun(decision) == []
    reasons = [b.reason for b in decision.blocked if b.reason.startswith("stopped")]
    assert len(reasons) == (kept is not None)
    assert all(kept is not None and kept in reason for reason in reasons)
