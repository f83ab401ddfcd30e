"""Checks of what keeps a deployed service awake: its schedule, the alerts' path, its alarms, and its code."""

import base64
import hashlib
import time
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Final

from autoscaler.cli.doctor.deployed import configuration_of
from autoscaler.cli.stacks import PREFIX
from autoscaler.cli.verify.checks import Account, Finding, Subject, ok, problem, warning
from autoscaler.conditions import WATCHDOG_HEARD
from autoscaler.deploy.rules import ROOT
from autoscaler.telemetry import CONDITIONS_METRIC, NAMESPACE, SERVICE

SCHEDULE: Final = "SweepEventsRuleSchedule1"
"""The logical id that the framework gives the sweep's first event."""
ARTIFACT: Final = ROOT / "build" / "k3s-autoscaler.zip"
LOOKED_BACK_S: Final = 3_600
WATCHDOG_DUE_S: Final = 600
"""As the alarm has it: due every minute, missed after ten (cloudformation/alarms.yml)."""
MEND_OF_ALARMS: Final = "docs/operations.md, Alarms, says what each means and what to do."


def check_schedule(account: Account, subject: Subject) -> Sequence[Finding]:
    """Whether EventBridge still wakes the sweep."""
    name = "schedule of the sweep"
    found = account.client("cloudformation").describe_stack_resource(
        StackName=subject.stack, LogicalResourceId=SCHEDULE
    )["StackResourceDetail"]["PhysicalResourceId"]
    rule = account.client("events").describe_rule(Name=found.rpartition("/")[2])
    if rule["State"] != "ENABLED":
        return [
            problem(
                name, f"the rule {rule['Name']} is {rule['State']}", f"aws events enable-rule --name {rule['Name']}"
            )
        ]
    return [ok(name, f"{rule['ScheduleExpression']}, {rule['Name']} is enabled")]


def check_watchdog(account: Account, subject: Subject) -> Sequence[Finding]:
    """How long ago an alert came through Prometheus, Alertmanager, the route and the token."""
    name, now = "Watchdog", datetime.fromtimestamp(time.time(), UTC)
    points = account.client("cloudwatch").get_metric_statistics(
        Namespace=NAMESPACE,
        MetricName=CONDITIONS_METRIC,
        Dimensions=[{"Name": "cluster_id", "Value": subject.cluster_id}, {"Name": "service", "Value": SERVICE}],
        StartTime=now - timedelta(seconds=LOOKED_BACK_S),
        EndTime=now,
        Period=60,
        Statistics=["Minimum"],
    )["Datapoints"]
    todo = (
        "Only the sweep is left: see Alertmanager's log and the token (`k3s-autoscaler token`), then Prometheus' page "
        "Alerts (docs/monitoring.md)."
    )
    heard = [point["Timestamp"] for point in points if point["Minimum"] == WATCHDOG_HEARD]
    if not heard:
        return [problem(name, f"not heard for {LOOKED_BACK_S // 60} minutes: alerts do not arrive", todo)]
    age_s = int((now - max(heard)).total_seconds())
    if age_s > WATCHDOG_DUE_S:
        return [problem(name, f"last heard {age_s} s ago, and is due every minute: alerts do not arrive", todo)]
    return [ok(name, f"heard {age_s} s ago: alerts arrive")]


def check_alarms(account: Account, subject: Subject) -> Sequence[Finding]:
    """Alarms of the service that ring now."""
    name = "alarms"
    pages = account.client("cloudwatch").get_paginator("describe_alarms").paginate(AlarmNamePrefix=f"{subject.stack}-")
    rows = [row for page in pages for row in page["MetricAlarms"]]
    if not rows:
        return [warning(name, "there are none", "Deploy with the parameter alarms=true, or watch it in another way.")]
    ringing = [row for row in rows if row["StateValue"] == "ALARM"]
    if not ringing:
        return [ok(name, f"{len(rows)}, none rings")]
    return [
        problem(f"alarm {row['AlarmName']}", row.get("AlarmDescription", "rings"), MEND_OF_ALARMS) for row in ringing
    ]


def check_code(artifact: Path, account: Account, subject: Subject) -> Sequence[Finding]:
    """Whether the functions run what this clone has built: an artifact has the same bytes on every build."""
    name = "version of the code"
    function = configuration_of(account, subject.stack.removeprefix(PREFIX))
    deployed = f"deployed {function['LastModified'][:16]}"
    if not artifact.is_file():
        return [warning(name, f"{deployed}; not compared, nothing is built here", "make package, then this again.")]
    built = base64.b64encode(hashlib.sha256(artifact.read_bytes()).digest()).decode()
    if built != function["CodeSha256"]:
        todo = "make package says whether the build is this clone's; then deploy it, or check out what is deployed."
        return [warning(name, f"{deployed}, and not what build/ holds here", todo)]
    return [ok(name, f"{deployed}, the same bytes as build/ holds here")]
