"""What holds for every cluster, state and policy that there can be."""

from typing import Any

import msgspec
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from autoscaler.decide.capacity.launch import plan_launch
from autoscaler.decide.fleet import view_fleet
from autoscaler.decide.scheduling.picture import Picture
from autoscaler.decide.scheduling.placing import Trial
from autoscaler.model import (
    ON_DEMAND,
    CommandOutcome,
    CommandRef,
    CommandResult,
    Decision,
    Growth,
    LaunchContext,
    LaunchOperation,
    MetricsStatus,
    NewWorkers,
    Pod,
    Pool,
    RemovalPhase,
    Snapshot,
    State,
)
from autoscaler.policy import Cost, Policy, ScaleDown
from autoscaler.state.transitions import _FORWARD, MAX_OPEN_OPERATIONS, launch_landed
from tests.decide.builders import (
    NOW_S,
    Machine,
    bare,
    daemon,
    decided,
    full,
    iid,
    opened,
    pod,
    policy,
    removal,
    snapshot,
    use,
    waiting,
    waiting_pods,
    worker,
)
from tests.decide.generators import contexts, policies, snapshots, states, unseen_rooms

QUICK = settings(max_examples=100)
WIDE = settings(QUICK, max_examples=150)
SAME_ZONE = {"zone": "us-east-1a"}
SHRINKS = frozenset({"low_utilisation", "consolidation", "above_max"})


def new_removals(decision: Decision) -> list[Any]:
    return [r for r in decision.state.removals if r.operation_id.startswith("d1-")]


@WIDE
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
        assert known is not None or operation.phase in {RemovalPhase.INSPECTING, RemovalPhase.DELETING}
        assert known is None or not known.server
    shrunk = [r for r in begun if r.reason in SHRINKS]
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


@WIDE
@given(snapshots(), states(), policies(), st.sampled_from([0.05, 0.1, 0.2, 0.5, 1.0]))
def test_what_is_launched_under_a_cap_stays_below_it_at_its_dearest(
    seen: Snapshot, state: State, its_policy: Policy, cap: float
) -> None:
    capped = msgspec.structs.replace(its_policy, cost=Cost(max_usd_per_hour=cap, other_usd_per_hour=0.02))
    decision = decided(seen, state, capped)
    if decision.growth is None:
        return
    cost = decision.cost
    assert cost is not None
    dearest = sum(new.count * (new.usd_at_most or 0.0) for new in decision.growth.workers)
    assert all(new.usd_at_most is not None for new in decision.growth.workers)
    assert dearest <= cap + 1e-6
    if seen.metrics_status is not MetricsStatus.UNAVAILABLE and not any(r.reclaim for r in decision.state.removals):
        assert cost.usd_per_hour + dearest <= cap + 1e-6
        assert cost.unknown_workers == 0


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
    shrunk = [r for r in new_removals(first) if r.reason in SHRINKS - {"above_max"}]
    if shrunk:
        assert second.state.removals == first.state.removals


@WIDE
@given(snapshots(), states(), policies())
def test_nobody_elses_machine_is_ever_meant(seen: Snapshot, state: State, its_policy: Policy) -> None:
    """Whatever begins: its machine is ours by EC2's own word, or gone with our label on the Node that is left."""
    nodes = {n.instance_id: n for n in seen.nodes}
    instances = {i.instance_id: i for i in seen.instances}
    # A drain that EC2's notice has overtaken is sent anew, as a new operation of the old reason.
    going_on = {removal.instance_id for removal in state.removals}
    for operation in new_removals(decided(seen, state, its_policy)):
        instance, node = instances.get(operation.instance_id), nodes.get(operation.instance_id)
        assert node is None or not node.control_plane
        if instance is not None:
            assert instance.managed
            assert not instance.server
        else:
            assert node is not None
            assert node.managed is True
        if operation.reason in SHRINKS and operation.instance_id not in going_on:
            assert operation.phase is RemovalPhase.DRAINING, "nobody is ended undrained for want of work"
            assert node is not None
            assert (node.ready, node.cordoned) == (True, False)
            assert not node.local_volumes
            assert node.movable == 0 or node.name in seen.pods_of, "its pods were looked at, one by one"
        if operation.reason in {"not_ready", "no_node", "join_timeout"}:
            assert operation.phase is RemovalPhase.INSPECTING, "nothing is ended on absence: a server is asked first"
        if operation.reason == "not_ready":
            assert node is not None
            assert not node.local_volumes, "what is known to stay is not asked about"


