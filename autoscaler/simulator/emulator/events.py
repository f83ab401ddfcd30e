"""EventBridge, as far as the service listens to it: events are posted to the lifecycle function's invoke address.

Best effort, as EventBridge's targets are while a function is being replaced: an event that cannot be delivered is
dropped, and the sweep does the rest.
"""

import queue
import sys
import threading
import uuid
from collections.abc import Callable
from typing import Any, Final

import requests

from autoscaler.simulator.emulator.moto import iso_time

ACCOUNT: Final = "123456789012"


def instance_event(instance_id: str, state: str, *, at_s: float, region: str) -> dict[str, Any]:
    """Return an `EC2 Instance State-change Notification` (shape: the Amazon EC2 User Guide, "State change events")."""
    return _envelope(
        "aws.ec2",
        "EC2 Instance State-change Notification",
        {"instance-id": instance_id, "state": state},
        at_s=at_s,
        region=region,
        resources=[f"arn:aws:ec2:{region}:{ACCOUNT}:instance/{instance_id}"],
    )


def command_event(command_id: str, document: str, status: str, *, at_s: float, region: str) -> dict[str, Any]:
    """Return an `EC2 Command Status-change Notification` (shape: the Systems Manager User Guide, "event examples")."""
    detail = {
        "command-id": command_id,
        "document-name": document,
        "status": status,
        "requested-date-time": iso_time(at_s),
        "expire-after": iso_time(at_s + 3600),
        "parameters": {},
    }
    return _envelope(
        "aws.ssm", "EC2 Command Status-change Notification", detail, at_s=at_s, region=region, resources=[]
    )


def _envelope(
    source: str, kind: str, detail: dict[str, Any], *, at_s: float, region: str, resources: list[str]
) -> dict[str, Any]:
    return {
        "version": "0",
        "id": str(uuid.uuid4()),
        "detail-type": kind,
        "source": source,
        "account": ACCOUNT,
        "time": iso_time(at_s),
        "region": region,
        "resources": resources,
        "detail": detail,
    }


class EventBus:
    """Delivers events one after the other from a thread of its own; nothing else ever waits for it."""

    _TIMEOUT_S: Final = 30

    def __init__(self, post: Callable[[str, dict[str, Any]], None] | None = None) -> None:
        self.target_url: str | None = None
        self._post = post or self._post_http
        self._events: queue.SimpleQueue[dict[str, Any]] = queue.SimpleQueue()
        threading.Thread(target=self._deliver, name="event-bus", daemon=True).start()

    def publish(self, event: dict[str, Any]) -> None:
        """Queue one event for the target, if there is one."""
        if self.target_url is not None:
            self._events.put(event)

    def _deliver(self) -> None:
        while True:
            event = self._events.get()
            target = self.target_url
            if target is None:
                continue
            try:
                self._post(target, event)
            except requests.RequestException as error:
                sys.stderr.write(f"event {event['detail-type']} was not delivered: {error}\n")

    def _post_http(self, url: str, event: dict[str, Any]) -> None:
        headers = {"X-Amz-Invocation-Type": "Event"}
        requests.post(url, json=event, headers=headers, timeout=self._TIMEOUT_S).raise_for_status()
