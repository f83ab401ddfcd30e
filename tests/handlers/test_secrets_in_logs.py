"""No secret in any log line, answer, table or notification: real handlers, real adapters, recognisable secrets.

AWS is moto in this process, Prometheus a loopback server that quotes the header it was sent, as a proxy might. The
secrets are looked for as they are, escaped and in base64 (leaks.py); so is what Lambda prints of an escaping exception.
"""

import base64
import functools
import json
import logging
import os
import time
import traceback
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import Any

import pytest
from botocore.exceptions import ClientError, HTTPClientError
from hypothesis import given, settings
from hypothesis import strategies as st
from moto import mock_aws

from autoscaler.aws.calls import Calls
from autoscaler.aws.clients import Clients
from autoscaler.aws.clock import Context
from autoscaler.aws.failures import told_as
from autoscaler.aws.idempotency import Once
from autoscaler.policy import Policy
from autoscaler.ports import StoreUnavailable
from autoscaler.redaction import SHORTEST, Redaction
from autoscaler.runtime import build
from autoscaler.simulator.cluster import SimCluster
from autoscaler.telemetry import SERVICE
from handlers import alerts, lifecycle, sweep
from tests.aws.conftest import REGION
from tests.aws.loopback import Answer, hang_up, reply, serving
from tests.aws.table import IDEMPOTENCY, STATE, create_tables
from tests.handlers.leaks import leaks
from tests.handlers.support import FakeContext, desk, post, sample

POLICY = Policy(version=1)
CURRENT = "current-webhook-token-5c1d7e"
PREVIOUS = "previous-webhook-token-a90b3f"
GUESS = "guess-of-a-stranger-77e0d2"
PASSWORD = 'prometheus "pässword" \\ 4be19c'
BEARER = "prometheus-bearer-token-0fd583"
AGENT = "K10agent-token::server:93cc01d7ae"
SESSION = "aws-session-token-IQoJb3JpZ2luX2VjE"
API_KEY = "key-of-a-gateway-61f0c8"
SECRET_KEY = "aws-secret-access-key-wJalrXUtnFEMI"
BASIC = base64.b64encode(f"scraper:{PASSWORD}".encode()).decode()
AWS = ("dynamodb", "ec2", "ssm", "sns")
SECRETS = (CURRENT, PREVIOUS, GUESS, PASSWORD, BEARER, AGENT, SESSION, SECRET_KEY, API_KEY)
AUTHS = {
    "basic": f"basic scraper:{PASSWORD}",
    "bearer": f"bearer {BEARER}",
    "JSON": json.dumps({"username": "scraper", "password": PASSWORD}),
    "JSON bearer": json.dumps({"bearer": BEARER}),
    "JSON headers": json.dumps({"bearer": BEARER, "headers": {"X-Api-Key": API_KEY}}),
    "a header that is not taken": json.dumps({"bearer": BEARER, "headers": {"Host": API_KEY}}),
    "malformed": f"token {BEARER} {PASSWORD}",
    "malformed JSON": json.dumps({"bearer": BEARER, "pass": PASSWORD}),
    "with a line break": f"bearer {BEARER}\r\nX-More: {PASSWORD}",
}


@functools.cache
def _vector() -> bytes:
    """A Prometheus that has seen a calm cluster without workers, its server off EC2: two are launched."""
    samples = SimCluster(POLICY, workers=0, now_s=time.time()).samples()
    off_ec2 = {"provider_id": "k3s://server"}
    metrics = [s.metric | off_ec2 if "provider_id" in s.metric else s.metric for s in samples]
    result = [{"metric": m, "value": list(s.value)} for m, s in zip(metrics, samples, strict=True)]
    return json.dumps({"status": "success", "data": {"resultType": "vector", "result": result}}).encode()


def _quoting(status: int, shape: str) -> Answer:
    """Answers with the header that came, inside this shape."""

    def answer(handler: BaseHTTPRequestHandler, body: bytes) -> None:
        header = handler.headers.get("Authorization", "")
        plain = base64.b64decode(header.removeprefix("Basic ")).decode() if header.startswith("Basic ") else header
        told = shape.replace("HEADER", json.dumps(header)[1:-1]).replace("PLAIN", json.dumps(plain)[1:-1])
        location = {"Location": f"http://127.0.0.1:9/?was={header.split(' ')[-1]}"} if status == 302 else {}
        reply(status, told, **location)(handler, body)

    return answer


