"""The forecast by tables: the median of earlier days, scaled by today; capped; told with its error; in nobody's way."""

from collections.abc import Mapping
from typing import Any, Final

import msgspec
import pytest

from autoscaler.decide.demand.forecast import COMPARED_AT_MOST
from autoscaler.forecast import REFRESH_S, SLOT_S, Forecast
from autoscaler.model import (
    Action,
    Decision,
    Demand,
    DemandHistory,
    JoinFailures,
    KeptForecast,
    KeptSlot,
    MetricsStatus,
    PastSlot,
    RemovalPhase,
    SeenSignal,
    Snapshot,
    State,
)
from autoscaler.policy import Cost, Policy, ScaleDown, Workers
from autoscaler.pools import WorkerPool
from autoscaler.signals import CustomSignal
from tests.decide.builders import NOW_S, ROOM, decided, removal, snapshot, waiting, worker

ON: Final = Forecast(mode="on", days=5, weeks=0, horizon_s=600)
CORES: Final = ROOM.cpu_millicores
"""A worker's, so that n times as much needs n workers."""
NOW: Final = Demand(cpu_requested_millicores=2 * CORES)


def policy(forecast: Forecast = ON, *, low: int = 1, high: int = 10) -> Policy:
    return Policy(version=1, workers=Workers(min=low, max=high), forecast=forecast, scale_down=ScaleDown(when="fits"))


def history(
    then: Mapping[int, Demand], *, now: Demand = NOW, before: Mapping[int, Demand] | None = None, slot: int = 1
) -> DemandHistory:
    """Earlier days: two workers' worth at this time, `then` in a slot to come."""
    first_s = NOW_S - NOW_S % SLOT_S
    return DemandHistory(
        now=now,
        before=tuple((days, NOW if before is None else before[days]) for days in then),
        slots=tuple(
            PastSlot(days_back=days, at_s=first_s + slot * SLOT_S, demand=demand) for days, demand in then.items()
        ),
    )


def cpu(workers: float) -> Demand:
    return Demand(cpu_requested_millicores=round(workers * CORES))


def days(*workers: float) -> dict[int, Demand]:
    return {number + 1: cpu(one) for number, one in enumerate(workers)}


def look(past: DemandHistory | None, of: Policy | None = None, state: State | None = None, **more: Any) -> Decision:
    idle = snapshot([worker(number) for number in range(2)], **more)
    return judged(msgspec.structs.replace(idle, history=past), of or policy(), state)


def judged(seen: Snapshot, of: Policy, state: State | None = None) -> Decision:
    return decided(seen, state or State(), of)


@pytest.mark.parametrize(
    ("then", "wants"),
    [
        pytest.param(days(5, 5, 5, 5, 5), 5, id="every day alike"),
        pytest.param(days(5, 5, 5, 5, 30), 5, id="one day like no other moves nothing"),
        pytest.param(days(5, 0, 0, 5, 5), 5, id="two quiet days do not either"),
        pytest.param(days(5, 5, 2, 2), 2, id="of two in the middle the lower one"),
        pytest.param(days(5, 6), 5, id="two days will do"),
        pytest.param(days(5), None, id="one will not"),
        pytest.param(days(4.01, 4.01, 4.01), 5, id="rounded up"),
        pytest.param(days(4, 4, 4), 4, id="to the last of a worker"),
        pytest.param(days(0, 0, 0), 0, id="nothing"),
    ],
)
def test_the_median_of_earlier_days_is_wanted(then: dict[int, Demand], wants: int | None) -> None:
    decision = look(history(then))
    assert decision.foreseen is not None
    assert decision.foreseen.uncapped == wants
    assert [signal.wants for signal in decision.signals if signal.name == "forecast"] == [wants]


