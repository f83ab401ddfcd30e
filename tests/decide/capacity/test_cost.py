"""What the workers cost an hour, and the cap that growth does not cross."""

from collections import Counter
from typing import Any

import msgspec
import pytest

from autoscaler.decide.capacity.cost import within_cap
from autoscaler.decide.fleet import view_fleet
from autoscaler.model import (
    Action,
    Backoff,
    FleetCost,
    InstanceState,
    LaunchOperation,
    LaunchOverride,
    MetricsStatus,
    NewWorkers,
    Notice,
    Pool,
    RemovalPhase,
    State,
)
from autoscaler.policy import Cost, Policy, Size, Workers
from tests.decide.builders import (
    NOW_S,
    ROOM,
    ZONES,
    Machine,
    bare,
    decided,
    full,
    launch,
    opened,
    planned,
    pod,
    policy,
    removal,
    snapshot,
    static,
    waiting_pods,
    worker,
)

SMALL, MEDIUM, LARGE = 0.0208, 0.0416, 0.0832
"""us-east-1, on demand."""
ALERT = Notice(kind="blind_alert", subject="f1@t1", received_at_s=NOW_S)


def asked_for(*types: str, count: int = 1, zone: str = ZONES[0]) -> LaunchOperation:
    """A launch whose instances nobody knows yet."""
    operation = launch(count=count)
    overrides = tuple(LaunchOverride(instance_type=t, subnet_id="subnet-a", zone=zone) for t in types)
    return msgspec.structs.replace(operation, request=msgspec.structs.replace(operation.request, overrides=overrides))


def tagged_static(number: int, **of: Any) -> Machine:
    return worker(number, of={"managed": False, **of})


# -------------------------------------------------------------------------------------------------------- what it costs


@pytest.mark.parametrize(
    ("workers", "state", "expected"),
    [
        pytest.param([full(1), full(2)], State(), (2 * SMALL, 2, 0), id="ours"),
        pytest.param(
            [full(1), worker(2, of={"instance_type": "t3.medium"})], State(), (SMALL + MEDIUM, 2, 0), id="two types"
        ),
        pytest.param([full(1), tagged_static(2)], State(), (2 * SMALL, 2, 0), id="a static one with the tag"),
        pytest.param([full(1), static(2)], State(), (SMALL, 1, 1), id="a static one that EC2 does not list"),
        pytest.param([full(1), worker(2, of={"market": "spot"})], State(), (SMALL, 1, 1), id="Spot: no price is known"),
        pytest.param(
            [full(1), worker(2, of={"instance_type": "x9.huge"})], State(), (SMALL, 1, 1), id="a type nobody prices"
        ),
        pytest.param([worker(1, of={"zone": "eu-west-3a"})], State(), (0, 0, 1), id="a region nobody prices"),
        pytest.param([full(1), worker(2, ready=False)], State(), (2 * SMALL, 2, 0), id="NotReady is paid for"),
        pytest.param([full(1), worker(2)], State(removals=(removal(2),)), (2 * SMALL, 2, 0), id="leaving is paid for"),
        pytest.param([full(1), bare(2, state=InstanceState.TERMINATED)], State(), (SMALL, 1, 0), id="ended is not"),
        pytest.param([full(1)], State(launches=(asked_for("t3.small", count=2),)), (3 * SMALL, 3, 0), id="asked for"),
        pytest.param(
            [full(1)],
            State(launches=(asked_for("t3.small", "t3.large"),)),
            (SMALL + LARGE, 2, 0),
            id="at the dearest it may be",
        ),
        pytest.param(
            [full(1)],
            State(launches=(asked_for("t3.small", "x9.huge"),)),
            (SMALL, 1, 1),
            id="asked for, maybe of an unknown price",
        ),
        pytest.param(
            [full(1)], State(launches=(launch(ids=(5,)),)), (2 * SMALL, 2, 0), id="known by id, not shown by EC2 yet"
        ),
        pytest.param([], State(), (0, 0, 0), id="nobody costs nothing"),
    ],
)
def test_what_the_workers_cost(workers: list[Machine], state: State, expected: tuple[float, int, int]) -> None:
    cost = decided(snapshot(workers), state, policy(low=0)).cost
    assert cost is not None
    assert cost.usd_per_hour == pytest.approx(expected[0])
    assert (cost.known_workers, cost.unknown_workers) == expected[1:]


@pytest.mark.parametrize(
    ("unlisted", "unknown"), [(None, None), (0, 0), (3, 3)], ids=["never seen", "none", "as they were last seen"]
)
def test_workers_that_nobody_sees_while_metrics_are_away_are_unknown(unlisted: int | None, unknown: int | None) -> None:
    seen = snapshot([full(1)], status=MetricsStatus.UNAVAILABLE)
    cost = decided(seen, State(unlisted_workers=unlisted)).cost
    assert cost == FleetCost(usd_per_hour=SMALL, known_workers=1, unknown_workers=unknown)