ANSWERS: dict[str, Callable[[], Answer]] = {
    "well": lambda: reply(200, _vector()),
    "error that quotes the header": lambda: _quoting(
        401, '{"status": "error", "errorType": "auth", "error": "HEADER is wrong, PLAIN"}'
    ),
    "status that quotes it": lambda: _quoting(500, '{"status": "PLAIN HEADER"}'),
    "kind that quotes it": lambda: _quoting(200, '{"status": "success", "data": {"resultType": "HEADER PLAIN"}}'),
    "page that quotes it": lambda: _quoting(200, "<p>HEADER PLAIN</p>"),
    "redirect that quotes it": lambda: _quoting(302, "PLAIN"),
    "nothing": lambda: hang_up,
}


class Service:
    """The three handlers in one emulated account, and everything that they leave behind."""

    def __init__(self, clients: Clients, caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str]) -> None:
        self.clients = clients
        self.caplog = caplog
        self.capfd = capfd
        self.seen: list[str] = []
        self.statuses: list[int] = []
        self.queue_url = ""

    def restart(self, prometheus_auth: str) -> None:
        """A new process, and another credential."""
        self.put("prometheus-auth", prometheus_auth)
        self.app = build(os.environ)
        self.once = Once(self.app.clients.dynamodb(), table=IDEMPOTENCY)

    def forget(self) -> None:
        """An empty state, and no worker of an earlier test."""
        dynamodb, ec2 = self.clients.dynamodb(), self.clients.ec2()
        for item in dynamodb.scan(TableName=STATE)["Items"]:
            dynamodb.delete_item(TableName=STATE, Key={name: item[name] for name in ("cluster_id", "record")})
        for reservation in ec2.describe_instances()["Reservations"]:
            ec2.terminate_instances(InstanceIds=[row["InstanceId"] for row in reservation["Instances"]])

    def put(self, name: str, value: str) -> None:
        self.clients.ssm().put_parameter(Name=f"/k3s/demo/{name}", Value=value, Type="SecureString", Overwrite=True)

    def call(self, handle: Callable[..., Any], event: dict[str, Any], *arguments: Any, **named: Any) -> None:
        try:
            answer = handle(self.app, *arguments, event, FakeContext(), **named)
        except Exception as error:  # noqa: BLE001 - Lambda prints whatever escapes; here it is kept to be searched
            # As awslambdaric does (bootstrap.py, handle_event_request): type, message, frames, no exception behind it.
            frames = traceback.format_list(traceback.extract_tb(error.__traceback__))
            self.seen.append(f"{type(error).__name__}: {error}\n{''.join(frames)}")
            self.statuses.append(500)
        else:
            self.seen.append(json.dumps(answer))
            self.statuses.append(answer.get("statusCode", 200))

    def alert(self, body: dict[str, Any] | str, token: str) -> None:
        self.call(alerts.handle, post(body, token=token), self.once, now_s=int(time.time()))

    def sweep(self) -> None:
        self.call(sweep.handle, {"id": "event-1"})

    def every_path(self) -> None:
        firing = sample("firing")
        self.alert(firing, CURRENT)
        self.alert(firing | {"groupKey": "other"}, PREVIOUS)
        self.alert(firing, GUESS)
        self.alert(f'{{"version": "{CURRENT}"}}', CURRENT)
        self.alert(firing | {"status": CURRENT}, CURRENT)
        self.alert("x" * 300_000, CURRENT)
        self.sweep()
        gone = {"detail-type": "EC2 Instance State-change Notification", "source": "aws.ec2"}
        detail = {"instance-id": "i-0123456789abcdef0", "state": "terminated"}
        self.call(lifecycle.handle, {**gone, "detail": detail}, now_s=int(time.time()))
        self.call(lifecycle.handle, {"id": "event-2", "detail-type": "of no kind"}, now_s=int(time.time()))

    def everything(self) -> str:
        """Standard output and error, what libraries log on DEBUG, every answer, both tables, every notification."""
        captured = self.capfd.readouterr()
        dynamodb = self.clients.dynamodb()
        tables = [dynamodb.scan(TableName=name)["Items"] for name in (STATE, IDEMPOTENCY)]
        sqs = self.clients._make("sqs", 4.0)
        told = sqs.receive_message(QueueUrl=self.queue_url, MaxNumberOfMessages=10).get("Messages", [])
        others = [f"{record.name}: {record.getMessage()}" for record in self.caplog.records if record.name != SERVICE]
        self.seen += [captured.out, captured.err, *others, json.dumps(tables, default=str), json.dumps(told)]
        return "\n".join(self.seen)


