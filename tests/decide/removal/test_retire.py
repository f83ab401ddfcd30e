"""A retirement that is days away: a replacement first, then an ordinary removal with all its checks."""

from typing import Any

import msgspec
import pytest

from autoscaler.forecast import Forecast
from autoscaler.model import Decision, Demand, KeptForecast, KeptSlot, Notice, RemovalPhase, SeenSignal, State
from autoscaler.policy import Policy
from autoscaler.signals import CustomSignal
from autoscaler.windows import Headroom, Window
from tests.decide.builders import (
    NOW_S,
    Machine,
    bare,
    decided,
    full,
    iid,
    launch,
    notice,
    opened,
    pod,
    policy,
    removal,
    snapshot,
    use,
    worker,
)
from tests.decide.capacity.test_pools import pools
from tests.decide.generators import unseen_rooms

IN_TWO_WEEKS = notice(1, "retirement", due_at_s=NOW_S + 14 * 86_400)
BUSY: list[Machine] = [worker(1, pods=[pod("a", cpu=1800)]), full(2), full(3)]
CALM = use(cpu=0.5)


def look(machines: list[Machine], *notices: Notice, its_policy: Policy | None = None, **state: Any) -> Decision:
    told = State(fence=9, notices=notices or (IN_TWO_WEEKS,), **state)
    return opened(snapshot(machines, utilisation=CALM), told, its_policy)


def going(decision: Decision) -> list[tuple[str, RemovalPhase, bool]]:
    return [(r.instance_id, r.phase, r.reclaim) for r in decision.state.removals]


def test_a_replacement_is_launched_before_anything_is_drained() -> None:
    decision = look(BUSY)
    assert (decision.reason, going(decision)) == ("retirement", [])
    assert decision.message == "Launching 1 worker: EC2 will retire a worker, and its replacement comes first."
    assert [n.replaced for n in decision.state.notices] == [True]


def test_while_it_joins_nothing_more_is_launched_nor_drained() -> None:
    told = State(fence=9, notices=decided_notices(), launches=(launch(ids=[9]),))
    decision = opened(snapshot([*BUSY, bare(9, launched_at_s=NOW_S - 30)], utilisation=CALM), told)
    assert (decision.growth, going(decision)) == (None, [])
    assert len(decision.state.launches) == 1


def decided_notices() -> tuple[Notice, ...]:
    return look(BUSY).state.notices


def test_then_it_is_drained_with_all_checks() -> None:
    decision = look([*BUSY, worker(9)], *decided_notices())
    assert going(decision) == [(iid(1), RemovalPhase.DRAINING, False)]
    assert decision.state.removals[0].reason == "retirement"


def test_where_the_others_have_room_nothing_is_launched() -> None:
    decision = look([worker(1, pods=[pod("a", cpu=100)]), worker(2), worker(3)])
    assert (decision.growth, going(decision)) == (None, [(iid(1), RemovalPhase.DRAINING, False)])


QUEUE = CustomSignal(name="queue", query="sum(queued)", per_worker_target=10)
KEPT: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "signal": ({"signals": (QUEUE,)}, {"signals": (SeenSignal(name="queue", now=30.0, least=30.0, most=30.0),)}),
    "unknown signal": ({"signals": (QUEUE,)}, {"signals": (SeenSignal(name="queue", problem="no answer"),)}),
    "headroom": ({"headroom": Headroom(workers=3)}, {}),
    "forecast": ({"forecast": Forecast(mode="on", horizon_s=600)}, {}),
    "a window that comes": (
        {"schedules": (Window(name="day", time_zone="UTC", from_time="08:20", to_time="09:00", min=3),)},
        {},
    ),
}
THREE = Demand(cpu_requested_millicores=3 * 1900)


@pytest.mark.parametrize("what", KEPT)
def test_whoever_is_kept_without_a_pod_is_replaced_first_too(what: str) -> None:
    """It was drained, and taken back at the next look since more workers were wanted: time after time."""
    changes, seen = KEPT[what]
    its_policy = msgspec.structs.replace(policy(low=1), **changes)
    forecast = KeptForecast(made_at_s=NOW_S, now=THREE, slots=(KeptSlot(at_s=NOW_S, demand=THREE),), earlier_days=3)
    state = State(fence=9, notices=(IN_TWO_WEEKS,), forecast=forecast, join_times_s=(60,))
    idle = [worker(1), worker(2), worker(3)]
    first = decided(msgspec.structs.replace(snapshot(idle), **seen), state, its_policy)
    assert (first.growth and first.growth.reason, going(first)) == ("retirement", [])
    replaced = msgspec.structs.replace(first.state, launches=())
    then = decided(msgspec.structs.replace(snapshot([*idle, worker(4)]), **seen), replaced, its_policy)
    assert going(then) == [(iid(1), RemovalPhase.DRAINING, False)]


