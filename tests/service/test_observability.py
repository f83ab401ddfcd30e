"""Alarms and charts name what is measured, and what is measured is known: both held against real handlers' output."""

import json
import re
import subprocess
from pathlib import Path
from typing import Any, Final

import pytest
import yaml

from autoscaler.conditions import CONDITIONS
from autoscaler.telemetry import CONDITIONS_METRIC, NAMESPACE
from bench import cost
from tests.service.alarm_run import alarms, metric_of, period_s
from tests.service.conftest import EVERY_PART, ROOT, Template, generate
from tests.service.dashboard import Shown, shown_expressions, shown_metrics, widgets
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


@pytest.fixture(scope="module")
def given_topic(build_folder: Path, artifact: Path) -> Template:
    """Alarms to somebody else's topic."""
    assert artifact.exists()
    topic = "arn:aws:sns:eu-central-1:111122223333:pager"
    return generate(build_folder / "pager", f"--param=alarmTopicArn={topic}")


@pytest.fixture(scope="module")
def no_alarms(build_folder: Path, artifact: Path) -> Template:
    """No alarms, but a dashboard."""
    assert artifact.exists()
    parameters = ("alarms=false", "dashboard=true", "sweepRate=rate(1 hour)")
    return generate(build_folder / "quiet", *(f"--param={parameter}" for parameter in parameters))


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


def watched(alarm: dict[str, Any]) -> Shown:
    """The one metric of an alarm, which an expression may stand before."""
    if "MetricName" in alarm:
        return _watched(alarm, alarm["Statistic"])
    _, stat = metric_of(alarm)
    return _watched(stat["Metric"], stat["Stat"])


def _watched(metric: dict[str, Any], statistic: str) -> Shown:
    pairs = tuple((row["Name"], json.dumps(row["Value"]).strip('"')) for row in metric["Dimensions"])
    return Shown(metric["Namespace"], metric["MetricName"], pairs, statistic)


def every_shown(template: Template) -> list[Shown]:
    return [*map(watched, alarms(template).values()), *shown_metrics(template)]


# ------------------------------------------------------------------------------------------------------------- metrics


def test_every_metric_that_is_shown_or_watched_is_sent(
    full_template: Template, emitted: dict[Any, list[float]]
) -> None:
    resources = full_template.body["Resources"]
    for shown in every_shown(full_template):
        if shown.namespace == NAMESPACE:
            assert (shown.namespace, shown.name) in {(namespace, name) for namespace, name, _ in emitted}
            assert dict(shown.dimensions) == {"cluster_id": "shop", "service": "k3s-autoscaler"}
        else:
            ((dimension, value),) = shown.dimensions
            wanted, kind = OF_AWS[shown.namespace, shown.name]
            logical_id = re.search(r"[A-Z]\w+LambdaFunction|LifecycleFailures|HttpApi|StateTable", value)
            assert dimension == wanted
            assert logical_id is not None
            assert resources[logical_id[0]]["Type"] == kind


def test_one_metric_is_sent_on_one_set_of_dimensions_and_it_is_explained(emitted: dict[Any, list[float]]) -> None:
    """The number of metrics is what they cost."""
    dimensions = (("cluster_id", "demo"), ("service", "k3s-autoscaler"))
    assert set(emitted) == {(NAMESPACE, CONDITIONS_METRIC, dimensions)}
    assert cost.METRICS == 1
    section = OPERATIONS.partition("## Metrics")[2].partition("\n## ")[0]
    assert f"`{CONDITIONS_METRIC}`" in section
    digits = re.findall(r"^\| \d+ \| `(\w+)` \|", section, re.MULTILINE)
    assert digits == list(CONDITIONS)
    assert f"${cost.METRICS * cost.Prices().metric:.2f}" in section


# -------------------------------------------------------------------------------------------------------------- alarms


def test_silence_is_alarming_where_something_is_due(template: Template) -> None:
    missing = {name: alarm["TreatMissingData"] for name, alarm in alarms(template).items()}
    assert {name for name, treated in missing.items() if treated == "breaching"} == {
        "no-evaluation",
        "watchdog-missing",
    }
    assert set(missing.values()) == {"breaching", "notBreaching"}
    for name, filler in (("no-evaluation", 0), ("watchdog-missing", 1)):
        filled, measured = alarms(template)[name]["Metrics"]
        assert filled["Expression"] == f"FILL({measured['Id']}, {filler})", "what is missing is what alarms"


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
        assert len(found) == cost.ALARMS
        for alarm in found.values():
            assert (alarm["AlarmActions"], alarm["OKActions"]) == ([topic], [topic])
            assert "docs/operations.md" in alarm["AlarmDescription"]


