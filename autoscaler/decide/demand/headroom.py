"""Headroom: what is to stay free beside all that runs and waits, and how many workers are missing for that.

Free is counted in requests, as the scheduler does, over all workers that take pods and those that join. Not in whole
empty workers: the scheduler spreads pods, so a new worker does not stay empty, and one more would be launched for ever.
A pod shape is placed like any pod, by the filters.
"""

import math
from collections import Counter
from collections.abc import Container, Iterable, Mapping, Sequence
from typing import Final

import msgspec

from autoscaler.decide.capacity.pools import fillers_room, in_turn, rooms
from autoscaler.decide.demand.held import held_by_pools
from autoscaler.decide.demand.pods import MOST_WORKERS, PodDemand
from autoscaler.decide.fleet import FleetView, Standing
from autoscaler.decide.scheduling.asking import zones_that_matter
from autoscaler.decide.scheduling.cluster import NodeInfo
from autoscaler.decide.scheduling.fresh import FreshWorkers
from autoscaler.decide.scheduling.machines import UNKNOWN_TAINT
from autoscaler.decide.scheduling.matching import HARD
from autoscaler.decide.scheduling.picture import Picture
from autoscaler.decide.scheduling.placing import Template, Trial, Waiting
from autoscaler.decide.scheduling.sizing import may_be_left
from autoscaler.model import Asks, Blocked, NewWorkers, Resources, Snapshot, State, blocked_by
from autoscaler.model.rules import PodRules, Taint, Toleration
from autoscaler.policy import Policy
from autoscaler.pools import WorkerPool
from autoscaler.windows import Headroom, PodShape

SUBJECT: Final = "headroom"
"""Whom sentences about what is passed over are about."""
_COUNTED: Final = ("cpu", "memory")
_MIB: Final = 2**20
_ROUNDING: Final = 1e-9
"""Shares are floats: what is short by less is not."""


class HeadroomDemand(msgspec.Struct, frozen=True, kw_only=True):
    """What headroom asks for beyond the workers that waiting pods ask for."""

    missing: int | None = 0
    """Workers; None where that is not known now."""
    short_of: str = ""
    """What does not stay free, in words."""
    new_workers: tuple[NewWorkers, ...] = ()
    """What to launch where not just any worker helps, those for waiting pods left out."""
    blocked: tuple[Blocked, ...] = ()
    asks: Asks = Asks()


NO_HEADROOM: Final = HeadroomDemand()
_NOT_NOW: Final = HeadroomDemand(missing=None)


def headroom_demand(
    snapshot: Snapshot,
    fleet: FleetView,
    state: State,
    policy: Policy,
    headrooms: Sequence[Headroom],
    *,
    pods: PodDemand,
    just_joined: Container[str] = (),
) -> HeadroomDemand:
    """The largest of what each asks for, within `workers.max`. Only for a snapshot whose `cluster_known` holds.

    What waits comes first: while it is not known where that goes, nor is what stays free beside it.
    """
    if not headrooms:
        return NO_HEADROOM
    if not snapshot.rooms_known:
        return msgspec.structs.replace(_NOT_NOW, asks=Asks(rooms=True))
    if pods.asks or pods.take_back or (pods.waiting and not pods.placed):
        return _NOT_NOW
    tainted = any(w.node is not None and w.node.tainted for w in fleet.having(Standing.READY))
    if tainted and snapshot.scheduling_rules is None and not snapshot.rules_problem:
        return msgspec.structs.replace(_NOT_NOW, asks=Asks(rules=True))
    now_s = snapshot.metrics_at_s if snapshot.metrics_at_s is not None else snapshot.taken_at_s
    picture = Picture(snapshot, fleet, state, policy, just_joined=just_joined, now_s=now_s)
    # Of what lies behind a taint that nobody told nobody knows whether it is free: nor would it of one more like it.
    if any(UNKNOWN_TAINT in node.spec.taints for node in picture.cluster.nodes.values() if not node.spec.unschedulable):
        return _NOT_NOW
    judged = _Judged(snapshot, fleet, policy, picture, pods)
    asked = [one for headroom in headrooms for one in judged.demands(headroom)]
    room = max(0, policy.workers.max - fleet.existing - pods.extra)
    best = _within(room, max(asked, key=lambda one: one.missing or 0), "at_max")
    blocked = dict.fromkeys(row for one in (*asked, best) for row in one.blocked)
    return msgspec.structs.replace(best, blocked=tuple(blocked))