@pytest.fixture(scope="module")
def account() -> Iterator[tuple[Clients, dict[str, str]]]:
    """One emulated account for all tests of this file: its clients, and the functions' environment."""
    with pytest.MonkeyPatch.context() as patch, mock_aws():
        for name, value in {"AWS_ACCESS_KEY_ID": "testing", "AWS_SECRET_ACCESS_KEY": "testing"}.items():
            patch.setenv(name, value)
        clients = Clients(Calls(), region=REGION)
        create_tables(clients)
        topic = clients.sns().create_topic(Name="news")["TopicArn"]
        sqs = clients._make("sqs", 4.0)
        queue = sqs.create_queue(QueueName="news")["QueueUrl"]
        attributes = sqs.get_queue_attributes(QueueUrl=queue, AttributeNames=["QueueArn"])["Attributes"]
        clients.sns().subscribe(TopicArn=topic, Protocol="sqs", Endpoint=attributes["QueueArn"])
        ec2 = clients.ec2()
        template = ec2.create_launch_template(
            LaunchTemplateName="workers", LaunchTemplateData={"ImageId": "ami-12c6146b", "InstanceType": "t3.small"}
        )["LaunchTemplate"]["LaunchTemplateId"]
        yield (
            clients,
            {
                "AWS_SESSION_TOKEN": SESSION,
                "AWS_SECRET_ACCESS_KEY": SECRET_KEY,
                "AWS_DEFAULT_REGION": REGION,
                "CLUSTER_ID": "demo",
                "STATE_TABLE": STATE,
                "IDEMPOTENCY_TABLE": IDEMPOTENCY,
                "LAUNCH_TEMPLATE_ID": template,
                "SUBNET_IDS": ec2.describe_subnets()["Subnets"][0]["SubnetId"],
                "NODE_COMMAND_DOCUMENT": "our-document",
                "ALERT_TOKEN_PARAMETER": "/k3s/demo/webhook-token",
                "PROMETHEUS_AUTH_PARAMETER": "/k3s/demo/prometheus-auth",
                "NOTIFY_TOPIC_ARN": topic,
                "POLICY_FILE": str(Path(__file__).resolve().parents[2] / "policy.yml"),
                "POWERTOOLS_LOG_LEVEL": "DEBUG",
            },
        )


@pytest.fixture
def service(
    account: tuple[Clients, dict[str, str]],
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    capfd: pytest.CaptureFixture[str],
) -> Service:
    clients, environ = account
    for name, value in environ.items():
        monkeypatch.setenv(name, value)
    caplog.set_level(logging.DEBUG)
    made = Service(clients, caplog, capfd)
    made.put("webhook-token", f"{CURRENT}\n{PREVIOUS}\n")
    made.put("agent-token", AGENT)
    made.queue_url = clients._make("sqs", 4.0).get_queue_url(QueueName="news")["QueueUrl"]
    made.forget()
    return made


@pytest.mark.parametrize("answer", ANSWERS)
def test_no_path_shows_a_secret_whatever_prometheus_answers(
    service: Service, monkeypatch: pytest.MonkeyPatch, answer: str
) -> None:
    with serving(ANSWERS[answer]()) as prometheus:
        monkeypatch.setenv("PROMETHEUS_URL", prometheus.url)
        service.restart(AUTHS["basic"])
        service.every_path()
        for auth in AUTHS.values() if answer == "well" else [AUTHS["bearer"]]:
            service.restart(auth)
            service.sweep()
        asked = {request.headers.get("authorization", "") for request in prometheus.asked}
    assert {header.partition(" ")[0] for header in asked} == {"Basic", "Bearer"}, "both were really sent"
    assert {401, 400, 413, 200} <= set(service.statuses)
    told = service.everything()
    assert leaks(told, SECRETS) == []
    assert "decision_id" in told
    if answer == "well":
        assert "Launching 2 workers" in told
        assert "k3s demo: scale_up" in told, "the notification is among what was searched"


