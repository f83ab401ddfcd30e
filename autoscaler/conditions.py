"""What only a person can mend, read from a decision's document, and the one number that alarms are made of.

CloudWatch bills each metric ($0.30 a month), and each alarm by the metrics in it ($0.10; CloudWatch pricing, "Metrics"
and "Alarms"). So all conditions share one metric with a decimal digit for each, and each alarm takes its own digit out
of it (cloudformation/alarms.yml; tests/service/test_alarms.py holds the two together).
"""

from collections.abc import Mapping
from enum import IntEnum
from typing import Any, Final

from autoscaler.model import Action, MetricsStatus
from autoscaler.state.memory import TOLERATED_JOIN_FAILURES
from autoscaler.state.transitions import MAX_OPEN_OPERATIONS

UNSCHEDULABLE_SIGNAL: Final = "unschedulable_pods"
LIMITS: Final = frozenset({"at_max", "pools_at_max", "at_cost_cap"})
"""Reasons of refusals that only the operator ends: the policy's own limits."""
CONDITIONS: Final = (
    "operations_limit", "failed_launches", "policy_refused", "signal_lost", "at_max", "stuck_operation",
)  # fmt: skip
"""From the first digit to the last. An alarm sees the largest value of its period, so what holds in each look of it is
always seen; what holds in some may hide behind a look in which an earlier one holds. So what lasts comes last."""
WATCHDOG_HEARD: Final = 0
"""Every look's value is larger: the smallest of a period tells of the Watchdog, the largest of looks."""


class Sight(IntEnum):
    """The digit before those of the conditions: of several looks the one that saw most counts."""

    INCOMPLETE = 1
    NOT_ASKED = 2
    COMPLETE = 3


def conditions(document: Mapping[str, Any]) -> list[str]:
    """The names of those that hold, in the order of `CONDITIONS`. What the document does not know does not hold."""
    operations = document.get("operations") or ()
    holding = {
        "operations_limit": len(operations) >= MAX_OPEN_OPERATIONS,
        "failed_launches": (document.get("failed_launches") or 0) > TOLERATED_JOIN_FAILURES,
        "policy_refused": bool(document.get("policy_problem")),
        "signal_lost": bool(_blocked_by(document, "signal_refused", "signal_unknown")),
        "at_max": _waits_at_a_limit(document),
        "stuck_operation": any(operation.get("stuck") for operation in operations),
    }
    return [name for name in CONDITIONS if holding[name]]


def in_digits(document: Mapping[str, Any]) -> int:
    """The document's `metrics_status` and `conditions`: 3000010 saw everything, and pods wait at a limit."""
    status = document.get("metrics_status")
    sight = Sight.NOT_ASKED
    if status in set(MetricsStatus):
        sight = Sight.COMPLETE if status == MetricsStatus.OK else Sight.INCOMPLETE
    holding = document.get("conditions") or ()
    value = int(sight)
    for name in CONDITIONS:
        value = 10 * value + int(name in holding)
    return value


def _waits_at_a_limit(document: Mapping[str, Any]) -> bool:
    """Whether pods wait for a worker that the policy allows no more: `workers.max`, a pool's, or the cost cap."""
    if _blocked_by(document, "pool_at_max"):
        return True
    refused = document.get("action") == Action.HELD_BACK and document.get("reason") in LIMITS
    waiting = {signal.get("name"): signal.get("value") for signal in document.get("signals") or ()}
    return refused and bool(waiting.get(UNSCHEDULABLE_SIGNAL))


def _blocked_by(document: Mapping[str, Any], *codes: str) -> list[Any]:
    """Rows of `blocked` with these codes."""
    return [row for row in document.get("blocked") or () if row["code"] in codes]
