"""Alarms and charts name what is measured, and what is measured is known: both held against real handlers' output."""

import json
import re
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

import pytest
import yaml

from autoscaler.runtime import read_policy
from autoscaler.state.memory import TOLERATED_JOIN_FAILURES
from autoscaler.state.transitions import MAX_OPEN_OPERATIONS
from autoscaler.telemetry import METRICS, NAMESPACE
from tests.service.conftest import EVERY_PART, ROOT, Template, generate
from tests.service.dashboard import Shown, shown_metrics, widgets
from tests.service.insights_run import Line

OPERATIONS = (ROOT / "docs/operations.md").read_text()
# Metrics that AWS sends by itself, with the dimension that we ask by, and what that has to be. Sources: Lambda, SQS and
# DynamoDB Developer Guides (chapters on CloudWatch metrics); API Gateway Developer Guide, "Metrics for HTTP APIs".
OF_AWS: Final = {
    ("AWS/Lambda", "Errors"): ("FunctionName", "AWS::Lambda::Function"),
    ("AWS/Lambda", "Throttles"): ("FunctionName", "AWS::Lambda::Function"),
    ("AWS/Lambda", "Duration"): ("FunctionName", "AWS::Lambda::Function"),
    ("AWS/SQS", "ApproximateNumberOfMessagesVisible"): ("QueueName", "AWS::SQS::Queue"),
    ("AWS/ApiGateway", "Count"): ("ApiId", "AWS::ApiGatewayV2::Api"),
    ("AWS/ApiGateway", "4xx"): ("ApiId", "AWS::ApiGatewayV2::Api"),
    ("AWS/ApiGateway", "5xx"): ("ApiId", "AWS::ApiGatewayV2::Api"),
    ("AWS/DynamoDB", "ConsumedReadCapacityUnits"): ("TableName", "AWS::DynamoDB::Table"),
    ("AWS/DynamoDB", "ConsumedWriteCapacityUnits"): ("TableName", "AWS::DynamoDB::Table"),
    ("AWS/DynamoDB", "ConditionalCheckFailedRequests"): ("TableName", "AWS::DynamoDB::Table"),
}
BREACHES: Final[dict[str, Callable[[float, float], bool]]] = {
    "GreaterThanOrEqualToThreshold": lambda value, threshold: value >= threshold,
    "LessThanThreshold": lambda value, threshold: value < threshold,
}
NEVER_REACHED: Final = {"operations-limit": "50 operations at once: the threshold is compared with the core's number"}


@pytest.fixture(scope="module")
def given_topic(build_folder: Path, artifact: Path) -> Template:
    """Alarms to somebody else's topic, no dashboard."""
    assert artifact.exists()
    topic = "arn:aws:sns:eu-central-1:111122223333:pager"
    return generate(build_folder / "pager", f"--param=alarmTopicArn={topic}", "--param=dashboard=false")


@pytest.fixture(scope="module")
def no_alarms(build_folder: Path, artifact: Path) -> Template:
    """No alarms."""
    assert artifact.exists()
    return generate(build_folder / "quiet", "--param=alarms=false", "--param=sweepRate=rate(1 hour)")


@pytest.fixture(scope="session")
def emitted(lines: list[Line]) -> dict[tuple[str, str, tuple[tuple[str, str], ...]], list[float]]:
    """Every value that was sent as a metric, by namespace, name and dimensions."""
    found: dict[tuple[str, str, tuple[tuple[str, str], ...]], list[float]] = {}
    for line in lines:
        body = json.loads(line.text) if '"_aws":' in line.text else {}
        for directive in body.get("_aws", {}).get("CloudWatchMetrics", ()):
            for names in directive["Dimensions"]:
                dimensions = tuple(sorted((name, body[name]) for name in names))
                for metric in directive["Metrics"]:
                    key = (directive["Namespace"], metric["Name"], dimensions)
                    found.setdefault(key, []).extend(body[metric["Name"]])
    return found


def alarms(template: Template) -> dict[str, dict[str, Any]]:
    """By the name's ending."""
    prefix = re.compile(r"^k3s-autoscaler-[a-z]+-")
    found = template.of_type("AWS::CloudWatch::Alarm").values()
    return {prefix.sub("", entry["Properties"]["AlarmName"]): entry["Properties"] for entry in found}