def test_the_operations_page_has_every_alarm_and_what_they_cost(template: Template) -> None:
    table = OPERATIONS.partition("## Alarms")[2].partition("\n## ")[0]
    named = re.findall(r"^\| `([a-z-]+)` \|", table, re.MULTILINE)
    assert sorted(named) == sorted(alarms(template))
    assert f"${cost.ALARMS * cost.Prices().alarm:.2f}" in table
    rows = re.findall(r"^\| `([a-z-]+)` \| ([^|]+) \|", table, re.MULTILINE)
    assert sum(" min" in told for _, told in rows) == 8
    for name, told in rows:
        alarm = alarms(template)[name]
        if lasting := re.search(r"(?:for|over) (\d+) min\b", told):
            assert int(lasting[1]) * 60 == period_s(alarm) * alarm["EvaluationPeriods"], name
        if share := re.search(r"in (\d) of (\d) periods of 5 min", told):
            assert (int(share[1]), int(share[2])) == (alarm["DatapointsToAlarm"], alarm["EvaluationPeriods"])
            assert period_s(alarm) == 300


# ------------------------------------------------------------------------------------------------------- topic and page


def test_the_topic_is_encrypted_where_asked_with_a_key_that_alarms_may_use(
    template: Template, full_template: Template
) -> None:
    assert "KmsMasterKeyId" not in template.properties("AlarmTopic")
    assert not template.of_type("AWS::KMS::Key"), "a key costs $1 a month"
    assert full_template.properties("AlarmTopic")["KmsMasterKeyId"] == {"Fn::GetAtt": ["AlarmKey", "Arn"]}
    statements = full_template.properties("AlarmKey")["KeyPolicy"]["Statement"]
    (alarms_may,) = [row for row in statements if row["Principal"] == {"Service": "cloudwatch.amazonaws.com"}]
    assert set(alarms_may["Action"]) == {"kms:Decrypt", "kms:GenerateDataKey"}
    assert alarms_may["Condition"] == {"StringEquals": {"aws:SourceAccount": {"Ref": "AWS::AccountId"}}}
    assert full_template.properties("AlarmKey")["EnableKeyRotation"] is True


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
    own = {"AlarmTopic", "AlarmTopicPolicy"}
    assert own <= set(template.body["Resources"])
    assert not {"AlarmSubscription", "AlarmKey"} & set(template.body["Resources"])
    assert not template.of_type("AWS::CloudWatch::Dashboard")
    assert len(full_template.of_type("AWS::CloudWatch::Dashboard")) == 1
    assert full_template.properties("AlarmSubscription") == {
        "TopicArn": {"Ref": "AlarmTopic"},
        "Protocol": "email",
        "Endpoint": EVERY_PART["alarmEmail"],
    }
    assert not own & set(given_topic.body["Resources"])
    assert "AlarmTopicArn" not in given_topic.body["Outputs"]
    assert not own & set(no_alarms.body["Resources"])
    assert not alarms(no_alarms)
    assert not [widget for widget in widgets(no_alarms) if widget["type"] == "alarm"]
    assert {widget["properties"]["period"] for widget in widgets(no_alarms) if widget["type"] == "metric"} == {3600}


def test_the_dashboard_shows_every_alarm_and_draws_what_each_of_ours_watches(
    full_template: Template, no_alarms: Template
) -> None:
    (states,) = [widget["properties"]["alarms"] for widget in widgets(full_template) if widget["type"] == "alarm"]
    found = alarms(full_template)
    assert [arn.rpartition(":")[2].removeprefix("k3s-autoscaler-local-") for arn in states] == list(found)
    digits = [row["Expression"] for one in found.values() for row in one.get("Metrics", ()) if row["Id"] == "digit"]
    assert len(digits) == len(CONDITIONS) + 1
    assert shown_expressions(full_template) == digits
    assert shown_expressions(no_alarms) == digits


def test_widgets_lie_side_by_side(full_template: Template) -> None:
    taken: set[tuple[int, int]] = set()
    for widget in widgets(full_template):
        columns = range(widget["x"], widget["x"] + widget["width"])
        cells = {(x, y) for x in columns for y in range(widget["y"], widget["y"] + widget["height"])}
        assert max(columns) < 24
        assert not cells & taken, widget["properties"]["title"]
        taken |= cells


def test_the_dashboard_stays_in_the_free_tier(full_template: Template) -> None:
    """Three dashboards of up to 50 metrics each (CloudWatch pricing)."""
    assert len(shown_metrics(full_template)) <= 50
