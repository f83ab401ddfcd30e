"""Workers wanted by pods that wait: the scheduler's filters on the cluster as it is and as it could be.

What a launch does not help, although the filters found it right, is judged in disputed.py.
"""

from collections import Counter
from collections.abc import Container, Iterable, Iterator, Mapping, Sequence
from typing import Final

import msgspec

from autoscaler.decide.capacity.pools import rooms
from autoscaler.decide.demand.disputed import judge, outwaited
from autoscaler.decide.demand.held import HeldBack, held_by_pools
from autoscaler.decide.fleet import FleetView
from autoscaler.decide.scheduling.asking import what_comes_first, what_is_known, what_these_need, zones_that_matter
from autoscaler.decide.scheduling.book import families, family
from autoscaler.decide.scheduling.fresh import FreshWorkers, NewRefusal
from autoscaler.decide.scheduling.picture import Picture
from autoscaler.decide.scheduling.placing import Trial, Waiting
from autoscaler.decide.scheduling.sizing import size
from autoscaler.model import Asks, Blocked, NewWorkers, OwnerLaunches, Pod, Snapshot, State, blocked_by
from autoscaler.model.rules import PodRules
from autoscaler.policy import Policy

DISAGREE_AFTER_S: Final = 30
"""A pod unschedulable for longer does not fit, whatever the filters find."""
ENDING_FOR_S: Final = 300
"""So long a pod that is to be spread may wait for the Node of a worker that leaves: its zone counts until then."""
MOST_WORKERS: Final = 1_000
"""So many are wanted at most: what pods ask for is said whole, before any limit of the policy."""
EXPENDABLE_BELOW: Final = -10
"""Pods of a lower priority wait for room and get no worker: the cluster-autoscaler's own default
(`--expendable-pods-priority-cutoff`)."""


class PodDemand(msgspec.Struct, frozen=True, kw_only=True):
    """What waiting pods ask for."""

    waiting: int
    """Unschedulable pods that a worker of ours could help, as far as anybody knows."""
    new_workers: tuple[NewWorkers, ...]
    """Workers to launch: by instance type in the policy's order, what pods bind to one zone by that zone."""
    take_back: tuple[str, ...]
    """Operation ids of removals to undo instead, newest first."""
    for_owners: tuple[str, ...]
    """Owners of the pods that the new workers, or those taken back, are for; as launches are remembered."""
    unhelped: tuple[OwnerLaunches, ...]
    """Records to keep if the launch is made: the filters had found room, the scheduler had not."""
    blocked: tuple[Blocked, ...]
    placed: tuple[Waiting, ...] = ()
    """The pods that run once all of this is done, of those that it was asked for; nothing where that was not judged."""
    asks: Asks = Asks()
    """What has to be seen before any of it is known."""
    distrusted: bool = False
    """Pods wait for which the filters find room and the scheduler does not, and nothing is launched for them now."""

    @property
    def extra(self) -> int:
        """Workers to launch."""
        return sum(new.count for new in self.new_workers)


NO_DEMAND: Final = PodDemand(waiting=0, new_workers=(), take_back=(), for_owners=(), unhelped=(), blocked=())


class _Class(msgspec.Struct, frozen=True):
    """Waiting pods that the scheduler treats alike."""

    rules: PodRules
    pods: tuple[Pod, ...]