@pytest.mark.parametrize(
    ("workers", "cost", "expected"),
    [
        pytest.param([full(1), full(2)], Cost(), (None, None), id="without a baseline"),
        pytest.param([full(1), full(2)], Cost(baseline_workers=5), (0.104, 0.0624), id="five of the first type"),
        pytest.param(
            [full(1)], Cost(baseline_workers=2, baseline_type="t3.large"), (0.1664, 0.1456), id="two of another type"
        ),
        pytest.param([full(1), full(2)], Cost(baseline_workers=1), (0.0208, -0.0208), id="more is spent than that"),
        pytest.param([full(1), static(2)], Cost(baseline_workers=5), (0.104, None), id="what is spent is not known"),
        pytest.param(
            [full(1)], Cost(baseline_workers=5, baseline_type="x9.huge"), (None, None), id="no price for the baseline"
        ),
    ],
)
def test_what_is_saved(workers: list[Machine], cost: Cost, expected: tuple[float | None, float | None]) -> None:
    told = decided(snapshot(workers), its_policy=policy(low=0, cost=cost)).cost
    assert told is not None
    assert (told.baseline_usd_per_hour, told.saved_usd_per_hour) == expected


# -------------------------------------------------------------------------------------------------------------- the cap


def capped(usd: float, *, others: float | None = None, own: dict[str, float] | None = None, **changes: Any) -> Policy:
    return policy(cost=Cost(max_usd_per_hour=usd, other_usd_per_hour=others, usd_per_hour=own or {}), **changes)


UNSEEN = static(2, pods=[pod("full-2", cpu=ROOM.cpu_millicores)])
"""A static worker without the tag."""
UNPRICED = msgspec.structs.replace(
    capped(9),
    workers=Workers(instance_types=("x9.huge",), sizes={"x9.huge": Size(cpu_millicores=2000, memory_mib=4096)}),
)


@pytest.mark.parametrize(
    ("workers", "pods", "state", "its_policy", "expected"),
    [
        pytest.param(2, 4, State(), capped(1), (2, "pods_unschedulable"), id="far below the cap"),
        pytest.param(2, 50, State(), capped(5 * SMALL), (3, "pods_unschedulable"), id="up to the cap, to the cent"),
        pytest.param(2, 50, State(), capped(4.99 * SMALL), (2, "pods_unschedulable"), id="not a part of a worker more"),
        pytest.param(2, 50, State(), capped(2 * SMALL), (0, "at_cost_cap"), id="at the cap"),
        pytest.param(2, 50, State(), capped(SMALL), (0, "at_cost_cap"), id="above the cap"),
        pytest.param(2, 50, State(), capped(0), (0, "at_cost_cap"), id="nothing may be spent"),
        pytest.param(0, 0, State(), capped(0.03), (1, "below_min"), id="min does not cross it"),
        pytest.param(0, 0, State(), capped(0.01), (0, "at_cost_cap"), id="nor for the first one"),
        pytest.param(2, 0, State(), capped(0.01), (0, "at_min"), id="what is there is not ended for it"),
        pytest.param(10, 2, State(), capped(1), (0, "at_max"), id="max comes first"),
        pytest.param(
            2, 50, State(), capped(9 * SMALL, max_step=3), (3, "pods_unschedulable"), id="max_step below the cap"
        ),
        pytest.param(
            2,
            50,
            State(launches=(launch(count=2),)),
            capped(5 * SMALL),
            (1, "pods_unschedulable"),
            id="what is asked for counts",
        ),
        pytest.param(
            2,
            50,
            State(removals=(removal(2, RemovalPhase.TERMINATING),)),
            capped(3 * SMALL),
            (1, "pods_unschedulable"),
            id="what is leaving counts until it is gone",
        ),
        pytest.param(
            2,
            50,
            State(removals=(removal(2, RemovalPhase.TERMINATING, reclaim=True),)),
            capped(2 * SMALL),
            (1, "pods_unschedulable"),
            id="what EC2 takes away does not",
        ),
        pytest.param(
            2, 50, State(), capped(0.5, own={"t3.small": 0.1}), (3, "pods_unschedulable"), id="the operator's price"
        ),
        pytest.param(
            2, 50, State(), capped(0.1, own={"t3.small": 0}), (8, "pods_unschedulable"), id="for nothing: max holds"
        ),
        pytest.param([full(1), static(2)], 50, State(), capped(9), (0, "at_cost_cap"), id="a worker of unknown price"),
        pytest.param(
            [full(1), static(2)],
            50,
            State(),
            capped(0.1, others=0.05),
            (1, "pods_unschedulable"),
            id="unless it is said what it counts as",
        ),
        pytest.param(2, 50, State(), UNPRICED, (0, "at_cost_cap"), id="a new one of unknown price"),
    ],
)
def test_growth_does_not_cross_the_cap(
    workers: Any, pods: int, state: State, its_policy: Policy, expected: tuple[int, str]
) -> None:
    decision = decided(snapshot(workers, waiting_pods(pods)), state, its_policy)
    assert (decision.growth.count if decision.growth else 0, decision.reason) == expected


