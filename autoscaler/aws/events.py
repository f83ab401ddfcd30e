"""EventBridge events about machines and node commands: what each one means to us.

Sources: EC2 user guide ("Spot Instance interruption notices", "Instance rebalance recommendations", "State change
events"), AWS Health user guide (event schema), Systems Manager user guide ("Amazon EventBridge event examples").
"""

from collections.abc import Mapping
from datetime import datetime
from email.utils import parsedate_to_datetime
from typing import Any, Final

import msgspec

GONE_STATES: Final = frozenset({"shutting-down", "terminated"})
PARAMETER_CHANGES: Final = frozenset({"Create", "Update", "Delete"})
"""Beside them there is an operation for labels, which change no value."""
UNFINISHED: Final = frozenset({"Pending", "InProgress", "Delayed", "Cancelling"})
SPOT_WARNING_S: Final = 120
ENDING_WORDS: Final = ("RETIREMENT", "INSTANCE_STOP", "TERMINATION")
"""Scheduled changes after which the machine is gone or stopped; a reboot is not one."""


class EventMalformed(ValueError):
    """The event is of a kind that we know and not of its form.

    It is raised, and retried in vain, on purpose: it then lies in the dead-letter queue for a person to read.
    """


class Happening(msgspec.Struct, frozen=True, kw_only=True):
    """What an event says."""

    detail: str
    """One clause for the log."""
    instance_ids: tuple[str, ...] = ()
    """Machines that it is about; it matters only if one of them is ours."""
    notice_kind: str = ""
    """The kind of notice that each of ours gets; empty where a look shows everything."""
    due_at_s: int | None = None
    """When it happens; None where the event does not say."""
    policy_changed: bool = False
    """The parameter of the policy's live changes has another value, or is gone."""
    relevant: bool = True
    """False for what needs no look, whomever it is about."""


class _Entity(msgspec.Struct, rename="camel"):
    entity_value: str


class _HealthDetail(msgspec.Struct, rename="camel"):
    service: str = ""
    event_type_code: str = ""
    event_type_category: str = ""
    status_code: str = "open"
    start_time: str = ""
    affected_entities: tuple[_Entity, ...] = ()


class _InstanceDetail(msgspec.Struct, rename="kebab"):
    instance_id: str
    state: str = ""


class _CommandDetail(msgspec.Struct, rename="kebab"):
    document_name: str
    command_id: str = ""
    status: str = ""


class _ParameterDetail(msgspec.Struct):
    name: str
    operation: str = ""


def read_event(event: Mapping[str, Any], *, document_name: str, policy_parameter: str | None = None) -> Happening:
    """Say what the event means. Raises EventMalformed."""
    kind = str(event.get("detail-type", ""))
    detail = event.get("detail")
    try:
        happening = _read(kind, detail, document_name, policy_parameter)
    except msgspec.ValidationError as error:
        raise EventMalformed(f"The event {kind!r} is not of its documented form: {error}.") from error
    if happening.notice_kind != "interruption":
        return happening
    return msgspec.structs.replace(happening, due_at_s=_two_minutes_after(event.get("time")))


def _two_minutes_after(sent: object) -> int | None:
    """When a Spot instance is taken: two minutes after the warning (EC2 user guide)."""
    try:
        return int(datetime.fromisoformat(str(sent)).timestamp()) + SPOT_WARNING_S
    except ValueError:
        return None


def _read(kind: str, detail: Any, document_name: str, policy_parameter: str | None) -> Happening:
    match kind:
        case "EC2 Spot Instance Interruption Warning":
            return _about_instance(detail, "is interrupted by EC2", "interruption")
        case "EC2 Instance Rebalance Recommendation":
            return _about_instance(detail, "is at a raised risk of interruption", "rebalance")
        case "EC2 Instance State-change Notification":
            change = msgspec.convert(detail, _InstanceDetail)
            return Happening(
                detail=f"{change.instance_id} is {change.state}",
                instance_ids=(change.instance_id,),
                relevant=change.state in GONE_STATES,
            )
        case "AWS Health Event":
            return _health(msgspec.convert(detail, _HealthDetail))
        case "EC2 Command Status-change Notification" | "EC2 Command Invocation Status-change Notification":
            command = msgspec.convert(detail, _CommandDetail)
            return Happening(
                detail=f"command {command.command_id} is {command.status}",
                relevant=command.document_name == document_name and command.status not in UNFINISHED,
            )
        case "Parameter Store Change":
            parameter = msgspec.convert(detail, _ParameterDetail)
            return Happening(
                detail=f"the parameter {parameter.name} has changed ({parameter.operation})",
                policy_changed=True,
                relevant=parameter.name == policy_parameter and parameter.operation in PARAMETER_CHANGES,
            )
        case _:
            return Happening(detail=f"unknown event {kind!r}"[:200], relevant=False)


def _about_instance(detail: Any, says: str, notice_kind: str) -> Happening:
    instance_id = msgspec.convert(detail, _InstanceDetail).instance_id
    return Happening(detail=f"{instance_id} {says}", instance_ids=(instance_id,), notice_kind=notice_kind)


def _health(health: _HealthDetail) -> Happening:
    instance_ids = tuple(
        sorted({entity.entity_value for entity in health.affected_entities if entity.entity_value.startswith("i-")})
    )
    ends = any(word in health.event_type_code for word in ENDING_WORDS)
    return Happening(
        detail=f"{health.event_type_code or 'health event'} for {', '.join(instance_ids) or 'no instance'}"[:200],
        instance_ids=instance_ids,
        notice_kind="retirement",
        due_at_s=_moment(health.start_time),
        relevant=bool(
            instance_ids
            and ends
            and health.service == "EC2"
            and health.event_type_category == "scheduledChange"
            and health.status_code != "closed"
        ),
    )


def _moment(text: str) -> int | None:
    """Epoch seconds of `Thu, 05 Nov 2026 15:09:33 GMT`, as Health writes times, or of ISO 8601; else None."""
    for read in (parsedate_to_datetime, datetime.fromisoformat):
        try:
            return int(read(text).timestamp())
        except ValueError:
            continue
    return None
