"""Which worker may go, in which order, and every reason why one may not."""

from typing import Any

import msgspec
import pytest

from autoscaler.model import (
    Action,
    CommandOutcome,
    Decision,
    HeldWorker,
    InstanceState,
    MetricsStatus,
    RemovalPhase,
    State,
    Utilisation,
)
from autoscaler.policy import Policy, ScaleDown
from tests.decide.builders import (
    NOW_S,
    SERVER,
    ZONES,
    Machine,
    bare,
    daemon,
    decided,
    full,
    instance,
    launch,
    node,
    pod,
    policy,
    removal,
    snapshot,
    static,
    told,
    use,
    waiting,
    worker,
)

IDLE = [worker(n, pods=[pod(f"p{n}", cpu=100)]) for n in range(1, 5)]
LOW_USE = policy(down=ScaleDown(when="low_use"))
"""Four workers with one small pod each: the oldest may go."""


def going(decision: Decision) -> list[str]:
    """Instance ids of the removals that this decision began."""
    return [r.instance_id for r in decision.state.removals if r.operation_id.startswith("d1-")]


def reasons(decision: Decision) -> dict[str, str]:
    return {blocked.subject: blocked.reason for blocked in decision.blocked}


def test_the_oldest_worker_goes_first_and_alone() -> None:
    decision = decided(snapshot(IDLE))
    assert (decision.action, decision.reason) == (Action.SCALE_DOWN, "consolidation")
    assert going(decision) == ["i-001"]
    [operation] = decision.state.removals
    assert (operation.phase, operation.fence, operation.node_name) == (RemovalPhase.DRAINING, 10, "worker-i-001")
    assert operation.provider_id == "aws:///us-east-1b/i-001"
    assert (operation.not_after_s, operation.command, operation.reclaim) == (NOW_S + 120, None, False)
    assert (operation.scale_down, decision.state.last_scale_down_s) == (True, None), "nothing went yet"


@pytest.mark.parametrize(
    ("changes", "state", "its_policy", "reason"),
    [
        pytest.param({"status": MetricsStatus.PARTIAL}, State(), policy(), "metrics_partial", id="partial metrics"),
        pytest.param({"utilisation": use(cpu=0.30)}, State(), LOW_USE, "steady", id="CPU at its threshold"),
        pytest.param({"utilisation": use(memory=0.60)}, State(), LOW_USE, "steady", id="memory at its threshold"),
        pytest.param({"utilisation": use(cpu=None)}, State(), LOW_USE, "steady", id="CPU window not known"),
        pytest.param({"utilisation": use(memory=None)}, State(), LOW_USE, "steady", id="memory window not known"),
        pytest.param({"utilisation": ()}, State(), LOW_USE, "steady", id="no utilisation at all"),
        pytest.param({"utilisation": use(cpu=None)}, State(), policy(), "no_candidate", id="CPU not known, fits"),
        pytest.param({"utilisation": use(memory=None)}, State(), policy(), "no_candidate", id="memory not known, fits"),
        pytest.param({"utilisation": ()}, State(), policy(), "no_candidate", id="no utilisation at all, fits"),
        pytest.param({}, State(), policy(low=4), "at_min", id="at min"),
        pytest.param({}, State(last_scale_up_s=NOW_S - 599), policy(), "cooling_down", id="a launch a moment ago"),
        pytest.param(
            {}, State(last_undone_s=NOW_S - 599), policy(), "cooling_down", id="a removal undone a moment ago"
        ),
        pytest.param({}, State(last_scale_down_s=NOW_S - 89), policy(), "cooling_down", id="use is not measured since"),
        pytest.param({}, State(launches=(launch(),)), policy(), "waiting_for_nodes", id="a launch under way"),
        pytest.param({"servers": ()}, State(), policy(), "no_server", id="nobody could drain"),
        pytest.param(
            {"servers": (msgspec.structs.replace(SERVER, state=InstanceState.STOPPED),)},
            State(),
            policy(),
            "no_server",
            id="the server is stopped",
        ),
        pytest.param({"pods": [waiting("w", for_s=1)]}, State(), policy(), "pods_waiting", id="a pod waits"),
    ],
)
def test_nobody_goes(changes: dict[str, Any], state: State, its_policy: Policy, reason: str) -> None:
    decision = decided(snapshot(IDLE, **changes), state, its_policy)
    assert (decision.reason, going(decision)) == (reason, [])


@pytest.mark.parametrize(
    "state",
    [
        pytest.param(State(last_scale_up_s=NOW_S - 600), id="after a launch"),
        pytest.param(State(last_undone_s=NOW_S - 600), id="after a removal that was undone"),
        pytest.param(State(last_scale_down_s=NOW_S - 90), id="a removal that ended well has none"),
    ],
)
def test_the_cool_down_ends(state: State) -> None:
    assert going(decided(snapshot(IDLE), state)) == ["i-001"]


