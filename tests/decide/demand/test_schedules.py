"""Which windows hold at a moment, and what limits follow: by hand-made tables, and against the clock on the wall."""

from datetime import datetime
from itertools import pairwise
from typing import Any
from zoneinfo import ZoneInfo

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from autoscaler.ask.lines import line
from autoscaler.decide.demand.schedules import Limits, ahead_s, in_force, limits_at, spans_of
from autoscaler.model import State
from autoscaler.policy import Policy, Workers
from autoscaler.windows import DAYS, Headroom, Window
from tests.decide.builders import decided, pod, snapshot, worker

ZONES = ("Europe/Berlin", "America/New_York", "Australia/Lord_Howe")
"""Two that change in other weeks, and one that changes by half an hour, in the other half of the year."""
SEEN_S = 60
JOINED = State(join_times_s=(SEEN_S,))


def at(text: str, zone: str = "UTC") -> int:
    return round(datetime.fromisoformat(text).replace(tzinfo=ZoneInfo(zone)).timestamp())


def window(name: str = "w", zone: str = "Europe/Berlin", **changes: Any) -> Window:
    return msgspec.structs.replace(Window(name=name, time_zone=zone, min=6), **changes)


def times(begins: str, ends: str, **changes: Any) -> Window:
    return window(from_time=begins, to_time=ends, **changes)


def policy(*windows: Window, low: int = 2, high: int = 10, headroom: Headroom | None = None) -> Policy:
    made = Policy(version=1, workers=Workers(min=low, max=high), schedules=windows)
    return made if headroom is None else msgspec.structs.replace(made, headroom=headroom)


def limits(its_policy: Policy, now_s: int, state: State = JOINED) -> tuple[int, int]:
    found = limits_at(its_policy, state, now_s)
    return found.min, found.max


def holds(one: Window, now_s: int) -> bool:
    return any(begin_s <= now_s < end_s for begin_s, end_s in spans_of(one, now_s, now_s))


# ------------------------------------------------------------------------------------------------------ when it holds


@pytest.mark.parametrize(
    ("one", "inside", "outside"),
    [
        pytest.param(
            times("09:00", "17:00"),
            ["2027-01-15 09:00:00", "2027-01-15 16:59:59"],
            ["2027-01-15 08:59:59", "2027-01-15 17:00"],
            id="by day",
        ),
        pytest.param(
            times("22:00", "06:00", days=("fri",)),
            ["2027-01-15 22:00", "2027-01-16 05:59"],
            ["2027-01-15 05:00", "2027-01-16 06:00", "2027-01-16 22:00", "2027-01-17 05:00"],
            id="over midnight, by the day on which it begins",
        ),
        pytest.param(
            window(days=("sat", "sun")),
            ["2027-01-16 00:00", "2027-01-17 23:59:59"],
            ["2027-01-15 23:59:59", "2027-01-18 00:00"],
            id="whole days",
        ),
        pytest.param(
            times("00:00", "24:00", days=("tue",)),
            ["2028-02-29 00:00", "2028-02-29 23:59"],
            ["2028-02-28 23:59", "2028-03-01 00:00"],
            id="the leap day is a Tuesday",
        ),
        pytest.param(
            times("22:00", "04:00", days=("mon",)),
            ["2028-02-28 22:00", "2028-02-29 03:59"],
            ["2028-02-29 04:00", "2028-02-29 23:00"],
            id="over midnight into the leap day",
        ),
        pytest.param(
            times("23:00", "22:59", days=("thu",)),
            ["2026-12-31 23:00", "2027-01-01 22:58"],
            ["2027-01-01 22:59", "2026-12-31 22:59"],
            id="nearly a day, into the new year",
        ),
    ],
)  # fmt: skip
def test_a_window_holds_from_its_first_second_to_before_its_end(
    one: Window, inside: list[str], outside: list[str]
) -> None:
    assert all(holds(one, at(moment, one.time_zone)) for moment in inside)
    assert not any(holds(one, at(moment, one.time_zone)) for moment in outside)


