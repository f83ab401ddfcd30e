"""What SQS hands over goes to Slack, a batch in one message. Outside the VPC: no function that scales knows of it."""

import functools
import os
from collections.abc import Mapping
from typing import Any

from autoscaler.aws.calls import Calls
from autoscaler.aws.clients import Clients
from autoscaler.aws.parameters import Parameters
from autoscaler.aws.slack import SlackChannel, text_of
from autoscaler.redaction import Redaction
from handlers import imported

imported()


def handle(channel: SlackChannel, event: Mapping[str, Any]) -> dict[str, Any]:
    """Post a batch. What cannot be posted is raised, and SQS gives the batch again until it is too old."""
    bodies = [str(record.get("body") or "") for record in event.get("Records") or ()]
    if bodies:
        channel.post(text_of(bodies))
    return {"posted": len(bodies)}


@functools.cache
def _channel() -> SlackChannel:
    parameters = Parameters(Clients(Calls()), Redaction())
    # Read for each batch: an address that is changed holds at once.
    return SlackChannel(lambda: parameters.read(os.environ["SLACK_WEBHOOK_PARAMETER"]))


def handler(event: Mapping[str, Any], _context: object) -> dict[str, Any]:
    """Lambda's entry point."""
    return handle(_channel(), event)