def _within(room: int, demand: HeadroomDemand, code: str) -> HeadroomDemand:
    """No more of it than may come, and what is missing then told."""
    if demand.missing is None or demand.missing <= room:
        return demand
    why = f"{demand.short_of} does not stay free; {demand.missing} more workers are wanted and {room} may come"
    row = Blocked(subject=SUBJECT, code=code, text=why)
    return msgspec.structs.replace(demand, missing=room, blocked=(*demand.blocked, row))


class _Judged:
    """One look's cluster with what waits placed on it."""

    def __init__(self, snapshot: Snapshot, fleet: FleetView, policy: Policy, picture: Picture, pods: PodDemand) -> None:
        zones = zones_that_matter(snapshot, fleet, picture.machines, [group.rules for group in pods.placed])
        self._fresh = FreshWorkers(picture, in_turn(fleet, policy), zones)
        self._rooms = rooms(fleet, policy)
        self._picture, self._pods, self._fleet, self._policy = picture, pods, fleet, policy
        self._sizes = sizes_of(snapshot)
        self._first = self._fresh.templates[0]

    def demands(self, headroom: Headroom) -> list[HeadroomDemand]:
        """What each part of it asks for."""
        found = [self._in_amounts(headroom)]
        if headroom.pod is not None:
            found.append(self._for_shape(headroom.pod))
        return found

    def _in_amounts(self, headroom: Headroom) -> HeadroomDemand:
        cluster, room = self._picture.cluster, _room_of(self._picture, self._first)
        taints = set(self._first.node.taints)
        nodes = [node for node in cluster.nodes.values() if _is_open(node, taints)]
        gone = self._pods.extra
        taken = Counter({name: -gone * room[name] for name in _COUNTED})
        for group in self._pods.placed:
            taken.update({name: amount * group.count for name, amount in group.rules.requests})
        whole = dict(self._first.node.allocatable)
        missing, what = _missing(
            headroom,
            _free(nodes, taken),
            _capacity(nodes, self._sizes, Counter({n: gone * whole[n] for n in _COUNTED})),
            room=room,
            whole=whole,
        )
        if missing is None:
            why = f"a new worker ({self._first.instance_type}) has too little left for pods"
            row = Blocked(subject=SUBJECT, code="unattainable", text=why)
            return msgspec.structs.replace(NO_HEADROOM, blocked=(row,))
        demand = HeadroomDemand(missing=missing, short_of=what)
        may_come = fillers_room(self._fleet, self._policy, self._pods.new_workers)
        return demand if may_come is None else _within(may_come, demand, "pools_at_max")

    def _for_shape(self, shape: PodShape) -> HeadroomDemand:
        rules = _rules_of(shape, self._first)
        wanted = [*self._pods.placed, Waiting(rules, shape.count)]
        workers, left = self._fresh.for_pods(wanted, at_most=MOST_WORKERS, rooms=self._rooms)
        refusal = self._fresh.refusal(rules)
        blocked: tuple[Blocked, ...] = ()
        if refusal is not None and any(group.rules == rules for group in left):
            blocked = (blocked_by(SUBJECT, refusal.why),)
        held = held_by_pools(left, self._fresh, workers, self._fleet, self._policy).get(rules)
        if held is not None:
            why = f"{_in_words(shape)} does not stay free; {held.why.text}"
            blocked = (*blocked, Blocked(subject=SUBJECT, code=held.why.code, text=why))
        beyond = Counter({new.kind: new.count for new in workers})
        beyond -= Counter({new.kind: new.count for new in self._pods.new_workers})
        return HeadroomDemand(
            missing=max(0, sum(new.count for new in workers) - self._pods.extra),
            short_of=_in_words(shape),
            new_workers=tuple(kind.times(n) for kind, n in beyond.items()),
            blocked=blocked,
        )