@WIDE
@given(snapshots(), states(), policies())
def test_metrics_that_are_not_complete_only_ever_add(seen: Snapshot, state: State, its_policy: Policy) -> None:
    """Take away what makes metrics complete: nothing is removed that was not being removed, but what EC2 takes."""
    for status, known in (
        (MetricsStatus.PARTIAL, True),
        (MetricsStatus.PARTIAL, False),
        (MetricsStatus.UNAVAILABLE, False),
    ):
        worse = msgspec.structs.replace(
            seen, metrics_status=status, cluster_known=known and seen.cluster_known, metrics_problems=("less is known",)
        )
        if status is MetricsStatus.UNAVAILABLE:
            worse = msgspec.structs.replace(worse, metrics_at_s=None, nodes=(), pods=(), utilisation=())
        decision = decided(worse, state, its_policy)
        begun = new_removals(decision)
        # One that is asked or drained anew is a new operation of a removal that was under way.
        leaving = {r.instance_id for r in state.removals}
        assert not [r for r in begun if r.reason in SHRINKS and r.instance_id not in leaving]
        if not worse.cluster_known:
            assert all(r.reclaim or r.reason == "instance_gone" or r.instance_id in leaving for r in begun)
            assert decision.growth is None or decision.growth.reason == "blind_growth"
        if worse.cluster_known is False and status is MetricsStatus.PARTIAL:
            assert decision.growth is None, "no growth from a guess"


@WIDE
@given(snapshots(), states(), policies())
def test_what_was_not_looked_at_is_asked_for_and_not_guessed(seen: Snapshot, state: State, its_policy: Policy) -> None:
    blind = unseen_rooms(seen)
    decision = decided(blind, state, its_policy)
    assert not [r for r in new_removals(decision) if r.reason in SHRINKS]
    assert decision.growth is None or decision.growth.reason != "pods_unschedulable"
    assert not (decision.asks.rooms or decision.asks.pods_of) or blind.cluster_known
    whole = decided(seen, state, its_policy)
    if [r for r in new_removals(whole) if r.reason in SHRINKS]:
        assert decision.asks.rooms, "who could go with more in sight is why to look closer"


@QUICK
@given(st.integers(1, 12), st.integers(0, 3), st.sampled_from([MetricsStatus.PARTIAL, MetricsStatus.UNAVAILABLE]))
def test_a_fleet_that_would_shrink_stays_while_metrics_are_not_complete(
    ready: int, low: int, status: MetricsStatus
) -> None:
    machines = [worker(n) for n in range(1, ready + 1)]
    its_policy = policy(low=low, high=12, down=ScaleDown(cool_down_s=0))
    assert bool(new_removals(decided(snapshot(machines), None, its_policy))) == (ready > low), "it would"
    decision = decided(snapshot(machines, status=status), None, its_policy)
    assert new_removals(decision) == []
    assert ready < low or decision.growth is None


@WIDE
@given(snapshots(), states(), policies(), contexts, st.data())
def test_a_plan_asks_for_what_was_decided_and_for_no_more(
    seen: Snapshot, state: State, its_policy: Policy, context: LaunchContext, data: st.DataObject
) -> None:
    growth = decided(seen, state, its_policy).growth
    if growth is None:
        zones = st.sampled_from(["", "us-east-1a", "x"])
        new = st.builds(NewWorkers, st.sampled_from(its_policy.workers.instance_types), st.integers(1, 9), zones)
        growth = Growth(workers=tuple(data.draw(st.lists(new, min_size=1, max_size=3))), reason="r")
    plan = plan_launch(growth, context, seen, state, its_policy, cluster_id="sim", now_s=NOW_S, decision_id="d1")
    assert sum(operation.request.count for operation in plan.opened) + plan.unplaced == growth.count
    assert plan.state.launches == (*state.launches, *plan.opened)
    exhausted = {b.pool for b in state.backoffs if b.until_s > NOW_S}
    asked = {operation.operation_id: operation.request.count for operation in plan.opened}
    for fallback in plan.fallbacks:
        missing = asked[fallback.of]
        count = fallback.paid_for(missing)
        assert 0 <= count <= missing
        assert fallback.usd_at_most is None or count * (fallback.usd_each or 0) <= missing * fallback.usd_at_most + 1e-6
        assert fallback.operation.request.market == ON_DEMAND
    for operation in plan.opened:
        request = operation.request
        assert request.client_token == operation.operation_id
        assert request.overrides
        assert len({row.zone for row in request.overrides}) == 1
        rows = ((row.instance_type, row.zone) for row in request.overrides)
        assert not {Pool(instance_type=kind, zone=zone, market=request.market) for kind, zone in rows} & exhausted
        assert {row.subnet_id for row in request.overrides} <= {subnet for subnet, _ in context.subnet_zones}


