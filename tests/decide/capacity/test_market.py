"""On which market each new worker of a Spot pool is bought."""

from collections import Counter
from typing import Any

import msgspec
import pytest

from autoscaler.decide.capacity.launch import LaunchPlan, plan_launch
from autoscaler.decide.capacity.market import Mix, in_markets, in_storm, mix_of, needed_on_demand, on_demand_of
from autoscaler.decide.fleet import view_fleet
from autoscaler.model import (
    Action,
    Backoff,
    Growth,
    LaunchOperation,
    NewWorkers,
    Notice,
    OwnerRules,
    Pod,
    Pool,
    RemovalPhase,
    SchedulingRules,
    State,
)
from autoscaler.model.rules import NodeTerm, Operator, PodRules, Requirement
from autoscaler.policy import Cost, Policy, Workers
from autoscaler.pools import WorkerPool
from tests.decide.builders import (
    CONTEXT,
    DECISION_ID,
    NOW_S,
    ZONES,
    Machine,
    bare,
    decided,
    full,
    iid,
    launch,
    opened,
    planned,
    removal,
    snapshot,
    static,
    use,
    waiting,
    waiting_pods,
    worker,
)

A, B = ZONES
GONE = "InsufficientInstanceCapacity"
SMALL, SPOT_SMALL = 0.0208, 0.007


def spot_policy(*, base: int = 0, share: float = 0.0, types: tuple[str, ...] = ("t3.small",), **changes: Any) -> Policy:
    workers = Workers(market="spot", on_demand_base=base, on_demand_share=share, instance_types=types)
    return msgspec.structs.replace(Policy(version=1, workers=workers), **changes)


def capped(usd: float) -> Cost:
    return Cost(max_usd_per_hour=usd, spot_usd_per_hour={"t3.small": SPOT_SMALL})


def on_spot(number: int) -> Machine:
    return full(number, of={"market": "spot"})


def of_market(market: str, **changes: Any) -> LaunchOperation:
    operation = launch(**changes)
    return msgspec.structs.replace(operation, request=msgspec.structs.replace(operation.request, market=market))


def bought(
    count: int, workers: list[Machine], state: State | None = None, its_policy: Policy | None = None
) -> dict[str, int]:
    state = state or State()
    fleet = view_fleet(snapshot(workers), state)
    new = in_markets([NewWorkers("t3.small", count)], fleet, state, its_policy or spot_policy(), now_s=NOW_S)
    return {part.market: part.count for part in new}


def left_alone(*markets: str, zones: tuple[str, ...] = ZONES, code: str = GONE) -> State:
    return State(
        backoffs=tuple(
            Backoff(
                pool=Pool(instance_type="t3.small", zone=zone, market=market),
                error_code=code,
                until_s=NOW_S + 60,
                failures=1,
            )
            for market in markets
            for zone in zones
        )
    )


def plan(
    new: NewWorkers | tuple[NewWorkers, ...], state: State | None = None, its_policy: Policy | None = None, **more: Any
) -> LaunchPlan:
    workers = new if isinstance(new, tuple) else (new,)
    return plan_launch(
        Growth(workers=workers, reason="pods_unschedulable", **more),
        CONTEXT,
        snapshot(0),
        state or State(),
        its_policy or spot_policy(),
        cluster_id="sim",
        now_s=NOW_S,
        decision_id=DECISION_ID,
    )


def asked(made: LaunchPlan) -> dict[tuple[str, str], int]:
    return {(o.request.overrides[0].zone, o.request.market): o.request.count for o in made.opened}


@pytest.mark.parametrize(
    ("base", "share", "totals"),
    [
        (0, 0.0, [0, 0, 0, 0, 0, 0]),
        (2, 0.0, [0, 1, 2, 2, 2, 2]),
        (0, 0.5, [0, 1, 1, 2, 2, 3]),
        (1, 0.25, [0, 1, 2, 2, 2, 2]),
        (0, 1.0, [0, 1, 2, 3, 4, 5]),
    ],
)
def test_base_and_share(base: int, share: float, totals: list[int]) -> None:
    pool = spot_policy(base=base, share=share).pools[0]
    assert [on_demand_of(pool, total) for total in range(6)] == totals


def test_a_share_is_of_decimal_numbers_and_an_on_demand_pool_is_all_on_demand() -> None:
    assert on_demand_of(spot_policy(share=0.1).pools[0], 30) == 3
    assert on_demand_of(WorkerPool(name="general", instance_types=("t3.small",)), 7) == 7


