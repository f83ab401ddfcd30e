"""Why a pod has no place: each worker and each new one that could be launched, with the filter that refuses it."""

from collections.abc import Sequence

import msgspec

from autoscaler.ask.lines import Line, line, row
from autoscaler.decide.capacity.pools import usd_of
from autoscaler.decide.fleet import some_zone
from autoscaler.decide.removal.holds import pod_keeps
from autoscaler.decide.scheduling.asking import what_comes_first, what_is_known, what_these_need, zones_that_matter
from autoscaler.decide.scheduling.cluster import Cluster, NodeInfo
from autoscaler.decide.scheduling.filters import first_refusal
from autoscaler.decide.scheduling.filters.refusal import Plugin
from autoscaler.decide.scheduling.fresh import FreshWorkers
from autoscaler.decide.scheduling.picture import Picture
from autoscaler.decide.scheduling.placing import Template, Trial
from autoscaler.decide.steps import Course
from autoscaler.decide.words import count
from autoscaler.model import Asks, Pod, Snapshot
from autoscaler.model.rules import PodRules, unmodelled

SEARCHED_AT_ONCE = 20
"""Workers whose pods are asked for in one question, as a shrink does."""
MIB = 2**20


class Place(msgspec.Struct, frozen=True, kw_only=True):
    """One worker, there or to be launched, as the filters see it for this pod."""

    name: str
    new: bool
    line: Line | None
    """The filter that refuses it; None where the pod fits."""
    usd_per_hour: float | None = None
    """Of a new one; None where nobody knows."""


class PodAnswer(msgspec.Struct, frozen=True, kw_only=True):
    """What is known of one pod."""

    pod: str
    node: str
    """Where it runs; empty while it waits."""
    waits_s: int | None
    """How long the scheduler has found no node; None for a pod that has one, or is not judged yet."""
    asks_for: str
    rules: str
    """Whether all that the scheduler asks of it is known, and what of it is not modelled."""
    why: tuple[Line, ...]
    """What the decision says of it."""
    places: tuple[Place, ...]
    """Workers first, then what could be launched. None of a pod that runs."""


def find_pod(snapshot: Snapshot, title: str) -> Pod | None:
    """Among those that wait, and those of the Nodes that were looked at."""
    return next((pod for pod in snapshot.pods if pod.title == title), None)


def missing_of(title: str, snapshot: Snapshot, course: Course) -> Asks:
    """What has to be seen: of a pod that waits, all that bears on its places; else the Nodes, some at a time."""
    if not snapshot.cluster_known:
        return Asks()
    if not snapshot.rooms_known:
        return Asks(rooms=True)
    pod = find_pod(snapshot, title)
    if pod is None:
        named = [worker.node.name for worker in course.judged.workers if worker.node is not None]
        unseen = [name for name in named if name not in snapshot.pods_of]
        return Asks(pods_of=tuple(unseen[:SEARCHED_AT_ONCE]))
    if pod.node:
        return Asks()
    missing = what_comes_first(snapshot)
    if missing:
        return missing
    policy = course.look.policy
    known = what_is_known(snapshot, course.judged, course.state, policy)
    return what_these_need(snapshot, policy, known, [pod], with_zones=True)


def explain_pod(course: Course, pod: Pod) -> PodAnswer:
    """Ask every filter about every place."""
    look = course.look
    snapshot, fleet, state, policy = look.snapshot, course.judged, course.state, look.policy
    at_s = snapshot.metrics_at_s or snapshot.taken_at_s
    picture = Picture(snapshot, fleet, state, policy, just_joined=course.were_joining, now_s=at_s)
    rules = picture.book.of(pod)
    since_s = pod.unschedulable_since_s
    places = () if pod.node else (*_there(course, picture, rules), *_new(course, picture, rules))
    return PodAnswer(
        pod=pod.title,
        node=pod.node,
        waits_s=None if since_s is None else max(0, at_s - since_s),
        asks_for=_asks_for(rules),
        rules=_known(rules, snapshot),
        why=_why(course, pod, places, at_s),
        places=places,
    )