def test_at_max_its_drain_is_not_taken_back_for_a_number_of_workers() -> None:
    its_policy = policy(low=3, high=3)
    idle = [worker(1), worker(2), worker(3)]
    first = look(idle, its_policy=its_policy)
    assert going(first) == [(iid(1), RemovalPhase.DRAINING, False)]
    cordoned = [worker(1, cordoned=True), worker(2), worker(3)]
    second = decided(snapshot(cordoned, utilisation=CALM), first.state, its_policy)
    assert going(second) == [(iid(1), RemovalPhase.DRAINING, False)]
    assert (second.reason, second.growth) == ("at_max", None)


def test_at_max_it_goes_without_a_replacement() -> None:
    """It will be gone all the same; its pods wait, and have their growth then."""
    assert going(look(BUSY, its_policy=policy(high=3))) == [(iid(1), RemovalPhase.DRAINING, False)]


@pytest.mark.parametrize(
    ("limits", "launched"),
    [
        pytest.param("max: 9", [], id="the others have room"),
        pytest.param("min: 1", ["gpu"], id="its pool is at its min: one more of it comes first"),
        pytest.param("min: 1, max: 1", [], id="its pool is at its max"),
    ],
)
def test_a_replacement_is_of_the_same_pool_and_within_its_limits(limits: str, launched: list[str]) -> None:
    gpu = f"{{name: gpu, instance_types: [g4dn.xlarge], {limits}}}"
    both = pools("{name: general, instance_types: [t3.small]}", gpu)
    workers = [worker(1, of={"pool": "gpu"}), worker(2), worker(3)]
    decision = decided(snapshot(workers, utilisation=CALM), State(fence=9, notices=(IN_TWO_WEEKS,)), both)
    assert [new.pool for new in (decision.growth.workers if decision.growth is not None else ())] == launched
    assert going(decision) == ([] if launched else [(iid(1), RemovalPhase.DRAINING, False)])


@pytest.mark.parametrize("kind", ["t3.small", "m7i.large"])
def test_a_replacement_holds_as_much_whatever_the_pool_prefers(kind: str) -> None:
    retired = worker(1, pods=[pod("a", cpu=1800)], of={"instance_type": kind})
    decision = look([retired, full(2), full(3)], its_policy=policy(types=("t3.small", "m7i.large")))
    [operation] = decision.state.launches
    assert (operation.request.overrides[0].instance_type, operation.request.count) == (kind, 1)


def test_one_launch_is_all_it_gets() -> None:
    """Pods that fit on no new worker either."""
    replaced = decided_notices()
    assert going(look(BUSY, *replaced)) == [(iid(1), RemovalPhase.DRAINING, False)]


def test_one_at_a_time_and_the_earliest_first() -> None:
    later, sooner = IN_TWO_WEEKS, notice(2, "retirement", due_at_s=NOW_S + 7 * 86_400)
    idle = [worker(n, pods=[pod(f"p{n}", cpu=100)]) for n in range(1, 5)]
    assert going(look(idle, later, sooner)) == [(iid(2), RemovalPhase.DRAINING, False)]
    busy = look(idle, later, sooner, removals=(removal(2),))
    assert [r.instance_id for r in busy.state.removals] == [iid(2)]


def test_what_has_to_be_seen_is_asked_for() -> None:
    seen = unseen_rooms(snapshot(BUSY, utilisation=CALM))
    decision = decided(seen, State(fence=9, notices=(IN_TWO_WEEKS,)))
    assert (decision.asks.rooms, decision.asks.pods_of) == (True, ("worker-i-001",))
    assert (decision.growth, decision.state.removals) == (None, ())


def test_a_machine_that_is_not_ours_is_left_to_its_owner() -> None:
    assert iid(1) not in [gone for gone, _, _ in going(look([worker(1, of={"managed": False}), worker(2), worker(3)]))]


def test_volumes_are_named_and_hold_up_no_other_retirement() -> None:
    """A replacement would be launched for a worker that its removal would be refused for."""
    machines = [worker(1, local_volumes=2), worker(2, pods=[pod("b", cpu=100)]), worker(3), worker(4)]
    decision = look(machines, IN_TWO_WEEKS, notice(2, "retirement", due_at_s=NOW_S + 15 * 86_400))
    assert going(decision) == [(iid(2), RemovalPhase.DRAINING, False)]
    told = [b.reason for b in decision.blocked if b.subject == "worker-i-001"]
    assert "retirement: 2 node-local volumes live on it, so move them; EC2 retires it" in told


def test_what_is_at_risk_goes_first_when_one_may_go() -> None:
    """EC2's rebalance recommendation: no reason to end it, and the best choice once one has to go."""
    machines = [worker(n, pods=[pod(f"p{n}", cpu=100)]) for n in (1, 2, 3)]
    state = State(fence=9, notices=(notice(3, "rebalance"),))
    assert going(decided(snapshot(machines), state, policy(low=1)))[0][0] == iid(3)
    calm = decided(snapshot(machines, utilisation=CALM), state, policy(low=1))
    assert going(calm) == []
