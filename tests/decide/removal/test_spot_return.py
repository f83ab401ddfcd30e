"""Back to Spot: one at a time, launched before drained, only while nothing speaks against Spot."""

from typing import Any

import msgspec
import pytest

from autoscaler.model import Backoff, Decision, Notice, Pool, RemovalPhase, Resources, SpotReturn, State, ZoneJoins
from autoscaler.model.rules import Budget, equal_to
from autoscaler.policy import Cost, Policy, ScaleDown
from autoscaler.pools import WorkerPool
from autoscaler.spot import Spot
from autoscaler.windows import Blackout
from tests.decide.builders import (
    NOW_S,
    ZONES,
    Machine,
    decided,
    iid,
    launch,
    opened,
    pod,
    removal,
    snapshot,
    use,
    waiting_pods,
    worker,
)
from tests.decide.capacity.test_market import SMALL, spot_policy
from tests.decide.demand.test_scheduling_rules import rules, seen_with
from tests.decide.generators import unseen_rooms

CALM = use(cpu=0.5)
TYPES = ("t3.small", "t3a.small", "t3.medium")
SPOT_POOL = Pool(instance_type="t3.small", zone=ZONES[0], market="spot")


def busy(number: int, **changes: Any) -> Machine:
    return worker(number, pods=[pod(f"p{number}", cpu=1800)], **changes)


BASE = [busy(1), busy(2)]
FALLBACKS = [*BASE, busy(3), busy(4)]
"""Four on demand, of which two are the base."""
LAUNCHED = SpotReturn(instance_id=iid(1), decision_id="d0")
CAME = worker(9, of={"market": "spot", "operation_id": "d0-l0"})


def back_to_spot(**changes: Any) -> Policy:
    return spot_policy(base=2, types=TYPES, **changes)


def look(machines: list[Machine], its_policy: Policy | None = None, *, pods: Any = (), **state: Any) -> Decision:
    seen = snapshot(machines, pods, utilisation=CALM)
    return opened(seen, State(fence=9, **state), its_policy or back_to_spot())


def begins(decision: Decision) -> bool:
    return [o.reason for o in decision.state.launches] == ["return_to_spot"]


def going(decision: Decision) -> list[tuple[str, str, RemovalPhase]]:
    return [(r.instance_id, r.reason, r.phase) for r in decision.state.removals]


def test_a_spot_worker_is_launched_first_and_nothing_is_drained() -> None:
    decision = look(FALLBACKS)
    [operation] = decision.state.launches
    assert (operation.reason, operation.request.count, operation.request.market) == ("return_to_spot", 1, "spot")
    assert {row.zone for row in operation.request.overrides} == {ZONES[1]}, "in the zone of the worker that goes"
    assert decision.fallbacks == (), "on demand in the place of on demand would be churn"
    assert (going(decision), decision.state.spot_return) == ([], SpotReturn(instance_id=iid(1), decision_id="d1"))
    assert "replaced by Spot, and its replacement comes first" in decision.message


@pytest.mark.parametrize(
    ("its_policy", "state"),
    [
        pytest.param(spot_policy(base=4, types=TYPES), {}, id="all of them are the base"),
        pytest.param(spot_policy(base=1, share=1.0, types=TYPES), {}, id="or the share"),
        pytest.param(spot_policy(base=2, types=TYPES[:2]), {}, id="too few types"),
        pytest.param(
            msgspec.structs.replace(back_to_spot(), spot=Spot(return_after_s=7300)), {}, id="too young to be replaced"
        ),
        pytest.param(
            None,
            {"backoffs": (Backoff(pool=SPOT_POOL, error_code="x", until_s=NOW_S + 1, failures=1),)},
            id="a back-off",
        ),
        pytest.param(
            None,
            {"notices": (Notice(kind="interruption", subject="i-9", received_at_s=NOW_S - 1799, handled=True),)},
            id="an interruption lately",
        ),
        pytest.param(None, {"spot_return": SpotReturn(failures=1, until_s=NOW_S + 1)}, id="the last one was in vain"),
        pytest.param(None, {"removals": (removal(4),)}, id="somebody leaves"),
        pytest.param(None, {"launches": (launch(count=1),)}, id="somebody comes"),
        pytest.param(
            None,
            {"zones": tuple(ZoneJoins(zone=z, failures=1, failed_at_s=NOW_S - 9, until_s=NOW_S + 9) for z in ZONES)},
            id="launches in its zone do not join",
        ),
        pytest.param(
            back_to_spot(cost=Cost(max_usd_per_hour=4 * SMALL, spot_usd_per_hour={"t3.small": 0.007})),
            {},
            id="the cap has no room for both",
        ),
    ],
)
def test_what_speaks_against_it(its_policy: Policy | None, state: dict[str, Any]) -> None:
    decision = look(FALLBACKS, its_policy, **state)
    assert not begins(decision)
    assert not [row for row in going(decision) if row[1] == "return_to_spot"]


