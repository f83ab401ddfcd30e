"""What holds for every cluster, state and policy that there can be."""

from collections.abc import Callable
from typing import Any

import msgspec
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from autoscaler.decide.fleet import view_fleet
from autoscaler.model import (
    CommandOutcome,
    CommandResult,
    Decision,
    InstanceState,
    MetricsStatus,
    Notice,
    Refusal,
    RemovalPhase,
    Snapshot,
    State,
)
from autoscaler.policy import Policy, ScaleDown
from autoscaler.state.transitions import _FORWARD, MAX_OPEN_OPERATIONS
from tests.decide.builders import (
    NOW_S,
    Machine,
    bare,
    daemon,
    decided,
    full,
    ghost,
    iid,
    launch,
    opened,
    pod,
    policy,
    removal,
    snapshot,
    static,
    use,
    waiting,
    waiting_pods,
    worker,
)

QUICK = settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])
Draw = Callable[[st.SearchStrategy[Any]], Any]

maybe = st.sampled_from([True, False, None])
ratios = st.one_of(st.none(), st.floats(min_value=0, max_value=1))


@st.composite
def machines(draw: Draw, number: int) -> Machine:
    age_s = draw(st.sampled_from([0, 59, 400, 601, 9000]))
    of: dict[str, Any] = {
        "launched_at_s": NOW_S - age_s,
        "state": draw(st.sampled_from([InstanceState.RUNNING] * 6 + list(InstanceState))),
        "managed": draw(st.sampled_from([True, True, True, False])),
        "operation_id": draw(st.sampled_from([None, "l1", "l2"])),
    }
    of_node: dict[str, Any] = {
        "created_at_s": NOW_S - age_s,
        "ready": draw(st.sampled_from([True, True, True, False, None])),
        "unready_long": draw(maybe),
        "cordoned": draw(st.sampled_from([False, False, True, None])),
        "tainted": draw(st.booleans()),
        "local_volumes": draw(st.sampled_from([0, 0, 1])),
    }
    pods = [
        pod(f"p{number}-{n}", cpu=cpu, owner_kind=draw(st.sampled_from(["ReplicaSet", "DaemonSet", "Node", ""])))
        for n, cpu in enumerate(draw(st.lists(st.integers(0, 900), max_size=2)))
    ]
    kind = draw(st.sampled_from(["worker"] * 5 + ["bare", "ghost", "static"]))
    if kind == "worker":
        return worker(number, pods=pods, of=of, **of_node)
    if kind == "bare":
        return bare(number, **of)
    return ghost(number, **of_node) if kind == "ghost" else static(number, pods=pods, **of_node)


@st.composite
def waiters(draw: Draw, number: int) -> Any:
    return waiting(
        f"w{number}",
        for_s=draw(st.sampled_from([-5, 0, 10, 31, 500])),
        cpu=draw(st.sampled_from([0, 100, 900, 1900, 12_000])),
        owner_name=draw(st.sampled_from(["web", "api"])),
        owner_kind=draw(st.sampled_from(["ReplicaSet", "ReplicaSet", "DaemonSet", ""])),
        node_selector=draw(st.sampled_from([(), (), (("pool", "gpu"),), (("topology_kubernetes_io_zone", "x"),)])),
    )


@st.composite
def snapshots(draw: Draw) -> Snapshot:
    status = draw(st.sampled_from([MetricsStatus.OK] * 3 + list(MetricsStatus)))
    results = [
        (f"r{n}", CommandResult(outcome=draw(st.sampled_from(list(CommandOutcome)))))
        for n in draw(st.sets(st.integers(0, 3)))
    ]
    return snapshot(
        [draw(machines(n)) for n in range(1, draw(st.integers(0, 8)) + 1)],
        [draw(waiters(n)) for n in range(draw(st.integers(0, 6)))],
        status=status,
        known=status is MetricsStatus.OK or (status is MetricsStatus.PARTIAL and draw(st.booleans())),
        utilisation=use(cpu=draw(ratios), memory=draw(ratios), high=draw(ratios)),
        commands=results,
    )


