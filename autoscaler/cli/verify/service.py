"""Checks of what the service leans on: event rules, the HTTP API, the cluster's servers and parameters."""

import json
from collections.abc import Callable, Sequence
from typing import Any, Final

from botocore.exceptions import ClientError

from autoscaler.aws.failures import error_code
from autoscaler.aws.parameters import policy_parameter
from autoscaler.cli.verify.checks import NOT_DEPLOYED, Account, Finding, Subject, ok, problem, stack_outputs, warning
from autoscaler.model import CLUSTER_TAG, ROLE_TAG

INSTANCE: Final = "i-0123456789abcdef0"
JOIN_PARAMETERS: Final = ("server-url", "version", "ca-hash", "agent-token")
UNAUTHORIZED: Final = 401


def sample_events(subject: Subject) -> dict[str, tuple[dict[str, Any], bool]]:
    """Events as AWS documents them, and whether a rule must match.

    Sources: EC2 user guide, "Spot Instance interruption notices", "EC2 instance rebalance recommendations", "Amazon EC2
    instance state change events"; AWS Health user guide, "EventBridge schema"; Systems Manager user guide, "Command
    status-change events" and "Parameter Store events".
    """
    state = "EC2 Instance State-change Notification"
    health = {"service": "EC2", "eventTypeCategory": "scheduledChange", "eventTypeCode": "AWS_EC2_INSTANCE_RETIREMENT"}
    command = {"command-id": "e8d3c0e4", "document-name": subject.document, "instance-id": INSTANCE}
    changed = {"operation": "Update", "type": "String"}
    ec2 = {"instance-id": INSTANCE}
    return {
        "a Spot interruption": (
            _event("aws.ec2", "EC2 Spot Instance Interruption Warning", ec2 | {"instance-action": "terminate"}),
            True,
        ),
        "a rebalance recommendation": (_event("aws.ec2", "EC2 Instance Rebalance Recommendation", ec2), True),
        "a terminated instance": (_event("aws.ec2", state, ec2 | {"state": "terminated"}), True),
        "an instance that shuts down": (_event("aws.ec2", state, ec2 | {"state": "shutting-down"}), True),
        "a started instance": (_event("aws.ec2", state, ec2 | {"state": "running"}), False),
        "a scheduled retirement": (_event("aws.health", "AWS Health Event", health), True),
        "an account notification": (
            _event("aws.health", "AWS Health Event", health | {"eventTypeCategory": "accountNotification"}),
            False,
        ),
        "a finished node command": (
            _event("aws.ssm", "EC2 Command Status-change Notification", command | {"status": "Success"}),
            True,
        ),
        "a started node command": (
            _event("aws.ssm", "EC2 Command Status-change Notification", command | {"status": "InProgress"}),
            False,
        ),
        "somebody else's command": (
            _event(
                "aws.ssm",
                "EC2 Command Status-change Notification",
                command | {"document-name": "AWS-RunShellScript", "status": "Success"},
            ),
            False,
        ),
        "a live change of the policy": (
            _event("aws.ssm", "Parameter Store Change", changed | {"name": policy_parameter(subject.cluster_id)}),
            True,
        ),
        "a change of another parameter": (
            _event("aws.ssm", "Parameter Store Change", changed | {"name": f"/k3s/{subject.cluster_id}/version"}),
            False,
        ),
    }


def check_rules(account: Account, subject: Subject) -> Sequence[Finding]:
    """EventBridge's own judgement of the template's patterns, on sample events."""
    events = account.client("events")
    findings = []
    for name, (event, expected) in sample_events(subject).items():
        matching = [
            rule
            for rule, pattern in subject.rules
            if events.test_event_pattern(EventPattern=pattern, Event=json.dumps(event))["Result"]
        ]
        if bool(matching) is expected:
            findings.append(
                ok(f"event: {name}", f"matched by {', '.join(matching)}" if matching else "matched by none")
            )
        else:
            said = f"matched by {', '.join(matching)}, and must not be" if matching else "matched by no rule"
            todo = "Compare the rule in serverless.yml with the sample event of this check."
            findings.append(problem(f"event: {name}", said, todo))
    return findings


