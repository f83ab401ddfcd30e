"""The question `reach`: what the function itself reaches, and what of it fits together. It judges nothing.

Every dependency is asked by the cheapest call that a look makes, one after the other, so that each has a time of its
own; one that does not answer keeps no other from being asked.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final, TypeVar

import msgspec

from autoscaler.ask.looking import Service
from autoscaler.ask.readonly import read_only
from autoscaler.live_policy import in_force
from autoscaler.model import Sample, Snapshot, State
from autoscaler.observe.query import about_query, sight_query
from autoscaler.observe.samples import sort_samples
from autoscaler.observe.snapshot import assemble
from autoscaler.policy import Policy, policy_hash
from autoscaler.ports import Clock, PortError
from autoscaler.state.modes import begun, effective_mode

T = TypeVar("T")
NO_COMMAND: Final = "00000000-0000-0000-0000-000000000000"
NO_SERVER: Final = "i-00000000000000000"
"""Nobody's: SSM says that it knows no such command, which only somebody who may ask is told."""


class Arguments(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """None."""


class Reached(msgspec.Struct, frozen=True, kw_only=True):
    """How one call went."""

    what: str
    call: str
    """As its service names it."""
    ms: int
    problem: str = ""
    """Why it did not go; empty where it did."""
    code: str = ""
    """The service's own word for that, if it gave one."""


def answer(service: Service, _arguments: Arguments) -> dict[str, Any]:
    """`reached`: each call; `policy`: what holds; `metrics`: whether Prometheus shows enough, and of which rules."""
    ports, calls = read_only(service.ports), _Calls(service.ports.clock)
    loaded = calls.make("DynamoDB", "GetItem", ports.store.load)
    calls.make("DynamoDB, the scheduler's rules", "GetItem", ports.store.rules)
    rows = calls.make("EC2", "DescribeInstances", ports.fleet.describe)
    calls.make("EC2, launch templates and subnets", "DescribeLaunchTemplates", ports.fleet.launch_context)
    calls.make("SSM", "GetCommandInvocation", lambda: ports.commands.result(NO_COMMAND, NO_SERVER))
    now_s = ports.clock.now_s()
    state, version = loaded if loaded is not None else (State(), 0)
    holds = in_force(service.policy, state.policy_override)
    sight = calls.make("Prometheus", "/api/v1/query", lambda: ports.metrics.query(sight_query(holds.policy)))
    about = calls.make("Prometheus, its rules", "/api/v1/query", lambda: ports.metrics.query(about_query(holds.policy)))
    mode = effective_mode(begun(state, version, service.start_mode, now_s), holds.policy, now_s)
    return {
        "cluster_id": service.cluster_id,
        "now_s": now_s,
        "mode": str(mode) if loaded is not None else None,
        "reached": msgspec.to_builtins(calls.made),
        "policy": {
            "deployed_hash": policy_hash(service.policy),
            "hash": policy_hash(holds.policy),
            "version": holds.version,
            "problem": holds.problem,
            "deployed": msgspec.to_builtins(service.policy),
            "in_force": msgspec.to_builtins(holds.policy),
        },
        "metrics": _metrics(sight, rows, state=state, cluster_id=service.cluster_id, policy=holds.policy, now_s=now_s),
        "rules": _rules(about),
        "kubelets": _kubelets(about),
    }


class _Calls:
    """Calls, each with its time; a failed one gives None."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self.made: list[Reached] = []

    def make(self, what: str, call: str, ask: Callable[[], T]) -> T | None:
        began_ms = self._clock.elapsed_ms()
        found, problem, code = None, "", ""
        try:
            found = ask()
        except PortError as error:
            problem, code = str(error), error.code
        ms = self._clock.elapsed_ms() - began_ms
        self.made.append(Reached(what=what, call=call, ms=ms, problem=problem, code=code))
        return found


def _metrics(
    sight: Sequence[Sample] | None,
    rows: Sequence[Mapping[str, Any]] | None,
    *,
    state: State,
    cluster_id: str,
    policy: Policy,
    now_s: int,
) -> dict[str, Any] | None:
    """As a look holds them against EC2's instances; None where one of the two did not answer."""
    if sight is None or rows is None:
        return None
    seen: Snapshot = assemble(sight, rows, (), state=state, cluster_id=cluster_id, policy=policy, now_s=now_s)
    return {
        "status": str(seen.metrics_status),
        "problems": list(seen.metrics_problems),
        "unshown": [family.sentence for family in seen.unshown],
        "clock_ahead_s": None if seen.metrics_at_s is None else seen.metrics_at_s - now_s,
    }


def _rules(about: Sequence[Sample] | None) -> list[dict[str, Any]] | None:
    """Every mark that rules record, with its age; None where that could not be asked."""
    found = sort_samples(about) if about is not None else None
    if found is None:
        return [] if about is not None else None
    return [
        {
            "group": labels.get("group", ""),
            "interval_s": labels.get("interval_s", ""),
            "rendered": labels.get("rendered", ""),
            "age_s": int(found.at_s - evaluated_s),
        }
        for labels, evaluated_s in found.of("rules")
    ]


def _kubelets(about: Sequence[Sample] | None) -> dict[str, int]:
    found = sort_samples(about) if about is not None else None
    return {} if found is None else {v: int(n) for v, n in found.by("kubelets", "kubelet_version").items()}