@pytest.mark.parametrize(
    ("count", "workers", "state", "its_policy", "expected"),
    [
        pytest.param(3, [], State(), spot_policy(), {"spot": 3}, id="all on Spot"),
        pytest.param(3, [], State(), Policy(version=1), {"on-demand": 3}, id="an on-demand pool"),
        pytest.param(3, [], State(), spot_policy(base=2), {"on-demand": 2, "spot": 1}, id="the base first"),
        pytest.param(3, [full(1), full(2)], State(), spot_policy(base=2), {"spot": 3}, id="the base is there"),
        pytest.param(2, [on_spot(1), full(2)], State(), spot_policy(base=2), {"on-demand": 1, "spot": 1}, id="half"),
        pytest.param(
            2, [static(1), static(2)], State(), spot_policy(base=2), {"on-demand": 2}, id="statics are no base"
        ),
        pytest.param(
            1, [full(1)], State(removals=(removal(1),)), spot_policy(base=1), {"on-demand": 1}, id="who leaves is none"
        ),
        pytest.param(
            2, [], State(launches=(of_market("on-demand", count=1),)), spot_policy(base=1), {"spot": 2}, id="is coming"
        ),
        pytest.param(
            2,
            [],
            State(launches=(of_market("spot", count=2),)),
            spot_policy(share=0.5),
            {"on-demand": 2},
            id="coming Spot counts for the share",
        ),
        pytest.param(1, [bare(1)], State(launches=(launch(ids=[1]),)), spot_policy(base=1), {"spot": 1}, id="joining"),
        pytest.param(4, [full(n) for n in range(1, 5)], State(), spot_policy(share=0.25), {"spot": 4}, id="surplus"),
    ],
)
def test_markets(
    count: int, workers: list[Machine], state: State, its_policy: Policy, expected: dict[str, int]
) -> None:
    assert bought(count, workers, state, its_policy) == expected


def test_a_pool_counts_its_own_workers() -> None:
    operation = launch(count=3)
    other = msgspec.structs.replace(operation, request=msgspec.structs.replace(operation.request, pool="gpu"))
    fleet = view_fleet(snapshot([full(1), on_spot(2)]), State(launches=(other,)))
    assert mix_of(spot_policy().pools[0], fleet, spot_policy()) == Mix(1, 1)


# --------------------------------------------------------------------------------------------------------------- storm


def interrupted(*ages_s: int, handled: bool = True) -> tuple[Notice, ...]:
    return tuple(
        Notice(kind="interruption", subject=iid(100 + n), received_at_s=NOW_S - age_s, handled=handled)
        for n, age_s in enumerate(ages_s)
    )


@pytest.mark.parametrize(
    ("there", "ages_s", "storm"),
    [
        pytest.param(4, [], False, id="calm"),
        pytest.param(1, [10], False, id="one interruption is none"),
        pytest.param(4, [10, 100], True, id="two of six"),
        pytest.param(5, [10, 100], False, id="two of seven are less than three in ten"),
        pytest.param(7, [10, 100, 599], True, id="three of ten within ten minutes"),
        pytest.param(8, [10, 100, 599], False, id="three of eleven"),
        pytest.param(4, [10, 700], False, id="not within the window"),
        pytest.param(4, [1700, 1790], True, id="the pause goes on"),
        pytest.param(4, [1800, 1900], False, id="the pause is over"),
        pytest.param(4, [-30, -20], False, id="a clock that is ahead"),
    ],
)
def test_a_storm(there: int, ages_s: list[int], storm: bool) -> None:
    state = State(notices=interrupted(*ages_s))
    its_policy = spot_policy()
    fleet = view_fleet(snapshot([on_spot(n + 1) for n in range(there)]), state)
    assert in_storm(its_policy.pools[0], fleet, state, its_policy, now_s=NOW_S) is storm


@pytest.mark.parametrize(("asked_about", "stays"), [(False, False), (True, True)])
def test_whom_a_server_is_asked_about_is_no_base_for_others(*, asked_about: bool, stays: bool) -> None:
    """Of six workers three are to be on demand: the fourth goes, unless one of them may be lost."""
    silent = full(1, ready=False)
    workers = [silent, full(2), full(3), full(4), on_spot(5), on_spot(6), on_spot(7)]
    state = State(removals=(removal(1, RemovalPhase.INSPECTING),)) if asked_about else State()
    fleet = view_fleet(snapshot(workers), state)
    fourth = next(worker for worker in fleet.workers if worker.key == iid(4))
    kept = needed_on_demand(fourth, fleet, spot_policy(base=2, share=0.25), gone=())
    assert (kept is not None) is stays