def test_a_cool_down_says_what_it_follows_and_when_it_ends() -> None:
    def message(state: State) -> str:
        return decided(snapshot(IDLE), state).message

    assert message(State(last_scale_up_s=NOW_S - 500, last_undone_s=NOW_S - 510)) == (
        "Nothing to do: the last launch is 500 s ago; the cool-down ends in 100 s."
    )
    assert message(State(last_scale_up_s=NOW_S - 500, last_undone_s=NOW_S - 490)) == (
        "Nothing to do: the last removal that was undone is 490 s ago; the cool-down ends in 110 s."
    )
    assert message(State(last_scale_down_s=NOW_S - 60)) == (
        "Nothing to do: the use without the worker that left last is measured in 30 s."
    )


def test_an_idle_fleet_need_not_be_measured_anew() -> None:
    """What machines use that run nothing for anybody leaves with them."""
    idle = [worker(n) for n in range(1, 5)]
    assert len(going(decided(snapshot(idle), State(last_scale_down_s=NOW_S - 1)))) == 2


def test_an_unfittable_pod_does_not_hold_the_fleet_up() -> None:
    assert going(decided(snapshot(IDLE, [waiting("giant", cpu=64_000)]))) == ["i-001"]


def test_gated_pods_do_not_hold_the_fleet_up() -> None:
    assert going(decided(snapshot(IDLE, gated=3))) == ["i-001"]


@pytest.mark.parametrize(
    ("oldest", "reason"),
    [
        pytest.param(static(1), None, id="a static worker"),
        pytest.param(
            Machine(instance=instance(1, managed=False), node=node(1)), None, id="tagged for the cluster, not ours"
        ),
        pytest.param(worker(1, cordoned=True), "not_schedulable: cordoned or tainted by somebody else", id="cordoned"),
        pytest.param(worker(1, cordoned=None), "not_schedulable: cordoned or tainted by somebody else", id="unknown"),
        pytest.param(worker(1, tainted=True), "not_schedulable: cordoned or tainted by somebody else", id="tainted"),
        pytest.param(
            worker(1, of={"launched_at_s": NOW_S - 599}), "young: 599 s old; scale_down.min_age_s is 600", id="young"
        ),
        pytest.param(
            worker(1, local_volumes=2), "local_volume: 2 node-local volumes live on it", id="node-local volumes"
        ),
        pytest.param(worker(1, pods=[pod("b", owner_kind="")]), "bare_pod: shop/b", id="a bare pod"),
        pytest.param(worker(1, pods=[pod("k", do_not_evict=True)]), "do_not_evict: shop/k", id="safe-to-evict=false"),
        pytest.param(
            worker(1, pods=[pod("c", priority_class="system-cluster-critical")]),
            "critical_pod: shop/c",
            id="a critical pod",
        ),
        pytest.param(
            worker(1, pods=[pod("n", namespace="vault")]), "protected_namespace: vault/n", id="a protected namespace"
        ),
        pytest.param(
            worker(1, pods=[pod("wide", cpu=1850)]),
            "no_room: shop/wide fits on no other worker (NodeResourcesFit on 3)",
            id="no room elsewhere",
        ),
    ],
)
def test_a_worker_that_stays_and_why_and_the_next_one_goes(oldest: Machine, reason: str | None) -> None:
    chosen = policy(down=ScaleDown(protected_namespaces=("vault",)))
    decision = decided(snapshot([oldest, *IDLE[1:]]), its_policy=chosen)
    name = oldest.node.name if oldest.node is not None else ""
    assert reasons(decision).get(name) == reason
    assert going(decision) != ["i-001"]
    # A young worker is the newest by launch time; everywhere else the second oldest follows.
    assert going(decision) == ["i-002"]


@pytest.mark.parametrize(
    "left",
    [
        pytest.param(daemon("d"), id="daemons"),
        pytest.param(
            pod("static", owner_kind="Node", priority_class="system-node-critical"), id="static pods, although critical"
        ),
        pytest.param(
            pod("movable", priority_class="system-cluster-critical", namespace="kube-system", owner_name="coredns"),
            id="critical pods that the policy calls movable",
        ),
    ],
)
def test_pods_that_do_not_hold_a_worker(left: Any) -> None:
    chosen = policy(down=ScaleDown(movable=("kube-system/coredns",)))
    machines = [worker(1, pods=[left]), *IDLE[1:]]
    assert going(decided(snapshot(machines), its_policy=chosen)) == ["i-001"]