def watched(alarm: dict[str, Any]) -> Shown:
    """The one metric of an alarm, which FILL may stand before."""
    if "MetricName" in alarm:
        return _watched(alarm, alarm["Statistic"])
    (stat,) = [row["MetricStat"] for row in alarm["Metrics"] if "MetricStat" in row]
    return _watched(stat["Metric"], stat["Stat"])


def _watched(metric: dict[str, Any], statistic: str) -> Shown:
    pairs = tuple((row["Name"], json.dumps(row["Value"]).strip('"')) for row in metric["Dimensions"])
    return Shown(metric["Namespace"], metric["MetricName"], pairs, statistic)


def every_shown(template: Template) -> list[Shown]:
    return [*map(watched, alarms(template).values()), *shown_metrics(template)]


def period_s(alarm: dict[str, Any]) -> int:
    if "Period" in alarm:
        return int(alarm["Period"])
    return int(next(row["MetricStat"]["Period"] for row in alarm["Metrics"] if "MetricStat" in row))


# ------------------------------------------------------------------------------------------------------------- metrics


def test_every_metric_that_is_shown_or_watched_is_sent(template: Template, emitted: dict[Any, list[float]]) -> None:
    for shown in every_shown(template):
        if shown.namespace == NAMESPACE:
            assert (shown.namespace, shown.name, tuple(sorted(shown.dimensions))) in emitted, shown
        else:
            ((dimension, value),) = shown.dimensions
            wanted, kind = OF_AWS[shown.namespace, shown.name]
            logical_id = re.search(r"[A-Z]\w+LambdaFunction|LifecycleFailures|HttpApi|StateTable", value)
            assert dimension == wanted
            assert logical_id is not None
            assert template.body["Resources"][logical_id[0]]["Type"] == kind


def test_every_metric_that_is_sent_is_shown_or_watched_and_explained(
    template: Template, emitted: dict[Any, list[float]]
) -> None:
    sent = {(namespace, name) for namespace, name, _ in emitted}
    assert sent == {(NAMESPACE, name) for name in METRICS}, "the captured situations send all of them"
    assert sent <= {(shown.namespace, shown.name) for shown in every_shown(template)}
    table = OPERATIONS.partition("## Metrics")[2]
    for name in METRICS:
        assert re.search(rf"^\|[^|]*`{name}`", table, re.MULTILINE), f"{name} is not explained"
    assert set(re.findall(r"`([A-Z]\w+)`[^|\n]*\|", table.partition("\n## ")[0])) <= set(METRICS)


def test_metrics_share_one_set_of_dimensions_so_that_their_number_is_what_they_cost(
    emitted: dict[Any, list[float]],
) -> None:
    assert {dimensions for _, _, dimensions in emitted} == {(("cluster_id", "demo"), ("service", "k3s-autoscaler"))}
    assert f"{len(METRICS)} metrics" in OPERATIONS
    assert f"${len(METRICS) * 0.30:.2f}" in OPERATIONS


# -------------------------------------------------------------------------------------------------------------- alarms


def test_each_alarm_would_have_gone_off_in_a_bad_situation_and_not_in_a_good_one(
    template: Template, emitted: dict[Any, list[float]]
) -> None:
    for name, alarm in alarms(template).items():
        shown = watched(alarm)
        if shown.namespace != NAMESPACE or shown.statistic in {"Sum", "SampleCount"} or name in NEVER_REACHED:
            continue
        values = emitted[shown.namespace, shown.name, tuple(sorted(shown.dimensions))]
        breached = {BREACHES[alarm["ComparisonOperator"]](value, alarm["Threshold"]) for value in values}
        assert breached == {True, False}, f"{name}: {sorted(set(values))}"


def test_thresholds_are_the_cores(template: Template) -> None:
    assert alarms(template)["join-failures"]["Threshold"] == TOLERATED_JOIN_FAILURES + 1
    assert alarms(template)["operations-limit"]["Threshold"] == MAX_OPEN_OPERATIONS


def test_silence_is_alarming_where_something_is_due(template: Template) -> None:
    missing = {name: alarm["TreatMissingData"] for name, alarm in alarms(template).items()}
    assert {name for name, treated in missing.items() if treated == "breaching"} == {
        "no-evaluation",
        "watchdog-missing",
    }
    assert set(missing.values()) == {"breaching", "notBreaching"}
    for name in ("no-evaluation", "watchdog-missing"):
        filled, measured = alarms(template)[name]["Metrics"]
        assert filled["Expression"] == f"FILL({measured['Id']}, 0)"
        assert (filled.get("ReturnData", True), measured["ReturnData"]) == (True, False)
        assert (alarms(template)[name]["ComparisonOperator"], alarms(template)[name]["Threshold"]) == (
            "LessThanThreshold",
            1,
        )