def test_growth_in_a_storm_is_on_demand() -> None:
    state = State(notices=interrupted(10, 20))
    assert bought(3, [on_spot(1)], state) == {"on-demand": 3}
    assert bought(3, [on_spot(n) for n in range(1, 10)], state) == {"spot": 3}


def picky(name: str, market: str, **changes: Any) -> Pod:
    return waiting(name, node_selector=(("k3s_autoscaler_capacity_type", market),), **changes)


@pytest.mark.parametrize(
    ("pods", "its_policy", "state", "expected"),
    [
        pytest.param([picky("p", "spot")], spot_policy(base=5), State(), {"spot": 1}, id="no base"),
        pytest.param([picky("p", "spot")], spot_policy(), State(notices=interrupted(10, 20)), {"spot": 1}, id="storm"),
        pytest.param([picky("p", "on-demand")], spot_policy(base=2), State(), {"on-demand": 1}, id="beyond the base"),
        pytest.param(
            [picky("p", "on-demand"), *waiting_pods(4)],
            spot_policy(base=4),
            State(),
            {"on-demand": 2, "spot": 1},
            id="which it counts for",
        ),
        pytest.param(
            [picky("p", "spot"), *waiting_pods(4)],
            spot_policy(share=0.5),
            State(notices=interrupted(10, 20)),
            {"on-demand": 2, "spot": 1},
            id="the others by their own rules",
        ),
        pytest.param([picky("p", "spot")], Policy(version=1), State(), {}, id="an on-demand pool has none"),
    ],
)
def test_pods_that_mind_the_market(pods: list[Pod], its_policy: Policy, state: State, expected: dict[str, int]) -> None:
    growth = decided(snapshot([full(1), full(2)], pods), state, its_policy).growth
    found = Counter[str]()
    for new in growth.workers if growth is not None else ():
        found[new.market] += new.count
    assert found == expected


def two_spot_pools() -> Policy:
    """Whose Spot prices are t3.small's and half as much again, and on demand t3.medium costs twice as much."""
    cost = Cost(spot_usd_per_hour={"t3.small": SPOT_SMALL, "t3.medium": 1.5 * SPOT_SMALL})
    types = {"first": "t3.small", "second": "t3.medium"}
    pools = tuple(WorkerPool(name=name, instance_types=(kind,), market="spot") for name, kind in types.items())
    return Policy(version=1, workers=Workers(pools=pools), cost=cost)


@pytest.mark.parametrize(
    ("pods", "state", "pool"),
    [
        pytest.param(waiting_pods(1), State(), "first", id="the cheaper one"),
        pytest.param(waiting_pods(1), left_alone("spot"), "second", id="but not for the price of what is not given"),
        pytest.param(waiting_pods(1), left_alone("spot", zones=(A,)), "first", id="which another zone may give"),
        pytest.param(waiting_pods(1), State(notices=interrupted(10, 20)), "second", id="nor in its storm"),
        pytest.param([picky("p", "spot")], left_alone("spot"), "second", id="nor for pods that run on Spot only"),
    ],
)
def test_a_spot_pool_costs_what_it_is_bought_for_now(pods: list[Pod], state: State, pool: str) -> None:
    of_first = [full(100, of={"market": "spot", "pool": "first"}), full(101, of={"market": "spot", "pool": "first"})]
    seen = msgspec.structs.replace(snapshot([*of_first, full(1), full(2)], pods), zones=ZONES)
    growth = decided(seen, state, two_spot_pools()).growth
    assert growth is not None
    assert {new.pool for new in growth.workers} == {pool}


def test_pods_that_run_on_both_markets_take_what_there_is() -> None:
    both = NodeTerm(labels=(Requirement("k3s-autoscaler/capacity-type", Operator.IN, ("spot", "on-demand")),))
    word = SchedulingRules(
        answered_at_s=NOW_S,
        owners=(
            OwnerRules(
                owner="shop/ReplicaSet/web",
                seen_at_s=NOW_S,
                rules=PodRules(namespace="shop", requests=(("cpu", 900),), node_affinity=(both,)),
            ),
        ),
    )
    growth = decided(snapshot([full(1), full(2)], waiting_pods(1), rules=word), State(), spot_policy(base=3)).growth
    assert growth is not None
    assert [(new.market, new.only_market) for new in growth.workers] == [("on-demand", False)]


