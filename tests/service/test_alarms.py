"""Alarms on our own metric, played on what real handlers sent: each goes off in its bad situation and in no other."""

import json
from collections.abc import Callable
from itertools import combinations
from typing import Any, Final

import pytest

from autoscaler.conditions import CONDITIONS, WATCHDOG_HEARD, Sight, conditions, in_digits
from autoscaler.simulator.cluster import START_S
from autoscaler.state.transitions import MAX_OPEN_OPERATIONS
from tests.handlers.support import DOCUMENT
from tests.service import captured, captured_policy
from tests.service.alarm_run import Sample, alarms, goes_off, metric_of, period_s, value_of
from tests.service.captured import Log
from tests.service.conftest import Template

STATUS: Final = {Sight.COMPLETE: "ok", Sight.INCOMPLETE: "partial", Sight.NOT_ASKED: "not_asked"}
SILENCES: Final = {"no-evaluation", "watchdog-missing"}
"""What they watch is missing in most situations: they have tests of their own."""
GOES_OFF: Final[dict[Callable[[Log], None], set[str]]] = {
    captured._reaches_the_maximum: {"at-max"},
    captured._workers_never_join: {"failed-launches"},
    captured._metrics_fail: {"metrics-incomplete"},
    captured._a_removal_is_stuck: {"stuck-operation"},
    captured_policy.reaches_the_cost_cap: {"at-max"},
    captured_policy.a_pool_is_full: {"at-max"},
    captured_policy.spot_has_nothing_and_the_cap_no_room: {"at-max"},
    captured_policy.live_changes_hold_and_are_refused: {"policy-refused"},
    captured_policy.custom_signals_are_lost: {"signal-lost", "at-max"},
}
"""In every other situation none does."""
SETS: Final = [frozenset(some) for size in range(len(CONDITIONS) + 1) for some in combinations(CONDITIONS, size)]


def named(condition: str) -> str:
    return condition.replace("_", "-")


def ours(template: Template) -> dict[str, dict[str, Any]]:
    """Alarms on our own metric, by the name's ending."""
    return {name: alarm for name, alarm in alarms(template).items() if "Metrics" in alarm}


def number(holding: frozenset[str], sight: Sight = Sight.COMPLETE) -> int:
    return in_digits({"metrics_status": STATUS[sight], "conditions": list(holding)})


def sent(play: Callable[[Log], None]) -> list[Sample]:
    log = Log("demo")
    play(log)
    values = [(line, json.loads(line.text)) for line in log.lines if '"_aws":' in line.text]
    return [Sample(line.at_ms / 1000, body["Conditions"][0]) for line, body in values]


# ------------------------------------------------------------------------------------------------------ the situations


@pytest.mark.parametrize("play", [*captured.SITUATIONS, *captured_policy.SITUATIONS], ids=lambda play: play.__name__)
def test_an_alarm_goes_off_in_its_bad_situation_and_in_no_other(
    template: Template, play: Callable[[Log], None]
) -> None:
    samples = sent(play)
    times = [sample.at_s for sample in samples] or [START_S]
    told = {
        name
        for name, alarm in ours(template).items()
        if goes_off(alarm, samples, begin_s=min(times) - 600, end_s=max(times) + 600)
    }
    assert told - SILENCES == GOES_OFF.get(play, set())


def test_every_alarm_of_ours_has_a_bad_situation(template: Template) -> None:
    """The limit of operations needs fifty at once, which no situation plays: its document is made up below."""
    assert set(ours(template)) == {*SILENCES, *set().union(*GOES_OFF.values()), "operations-limit"}
    assert set(ours(template)) == {*SILENCES, "metrics-incomplete", *map(named, CONDITIONS)}


def test_the_limit_of_operations_is_told_at_the_cores_number(template: Template) -> None:
    alarm = ours(template)["operations-limit"]
    for count, told in ((MAX_OPEN_OPERATIONS - 1, False), (MAX_OPEN_OPERATIONS, True)):
        document = DOCUMENT | {"operations": [{"stuck": False}] * count}
        document["conditions"] = conditions(document)
        samples = [Sample(at_s, in_digits(document)) for at_s in range(0, 1200, 120)]
        assert goes_off(alarm, samples, begin_s=0, end_s=1200) is told


def test_nobody_looks(template: Template) -> None:
    """Five intervals of two minutes; Watchdogs are no looks, and one look among them is enough."""
    alarm = ours(template)["no-evaluation"]
    watchdogs = [Sample(at_s, WATCHDOG_HEARD) for at_s in range(0, 3600, 60)]
    looks = [Sample(at_s + 5, number(frozenset(), Sight.INCOMPLETE)) for at_s in range(0, 3600, 120)]
    for samples in (looks, [*looks, *watchdogs], [look for look in looks if look.at_s % 600 < 120]):
        assert not goes_off(alarm, samples, begin_s=0, end_s=3600)
    for samples in ([], watchdogs, [look for look in looks if not 1200 <= look.at_s < 1800]):
        assert goes_off(alarm, samples, begin_s=0, end_s=3600)


