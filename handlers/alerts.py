"""Alertmanager's webhook: authenticate, parse, dedupe, look, answer.

Alertmanager retries 5xx within a second and nothing else, so what may work a moment later is always a 503.
"""

import functools
import json
import os
import time
from collections.abc import Callable, Mapping
from importlib import import_module
from typing import Any, Protocol

from autoscaler.aws.clock import Context
from autoscaler.model import Trigger
from autoscaler.ports import PortError
from autoscaler.reconcile import Busy
from autoscaler.runtime import App, build
from autoscaler.webhook import Rejected, read_webhook
from handlers import imported

imported()


class Deduplicate(Protocol):
    """Runs the work once for a key; returns its result, and whether that is an earlier run's. Raises PortError."""

    def __call__(self, key: str, context: Context, work: Callable[[], dict[str, Any]]) -> tuple[dict[str, Any], bool]:
        """Run or remember."""
        ...


def handle(app: App, once: Deduplicate, event: Mapping[str, Any], context: Context, *, now_s: int) -> dict[str, Any]:
    """Answer one request of API Gateway (HTTP API, payload version 2)."""
    trigger = Trigger(kind="alert", correlation_id=_request_id(event, context))
    with app.invocation(trigger, context):
        try:
            webhook = read_webhook(event, app.accept_token)
            if webhook.is_watchdog:
                app.telemetry.watchdog()
                return _answer(200, {"action": "none", "reason": "watchdog", "message": "The alert path lives."})
            trigger = Trigger(kind=trigger.kind, correlation_id=trigger.correlation_id, detail=webhook.detail)
            document, repeated = once(webhook.key, context, lambda: app.look(context, trigger, webhook.facts(now_s)))
        except Rejected as rejected:
            app.telemetry.rejected(rejected.status, str(rejected))
            return _answer(rejected.status, {"error": str(rejected)})
        except Busy:
            app.telemetry.told("Another invocation is at work: the webhook will be sent again.", reason="busy")
            return _answer(503, {"error": "Another invocation is at work: send the webhook again."})
        except PortError as error:
            app.telemetry.failed(error)
            # No details: they name resources, and a request whose token could not be checked ends here too.
            return _answer(503, {"error": "A service that is needed did not answer: send the webhook again."})
        if repeated:
            app.telemetry.told("The same webhook was answered a moment ago: nothing was done.", reason="repeated")
        return _answer(200, document)


def _request_id(event: Mapping[str, Any], context: Context) -> str:
    request = event.get("requestContext")
    return str((request.get("requestId") if isinstance(request, Mapping) else "") or context.aws_request_id)


def _answer(status: int, body: Mapping[str, Any]) -> dict[str, Any]:
    headers = {"content-type": "application/json"}
    if status == 401:
        headers["www-authenticate"] = "Bearer"
    return {"statusCode": status, "headers": headers, "body": json.dumps(body)}


@functools.cache
def _app() -> App:
    return build(os.environ)


@functools.cache
def _once() -> Deduplicate:
    """Powertools' idempotency, which brings boto3 with it: loaded for the first webhook that has shown its token."""
    idempotency = import_module("autoscaler.aws.idempotency")
    once: Deduplicate = idempotency.Once(_app().clients.dynamodb(), table=_app().settings.idempotency_table)
    return once


def _deduplicated(key: str, context: Context, work: Callable[[], dict[str, Any]]) -> tuple[dict[str, Any], bool]:
    return _once()(key, context, work)


def handler(event: Mapping[str, Any], context: Context) -> dict[str, Any]:
    """Lambda's entry point; returns the HTTP answer with the decision document as its body."""
    return handle(_app(), _deduplicated, event, context, now_s=int(time.time()))
