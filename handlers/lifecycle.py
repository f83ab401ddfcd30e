"""EC2, Health and SSM events: a machine goes, a node command has ended, or the policy's live changes are others."""

import functools
import os
import time
from collections.abc import Mapping
from typing import Any

from autoscaler.aws.clock import Context
from autoscaler.aws.events import Happening, read_event
from autoscaler.model import Notice, Trigger
from autoscaler.ports import FleetUnavailable
from autoscaler.runtime import App, build
from handlers import imported

imported()


def handle(app: App, event: Mapping[str, Any], context: Context, *, now_s: int) -> dict[str, Any]:
    """Note what the event says of our machines, and look.

    Other machines' events end before Prometheus is asked. A failure is logged and raised: Lambda tries again, then
    sets the event aside.
    """
    trigger = Trigger(kind="lifecycle", correlation_id=str(event.get("id") or context.aws_request_id))
    with app.invocation(trigger, context):
        happening = read_event(
            event,
            document_name=app.settings.node_command_document,
            policy_parameter=app.settings.policy_parameter,
        )
        trigger = Trigger(kind=trigger.kind, correlation_id=trigger.correlation_id, detail=happening.detail)
        if not happening.relevant:
            return app.nothing_done("not_relevant", f"Nothing to do: {happening.detail}.", trigger)
        ours = _ours(app, happening)
        if happening.instance_ids and not ours:
            return app.nothing_done("not_ours", f"Not of this cluster: {happening.detail}.", trigger)
        facts = tuple(
            Notice(kind=happening.notice_kind, subject=instance_id, received_at_s=now_s, due_at_s=happening.due_at_s)
            for instance_id in ours
            if happening.notice_kind
        )
        # The event says only that it changed: what stands there now counts, whatever came first.
        offered = app.offered_policy if happening.policy_changed else None
        return app.look_or_leave(context, trigger, facts, offered)


def _ours(app: App, happening: Happening) -> tuple[str, ...]:
    """Which machines of the event are ours.

    A notice is too short-lived to wait until EC2 answers again: where it cannot be asked, every machine's notice is
    kept, and the core passes over those that turn out to be strangers.
    """
    if not happening.instance_ids:
        return ()
    try:
        return tuple(sorted(app.ours_among(happening.instance_ids)))
    except FleetUnavailable:
        if not happening.notice_kind:
            raise
        return happening.instance_ids


@functools.cache
def _app() -> App:
    return build(os.environ)


def handler(event: Mapping[str, Any], context: Context) -> dict[str, Any]:
    """Lambda's entry point; returns the decision document."""
    return handle(_app(), event, context, now_s=int(time.time()))
