"""What Spot does not give is launched on demand at once: saved in one step, sent next, never twice, never for more."""

from typing import Any

import msgspec
import pytest

from autoscaler.act.effects import due_effects
from autoscaler.act.holder import Holder
from autoscaler.act.perform import Actor
from autoscaler.model import (
    Fallback,
    LaunchOperation,
    LaunchResult,
    Lease,
    Notice,
    Pool,
    State,
)
from autoscaler.ports import FleetUnavailable
from autoscaler.state.backoffs import LAUNCH_PATH, path_held
from autoscaler.state.notices import add_notices
from tests.act.fakes import Clock, Commands, Fleet, LossyStore, Store
from tests.decide.builders import NOW_S, ZONES, iid, launch, policy, removal, snapshot

A, _ = ZONES
GONE = "InsufficientInstanceCapacity"
NO_ROLE = "AuthFailure.ServiceLinkedRoleCreationNotPermitted"
SPOT_POOL = Pool(instance_type="t3.small", zone=A, market="spot")
LEASE = Lease(owner="me", expires_at_s=NOW_S + 40)


def on_spot(count: int = 3, **changes: Any) -> LaunchOperation:
    operation = launch("l1", count=count, age_s=0, **changes)
    return msgspec.structs.replace(operation, request=msgspec.structs.replace(operation.request, market="spot"))


def fallback(count: int = 3, *, usd_each: float | None = 0.02, usd_at_most: float | None = None) -> Fallback:
    operation = launch("l1-od", count=count, age_s=0)
    return Fallback(of="l1", operation=operation, usd_each=usd_each, usd_at_most=usd_at_most)


def act(
    *answers: LaunchResult | Exception,
    store: Store | None = None,
    instead: Fallback | None = None,
    clock: Clock | None = None,
) -> tuple[Store, Fleet, Actor]:
    store = store or Store(State(launches=(on_spot(),), lease=LEASE))
    fleet = Fleet(*answers)
    holder = Holder(store, "me", store.state, store.version)
    actor = Actor(holder, fleet, Commands(), clock or Clock(NOW_S), policy(), fallbacks=(instead or fallback(),))
    actor.perform(due_effects(store.state, snapshot(0), policy()))
    return store, fleet, actor


def short(*numbers: int, code: str = GONE) -> LaunchResult:
    return LaunchResult(instance_ids=tuple(iid(n) for n in numbers), errors=((code, "t3.small", A),))


def gave(*numbers: int) -> LaunchResult:
    return LaunchResult(instance_ids=tuple(iid(n) for n in numbers))


def sent(fleet: Fleet) -> list[tuple[str, str, int]]:
    return [(r.client_token, r.market, r.count) for r in fleet.requests]


def test_what_is_missing_is_launched_on_demand() -> None:
    store, fleet, actor = act(short(1), gave(2, 3))
    assert sent(fleet) == [("l1", "spot", 3), ("l1-od", "on-demand", 2)]
    assert [(o.operation_id, o.instance_ids, o.unidentified) for o in store.state.launches] == [
        ("l1", (iid(1),), 0),
        ("l1-od", (iid(2), iid(3)), 0),
    ]
    assert "what Spot did not give is launched on demand: 2 workers" in actor.done
    assert [b.pool for b in store.state.backoffs] == [SPOT_POOL], "and on demand is not left alone"


def test_the_save_that_notes_the_shortfall_holds_the_launch_in_its_place() -> None:
    store, fleet, _ = act(short(), gave(1, 2, 3))
    assert len(fleet.requests) == 2
    noted = store.saves[0]
    assert [(o.operation_id, o.unidentified) for o in noted.launches] == [("l1-od", 3)]
    assert [b.pool for b in noted.backoffs] == [SPOT_POOL]


def test_all_of_it_on_spot_needs_nothing_more() -> None:
    store, fleet, _ = act(gave(1, 2, 3))
    assert len(fleet.requests) == 1
    assert [o.operation_id for o in store.state.launches] == ["l1"]


