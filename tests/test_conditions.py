"""What a person must mend, read from a document; what is not known does not hold, and is no zero either."""

from typing import Any

import pytest

from autoscaler.conditions import CONDITIONS, conditions, in_digits
from autoscaler.model import Mode, ModeSetting
from autoscaler.policy import Policy
from autoscaler.simulator.cluster import SimCluster
from autoscaler.state.memory import TOLERATED_JOIN_FAILURES
from autoscaler.state.modes import set_mode
from autoscaler.state.transitions import MAX_OPEN_OPERATIONS
from tests.handlers.support import DOCUMENT


def waits(count: int | None) -> list[dict[str, Any]]:
    return [{"name": "unschedulable_pods", "value": count}]


def refused(reason: str, count: int | None) -> dict[str, Any]:
    return {"action": "held_back", "reason": reason, "signals": waits(count)}


def blocked(*reasons: str) -> dict[str, Any]:
    return {
        "blocked": [
            {"subject": "x", **dict(zip(("code", "text"), f"{one}: ".split(": ", 1), strict=True))} for one in reasons
        ]
    }


@pytest.mark.parametrize(
    ("change", "holding"),
    [
        pytest.param({}, [], id="nothing"),
        pytest.param(refused("at_max", 4), ["at_max"], id="pods wait at workers.max"),
        pytest.param(refused("at_max", 0), [], id="CPU is high and nobody waits"),
        pytest.param(refused("at_max", None), [], id="nobody knows whether pods wait"),
        pytest.param(refused("at_cost_cap", 4), ["at_max"], id="pods wait at the cost cap"),
        pytest.param(refused("pools_at_max", 4), ["at_max"], id="every pool is full"),
        pytest.param(refused("state_full", 4), [], id="another refusal"),
        pytest.param(refused("at_max", 4) | {"action": "scale_up"}, [], id="some are launched"),
        pytest.param(blocked("young: 3 s", "pool_at_max: pool gpu has a max of 1"), ["at_max"], id="a pool is full"),
        pytest.param(blocked("signal_refused: bad_data"), ["signal_lost"], id="a signal is refused"),
        pytest.param(blocked("signal_unknown: no answer"), ["signal_lost"], id="a signal is unknown"),
        pytest.param(blocked("signals are fine"), [], id="another reason"),
        pytest.param({"policy_problem": "version 2 is refused"}, ["policy_refused"], id="a live change is refused"),
        pytest.param({"failed_launches": TOLERATED_JOIN_FAILURES}, [], id="one launch failed"),
        pytest.param({"failed_launches": TOLERATED_JOIN_FAILURES + 1}, ["failed_launches"], id="launches failed"),
        pytest.param({"failed_launches": None}, [], id="nobody looked"),
        pytest.param({"operations": [{"stuck": False}, {"stuck": True}]}, ["stuck_operation"], id="one is stuck"),
        pytest.param({"operations": [{"stuck": None}]}, [], id="not known whether it is stuck"),
        pytest.param({"operations": [{"stuck": False}] * (MAX_OPEN_OPERATIONS - 1)}, [], id="room for one more"),
        pytest.param({"operations": [{"stuck": False}] * MAX_OPEN_OPERATIONS}, ["operations_limit"], id="the limit"),
    ],
)
def test_a_condition_holds(change: dict[str, Any], holding: list[str]) -> None:
    assert conditions(DOCUMENT | change) == holding


@pytest.mark.parametrize(
    ("status", "holding", "value"),
    [
        ("ok", [], 3_000_000),
        ("partial", [], 1_000_000),
        ("unavailable", ["at_max"], 1_000_010),
        ("not_asked", [], 2_000_000),
        ("", ["stuck_operation"], 2_000_001),
        ("ok", list(CONDITIONS), 3_111_111),
    ],
)
def test_a_look_is_one_number(status: str, holding: list[str], value: int) -> None:
    assert in_digits({"metrics_status": status, "conditions": holding}) == value


def test_a_paused_cluster_is_neither_blind_nor_seen() -> None:
    cluster = SimCluster(Policy(version=1))
    store = cluster.ports().store
    state, version = store.load()
    store.save(set_mode(state, ModeSetting(mode=Mode.PAUSED, set_at_s=0)), version)
    document = cluster.sweep()
    assert (document["metrics_status"], document["conditions"]) == ("not_asked", [])
    assert in_digits(document) == 2_000_000