def test_no_watchdog_is_heard(template: Template) -> None:
    """Two periods of five minutes; looks of any kind are no Watchdogs."""
    alarm = ours(template)["watchdog-missing"]
    watchdogs = [Sample(at_s, WATCHDOG_HEARD) for at_s in range(0, 3600, 60)]
    for sight in Sight:
        looks = [Sample(at_s, number(frozenset(), sight)) for at_s in range(0, 3600, 120)]
        assert goes_off(alarm, looks, begin_s=0, end_s=3600)
        assert not goes_off(alarm, [*looks, *watchdogs], begin_s=0, end_s=3600)
        gap = [sample for sample in watchdogs if not 600 <= sample.at_s < 1200]
        assert goes_off(alarm, [*looks, *gap], begin_s=0, end_s=3600)


# ------------------------------------------------------------------------------------------------ what AWS measures


@pytest.mark.parametrize("name", ["sweep-errors", "alerts-errors", "lifecycle-errors"])
def test_a_function_that_fails_again_and_again(template: Template, name: str) -> None:
    """Once is followed by another try; Lambda sends a 0 for an invocation that went well."""
    alarm = alarms(template)[name]
    well = [Sample(at_s, 0) for at_s in range(0, 3600, 120)]
    for failures, told in (([], False), ([900], False), ([900, 2100], False), ([900, 1260], True), ([900, 1500], True)):
        samples = [*well, *(Sample(at_s, 1) for at_s in failures)]
        assert goes_off(alarm, samples, begin_s=0, end_s=3600) is told, failures
    assert not goes_off(alarm, [], begin_s=0, end_s=3600)


def test_an_event_in_the_queue(template: Template) -> None:
    """SQS sends nothing of a queue that was not used for hours."""
    alarm = alarms(template)["dead-letters"]
    assert not goes_off(alarm, [], begin_s=0, end_s=3600)
    assert not goes_off(alarm, [Sample(600, 0)], begin_s=0, end_s=3600)
    assert goes_off(alarm, [Sample(600, 0), Sample(660, 1)], begin_s=0, end_s=3600)


def test_no_alarm_is_left_out_here(template: Template) -> None:
    of_aws = {"sweep-errors", "alerts-errors", "lifecycle-errors", "dead-letters"}
    assert set(alarms(template)) == {*ours(template), *of_aws}


# ---------------------------------------------------------------------------------------------------------- the digits


@pytest.mark.parametrize("sight", Sight)
def test_each_alarm_takes_its_own_digit_out(template: Template, sight: Sight) -> None:
    for holding in SETS:
        found = {name: value_of(alarm, number(holding, sight)) for name, alarm in ours(template).items()}
        assert {name for name in map(named, CONDITIONS) if found[name]} == set(map(named, holding))
        assert found["metrics-incomplete"] == (sight is Sight.INCOMPLETE)


def test_only_a_watchdog_in_a_period_tells_of_no_condition(template: Template) -> None:
    silent = {name: value_of(alarm, WATCHDOG_HEARD) for name, alarm in ours(template).items() if name not in SILENCES}
    assert set(silent.values()) == {0.0}


def test_what_holds_in_each_look_of_a_period_is_seen_whatever_else_does(template: Template) -> None:
    """The largest value is one look's whole, so what all looks tell is in it."""
    found = ours(template)
    for one in SETS:
        for other in SETS:
            largest = max(number(one), number(other))
            for condition in one & other:
                assert value_of(found[named(condition)], largest), (one, other)


def test_of_two_looks_the_one_that_saw_more_counts() -> None:
    assert number(frozenset(CONDITIONS), Sight.INCOMPLETE) < number(frozenset(), Sight.NOT_ASKED)
    assert number(frozenset(CONDITIONS), Sight.NOT_ASKED) < number(frozenset(), Sight.COMPLETE)
    assert min(number(holding, sight) for holding in SETS for sight in Sight) > WATCHDOG_HEARD


def test_a_period_holds_a_look_at_least(template: Template, full_template: Template) -> None:
    for generated, interval_s in ((template, 120), (full_template, 300)):
        for name, alarm in ours(generated).items():
            assert period_s(alarm) == (interval_s if name == "no-evaluation" else max(300, interval_s))
            assert metric_of(alarm)[1]["Stat"] == ("Minimum" if name == "watchdog-missing" else "Maximum")