@st.composite
def states(draw: Draw) -> State:
    busy = draw(st.lists(st.integers(1, 9), unique=True, max_size=5))
    split = draw(st.integers(0, len(busy)))
    removals = tuple(
        removal(
            number,
            draw(st.sampled_from(list(RemovalPhase))),
            operation_id=f"r{n}",
            age_s=draw(st.sampled_from([0, 130, 500, 2000])),
            sent=draw(st.booleans()),
            reclaim=draw(st.booleans()),
            attempts=draw(st.integers(0, 6)),
        )
        for n, number in enumerate(busy[:split])
    )
    joining = busy[split:]
    launches = tuple(
        launch(
            f"l{n + 1}",
            count=2,
            ids=ids,
            landed=draw(st.booleans()),
            unidentified=draw(st.integers(0, 2)),
            age_s=draw(st.sampled_from([0, 301, 601])),
        )
        for n, ids in enumerate([joining[:2], joining[2:]])
        if ids or draw(st.booleans())
    )
    kinds = ("interruption", "retirement", "rebalance", "blind_alert", "orphan")
    notices = tuple(
        Notice(
            kind=draw(st.sampled_from(kinds)), subject=iid(n), received_at_s=NOW_S - 400, handled=draw(st.booleans())
        )
        for n in draw(st.sets(st.integers(1, 9), max_size=3))
    )
    return State(
        fence=9,
        launches=launches,
        removals=removals,
        notices=notices,
        refusals=(Refusal(node_name=f"worker-{iid(1)}", reason="x", until_s=NOW_S + 5),) if draw(st.booleans()) else (),
        last_scale_up_s=draw(st.sampled_from([None, NOW_S - 10, NOW_S - 9000])),
    )


@st.composite
def policies(draw: Draw) -> Policy:
    low = draw(st.integers(0, 5))
    return policy(
        low=low,
        high=draw(st.integers(low, 12)),
        types=draw(st.sampled_from([("t3.small",), ("t3.small", "t3.xlarge"), ("t3.xlarge", "t3.small")])),
        max_step=draw(st.sampled_from([None, 1, 3])),
        down=ScaleDown(cool_down_s=draw(st.sampled_from([0, 600]))),
    )


def new_removals(decision: Decision) -> list[Any]:
    return [r for r in decision.state.removals if r.operation_id.startswith("d1-")]


@QUICK
@given(snapshots(), states(), policies())
def test_every_decision_keeps_the_rules(seen: Snapshot, state: State, its_policy: Policy) -> None:
    decision = decided(seen, state, its_policy)

    assert decided(seen, state, its_policy) == decision, "the same input, the same decision"
    assert msgspec.json.decode(msgspec.json.encode(decision.state), type=State) == decision.state
    assert decision.message.endswith(".")

    instances = {i.instance_id: i for i in seen.instances}
    begun = new_removals(decision)
    for operation in begun:
        known = instances.get(operation.instance_id)
        assert known is None or known.managed, "only ours"
        assert known is not None or operation.phase is RemovalPhase.DELETING
    shrunk = [r for r in begun if r.reason in ("low_utilisation", "above_max")]
    ready = view_fleet(seen, state).ready
    if seen.metrics_status is not MetricsStatus.OK:
        assert not shrunk, "incomplete metrics never shrink"
    if shrunk:
        assert decision.growth is None
        assert ready - len(shrunk) >= its_policy.workers.min, "never below min"
        assert len(shrunk) == len(begun), "one thing at a time"
    if decision.growth is not None:
        after = view_fleet(seen, decision.state).existing + decision.growth.count
        assert after <= its_policy.workers.max, "never above max"
        step = its_policy.scale_up.max_step
        assert step is None or decision.growth.count <= step
        assert decision.growth.count > 0
    assert len(decision.state.launches) + len(decision.state.removals) <= MAX_OPEN_OPERATIONS


