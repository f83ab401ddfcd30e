"""The Notifier port: what people and programs get, and that a failure stops nothing."""

import json
import logging
from typing import Any

import pytest

from autoscaler.aws.clients import Clients
from autoscaler.aws.sns import NoNotifier, SnsNotifier, message_of, subject_of

DOCUMENT: dict[str, Any] = {
    "cluster_id": "demo",
    "action": "scale_up",
    "reason": "unschedulable_pods",
    "message": "Launched 2 workers for 5 pods.",
    "blocked": [],
}


@pytest.mark.usefixtures("_moto")
def test_it_arrives_as_a_document_with_attributes_to_filter_by(clients: Clients) -> None:
    topic = clients.sns().create_topic(Name="t")["TopicArn"]
    sqs = clients.client("sqs")
    queue = sqs.create_queue(QueueName="q")["QueueUrl"]
    arn = sqs.get_queue_attributes(QueueUrl=queue, AttributeNames=["QueueArn"])["Attributes"]["QueueArn"]
    clients.sns().subscribe(TopicArn=topic, Protocol="sqs", Endpoint=arn)
    SnsNotifier(clients, topic_arn=topic, logger=logging.getLogger("x")).notify(DOCUMENT)
    (message,) = sqs.receive_message(QueueUrl=queue)["Messages"]
    body = json.loads(message["Body"])
    assert json.loads(body["Message"]) == DOCUMENT
    assert body["Subject"] == "k3s demo: scale_up (unschedulable_pods)"
    assert body["MessageAttributes"]["action"]["Value"] == "scale_up"


@pytest.mark.usefixtures("_moto")
def test_a_failure_is_logged_and_goes_no_further(clients: Clients, caplog: pytest.LogCaptureFixture) -> None:
    topic = "arn:aws:sns:eu-central-1:123456789012:gone"
    SnsNotifier(clients, topic_arn=topic, logger=logging.getLogger("x")).notify(DOCUMENT)
    assert "was not sent" in caplog.text
    assert topic in caplog.text


def test_nobody_to_tell() -> None:
    NoNotifier().notify(DOCUMENT)


def test_subjects_are_what_sns_takes() -> None:
    subject = subject_of({"cluster_id": "köln\n", "action": "x" * 200, "reason": "r"})
    assert subject.startswith("k3s k?ln?: xxx")
    assert len(subject) == 100


def test_a_long_document_is_cut_where_it_says_so() -> None:
    long = {**DOCUMENT, "blocked": [{"pod": f"shop/{place}", "reason": "y" * 50} for place in range(5000)]}
    forms = json.loads(message_of(long))
    assert len(message_of(long)) < 250_000
    assert "left out" in json.loads(forms["default"])["blocked"]
    assert forms["email"].startswith("Launched 2 workers for 5 pods.\n\n{")
