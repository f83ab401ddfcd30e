"""News through a real topic and queue (moto) to what stands in for Slack: an HTTP server on the loopback interface."""

import http.server
import json
import logging
import threading
from collections.abc import Iterator
from typing import Any

import pytest

from autoscaler.aws.clients import Clients
from autoscaler.aws.slack import MOST_IN_WORDS, SlackChannel, SlackUnavailable, text_of
from autoscaler.aws.sns import SnsNotifier
from autoscaler.simulator.stack.processes import free_port
from handlers.slack import handle


class Slack:
    """What was posted, and what is answered."""

    def __init__(self) -> None:
        self.posted: list[dict[str, Any]] = []
        self.answer = (200, b"ok")
        slack = self

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                slack.posted.append(json.loads(self.rfile.read(int(self.headers["content-length"]))))
                self.send_response(slack.answer[0])
                self.end_headers()
                self.wfile.write(slack.answer[1])

            def log_message(self, *_: object) -> None:
                pass

        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.address = f"http://127.0.0.1:{self.server.server_port}/services/T0/B0/secret"


@pytest.fixture
def slack() -> Iterator[Slack]:
    made = Slack()
    thread = threading.Thread(target=made.server.serve_forever, args=(0.05,), daemon=True)
    thread.start()
    yield made
    made.server.shutdown()
    made.server.server_close()


def channel(slack: Slack) -> SlackChannel:
    return SlackChannel(lambda: slack.address, allow_http=True)


def news(**fields: Any) -> str:
    return json.dumps({"cluster_id": "shop", "message": "Launched 2 workers.", "severity": "info", **fields})


def records(*bodies: str) -> dict[str, Any]:
    return {"Records": [{"body": body} for body in bodies]}


@pytest.mark.usefixtures("_moto")
def test_what_the_topic_is_told_arrives_as_one_message(clients: Clients, slack: Slack) -> None:
    topic = clients.sns().create_topic(Name="news")["TopicArn"]
    sqs = clients.client("sqs")
    queue = sqs.create_queue(QueueName="news")["QueueUrl"]
    arn = sqs.get_queue_attributes(QueueUrl=queue, AttributeNames=["QueueArn"])["Attributes"]["QueueArn"]
    raw = {"RawMessageDelivery": "true"}
    clients.sns().subscribe(TopicArn=topic, Protocol="sqs", Endpoint=arn, Attributes=raw)
    notifier = SnsNotifier(clients, topic_arn=topic, logger=logging.getLogger("x"))
    for message in ("Launched <2> workers & more.", "At max."):
        notifier.notify({"cluster_id": "shop", "action": "none", "message": message, "severity": "critical"})
    taken = sqs.receive_message(QueueUrl=queue, MaxNumberOfMessages=10)["Messages"]
    done = handle(channel(slack), records(*(message["Body"] for message in taken)))
    assert done == {"posted": 2}
    assert [post["text"] for post in slack.posted] == [
        ":red_circle: critical *shop* Launched &lt;2&gt; workers &amp; more.\n:red_circle: critical *shop* At max."
    ]


def test_many_are_ten_and_a_number() -> None:
    text = text_of([news(message=f"m{n}") for n in range(MOST_IN_WORDS + 3)])
    lines = text.splitlines()
    assert len(lines) == MOST_IN_WORDS + 1
    assert lines[-1].startswith("and 3 more")


def test_a_digest_comes_whole_and_what_was_withheld_is_said() -> None:
    assert "grown 2" in text_of([news(text="shop: the last 24 hours\ngrown 2")])
    assert "(4 before it were not sent)" in text_of([news(withheld=4)])
    assert text_of(["no json"]) == "no json"
    assert text_of(["[1]"]) == "[1]"


@pytest.mark.parametrize("answer", [(429, b"rate_limited"), (404, b"no_service"), (500, b"rollup_error"), (302, b"")])
def test_what_slack_does_not_take_is_raised_without_the_address(slack: Slack, answer: tuple[int, bytes]) -> None:
    slack.answer = answer
    with pytest.raises(SlackUnavailable) as raised:
        handle(channel(slack), records(news()))
    assert str(answer[0]) in str(raised.value)
    assert answer[1].decode() in str(raised.value)
    assert "secret" not in str(raised.value)


def test_no_answer_is_raised_without_the_address() -> None:
    nobody = SlackChannel(lambda: f"http://127.0.0.1:{free_port()}/services/secret", allow_http=True)
    with pytest.raises(SlackUnavailable) as raised:
        handle(nobody, records(news()))
    assert "did not answer" in str(raised.value)
    assert "secret" not in f"{raised.value} {raised.value.__cause__}"


@pytest.mark.parametrize("address", ["", "hooks.slack.com/services/secret", "http://hooks.slack.com/services/secret"])
def test_an_address_that_is_none_is_said_without_it(address: str) -> None:
    with pytest.raises(SlackUnavailable, match="no https address") as raised:
        SlackChannel(lambda: address).post("x")
    assert "secret" not in str(raised.value)


def test_an_empty_batch_posts_nothing(slack: Slack) -> None:
    assert handle(channel(slack), {}) == {"posted": 0}
    assert slack.posted == []