def test_a_movable_pod_that_says_no_itself_stays() -> None:
    chosen = policy(down=ScaleDown(movable=("shop/web",)))
    machines = [worker(1, pods=[pod("p", do_not_evict=True)]), *IDLE[1:]]
    assert going(decided(snapshot(machines), its_policy=chosen)) == ["i-002"]


def test_a_refused_worker_is_not_asked_again_before_its_time() -> None:
    def seen_after(seconds: int) -> Decision:
        refusal = HeldWorker(node_name="worker-i-001", reason="drain refused (budget)", until_s=NOW_S + 10)
        return decided(snapshot(IDLE, at_s=NOW_S + seconds), State(held_workers=(refusal,)))

    assert going(seen_after(9)) == ["i-002"]
    assert reasons(seen_after(9))["worker-i-001"] == "held: drain refused (budget); asked again in 1 s"
    assert going(seen_after(10)) == ["i-002"], "the others come first"
    assert "worker-i-001" not in reasons(seen_after(10))


def test_one_that_was_refused_comes_after_all_that_were_not() -> None:
    held = tuple(HeldWorker(node_name=f"worker-i-00{n}", reason="x", until_s=0, failures=3 - n) for n in (1, 2))
    assert going(decided(snapshot(IDLE), State(held_workers=held))) == ["i-003"]
    assert going(decided(snapshot(IDLE[:2]), State(held_workers=held), policy(low=1))) == ["i-002"], "the rarer first"


# ------------------------------------------------------------------------------------------------------ how many, whom


@pytest.mark.parametrize(
    ("machines", "its_policy", "expected"),
    [
        pytest.param([worker(n) for n in range(1, 6)], policy(), [1, 2, 3], id="empty ones together, down to min"),
        pytest.param(
            [worker(n) for n in range(1, 6)], policy(down=ScaleDown(max_empty_step=2)), [1, 2], id="max_empty_step"
        ),
        pytest.param(
            [*IDLE[:2], worker(5), worker(6)], policy(), [5, 6], id="empty ones before older ones that are not"
        ),
        pytest.param(
            [worker(n, pods=[daemon(f"d{n}")]) for n in range(1, 4)], policy(), [1], id="daemons alone are empty"
        ),
    ],
)
def test_how_many_go(machines: list[Machine], its_policy: Policy, expected: list[int]) -> None:
    assert going(decided(snapshot(machines, utilisation=use(cpu=0.01, memory=0.01)), its_policy=its_policy)) == [
        f"i-{n:03x}" for n in expected
    ]


@pytest.mark.parametrize(
    ("ready", "cpu", "goes"),
    [
        pytest.param(4, 0.29, True, id="4 x 0.29 / 0.60 = 1.9: two would do"),
        pytest.param(3, 0.29, True, id="3 x 0.29 / 0.60 = 1.5: two would do"),
    ],
)
def test_the_margin(ready: int, cpu: float, goes: bool) -> None:
    machines = [worker(n, pods=[pod(f"p{n}", cpu=100)]) for n in range(1, ready + 1)]
    assert bool(going(decided(snapshot(machines, utilisation=use(cpu=cpu))))) is goes


@pytest.mark.parametrize("memory", [0.3, 0.4, 0.5, 0.55, 0.59])
@pytest.mark.parametrize("ready", [3, 4, 5, 7, 10])
def test_a_removal_never_calls_for_a_launch(ready: int, memory: float) -> None:
    """No oscillation: after the removal the same load is spread over fewer workers."""
    machines = [worker(n, pods=[pod(f"p{n}", cpu=100)]) for n in range(1, ready + 1)]
    gone = going(decided(snapshot(machines, utilisation=use(memory=memory))))
    left = [m for m in machines if m.instance is not None and m.instance.instance_id not in gone]
    spread = use(memory=memory * ready / len(left), cpu=0.1 * ready / len(left))
    after = decided(snapshot(left, utilisation=spread))
    assert after.growth is None
    needed = memory * ready / (0.80 - 0.10)
    assert bool(gone) == (needed <= ready - 1)


def test_zones_stay_even() -> None:
    """Two in b, one in a: the one in a stays although it is the oldest of all."""
    machines = [
        worker(n, pods=[pod(f"p{n}", cpu=100)], of={"launched_at_s": NOW_S - age, "zone": zone})
        for n, age, zone in ((1, 9000, ZONES[0]), (2, 8000, ZONES[1]), (3, 7000, ZONES[1]))
    ]
    decision = decided(snapshot(machines), its_policy=policy(low=1))
    assert going(decision) == ["i-002"]


def test_zones_that_are_uneven_already_do_not_hold_up_the_larger_one() -> None:
    machines = [
        worker(n, pods=[pod(f"p{n}", cpu=100)], of={"zone": ZONES[0] if n == 5 else ZONES[1]}) for n in range(1, 6)
    ]
    assert going(decided(snapshot(machines))) == ["i-001"]


