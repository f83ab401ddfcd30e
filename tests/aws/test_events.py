"""What EC2's, Health's and SSM's events mean to us; bodies as AWS documents them."""

import time
from typing import Any

import pytest

from autoscaler.aws.clock import ALPHABET, LambdaClock, SortableIds
from autoscaler.aws.events import EventMalformed, Happening, read_event

I1 = "i-1234567890abcdef0"
SPOT = "EC2 Spot Instance Interruption Warning"
STATE = "EC2 Instance State-change Notification"
COMMAND = "EC2 Command Status-change Notification"
HEALTH = "AWS Health Event"


def health(code: str, *entities: str, **fields: str) -> dict[str, Any]:
    return {
        "service": "EC2",
        "eventTypeCode": code,
        "eventTypeCategory": "scheduledChange",
        "statusCode": "upcoming",
        "affectedEntities": [{"entityValue": entity} for entity in entities],
        "startTime": "Sat, 05 Nov 2026 15:09:33 GMT",
    } | fields


def command(status: str, document: str = "our-document") -> dict[str, Any]:
    return {
        "command-id": "e8d3c0e4", "document-name": document, "expire-after": "x", "parameters": "{}",
        "requested-date-time": "x", "status": status,
    }  # fmt: skip


def read(kind: str, detail: Any) -> Happening:
    return read_event({"detail-type": kind, "detail": detail}, document_name="our-document")


def test_the_policys_parameter_is_told_from_others_and_a_label_changes_nothing() -> None:
    def of(name: str, operation: str) -> Happening:
        event = {"detail-type": "Parameter Store Change", "detail": {"name": name, "operation": operation}}
        return read_event(event, document_name="our-document", policy_parameter="/k3s/shop/policy")

    for operation in ("Create", "Update", "Delete"):
        happening = of("/k3s/shop/policy", operation)
        assert (happening.relevant, happening.policy_changed, happening.instance_ids) == (True, True, ())
        assert happening.detail == f"the parameter /k3s/shop/policy has changed ({operation})"
    assert not of("/k3s/shop/policy", "LabelParameterVersion").relevant
    assert not of("/k3s/other/policy", "Update").relevant
    assert not read("Parameter Store Change", {"name": "/k3s/shop/policy", "operation": "Update"}).relevant, (
        "not set up"
    )


RETIRE = "AWS_EC2_INSTANCE_RETIREMENT_SCHEDULED"


@pytest.mark.parametrize(
    ("kind", "detail", "relevant", "notice", "ids"),
    [
        (SPOT, {"instance-id": I1, "instance-action": "terminate"}, True, "interruption", (I1,)),
        ("EC2 Instance Rebalance Recommendation", {"instance-id": I1}, True, "rebalance", (I1,)),
        (STATE, {"instance-id": I1, "state": "terminated"}, True, "", (I1,)),
        (STATE, {"instance-id": I1, "state": "shutting-down"}, True, "", (I1,)),
        (STATE, {"instance-id": I1, "state": "running"}, False, "", (I1,)),
        (STATE, {"instance-id": I1, "state": "stopping"}, False, "", (I1,)),
        (HEALTH, health(RETIRE, I1), True, "retirement", (I1,)),
        (
            HEALTH,
            health("AWS_EC2_PERSISTENT_INSTANCE_RETIREMENT_SCHEDULED", I1, I1, "i-2"),
            True,
            "retirement",
            (I1, "i-2"),
        ),
        (HEALTH, health("AWS_EC2_INSTANCE_STOP_SCHEDULED", I1), True, "retirement", (I1,)),
        (HEALTH, health("AWS_EC2_INSTANCE_REBOOT_MAINTENANCE_SCHEDULED", I1), False, "retirement", (I1,)),
        (HEALTH, health(RETIRE, "vol-1"), False, "retirement", ()),
        (HEALTH, health(RETIRE, I1, statusCode="closed"), False, "retirement", (I1,)),
        (HEALTH, health(RETIRE, I1, eventTypeCategory="issue"), False, "retirement", (I1,)),
        (HEALTH, health(RETIRE, I1, service="RDS"), False, "retirement", (I1,)),
        (COMMAND, command("Success"), True, "", ()),
        (COMMAND, command("Failed"), True, "", ()),
        (COMMAND, command("TimedOut"), True, "", ()),
        (COMMAND, command("InProgress"), False, "", ()),
        (COMMAND, command("Success", "AWS-RunShellScript"), False, "", ()),
        ("Scheduled Event", {}, False, "", ()),
    ],
)
def test_meanings(kind: str, detail: Any, *, relevant: bool, notice: str, ids: tuple[str, ...]) -> None:
    happening = read(kind, detail)
    assert happening.relevant is relevant
    assert happening.instance_ids == ids
    if relevant:
        assert happening.notice_kind == notice
    assert happening.detail


@pytest.mark.parametrize(
    ("kind", "detail"),
    [(SPOT, {}), (SPOT, None), (SPOT, {"instance-id": 7}), (STATE, []), (HEALTH, {"affectedEntities": "i-1"}),
     (COMMAND, {"status": "Success"})],
)  # fmt: skip
def test_events_that_are_not_of_their_form_are_told(kind: str, detail: Any) -> None:
    with pytest.raises(EventMalformed, match=kind):
        read(kind, detail)


def test_ids_sort_by_time_and_are_what_a_client_token_may_be() -> None:
    now = [1_700_000_000.0]
    ids = SortableIds(wall_clock=lambda: now[0])
    made = []
    for _ in range(200):
        made.append(ids.new())
        now[0] += 0.002
    assert made == sorted(made)
    assert len(set(made)) == 200
    assert all(len(name) == 26 and set(name) <= set(ALPHABET) for name in made)
    assert SortableIds(wall_clock=lambda: 0.032, random_bits=lambda _: 33).new() == "00000000100000000000000011"


def test_the_clock_of_an_invocation_waits_and_its_time_goes_down() -> None:
    class Context:
        aws_request_id = ""
        ends_at_s = time.monotonic() + 25.0

        def get_remaining_time_in_millis(self) -> int:
            return round((self.ends_at_s - time.monotonic()) * 1000)

    clock = LambdaClock(Context())
    began_ms, left_s = clock.elapsed_ms(), clock.remaining_s()
    clock.wait(0.05)
    assert clock.elapsed_ms() - began_ms >= 50
    assert clock.remaining_s() <= left_s - 0.05
