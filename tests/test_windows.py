"""What a policy may say of schedules and headroom, and the sentence for each thing that it may not."""

import zoneinfo
from importlib.resources import files
from itertools import pairwise
from pathlib import Path

import pytest

from autoscaler.policy import Policy
from autoscaler.policy_text import PolicyError, parse_policy
from autoscaler.windows import Headroom, PodShape, Window

BERLIN = "time_zone: Europe/Berlin"


def parsed(*windows: str, workers: str = "{}") -> Policy:
    rows = "".join(f"  - {{{window}}}\n" for window in windows)
    return parse_policy(f"version: 1\nworkers: {workers}\nschedules:\n{rows}")


def test_a_time_of_the_day_needs_no_quotes() -> None:
    """YAML 1.1 reads 22:00 as 1320, to the base of 60, and 09:00 as text."""
    plain, quoted = parsed(f"name: a, {BERLIN}, from: 09:00, to: 22:00, min: 3", f'name: b, {BERLIN}, from: "09:00", '
                           'to: "22:00", min: 3').schedules  # fmt: skip
    assert (plain.from_time, plain.to_time) == (quoted.from_time, quoted.to_time) == ("09:00", "22:00")
    assert plain.minutes == (540, 1320)


@pytest.mark.parametrize(
    ("times", "minutes"),
    [
        ("", (0, 1440)),
        ("from: 00:00, to: 24:00,", (0, 1440)),
        ("from: 22:00, to: 06:00,", (1320, 1800)),
        ("from: 22:00, to: 00:00,", (1320, 1440)),
        ("from: 00:00, to: 00:01,", (0, 1)),
        ("from: 23:59, to: 23:58,", (1439, 2878)),
    ],
)
def test_an_end_that_is_not_after_the_beginning_is_on_the_next_day(times: str, minutes: tuple[int, int]) -> None:
    assert parsed(f"name: a, {BERLIN}, {times} min: 3").schedules[0].minutes == minutes


@pytest.mark.parametrize(
    ("window", "sentence"),
    [
        ("name: a, time_zone: Mars/Base, min: 3", "the time_zone Mars/Base is unknown"),
        ("name: a, time_zone: Europe, min: 3", "the time_zone Europe is unknown"),
        ("name: a, time_zone: ../../etc/passwd, min: 3", "the time_zone ../../etc/passwd is unknown"),
        ("name: a, time_zone: /etc/localtime, min: 3", "the time_zone /etc/localtime is unknown"),
        (f"name: a, {BERLIN}, days: [mo], min: 3", "the day mo is unknown: write mon, tue, wed, thu, fri, sat, sun"),
        (f"name: a, {BERLIN}, days: [sun, mon, sun], min: 3", "days names sun twice"),
        (f"name: a, {BERLIN}, days: [], min: 3", "days is empty"),
        (f"name: a, {BERLIN}, from: 09:00, min: 3", "it has from without to: give both, or neither for whole days"),
        (f"name: a, {BERLIN}, to: 09:00, min: 3", "it has to without from"),
        (f"name: a, {BERLIN}, from: 09:00, to: 09:00, min: 3", "from and to are both 09:00: leave both out"),
        (f"name: a, {BERLIN}, from: 9:00, to: 18:00, min: 3", "from is '9:00': write a time of the day"),
        (f"name: a, {BERLIN}, from: 24:00, to: 18:00, min: 3", "from is '24:00'"),
        (f"name: a, {BERLIN}, from: 09:00, to: 25:00, min: 3", "to is '25:00'"),
        (f"name: a, {BERLIN}, from: 900, to: 18:00, min: 3", "from is '900': write a time of the day"),
        (f"name: a, {BERLIN}", "it changes nothing: give it min, max or headroom"),
        (f"name: a, {BERLIN}, min: 5, max: 4", "min is 5 and max is 4: min may not exceed max"),
        (f"name: a, {BERLIN}, min: 11", "min is 11 and workers.max is 10: give the window a max of at least 11 too"),
        (f"name: a, {BERLIN}, max: 1", "max is 1 and workers.min is 2: give the window a min of at most 1 too"),
        (f"name: A b, {BERLIN}, min: 3", "schedules.A b.name is 'A b'"),
        ("name: a, min: 3", "schedules.a.time_zone is missing"),
        (f"name: a, {BERLIN}, min: 3, until: 09:00", "schedules.a.until is an unknown field"),
        (f"name: a, {BERLIN}, headroom: {{percent: 91}}", "schedules.a.headroom.percent is 91: write a whole"),
    ],
)  # fmt: skip
def test_a_wrong_window_is_refused_with_a_sentence(window: str, sentence: str) -> None:
    with pytest.raises(PolicyError) as refused:
        parsed(window)
    assert sentence in str(refused.value)
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize("name", ["europe/berlin", "posixrules"])
def test_a_zone_that_only_this_machine_knows_is_refused(name: str, tmp_path: Path) -> None:
    """A file system without case opens Europe/Berlin by either name; the functions would know no such zone."""
    rules = files("tzdata") / "zoneinfo" / "Europe" / "Berlin"
    there = tmp_path / name
    there.parent.mkdir(exist_ok=True)
    there.write_bytes(rules.read_bytes())
    before = zoneinfo.TZPATH
    zoneinfo.reset_tzpath([tmp_path])
    try:
        assert zoneinfo.ZoneInfo.no_cache(name).key == name
        with pytest.raises(PolicyError, match=f"the time_zone {name} is unknown"):
            parsed(f"name: a, time_zone: {name}, min: 3")
        with pytest.raises(PolicyError, match=f"time_zone {name} is unknown"):
            parse_policy(f"version: 1\nforecast: {{time_zone: {name}}}\n")
    finally:
        zoneinfo.reset_tzpath(before)