def test_nobody_looks_for_five_sweep_intervals(template: Template, full_template: Template) -> None:
    for generated, interval_s in ((template, 120), (full_template, 300)):
        alarm = alarms(generated)["no-evaluation"]
        assert (period_s(alarm), alarm["EvaluationPeriods"]) == (interval_s, 5)
        assert watched(alarm).statistic == "SampleCount"


@pytest.mark.parametrize(
    ("rate", "sweep_s", "look_s"),
    [
        ("rate(1 minute)", 60, 300),
        ("rate(2 minutes)", 120, 300),
        ("rate(7 minutes)", 420, 420),
        ("rate(59 minutes)", 3540, 3540),
        ("rate(1 hour)", 3600, 3600),
        ("rate(1 fortnight)", 120, 300),  # refused elsewhere, with a sentence
    ],
)
def test_periods_follow_the_sweep(rate: str, sweep_s: int, look_s: int) -> None:
    script = (
        "require('./cloudformation/alarm-periods.js')({resolveVariable: async () => process.argv[1]})"
        ".then((found) => console.log(JSON.stringify(found)))"
    )
    ran = subprocess.run(["node", "-e", script, rate], cwd=ROOT, capture_output=True, text=True, check=True, timeout=30)
    assert json.loads(ran.stdout) == {"sweep": sweep_s, "look": look_s}


def test_cloudwatch_takes_the_periods(template: Template, full_template: Template) -> None:
    """Multiples of a minute; all periods of an alarm within a day (PutMetricAlarm, CloudWatch API Reference)."""
    for generated in (template, full_template):
        for alarm in alarms(generated).values():
            assert period_s(alarm) % 60 == 0
            assert period_s(alarm) * alarm["EvaluationPeriods"] <= 86_400
            assert alarm.get("DatapointsToAlarm", 1) <= alarm["EvaluationPeriods"]


def test_the_watchdog_is_sent_often_enough() -> None:
    rules = yaml.safe_load((ROOT / "monitoring/rules/cluster.yml").read_text())["groups"][0]["rules"]
    (watchdog,) = [rule for rule in rules if rule.get("alert") == "Watchdog"]
    routes = yaml.safe_load((ROOT / "monitoring/alertmanager.yml").read_text())["route"]["routes"]
    (ours,) = [route for route in routes if route["receiver"] == "k3s-autoscaler"]
    matcher = f'scale = "{watchdog["labels"]["scale"]}"'
    (route,) = [route for route in ours["routes"] if route["matchers"] == [matcher]]
    assert watchdog["expr"] == "vector(1)"
    # A repeat is due at repeat_interval and sent at the next group_interval: at least two in each period of the alarm.
    assert (route["repeat_interval"], route["group_interval"]) == ("1m", "1m")


def test_every_alarm_is_told_when_it_begins_and_when_it_ends(
    template: Template, full_template: Template, given_topic: Template
) -> None:
    own, given = {"Ref": "AlarmTopic"}, "arn:aws:sns:eu-central-1:111122223333:pager"
    for generated, topic in ((template, own), (full_template, own), (given_topic, given)):
        found = alarms(generated)
        assert len(found) == 11
        for alarm in found.values():
            assert (alarm["AlarmActions"], alarm["OKActions"]) == ([topic], [topic])
            assert "docs/operations.md" in alarm["AlarmDescription"]


def test_the_operations_page_has_every_alarm_and_what_they_cost(template: Template) -> None:
    table = OPERATIONS.partition("## Alarms")[2].partition("\n## ")[0]
    named = re.findall(r"^\| `([a-z-]+)` \|", table, re.MULTILINE)
    assert sorted(named) == sorted(alarms(template))
    assert f"${len(named) * 0.10:.2f}" in table
    rows = re.findall(r"^\| `([a-z-]+)` \| ([^|]+) \|", table, re.MULTILINE)
    assert sum(" min" in told for _, told in rows) == 7
    for name, told in rows:
        alarm = alarms(template)[name]
        if lasting := re.search(r"(?:for|over) (\d+) min\b", told):
            assert int(lasting[1]) * 60 == period_s(alarm) * alarm["EvaluationPeriods"], name
        if share := re.search(r"in (\d) of (\d) periods of 5 min", told):
            assert (int(share[1]), int(share[2])) == (alarm["DatapointsToAlarm"], alarm["EvaluationPeriods"])
            assert period_s(alarm) == 300