def _there(course: Course, picture: Picture, rules: PodRules) -> list[Place]:
    """Workers as they are, the ones that come included."""
    servers = {node.name for node in course.look.snapshot.nodes if node.control_plane}
    nodes = [node for name, node in sorted(picture.cluster.nodes.items()) if name not in servers]
    return [Place(name=node.name, new=False, line=_refusal(rules, node, picture.cluster)) for node in nodes]


def _new(course: Course, picture: Picture, rules: PodRules) -> list[Place]:
    look = course.look
    zones = zones_that_matter(look.snapshot, course.judged, picture.machines, [rules])
    fresh = FreshWorkers(picture, look.policy.pools, zones, zones_problem=look.snapshot.zones_problem)
    some = some_zone(course.judged)
    return [
        _new_place(
            template,
            picture.cluster,
            rules,
            usd_of(template.market, template.instance_type, template.zone or some, look.policy),
        )
        for template in fresh.offered_to(rules)
    ]


def _new_place(template: Template, cluster: Cluster, rules: PodRules, usd_per_hour: float | None) -> Place:
    trial = Trial(cluster)
    node = trial.open(template)
    refused = _refusal(rules, node, cluster)
    trial.undo()
    return Place(name=template.name, new=True, line=refused, usd_per_hour=usd_per_hour)


def _refusal(rules: PodRules, node: NodeInfo, cluster: Cluster) -> Line | None:
    refused = first_refusal(rules, node, cluster)
    if refused is None:
        return None
    says = "; ".join(refused.reasons)
    if refused.plugin is Plugin.NODE_RESOURCES_FIT:
        short = [(name, asked) for name, asked in rules.requests if asked > max(0, node.free.get(name, 0))]
        detail = ", ".join(f"{_amount(name, max(0, node.free.get(name, 0)))} {name} is free" for name, _ in short)
        says = f"{says} ({detail})" if detail else says
    return line(refused.plugin.value, says, code=refused.plugin.value)


def _why(course: Course, pod: Pod, places: Sequence[Place], at_s: int) -> tuple[Line, ...]:
    """What the decision says of it, and what follows from its places."""
    policy, since_s = course.look.policy, pod.unschedulable_since_s
    if pod.node:
        return (_of_one_that_runs(pod, pod_keeps(pod, policy)),)
    if since_s is None:
        return (
            Line(about="gated", says="the scheduler has not judged it yet", instead="look at its scheduling gates"),
        )
    found = [row(one) for one in course.pods.blocked if one.subject == pod.title]
    left_s = policy.scale_up.pending_for_s - (at_s - since_s)
    if left_s > 0:
        says = f"it has waited {at_s - since_s} s; scale_up.pending_for_s is {policy.scale_up.pending_for_s}"
        found.append(line("too_short", says, code="unschedulable_pods", until_s=at_s + left_s))
    if found:
        return tuple(found)
    room = [place.name for place in places if place.line is None and not place.new]
    if room:
        says = f"{room[0]} would take it: the scheduler places it there, or is held by what is not shown here"
        return (line("room", says, code="unhelped"),)
    if course.grow.growth is not None:
        says = f"a look now would launch {count(course.grow.growth.count, 'worker')} for {course.grow.growth.reason}"
        return (line("launching", says, code=course.grow.growth.reason),)
    if course.grow.limit:
        return (line(course.grow.limit, "a worker is wanted, and may not be launched", code=course.grow.limit),)
    if course.judged.joining:
        return (line("joining", "workers are on the way", code="waiting_for_nodes"),)
    return ()


def _of_one_that_runs(pod: Pod, code: str | None) -> Line:
    if code is None:
        return Line(about="runs", says=f"it runs on {pod.node}, and may be moved", fields=("scale_down.movable",))
    return line("runs", f"it runs on {pod.node}, and keeps that worker: {code}", code=code)


def _asks_for(rules: PodRules) -> str:
    told = [f"{_amount(name, value)} {name}" for name, value in rules.requests]
    return ", ".join(told) or "nothing"


def _amount(name: str, value: int) -> str:
    if name == "cpu":
        return f"{value}m"
    return f"{value // MIB} MiB" if name in {"memory", "ephemeral-storage"} else str(value)


def _known(rules: PodRules, snapshot: Snapshot) -> str:
    if snapshot.rules_problem:
        return snapshot.rules_problem
    beyond = unmodelled(rules)
    return f"the filters do not know all of it: {'; '.join(beyond)}" if beyond else ""