@pytest.mark.parametrize(
    ("workers", "its_policy", "words"),
    [
        pytest.param(
            2,
            capped(2 * SMALL),
            "4 pods fit on no worker, which asks for 2 workers more; cost.max_usd_per_hour is 0.0416 and what there is "
            "costs $0.0416 an hour, one more t3.small $0.0208: nothing is launched.",
            id="the field and the numbers",
        ),
        pytest.param(
            2,
            capped(3 * SMALL),
            "Launching 1 worker: 4 pods fit on no worker, which asks for 2 workers more; cost.max_usd_per_hour is "
            "0.0624 and what there is costs $0.0416 an hour, one more t3.small $0.0208.",
            id="also where it only cuts growth short",
        ),
        pytest.param(
            [full(1), UNSEEN],
            capped(9),
            "4 pods fit on no worker, which asks for 2 workers more; cost.max_usd_per_hour is 9 and nobody knows what "
            "static-2 costs: give cost.other_usd_per_hour, or the price of its type: nothing is launched.",
            id="whose price is unknown, and the mend",
        ),
        pytest.param(
            2,
            UNPRICED,
            "the price of x9.huge is not known: fetch it (`k3s-autoscaler prices refresh`) and deploy, or give it "
            "under cost.usd_per_hour: nothing is launched.",
            id="which type's price is unknown",
        ),
    ],
)
def test_the_cap_says_what_it_counts(workers: Any, its_policy: Policy, words: str) -> None:
    decision = decided(snapshot(workers, waiting_pods(4)), its_policy=its_policy)
    assert words in decision.message


@pytest.mark.parametrize(
    ("left", "expected"),
    [
        pytest.param(0.40, {"t3.2xlarge": 1, "t3.small": 3}, id="room for all but one"),
        pytest.param(0.30, {"t3.small": 4}, id="a dear type does not keep back a cheap one behind it"),
        pytest.param(0.01, {}, id="for nobody"),
    ],
)
def test_the_cap_takes_what_fits_in_the_order_of_the_demand(left: float, expected: dict[str, int]) -> None:
    wanted = (NewWorkers("t3.2xlarge", 1), NewWorkers("t3.small", 4))
    fleet = view_fleet(snapshot([full(1)]), State())
    kept, because = within_cap(wanted, fleet, capped(SMALL + left))
    assert {new.instance_type: new.count for new in kept} == expected
    assert because.startswith("what there is costs $0.0208 an hour")
    assert sum(new.count * (new.usd_at_most or 0) for new in kept) <= left + 1e-9


@pytest.mark.parametrize(
    ("cap", "types"),
    [
        pytest.param(None, ["t3.small", "t3.medium", "t3.large"], id="no cap"),
        pytest.param(2 * SMALL + LARGE, ["t3.small", "t3.medium", "t3.large"], id="room for the dearest"),
        pytest.param(2 * SMALL + MEDIUM, ["t3.small", "t3.medium"], id="room for the next one"),
        pytest.param(3 * SMALL, ["t3.small"], id="room for the wanted one alone"),
    ],
)
def test_what_ec2_may_give_instead_stays_below_the_cap_too(cap: float | None, types: list[str]) -> None:
    its_policy = policy(types=("t3.small", "t3.medium", "t3.large"), cost=Cost(max_usd_per_hour=cap))
    seen = snapshot(2, waiting_pods(1))
    plan = planned(decided(seen, its_policy=its_policy), seen, its_policy)
    assert [row.instance_type for row in plan.opened[0].request.overrides] == types


@pytest.mark.parametrize(
    ("types", "named"),
    [
        pytest.param(("t3.small", "x9.huge"), ["t3.small"], id="for one that has a price"),
        pytest.param(("x9.huge", "x9.more"), ["x9.huge", "x9.more"], id="unless that has none either"),
    ],
)
def test_what_has_no_price_stands_in_for_nothing_that_has_one(types: tuple[str, ...], named: list[str]) -> None:
    """However little `other_usd_per_hour` counts it at."""
    huge = Size(cpu_millicores=2000, memory_mib=4096)
    its_policy = msgspec.structs.replace(
        capped(9, others=SMALL), workers=Workers(instance_types=types, sizes={"x9.huge": huge, "x9.more": huge})
    )
    seen = snapshot(2, waiting_pods(1))
    plan = planned(decided(seen, its_policy=its_policy), seen, its_policy)
    assert [row.instance_type for row in plan.opened[0].request.overrides] == named