# ------------------------------------------------------------------------------------------------------- topic and page


def test_the_topic_is_encrypted_with_a_key_that_alarms_may_use(template: Template) -> None:
    assert template.properties("AlarmTopic")["KmsMasterKeyId"] == {"Fn::GetAtt": ["AlarmKey", "Arn"]}
    statements = template.properties("AlarmKey")["KeyPolicy"]["Statement"]
    (alarms_may,) = [row for row in statements if row["Principal"] == {"Service": "cloudwatch.amazonaws.com"}]
    assert set(alarms_may["Action"]) == {"kms:Decrypt", "kms:GenerateDataKey"}
    assert alarms_may["Condition"] == {"StringEquals": {"aws:SourceAccount": {"Ref": "AWS::AccountId"}}}
    assert template.properties("AlarmKey")["EnableKeyRotation"] is True


def test_only_our_alarms_publish_and_only_encrypted(template: Template) -> None:
    allowed, denied = template.properties("AlarmTopicPolicy")["PolicyDocument"]["Statement"]
    assert (allowed["Effect"], allowed["Principal"]) == ("Allow", {"Service": "cloudwatch.amazonaws.com"})
    source = allowed["Condition"]["ArnLike"]["aws:SourceArn"]["Fn::Sub"]
    prefix = source.rpartition(":alarm:")[2].rstrip("*")
    names = [entry["Properties"]["AlarmName"] for entry in template.of_type("AWS::CloudWatch::Alarm").values()]
    assert all(name.startswith(prefix) for name in names)
    assert (denied["Effect"], denied["Condition"]) == ("Deny", {"Bool": {"aws:SecureTransport": "false"}})


def test_parts_that_are_not_asked_for_are_not_there(
    template: Template, full_template: Template, given_topic: Template, no_alarms: Template
) -> None:
    own = {"AlarmKey", "AlarmTopic", "AlarmTopicPolicy"}
    assert own <= set(template.body["Resources"])
    assert "AlarmSubscription" not in template.body["Resources"]
    assert full_template.properties("AlarmSubscription") == {
        "TopicArn": {"Ref": "AlarmTopic"},
        "Protocol": "email",
        "Endpoint": EVERY_PART["alarmEmail"],
    }
    assert not own & set(given_topic.body["Resources"])
    assert not given_topic.of_type("AWS::CloudWatch::Dashboard")
    assert "AlarmTopicArn" not in given_topic.body["Outputs"]
    assert not own & set(no_alarms.body["Resources"])
    assert not alarms(no_alarms)
    assert not [widget for widget in widgets(no_alarms) if widget["type"] == "alarm"]
    assert {widget["properties"]["period"] for widget in widgets(no_alarms) if widget["type"] == "metric"} == {3600}


def test_the_dashboard_shows_every_alarm(template: Template) -> None:
    (states,) = [widget["properties"]["alarms"] for widget in widgets(template) if widget["type"] == "alarm"]
    assert [arn.rpartition(":")[2].removeprefix("k3s-autoscaler-local-") for arn in states] == list(alarms(template))


def test_widgets_lie_side_by_side(template: Template) -> None:
    taken: set[tuple[int, int]] = set()
    for widget in widgets(template):
        columns = range(widget["x"], widget["x"] + widget["width"])
        cells = {(x, y) for x in columns for y in range(widget["y"], widget["y"] + widget["height"])}
        assert max(columns) < 24
        assert not cells & taken, widget["properties"]["title"]
        taken |= cells


def test_the_dashboard_stays_in_the_free_tier(template: Template) -> None:
    """Three dashboards of up to 50 metrics each (CloudWatch pricing)."""
    assert len(shown_metrics(template)) <= 50


def test_the_limits_that_are_drawn_are_the_policys(template: Template) -> None:
    (workers,) = [w["properties"] for w in widgets(template) if w["properties"]["title"] == "Workers"]
    drawn = {line["label"]: line["value"] for line in workers["annotations"]["horizontal"]}
    policy = read_policy(str(ROOT / "policy.yml"))
    assert drawn == {"workers.min": policy.workers.min, "workers.max": policy.workers.max}
