"""Zones in which launches do not join, while they do in others."""

from typing import Any

import msgspec
import pytest

from autoscaler.decide.capacity.launch import LaunchPlan, plan_launch
from autoscaler.decide.decision import with_plan
from autoscaler.model import Action, Backoff, Growth, NewWorkers, Pool, State, ZoneJoins
from autoscaler.state.memory import forget_old
from autoscaler.state.zones import KEPT_S, MAX_ZONES, failed_in, is_doubtful, is_left_out, joined_in, record_of
from tests.decide.builders import (
    CONTEXT,
    DECISION_ID,
    NOW_S,
    ZONES,
    bare,
    decided,
    full,
    launch,
    policy,
    snapshot,
    waiting_pods,
    worker,
)

A, B = ZONES


def failed(zone: str = A, times: int = 2, *, for_s: int = 300) -> ZoneJoins:
    return ZoneJoins(zone=zone, failures=times, since_s=NOW_S - 2000, failed_at_s=NOW_S - 300, until_s=NOW_S + for_s)


def joined(zone: str = B, *, ago_s: int = 100) -> ZoneJoins:
    return ZoneJoins(zone=zone, joined_at_s=NOW_S - ago_s)


def plan(count: int, state: State, *, zone: str = "", **new: Any) -> LaunchPlan:
    return plan_launch(
        Growth(workers=(NewWorkers("t3.small", count, zone, **new),), reason="pods_unschedulable"),
        CONTEXT,
        snapshot(0),
        state,
        policy(),
        cluster_id="sim",
        now_s=NOW_S,
        decision_id=DECISION_ID,
    )


def shares(made: LaunchPlan) -> dict[str, int]:
    return {operation.request.overrides[0].zone: operation.request.count for operation in made.opened}


@pytest.mark.parametrize(
    ("count", "zones", "expected"),
    [
        pytest.param(4, [], {A: 2, B: 2}, id="nothing is known"),
        pytest.param(4, [failed(times=1)], {B: 4}, id="doubtful comes last"),
        pytest.param(4, [failed()], {B: 4}, id="nobody has joined elsewhere: only doubtful"),
        pytest.param(4, [failed(), joined()], {B: 4}, id="left out"),
        pytest.param(4, [failed(), joined(ago_s=2001)], {B: 4}, id="the join elsewhere is older: only doubtful"),
        pytest.param(4, [failed(times=1), joined()], {B: 4}, id="one failure happens: only doubtful"),
        pytest.param(4, [failed(for_s=0), joined()], {A: 1, B: 3}, id="one at a time is tried after the wait"),
        pytest.param(1, [failed(for_s=0), joined()], {B: 1}, id="and none alone"),
        pytest.param(1, [failed(times=1, for_s=0)], {A: 1}, id="no doubt after the wait"),
        pytest.param(4, [failed(), failed(B), joined("us-east-1c")], {}, id="all are left out"),
        pytest.param(
            4, [failed(for_s=0), failed(B, for_s=9), joined("us-east-1c")], {A: 1}, id="all are, and one wait is over"
        ),
        pytest.param(
            4,
            [failed(for_s=0), failed(B, for_s=0), joined("us-east-1c")],
            {A: 1, B: 1},
            id="one each is tried",
        ),
    ],
)
def test_zones(count: int, zones: list[ZoneJoins], expected: dict[str, int]) -> None:
    assert shares(plan(count, State(zones=tuple(zones)))) == expected


def test_both_doubtful_zones_are_used_evenly() -> None:
    assert shares(plan(4, State(zones=(failed(times=1), failed(B, times=1))))) == {A: 2, B: 2}


@pytest.mark.parametrize(("for_s", "expected"), [(300, {}), (0, {A: 1})])
def test_pods_that_need_the_zone_wait_for_its_probe(for_s: int, expected: dict[str, int]) -> None:
    made = plan(3, State(zones=(failed(for_s=for_s), joined())), zone=A)
    assert (shares(made), made.unplaced) == (expected, 3 - sum(expected.values()))


def test_while_a_probe_is_under_way_there_is_no_second_one() -> None:
    state = State(zones=(failed(for_s=0), joined()), launches=(launch(zone=A, ids=[2], count=1),))
    assert shares(plan(4, state)) == {B: 4}