def test_several_workers_share_what_is_left() -> None:
    """0.0624 is left for two: 0.0312 each, which is too little for a t3.medium."""
    its_policy = policy(types=("t3.small", "t3.medium"), cost=Cost(max_usd_per_hour=5 * SMALL))
    seen = snapshot(2, waiting_pods(4))
    plan = planned(decided(seen, its_policy=its_policy), seen, its_policy)
    assert [(op.request.count, len(op.request.overrides)) for op in plan.opened] == [(1, 1), (1, 1)]


@pytest.mark.parametrize(
    ("left", "asked", "told"),
    [
        pytest.param(
            4 * SMALL,
            {("t3.medium", 2)},
            "2 workers must wait: cost.max_usd_per_hour has no room for 2 of a d",
            id="two",
        ),
        pytest.param(
            0.05, {("t3.medium", 1)}, "1 worker must wait: cost.max_usd_per_hour has no room for 1 of a d", id="one"
        ),
        pytest.param(
            0.04,
            set(),
            "1 worker must wait: cost.max_usd_per_hour has no room for 1 of a dearer type, while "
            "t3.small is left alone. InsufficientInstanceCapacity: EC2 has nothing left there.",
            id="none",
        ),
        pytest.param(1.0, {("t3.medium", 4)}, "", id="all"),
    ],
)
def test_where_the_wanted_type_is_left_alone_fewer_may_cost_more(
    left: float, asked: set[tuple[str, int]], told: str
) -> None:
    """What is left is for all of them: shared evenly by four it would pay for no other type, and nobody would come."""
    its_policy = policy(types=("t3.small", "t3.medium", "t3.large"), cost=Cost(max_usd_per_hour=2 * SMALL + left))
    gone = tuple(
        Backoff(
            pool=Pool(instance_type=kind, zone=zone),
            error_code="InsufficientInstanceCapacity",
            until_s=NOW_S + 60,
            failures=1,
        )
        for kind in ("t3.small", "t3.large")
        for zone in ZONES
    )
    decision = opened(snapshot(2, waiting_pods(8)), State(backoffs=gone), its_policy)
    counts = Counter(
        op.request.overrides[0].instance_type for op in decision.state.launches for _ in range(op.request.count)
    )
    assert set(counts.items()) == asked
    assert told in decision.message
    assert ("must wait" in decision.message) is bool(told)
    assert (decision.reason == "at_cost_cap") is (not asked)


@pytest.mark.parametrize(
    ("unlisted", "cost", "launched", "reason"),
    [
        pytest.param(0, Cost(max_usd_per_hour=3 * SMALL), 1, "blind_growth", id="room for one"),
        pytest.param(0, Cost(max_usd_per_hour=2 * SMALL), 0, "at_cost_cap", id="none"),
        pytest.param(2, Cost(max_usd_per_hour=9), 0, "at_cost_cap", id="who is not listed has no price"),
        pytest.param(2, Cost(max_usd_per_hour=9, other_usd_per_hour=1), 1, "blind_growth", id="unless one is given"),
        pytest.param(2, Cost(max_usd_per_hour=2, other_usd_per_hour=1), 0, "at_cost_cap", id="which counts"),
    ],
)
def test_blind_growth_keeps_to_the_cap(unlisted: int, cost: Cost, launched: int, reason: str) -> None:
    seen = snapshot([full(1), full(2)], status=MetricsStatus.UNAVAILABLE)
    state = State(notices=(ALERT,), unlisted_workers=unlisted)
    decision = decided(seen, state, policy(cost=cost))
    assert (decision.growth.count if decision.growth else 0, decision.reason) == (launched, reason)


def test_a_cap_is_told_as_a_refusal_and_leaves_the_alert_open() -> None:
    seen = snapshot([full(1), full(2)], status=MetricsStatus.UNAVAILABLE)
    decision = decided(seen, State(notices=(ALERT,), unlisted_workers=0), policy(cost=Cost(max_usd_per_hour=0.01)))
    assert decision.action is Action.HELD_BACK
    assert decision.state.notices == (ALERT,)


def test_a_retirement_gets_its_replacement_within_the_cap_only() -> None:
    notice = Notice(kind="retirement", subject="i-001", received_at_s=NOW_S - 60, due_at_s=NOW_S + 5 * 86_400)
    seen = snapshot([full(1), full(2)])
    for cap, launches in ((1.0, True), (2 * SMALL, False)):
        decision = opened(seen, State(notices=(notice,)), policy(cost=Cost(max_usd_per_hour=cap)))
        assert bool(decision.state.launches) is launches, cap
        assert bool(decision.state.removals) is not launches, cap