def test_a_storm_is_told_with_what_is_launched_in_it() -> None:
    seen = snapshot([full(1), on_spot(2)], waiting_pods(2))
    told = decided(seen, State(notices=interrupted(10, 20)), spot_policy()).blocked
    assert [(row.subject, row.text) for row in told] == [
        ("spot", "pool general: EC2 takes Spot back, growth is on demand for 1790 s")
    ]
    calm = decided(seen, State(notices=interrupted(10)), spot_policy())
    assert (calm.growth is not None, calm.blocked) == (True, ())


# -------------------------------------------------------------------------------------------------------------- launch


def test_each_market_is_a_request_of_its_own() -> None:
    seen = snapshot([full(1), full(2)], waiting_pods(6))
    its_policy = spot_policy(base=3)
    decision = decided(seen, its_policy=its_policy)
    made = planned(decision, seen, its_policy)
    assert asked(made) == {(A, "on-demand"): 1, (A, "spot"): 1, (B, "spot"): 1}
    assert len({o.operation_id for o in made.opened}) == 3


def test_a_spot_request_names_every_type_that_is_large_enough() -> None:
    its_policy = spot_policy(types=("t3.small", "t3.micro", "t3.medium", "m5.large"))
    [operation] = plan(NewWorkers("t3.small", 1, market="spot"), its_policy=its_policy).opened
    assert [row.instance_type for row in operation.request.overrides] == ["t3.small", "t3.medium", "m5.large"]
    assert {row.zone for row in operation.request.overrides} == {A}


@pytest.mark.parametrize(
    ("state", "expected", "blocked", "refused"),
    [
        pytest.param(left_alone("on-demand"), {(A, "spot"): 1, (B, "spot"): 1}, 0, 0, id="on demand is no matter"),
        pytest.param(left_alone("spot", zones=(A,)), {(B, "spot"): 2}, 0, 0, id="Spot in the other zone"),
        pytest.param(left_alone("spot"), {(A, "on-demand"): 1, (B, "on-demand"): 1}, 1, 0, id="on demand instead"),
        pytest.param(left_alone("spot", "on-demand"), {}, 0, 2, id="nothing left at all"),
    ],
)
def test_what_spot_is_left_alone_for(state: State, expected: dict[Any, int], blocked: int, refused: int) -> None:
    made = plan(NewWorkers("t3.small", 2, market="spot"), state)
    assert (asked(made), len(made.blocked), made.unplaced) == (expected, blocked, refused)
    if blocked:
        assert "Spot is left alone (InsufficientInstanceCapacity): 2 of t3.small on demand" in made.blocked[0].reason


def test_workers_for_pods_that_run_on_spot_only_are_a_request_of_their_own_without_a_fallback() -> None:
    free, pinned = (
        NewWorkers("t3.small", 1, A, market="spot"),
        NewWorkers("t3.small", 1, A, market="spot", only_market=True),
    )
    made = plan((free, pinned))
    assert [o.request.count for o in made.opened] == [1, 1]
    assert [fallback.operation.unidentified for fallback in made.fallbacks] == [1]
    later = plan((free, pinned), left_alone("spot"))
    assert (asked(later), later.unplaced, later.codes) == ({(A, "on-demand"): 1}, 1, (GONE,))


def test_growth_that_wants_spot_only_does_not_fall_back() -> None:
    made = plan(NewWorkers("t3.small", 1, market="spot"), left_alone("spot"), may_fall_back=False)
    assert (made.opened, made.unplaced, made.codes) == ((), 1, (GONE,))
    assert plan(NewWorkers("t3.small", 1, market="spot"), may_fall_back=False).fallbacks == ()


@pytest.mark.parametrize(
    ("usd_at_most", "launched"),
    [pytest.param(None, 4, id="no cap"), (SMALL, 4), pytest.param(SMALL * 0.8, 3, id="three of four"), (0.001, 0)],
)
def test_what_is_on_demand_instead_costs_no_more_than_all_may(usd_at_most: float | None, launched: int) -> None:
    made = plan(NewWorkers("t3.small", 4, usd_at_most=usd_at_most, market="spot"), left_alone("spot"))
    assert (sum(asked(made).values()), made.unplaced) == (launched, 4 - launched)


