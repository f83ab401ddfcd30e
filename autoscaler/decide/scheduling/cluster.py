"""The nodes and what is on them, counted so that a class of pods is judged without walking over the pods.

Pods come as classes: equal rules, so many on this node. What a filter counts over the whole cluster (pods that an
affinity selects, pods by domain of a spread) it counts once for the class that asks, as a `Watcher`, and is told of
every change since. So a judgement costs look-ups, and a placement what it bears on.
"""

from collections import Counter
from collections.abc import Callable, Hashable, Iterable, Iterator, Mapping, Sequence
from typing import Any, Protocol, TypeVar

import msgspec

from autoscaler.model.rules import HostPort, NodeSpec, Operator, PodRules, Selector

NamespaceLabels = Mapping[str, Mapping[str, str]]
"""Namespace -> its labels. A namespace that is not listed has none."""


class NodeInfo:
    """One node: what it is, and what is left of it. The scheduler's own word for it."""

    __slots__ = ("free", "labels", "name", "pods_left", "ports", "shape", "spec", "whole")

    def __init__(self, spec: NodeSpec) -> None:
        self.spec = spec
        self.name = spec.name
        self.labels: dict[str, str] = dict(spec.labels)
        self.whole: dict[str, int] = dict(spec.allocatable)
        """What there was before any pod was put down here."""
        self.free: dict[str, int] = dict(self.whole)
        """Below zero where more was promised than there is."""
        self.pods_left: int = self.free.pop("pods", 0)
        self.ports: dict[HostPort, int] = {}
        self.shape: Hashable = (spec.taints, spec.unschedulable)
        """All that a filter reads of a node beside its labels and name."""


class Group(msgspec.Struct, frozen=True):
    """Pods of one class on one node."""

    rules: PodRules
    node: NodeInfo
    count: int
    ending: bool = False
    """Being deleted: it still holds its room, its ports and its affinities, but no spread counts it."""


class Watcher(Protocol):
    """What a filter counts for one class."""

    def concerns(self, rules: PodRules) -> bool:
        """Whether a pod of these rules can change what is counted."""
        ...

    def among(self, classes: "Classes") -> Iterable[PodRules]:
        """The classes that it may concern; more than do is slow, fewer is wrong."""
        ...

    def placed(self, group: Group) -> None:
        """These came, or went if their count is below zero."""
        ...


class NodeWatcher(Protocol):
    """What counts nodes one by one."""

    def joined(self, node: NodeInfo) -> None:
        """An empty node came."""
        ...

    def left(self, node: NodeInfo) -> None:
        """An empty node went."""
        ...


class Classes:
    """All classes that were ever placed, found by label, so that a selector is not held against each of them."""

    def __init__(self) -> None:
        self._by_label: dict[tuple[str, str], list[PodRules]] = {}
        self._by_avoided_label: dict[tuple[str, str] | None, list[PodRules]] = {}
        self._all: list[PodRules] = []

    def add(self, rules: PodRules) -> None:
        """A class that was not there yet."""
        self._all.append(rules)
        for label in rules.labels:
            self._by_label.setdefault(label, []).append(rules)
        for term in rules.anti_affinity:
            for handle in handles(term.selector):
                self._by_avoided_label.setdefault(handle, []).append(rules)

    def selected(self, selector: Selector | None) -> Iterator[PodRules]:
        """Those that the selector may select."""
        for label in handles(selector):
            yield from self._all if label is None else self._by_label.get(label, ())

    def avoiding(self, rules: PodRules) -> Iterator[PodRules]:
        """Those whose anti-affinity may select such a pod."""
        for label in (None, *rules.labels):
            yield from self._by_avoided_label.get(label, ())


def handles(selector: Selector | None) -> Sequence[tuple[str, str] | None]:
    """Labels of which a selected pod has one; None if it may have any."""
    if selector is None:
        return ()
    handles = ([(line.key, value) for value in line.values] for line in selector if line.operator is Operator.IN)
    return next(handles, [None])