@pytest.mark.parametrize("until_s", [NOW_S, NOW_S - 5000])
def test_what_is_over_does_not(until_s: int) -> None:
    over = Backoff(pool=SPOT_POOL, error_code="InsufficientInstanceCapacity", until_s=until_s, failures=1)
    old = Notice(kind="interruption", subject="i-9", received_at_s=NOW_S - 1800, handled=True)
    record = SpotReturn(failures=2, until_s=until_s)
    decision = look(FALLBACKS, backoffs=(over,), notices=(old,), spot_return=record)
    assert begins(decision)
    assert decision.state.spot_return is not None
    assert decision.state.spot_return.failures == 2, "until one has gone well"


@pytest.mark.parametrize(("ages_s", "begun"), [((1799, 1799), False), ((1800, 1799), True), ((1800, 1800), True)])
def test_the_youngest_are_the_ones_that_were_launched_in_the_place_of_spot(
    ages_s: tuple[int, int], begun: bool
) -> None:
    young = [busy(n, of={"launched_at_s": NOW_S - age_s}) for n, age_s in zip((3, 4), ages_s, strict=True)]
    assert begins(look([*BASE, *young])) is begun


def test_an_on_demand_pool_is_left_alone() -> None:
    assert look(FALLBACKS, Policy(version=1)).reason == "no_candidate"


def test_pods_that_wait_come_first() -> None:
    assert not begins(look(FALLBACKS, pods=waiting_pods(1, for_s=5)))


def test_at_max_it_is_told_why_not() -> None:
    full_house = msgspec.structs.replace(back_to_spot(), workers=msgspec.structs.replace(back_to_spot().workers, max=4))
    [row] = [row for row in look(FALLBACKS, full_house).blocked if "return_to_spot" in row.reason]
    why = "4 workers exist and workers.max is 4, and that leaves no room to launch before draining"
    assert row.reason == f"return_to_spot: {why}"


def test_at_its_pools_own_max_too() -> None:
    full_pool = WorkerPool(name="general", instance_types=TYPES, market="spot", on_demand_base=2, max=4)
    workers = msgspec.structs.replace(back_to_spot().workers, pools=(full_pool,))
    decision = look(FALLBACKS, msgspec.structs.replace(back_to_spot(), workers=workers))
    [row] = [row for row in decision.blocked if "return_to_spot" in row.reason]
    assert "pool general has a max of 4 and 4 exist, and that leaves no room" in row.reason
    assert not begins(decision)


@pytest.mark.parametrize(
    "changes",
    [{"local_volumes": 1}, {"cordoned": True}, {"pods": [pod("bare", owner_kind="", owner_name="")]}],
)
def test_who_may_not_be_drained_is_passed_over(changes: dict[str, Any]) -> None:
    stays = worker(1, **{"pods": [pod("p1", cpu=1800)], **changes})
    decision = look([stays, busy(2), busy(3), busy(4)])
    assert decision.state.spot_return is not None
    assert decision.state.spot_return.instance_id == iid(2)


