"""The question `pods`: how many workers would come were these manifests applied now, which, and at what price.

Nothing is applied. Their pods are put among those that wait, and the look judges as it would: max, cap, pools and all.
"""

from collections import Counter
from typing import Any

import msgspec

from autoscaler.ask.explain_fleet import growth_limits
from autoscaler.ask.lines import row
from autoscaler.ask.looking import NoAnswer, Seen, Service, look
from autoscaler.ask.manifests import BadManifest, Manifests, read_manifests
from autoscaler.ask.next_decision import withheld
from autoscaler.decide.capacity.prices import price_of
from autoscaler.decide.decision import judge
from autoscaler.decide.fleet import some_zone
from autoscaler.decide.scheduling.filters import first_refusal
from autoscaler.decide.scheduling.picture import Picture
from autoscaler.decide.steps import Course
from autoscaler.model import Growth, Snapshot
from autoscaler.policy import Policy


class Arguments(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What would be applied."""

    manifests: list[Any]
    """Kubernetes objects, decoded."""


class NewWorker(msgspec.Struct, frozen=True, kw_only=True):
    """Workers of one kind that would come."""

    count: int
    pool: str
    instance_type: str
    market: str
    zone: str
    """Empty where any will do."""
    usd_per_hour: float | None
    """Of each; None where nobody knows."""


class OnWorkers(msgspec.Struct, frozen=True, kw_only=True):
    """A DaemonSet on the workers that there are."""

    daemon: str
    fits_on: int
    refused_by: dict[str, int]
    """Plugin -> workers."""


def answer(service: Service, arguments: Arguments) -> dict[str, Any]:
    """`workers`: what comes for these pods beyond what would come anyway; `unhelped`: pods that no worker helps."""
    try:
        manifests = read_manifests(arguments.manifests, now_s=service.ports.clock.now_s())
    except BadManifest as error:
        raise NoAnswer(str(error)) from error
    seen = look(service, suppose=_Applied(manifests))
    if not seen.snapshot.cluster_known:
        problem = seen.snapshot.metrics_problems[0] if seen.snapshot.metrics_problems else "the metrics are not whole"
        raise NoAnswer(f"Nothing can be told of these pods now: {problem.rstrip('.')}.")
    anyway = judge(seen.seen, seen.state, _at_once(seen.policy), now_s=seen.now_s, decision_id=seen.decision_id)
    workers = _beyond(seen, anyway)
    titles = {pod.title for one in manifests.workloads for pod in one.pods}
    unhelped = [row(one) for one in dict.fromkeys(seen.course.pods.blocked) if one.subject in titles]
    costs = [one.usd_per_hour for one in workers for _ in range(one.count)]
    known = [usd for usd in costs if usd is not None]
    parts: dict[str, Any] = {
        "workloads": [
            {"title": one.title, "pods": len(one.pods), "left_out": one.left_out} for one in manifests.workloads
        ],
        "passed_over": manifests.passed_over,
        "workers": workers,
        "usd_per_hour": round(sum(known), 6),
        "unknown_prices": len(costs) - len(known),
        "unhelped": unhelped,
        "limits": growth_limits(seen.course, seen.decision.reason, seen.decision.message),
        "daemons": _daemons(seen, manifests),
        "message": seen.decision.message,
        "rules_problem": seen.snapshot.rules_problem,
    }
    told = {"now_s": seen.now_s, "withheld": withheld(seen), "would_ask": list(seen.would_ask)}
    return told | {name: msgspec.to_builtins(part) for name, part in parts.items()}


def _at_once(policy: Policy) -> Policy:
    """Without the time that a pod has to wait: these have only just been thought of."""
    return msgspec.structs.replace(policy, scale_up=msgspec.structs.replace(policy.scale_up, pending_for_s=0))


class _Applied:
    """The cluster with these manifests applied, as a `looking.Supposed`."""

    def __init__(self, manifests: Manifests) -> None:
        self._manifests = manifests

    def policy(self, policy: Policy) -> Policy:
        """They count at once."""
        return _at_once(policy)

    def snapshot(self, snapshot: Snapshot) -> Snapshot:
        """Their pods wait, and a server has told what they ask."""
        workloads = self._manifests.workloads
        waits_since_s = snapshot.metrics_at_s or snapshot.taken_at_s
        pods = tuple(
            msgspec.structs.replace(pod, unschedulable_since_s=waits_since_s) for one in workloads for pod in one.pods
        )
        rules = snapshot.scheduling_rules
        if rules is not None:
            told_at_s = max(snapshot.taken_at_s, waits_since_s)
            told = [(one.daemon, msgspec.structs.replace(one.owner, seen_at_s=told_at_s)) for one in workloads]
            rules = msgspec.structs.replace(
                rules,
                owners=(*rules.owners, *(owner for daemon, owner in told if not daemon)),
                daemons=(*rules.daemons, *(owner for daemon, owner in told if daemon)),
            )
        return msgspec.structs.replace(snapshot, pods=(*snapshot.pods, *pods), scheduling_rules=rules)


def _beyond(seen: Seen, anyway: Course) -> list[NewWorker]:
    """What is launched with these pods and not without them."""
    more = _counted(seen.course.grow.growth)
    more.subtract(_counted(anyway.grow.growth))
    zone = some_zone(seen.course.judged)
    return [
        NewWorker(
            count=count,
            pool=pool,
            instance_type=kind,
            market=market,
            zone=where,
            usd_per_hour=price_of(kind, where or zone, market, seen.policy),
        )
        for (pool, kind, market, where), count in more.items()
        if count > 0
    ]


def _counted(growth: Growth | None) -> Counter[tuple[str, str, str, str]]:
    found: Counter[tuple[str, str, str, str]] = Counter()
    for new in growth.workers if growth is not None else ():
        found[new.pool, new.instance_type, new.market, new.zone] += new.count
    return found


def _daemons(seen: Seen, manifests: Manifests) -> list[OnWorkers]:
    daemons = [one for one in manifests.workloads if one.daemon]
    if not daemons or not seen.snapshot.rooms_known:
        return []
    course, snapshot = seen.course, seen.snapshot
    at_s = snapshot.metrics_at_s or snapshot.taken_at_s
    picture = Picture(snapshot, course.judged, seen.state, course.look.policy, now_s=at_s)
    servers = {node.name for node in snapshot.nodes if node.control_plane}
    nodes = [node for name, node in picture.cluster.nodes.items() if name not in servers]
    found = []
    for one in daemons:
        refused = [first_refusal(one.rules, node, picture.cluster) for node in nodes]
        by = Counter(refusal.plugin.value for refusal in refused if refusal is not None)
        found.append(OnWorkers(daemon=one.title, fits_on=refused.count(None), refused_by=dict(by)))
    return found