@pytest.mark.parametrize(
    ("now", "before", "wants"),
    [
        pytest.param(2, days(2, 2, 2), 4, id="today is like the others"),
        pytest.param(3, days(2, 2, 2), 6, id="half as much again"),
        pytest.param(1, days(2, 2, 2), 2, id="half"),
        pytest.param(0, days(2, 2, 2), 2, id="a half at least"),
        pytest.param(2.5, days(0.1, 0.1, 0.1), 8, id="twice at most"),
        pytest.param(3, days(0, 0, 0), 4, id="where there was nothing nothing can be compared"),
        pytest.param(3, days(2, 20, 2), 6, id="by the median too"),
    ],
)
def test_it_is_scaled_by_how_today_compares(now: float, before: dict[int, Demand], wants: int) -> None:
    past = history(days(4, 4, 4), now=cpu(now), before=before)
    assert _uncapped(look(past)) == wants
    assert _uncapped(look(past, policy(msgspec.structs.replace(ON, trend=False)))) == 4


@pytest.mark.parametrize(
    ("demand", "wants"),
    [
        (Demand(cpu_used_millicores=round(4 * CORES * 0.7)), 4),
        (Demand(memory_used_mib=round(4 * 1500 * 0.8)), 4),
        (Demand(memory_requested_mib=4 * 1500), 4),
        (Demand(cpu_requested_millicores=CORES, memory_requested_mib=4 * 1500), 4),
    ],
)
def test_use_counts_by_its_target_and_the_scarcest_decides(demand: Demand, wants: int) -> None:
    now = Demand(cpu_requested_millicores=CORES, memory_requested_mib=100, cpu_used_millicores=100, memory_used_mib=100)
    trendless = policy(msgspec.structs.replace(ON, trend=False))
    assert _uncapped(look(history(dict.fromkeys(range(1, 4), demand), now=now), trendless)) == wants


def test_it_grows_and_says_so() -> None:
    decision = look(history(days(5, 5, 5)))
    assert (decision.action, decision.reason) == (Action.SCALE_UP, "forecast")
    assert decision.message == "Launching 3 workers: 3 earlier days ask for 5 workers at 08:05 (UTC); 2 are needed now."
    berlin = policy(msgspec.structs.replace(ON, time_zone="Europe/Berlin"))
    assert "at 09:05 (Europe/Berlin)" in look(history(days(5, 5, 5)), berlin).message


def test_at_most_so_many_more_than_runs_needs_now() -> None:
    capped = policy(msgspec.structs.replace(ON, max_extra=1))
    decision = look(history(days(9, 9, 9)), capped)
    assert decision.message == (
        "Launching 1 worker: 3 earlier days ask for 9 workers at 08:05 (UTC); 2 are needed now, "
        "forecast.max_extra is 1."
    )
    # What is there already does not count: it would climb at each look.
    four = msgspec.structs.replace(snapshot([worker(number) for number in range(4)]), history=history(days(9, 9, 9)))
    assert judged(four, capped).growth is None


@pytest.mark.parametrize(("high", "launched"), [(3, 1), (2, 0), (10, 3)])
def test_max_holds(high: int, launched: int) -> None:
    decision = look(history(days(5, 5, 5)), policy(high=high))
    assert (decision.growth.count if decision.growth is not None else 0) == launched
    assert decision.action is not Action.HELD_BACK, "who foresees too much is no reason for an alarm"


GENERAL: Final = WorkerPool(name="general", instance_types=("t3.small",), max=2)
BROKEN: Final = State(join_failures=JoinFailures(failures=3, failed_at_s=NOW_S - 60, until_s=NOW_S + 600))


@pytest.mark.parametrize(
    ("changes", "state"),
    [
        pytest.param({"workers": Workers(min=1, max=10, pools=(GENERAL,))}, State(), id="the pools' max"),
        pytest.param({"cost": Cost(max_usd_per_hour=0.05, usd_per_hour={"t3.small": 0.02})}, State(), id="cost cap"),
        pytest.param({}, BROKEN, id="launches that fail"),
    ],
)
def test_nothing_is_refused_or_held_up_for_what_may_not_be_had(changes: dict[str, Any], state: State) -> None:
    of = msgspec.structs.replace(policy(), **changes)
    decision = look(history(days(5, 5, 5)), of, state)
    assert (decision.action, decision.growth) == (Action.NONE, None)
    assert decision.message.startswith("Nothing to do: ")
    assert _uncapped(decision) == 5, "it is told all the same"
    # A demand that is no foresight is refused as ever, by its own name, though it is the smaller one.
    of = msgspec.structs.replace(of, signals=(CustomSignal(name="queue", query="q", per_worker_target=10),))
    seen = msgspec.structs.replace(
        snapshot([worker(number) for number in range(2)]),
        history=history(days(5, 5, 5)),
        signals=(SeenSignal(name="queue", now=30.0, least=30.0, most=30.0),),
    )
    refused = judged(seen, of, state)
    assert refused.action is Action.HELD_BACK
    assert refused.message.startswith("Queue asks for 3 workers: 30 / 10 each, which asks for 1 worker more; ")