def lost_on(
    headroom: Headroom,
    picture: Picture,
    pools: Sequence[WorkerPool],
    sizes: Mapping[str, Resources],
    *,
    moved: Sequence[Waiting],
    on: frozenset[str],
) -> str | None:
    """What of it would not stay free on the workers `on` with the `moved` pods there too; None where all would.

    By the same measure as growth's, or the removal would call for a launch. `pools`: all of them, in the turn of
    capacity/pools.py.
    """
    first = picture.templates(pools[0], pools[0].instance_types[0], ())[0]
    room, whole = _room_of(picture, first), dict(first.node.allocatable)
    nodes = [picture.cluster.nodes[name] for name in sorted(on) if name in picture.cluster.nodes]
    taken: Counter[str] = Counter()
    for group in moved:
        taken.update({name: amount * group.count for name, amount in group.rules.requests})
    missing, what = _missing(headroom, _free(nodes, taken), _capacity(nodes, sizes, Counter()), room=room, whole=whole)
    if missing:
        return what
    if headroom.pod is None:
        return None
    rules = _rules_of(headroom.pod, first)
    left = may_be_left([*moved, Waiting(rules, headroom.pod.count)], picture.cluster, on)
    fresh = FreshWorkers(picture, pools, ())
    # Whatever is left over, wherever the scheduler puts what moves. A shape that no worker of ours can hold keeps none.
    return _in_words(headroom.pod) if left and fresh.refusal(rules) is None else None


def sizes_of(snapshot: Snapshot) -> dict[str, Resources]:
    """What each Node gives to pods and DaemonSets, as far as it is known."""
    return {node.name: node.allocatable for node in snapshot.nodes if node.allocatable is not None}


def _room_of(picture: Picture, template: Template) -> dict[str, int]:
    """What a fresh worker has left beside its DaemonSets."""
    trial = Trial(picture.cluster)
    room = dict(trial.open(template).free)
    trial.undo()
    return room


def _rules_of(shape: PodShape, template: Template) -> PodRules:
    """A pod of this shape, which puts up with what every worker of ours is tainted with."""
    tolerations = tuple(Toleration(key=taint.key, any_value=True) for taint in template.node.taints)
    requests = (("cpu", shape.cpu_millicores), ("memory", shape.memory_mib * _MIB))
    return PodRules(namespace="", requests=requests, tolerations=tolerations)


def _in_words(shape: PodShape) -> str:
    """The shape for a person."""
    pods = "1 pod" if shape.count == 1 else f"{shape.count} pods"
    return f"room for {pods} of {shape.cpu_millicores / 1000:g} CPU and {shape.memory_mib} MiB"


def _free(nodes: Iterable[NodeInfo], taken: Mapping[str, int]) -> dict[str, int]:
    """What is free on them altogether, less what is taken; on none less than nothing."""
    there = list(nodes)
    return {name: sum(max(0, node.free.get(name, 0)) for node in there) - taken.get(name, 0) for name in _COUNTED}


def _capacity(nodes: Iterable[NodeInfo], sizes: Mapping[str, Resources], more: Mapping[str, int]) -> dict[str, int]:
    """What they give altogether; a worker that joins has no Node yet, and all of it is in its spec."""
    total = Counter(more)
    for node in nodes:
        size_of = sizes.get(node.name)
        spec = dict(node.spec.allocatable)
        total["cpu"] += spec.get("cpu", 0) if size_of is None else size_of.cpu_millicores
        total["memory"] += spec.get("memory", 0) if size_of is None else size_of.memory_bytes
    return {name: total[name] for name in _COUNTED}


def _missing(
    headroom: Headroom,
    free: Mapping[str, int],
    capacity: Mapping[str, int],
    *,
    room: Mapping[str, int],
    whole: Mapping[str, int],
) -> tuple[int | None, str]:
    """How many fresh workers are missing for its workers and its percent, and which of the two wants more.

    A fresh one brings `room`, and `whole` to the capacity. None where not even more of them would ever do.
    """
    found: list[tuple[int | None, str]] = [(0, "")]
    if headroom.workers:
        what = f"the room of {headroom.workers} new worker{'' if headroom.workers == 1 else 's'}"
        found.append((_times({n: headroom.workers * room[n] - free[n] for n in _COUNTED}, room), what))
    if headroom.percent:
        share = headroom.percent / 100
        brings = {name: room[name] - share * whole[name] for name in _COUNTED}
        short = {name: share * capacity[name] - free[name] for name in _COUNTED}
        found.append((_times(short, brings), f"{headroom.percent} % of the workers' CPU and memory"))
    return max(found, key=lambda one: math.inf if one[0] is None else one[0])


def _times(short: Mapping[str, float], each: Mapping[str, float]) -> int | None:
    """How often `each` makes up for what is short."""
    if any(short[name] > 0 >= each[name] for name in _COUNTED):
        return None
    return max(math.ceil(short[name] / each[name] - _ROUNDING) if short[name] > 0 else 0 for name in _COUNTED)


def _is_open(node: NodeInfo, tolerated: Container[Taint]) -> bool:
    return not node.spec.unschedulable and all(t in tolerated for t in node.spec.taints if t.effect in HARD)