@QUICK
@given(snapshots(), states(), policies())
def test_phases_never_go_back_and_ids_are_never_lost(seen: Snapshot, state: State, its_policy: Policy) -> None:
    decision = decided(seen, state, its_policy)
    after = {r.operation_id: r for r in decision.state.removals}
    for before in state.removals:
        now = after.get(before.operation_id)
        if now is not None and now.phase is not before.phase:
            # One look may prove two steps: drained, and on to terminating.
            reachable = _FORWARD[before.phase].union(*(_FORWARD[p] for p in _FORWARD[before.phase]))
            assert now.phase in reachable
        if before.phase in (RemovalPhase.TERMINATING, RemovalPhase.DELETING):
            assert now is None or now.phase in (RemovalPhase.TERMINATING, RemovalPhase.DELETING)
        if now is not None:
            assert now.fence >= before.fence
    launches = {operation.operation_id: operation for operation in decision.state.launches}
    for operation in state.launches:
        left = launches.get(operation.operation_id)
        if left is not None:
            assert {*operation.instance_ids, *operation.finished_ids} <= {*left.instance_ids, *left.finished_ids}
            assert left.request == operation.request, "the request is frozen"


@QUICK
@given(snapshots(), states(), policies())
def test_what_was_just_asked_for_is_not_asked_for_again(seen: Snapshot, state: State, its_policy: Policy) -> None:
    first = opened(seen, state, its_policy)
    second = decided(seen, first.state, its_policy)
    known = {operation.operation_id for operation in state.launches}
    began = any(operation.operation_id not in known for operation in first.state.launches)
    if began and its_policy.scale_up.max_step is None:
        # What pods bind to a zone without a subnet of ours is wanted still, and refused still.
        again = () if second.growth is None else second.growth.workers
        assert not [new for new in again if new.zone in {"", "us-east-1a", "us-east-1b"}]
    shrunk = [r for r in new_removals(first) if r.reason == "low_utilisation"]
    if shrunk:
        assert second.state.removals == first.state.removals


@QUICK
@given(st.integers(0, 40), st.sampled_from([100, 700, 900, 1500, 1900]), st.integers(0, 3))
def test_more_pods_of_one_shape_never_ask_for_fewer_workers(count: int, cpu: int, room: int) -> None:
    machines_there = [full(1), *(worker(n + 2, pods=[daemon(f"d{n}")]) for n in range(room))]

    def wanted(pods: int) -> int:
        growth = decided(
            snapshot(machines_there, waiting_pods(pods, cpu=cpu)), its_policy=policy(low=0, high=99)
        ).growth
        return growth.count if growth is not None else 0

    assert wanted(count) <= wanted(count + 1) <= wanted(count) + 1


@QUICK
@given(st.integers(1, 20), st.floats(min_value=0, max_value=0.29), st.floats(min_value=0, max_value=0.59))
def test_a_quiet_fleet_shrinks_to_a_size_that_stays(ready: int, cpu: float, memory: float) -> None:
    """However the load lies: no removal is followed by a launch, and it ends."""
    machines_there = [worker(n, pods=[pod(f"p{n}", cpu=10)]) for n in range(1, ready + 1)]
    its_policy = policy(high=20, low=1, down=ScaleDown(cool_down_s=0))
    left = machines_there
    for _ in range(ready + 1):
        share = ready / len(left)
        seen = snapshot(left, utilisation=use(cpu=min(1.0, cpu * share), memory=min(1.0, memory * share)))
        decision = decided(seen, None, its_policy)
        assert decision.growth is None
        gone = {r.instance_id for r in new_removals(decision)}
        if not gone:
            return
        left = [m for m in left if m.instance is not None and m.instance.instance_id not in gone]
    raise AssertionError("it did not come to rest")