@pytest.mark.parametrize(
    ("code", "held"),
    [
        (NO_ROLE, False),
        ("MaxSpotInstanceCountExceeded", False),
        ("SpotMaxPriceTooLow", False),
        ("UnfulfillableCapacity", False),
        ("UnauthorizedOperation", False),
        ("CodeOfNextYear", False),
        ("RequestLimitExceeded", True),
    ],
)
def test_a_call_that_is_refused_holds_up_what_is_on_demand_only_where_ec2_turns_all_away(code: str, held: bool) -> None:
    refused = FleetUnavailable(f"AWS refused: {code}", code=code)
    store, fleet, _ = act(refused, gave(1, 2, 3))
    assert len(fleet.requests) == (1 if held else 2)
    assert (path_held(store.state, NOW_S) is not None) is held
    [backoff] = store.state.backoffs
    assert (backoff.pool, backoff.error_code) == (LAUNCH_PATH if held else SPOT_POOL, code)


def test_a_call_that_may_have_landed_is_not_replaced() -> None:
    store, fleet, _ = act(FleetUnavailable("no answer", code="ReadTimeoutError", effect_unknown=True))
    assert len(fleet.requests) == 1
    assert [o.operation_id for o in store.state.launches] == ["l1"], "it is sent again to the letter"


def test_what_was_sent_before_is_not_replaced() -> None:
    again = on_spot(sent_at_s=NOW_S + 1)
    store, fleet, _ = act(short(1), store=Store(State(launches=(again,), lease=LEASE)))
    assert len(fleet.requests) == 1
    assert [o.operation_id for o in store.state.launches] == ["l1"], "a fresh look counts who is there, and asks anew"


@pytest.mark.parametrize(
    ("usd_each", "usd_at_most", "count"),
    [
        pytest.param(0.02, None, 3, id="no cap"),
        pytest.param(0.02, 0.02, 3, id="each is paid for"),
        pytest.param(0.02, 0.014, 2, id="two of three are"),
        pytest.param(0.02, 0.006, 0, id="none is"),
        pytest.param(None, 0.02, 0, id="a price that nobody knows"),
        pytest.param(None, None, 3, id="and none is asked for"),
    ],
)
def test_it_costs_no_more_than_what_is_missing_may(
    usd_each: float | None, usd_at_most: float | None, count: int
) -> None:
    _, fleet, actor = act(short(), gave(1, 2, 3), instead=fallback(usd_each=usd_each, usd_at_most=usd_at_most))
    assert [r.count for r in fleet.requests[1:]] == ([count] if count else [])
    no_room = f"cost.max_usd_per_hour has no room for {3 - count} of 3 workers"
    told = f"what Spot did not give is not launched on demand: {no_room}"
    assert (told in actor.done) is (count < 3)


def test_without_time_left_it_is_open_and_the_next_look_sends_it() -> None:
    store, fleet, actor = act(short(), clock=Clock(NOW_S, spends_s=15.0))
    assert len(fleet.requests) == 1
    assert [o.operation_id for o in store.state.launches] == ["l1-od"]
    assert any("time of this invocation" in event for event in actor.done)
    next_fleet = Fleet(gave(1, 2, 3))
    holder = Holder(store, "me", store.state, store.version)
    Actor(holder, next_fleet, Commands(), Clock(NOW_S), policy()).perform(
        due_effects(store.state, snapshot(0), policy())
    )
    assert sent(next_fleet) == [("l1-od", "on-demand", 3)]


def test_a_write_whose_answer_is_lost_opens_one() -> None:
    notice = Notice(kind="interruption", subject=iid(9), received_at_s=NOW_S)
    state = State(launches=(on_spot(),), lease=LEASE)
    store = LossyStore(state, then=lambda s: s.put(add_notices(s.state, (notice,))))
    kept, fleet, _ = act(short(), gave(1, 2, 3), store=store)
    assert [r.client_token for r in fleet.requests] == ["l1", "l1-od"]
    assert [o.operation_id for o in kept.state.launches] == ["l1-od"]


def test_there_is_no_room_for_it_in_a_full_state() -> None:
    others = tuple(removal(n, operation_id=f"r{n}", sent=True) for n in range(2, 52))
    store, fleet, _ = act(short(1), store=Store(State(launches=(on_spot(),), removals=others, lease=LEASE)))
    assert len(fleet.requests) == 1
    assert len(store.state.launches) == 1


def test_what_is_turned_away_meanwhile_is_not_asked_on_demand_either() -> None:
    busy = LaunchResult(errors=(("RequestLimitExceeded", "t3.small", A),))
    store, fleet, _ = act(busy)
    assert len(fleet.requests) == 1
    assert store.state.launches == (), "what was never sent need not stay"
    assert [b.pool for b in store.state.backoffs] == [LAUNCH_PATH]
