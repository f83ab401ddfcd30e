"""What each pod asks of the scheduler, as far as it is known: the server's word by owner, else what metrics show.

Metrics show requests and node selectors; a pod of which they alone are known may be refused for reasons that nobody
sees (demand/disputed.py says what happens then).
"""

import re
import zlib
from collections.abc import Collection, Iterable, Iterator
from functools import cached_property
from typing import Final

import msgspec

from autoscaler.decide.scheduling.cluster import handles
from autoscaler.decide.scheduling.labels import RealNames, as_labels
from autoscaler.decide.scheduling.matching import selects
from autoscaler.model import OwnerRules, Pod, SchedulingRules
from autoscaler.model.rules import Amounts, BoundClaim, NodeTerm, PodRules, Selector, WaitingClaim

NOMINATED_FOR_S: Final = 120
"""Preemption ends in seconds, or not at all: an older word of it says nothing."""
_SHOWN: Final = frozenset({"cpu", "memory"})
_MADE_ANEW: Final = frozenset({"Job", "Pod"})
"""Owners that come and go with their pods: what is remembered of them is remembered by shape."""
_NEVER_CHANGED: Final = frozenset({"ReplicaSet", "Job"})
"""Owners whose pods ask the same for good: a Deployment's change makes another ReplicaSet, and a Job's template is
immutable (Kubernetes reference, "Deployments" and "Jobs")."""
_HASH: Final = re.compile(r"-[bcdfghjklmnpqrstvwxz2456789]{4,10}$")
"""A pod template's hash; source: apimachinery's rand.SafeEncodeString, whose alphabet has no vowels."""
_NUMBER: Final = re.compile(r"-\d+$")


class Book:
    """The rules of one look's pods."""

    def __init__(self, rules: SchedulingRules | None, names: RealNames, *, at_s: int) -> None:
        self._names = names
        self._by_owner: dict[str, list[OwnerRules]] = {}
        for owner in rules.owners if rules is not None else ():
            self._by_owner.setdefault(owner.owner, []).append(owner)
        self._at_s = at_s
        fresh = rules is not None and at_s - rules.answered_at_s <= NOMINATED_FOR_S
        self._nominated = {word.pod for word in rules.waiting if word.nominated_node} if rules and fresh else set()
        told = (*rules.owners, *rules.daemons) if rules is not None else ()
        self._asked_labels = frozenset(_asked_labels(one.rules for one in told))
        self._of_metrics: dict[tuple[object, ...], PodRules] = {}
        self._corrected: dict[tuple[object, ...], PodRules] = {}
        self._placed: dict[str, OwnerRules | None] = {}
        self._of_pod: dict[int, tuple[Pod, PodRules]] = {}
        """By identity, with the pod, so that it lives as long: to compare pods by value costs more than it saves."""

    def unknown_since_s(self, pod: Pod, *, refresh_s: int) -> int | None:
        """How young an answer has to be that tells what this pod asks; None where what is known holds.

        A claim gets its volume when its pod is first placed, and owners whose template may change under the same name
        tell of a pod only once it is there: of both, an answer from before the pod began to wait knows nothing. What
        waits for a claim is asked about again every `refresh_s`: somebody may make it.
        """
        since_s = pod.unschedulable_since_s or 0
        known = self._told_of(pod)
        if known is None:
            return since_s
        if any(not isinstance(claim, BoundClaim) for claim in known.rules.claims):
            since_s = max(since_s, self._at_s - refresh_s)
        elif pod.owner_kind in _NEVER_CHANGED:
            return None
        since_s = min(since_s, self._at_s)
        return since_s if known.seen_at_s < since_s else None

    def of(self, pod: Pod) -> PodRules:
        """What it asks. Requests are the metrics', which are fresher, but for what they do not show."""
        found = self._of_pod.get(id(pod))
        if found is None:
            found = self._of_pod[id(pod)] = pod, self._look_up(pod)
        return found[1]

    def _look_up(self, pod: Pod) -> PodRules:
        known = self._told_of(pod)
        if known is None:
            return self._as_metrics_show(pod)
        key = (known, pod.requests)
        if key not in self._corrected:
            shown = dict(known.shown or known.rules.requests)
            asked = dict(known.rules.requests)
            asked["cpu"] = asked.get("cpu", 0) + pod.requests.cpu_millicores - shown.get("cpu", 0)
            asked["memory"] = asked.get("memory", 0) + pod.requests.memory_bytes - shown.get("memory", 0)
            requests = _without_nothing(asked)
            self._corrected[key] = self._trimmed(msgspec.structs.replace(known.rules, requests=requests))
        return self._corrected[key]

    def labels_of(self, pod: Pod) -> dict[str, str]:
        """All its labels, as far as they were told."""
        known = self._told_of(pod)
        return dict(known.rules.labels) if known is not None else {}

    def is_nominated(self, pod: Pod) -> bool:
        """Whether the scheduler is making room for it by preemption."""
        return bool(self._nominated) and pod.title in self._nominated

    def companions(self, asking: Collection[PodRules]) -> tuple[str, ...]:
        """Owners whose pods' places bear on where pods of these rules may go, or on what is free there."""
        resources = {name for rules in asking for name, _ in rules.requests} - _SHOWN
        ports = any(rules.host_ports for rules in asking)
        selectors = dict.fromkeys(selector for rules in asking for selector in _pod_selectors(rules))
        asking_labels = [dict(rules.labels) for rules in asking]
        found = {
            one.owner
            for one in self._standing_out
            if one.shown
            or (ports and one.rules.host_ports)
            or any(name in resources for name, _ in one.rules.requests)
            or any(selects(term.selector, mine) for term in one.rules.anti_affinity for mine in asking_labels)
        }
        for selector in selectors:
            for label in handles(selector):
                candidates = self._told if label is None else self._by_label.get(label, ())
                found.update(one.owner for one in candidates if selects(selector, dict(one.rules.labels)))
        return tuple(sorted(found))

    @cached_property
    def _told(self) -> tuple[OwnerRules, ...]:
        return tuple(one for several in self._by_owner.values() for one in several)

    @cached_property
    def _standing_out(self) -> tuple[OwnerRules, ...]:
        """Owners whose pods may bear on others by more than the room that they take."""
        return tuple(
            one
            for one in self._told
            if one.shown
            or one.rules.host_ports
            or one.rules.anti_affinity
            or any(name not in _SHOWN for name, _ in one.rules.requests)
        )

    @cached_property
    def _by_label(self) -> dict[tuple[str, str], list[OwnerRules]]:
        found: dict[tuple[str, str], list[OwnerRules]] = {}
        for one in self._told:
            for label in one.rules.labels:
                found.setdefault(label, []).append(one)
        return found

    def placed(self, owner: str) -> OwnerRules | None:
        """What the pods of this owner that are on Nodes ask; of several kinds the first."""
        if owner not in self._placed:
            told = self._by_owner.get(owner)
            self._placed[owner] = msgspec.structs.replace(told[0], rules=self._trimmed(told[0].rules)) if told else None
        return self._placed[owner]

    def _told_of(self, pod: Pod) -> OwnerRules | None:
        told = self._by_owner.get(pod.owner)
        if told is None:
            return None
        if len(told) == 1:
            return told[0]
        known = next((one for one in told if pod.name in one.pods), None)
        return known or next((one for one in told if not one.pods), told[-1])

    def _trimmed(self, rules: PodRules) -> PodRules:
        """Without the labels that no pod's rules ask about: pods of a thousand Jobs are one class, not a thousand."""
        labels = tuple(label for label in rules.labels if label[0] in self._asked_labels)
        return msgspec.structs.replace(rules, labels=labels)

    def _as_metrics_show(self, pod: Pod) -> PodRules:
        key = (pod.namespace, pod.requests, pod.node_selector)
        if key not in self._of_metrics:
            self._of_metrics[key] = PodRules(
                namespace=pod.namespace,
                requests=_without_nothing({"cpu": pod.requests.cpu_millicores, "memory": pod.requests.memory_bytes}),
                node_selector=as_labels(self._names.of(pod.node_selector)),
            )
        return self._of_metrics[key]


