"""InterPodAffinity: near the pods that the pod asks for, away from those it avoids, and from those that avoid it.

Source: kube-scheduler 1.36, plugins/interpodaffinity (filtering.go), framework's AffinityTerm.Matches.
"""

from collections.abc import Iterable, Iterator
from typing import Final

import msgspec

from autoscaler.decide.scheduling.cluster import Classes, Cluster, Group, NamespaceLabels, NodeInfo
from autoscaler.decide.scheduling.filters.refusal import YES, Reasons
from autoscaler.decide.scheduling.matching import selects
from autoscaler.model.rules import PodRules, PodTerm


def inter_pod_affinity(rules: PodRules, node: NodeInfo, cluster: Cluster) -> Reasons:
    """Both ways: the pod's own terms, and the anti-affinity of pods that are there."""
    return cluster.watcher(Neighbours, rules).refuses(node)


class _Bearing(msgspec.Struct, frozen=True):
    """On which topology keys a class of placed pods counts for the class that asks."""

    wanted: tuple[str, ...]
    avoided: tuple[str, ...]
    avoiding: tuple[str, ...]

    def __bool__(self) -> bool:
        return bool(self.wanted or self.avoided or self.avoiding)


_NONE: Final = _Bearing((), (), ())


class _Pods:
    """Pods by topology key and value; what is not listed is none."""

    def __init__(self) -> None:
        self.by_key: dict[str, dict[str, int]] = {}

    def add(self, keys: Iterable[str], node: NodeInfo, count: int) -> None:
        """A node without the key counts for nothing."""
        for key in keys:
            value = node.labels.get(key)
            if value is None:
                continue
            values = self.by_key.setdefault(key, {})
            values[value] = values.get(value, 0) + count
            if not values[value]:
                del values[value]
                if not values:
                    del self.by_key[key]

    def near(self, key: str, node: NodeInfo) -> bool:
        """Whether one is in the node's domain."""
        return node.labels.get(key) in self.by_key.get(key, ())


class Neighbours:
    """What one class of pods has to know of all the others."""

    def __init__(self, rules: PodRules, cluster: Cluster) -> None:
        self._rules = rules
        self._namespaces = cluster.namespaces
        self._wanted, self._avoided, self._avoiding = _Pods(), _Pods(), _Pods()
        self._bearings: dict[PodRules, _Bearing] = {}
        self._starts_a_series = self._is_wanted(rules)

    def refuses(self, node: NodeInfo) -> Reasons:
        """The scheduler's order: affinity, anti-affinity, the others' anti-affinity."""
        if self._rules.affinity and not self._has_company(node):
            return ("node(s) didn't match pod affinity rules",)
        if self._avoided.by_key and any(self._avoided.near(t.topology_key, node) for t in self._rules.anti_affinity):
            return ("node(s) didn't match pod anti-affinity rules",)
        if self._avoiding.by_key and any(self._avoiding.near(key, node) for key in self._avoiding.by_key):
            return ("node(s) didn't satisfy existing pods anti-affinity rules",)
        return YES

    @property
    def is_avoided(self) -> bool:
        """Whether any pod that is placed avoids such pods."""
        return bool(self._avoiding.by_key)

    def _has_company(self, node: NodeInfo) -> bool:
        """Every key on the node, and a wanted pod in each domain; or the first of a series that wants its like.

        The exception holds only while no wanted pod is anywhere, on a node that has the key.
        """
        keys = [term.topology_key for term in self._rules.affinity]
        if any(key not in node.labels for key in keys):
            return False
        if all(self._wanted.near(key, node) for key in keys):
            return True
        return not self._wanted.by_key and self._starts_a_series

    def concerns(self, rules: PodRules) -> bool:
        """Whether such a pod is wanted, avoided or avoiding."""
        return bool(self._bearing(rules))

    def among(self, classes: Classes) -> Iterator[PodRules]:
        """Whom its terms may select, and whose terms may select it."""
        for term in (*self._rules.affinity[:1], *self._rules.anti_affinity):
            yield from classes.selected(term.selector)
        yield from classes.avoiding(self._rules)

    def placed(self, group: Group) -> None:
        """Pods on their way out count like all others."""
        bearing = self._bearing(group.rules)
        node, count = group.node, group.count
        if bearing.wanted:
            self._wanted.add(bearing.wanted, node, count)
        if bearing.avoided:
            self._avoided.add(bearing.avoided, node, count)
        if bearing.avoiding:
            self._avoiding.add(bearing.avoiding, node, count)

    def _bearing(self, other: PodRules) -> _Bearing:
        rules = self._rules
        if not (rules.affinity or rules.anti_affinity or other.anti_affinity):
            return _NONE
        known = self._bearings.get(other)
        if known is None:
            known = self._bearings[other] = _Bearing(
                wanted=tuple(term.topology_key for term in rules.affinity) if self._is_wanted(other) else (),
                avoided=tuple(t.topology_key for t in rules.anti_affinity if self._own_term_selects(t, other)),
                avoiding=tuple(
                    t.topology_key for t in other.anti_affinity if _selects(t, other.namespace, rules, self._namespaces)
                ),
            )
        return known

    def _is_wanted(self, other: PodRules) -> bool:
        """One pod must match all terms."""
        terms = self._rules.affinity
        return bool(terms) and all(self._own_term_selects(term, other) for term in terms)

    def _own_term_selects(self, term: PodTerm, other: PodRules) -> bool:
        """As 1.36.2 judges a waiting pod's own term: a namespace selector that no label at all satisfies selects all.

        It unrolls the selector into namespaces but keeps it, and compares it once more, with no labels
        (plugins/interpodaffinity/plugin.go passes the term by value). The documentation says otherwise.
        """
        if selects(term.namespace_selector, {}) and selects(term.selector, dict(other.labels)):
            return True
        return _selects(term, self._rules.namespace, other, self._namespaces)


def _selects(term: PodTerm, own_namespace: str, other: PodRules, namespaces: NamespaceLabels) -> bool:
    """Whether the term of a pod in `own_namespace` selects the other pod: its namespace, then its labels."""
    if not term.namespaces and term.namespace_selector is None:
        in_scope = other.namespace == own_namespace
    else:
        in_scope = other.namespace in term.namespaces or selects(
            term.namespace_selector, namespaces.get(other.namespace, {})
        )
    return in_scope and selects(term.selector, dict(other.labels))
