"""What the functions write into their log groups, by the real telemetry, on the emulated CloudWatch Logs."""

import io
from collections.abc import Callable
from typing import Any

from autoscaler.aws.clients import Clients
from autoscaler.model import Trigger
from autoscaler.telemetry import Telemetry
from tests.handlers.support import DOCUMENT, FakeContext

LOOK: dict[str, Any] = DOCUMENT | {
    "mode": "active",
    "action": "none",
    "reason": "steady",
    "message": "Nothing to do.",
    "nodes": {"ready": 3, "joining": 1, "draining": 0, "desired": 4, "min": 2, "max": 10},
    "cost": {"usd_per_hour": 0.0624, "known_workers": 3, "unknown_workers": 0, "saved_usd_per_hour": None},
    "operations": [],
    "failures": [],
    "policy_hash": "0123456789ab",
    "policy_version": None,
    "policy_problem": "",
}
"""A calm look."""


def lines(kind: str, tell: Callable[[Telemetry], None]) -> list[str]:
    """The lines of one invocation."""
    stream = io.StringIO()
    telemetry = Telemetry(cluster_id="demo", stream=stream)
    telemetry.begin(Trigger(kind=kind, correlation_id="c1"), FakeContext("r1"))
    tell(telemetry)
    return ["START RequestId: r1 Version: $LATEST", *stream.getvalue().splitlines(), "END RequestId: r1"]


def looked(kind: str, **fields: Any) -> list[str]:
    """An invocation that decided."""
    return lines(kind, lambda telemetry: telemetry.decision(LOOK | fields))


def write(clients: Clients, function: str, *invocations: tuple[int, list[str]], stage: str = "main") -> None:
    """Put each invocation's lines into the function's log group, at its time."""
    logs, group = clients.client("logs"), f"/aws/lambda/k3s-autoscaler-{stage}-{function}"
    logs.create_log_group(logGroupName=group)
    for place, (at_s, texts) in enumerate(invocations):
        logs.create_log_stream(logGroupName=group, logStreamName=f"s{place}")
        logs.put_log_events(
            logGroupName=group,
            logStreamName=f"s{place}",
            logEvents=[{"timestamp": at_s * 1000, "message": text} for text in texts],
        )