def test_whose_pods_would_not_move_is_passed_over_too() -> None:
    """A budget lets none go, or not even the Spot worker would hold them: the next one returns, and not never."""
    budget = Budget(namespace="shop", name="db", selector=equal_to({"app": "db"}), allowed=0)
    db, web = rules(owner="shop/StatefulSet/db", labels=(("app", "db"),)), rules(cpu=1800)
    held = worker(1, pods=[pod("p1", cpu=1800, owner_kind="StatefulSet", owner_name="db")])
    seen = seen_with([held, *FALLBACKS[1:]], [], db, web, budgets=(budget,))
    large = worker(
        1, pods=[pod("p1", cpu=3000)], allocatable=Resources(cpu_millicores=4000, memory_bytes=2**32, pods=9)
    )
    for chosen in (seen, snapshot([large, *FALLBACKS[1:]])):
        decision = opened(msgspec.structs.replace(chosen, utilisation=CALM), State(fence=9), back_to_spot())
        assert decision.state.spot_return is not None
        assert decision.state.spot_return.instance_id == iid(2)


ALWAYS = ScaleDown(blackouts=(Blackout(name="always", time_zone="UTC"),))


@pytest.mark.parametrize(
    ("down", "why"),
    [
        pytest.param(ALWAYS, "the blackout always has no end", id="a blackout"),
        pytest.param(ScaleDown(budget=0), "scale_down.budget is 0", id="no budget"),
    ],
)
def test_it_is_a_choice_too(down: ScaleDown, why: str) -> None:
    """Nothing is launched for it, and the drain waits of one that was launched for before."""
    held = msgspec.structs.replace(back_to_spot(), scale_down=down)
    assert not begins(look(FALLBACKS, held))
    decision = look([*FALLBACKS, CAME], held, spot_return=LAUNCHED)
    assert (going(decision), decision.state.spot_return) == ([], LAUNCHED)
    [row] = [row for row in decision.blocked if "return_to_spot" in row.reason]
    assert row.reason.startswith(f"return_to_spot: its drain waits: {why}")


def test_it_waits_until_use_is_measured_without_who_left_last() -> None:
    assert not begins(look(FALLBACKS, last_scale_down_s=NOW_S - 89))
    assert begins(look(FALLBACKS, last_scale_down_s=NOW_S - 90))


def test_the_pods_of_those_who_may_go_are_asked_for() -> None:
    seen = unseen_rooms(snapshot(FALLBACKS, utilisation=CALM))
    quiet = msgspec.structs.replace(back_to_spot(), scale_down=ScaleDown(when="low_use"))  # else a shrink asks first
    decision = decided(seen, State(fence=9), quiet)
    assert decision.growth is None
    assert set(decision.asks.pods_of) == {f"worker-{iid(n)}" for n in range(1, 5)}


# ------------------------------------------------------------------------------------------------- once it was launched


def test_once_the_spot_worker_has_come_the_other_is_drained() -> None:
    decision = look([*FALLBACKS, CAME], spot_return=LAUNCHED)
    assert going(decision) == [(iid(1), "return_to_spot", RemovalPhase.DRAINING)]
    assert decision.state.spot_return == msgspec.structs.replace(LAUNCHED, draining=True)
    assert decision.state.last_scale_down_s is None, "no scale-down"


def test_while_it_is_drained_nothing_more_begins() -> None:
    record = msgspec.structs.replace(LAUNCHED, draining=True)
    decision = look([*FALLBACKS, CAME], spot_return=record, removals=(removal(1),))
    assert decision.state.spot_return == record
    assert len(decision.state.removals) == 1
    assert decision.state.launches == ()


def test_once_it_has_gone_the_next_may_be_replaced() -> None:
    record = SpotReturn(instance_id=iid(1), decision_id="d0", draining=True, failures=3)
    decision = look([busy(2), busy(3), busy(4), CAME], spot_return=record)
    assert decision.state.spot_return is None
    following = look([busy(2), busy(3), busy(4), CAME])
    assert begins(following)
    assert following.state.spot_return == SpotReturn(instance_id=iid(2), decision_id="d1")


