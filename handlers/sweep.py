"""The scheduled look: whatever alerts came or were lost, the fleet is looked at. And what operators ask of it."""

import functools
import os
from collections.abc import Mapping
from typing import Any

from autoscaler.aws.clock import Context
from autoscaler.model import Trigger
from autoscaler.runtime import App, build


def handle(app: App, event: Mapping[str, Any], context: Context) -> dict[str, Any]:
    """Look once. Quiet while another invocation is at work; a failure is logged and raised.

    An event with `ask` is answered, and nothing is changed: `{"answer": ...}` or `{"problem": ...}`.
    """
    if "ask" in event:
        return app.ask(context, event["ask"])
    trigger = Trigger(kind="sweep", correlation_id=str(event.get("id") or context.aws_request_id))
    with app.invocation(trigger, context):
        return app.look_or_leave(context, trigger)


@functools.cache
def _app() -> App:
    return build(os.environ)


def handler(event: Mapping[str, Any], context: Context) -> dict[str, Any]:
    """Lambda's entry point; returns the decision document, or the answer."""
    return handle(_app(), event, context)
