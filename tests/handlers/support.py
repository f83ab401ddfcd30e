"""An App whose outside is recorded: what would be evaluated is written down, and what is logged can be read."""

import io
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from autoscaler.aws.calls import Calls
from autoscaler.aws.clients import Clients
from autoscaler.aws.clock import Context
from autoscaler.model import Notice, OfferedPolicy, Trigger
from autoscaler.policy import Policy
from autoscaler.ports import Ports
from autoscaler.runtime import App, Settings
from autoscaler.telemetry import Telemetry

DATA = Path(__file__).resolve().parents[1] / "data"
NOW = 1_700_000_000
TOKEN = "t0ken-of-the-test-a1b2c3"
DOCUMENT: dict[str, Any] = {
    "decision_id": "01abc",
    "cluster_id": "demo",
    "trigger": {"kind": "alert"},
    "action": "scale_up",
    "reason": "unschedulable_pods",
    "message": "Launched 2 workers for 5 pods.",
    "nodes": {"ready": 3, "joining": 2, "draining": 0, "desired": 5, "min": 2, "max": 10},
    "signals": [{"name": "unschedulable_pods", "value": 5, "threshold": 0, "wants": 5}],
    "blocked": [],
    "operations": [{"kind": "launch"}],
    "metrics_status": "ok",
    "policy_hash": "abc",
    "duration_ms": 12,
    "calls": {"dynamodb": 1, "ec2": 1, "prometheus": 1},
}
SETTINGS = Settings(
    cluster_id="demo",
    state_table="state-table",
    idempotency_table="idempotency-table",
    prometheus_url="http://127.0.0.1:9",
    launch_template_id="lt-1",
    subnet_ids=("subnet-1",),
    node_command_document="our-document",
    alert_token_parameter="/k3s/demo/webhook-token",
)


@dataclass
class FakeContext:
    aws_request_id: str = "request-1"
    remaining_ms: int = 25_000
    function_name: str = "alerts"

    def get_remaining_time_in_millis(self) -> int:
        return self.remaining_ms


@dataclass
class Recorded:
    """Every look, and what it returns or raises, in turn; the last one stays."""

    outcomes: list[dict[str, Any] | Exception] = field(default_factory=lambda: [DOCUMENT])
    looks: list[tuple[Trigger, tuple[Notice, ...]]] = field(default_factory=list)
    offered: list[OfferedPolicy | None] = field(default_factory=list)

    def __call__(
        self,
        ports: Ports,
        *,
        cluster_id: str,
        policy: Policy,
        trigger: Trigger,
        facts: tuple[Notice, ...] = (),
        offered: Callable[[], OfferedPolicy] | None = None,
    ) -> dict[str, Any]:
        del ports, policy
        self.offered.append(offered() if offered is not None else None)
        assert cluster_id == "demo"
        self.looks.append((trigger, facts))
        outcome = self.outcomes.pop(0) if len(self.outcomes) > 1 else self.outcomes[0]
        if isinstance(outcome, Exception):
            raise outcome
        return outcome


def accept_test_token(token: str) -> bool:
    return token == TOKEN


def nobody_is_ours(_: Sequence[str]) -> frozenset[str]:
    return frozenset()


@dataclass
class Desk:
    """The App of a test with its recorder and its log."""

    reconcile: Recorded
    app: App
    log: io.StringIO

    @property
    def lines(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in self.log.getvalue().splitlines()]

    @property
    def metrics(self) -> list[dict[str, Any]]:
        return [line for line in self.lines if "_aws" in line]

    @property
    def told(self) -> list[dict[str, Any]]:
        return [line for line in self.lines if "_aws" not in line]


def desk(
    *outcomes: dict[str, Any] | Exception,
    accept_token: Callable[[str], bool] = accept_test_token,
    ours_among: Callable[[Sequence[str]], frozenset[str]] = nobody_is_ours,
    clients: Clients | None = None,
) -> Desk:
    recorded = Recorded(list(outcomes) or [DOCUMENT])
    log = io.StringIO()

    def no_ports(_: Context) -> Ports:
        nothing: dict[str, Any] = dict.fromkeys(Ports.__struct_fields__)
        return Ports(**nothing)  # recorded, never used

    app = App(
        settings=SETTINGS,
        policy=Policy(version=1),
        telemetry=Telemetry(cluster_id="demo", stream=log),
        ports=no_ports,
        ours_among=ours_among,
        accept_token=accept_token,
        clients=clients or Clients(Calls(), region="eu-central-1"),
        offered_policy=lambda: OfferedPolicy(text="workers: {max: 12}", version=4, changed_at_s=NOW),
        begin=lambda: None,
        reconcile=recorded,
    )
    return Desk(reconcile=recorded, app=app, log=log)


def sample(name: str) -> dict[str, Any]:
    loaded: dict[str, Any] = json.loads((DATA / f"alertmanager-{name}.json").read_text())
    return loaded


def post(body: Mapping[str, Any] | str | None, *, token: str | None = TOKEN, **fields: Any) -> dict[str, Any]:
    """An event of API Gateway's HTTP API, payload version 2, as Alertmanager's request makes it."""
    headers = {"content-type": "application/json", "user-agent": "Alertmanager/0.25.0"}
    if token is not None:
        headers["authorization"] = f"Bearer {token}"
    return {
        "version": "2.0",
        "routeKey": "POST /alerts",
        "rawPath": "/alerts",
        "headers": headers,
        "requestContext": {"requestId": "gateway-1", "http": {"method": "POST", "path": "/alerts"}},
        "body": json.dumps(body) if isinstance(body, Mapping) else body,
        "isBase64Encoded": False,
    } | fields