def test_who_is_about_to_leave_is_taken_back_though_nobody_more_may_be_had() -> None:
    capped = msgspec.structs.replace(policy(), cost=Cost(max_usd_per_hour=0.065, usd_per_hour={"t3.small": 0.02}))
    seen = msgspec.structs.replace(snapshot([worker(number) for number in range(3)]), history=history(days(5, 5, 5)))
    leaving = State(removals=(removal(1, RemovalPhase.DRAINED),))
    (one,) = judged(seen, capped, leaving).state.removals
    assert one.phase is RemovalPhase.UNCORDONING


@pytest.mark.parametrize("changes", [{"tainted": True}, {"cordoned": True}], ids=str)
def test_workers_that_take_no_pods_count_like_others(changes: dict[str, Any]) -> None:
    """What was recorded is over all workers: if they were no room, each new one would call for the next."""
    seen = snapshot([worker(number, **changes) for number in range(5)])
    decision = judged(msgspec.structs.replace(seen, history=history(days(5, 5, 5))), policy())
    assert _uncapped(decision) == 5
    assert decision.growth is None


def test_a_worker_that_is_not_ready_for_a_moment_is_not_replaced_for_it() -> None:
    for unready, launched in ((1, 0), (5, 0), (0, 0)):
        seen = snapshot([worker(number, ready=number >= unready) for number in range(5)])
        decision = judged(msgspec.structs.replace(seen, history=history(days(5, 5, 5))), policy())
        assert (decision.growth.count if decision.growth is not None else 0) == launched


def test_what_waits_comes_first_and_the_larger_wins() -> None:
    seen = snapshot([worker(1)], [waiting(f"w{n}", cpu=1800) for n in range(8)])
    decision = judged(msgspec.structs.replace(seen, history=history(days(3, 3, 3))), policy())
    assert decision.reason == "pods_unschedulable"


def test_shadow_tells_the_same_and_does_nothing() -> None:
    shadow = policy(msgspec.structs.replace(ON, mode="shadow"))
    decision, acting = look(history(days(5, 5, 5)), shadow), look(history(days(5, 5, 5)))
    assert decision.growth is None
    assert [signal.wants for signal in decision.signals if signal.name == "forecast"] == [None]
    assert decision.foreseen is not None
    assert acting.foreseen == msgspec.structs.replace(decision.foreseen, mode="on")
    assert decision.forecast == acting.forecast
    assert len(_shrunk(history(days(4, 4, 4)), shadow).state.removals) == 3


def test_off_asks_for_nothing_and_forgets() -> None:
    decision = look(None, policy(Forecast()), State(forecast=KeptForecast(made_at_s=NOW_S)))
    assert (decision.foreseen, decision.forecast, decision.asks.history) == (None, None, False)
    assert [signal for signal in decision.signals if signal.name == "forecast"] == []


# ---------------------------------------------------------------------------------------------------- when, and how far


@pytest.mark.parametrize(
    ("made_at_s", "due"),
    [(None, True), (NOW_S, False), (NOW_S - REFRESH_S + 1, False), (NOW_S - REFRESH_S, True), (NOW_S + 5, True)],
)
def test_the_history_is_asked_for_every_ten_minutes(made_at_s: int | None, due: bool) -> None:
    kept = None if made_at_s is None else KeptForecast(made_at_s=made_at_s)
    assert look(None, state=State(forecast=kept)).asks.history is due