# ------------------------------------------------------------------------------------------------------------ above max


@pytest.mark.parametrize("cpu", [0.5, pytest.param(0.95, id="more are wanted")])
def test_above_max_workers_go_although_use_is_not_low(cpu: float) -> None:
    machines = [worker(n, pods=[pod(f"p{n}", cpu=100)]) for n in range(1, 5)]
    decision = decided(snapshot(machines, utilisation=use(cpu=cpu)), its_policy=policy(high=3))
    assert (decision.reason, going(decision)) == ("above_max", ["i-001"])


@pytest.mark.parametrize(
    ("most", "unready", "phase"),
    [
        pytest.param(3, 0, RemovalPhase.DRAINING, id="it would be too many again"),
        pytest.param(4, 1, RemovalPhase.DRAINING, id="one that is NotReady has its place"),
        pytest.param(4, 0, RemovalPhase.UNCORDONING, id="max has its place"),
    ],
)
def test_nobody_is_taken_back_whom_max_has_no_place_for(most: int, unready: int, phase: RemovalPhase) -> None:
    leaving = worker(1, pods=[pod("p1", cpu=100)], cordoned=True)
    machines = [leaving, *(worker(n) for n in range(2, 5)), *(worker(5, ready=False) for _ in range(unready))]
    state = State(fence=9, removals=(removal(1, reason="above_max"),))
    decision = decided(snapshot(machines, utilisation=use(cpu=0.95)), state, policy(high=most))
    assert [r.phase for r in decision.state.removals] == [phase]


def test_above_max_no_more_go_than_are_too_many() -> None:
    """Five look empty, one is too many: use is not low, so four stay."""
    machines = [worker(n) for n in range(1, 6)]
    decision = decided(snapshot(machines, utilisation=use(cpu=0.5)), its_policy=policy(high=4))
    assert going(decision) == ["i-001"]


def test_above_max_a_worker_whose_pods_fit_nowhere_stays() -> None:
    machines = [worker(n, pods=[pod(f"p{n}", cpu=1000)]) for n in range(1, 5)]
    assert going(decided(snapshot(machines), its_policy=policy(high=3))) == []


# ------------------------------------------------------------------------------------------------- one thing at a time


@pytest.mark.parametrize(
    ("phase", "age_s", "reason"),
    [
        pytest.param(RemovalPhase.DRAINING, 60, "removal_under_way", id="one drains"),
        pytest.param(RemovalPhase.TERMINATING, 60, "removal_under_way", id="one is being terminated"),
        pytest.param(RemovalPhase.TERMINATING, 601, "consolidation", id="a stuck one blocks its own Node only"),
        pytest.param(RemovalPhase.DELETING, 60, "consolidation", id="a dead one's Node is only cleared away"),
        pytest.param(RemovalPhase.UNCORDONING, 60, "waiting_for_nodes", id="one comes back"),
    ],
)
def test_workers_leave_one_at_a_time(phase: RemovalPhase, age_s: int, reason: str) -> None:
    leaving = {
        RemovalPhase.DELETING: bare(9, state=InstanceState.TERMINATED),
        RemovalPhase.TERMINATING: worker(9, cordoned=True),
    }
    machines = [leaving.get(phase, full(9)), *IDLE]
    state = State(removals=(removal(9, phase, age_s=age_s),))
    seen = snapshot(machines, commands=told(CommandOutcome.RUNNING))
    assert decided(seen, state).reason == reason


def test_a_decision_that_grows_does_not_shrink() -> None:
    machines = [*IDLE, full(5), full(6)]
    seen = snapshot(machines, [waiting("big", cpu=1890)])
    decision = decided(seen)
    assert decision.growth is not None
    assert going(decision) == []


def test_pods_must_fit_on_workers_that_take_pods() -> None:
    """Cordoned workers offer no room: the pods of the next one must fit on the others."""
    machines = [worker(1, pods=[pod("p", cpu=1500)]), worker(2, cordoned=True), worker(3), full(4)]
    decision = decided(snapshot(machines), its_policy=policy(low=1))
    assert going(decision) == ["i-003"]


def test_metrics_that_are_known_but_not_ok_shrink_nothing_whatever_they_say() -> None:
    quiet: tuple[Utilisation, ...] = use(cpu=0.0, memory=0.0)
    for status in (MetricsStatus.PARTIAL, MetricsStatus.UNAVAILABLE):
        seen = snapshot([worker(n) for n in range(1, 9)], status=status, known=False, utilisation=quiet)
        assert decided(seen, its_policy=policy(high=4)).state.removals == ()