W = TypeVar("W", bound=Watcher)
_Held = dict[NodeInfo, int]


class Cluster:
    """All nodes with their unfinished pods. Grows and shrinks only through the methods below."""

    def __init__(self, namespaces: NamespaceLabels) -> None:
        self.namespaces = namespaces
        self.nodes: dict[str, NodeInfo] = {}
        self._held: dict[PodRules, tuple[_Held, _Held]] = {}
        self._classes = Classes()
        self._watchers: dict[tuple[object, PodRules], Any] = {}  # what `kind` gives: no type says so of a mapping
        self._concerned: dict[PodRules, list[Watcher]] = {}
        self._told_of_nodes: list[NodeWatcher] = []
        self._domains: dict[str, dict[str, int]] = {}

    def add_node(self, spec: NodeSpec) -> NodeInfo:
        """A node without pods. A name that is taken is a mistake of the caller: ValueError."""
        if spec.name in self.nodes:
            raise ValueError(f"There is a node {spec.name} already.")
        node = self.nodes[spec.name] = NodeInfo(spec)
        self._count(node, 1)
        for watcher in self._told_of_nodes:
            watcher.joined(node)
        return node

    def remove_node(self, node: NodeInfo) -> None:
        """Take a node away, once its pods are."""
        del self.nodes[node.name]
        self._count(node, -1)
        for watcher in self._told_of_nodes:
            watcher.left(node)

    def tell_of_nodes(self, watcher: NodeWatcher) -> None:
        """Of those that are there and of all that come and go."""
        for node in self.nodes.values():
            watcher.joined(node)
        self._told_of_nodes.append(watcher)

    def domains(self, key: str) -> Mapping[str, int]:
        """How many nodes have each value of this label: the same mapping each time, kept up to date."""
        if key not in self._domains:
            self._domains[key] = Counter(node.labels[key] for node in self.nodes.values() if key in node.labels)
        return self._domains[key]

    def _count(self, node: NodeInfo, change: int) -> None:
        for key, values in self._domains.items():
            value = node.labels.get(key)
            if value is not None:
                values[value] = values.get(value, 0) + change
                if not values[value]:
                    del values[value]

    def place(self, rules: PodRules, node: NodeInfo, count: int = 1, *, ending: bool = False) -> None:
        """Put pods of a class on a node whether they fit or not; a count below zero takes them off again."""
        free = node.free
        node.pods_left -= count
        for name, value in rules.requests:
            free[name] = free.get(name, 0) - value * count
        for port in rules.host_ports:
            node.ports[port] = node.ports.get(port, 0) + count
            if not node.ports[port]:
                del node.ports[port]
        known = self._held.get(rules)
        if known is None:
            known = self._held[rules] = ({}, {})
            self._classes.add(rules)
        held = known[ending]
        there = held.get(node, 0) + count
        if there:
            held[node] = there
        else:
            held.pop(node, None)
        watchers = self._concerned.get(rules)
        if watchers is None:
            watchers = self._concerned[rules] = [w for w in self._watchers.values() if w.concerns(rules)]
        if watchers:
            group = Group(rules, node, count, ending)
            for watcher in watchers:
                watcher.placed(group)

    def groups_of(self, rules: PodRules) -> Iterator[Group]:
        """The pods of one class."""
        for ending in (False, True):
            for node, count in self._held[rules][ending].items():
                yield Group(rules, node, count, ending)

    def watcher(self, kind: "Callable[[PodRules, Cluster], W]", rules: PodRules) -> W:
        """What this kind of filter counts for this class: made at the first question, kept up to date since."""
        known: W | None = self._watchers.get((kind, rules))
        if known is not None:
            return known
        fresh = kind(rules, self)
        for placed in dict.fromkeys(fresh.among(self._classes)):
            if fresh.concerns(placed):
                for group in self.groups_of(placed):
                    fresh.placed(group)
                if placed in self._concerned:
                    self._concerned[placed].append(fresh)
        self._watchers[kind, rules] = fresh
        return fresh
