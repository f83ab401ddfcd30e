"""The requests that the functions really send: the service as it is wired, with the template's own environment.

Only the wire is missing. The SDK checks each request against AWS' model of the operation; what would be sent is kept.
"""

from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import cache
from typing import Any

import msgspec

from autoscaler.aws.clients import LAUNCH_READ_TIMEOUT_S
from autoscaler.aws.idempotency import NotNow, Once
from autoscaler.aws.parameters import Parameters
from autoscaler.decide.capacity.launch import plan_launch
from autoscaler.model import (
    Growth,
    LaunchContext,
    LaunchRequest,
    NewWorkers,
    NodeCommand,
    SchedulingRules,
    State,
    Verb,
)
from autoscaler.runtime import App, build
from tests.decide.builders import NOW_S, snapshot
from tests.handlers.support import FakeContext
from tests.service.iam.rendered import Rendered

FUNCTIONS = {f"{name}Role": f"{name}LambdaFunction" for name in ("Alerts", "Sweep", "Lifecycle")}
WORKER, SERVER = "i-0a0a0a0a0a0a0a0a0", "i-0b0b0b0b0b0b0b0b0"

Call = tuple[str, Mapping[str, Any]]
"""`service:Operation` and the request's fields."""


class _Answered:
    def __init__(self, status_code: int) -> None:
        self.status_code = status_code


@dataclass
class Wire:
    """What was sent, and what is answered."""

    sent: list[Call] = field(default_factory=list)
    answers: dict[str, dict[str, Any]] = field(default_factory=dict)
    refused: dict[str, str] = field(default_factory=dict)
    """Error codes by operation."""

    def tap(self, client: Any) -> None:
        """Listen to a client, and answer for AWS."""
        service, request = client.meta.service_model.service_name, dict[str, Any]()

        def remember(params: Mapping[str, Any], **_: Any) -> None:
            request.clear()
            request.update(params)

        def answer(model: Any, **_: Any) -> tuple[_Answered, dict[str, Any]]:
            self.sent.append((f"{service}:{model.name}", dict(request)))
            if model.name in self.refused:
                return _Answered(400), {"Error": {"Code": self.refused[model.name], "Message": "refused"}}
            return _Answered(200), self.answers.get(model.name, {})

        client.meta.events.register(f"provide-client-params.{service}", remember)
        client.meta.events.register("before-call", answer)


def launch_requests(app: App, context: LaunchContext) -> list[LaunchRequest]:
    """A launch into every zone and on each market, as `decide` makes it: with its own tags."""
    made = plan_launch(
        Growth(
            workers=(NewWorkers("t3.small", 4), NewWorkers("t3.small", 4, market="spot")),
            reason="pods_unschedulable",
        ),
        context,
        snapshot(0),
        State(),
        app.policy,
        cluster_id=app.settings.cluster_id,
        now_s=NOW_S,
        decision_id="01J0",
    )
    return [operation.request for operation in made.opened]


@cache
def calls_of(rendered: Rendered, role: str) -> list[Call]:
    """Everything that the function with this role may come to send."""
    environment = rendered.template.properties(FUNCTIONS[role])["Environment"]["Variables"]
    app = build({name: str(value) for name, value in rendered.value(environment).items()})
    cluster_id, subnets = app.settings.cluster_id, app.settings.subnet_ids
    templates = [app.settings.launch_template_id, *(row[2] for row in app.settings.pool_templates)]
    wire = Wire(
        answers={
            "DescribeLaunchTemplates": {
                "LaunchTemplates": [{"LaunchTemplateId": one, "LatestVersionNumber": 3} for one in templates]
            },
            "DescribeSubnets": {"Subnets": [{"SubnetId": s, "AvailabilityZone": f"zone of {s}"} for s in subnets]},
            "SendCommand": {"Command": {"CommandId": "c" * 36}},
            "GetParameter": {"Parameter": {"Value": "value", "LastModifiedDate": datetime.fromtimestamp(NOW_S, UTC)}},
        }
    )
    clients = app.clients
    launching = clients.ec2(read_timeout_s=LAUNCH_READ_TIMEOUT_S)
    for client in (clients.ec2(), launching, clients.ssm(), clients.dynamodb(), clients.sns()):
        wire.tap(client)
    context = FakeContext()
    ports = app.ports(context)
    ports.fleet.describe()
    for request in launch_requests(app, ports.fleet.launch_context()):
        ports.fleet.launch(request)
    ports.fleet.terminate(WORKER)
    command = NodeCommand(
        verb=Verb.DRAIN,
        node_name="node",
        provider_id=f"aws:///eu-central-1a/{WORKER}",
        operation_id="01J0",
        fence=1,
        not_after_s=1,
        timeout_s=300,
    )
    question = msgspec.structs.replace(command, verb=Verb.RULES, node_name="", provider_id="", fence=0)
    for sent in (command, question):
        ports.commands.result(ports.commands.send(sent, SERVER), SERVER)
    _, version = ports.store.load()
    ports.store.save(State(), version)
    ports.store.rules()
    ports.store.keep_rules(SchedulingRules(answered_at_s=1))
    ports.store.record(1, "01J0", {"action": "none"})
    ports.notifier.notify({"cluster_id": cluster_id, "message": "news"})
    if role == "AlertsRole":
        app.accept_token("a token")
        _webhooks(Once(clients.dynamodb(), table=app.settings.idempotency_table), context, wire)
    if role == "LifecycleRole":
        app.offered_policy()
    for name in (app.settings.prometheus_auth_parameter, app.settings.prometheus_ca_parameter):
        if name:  # as Prometheus' port reads them before its first query (autoscaler/runtime.py)
            Parameters(clients, app.redaction).read_public(name)
    return wire.sent


def _webhooks(once: Once, context: FakeContext, wire: Wire) -> None:
    """One that is handled, one that fails and is forgotten, one that is under way elsewhere: its record is read."""

    def fail() -> dict[str, Any]:
        raise ValueError

    once("one", context, lambda: {"a": 1})
    with suppress(ValueError):
        once("two", context, fail)
    wire.refused["PutItem"] = "ConditionalCheckFailedException"
    wire.answers["GetItem"] = {
        "Item": {
            "id": {"S": "three"},
            "status": {"S": "INPROGRESS"},
            "in_progress_expiration": {"N": "9999999999999"},
            "expiration": {"N": "9999999999"},
        }
    }
    with suppress(NotNow):
        once("three", context, lambda: {"a": 1})