def placed_by_size(seen: Snapshot, pods: list[Pod], its_policy: Policy) -> list[Pod]:
    """The pods that found a Node, the largest first, each on the first that the filters let it on."""
    picture = Picture(seen, view_fleet(seen, State()), State(), its_policy, now_s=NOW_S)
    trial, at_work = Trial(picture.cluster), []
    for one in sorted(pods, key=lambda p: -p.requests.cpu_millicores):
        rules = picture.book.of(one)
        there = next((node for node in picture.cluster.nodes.values() if trial.fits(rules, node)), None)
        if there is not None:
            trial.put(rules, there)
            at_work.append(msgspec.structs.replace(one, node=there.name, unschedulable_since_s=None))
    return at_work


@QUICK
@given(st.lists(st.sampled_from([100, 400, 700, 900, 1500, 1800]), min_size=1, max_size=30), st.integers(0, 3))
def test_once_what_was_asked_for_has_come_nothing_more_is_asked_for(sizes: list[int], idle: int) -> None:
    """From the launch to the last pod's start: no look on the way asks again, and the last one finds all at work."""
    its_policy = policy(low=0, high=60)
    there = [full(1), *(worker(n + 2, pods=[daemon(f"d{n}")]) for n in range(idle))]
    pods = [waiting(f"w{n}", cpu=cpu) for n, cpu in enumerate(sizes)]
    first = opened(snapshot(there, pods), None, its_policy)
    state, number, launched = first.state, 300, []
    for operation in first.state.launches:
        ids = range(number, number + operation.request.count)
        number += operation.request.count
        launched += [(n, operation) for n in ids]
        state = launch_landed(state, operation.operation_id, tuple(iid(n) for n in ids))

    def of(operation: LaunchOperation) -> dict[str, Any]:
        zone = operation.request.overrides[0].zone
        return {"zone": zone, "launched_at_s": NOW_S, "operation_id": operation.operation_id}

    def joined(**node_changes: Any) -> list[Machine]:
        daemons = [daemon("own")] if idle else []
        return [worker(n, pods=daemons, of=of(by), created_at_s=NOW_S, **node_changes) for n, by in launched]

    arrived = joined()
    for machines in ([bare(n, **of(by)) for n, by in launched], joined(ready=False), arrived):
        decision = decided(snapshot([*there, *machines], pods), state, its_policy)
        assert decision.growth is None, decision.message
        state = decision.state
    assert state.launches == ()
    ready = [*there, *arrived]
    at_work = placed_by_size(snapshot(ready), pods, its_policy)
    assume(len(at_work) == len(pods))  # the scheduler, too, may place them so that one is left over
    decision = decided(snapshot(ready, at_work, utilisation=use(cpu=0.5)), state, its_policy)
    assert (decision.growth, new_removals(decision)) == (None, [])


SHAPES = st.tuples(st.sampled_from([100, 700, 900, 1500, 1900]), st.sampled_from([10, 100, 700, 1400]))


@QUICK
@given(
    st.integers(0, 40),
    SHAPES,
    st.tuples(st.integers(0, 3), st.integers(0, 2)),
    st.tuples(st.sampled_from([5, 12, 99]), st.sampled_from([None, 2])),
)
def test_more_pods_of_one_shape_never_ask_for_fewer_workers(
    count: int, shape: tuple[int, int], there_are: tuple[int, int], limits: tuple[int, int | None]
) -> None:
    (cpu, memory_mib), (room, leaving), (most, max_step) = shape, there_are, limits
    numbers = range(50, 50 + leaving)
    there = [full(1), *(worker(n + 2, pods=[daemon(f"d{n}")]) for n in range(room)), *(worker(n) for n in numbers)]
    going = State(fence=9, removals=tuple(removal(n, operation_id=f"r{n}") for n in numbers))

    def workers(pods: int) -> int:
        """Launched and taken back."""
        waits = [waiting(f"w{n}", cpu=cpu, memory_mib=memory_mib) for n in range(pods)]
        decision = decided(snapshot(there, waits), going, policy(low=0, high=most, max_step=max_step))
        back = sum(r.phase is RemovalPhase.UNCORDONING for r in decision.state.removals)
        return back + (decision.growth.count if decision.growth is not None else 0)

    assert workers(count) <= workers(count + 1) <= workers(count) + 1


