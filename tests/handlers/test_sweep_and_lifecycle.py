"""The scheduled look and the events: when they look, what they bring along, how they fail."""

from collections.abc import Mapping, Sequence
from typing import Any

import pytest
from msgspec.structs import replace

from autoscaler.aws.events import EventMalformed
from autoscaler.model import OfferedPolicy
from autoscaler.ports import FleetUnavailable, StoreUnavailable
from autoscaler.reconcile import Busy
from handlers import lifecycle, sweep
from tests.handlers.support import DOCUMENT, NOW, Desk, FakeContext, desk

OURS, STRANGER = "i-00000000000000001", "i-00000000000000002"


def scheduled() -> dict[str, Any]:
    return {"id": "event-1", "detail-type": "Scheduled Event", "source": "aws.events", "detail": {}}


def event(kind: str, **detail: Any) -> dict[str, Any]:
    return {
        "id": "event-2",
        "detail-type": kind,
        "detail": {name.replace("_", "-"): value for name, value in detail.items()},
    }


def interruption(instance_id: str) -> dict[str, Any]:
    return event("EC2 Spot Instance Interruption Warning", instance_id=instance_id, instance_action="terminate")


def terminated(instance_id: str) -> dict[str, Any]:
    return event("EC2 Instance State-change Notification", instance_id=instance_id, state="terminated")


class Asked:
    """EC2's answer to whose machines these are, and how often it was asked."""

    def __init__(self, error: Exception | None = None) -> None:
        self.error = error
        self.about: list[tuple[str, ...]] = []

    def __call__(self, instance_ids: Sequence[str]) -> frozenset[str]:
        self.about.append(tuple(instance_ids))
        if self.error:
            raise self.error
        return frozenset(instance_ids) & {OURS}


def happen(at: Desk, what: dict[str, Any]) -> dict[str, Any]:
    return lifecycle.handle(at.app, what, FakeContext(), now_s=NOW)


def facts_of(at: Desk) -> list[list[tuple[str, str, int]]]:
    return [[(fact.kind, fact.subject, fact.received_at_s) for fact in facts] for _, facts in at.reconcile.looks]


def test_a_sweep_looks_and_returns_the_document() -> None:
    at = desk()
    assert sweep.handle(at.app, scheduled(), FakeContext()) == DOCUMENT
    ((trigger, facts),) = at.reconcile.looks
    assert (trigger.kind, trigger.correlation_id, facts) == ("sweep", "event-1", ())


def test_a_sweep_that_meets_another_invocation_ends_quietly() -> None:
    at = desk(Busy("held"))
    document = sweep.handle(at.app, scheduled(), FakeContext())
    assert (document["action"], document["reason"], document["cluster_id"]) == ("none", "busy", "demo")
    assert [line["level"] for line in at.told] == ["INFO"]
    assert at.metrics == []


@pytest.mark.parametrize("error", [StoreUnavailable("the table is gone", code="X"), ZeroDivisionError("x")])
def test_a_sweep_that_fails_fails_loudly_after_saying_why(error: Exception) -> None:
    at = desk(error)
    with pytest.raises(type(error)):
        sweep.handle(at.app, scheduled(), FakeContext())
    assert [(line["level"], line["message"], line["correlation_id"]) for line in at.told] == [
        ("ERROR", str(error), "event-1")
    ]
    assert not at.metrics, "nobody looked"


@pytest.mark.parametrize(
    ("what", "facts"),
    [
        (interruption(OURS), [("interruption", OURS, NOW)]),
        (event("EC2 Instance Rebalance Recommendation", instance_id=OURS), [("rebalance", OURS, NOW)]),
        (terminated(OURS), []),
    ],
)
def test_what_happens_to_our_machines_is_noted_and_looked_at(
    what: dict[str, Any], facts: list[tuple[str, str, int]]
) -> None:
    asked = Asked()
    at = desk(ours_among=asked)
    assert happen(at, what) == DOCUMENT
    assert facts_of(at) == [facts]
    assert asked.about == [(OURS,)]
    ((trigger, _),) = at.reconcile.looks
    assert (trigger.kind, trigger.correlation_id) == ("lifecycle", "event-2")
    assert OURS in trigger.detail


