"""What `status` knows, as plain values: pure. The tables (shown.py) and --json say the same."""

from collections.abc import Iterable, Iterator, Mapping
from typing import Any, Final

import msgspec

from autoscaler.cli.stacks import POLICY_OUTPUT
from autoscaler.cli.status.looks import Looks, Seen
from autoscaler.cli.status.verdict import Verdict, rate_s, verdict
from autoscaler.cli.times import utc
from autoscaler.decide.removal.holds import cool_down_left_s
from autoscaler.document import open_operations_in_words
from autoscaler.live_policy import in_force
from autoscaler.model import State
from autoscaler.policy import Policy, policy_hash
from autoscaler.state.backoffs import LAUNCH_PATH
from autoscaler.state.modes import operators_mode

HOURS_A_MONTH: Final = 730
VERSION_OUTPUT: Final = "DeployedVersion"
RATE_OUTPUT: Final = "SweepRate"


class Gathered(msgspec.Struct, frozen=True, kw_only=True):
    """All that was asked for, before anything is made of it."""

    cluster_id: str
    now_s: int
    state: State
    stored: bool
    """Whether a state exists at all."""
    decisions: list[dict[str, Any]]
    """The last ones of the history."""
    looks: Looks
    outputs: Mapping[str, str] = {}
    """Of the stack; empty where it was not asked."""
    policy: Policy | None = None
    """The policy file that lies here; None where there is none."""

    @property
    def newest(self) -> dict[str, Any]:
        """The newest look's decision; empty where none is known."""
        return self.looks.newest or {}

    @property
    def deployed_policy(self) -> Policy | None:
        """What holds now, live changes included, if the file here is shown to be what is deployed."""
        if self.policy is None:
            return None
        holds = in_force(self.policy, self.state.policy_override).policy
        told = self.newest.get("policy_hash") or self.outputs.get(POLICY_OUTPUT)
        return holds if told in {policy_hash(holds), policy_hash(self.policy)} else None

    @property
    def operations(self) -> list[dict[str, Any]]:
        """What is under way, with the age of its phase. Whether it is stuck, the policy knows, or the last look."""
        rows = open_operations_in_words(self.state, self.deployed_policy or Policy(version=1), now_s=self.now_s)
        if self.deployed_policy is not None:
            return rows
        told = {(row.get("operation_id"), row.get("phase")): row for row in self.newest.get("operations") or ()}
        return [row | {"stuck": told.get((row["operation_id"], row["phase"]), {}).get("stuck")} for row in rows]

    @property
    def verdict(self) -> Verdict:
        """Whether it is alive."""
        stuck = [f"{row['kind']} {row['operation_id']}" for row in self.operations if row["stuck"]]
        return verdict(
            self.looks, now_s=self.now_s, sweep_rate_s=rate_s(self.outputs.get(RATE_OUTPUT, "")), stuck=stuck
        )

    @property
    def mode(self) -> str | None:
        """Who may act; None where only the policy says, and it is not here."""
        own = operators_mode(self.state.mode, self.now_s)
        return str(own) if own else str(self.policy.mode) if self.policy is not None else None

    @property
    def cost(self) -> dict[str, Any] | None:
        """What the workers cost an hour, as the newest decision that looked saw it (docs/policy/cost.md)."""
        return cost_of((self.newest, *self.decisions))

    @property
    def waits(self) -> list[dict[str, Any]]:
        """What is held back by time alone, and for how long still."""
        return list(_waits(self))


def cost_of(decisions: Iterable[Mapping[str, Any]]) -> dict[str, Any] | None:
    """The first cost that is told: a month is 730 hours of the same."""
    for decision in decisions:
        cost = decision.get("cost")
        hourly = cost.get("usd_per_hour") if isinstance(cost, Mapping) else None
        if isinstance(hourly, int | float):  # else nobody looked, or it is older than that field
            told = decision.get("decided_at") or decision.get("timestamp") or ""
            return {**decision["cost"], "usd_per_month": round(hourly * HOURS_A_MONTH, 2), "told_at": told}
    return None


def _waits(gathered: Gathered) -> Iterator[dict[str, Any]]:
    state, now_s = gathered.state, gathered.now_s
    policy = gathered.deployed_policy
    left_s = cool_down_left_s(state, policy, now_s) if policy is not None else None
    yield {"name": "cool-down", "holds": "removals", "why": "the last launch or undone removal", "left_s": left_s}
    failed = state.join_failures
    if failed is not None and failed.until_s > now_s:
        why = f"{failed.failures} in a row gave no worker that stayed"
        yield {"name": "join back-off", "holds": "launches", "why": why, "left_s": failed.until_s - now_s}
    for one in state.backoffs:
        if one.until_s > now_s and one.pool == LAUNCH_PATH:
            yield {"name": "EC2 back-off", "holds": "launches", "why": one.error_code, "left_s": one.until_s - now_s}


def status_document(gathered: Gathered) -> dict[str, Any]:
    """Everything that `status` knows, for programs."""
    state, newest, judged = gathered.state, gathered.newest, gathered.verdict
    return {
        "cluster_id": gathered.cluster_id,
        "now_s": gathered.now_s,
        "now": utc(gathered.now_s),
        "health": str(judged.health),
        "is_alive": judged.is_alive,
        "because": list(judged.because),
        "last_looks": {
            kind: _seen(seen, gathered.now_s)
            for kind, seen in {**gathered.looks.by_trigger, "watchdog": gathered.looks.watchdog}.items()
        },
        "mode": gathered.mode,
        "mode_setting": msgspec.to_builtins(state.mode),
        "policy_mode": str(gathered.policy.mode) if gathered.policy is not None else None,
        "deployed_version": gathered.outputs.get(VERSION_OUTPUT),
        "policy_hash": newest.get("policy_hash") or gathered.outputs.get(POLICY_OUTPUT),
        "policy_version": newest.get("policy_version"),
        "policy_override": _whole(state.policy_override) if state.policy_override is not None else None,
        "nodes": newest.get("nodes"),
        "metrics_status": newest.get("metrics_status"),
        "cost": gathered.cost,
        "waits": gathered.waits,
        "lease": msgspec.to_builtins(state.lease),
        "fence": state.fence,
        "ready_workers": state.node_count,
        "last_scale_up_s": state.last_scale_up_s,
        "last_scale_down_s": state.last_scale_down_s,
        "operations": [
            _whole(operation) | {"age_s": row["age_s"], "stuck": row["stuck"]}
            for operation, row in zip((*state.launches, *state.removals), gathered.operations, strict=True)
        ],
        "notices": [_whole(notice) for notice in state.notices],
        "backoffs": msgspec.to_builtins(state.backoffs),
        "refusals": msgspec.to_builtins(state.held_workers),
        "zones": [_whole(zone) for zone in state.zones],
        "spot_return": None if state.spot_return is None else _whole(state.spot_return),
        "decisions": gathered.decisions,
    }


def _seen(seen: Seen, now_s: int) -> dict[str, Any]:
    return {
        "at": utc(seen.at_s) if seen.at_s is not None else None,
        "age_s": now_s - seen.at_s if seen.at_s is not None else None,
        "failed": seen.failed,
        "unknown": seen.unknown or None,
    }


def _whole(stored: msgspec.Struct) -> dict[str, Any]:
    """Every field: what is stored leaves defaults out, and programs read this."""
    told: dict[str, Any] = msgspec.to_builtins(stored)
    whole: dict[str, Any] = msgspec.to_builtins(msgspec.structs.asdict(stored))
    return told | whole
