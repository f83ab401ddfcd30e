"""The decision document: the same value is the answer, the log line, the history record and the notification."""

from typing import Any

import msgspec

from autoscaler.model import (
    Action,
    Decision,
    Mode,
    NodeCounts,
    Snapshot,
    State,
    Trigger,
)
from autoscaler.policy import Policy, policy_hash


class Outcome(msgspec.Struct, frozen=True, kw_only=True):
    """What the effects came to, in sentences."""

    events: tuple[str, ...] = ()
    failures: tuple[str, ...] = ()


def decision_document(
    decision: Decision,
    *,
    decision_id: str,
    cluster_id: str,
    trigger: Trigger,
    mode: Mode,
    policy: Policy,
    snapshot: Snapshot | None,
    state: State,
    outcome: Outcome,
) -> dict[str, Any]:
    """Put a decision into words that programs and people read; `duration_ms` and `calls` are filled in at the end."""
    return {
        "decision_id": decision_id,
        "cluster_id": cluster_id,
        "trigger": msgspec.to_builtins(trigger),
        "mode": mode.value,
        "action": decision.action.value,
        "reason": decision.reason,
        "message": f"Observe mode, not done: {decision.message}" if mode is Mode.OBSERVE else decision.message,
        "nodes": msgspec.to_builtins(decision.nodes),
        "signals": msgspec.to_builtins(decision.signals),
        "blocked": msgspec.to_builtins(decision.blocked),
        "events": [*decision.events, *outcome.events],
        "failures": list(outcome.failures),
        "operations": open_operations_in_words(state),
        "metrics_status": snapshot.metrics_status.value if snapshot is not None else "not_asked",
        "metrics_problems": list(snapshot.metrics_problems) if snapshot is not None else [],
        "policy_hash": policy_hash(policy),
        "duration_ms": 0,
        "calls": {},
    }


def open_operations_in_words(state: State) -> list[dict[str, Any]]:
    """What is under way, a row each."""
    launches = [
        {
            "operation_id": launch.operation_id,
            "kind": "launch",
            "phase": "joining" if launch.instance_ids else "requested",
            "reason": launch.reason,
            "since_s": launch.created_at_s,
            "count": launch.request.count,
            "instance_ids": list(launch.instance_ids),
            "node": "",
        }
        for launch in state.launches
    ]
    removals = [
        {
            "operation_id": removal.operation_id,
            "kind": "removal",
            "phase": removal.phase.value,
            "reason": removal.reason,
            "since_s": removal.phase_since_s,
            "count": 1,
            "instance_ids": [removal.instance_id],
            "node": removal.node_name,
        }
        for removal in state.removals
    ]
    return [*launches, *removals]


def paused_decision(policy: Policy, state: State) -> Decision:
    """The decision of a paused cluster: nothing was asked, nothing is known, nothing is done."""
    until_s = state.mode.until_s if state.mode is not None else None
    end = f" until {until_s} (epoch seconds)" if until_s is not None else ""
    return Decision(
        action=Action.NONE,
        reason="paused",
        message=f"Paused{end}: nothing is looked at and nothing is changed. `k3s-autoscaler resume` ends it.",
        nodes=NodeCounts(
            ready=None, joining=0, draining=0, desired=None, min=policy.workers.min, max=policy.workers.max
        ),
        signals=(),
        blocked=(),
        events=(),
        growth=None,
        state=state,
    )
