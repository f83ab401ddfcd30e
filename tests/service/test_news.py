"""Slack and the daily digest in the template: nothing of them unless asked for, and no right beyond their part."""

from typing import Any

import pytest

from autoscaler.aws.slack import TIMEOUT_S
from tests.service.conftest import EVERY_PART, Template

RESOURCES = {
    "NewsQueue",
    "NewsQueuePolicy",
    "NewsSubscription",
    "SlackRole",
    "SlackLambdaFunction",
    "SlackLogGroup",
    "SlackEventSourceMappingSQSNewsQueue",
    "DigestRule",
    "DigestPermission",
    "DigestPolicy",
}


def actions(statements: list[dict[str, Any]]) -> set[str]:
    listed = [statement["Action"] for statement in statements if statement["Effect"] == "Allow"]
    return {name for action in listed for name in ([action] if isinstance(action, str) else action)}


def test_nothing_of_it_is_there_unless_asked_for(template: Template) -> None:
    assert not RESOURCES & set(template.body["Resources"])
    assert "NewsTopic" not in template.body["Resources"]
    assert template.properties("SweepLambdaFunction")["Environment"]["Variables"]["NOTIFY_TOPIC_ARN"] == ""


def test_a_topic_of_yours_is_taken_and_none_is_made(full_template: Template) -> None:
    assert set(full_template.body["Resources"]) >= RESOURCES
    assert "NewsTopic" not in full_template.body["Resources"]
    assert full_template.properties("NewsSubscription")["TopicArn"] == EVERY_PART["notifyTopicArn"]
    (ours, _) = full_template.properties("NewsQueuePolicy")["PolicyDocument"]["Statement"]
    assert ours["Condition"] == {"ArnEquals": {"aws:SourceArn": EVERY_PART["notifyTopicArn"]}}


def test_slack_has_its_queue_its_parameter_its_log_and_nothing_else(full_template: Template) -> None:
    assert actions(full_template.statements("SlackRole")) == {
        "logs:CreateLogStream",
        "logs:PutLogEvents",
        "sqs:ReceiveMessage",
        "sqs:DeleteMessage",
        "sqs:GetQueueAttributes",
        "ssm:GetParameter",
    }
    assert "ManagedPolicyArns" not in full_template.properties("SlackRole")
    function = full_template.properties("SlackLambdaFunction")
    assert function["Environment"]["Variables"] == {"SLACK_WEBHOOK_PARAMETER": EVERY_PART["slackWebhookParameter"]}
    assert "VpcConfig" not in function, "Slack is reached from outside the VPC"
    assert full_template.properties("NewsQueue")["VisibilityTimeout"] >= 6 * function["Timeout"]
    assert function["Timeout"] > TIMEOUT_S
    assert full_template.properties("NewsSubscription")["RawMessageDelivery"] is True


def test_the_digest_reads_one_clusters_history_and_wakes_the_sweep(full_template: Template) -> None:
    (statement,) = full_template.statements("DigestPolicy")
    assert statement["Action"] == "dynamodb:Query"
    assert statement["Condition"]["ForAllValues:StringEquals"] == {"dynamodb:LeadingKeys": [EVERY_PART["clusterId"]]}
    (target,) = full_template.properties("DigestRule")["Targets"]
    assert target["Input"] == '{"digest": true}'
    assert target["Arn"] == {"Fn::GetAtt": ["SweepLambdaFunction", "Arn"]}


@pytest.mark.parametrize("logical_id", ["AlertsRole", "LifecycleRole"])
def test_nobody_else_may_query(full_template: Template, logical_id: str) -> None:
    assert full_template.properties("DigestPolicy")["Roles"] == [{"Ref": "SweepRole"}]
    assert "dynamodb:Query" not in actions(full_template.statements(logical_id))