def test_a_health_event_notes_only_our_machines_with_one_question() -> None:
    asked = Asked()
    at = desk(ours_among=asked)
    detail = {
        "service": "EC2",
        "eventTypeCode": "AWS_EC2_INSTANCE_RETIREMENT_SCHEDULED",
        "eventTypeCategory": "scheduledChange",
        "affectedEntities": [{"entityValue": STRANGER}, {"entityValue": OURS}],
    }
    happen(at, {"detail-type": "AWS Health Event", "detail": detail})
    assert facts_of(at) == [[("retirement", OURS, NOW)]]
    assert asked.about == [(OURS, STRANGER)]


@pytest.mark.parametrize("what", [interruption(STRANGER), terminated(STRANGER)])
def test_other_machines_events_end_before_a_look(what: dict[str, Any]) -> None:
    at = desk(ours_among=Asked())
    assert happen(at, what)["reason"] == "not_ours"
    assert at.reconcile.looks == []


@pytest.mark.parametrize(
    "what",
    [
        event("EC2 Instance State-change Notification", instance_id=OURS, state="running"),
        event("EC2 Command Status-change Notification", document_name="AWS-RunShellScript", status="Success"),
        event("EC2 Command Status-change Notification", document_name="our-document", status="InProgress"),
        event("Parameter Store Change", name="/k3s/other/policy", operation="Update"),
        event("Parameter Store Change", name="/k3s/demo/policy", operation="LabelParameterVersion"),
        scheduled(),
    ],
)
def test_what_is_not_relevant_asks_nobody(what: dict[str, Any]) -> None:
    asked = Asked()
    at = desk(ours_among=asked)
    assert happen(at, what)["reason"] == "not_relevant"
    assert (at.reconcile.looks, asked.about) == ([], [])


def test_a_finished_node_command_is_a_reason_to_look() -> None:
    asked = Asked()
    at = desk(ours_among=asked)
    happen(at, event("EC2 Command Status-change Notification", document_name="our-document", status="Success"))
    assert (facts_of(at), asked.about) == ([[]], [])


def test_a_live_change_of_the_policy_is_read_and_brought_to_the_look() -> None:
    at = desk()
    happen(at, event("Parameter Store Change", name="/k3s/demo/policy", operation="Update"))
    assert at.reconcile.offered == [OfferedPolicy(text="workers: {max: 12}", version=4, changed_at_s=NOW)]
    happen(at, event("EC2 Command Status-change Notification", document_name="our-document", status="Success"))
    assert at.reconcile.offered[1:] == [None]


def test_a_notice_does_not_wait_for_ec2_but_a_state_change_does() -> None:
    at = desk(ours_among=Asked(FleetUnavailable("down", code="RequestLimitExceeded")))
    happen(at, interruption(OURS))
    assert facts_of(at) == [[("interruption", OURS, NOW)]]
    with pytest.raises(FleetUnavailable):
        happen(at, terminated(OURS))


def test_busy_is_quiet_because_the_notice_is_saved_already() -> None:
    at = desk(Busy("held"), ours_among=Asked())
    assert happen(at, interruption(OURS))["reason"] == "busy"
    assert facts_of(at) == [[("interruption", OURS, NOW)]]


def test_an_event_that_is_not_of_its_form_is_told_and_raised() -> None:
    at = desk()
    with pytest.raises(EventMalformed):
        happen(at, event("EC2 Spot Instance Interruption Warning", instance="i-1"))
    assert at.told[0]["error"] == "EventMalformed"
    assert at.reconcile.looks == []


def test_the_digest_tells_a_day_and_looks_at_nothing() -> None:
    at = desk()
    asked: list[int] = []

    def history(since_s: int) -> list[dict[str, Any]]:
        asked.append(since_s)
        return [{"decided_at": "2023-11-14T20:00:00Z", "action": "scale_up", "reason": "cpu", "mode": "active"}]

    told: list[Mapping[str, Any]] = []

    class Notifier:
        def notify(self, document: Mapping[str, Any]) -> None:
            told.append(document)

    ports = replace(at.app.ports(FakeContext()), notifier=Notifier())
    app = replace(at.app, history=history, ports=lambda _context: ports)
    document = app.digest(FakeContext(), now_s=NOW)
    assert told == [document]
    assert document["digest"]["done"] == {"scale_up": {"cpu": 1}}
    assert asked == [NOW - 2 * 86_400]
    assert at.reconcile.looks == []
    assert at.told[-1]["reason"] == "daily_digest"
    assert at.metrics == []