def test_it_is_not_asked_for_while_the_cluster_is_unknown() -> None:
    assert not look(None, status=MetricsStatus.PARTIAL, known=False).asks.history


@pytest.mark.parametrize(
    ("begins_in_s", "grows", "kept"),
    [(-SLOT_S, False, 1), (-1, True, 4), (600, True, 4), (601, False, 4), (1800, False, 4), (1801, False, 1)],
)
def test_growth_looks_as_far_as_the_horizon_and_staying_half_an_hour(begins_in_s: int, grows: bool, kept: int) -> None:
    record = KeptForecast(
        made_at_s=NOW_S - 60, now=NOW, slots=(KeptSlot(at_s=NOW_S + begins_in_s, demand=cpu(4)),), earlier_days=3
    )
    state = State(forecast=record)
    assert (look(None, state=state).growth is not None) is grows
    assert 4 - len(_shrunk(None, policy(), state).state.removals) == kept


def test_the_measured_time_to_join_is_the_horizon_where_none_is_given() -> None:
    own = policy(msgspec.structs.replace(ON, horizon_s=None))
    record = KeptForecast(made_at_s=NOW_S, now=NOW, slots=(KeptSlot(at_s=NOW_S + 200, demand=cpu(4)),))
    for join_s, grows in ((79, False), (80, True)):
        state = State(forecast=record, join_times_s=(10, join_s))
        assert (look(None, own, state).growth is not None) is grows


def test_a_shrink_leaves_what_is_wanted_soon() -> None:
    decision = _shrunk(history(days(3, 3, 3)), policy())
    assert len(decision.state.removals) == 1
    assert any("3 workers are wanted (forecast: 3 within half an hour)" in row.reason for row in decision.blocked)
    assert len(_shrunk(history(days(9, 9, 9)), policy(high=3)).state.removals) == 1, "above max goes"


# --------------------------------------------------------------------------------------------------------- none, errors


@pytest.mark.parametrize(
    ("past", "problem"),
    [
        (DemandHistory(problem="not recorded"), "not recorded"),
        (DemandHistory(now=NOW), "there is a history of 0 of the days that are looked at, and 2 are needed"),
        (history(days(5)), "there is a history of 1 of the days that are looked at, and 2 are needed"),
        (history(dict.fromkeys(range(1, 6), Demand())), "there is a history of 5"),
    ],
)
def test_without_history_there_is_none_and_nothing_is_held_up(past: DemandHistory, problem: str) -> None:
    decision = look(past)
    assert decision.foreseen is not None
    assert decision.foreseen.problem.startswith(problem)
    assert (decision.foreseen.wants, decision.growth) == (None, None)
    assert len(_shrunk(past, policy()).state.removals) == 3
    assert not look(None, state=State(forecast=decision.forecast)).asks.history, "not again for ten minutes"


def test_a_question_that_fails_takes_away_nothing_that_is_foreseen_already() -> None:
    """One timeout before noon would let workers go that are launched again once it is answered."""
    first_s = NOW_S - NOW_S % SLOT_S
    slots = tuple(KeptSlot(at_s=first_s + slot * SLOT_S, demand=cpu(4)) for slot in range(7))
    record = KeptForecast(made_at_s=NOW_S - 600, now=NOW, slots=slots, earlier_days=5, compared=((2, 2),))
    failed = DemandHistory(problem="no answer in 2 s")
    shrunk = _shrunk(failed, policy(), State(forecast=record))
    assert len(shrunk.state.removals) == 0
    assert shrunk.forecast == msgspec.structs.replace(record, made_at_s=NOW_S, problem="no answer in 2 s")
    grown = look(failed, state=State(forecast=record))
    assert grown.message == "Launching 2 workers: 5 earlier days ask for 4 workers at 08:00 (UTC); 2 are needed now."
    assert grown.foreseen is not None
    assert (grown.foreseen.problem, grown.foreseen.compared) == ("no answer in 2 s", 1)
    # It reaches no farther for that.
    late = msgspec.structs.replace(record, slots=slots[:1], made_at_s=NOW_S - 3_600)
    seen = snapshot([worker(number) for number in range(4)], at_s=first_s + SLOT_S)
    calm = State(forecast=late, last_scale_up_s=NOW_S - 7_000)
    assert len(judged(msgspec.structs.replace(seen, history=failed), policy(), calm).state.removals) == 3