@pytest.mark.parametrize(
    ("left_usd", "waiting", "action", "reason", "words"),
    [
        pytest.param(
            0.01,
            2,
            Action.HELD_BACK,
            "at_cost_cap",
            "1 worker must wait: cost.max_usd_per_hour has no room for 1 t3.small on demand at $0.0208 an hour, while "
            "Spot is left alone. InsufficientInstanceCapacity: EC2 has nothing left there. Each is tried again later.",
            id="for none",
        ),
        pytest.param(
            0.03,
            6,
            Action.SCALE_UP,
            "pods_unschedulable",
            "2 workers must wait: cost.max_usd_per_hour has no room for 2 t3.small on demand at $0.0208 an hour",
            id="for one of three",
        ),
    ],
)
def test_what_the_cap_has_no_room_for_on_demand_is_told_as_the_cap(
    left_usd: float, waiting: int, action: Action, reason: str, words: str
) -> None:
    """Not as a matter of EC2: it would launch on demand, and nobody asks it."""
    cost = Cost(max_usd_per_hour=0.012 + left_usd, spot_usd_per_hour={"t3.small": 0.006})
    its_policy = spot_policy(cost=cost)
    seen, state = snapshot([on_spot(1), on_spot(2)], waiting_pods(waiting)), left_alone("spot")
    told = opened(seen, state, its_policy)
    assert (told.action, told.reason) == (action, reason)
    assert words in told.message


def test_the_fallback_is_ready_before_spot_is_asked() -> None:
    made = plan(NewWorkers("t3.small", 3, market="spot"), left_alone("on-demand", zones=(A,)))
    in_a, in_b = made.fallbacks
    assert [o.operation_id for o in made.opened] == [in_a.of, in_b.of] == ["d1-l0", "d1-l1"]
    for fallback in (in_a, in_b):
        request = fallback.operation.request
        assert (request.market, request.overrides[0].zone) == ("on-demand", B), "where on demand may be asked"
        assert request.client_token == fallback.operation.operation_id == f"{fallback.of}-od"
        assert dict(request.tags)["k3s-autoscaler/operation"] == f"{fallback.of}-od"
    assert [f.operation.unidentified for f in made.fallbacks] == [2, 1]
    assert plan(NewWorkers("t3.small", 1, market="spot"), left_alone("on-demand")).fallbacks == ()
    assert plan(NewWorkers("t3.small", 1)).fallbacks == ()


# ---------------------------------------------------------------------------------------------------------------- money


@pytest.mark.parametrize(
    ("cap", "expected", "limit"),
    [
        pytest.param(2 * SMALL + 3 * SPOT_SMALL, {"spot": 3}, "", id="three at Spot's price"),
        pytest.param(2 * SMALL + 2.9 * SPOT_SMALL, {"spot": 2}, "at_cost_cap", id="room for two"),
    ],
)
def test_growth_under_a_cap_counts_spot_at_spots_price(cap: float, expected: dict[str, int], limit: str) -> None:
    its_policy = spot_policy(cost=capped(cap))
    decision = decided(snapshot([full(1), full(2)], waiting_pods(6)), its_policy=its_policy)
    assert decision.growth is not None
    assert {new.market: new.count for new in decision.growth.workers} == expected
    assert ("cost.max_usd_per_hour" in decision.message) is bool(limit)


def test_a_spot_price_that_nobody_knows_stops_growth_with_a_cap_and_says_so() -> None:
    decision = decided(
        snapshot([full(1), full(2)], waiting_pods(6)), its_policy=spot_policy(cost=Cost(max_usd_per_hour=1.0))
    )
    assert (decision.growth, decision.reason) == (None, "at_cost_cap")
    assert "the Spot price of t3.small is not known" in decision.message
    assert "cost.spot_usd_per_hour" in decision.message


def test_the_decision_counts_spot_workers_at_spots_price() -> None:
    its_policy = spot_policy(cost=Cost(spot_usd_per_hour={"t3.small": SPOT_SMALL}))
    state = State(launches=(of_market("spot", count=2),))
    cost = decided(snapshot([full(1), on_spot(2)], utilisation=use(cpu=0.5)), state, its_policy).cost
    assert cost is not None
    assert (cost.usd_per_hour, cost.unknown_workers) == (round(SMALL + 3 * SPOT_SMALL, 6), 0)
    unknown = decided(snapshot([full(1), on_spot(2)], utilisation=use(cpu=0.5)), State(), spot_policy()).cost
    assert unknown is not None
    assert (unknown.usd_per_hour, unknown.unknown_workers) == (SMALL, 1)


@pytest.mark.parametrize(("base", "market"), [(2, "on-demand"), (1, "spot")])
def test_the_replacement_of_a_retired_worker_is_of_the_market_that_lacks_one_without_it(base: int, market: str) -> None:
    retired = Notice(kind="retirement", subject=iid(1), received_at_s=NOW_S, due_at_s=NOW_S + 86_400)
    seen = snapshot([full(1), worker(2)])
    decision = decided(seen, State(notices=(retired,)), spot_policy(base=base))
    assert decision.growth is not None
    assert [(new.market, new.count) for new in decision.growth.workers] == [(market, 1)]