@pytest.mark.parametrize(
    ("zone", "day", "clock", "utc"),
    [
        # Berlin goes from 02:00 to 03:00 on 2027-03-28, and from 03:00 to 02:00 on 2027-10-31: both at 01:00 UTC.
        ("Europe/Berlin", "sat", ("22:00", "06:00"), ("2027-03-27 21:00", "2027-03-28 04:00")),
        ("Europe/Berlin", "sat", ("22:00", "06:00"), ("2027-10-30 20:00", "2027-10-31 05:00")),
        ("Europe/Berlin", "sun", ("02:30", "05:00"), ("2027-03-28 01:00", "2027-03-28 03:00")),
        ("Europe/Berlin", "sun", ("01:00", "02:30"), ("2027-03-28 00:00", "2027-03-28 01:00")),
        ("Europe/Berlin", "sun", ("02:30", "02:45"), ("2027-10-31 00:30", "2027-10-31 01:45")),
        ("Europe/Berlin", "sun", ("01:00", "02:30"), ("2027-10-30 23:00", "2027-10-31 01:30")),
        ("Europe/Berlin", "sun", ("02:30", "05:00"), ("2027-10-31 00:30", "2027-10-31 04:00")),
        # Chile jumps over midnight: the day begins at 01:00.
        ("America/Santiago", "sun", ("00:00", "02:00"), ("2026-09-06 04:00", "2026-09-06 05:00")),
        # Half an hour, back at 02:00 summer time (UTC+11) to 01:30 (UTC+10:30).
        ("Australia/Lord_Howe", "sun", ("01:30", "02:00"), ("2027-04-03 14:30", "2027-04-03 15:30")),
        ("Asia/Kolkata", "sun", ("00:00", "24:00"), ("2027-01-16 18:30", "2027-01-17 18:30")),
    ],
)
def test_when_the_clock_is_changed(zone: str, day: str, clock: tuple[str, str], utc: tuple[str, str]) -> None:
    one = times(*clock, time_zone=zone, days=(day,))
    expected = at(utc[0]), at(utc[1])
    assert expected in list(spans_of(one, expected[0] - 3600, expected[1] + 3600))


def test_a_window_within_the_hour_that_is_left_out_does_not_begin_that_day() -> None:
    one = times("02:15", "02:45", days=("sun",))
    begins = [begin_s for begin_s, _ in spans_of(one, at("2027-03-20"), at("2027-04-05"))]
    assert begins == [at("2027-03-21 02:15", "Europe/Berlin"), at("2027-04-04 02:15", "Europe/Berlin")]


# --------------------------------------------------------------------------------------- against the clock on the wall

FIRST_S, LAST_S = at("2026-01-01"), at("2029-01-01")
clock_times = st.builds(lambda h, m: f"{h:02}:{m:02}", st.integers(0, 23), st.integers(0, 59))


@st.composite
def windows(draw: Any) -> Window:
    begins = draw(clock_times)
    ends = draw(clock_times.filter(lambda ends: ends != begins))
    days = tuple(draw(st.sets(st.sampled_from(DAYS), min_size=1)))
    return times(begins, ends, time_zone=draw(st.sampled_from(ZONES)), days=days)


def wall(now_s: int, zone: str) -> datetime:
    return datetime.fromtimestamp(now_s, ZoneInfo(zone))


def shows(one: Window, now_s: int) -> bool:
    """Whether the clock on the wall shows a time of the window: told without any of the code that is tested."""
    now = wall(now_s, one.time_zone)
    clock = f"{now.hour:02}:{now.minute:02}"
    today, yesterday = DAYS[now.weekday()], DAYS[now.weekday() - 1]
    begins, ends = one.from_time or "00:00", one.to_time or "24:00"
    if ends > begins:
        return today in one.days and begins <= clock < ends
    return (today in one.days and clock >= begins) or (yesterday in one.days and clock < ends)