def test_without_capacity_elsewhere_the_zone_is_probed_no_sooner() -> None:
    out_of_b = Backoff(
        pool=Pool(instance_type="t3.small", zone=B), error_code="InsufficientInstanceCapacity", until_s=NOW_S + 60,
        failures=1,
    )  # fmt: skip
    made = plan(2, State(zones=(failed(), joined()), backoffs=(out_of_b,)))
    assert (shares(made), made.unplaced) == ({}, 2)


def test_it_is_told_in_words() -> None:
    seen = snapshot([full(1), full(2)], waiting_pods(4))
    state = State(fence=9, zones=(failed(), joined()))
    decision = decided(seen, state)
    assert decision.growth is not None
    made = plan_launch(
        decision.growth, CONTEXT, seen, decision.state, policy(), cluster_id="sim", now_s=NOW_S, decision_id=DECISION_ID
    )
    why = "2 launches in a row did not join there while others did elsewhere: left out for 300 s"
    told = with_plan(decision, made)
    assert [(row.subject, row.text) for row in told.blocked] == [(A, why)]
    nowhere = msgspec.structs.replace(state, zones=(failed(), failed(B), joined("us-east-1c")))
    decision = decided(seen, nowhere)
    refused = with_plan(decision, plan(2, nowhere))
    assert (refused.action, refused.reason) == (Action.HELD_BACK, "zone_backoff")
    assert f"{A}: {why}" in refused.message


def test_on_demand_in_place_of_spot_does_not_go_there_either() -> None:
    made = plan(2, State(zones=(failed(), joined())), market="spot")
    assert [f.operation.request.overrides[0].zone for f in made.fallbacks] == [B]


# --------------------------------------------------------------------------------------------------------- what is kept


def test_the_wait_doubles_and_a_wave_counts_once() -> None:
    state, waits = State(), []
    at_s = NOW_S
    for _ in range(5):
        state = failed_in(state, A, launched_at_s=at_s - 700, now_s=at_s)
        state = failed_in(state, A, launched_at_s=at_s - 700, now_s=at_s + 1)
        waits.append(record_of(state, A).until_s - at_s)
        at_s += 5000
    assert waits == [600, 1200, 2400, 3600, 3600]
    assert record_of(state, A).since_s == NOW_S - 700
    assert is_left_out(joined_in(state, B, now_s=NOW_S), A)
    assert not is_left_out(joined_in(joined_in(state, B, now_s=NOW_S), A, now_s=at_s), A), "it has joined again"


def test_a_doubt_ends() -> None:
    state = failed_in(State(), A, launched_at_s=NOW_S - 700, now_s=NOW_S)
    assert is_doubtful(state, A, now_s=NOW_S + 599)
    assert not is_doubtful(state, A, now_s=NOW_S + 600)


def test_what_is_long_over_is_forgotten_and_so_is_what_is_too_much() -> None:
    state = State(zones=(failed(for_s=-KEPT_S + 1), joined(B, ago_s=KEPT_S), joined("us-east-1c", ago_s=KEPT_S - 1)))
    assert [z.zone for z in forget_old(state, NOW_S).zones] == [A, "us-east-1c"]
    for number in range(MAX_ZONES + 3):
        state = joined_in(state, f"zone-{number}", now_s=NOW_S)
    assert len(state.zones) == MAX_ZONES


def test_a_look_counts_what_joins_and_what_does_not_by_zone() -> None:
    young, old = {"launched_at_s": NOW_S - 60}, {"launched_at_s": NOW_S - 700}
    state = State(launches=(launch("l1", ids=[1], age_s=60, zone=B), launch("l2", ids=[2], age_s=700, zone=A)))
    after = decided(snapshot([worker(1, of=young), bare(2, **old)]), state).state
    assert record_of(after, B).joined_at_s == NOW_S
    assert (record_of(after, A).failures, record_of(after, A).since_s) == (1, NOW_S - 700)
    assert after.join_failures is not None


def test_failures_of_a_zone_that_is_left_out_hold_up_no_other() -> None:
    once = msgspec.structs.replace(failed(times=1), failed_at_s=NOW_S - 1300)
    state = State(zones=(once, joined()), launches=(launch("l2", ids=[2], age_s=700, zone=A),))
    after = decided(snapshot([full(1), bare(2, launched_at_s=NOW_S - 700)]), state).state
    assert is_left_out(after, A)
    assert after.join_failures is None