def test_everything_that_is_wrong_with_the_windows_is_told_at_once() -> None:
    with pytest.raises(PolicyError) as refused:
        parsed("name: a, time_zone: Mars, days: [mo], from: 09:00, min: 3", f"name: a, {BERLIN}")
    told = str(refused.value)
    for part in ("names a twice", "Mars is unknown", "mo is unknown", "from without to", "changes nothing"):
        assert part in told


def test_so_many_windows_are_allowed_and_no_more() -> None:
    rows = [f"name: w{number}, {BERLIN}, min: 3" for number in range(21)]
    assert len(parsed(*rows[:20]).schedules) == 20
    with pytest.raises(PolicyError, match="schedules holds 21 windows: at most 20 are allowed"):
        parsed(*rows)


@pytest.mark.parametrize(
    ("one", "other", "meet"),
    [
        ("from: 09:00, to: 17:00", "from: 17:00, to: 20:00", False),
        ("from: 09:00, to: 17:01", "from: 17:00, to: 20:00", True),
        ("days: [sun], from: 22:00, to: 06:00", "days: [mon], from: 05:00, to: 09:00", True),
        ("days: [sat], from: 22:00, to: 06:00", "days: [mon], from: 05:00, to: 09:00", False),
        ("days: [mon]", "days: [tue]", False),
        ("days: [mon], from: 22:00, to: 04:00", "days: [tue], from: 03:00, to: 05:00", True),
    ],
)
def test_two_windows_that_contradict_each_other_may_not_meet(one: str, other: str, meet: bool) -> None:
    rows = f"name: a, {BERLIN}, {one}, min: 8", f"name: b, {BERLIN}, {other}, max: 5"
    for order in (rows, rows[::-1]):
        if meet:
            with pytest.raises(
                PolicyError, match="a has min 8 and b, which holds at the same time, max 5: give a a max"
            ):
                parsed(*order)
        else:
            parsed(*order)
    parsed(rows[0] + ", max: 9", rows[1])  # the highest max counts


@pytest.mark.parametrize(("hour", "meet"), [(2, False), (3, True), (8, True), (9, True), (10, False)])
def test_windows_in_two_zones_meet_by_their_clocks(hour: int, meet: bool) -> None:
    """Berlin's 09:00 to 15:00 is 03:00 to 09:00 in New York, and for some weeks a year 04:00 to 10:00."""
    rows = (
        f"name: a, {BERLIN}, from: 09:00, to: 15:00, min: 8",
        f"name: b, time_zone: America/New_York, from: {hour:02}:00, to: {hour:02}:30, max: 5",
    )
    if meet:
        with pytest.raises(PolicyError, match="holds at the same time"):
            parsed(*rows)
    else:
        parsed(*rows)


def test_headroom_is_none_until_something_is_asked() -> None:
    assert not Policy(version=1).headroom
    assert not Headroom()
    for some in (Headroom(workers=1), Headroom(percent=1), Headroom(pod=PodShape(cpu_millicores=1, memory_mib=1))):
        assert some


def test_minutes_of_all_windows_are_in_order() -> None:
    times = [f"{hour:02}:{minute:02}" for hour in range(24) for minute in (0, 59)]
    for begins, ends in pairwise(times):
        window = Window(name="a", time_zone="UTC", from_time=begins, to_time=ends, min=1)
        assert 0 <= window.minutes[0] < window.minutes[1] <= 2 * 1440
