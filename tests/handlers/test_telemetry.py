"""One log line a decision and one a step, and one metric: what a person must mend."""

import io
import json
from typing import Any

import pytest

from autoscaler.model import Trigger
from autoscaler.ports import StoreUnavailable
from autoscaler.telemetry import Telemetry
from tests.handlers.support import DOCUMENT, FakeContext


def written(*documents: dict[str, Any]) -> list[dict[str, Any]]:
    stream = io.StringIO()
    telemetry = Telemetry(cluster_id="demo", stream=stream)
    for place, document in enumerate(documents):
        telemetry.begin(Trigger(kind="sweep", correlation_id=f"c{place}"), FakeContext(f"r{place}"))
        telemetry.decision(document)
    return [json.loads(line) for line in stream.getvalue().splitlines()]


def test_the_document_is_one_line_with_its_fields_at_the_top() -> None:
    line, _ = written(DOCUMENT)
    assert {name: line[name] for name in DOCUMENT} == DOCUMENT
    assert (line["level"], line["correlation_id"], line["function_request_id"], line["trigger_kind"]) == (
        "INFO", "c0", "r0", "sweep"
    )  # fmt: skip
    assert line["timestamp"].endswith("+00:00")


def test_keys_of_one_invocation_do_not_reach_the_next() -> None:
    lines = [line for line in written(DOCUMENT, {"message": "m", "action": "none"}) if "_aws" not in line]
    assert [(line["correlation_id"], line["cold_start"]) for line in lines] == [("c0", True), ("c1", False)]
    assert "decision_id" not in lines[1]


def test_one_metric_on_one_set_of_dimensions() -> None:
    _, line = written(DOCUMENT | {"conditions": ["at_max"]})
    (directive,) = line["_aws"]["CloudWatchMetrics"]
    assert directive["Namespace"] == "k3s-autoscaler"
    assert directive["Dimensions"] == [["cluster_id", "service"]]
    assert line["cluster_id"] == "demo"
    assert [metric["Name"] for metric in directive["Metrics"]] == ["Conditions"], "each costs money: docs/operations.md"
    assert line["Conditions"] == [3000010]


def test_a_watchdog_is_a_line_and_less_than_any_look() -> None:
    stream = io.StringIO()
    Telemetry(cluster_id="demo", stream=stream).watchdog()
    line, metric = (json.loads(text) for text in stream.getvalue().splitlines())
    assert (line["reason"], metric["Conditions"]) == ("watchdog", [0])


@pytest.mark.parametrize(
    ("change", "level"),
    [
        ({}, "INFO"),
        ({"action": "none"}, "INFO"),
        ({"action": "held_back"}, "WARNING"),
        ({"metrics_status": "partial"}, "WARNING"),
        ({"metrics_status": "unavailable"}, "WARNING"),
        ({"metrics_status": "not_asked"}, "INFO"),
        ({"failures": ["EC2 gave 0 of 1 workers"]}, "WARNING"),
    ],
)
def test_levels(change: dict[str, Any], level: str) -> None:
    assert written(DOCUMENT | change)[0]["level"] == level


def test_an_error_is_a_line_and_no_look() -> None:
    stream = io.StringIO()
    telemetry = Telemetry(cluster_id="demo", stream=stream)
    telemetry.failed(StoreUnavailable("the table is gone", code="X", effect_unknown=True))
    (line,) = (json.loads(text) for text in stream.getvalue().splitlines())
    assert (line["message"], line["code"], line["effect_unknown"]) == ("the table is gone", "X", True)


def test_each_step_is_a_line_of_its_own_those_of_an_earlier_look_first() -> None:
    earlier = {"decision_id": "00first", "done": ["EC2 launched 1 of 1 workers: i-1"]}
    later = DOCUMENT | {"done": ["worker x is Ready"], "failures": ["terminate of i-2: no"], "earlier": [earlier]}
    _, *steps, _ = written(later)
    told = [(line["of_decision"], line["step"], line["level"], line["message"]) for line in steps]
    assert told == [
        ("00first", "done", "INFO", "EC2 launched 1 of 1 workers: i-1"),
        ("01abc", "done", "INFO", "worker x is Ready"),
        ("01abc", "failed", "WARNING", "terminate of i-2: no"),
    ]
    assert all((line["reason"], line["correlation_id"]) == ("step", "c0") for line in steps)
    assert not [line for line in steps if "decision_id" in line], "decisions are counted by this field"


def test_lists_stand_last_so_that_long_ones_hide_no_other_field() -> None:
    line, *_ = written(DOCUMENT | {"blocked": [{"subject": "x", "reason": "y"}] * 300, "mode": "active"})
    names = list(line)
    lists = [name for name in names if isinstance(line[name], list)]
    assert lists[-1] == "blocked"
    assert names[-len(lists) :] == lists