def check_http_api(account: Account, subject: Subject) -> Sequence[Finding]:
    """The deployed webhook: it must refuse who brings no token. Before the deployment: that HTTP APIs can be listed."""
    _ = account.client("apigatewayv2").get_apis(MaxResults="1")["Items"]
    deployed = stack_outputs(account, subject)
    if deployed is None:
        return [warning("webhook", f"not tried: {NOT_DEPLOYED}", "Run this again after.")]
    url = deployed["WebhookUrl"]
    try:
        status = account.status_of("POST", url)
    except OSError as error:
        return [
            problem("webhook", f"{url} does not answer: {type(error).__name__}", "Deploy again, look at the alarms.")
        ]
    if status == UNAUTHORIZED:
        return [ok("webhook", f"{url} refuses a request without a token (401)")]
    todo = "Look at the function `alerts` in its log group."
    return [problem("webhook", f"{url} answers {status} to a request without a token, and must answer 401", todo)]


def check_servers(account: Account, subject: Subject) -> Sequence[Finding]:
    """Servers that take node commands: without one nothing is drained and nothing is removed."""
    rows = account.client("ec2").describe_instances(
        Filters=[
            {"Name": f"tag:{CLUSTER_TAG}", "Values": [subject.cluster_id]},
            {"Name": f"tag:{ROLE_TAG}", "Values": ["server"]},
            {"Name": "instance-state-name", "Values": ["running"]},
        ]
    )["Reservations"]
    ids = [row["InstanceId"] for reservation in rows for row in reservation["Instances"]]
    if not ids:
        todo = f"Tag each server {CLUSTER_TAG}={subject.cluster_id} and {ROLE_TAG}=server (docs/deploy.md)."
        missing = _problem_once_deployed(account, subject)
        return [missing("servers", "no running instance carries the tags of a server of this cluster", todo)]
    described = account.client("ssm").describe_instance_information(Filters=[{"Key": "InstanceIds", "Values": ids}])[
        "InstanceInformationList"
    ]
    online = [row["InstanceId"] for row in described if row["PingStatus"] == "Online"]
    if not online:
        todo = "Give their profile AmazonSSMManagedInstanceCore and look at the SSM agent on them."
        return [problem("servers", f"{', '.join(ids)}: none is online for Systems Manager", todo)]
    offline = sorted(set(ids) - set(online))
    if offline:
        return [warning("servers", f"{', '.join(offline)} not online for Systems Manager", "Look at the SSM agent.")]
    return [ok("servers", f"{', '.join(online)} take commands")]


def check_parameters(account: Account, subject: Subject) -> Sequence[Finding]:
    """What workers join with, and the webhook's token. Values are not decrypted."""
    prefix = f"/k3s/{subject.cluster_id}/"
    findings: list[Finding] = []
    missing = _problem_once_deployed(account, subject)
    for name in (*JOIN_PARAMETERS, "webhook-token"):
        if _parameter(account, prefix + name) is None:
            todo = (
                f"make token CLUSTER={subject.cluster_id}"
                if name == "webhook-token"
                else "The server publishes it (docs/deploy.md); without it no worker joins."
            )
            findings.append(missing(f"parameter {prefix}{name}", "does not exist", todo))
        else:
            findings.append(ok(f"parameter {prefix}{name}", "exists"))
    return findings


def _problem_once_deployed(account: Account, subject: Subject) -> Callable[[str, str, str], Finding]:
    """What the cluster stack still makes is no problem before there is a service that needs it."""
    return warning if stack_outputs(account, subject) is None else problem


def _parameter(account: Account, name: str) -> str | None:
    try:
        return str(account.client("ssm").get_parameter(Name=name)["Parameter"]["Value"])
    except ClientError as error:
        if error_code(error) == "ParameterNotFound":
            return None
        raise


def _event(source: str, detail_type: str, detail: dict[str, Any]) -> dict[str, Any]:
    """With the fields that TestEventPattern demands. Source: EventBridge API reference, TestEventPattern."""
    return {
        "version": "0",
        "id": "7bf73129-1428-4cd3-a780-95db273d1602",
        "detail-type": detail_type,
        "source": source,
        "account": "123456789012",
        "time": "2026-01-01T00:00:00Z",
        "region": "eu-central-1",
        "resources": [f"arn:aws:ec2:eu-central-1:123456789012:instance/{INSTANCE}"],
        "detail": detail,
    }