@QUICK
@given(st.integers(1, 30), st.integers(0, 6), st.integers(0, 8), st.sampled_from([None, 1, 3]), st.integers(0, 40))
def test_the_limits_hold_whatever_waits(most: int, low: int, ready: int, max_step: int | None, pods: int) -> None:
    low = min(low, most)
    decision = decided(
        snapshot([full(n) for n in range(1, ready + 1)], waiting_pods(pods), utilisation=use(cpu=0.5)),
        None,
        policy(low=low, high=most, max_step=max_step),
    )
    count = decision.growth.count if decision.growth is not None else 0
    wanted = max(ready + -(-pods // 2), low)
    assert count == min(max(0, wanted - ready), max(0, most - ready), max_step or 99), "no less than the limits let"


@QUICK
@given(st.integers(1, 20), st.integers(0, 20), st.integers(0, 3), st.booleans())
def test_a_shrink_stops_at_the_minimum_and_at_the_step(ready: int, low: int, static_too: int, empty: bool) -> None:
    high = max(20, low)
    machines = [worker(n, pods=[] if empty else [pod(f"p{n}", cpu=10)]) for n in range(1, ready + 1)]
    others = [worker(n, of={"managed": False}) for n in range(60, 60 + static_too)]
    decision = decided(
        snapshot([*machines, *others]),
        None,
        policy(low=low, high=high, down=ScaleDown(cool_down_s=0, max_empty_step=3)),
    )
    gone = new_removals(decision)
    assert ready + static_too - len(gone) >= min(low, ready + static_too)
    assert len(gone) <= (3 if empty else 1)
    assert {r.instance_id for r in gone} <= {iid(n) for n in range(1, ready + 1)}
    if ready + static_too > max(low, 1) + 4 and ready > 4:
        assert gone, "nor does it stop earlier"


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


@settings(QUICK, max_examples=40)
@given(
    st.integers(3, 9),
    st.sets(st.integers(1, 9)),
    st.sampled_from([CommandOutcome.REFUSED, CommandOutcome.BLOCKED_BY_BUDGET]),
    st.sampled_from([0, 60, 1800]),
    st.sampled_from([5, 120]),
)
def test_every_removable_worker_is_tried_within_three_looks_for_each(
    workers: int, held: set[int], outcome: CommandOutcome, refused_for_s: int, look_every_s: int
) -> None:
    """A look chooses, one hears the refusal, one gives back: then the next. The held ones are the oldest, or any."""
    machines = {iid(n): worker(n, pods=[pod(f"p{n}", cpu=50)], of=SAME_ZONE) for n in range(1, workers + 1)}
    its_policy = policy(low=1, down=ScaleDown(refused_for_s=refused_for_s))
    held_ids = {iid(n) for n in held}
    state: State = State(fence=9)
    tried: set[str] = set()
    for number in range(3 * workers):
        at_s = NOW_S + number * look_every_s
        heard = [
            (r.operation_id, CommandResult(outcome=outcome if r.phase is RemovalPhase.DRAINING else _DONE))
            for r in state.removals
        ]
        seen = snapshot(list(machines.values()), at_s=at_s, commands=heard)
        decision = decided(seen, state, its_policy)
        begun = [r.instance_id for r in new_removals(decision) if r.created_at_s == at_s]
        tried.update(begun)
        if not held_ids.issuperset(begun):
            break  # one that nothing holds goes
        sent = CommandRef(command_id="c", server_id="s", sent_at_s=at_s)
        removals = tuple(msgspec.structs.replace(r, command=sent) for r in decision.state.removals)
        state = msgspec.structs.replace(decision.state, removals=removals)
    assert tried - held_ids or tried == machines.keys()


_DONE = CommandOutcome.SUCCEEDED
