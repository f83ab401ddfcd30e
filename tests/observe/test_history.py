"""Which moments of earlier days are asked for: the same time by the clock on the wall, whatever the clock did since."""

from datetime import UTC, datetime
from typing import Any, Final
from zoneinfo import ZoneInfo

import msgspec
import pytest

from autoscaler.forecast import AHEAD_S, REFRESH_S, SLOT_S, Forecast
from autoscaler.metrics_policy import MetricsPolicy
from autoscaler.model import Demand, Sample
from autoscaler.observe.history import first_slot, history_query, parse_history, points
from autoscaler.policy import Policy

NOON_S: Final = int(datetime(2027, 1, 15, 12, 2, tzinfo=UTC).timestamp())


def policy(zone: str = "UTC", days: int = 7, weeks: int = 1, **more: Any) -> Policy:
    return Policy(version=1, forecast=Forecast(mode="on", days=days, weeks=weeks, time_zone=zone), **more)


def asked_for(own: Policy, now_s: int) -> dict[tuple[int, int], datetime]:
    """When each point's five minutes end, by the policy's clock."""
    zone = own.forecast.zone
    return {(p.days_back, p.slot): datetime.fromtimestamp(now_s - p.offset_s, zone) for p in points(own, now_s)}


def test_the_same_time_of_each_day_and_all_slots_that_may_be_needed() -> None:
    found = asked_for(policy(days=3, weeks=2), NOON_S)
    days = {key[0] for key in found}
    assert days == {0, 1, 2, 3, 7, 14}
    assert {key for key in found if not key[0]} == {(0, -1)}
    for back in days - {0}:
        assert found[back, -1] == datetime(2027, 1, 15 - back, 12, 2, tzinfo=UTC)
        assert found[back, 0] == datetime(2027, 1, 15 - back, 12, 4, 59, tzinfo=UTC)
    last = max(key[1] for key in found)
    covered_s = first_slot(NOON_S) + SLOT_S * (last + 1)
    assert covered_s >= NOON_S + REFRESH_S + AHEAD_S, "until the next one is made, half an hour ahead is known"


@pytest.mark.parametrize(
    ("zone", "now"),
    [
        pytest.param("Europe/Berlin", (2026, 3, 29, 12, 0), id="the morning after an hour was left out"),
        pytest.param("Europe/Berlin", (2026, 10, 25, 12, 0), id="the morning after an hour came twice"),
        pytest.param("America/New_York", (2026, 11, 2, 9, 0), id="a day later"),
        pytest.param("Asia/Kolkata", (2026, 7, 1, 9, 30), id="half an hour from the others"),
        pytest.param("Australia/Lord_Howe", (2026, 4, 5, 12, 0), id="a change of half an hour"),
    ],
)
def test_noon_is_compared_with_noon(zone: str, now: tuple[int, int, int, int, int]) -> None:
    wall = datetime(*now, tzinfo=ZoneInfo(zone))
    found = asked_for(policy(zone), round(wall.timestamp()))
    for (days, slot), moment in found.items():
        if slot < 0:
            assert (moment.hour, moment.minute) == (wall.hour, wall.minute), days
            assert (wall.date() - moment.date()).days == days


@pytest.mark.parametrize("hour", range(5))
@pytest.mark.parametrize("day", [28, 29, 30])
def test_around_the_change_itself_nothing_lies_in_the_future(day: int, hour: int) -> None:
    now_s = round(datetime(2026, 3, day, hour, 30, tzinfo=ZoneInfo("Europe/Berlin")).timestamp())
    offsets = [p.offset_s for p in points(policy("Europe/Berlin"), now_s) if p.days_back]
    assert min(offsets) >= 86_400 - 3600 - REFRESH_S - AHEAD_S - 2 * SLOT_S > 0


def test_the_query_is_one_and_bounded() -> None:
    longest = policy(days=14, weeks=8, metrics=MetricsPolicy(matchers={"cluster": "x" * 200}))
    asked = points(longest, NOON_S)
    assert len(asked) == 1 + 20 * 10
    text = history_query(longest, asked)
    assert text.count("workers_demand") == len(asked)
    assert text.count('cluster="x') == len(asked)
    assert len(text) < 2**18


def row(days: object, slot: object, value: str, of: str = "requests", resource: str = "cpu") -> Sample:
    labels = {"family": "demand", "days": str(days), "slot": str(slot), "of": of, "resource": resource}
    return Sample(labels, (NOON_S, value))


def test_an_answer_is_read() -> None:
    first_s = first_slot(NOON_S)
    found = parse_history(
        [
            row(0, -1, "1.5"),
            row(0, -1, "1073741824", resource="memory"),
            row(0, -1, "0.25", of="use"),
            row(1, -1, "2"),
            row(1, 0, "3"),
            row(7, 2, "2147483648", of="use", resource="memory"),
        ],
        first_s,
    )
    assert found.now == Demand(cpu_requested_millicores=1500, memory_requested_mib=1024, cpu_used_millicores=250)
    assert found.before == ((1, Demand(cpu_requested_millicores=2000)),)
    assert [(slot.days_back, slot.at_s - first_s, slot.demand) for slot in found.slots] == [
        (1, 0, Demand(cpu_requested_millicores=3000)),
        (7, 600, Demand(memory_used_mib=2048)),
    ]
    assert found.problem == ""


@pytest.mark.parametrize("value", ["NaN", "+Inf", "-Inf", "-1", "1e300", "x", ""])
def test_what_is_no_number_is_left_out(value: str) -> None:
    found = parse_history([row(0, -1, "1"), row(1, 0, value), row("x", 0, "1"), row(1, "y", "1")], NOON_S)
    assert found.slots == ()
    assert found.now == Demand(cpu_requested_millicores=1000)


def test_without_todays_value_nothing_is_known() -> None:
    found = parse_history([row(1, -1, "1"), row(1, 0, "1")], NOON_S)
    assert "is not recorded" in found.problem
    assert msgspec.structs.replace(found, problem="") == msgspec.structs.replace(parse_history([], NOON_S), problem="")