@pytest.mark.parametrize(
    ("machines", "record", "why"),
    [
        pytest.param(FALLBACKS, LAUNCHED, "no Spot worker came", id="Spot gave nothing, or it did not join"),
        pytest.param(
            [*FALLBACKS, busy(9, of={"market": "spot", "operation_id": "d0-l0"})],
            LAUNCHED,
            "no_room",
            id="its pods fit on no other worker, not even on the new one",
        ),
        pytest.param(
            [*FALLBACKS, CAME], msgspec.structs.replace(LAUNCHED, draining=True), "was not drained", id="it came back"
        ),
        pytest.param([busy(1, local_volumes=1), *FALLBACKS[1:], CAME], LAUNCHED, "local_volume", id="it must stay now"),
    ],
)
def test_what_is_in_vain_backs_off(machines: list[Machine], record: SpotReturn, why: str) -> None:
    failures, waits = 0, []
    for failures in range(6):
        decision = look(machines, spot_return=msgspec.structs.replace(record, failures=failures))
        assert (going(decision), decision.state.launches) == ([], ())
        failed = decision.state.spot_return
        assert failed is not None
        assert (failed.instance_id, failed.failures) == ("", failures + 1)
        assert any(why in event for event in decision.done)
        waits.append(failed.until_s - NOW_S)
    assert waits == [1800, 3600, 7200, 14_400, 21_600, 21_600]


def test_what_need_not_go_any_more_stays() -> None:
    """The base was raised meanwhile."""
    decision = look([*FALLBACKS, CAME], spot_policy(base=4, types=TYPES), spot_return=LAUNCHED)
    assert (going(decision), decision.state.spot_return) == ([], None)


def test_a_share_that_counts_the_spot_worker_too_lets_the_other_go_all_the_same() -> None:
    """Of two, one is to be on demand; of three, two are - but three there are for a moment only."""
    share = spot_policy(share=0.5, types=TYPES)
    few = msgspec.structs.replace(share, workers=msgspec.structs.replace(share.workers, min=1))
    assert begins(look(BASE, few))
    assert going(look([*BASE, CAME], few, spot_return=LAUNCHED)) == [(iid(1), "return_to_spot", RemovalPhase.DRAINING)]


def test_never_below_min() -> None:
    decision = look([busy(1), CAME], spot_policy(base=0, types=TYPES), spot_return=LAUNCHED)
    assert going(decision) == []
    assert decision.state.spot_return == LAUNCHED


# --------------------------------------------------------------------------------------------- who goes where few do


IDLE = use(cpu=0.05, memory=0.05)
FITS = ScaleDown(when="fits", max_empty_step=1)


@pytest.mark.parametrize(
    ("machines", "base", "leaves"),
    [
        pytest.param([worker(1), worker(2), worker(3, of={"market": "spot"})], 2, 3, id="the base stays, Spot goes"),
        pytest.param([worker(1), worker(2), worker(3)], 1, 1, id="the oldest of what is too much"),
        pytest.param([worker(1, of={"market": "spot"}), worker(2), worker(3)], 1, 3, id="what is too much before Spot"),
    ],
)
def test_a_shrink_keeps_the_base_and_lets_the_rest_on_demand_go_first(
    machines: list[Machine], base: int, leaves: int
) -> None:
    its_policy = spot_policy(base=base, types=TYPES, scale_down=FITS)
    decision = decided(snapshot(machines, utilisation=IDLE), State(fence=9), its_policy)
    assert [r.instance_id for r in decision.state.removals] == [iid(leaves)]


def test_who_is_kept_for_the_base_is_told() -> None:
    spot = [worker(n, local_volumes=1, of={"market": "spot"}) for n in (2, 3)]
    its_policy = spot_policy(base=1, types=TYPES, scale_down=FITS)
    kept = decided(snapshot([worker(1), *spot], utilisation=IDLE), State(fence=9), its_policy)
    assert kept.state.removals == ()
    assert any("on_demand: 1 of 2 workers are to be on demand" in row.reason for row in kept.blocked)
    alone = decided(snapshot([worker(1), *spot], utilisation=IDLE), State(fence=9), spot_policy(scale_down=FITS))
    assert [r.instance_id for r in alone.state.removals] == [iid(1)], "without a base it may go"
