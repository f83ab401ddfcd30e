"""The decision document: the same value is the answer, the log line, the history record and the notification."""

from collections.abc import Iterable
from typing import Any, Final

import msgspec

from autoscaler.conditions import conditions
from autoscaler.model import (
    Action,
    Blocked,
    Decision,
    LaunchOperation,
    Mode,
    NodeCounts,
    RemovalOperation,
    Snapshot,
    State,
    Trigger,
)
from autoscaler.policy import Policy, policy_hash
from autoscaler.state.backoffs import refused_in_a_row

LAUNCH_SPARE_S: Final = 900
"""Beyond the policy's time to join: a launch is sent again for 600 s, and an id that vanishes is waited for 300 s."""
REMOVAL_SPARE_S: Final = 300
"""Beyond the policy's time to drain: a phase that lasts longer is stuck (decide's STUCK_AFTER_S; a test compares)."""
ROWS_OF_A_KIND: Final = 3
OTHERS_NAMED: Final = 5
"""Bounds of `blocked`, for one kind of reason."""
FAILED_LAUNCHES_KEPT_S: Final = 3600
"""After their back-off has ended. A calm look writes nothing, so the state may keep them longer (a test compares)."""


class Outcome(msgspec.Struct, frozen=True, kw_only=True):
    """What the effects came to, in sentences."""

    done: tuple[str, ...] = ()
    failures: tuple[str, ...] = ()
    fresh_failure: bool = False
    """Whether a failure is one that people do not know of yet."""
    in_vain: bool = False
    """Whether all that was begun were launches that gave nothing, for a cause that people know of."""


def with_more(outcome: Outcome, more: Outcome) -> Outcome:
    """Both, the second first: it came before the look."""
    return msgspec.structs.replace(
        outcome, done=(*more.done, *outcome.done), failures=(*more.failures, *outcome.failures)
    )


def blocked_in_words(blocked: Iterable[Blocked]) -> list[dict[str, Any]]:
    """A row for each subject, up to `ROWS_OF_A_KIND` of one code.

    Further ones are `others` of the kind's last row: the next `OTHERS_NAMED` by name, the rest counted. A fleet of
    which nobody may go says much the same of each worker, and a calm look's line must not grow with it.
    """
    kinds: dict[str, list[Blocked]] = {}
    for one in dict.fromkeys(blocked):
        kinds.setdefault(one.code, []).append(one)
    rows: list[dict[str, Any]] = []
    for alike in kinds.values():
        rows += msgspec.to_builtins(alike[:ROWS_OF_A_KIND])
        others = [one.subject for one in alike[ROWS_OF_A_KIND:]]
        if others:
            more = len(others) - OTHERS_NAMED
            rows[-1]["others"] = [*others[:OTHERS_NAMED], *([f"{more} more"] if more > 0 else [])]
    return rows


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
    policy_version: int | None = None,
    policy_problem: str = "",
) -> dict[str, Any]:
    """Put a decision into words that programs and people read; `duration_ms` and `calls` are filled in at the end.

    `policy_version`: of the operator's live changes in `policy`; None: there are none.
    """
    now_s = snapshot.taken_at_s if snapshot is not None else None
    document = {
        "decision_id": decision_id,
        "cluster_id": cluster_id,
        "trigger": msgspec.to_builtins(trigger),
        "mode": mode.value,
        "action": decision.action.value,
        "reason": decision.reason,
        "message": f"Observe mode, not done: {decision.message}" if mode is Mode.OBSERVE else decision.message,
        "nodes": msgspec.to_builtins(decision.nodes),
        "schedules": msgspec.to_builtins(decision.schedules),
        "cost": msgspec.to_builtins(decision.cost),
        "signals": msgspec.to_builtins(decision.signals),
        "forecast": msgspec.to_builtins(decision.foreseen),
        "blocked": blocked_in_words(decision.blocked),
        "done": [*decision.done, *outcome.done],
        "failures": list(outcome.failures),
        "operations": open_operations_in_words(state, policy, now_s=now_s),
        "failed_launches": _failed_launches(state, now_s),
        "replacement": _replacement(state, now_s),
        "metrics_status": snapshot.metrics_status.value if snapshot is not None else "not_asked",
        "metrics_problems": list(snapshot.metrics_problems) if snapshot is not None else [],
        "metrics_unshown": [family.sentence for family in snapshot.unshown] if snapshot is not None else [],
        **rules_in_words(snapshot),
        "policy_hash": policy_hash(policy),
        "policy_version": policy_version,
        "policy_problem": policy_problem,
        "duration_ms": 0,
        "calls": {},
    }
    return document | {"conditions": conditions(document)}