def pod_demand(
    snapshot: Snapshot,
    fleet: FleetView,
    state: State,
    policy: Policy,
    *,
    displaced: Sequence[Pod] = (),
    just_joined: Container[str] = (),
) -> PodDemand:
    """Compute the demand of pods that wait, and of `displaced` pods whose machine is being taken away.

    Only for a snapshot whose `cluster_known` holds. `just_joined`: instance ids of workers that this look saw Ready for
    the first time.
    """
    now_s = snapshot.metrics_at_s if snapshot.metrics_at_s is not None else snapshot.taken_at_s
    daemons = [pod for pod in snapshot.pods if _waits(pod) and pod.owner_kind == "DaemonSet"]
    unbound = [pod for pod in snapshot.pods if _waits(pod) and pod.owner_kind != "DaemonSet"]
    blocked = [
        Blocked(subject=pod.title, code="daemonset", text="its node is full; a new worker cannot help")
        for pod in daemons
    ]
    if not _due(unbound, policy, now_s) and not displaced:
        return msgspec.structs.replace(NO_DEMAND, waiting=len(unbound), blocked=tuple(blocked))
    missing = what_comes_first(snapshot)
    if not missing:
        known = what_is_known(snapshot, fleet, state, policy)
        missing = what_these_need(snapshot, policy, known, [*unbound, *displaced], with_zones=True)
    if missing:
        return msgspec.structs.replace(NO_DEMAND, waiting=len(unbound), blocked=tuple(blocked), asks=missing)
    picture = Picture(snapshot, fleet, state, policy, just_joined=just_joined, now_s=now_s, known=known)
    asking = {picture.book.of(pod) for pod in (*unbound, *displaced)}
    fresh = FreshWorkers(
        picture,
        policy.pools,
        zones_that_matter(snapshot, fleet, picture.machines, asking),
        zones_problem=snapshot.zones_problem,
    )
    classes, held = _worth_a_worker(picture, unbound)
    hopeless = {one.rules: why for one in classes if (why := fresh.refusal(one.rules)) is not None and why.lasts}
    blocked += [*held, *_blocked(classes, hopeless)]
    classes = [one for one in classes if one.rules not in hopeless]
    if not _due(_pods_of(classes), policy, now_s) and not displaced:
        return msgspec.structs.replace(NO_DEMAND, waiting=len(_pods_of(classes)), blocked=tuple(blocked))
    judged = _judged(picture, classes, state, now_s)
    blocked += judged.blocked
    wanted = [*judged.wanted, *(Waiting(picture.book.of(pod), 1) for pod in displaced)]
    short = size(wanted, (), picture.cluster, at_most=0).left
    if picture.leaving and (later := _fitting_later(picture, wanted, short, judged.classes, now_s)):
        wanted = list(_less(wanted, later))
        short = size(wanted, (), picture.cluster, at_most=0).left
    back = _taken_back(picture, wanted, short)
    with picture.uncordoned(picture.back[operation_id] for operation_id in back):
        new_workers, left = fresh.for_pods(wanted, at_most=MOST_WORKERS, rooms=rooms(fleet, policy))
    in_vain = {group.rules: why for group in left if (why := fresh.refusal(group.rules)) is not None}
    held_back = held_by_pools(left, fresh, new_workers, fleet, policy)
    stuck = list(_stuck(judged.classes, held_back))
    blocked += stuck
    lost = [one for one in judged.classes if one.rules in in_vain]
    blocked += _blocked(lost, in_vain)
    placed = tuple(_without_held(wanted, in_vain, held_back))
    served = {group.rules for group in short} & {group.rules for group in placed}
    owners = {name for one in judged.classes if one.rules in served for name in families(one.pods, one.rules)}
    return PodDemand(
        waiting=len(_pods_of(judged.classes))
        - len(_pods_of(one for one in lost if not in_vain[one.rules].unsure))
        - len(stuck),
        new_workers=new_workers,
        take_back=back,
        for_owners=tuple(sorted(owners)),
        unhelped=tuple(record for record in judged.records if record.owner in owners),
        blocked=tuple(blocked),
        placed=placed,
        distrusted=judged.distrusted,
    )


def _waits(pod: Pod) -> bool:
    return not pod.node and pod.unschedulable_since_s is not None


def _due(pods: Iterable[Pod], policy: Policy, now_s: int) -> bool:
    since = (pod.unschedulable_since_s for pod in pods)
    return any(now_s - since_s >= policy.scale_up.pending_for_s for since_s in since if since_s is not None)


def _pods_of(classes: Iterable[_Class]) -> list[Pod]:
    return [pod for one in classes for pod in one.pods]


def _stuck(classes: Iterable[_Class], held_back: Mapping[PodRules, HeldBack]) -> Iterator[Blocked]:
    """The pods of each class that its pools have no more workers for: the last ones, as all are alike."""
    left = {rules: held.count for rules, held in held_back.items()}
    for one in classes:
        number = min(left.get(one.rules, 0), len(one.pods))
        for pod in one.pods[len(one.pods) - number :]:
            left[one.rules] -= 1
            yield blocked_by(pod.title, held_back[one.rules].why)


def _without_held(
    wanted: Iterable[Waiting], in_vain: Container[PodRules], held_back: Mapping[PodRules, HeldBack]
) -> Iterator[Waiting]:
    """What runs once all is done."""
    left = _less(wanted, Counter({rules: held.count for rules, held in held_back.items()}))
    return (group for group in left if group.rules not in in_vain)


def _blocked(classes: Iterable[_Class], why: Mapping[PodRules, NewRefusal]) -> list[Blocked]:
    return [blocked_by(pod.title, why[one.rules].why) for one in classes if one.rules in why for pod in one.pods]