@settings(max_examples=400)
@given(one=windows(), minute=st.integers(0, (LAST_S - FIRST_S) // 60 - 1))
def test_any_minute_of_three_years_has_the_answer_that_the_clock_shows(one: Window, minute: int) -> None:
    now_s = FIRST_S + minute * 60
    limits_at(policy(one), JOINED, now_s)
    near = {wall(now_s + hours * 3600, one.time_zone).utcoffset() for hours in range(-30, 31)}
    if len(near) == 1:
        assert holds(one, now_s) is shows(one, now_s)
    elif shows(one, now_s):
        assert holds(one, now_s), "what the clock shows holds: more may, between the two times that it shows one"


def changes_of(zone: str) -> list[int]:
    """The hours of three years within which the zone's clock is changed."""
    hours = range(FIRST_S, LAST_S, 3600)
    return [at_s for at_s in hours if wall(at_s, zone).utcoffset() != wall(at_s + 3600, zone).utcoffset()]


@pytest.mark.parametrize("zone", ZONES)
def test_every_minute_around_every_change_of_the_clock_has_an_answer_that_only_the_window_explains(zone: str) -> None:
    """A window that covers the change, one that begins and one that ends within: each is one span, without holes."""
    assert len(changes_of(zone)) == 6
    for changed_s in changes_of(zone):
        minutes = range(changed_s - 6 * 3600, changed_s + 6 * 3600, 60)
        for one in (
            times("00:30", "04:30", time_zone=zone),
            times("01:45", "05:00", time_zone=zone),
            times("00:15", "01:45", time_zone=zone),
        ):
            spans = list(spans_of(one, minutes[0], minutes[-1]))
            held = [any(begin_s <= m < end_s for begin_s, end_s in spans) for m in minutes]
            assert all(held[i] for i, m in enumerate(minutes) if shows(one, m))
            begun = sum(1 for before, after in pairwise(held) if after and not before)
            assert begun <= 1, "it does not begin twice in a night"


@settings(max_examples=200)
@given(one=windows(), day=st.integers(0, 3 * 365))
def test_a_windows_length_is_what_the_clock_shows_and_what_it_jumps(one: Window, day: int) -> None:
    since_s = FIRST_S + day * 86_400
    begins, ends = one.minutes
    for begin_s, end_s in spans_of(one, since_s, since_s + 8 * 86_400):
        before, after = wall(begin_s, one.time_zone).utcoffset(), wall(end_s, one.time_zone).utcoffset()
        assert before is not None
        assert after is not None
        jumped_s = (after - before).total_seconds()
        apart_s = (ends - begins) * 60 - jumped_s
        # An edge within the hour that is skipped or repeated is moved by as much as that hour at most.
        tolerated_s = 3600 if _on_the_edge(begin_s, one.time_zone) or _on_the_edge(end_s, one.time_zone) else 0
        assert abs(end_s - begin_s - apart_s) <= tolerated_s


def _on_the_edge(at_s: int, zone: str) -> bool:
    return wall(at_s - 3700, zone).utcoffset() != wall(at_s + 3700, zone).utcoffset()


@settings(max_examples=100)
@given(one=windows(), day=st.integers(0, 3 * 365))
def test_spans_are_in_order_and_every_week_has_as_many_as_days(one: Window, day: int) -> None:
    since_s = FIRST_S + day * 86_400
    spans = list(spans_of(one, since_s, since_s + 7 * 86_400))
    assert spans == sorted(spans)
    begun = sum(1 for begin_s, _ in spans if since_s <= begin_s < since_s + 7 * 86_400)
    assert abs(begun - len(one.days)) <= 1


# -------------------------------------------------------------------------------------------------------------- limits

NOON_S = at("2027-01-15 12:00", "Europe/Berlin")


@pytest.mark.parametrize(
    ("rows", "expected"),
    [
        pytest.param([], (2, 10), id="none"),
        pytest.param([window(min=6)], (6, 10), id="min alone"),
        pytest.param([window(min=None, max=4)], (2, 4), id="max alone"),
        pytest.param([window(min=0)], (0, 10), id="it may lower min"),
        pytest.param([window(min=12, max=20)], (12, 20), id="both"),
        pytest.param([window("a", min=6), window("b", min=4)], (6, 10), id="the highest min"),
        pytest.param([window("a", min=None, max=4), window("b", min=None, max=7)], (2, 7), id="the highest max"),
        pytest.param([window("a", min=0), window("b", min=1)], (1, 10), id="of those that give one: 2 is nobody's"),
        pytest.param(
            [window("a", min=5), window("b", min=None, headroom=Headroom(workers=1))], (5, 10), id="one gives"
        ),
        pytest.param([window("a", min=8, max=9), window("b", min=3, max=4)], (8, 9), id="the greater pair"),
        pytest.param([window("a", min=6), times("13:00", "14:00", name="b", min=9)], (6, 10), id="another hour"),
    ],
)
def test_of_windows_that_hold_at_once_the_highest_min_and_the_highest_max_count(
    rows: list[Window], expected: tuple[int, int]
) -> None:
    assert limits(policy(*rows), NOON_S) == expected
    assert limits(policy(*reversed(rows)), NOON_S) == expected, "whatever their order"


def test_without_schedules_the_policy_is_the_same_value() -> None:
    plain = policy(headroom=Headroom(workers=1))
    found = limits_at(plain, State(), NOON_S)
    assert found == Limits(min=2, max=10, headroom=(Headroom(workers=1),))
    assert in_force(plain, found) is plain
    held = policy(window(min=6))
    assert in_force(held, limits_at(held, State(), NOON_S)).workers == Workers(min=6, max=10)


BEGINS_S = at("2027-01-15 09:00", "Europe/Berlin")
SHOP = times("09:00", "21:00", name="shop", min=6, max=20)


@pytest.mark.parametrize(
    ("before_s", "joins", "expected"),
    [
        pytest.param(181, (60,), (2, 10), id="too early"),
        pytest.param(180, (60,), (6, 10), id="a join and a sweep before"),
        pytest.param(1, (60,), (6, 10), id="max waits for its window"),
        pytest.param(0, (60,), (6, 20), id="at its start"),
        pytest.param(300, (40, 180, 60), (6, 10), id="the longest of the last joins"),
        pytest.param(720, (), (6, 10), id="none was seen: the time that the policy gives one"),
        pytest.param(721, (), (2, 10), id="none was seen, and too early"),
        pytest.param(900, (5_000,), (6, 10), id="no more than a quarter of an hour"),
        pytest.param(901, (5_000,), (2, 10), id="no more than that, whatever a join once took"),
    ],
)
def test_min_counts_ahead_by_the_measured_join_time(
    before_s: int, joins: tuple[int, ...], expected: tuple[int, int]
) -> None:
    state = State(join_times_s=joins)
    assert limits(policy(SHOP), BEGINS_S - before_s, state) == expected


def test_max_goes_ahead_only_as_far_as_min_needs() -> None:
    found = limits_at(policy(times("09:00", "21:00", name="shop", min=14, max=20)), JOINED, BEGINS_S - 100)
    assert (found.min, found.max, found.max_by) == (14, 14, "min of the schedule shop")


def test_the_end_of_a_window_that_lowers_min_is_served_ahead_and_one_that_raises_it_is_not() -> None:
    low, high = times("22:00", "09:00", min=0), times("22:00", "09:00", min=5)
    assert limits(policy(low), BEGINS_S - 181) == (0, 10)
    assert limits(policy(low), BEGINS_S - 180) == (2, 10)
    assert limits(policy(high), BEGINS_S - 1) == (5, 10)
    assert limits(policy(high), BEGINS_S) == (2, 10)


def test_a_coming_window_that_lowers_a_limit_waits_for_its_start() -> None:
    night = times("09:00", "21:00", min=0, max=3)
    assert limits(policy(night), BEGINS_S - 1) == (2, 10)
    assert limits(policy(night), BEGINS_S) == (0, 3)


def test_headroom_of_windows_takes_the_place_of_the_policys_and_comes_ahead() -> None:
    own, more, none = Headroom(workers=1), Headroom(percent=20), Headroom()
    with_own = policy(times("09:00", "21:00", min=None, headroom=more), headroom=own)
    assert limits_at(with_own, JOINED, BEGINS_S - 181).headroom == (own,)
    assert limits_at(with_own, JOINED, BEGINS_S - 180).headroom == (own, more)
    assert limits_at(with_own, JOINED, BEGINS_S).headroom == (more,)
    assert limits_at(policy(window(min=None, headroom=none), headroom=own), JOINED, NOON_S).headroom == ()
    both = policy(window("a", min=None, headroom=more), window("b", min=None, headroom=own))
    assert limits_at(both, JOINED, NOON_S).headroom == (more, own)


@pytest.mark.parametrize(
    ("one", "now", "expected"),
    [
        (SHOP, "2027-01-15 08:50", []),
        (SHOP, "2027-01-15 08:58", [(False, "2027-01-15 09:00", "2027-01-15 21:00")]),
        (times("09:00", "21:00", min=None, max=20), "2027-01-15 08:58", []),
        (times("09:00", "21:00", min=1, max=3), "2027-01-15 08:58", []),
        (
            times("09:00", "21:00", min=None, headroom=Headroom(workers=1)),
            "2027-01-15 08:58",
            [(False, "2027-01-15 09:00", "2027-01-15 21:00")],
        ),
        (SHOP, "2027-01-15 10:00", [(True, "2027-01-15 09:00", "2027-01-15 21:00")]),
        (window("always"), "2027-01-15 10:00", [(True, "2027-01-15 00:00", None)]),
        (window("weekend", days=("sat", "sun")), "2027-01-16 10:00", [(True, "2027-01-16 00:00", "2027-01-18 00:00")]),
    ],
)
def test_what_holds_and_until_when_is_told(one: Window, now: str, expected: list[tuple[bool, str, str | None]]) -> None:
    told = limits_at(policy(one), JOINED, at(now, "Europe/Berlin")).schedules
    assert [(row.name, row.holds, row.from_s, row.until_s) for row in told] == [
        (one.name, holding, at(begins, "Europe/Berlin"), None if ends is None else at(ends, "Europe/Berlin"))
        for holding, begins, ends in expected
    ]


@pytest.mark.parametrize(
    ("before_s", "leaving", "said"),
    [
        pytest.param(1801, 4, "needed: 2 workers are wanted", id="long before: down to min"),
        pytest.param(1800, 0, "needed: 6 workers are wanted (min of the schedule shop, soon)", id="not so soon before"),
        pytest.param(180, 0, "", id="it counts already"),
    ],
)
def test_nobody_leaves_who_would_be_launched_again_at_once(before_s: int, leaving: int, said: str) -> None:
    now_s = BEGINS_S - before_s
    idle = [worker(n, of={"launched_at_s": now_s - 7200}) for n in range(1, 7)]
    decision = decided(snapshot(idle, at_s=now_s), JOINED, policy(SHOP))
    assert (len(decision.state.removals), decision.growth) == (leaving, None)
    assert not said or {row.reason for row in decision.blocked} == {said}
    assert leaving or before_s == 1800 or "min of the schedule shop is 6" in decision.message


@pytest.mark.parametrize(
    ("before_s", "leaving"), [pytest.param(1801, 4, id="long before"), pytest.param(1800, 0, id="not so soon before")]
)
def test_nor_who_is_to_stay_free_in_half_an_hour(before_s: int, leaving: int) -> None:
    """As headroom what five of six have is asked for, beside a pod on one: they would be launched again for it."""
    now_s = BEGINS_S - before_s
    sale = policy(times("09:00", "21:00", name="sale", min=None, headroom=Headroom(workers=5)))
    old = {"launched_at_s": now_s - 7200}
    machines = [worker(1, of=old, pods=[pod("one", cpu=900)]), *(worker(n, of=old) for n in range(2, 7))]
    decision = decided(snapshot(machines, at_s=now_s), JOINED, sale)
    assert (len(decision.state.removals), decision.growth) == (leaving, None)
    if not leaving:
        (row, *_) = decision.blocked
        assert row.text == "headroom, soon: the room of 5 new workers would not stay free"
        assert line(row.subject, row.text, code=row.code).fields == ("schedules[].headroom", "headroom")
    # Growth does not ask for it yet, as it does not for a min.
    few = snapshot([worker(1, of=old), worker(2, of=old)], at_s=now_s)
    assert decided(few, JOINED, sale).growth is None


def test_who_is_above_max_goes_whatever_comes_soon() -> None:
    now_s = BEGINS_S - 600
    idle = [worker(n, of={"launched_at_s": now_s - 7200}) for n in range(1, 7)]
    decision = decided(snapshot(idle, at_s=now_s), JOINED, policy(SHOP, high=4))
    assert len(decision.state.removals) == 2


limits_given = st.tuples(st.one_of(st.none(), st.integers(0, 20)), st.one_of(st.none(), st.integers(0, 20)))


@settings(max_examples=300)
@given(
    st.lists(st.tuples(windows(), limits_given), max_size=4),
    st.integers(FIRST_S, LAST_S),
    st.lists(st.integers(0, 100_000), max_size=8),
)
def test_the_limits_are_in_order_and_never_below_what_holds_now(
    rows: list[tuple[Window, tuple[int | None, int | None]]], now_s: int, joins: list[int]
) -> None:
    """Also of windows that validation would refuse: the judgement is total."""
    named = [msgspec.structs.replace(one, name=f"w{n}", min=low, max=high) for n, (one, (low, high)) in enumerate(rows)]
    its_policy = _unchecked(tuple(named))
    state = State(join_times_s=tuple(joins))
    found = limits_at(its_policy, state, now_s)
    assert 0 <= found.min <= found.max
    assert 0 <= ahead_s(its_policy, state) <= 900
    held = [one for one in named if holds(one, now_s)]
    highest = max((one.max for one in held if one.max is not None), default=10)
    lowest = max((one.min for one in held if one.min is not None), default=2)
    assert found.min >= min(lowest, highest)
    assert found.max >= highest
    assert in_force(its_policy, found).workers.min == found.min


def _unchecked(rows: tuple[Window, ...]) -> Policy:
    """A policy with windows that no validation saw."""
    made = Policy(version=1)
    msgspec.structs.force_setattr(made, "schedules", rows)
    return made