def test_one_that_is_too_old_says_nothing() -> None:
    record = KeptForecast(made_at_s=NOW_S - 7200, now=NOW, slots=(KeptSlot(at_s=NOW_S - 7000, demand=cpu(9)),))
    decision = look(None, state=State(forecast=record))
    assert decision.foreseen is not None
    assert decision.foreseen.problem == "the last forecast is too old to tell"
    assert decision.growth is None


def test_what_was_foreseen_for_now_is_compared_with_what_is() -> None:
    first_s = NOW_S - NOW_S % SLOT_S
    record = KeptForecast(
        made_at_s=NOW_S - 600, now=NOW, slots=(KeptSlot(at_s=first_s, demand=cpu(5)),), compared=((2, 2),)
    )
    decision = look(history(days(2, 2, 2)), state=State(forecast=record))
    assert decision.forecast is not None
    assert decision.forecast.compared == ((2, 2), (5, 2))
    assert decision.foreseen is not None
    told = decision.foreseen
    assert (told.error_workers, told.error_percent, told.compared) == (1.5, 75.0, 2)


def test_nothing_is_compared_with_what_nobody_foresaw() -> None:
    record = KeptForecast(made_at_s=NOW_S - 600, now=NOW, slots=(KeptSlot(at_s=NOW_S - 5000, demand=cpu(5)),))
    decision = look(history(days(2, 2, 2)), state=State(forecast=record))
    assert decision.forecast is not None
    assert decision.forecast.compared == ()


def test_a_day_of_comparisons_is_kept_and_the_record_stays_small() -> None:
    full = tuple((number % 1000, 1000) for number in range(COMPARED_AT_MOST))
    first_s = NOW_S - NOW_S % SLOT_S
    record = KeptForecast(made_at_s=NOW_S - 600, now=NOW, slots=(KeptSlot(at_s=first_s, demand=cpu(5)),), compared=full)
    huge = Demand(
        cpu_requested_millicores=10**9, memory_requested_mib=10**9, cpu_used_millicores=10**9, memory_used_mib=10**9
    )
    every = [history(dict.fromkeys(range(1, 23), huge), slot=slot) for slot in range(9)]
    past = msgspec.structs.replace(every[0], slots=tuple(slot for one in every for slot in one.slots))
    kept = look(past, state=State(forecast=record)).forecast
    assert kept is not None
    assert len(kept.compared) == COMPARED_AT_MOST == 144
    assert kept.compared[-1] == (5, 2)
    assert len(msgspec.json.encode(kept)) < 4096


def test_all_waits_of_a_policy_are_told() -> None:
    for changes, words in (
        ({"days": 1, "weeks": 0}, "forecast.days is 1 and forecast.weeks is 0: give at least 2 earlier days"),
        ({"days": 0, "weeks": 1}, "give at least 2 earlier days"),
        ({"time_zone": "Mars/Base"}, "forecast.time_zone Mars/Base is unknown"),
    ):
        with pytest.raises(ValueError, match=words):
            policy(msgspec.structs.replace(ON, **changes))
    assert Forecast(days=7, weeks=4).days_back == (1, 2, 3, 4, 5, 6, 7, 14, 21, 28)
    assert Forecast(days=0, weeks=2).days_back == (7, 14)


def _uncapped(decision: Decision) -> int | None:
    assert decision.foreseen is not None
    return decision.foreseen.uncapped


def _shrunk(past: DemandHistory | None, of: Policy, state: State | None = None) -> Decision:
    idle = snapshot([worker(number) for number in range(4)])
    calm = msgspec.structs.replace(state or State(), last_scale_up_s=NOW_S - 7_000)
    now = None if past is None else msgspec.structs.replace(past, now=past.now)
    return judged(msgspec.structs.replace(idle, history=now), of, calm)