def test_no_path_shows_a_secret_while_parameters_cannot_be_read(
    service: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    with serving(_quoting(401, "HEADER")) as prometheus:
        monkeypatch.setenv("PROMETHEUS_URL", prometheus.url)
        service.restart(AUTHS["basic"])
        service.clients.ssm().delete_parameters(Names=["/k3s/demo/webhook-token", "/k3s/demo/prometheus-auth"])
        service.every_path()
    assert service.statuses[:3] == [503, 503, 503]
    assert leaks(service.everything(), SECRETS) == []


def _signature_error(operation: str) -> ClientError:
    """As AWS writes it: the canonical string holds every signed header."""
    message = (
        "The request signature we calculated does not match the signature you provided. The Canonical String for this "
        f"request should have been\n'POST\n/\n\nhost:dynamodb\nx-amz-security-token:{SESSION}\nx-amz-target:a'\n"
        f"Credential=AKIA/20261123/{SECRET_KEY}, Signature={SESSION}"
    )
    error = {"Code": "SignatureDoesNotMatch", "Message": message}
    return ClientError({"Error": error, "ResponseMetadata": {"HTTPStatusCode": 403}}, operation)  # type: ignore[typeddict-item]  # a part of it


ERRORS: dict[str, Callable[[], Exception]] = {
    "AWS quotes the signed request": lambda: _signature_error("Any"),
    "the SDK quotes a header": lambda: HTTPClientError(error=f"x-amz-security-token: {SESSION}"),
    "a fault quotes what it knows": lambda: RuntimeError(f"{CURRENT}, Basic {BASIC}, {PASSWORD!r}"),
}


def test_no_error_inside_a_port_carries_a_secret_out(service: Service, monkeypatch: pytest.MonkeyPatch) -> None:
    failing: dict[str, Callable[[], Exception]] = {}
    with serving(ANSWERS["well"]()) as prometheus:
        monkeypatch.setenv("PROMETHEUS_URL", prometheus.url)
        service.restart(AUTHS["basic"])
        service.every_path()  # the process has read its secrets by now
        _fail_on_demand(service.app.clients, failing)
        for aws_service in AWS:
            for make in ERRORS.values():
                service.forget()
                failing[aws_service] = make
                service.every_path()
                failing.clear()
    assert {500, 503} <= set(service.statuses)
    told = service.everything()
    assert leaks(told, SECRETS) == []
    assert "Withheld: RuntimeError: ***, Basic ***" in told
    assert "SignatureDoesNotMatch" in told


def _fail_on_demand(clients: Clients, failing: dict[str, Callable[[], Exception]]) -> None:
    def hook(event_name: str, **_: object) -> None:
        make = failing.get(event_name.split(".")[1])
        if make is not None:
            raise make()

    for aws_service in AWS:
        getattr(clients, aws_service)().meta.events.register_first(f"before-send.{aws_service}.*", hook)


@pytest.mark.parametrize(
    "text",
    [
        CURRENT,
        f"x{CURRENT}y",
        json.dumps({"a": PASSWORD}),
        json.dumps(json.dumps({"a": PASSWORD})),
        f"Authorization: Basic {BASIC}",
        *(base64.b64encode(f"{'u' * shift}:{CURRENT}:".encode()).decode() for shift in range(4)),
        base64.urlsafe_b64encode(f"??>{PASSWORD}".encode()).decode(),
        repr(PASSWORD),
    ],
)
def test_the_search_finds_what_is_there(text: str) -> None:
    assert leaks(text, SECRETS)
    assert leaks(text, ["a-secret-of-nobody-else"]) == []


def test_without_the_net_a_fault_would_be_told_whole() -> None:
    """What the tests above would see, were it not for the redaction."""
    at = desk(RuntimeError(f"no such header: Bearer {CURRENT}"))
    with pytest.raises(RuntimeError, match=CURRENT):
        alerts.handle(at.app, _always, post(sample("firing")), FakeContext(), now_s=1)
    assert leaks(at.log.getvalue(), SECRETS) == [CURRENT]


def _always(key: str, context: Context, work: Callable[[], dict[str, Any]]) -> tuple[dict[str, Any], bool]:
    del key, context
    return work(), False


def test_a_refusal_of_aws_keeps_its_words_and_loses_its_credentials() -> None:
    with pytest.raises(StoreUnavailable) as caught, told_as(StoreUnavailable, "write the state"):
        raise _signature_error("PutItem")
    assert "SignatureDoesNotMatch: The request signature we calculated does not match" in str(caught.value)
    assert "x-amz-security-token:***" in str(caught.value)
    assert leaks(str(caught.value), SECRETS) == []


@settings(max_examples=50)
@given(st.text(min_size=SHORTEST, max_size=40), st.text(max_size=20), st.text(max_size=20))
def test_a_kept_secret_never_comes_through(secret: str, before: str, after: str) -> None:
    redaction = Redaction()
    redaction.keep(secret)
    kept = secret.strip()
    if len(kept.splitlines()) != 1 or len(kept) < SHORTEST or "*" in secret:
        return
    text = f"{before}{kept}{after}"
    for form in (text, json.dumps(text), f"Basic {base64.b64encode(kept.encode()).decode()}"):
        assert not leaks(redaction.clean(form), [kept]), form


@pytest.mark.parametrize("parameter", [*AUTHS.values(), f"{CURRENT}\n{PREVIOUS}", "", "basic a:b", "[" * 100_000])
def test_ordinary_words_stay(parameter: str) -> None:
    redaction = Redaction()
    redaction.keep(parameter)
    sentence = "The request carries no bearer token: set basic auth, message, prometheus."
    assert redaction.clean(sentence) == sentence
