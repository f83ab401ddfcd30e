"""Durations and instants, as people write and read them."""

import time
from collections.abc import Iterator
from datetime import datetime
from zoneinfo import ZoneInfo

import pytest

from autoscaler.cli.duration import DurationError, parse_duration, say_duration
from autoscaler.cli.times import MomentError, ago, moment, of_utc, parse_moment, utc

BERLIN = ZoneInfo("Europe/Berlin")
NOW = int(datetime(2026, 11, 26, 9, 30, tzinfo=BERLIN).timestamp())


@pytest.fixture(autouse=True)
def _berlin(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setenv("TZ", "Europe/Berlin")
    time.tzset()
    yield
    monkeypatch.undo()
    time.tzset()


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("45s", 45),
        ("30m", 1800),
        ("2h", 7200),
        ("1h30m", 5400),
        ("1.5h", 5400),
        ("1d", 86_400),
        (" 1D2H ", 93_600),
        ("365d", 31_536_000),
    ],
)
def test_durations(text: str, seconds: int) -> None:
    assert parse_duration(text) == seconds


@pytest.mark.parametrize(
    "text",
    ["", " ", "2", "h", "2 hours", "-1h", "0s", "0h0m", "0.5s", "30m1h", "366d", "9" * 400 + "s", "²h", "1h\n2m"],
)
def test_what_is_no_duration(text: str) -> None:
    with pytest.raises(DurationError, match="is not a duration: write"):
        parse_duration(text)


@pytest.mark.parametrize(("seconds", "text"), [(0, "0s"), (-5, "0s"), (59, "59s"), (5400, "1h30m"), (90_061, "1d1h")])
def test_saying_durations(seconds: int, text: str) -> None:
    assert say_duration(seconds) == text


@pytest.mark.parametrize(
    ("text", "means"),
    [
        ("2h", "2026-11-26 07:30:00"),
        ("1d", "2026-11-25 09:30:00"),
        ("02:00", "2026-11-26 02:00:00"),
        ("14:00", "2026-11-25 14:00:00"),
        ("09:30:00", "2026-11-26 09:30:00"),
        ("2026-11-26", "2026-11-26 00:00:00"),
        ("2026-11-26 14:00", "2026-11-26 14:00:00"),
        ("2026-11-26T14:00:05", "2026-11-26 14:00:05"),
        ("2026-11-26T13:00:05Z", "2026-11-26 14:00:05"),
        ("2026-11-26T14:00+00:00", "2026-11-26 15:00:00"),
        ("2026-07-01 12:00", "2026-07-01 12:00:00"),
    ],
)
def test_instants_are_local_without_a_zone(text: str, means: str) -> None:
    assert parse_moment(text, NOW) == int(datetime.fromisoformat(means).replace(tzinfo=BERLIN).timestamp())


def test_two_oclock_is_that_of_the_wall_also_after_the_clocks_went_back() -> None:
    now_s = int(datetime(2026, 10, 25, 9, 0, tzinfo=BERLIN).timestamp())
    assert moment(parse_moment("04:00", now_s)) == "2026-10-25 04:00:00 CET"
    assert moment(parse_moment("23:00", now_s)) == "2026-10-24 23:00:00 CEST"


@pytest.mark.parametrize("text", ["", "yesterday", "25:00", "2026-13-01", "-2h", "14", "99999-01-01", "1969-01-01"])
def test_what_is_no_instant(text: str) -> None:
    with pytest.raises(MomentError, match=r"is no time: write how long ago \(30m"):
        parse_moment(text, NOW)


def test_people_read_their_own_zone_and_programs_utc() -> None:
    assert moment(NOW) == "2026-11-26 09:30:00 CET"
    assert utc(NOW) == "2026-11-26T08:30:00Z"
    assert of_utc(utc(NOW)) == moment(NOW)
    assert of_utc("then") == "then"
    assert ago(NOW - 5400, NOW) == "2026-11-26 08:00:00 CET (1h30m ago)"
    assert ago(None, NOW) == "never"
