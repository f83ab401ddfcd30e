"""The nodes that are there, in the order in which pods are put on them, found by what is free.

A large cluster is full for most of what waits: who looks for room for one class looks at few nodes, not at all.
"""

from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Sequence
from typing import Final

from autoscaler.decide.scheduling.cluster import Cluster, NodeInfo
from autoscaler.decide.scheduling.placing import Trial, Waiting
from autoscaler.model.rules import PodRules

FEW: Final = 16
"""To sort out so many nodes costs more than to ask the full ones, too."""


class Shelf:
    """Nodes sorted by what was free when it was made. What is put on them since leaves less, so it holds on."""

    def __init__(self, nodes: list[NodeInfo], resource: str, *, emptiest_first: bool) -> None:
        self._nodes, self._resource, self._emptiest_first = nodes, resource, emptiest_first
        free = (node.free.get(resource, 0) for node in nodes)
        self._steps = [-amount for amount in free] if emptiest_first else list(free)

    def that_may_hold(self, rules: PodRules) -> Sequence[NodeInfo]:
        """Those that had enough of the resource that it is sorted by: none of the others takes such a pod."""
        asked = dict(rules.requests).get(self._resource, 0)
        if asked <= 0:
            return self._nodes
        if self._emptiest_first:
            return self._nodes[: bisect_right(self._steps, -asked)]
        return self._nodes[bisect_left(self._steps, asked) :]


Shelves = dict[frozenset[str] | None, Shelf]
"""By the nodes that a class may be put on."""


def shelves_of(cluster: Cluster, classes: Sequence[Waiting], *, emptiest_first: bool = False) -> Shelves:
    """The nodes that may take any of these, by the nodes that each may be put on.

    The fullest first as a rule: what is left there is of no use to a large pod.
    """
    least = _least(classes)
    first = least[0][0] if least else ""
    shelves: Shelves = {}
    for on in {group.on for group in classes}:
        named = cluster.nodes.values() if on is None else [cluster.nodes[name] for name in on if name in cluster.nodes]
        nodes = _with_room(named, least)
        nodes.sort(key=lambda node: node.name)
        nodes.sort(key=lambda node: [node.free.get(name, 0) for name, _ in least], reverse=emptiest_first)
        shelves[on] = Shelf(nodes, first, emptiest_first=emptiest_first)
    return shelves


class Opened:
    """The new nodes of a plan in their order; of many, without those that are full for all of its classes."""

    def __init__(self, trial: Trial, classes: Sequence[Waiting]) -> None:
        self._trial, self._least = trial, _least(classes)
        self._nodes: list[NodeInfo] = []
        self._seen = 0

    def with_room(self) -> list[NodeInfo]:
        """As they are now: who is full stays so."""
        new = [node for _, node in self._trial.opened[self._seen :]]
        self._seen += len(new)
        self._nodes = [*self._nodes, *new] if new else self._nodes
        if len(self._nodes) > FEW:
            self._nodes = _with_room(self._nodes, self._least)
        return self._nodes


def _with_room(nodes: Iterable[NodeInfo], least: Sequence[tuple[str, int]]) -> list[NodeInfo]:
    found = [node for node in nodes if node.pods_left > 0]
    for name, value in least:
        if value > 0:
            found = [node for node in found if node.free.get(name, 0) >= value]
    return found


def _least(classes: Sequence[Waiting]) -> list[tuple[str, int]]:
    """What each class asks at least: a node without it is full for all of them."""
    asked = [dict(group.rules.requests) for group in classes]
    return [(name, min(requests.get(name, 0) for requests in asked)) for name in (asked[0] if asked else ())]
