"""The last look of each trigger, read from its function's log: a calm look writes nowhere else (docs/decisions/0019).

FilterLogEvents answers in the order of time, the oldest first, and may answer nothing in a page although more follow
(CloudWatch Logs API reference). So short spans are read first, from now into the past, until one holds a line.
"""

import json
from collections.abc import Iterator
from itertools import pairwise
from typing import Any, Final

import msgspec

from autoscaler.aws.clients import Clients
from autoscaler.aws.failures import told_as
from autoscaler.cli.stacks import StackUnavailable
from autoscaler.cli.target import Target
from autoscaler.ports import PortError

SPANS_S: Final = (0, 900, 6 * 3600, 48 * 3600)
"""Bounds of what is read, in seconds before now."""
LONGEST_S: Final = SPANS_S[-1]
TRIGGERS: Final = {"sweep": "sweep", "alert": "alerts", "lifecycle": "lifecycle"}
"""The functions' names, by the `kind` of the trigger that they are."""
LOOKED: Final = '{ ($.decision_id = "*") || ($.reason = "failed") }'
WATCHDOG: Final = '{ $.reason = "watchdog" }'


class LogUnavailable(PortError):
    """CloudWatch Logs could not be asked."""


class Seen(msgspec.Struct, frozen=True, kw_only=True):
    """The newest line of a kind."""

    at_s: int | None = None
    """None: there is none within LONGEST_S, or it is not known."""
    line: dict[str, Any] = {}
    """Its fields; of a look those of the decision document."""
    unknown: str = ""
    """Why nothing is known of it."""

    @property
    def failed(self) -> bool:
        """Whether that invocation ended in an error instead of a decision."""
        return self.line.get("reason") == "failed"


class Looks(msgspec.Struct, frozen=True, kw_only=True):
    """What the logs say."""

    by_trigger: dict[str, Seen]
    watchdog: Seen

    @property
    def newest(self) -> dict[str, Any] | None:
        """The newest decision of them all; None where none is known."""
        decisions = [seen for seen in self.by_trigger.values() if seen.at_s is not None and not seen.failed]
        return max(decisions, key=lambda seen: seen.at_s or 0).line if decisions else None


def read_looks(target: Target, now_s: int) -> Looks:
    """Ask each function's log. What may not be read is unknown, with the reason, and no error."""
    try:
        groups = {kind: f"/aws/lambda/{target.function(name)}" for kind, name in TRIGGERS.items()}
    except StackUnavailable as error:
        unknown = Seen(unknown=str(error))
        return Looks(by_trigger=dict.fromkeys(TRIGGERS, unknown), watchdog=unknown)
    return Looks(
        by_trigger={kind: _of(target, newest(target.clients, group, LOOKED, now_s)) for kind, group in groups.items()},
        watchdog=_of(target, newest(target.clients, groups["alert"], WATCHDOG, now_s)),
    )


def _of(target: Target, seen: Seen) -> Seen:
    """Another cluster's life is none of this one: a stage that was given beside a cluster's own names may be wrong."""
    other = seen.line.get("cluster_id", target.cluster_id)
    if other == target.cluster_id:
        return seen
    return Seen(unknown=f"the stage {target.known_stage} runs the cluster {other}, not {target.cluster_id}")


def newest(clients: Clients, group: str, pattern: str, now_s: int) -> Seen:
    """The newest line of the last two days that the pattern lets through."""
    try:
        for near_s, far_s in pairwise(SPANS_S):
            found = list(_lines(clients, group, pattern, now_s - far_s, now_s - near_s))
            if found:
                at_s, line = max(found, key=lambda one: one[0])
                return Seen(at_s=at_s, line=line)
    except LogUnavailable as error:
        if error.code == "ResourceNotFoundException":
            return Seen(unknown=f"there is no log group {group}: the function never ran, or it is another stage's")
        return Seen(unknown=str(error))
    return Seen()


def _lines(
    clients: Clients, group: str, pattern: str, begin_s: int, end_s: int
) -> Iterator[tuple[int, dict[str, Any]]]:
    with told_as(LogUnavailable, f"read the log {group}"):
        pages = (
            clients.client("logs")
            .get_paginator("filter_log_events")
            .paginate(logGroupName=group, filterPattern=pattern, startTime=begin_s * 1000, endTime=end_s * 1000 + 999)
        )
        for page in pages:
            for event in page.get("events", ()):
                line = _fields(event.get("message", ""))
                # Emulators let lines through that the pattern would not.
                if _wanted(line, pattern):
                    yield event["timestamp"] // 1000, line


def _wanted(line: dict[str, Any], pattern: str) -> bool:
    if pattern == WATCHDOG:
        return line.get("reason") == "watchdog"
    return isinstance(line.get("decision_id"), str) or line.get("reason") == "failed"


def _fields(text: str) -> dict[str, Any]:
    """A line of ours is a JSON object; Lambda's own are none."""
    try:
        read = json.loads(text)
    except ValueError:
        return {}
    return read if isinstance(read, dict) else {}