def rules_in_words(snapshot: Snapshot | None) -> dict[str, Any]:
    """Whether the decision needed what the scheduler asks of pods, and how far it had it."""
    rules = snapshot.scheduling_rules if snapshot is not None else None
    problem = snapshot.rules_problem if snapshot is not None else ""
    told = {"rules": "unknown" if problem else "known" if rules is not None else "not_asked", "rules_problem": problem}
    if snapshot is None or rules is None or not rules.answered_at_s:
        return told | {"rules_age_s": None, "rules_left_out": 0, "rules_malformed": 0, "rules_incomplete": ""}
    return told | {
        "rules_age_s": max(0, snapshot.taken_at_s - rules.answered_at_s),
        "rules_left_out": rules.left_out,
        "rules_malformed": len(rules.malformed),
        "rules_incomplete": ", ".join(rules.incomplete),
    }


def open_operations_in_words(state: State, policy: Policy, *, now_s: int | None) -> list[dict[str, Any]]:
    """What is under way, a row each. `now_s` None: nobody looked, so how old and whether stuck is not known."""
    return [
        *(_launch(row, policy, now_s) for row in state.launches),
        *(_removal(row, policy, now_s) for row in state.removals),
    ]


def _launch(launch: LaunchOperation, policy: Policy, now_s: int | None) -> dict[str, Any]:
    return {
        "operation_id": launch.operation_id,
        "kind": "launch",
        "phase": "joining" if launch.instance_ids else "requested",
        "reason": launch.reason,
        "since_s": launch.created_at_s,
        **_age(launch.created_at_s, now_s, allowed_s=policy.workers.join_timeout_s + LAUNCH_SPARE_S),
        "pool": launch.request.pool,
        "count": launch.request.count,
        "market": launch.request.market,
        "instance_ids": list(launch.instance_ids),
        "node": "",
    }


def _removal(removal: RemovalOperation, policy: Policy, now_s: int | None) -> dict[str, Any]:
    return {
        "operation_id": removal.operation_id,
        "kind": "removal",
        "phase": removal.phase.value,
        "reason": removal.reason,
        "since_s": removal.phase_since_s,
        **_age(removal.phase_since_s, now_s, allowed_s=policy.drain.timeout_s + REMOVAL_SPARE_S),
        "count": 1,
        "instance_ids": [removal.instance_id],
        "node": removal.node_name,
    }


def _age(since_s: int, now_s: int | None, *, allowed_s: int) -> dict[str, Any]:
    """Seconds in the present phase, and whether that is longer than the policy explains."""
    if now_s is None:
        return {"age_s": None, "stuck": None}
    age_s = max(0, now_s - since_s)  # clocks of two invocations may differ by a little
    return {"age_s": age_s, "stuck": age_s > allowed_s}


def _failed_launches(state: State, now_s: int | None) -> int | None:
    """Launches in a row of which no worker joined, or that EC2 refuses for good; None where nobody looked."""
    if now_s is None:
        return None
    failed = state.join_failures
    joined_not = failed.failures if failed is not None and now_s <= failed.until_s + FAILED_LAUNCHES_KEPT_S else 0
    return max(joined_not, refused_in_a_row(state, now_s, kept_s=FAILED_LAUNCHES_KEPT_S))


def _replacement(state: State, now_s: int | None) -> dict[str, Any] | None:
    """The worker that is being replaced, and what is remembered of those that came to nothing; None: neither."""
    current, failed = state.replacement, state.replacement_failed
    if current is None and failed is None:
        return None
    return {
        "instance_id": current.instance_id if current is not None else "",
        "reason": current.reason if current is not None else "",
        "cause": current.cause if current is not None else "",
        "drains": current is not None and current.drains,
        "age_s": max(0, now_s - current.began_at_s) if current is not None and now_s is not None else None,
        "failures": failed.failures if failed is not None else 0,
        "failed_for": failed.why if failed is not None else "",
    }


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
        done=(),
        growth=None,
        state=state,
    )