def _worth_a_worker(picture: Picture, pods: Sequence[Pod]) -> tuple[list[_Class], list[Blocked]]:
    """Classes of the pods that a worker may be launched for, and why the others wait."""
    blocked: list[Blocked] = []
    classes: dict[PodRules, list[Pod]] = {}
    for pod in pods:
        rules = picture.book.of(pod)
        if rules.priority < EXPENDABLE_BELOW:
            why = f"its priority {rules.priority} is below {EXPENDABLE_BELOW}; it waits for room"
            blocked.append(Blocked(subject=pod.title, code="expendable", text=why))
        elif picture.book.is_nominated(pod):
            blocked.append(Blocked(subject=pod.title, code="nominated", text="the scheduler makes room by preemption"))
        else:
            classes.setdefault(rules, []).append(pod)
    return [_Class(rules, tuple(group)) for rules, group in classes.items()], blocked


class _Judged(msgspec.Struct, frozen=True, kw_only=True):
    """What is asked for once the scheduler's disagreement is heard."""

    classes: list[_Class]
    """Without the pods that no launch is made for now."""
    wanted: list[Waiting]
    records: tuple[OwnerLaunches, ...]
    blocked: list[Blocked]

    @property
    def distrusted(self) -> bool:
        return bool(self.blocked)


def _judged(picture: Picture, classes: Sequence[_Class], state: State, now_s: int) -> _Judged:
    """Split off what the filters would place where the scheduler has had its chance and did not.

    One that launches did not help is judged so too where no room is left by now: other workers would not help it.
    """
    failed = {record.owner: record for record in state.owners if record.unhelped}
    trial = Trial(picture.cluster)
    elsewhere = frozenset(picture.cluster.nodes) - frozenset(picture.settled)
    patient: list[_Class] = []
    disputed: list[_Class] = []
    for one in classes:
        after_s = ENDING_FOR_S if picture.ending and one.rules.spread else DISAGREE_AFTER_S
        old = [pod for pod in one.pods if now_s - (pod.unschedulable_since_s or now_s) > after_s]
        fits = bool(old) and any(trial.fits(one.rules, picture.cluster.nodes[name]) for name in picture.settled)
        doubted = {p.uid for p in old if fits or outwaited(p, failed.get(family(p, one.rules)))}
        patient.append(_Class(one.rules, tuple(pod for pod in one.pods if pod.uid not in doubted)))
        disputed.append(_Class(one.rules, tuple(pod for pod in one.pods if pod.uid in doubted)))
    allowed, refused, records = judge([(p, family(p, one.rules)) for one in disputed for p in one.pods], state, now_s)
    asked = [_Class(one.rules, tuple(pod for pod in one.pods if pod.uid in allowed)) for one in disputed]
    return _Judged(
        classes=[*patient, *asked],
        wanted=[
            *(Waiting(one.rules, len(one.pods)) for one in patient),
            *(Waiting(one.rules, len(one.pods), elsewhere) for one in asked),
        ],
        records=records,
        blocked=[Blocked(subject=pod.title, code="unhelped", text=reason) for pod, reason in refused],
    )


def _fitting_later(
    picture: Picture, wanted: Sequence[Waiting], short: Sequence[Waiting], classes: Iterable[_Class], now_s: int
) -> Counter[PodRules]:
    """Pods to be spread, of those `short` of a place, that find one once the Nodes of who leaves are gone."""
    young: Counter[PodRules] = Counter()
    for one in classes:
        since = (pod.unschedulable_since_s or now_s for pod in one.pods if one.rules.spread)
        young[one.rules] += sum(now_s - since_s <= ENDING_FOR_S for since_s in since)
    now = _counted(short) & young
    if not now:
        return now
    with picture.without(picture.leaving):
        left = size(wanted, (), picture.cluster, at_most=0).left
    return now - _counted(left)


def _counted(groups: Iterable[Waiting]) -> Counter[PodRules]:
    counts: Counter[PodRules] = Counter()
    for group in groups:
        counts[group.rules] += group.count
    return counts


def _less(wanted: Iterable[Waiting], gone: Counter[PodRules]) -> Iterator[Waiting]:
    """Without so many of each."""
    left = gone.copy()
    for group in wanted:
        number = min(left[group.rules], group.count)
        left[group.rules] -= number
        if group.count > number:
            yield msgspec.structs.replace(group, count=group.count - number)


def _taken_back(picture: Picture, wanted: Sequence[Waiting], short: tuple[Waiting, ...]) -> tuple[str, ...]:
    """Removals to undo, the newest first and no more than help, where something is `short` of a place."""
    back: list[str] = []
    for operation_id in picture.back if short else ():
        tried = [*back, operation_id]
        with picture.uncordoned(picture.back[one] for one in tried):
            left = size(wanted, (), picture.cluster, at_most=0).left
        if _number(left) < _number(short):
            back, short = tried, left
        if not short:
            break
    return tuple(back)


def _number(groups: Iterable[Waiting]) -> int:
    return sum(group.count for group in groups)