def family(pod: Pod, rules: PodRules) -> str:
    """Under which name launches for this pod are remembered: its owner's controller, or its shape if it is made anew.

    Jobs and bare pods come under a new name each time: what they ask tells that they are the same.
    """
    if pod.owner_kind in _MADE_ANEW or not pod.owner_kind:
        shape = msgspec.structs.replace(rules, labels=())
        stem = _NUMBER.sub("", pod.owner_name) if _NUMBER.search(pod.owner_name) else ""
        mark = stem or f"#{zlib.crc32(msgspec.json.encode(shape)):08x}"
        return f"{pod.namespace}/{pod.owner_kind or 'Pod'}/{mark}"
    if pod.owner_kind == "ReplicaSet":
        return f"{pod.namespace}/ReplicaSet/{_HASH.sub('', pod.owner_name)}"
    return pod.owner


def families(pods: Iterable[Pod], rules: PodRules) -> set[str]:
    """Those of all these pods, which share their rules; of an owner's many pods one is looked at."""
    one_of_each = {(pod.namespace, pod.owner_kind, pod.owner_name or pod.name): pod for pod in pods}
    return {family(pod, rules) for pod in one_of_each.values()}


def label_keys(rules: PodRules) -> frozenset[str]:
    """Every label of a node that may decide about such a pod."""
    keys = {key for key, _ in rules.node_selector}
    keys |= {line.key for term in _node_terms(rules) for line in term.labels}
    keys |= {
        line.key for claim in rules.claims if isinstance(claim, WaitingClaim) for t in claim.topologies for line in t
    }
    keys |= {key for claim in rules.claims if isinstance(claim, BoundClaim) for key, _ in claim.zones}
    keys |= {term.topology_key for term in rules.affinity + rules.anti_affinity}
    keys |= {constraint.topology_key for constraint in rules.spread}
    return frozenset(keys)


def _node_terms(rules: PodRules) -> Iterator[NodeTerm]:
    yield from rules.node_affinity or ()
    for claim in rules.claims:
        if isinstance(claim, BoundClaim):
            yield from claim.node_affinity or ()
        elif isinstance(claim, WaitingClaim):
            yield from (term for volume in claim.free for term in volume.node_affinity or ())


def _asked_labels(rules: Iterable[PodRules]) -> Iterator[str]:
    """Keys of pod labels that some selector reads."""
    for selector in {selector for one in rules for selector in _pod_selectors(one)}:
        yield from (line.key for line in selector or ())


def _pod_selectors(rules: PodRules) -> Iterator[Selector | None]:
    yield from (term.selector for term in (*rules.affinity, *rules.anti_affinity))
    yield from (constraint.selector for constraint in rules.spread)


def _without_nothing(amounts: dict[str, int]) -> Amounts:
    return tuple(sorted((name, value) for name, value in amounts.items() if value > 0))
