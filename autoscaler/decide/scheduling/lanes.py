"""Pods of one class put on many nodes, one or some at a time, where a pod may change the verdict on its like.

Nodes of the same domains stand in one lane; lanes take turns. Nobody looks at a node before its turn comes, nor again
at one that a spread constraint refuses, until its emptiest domain holds more.
"""

from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from itertools import chain

from autoscaler.decide.scheduling.cluster import Cluster, NodeInfo
from autoscaler.decide.scheduling.filters.inter_pod_affinity import Neighbours
from autoscaler.decide.scheduling.filters.node_ports import node_ports
from autoscaler.decide.scheduling.filters.node_resources_fit import how_many_fit
from autoscaler.decide.scheduling.filters.pod_topology_spread import Spread
from autoscaler.model.rules import HOSTNAME_LABEL, PodRules

Put = Callable[[PodRules, NodeInfo, int], None]
"""Places so many pods of a class on a node, whether they fit or not."""
Accepts = Callable[[NodeInfo], bool]
"""Whether nothing that no placement changes speaks against the node."""


class Lanes:
    """How pods of one class are put down. It holds for any nodes of the cluster, and as long as that lives."""

    def __init__(self, rules: PodRules, cluster: Cluster, accepts: Accepts) -> None:
        self.rules, self.cluster = rules, cluster
        self._accepts = accepts
        keys = _topology_keys(rules)
        self._keys = sorted(keys - {HOSTNAME_LABEL})
        self.alike = HOSTNAME_LABEL not in keys
        """Whether a count that refuses one node of a lane refuses them all."""
        self.singly = bool(rules.spread or rules.anti_affinity or rules.host_ports)
        """Whether a pod may change the verdict on the next one."""
        self.spread = cluster.watcher(Spread, rules) if rules.spread else None
        self.neighbours = cluster.watcher(Neighbours, rules)

    def fill(self, count: int, nodes: Sequence[NodeInfo], put: Put) -> int:
        """Put up to `count` pods on the nodes, tried in this order; returns how many found a place."""
        lanes, left = self._over(nodes), count
        while left and lanes:
            before = left
            for lane in lanes:
                left -= lane.take(self, left, put) if left else 0
            if left == before:
                break
        return count - left

    def _over(self, nodes: Sequence[NodeInfo]) -> list["_Lane"]:
        """Those that have a node, the one with the first first."""
        if not self._keys:
            behind = self._fitting(nodes, range(len(nodes)))
            place = next(behind, None)
            return [] if place is None else [_Lane(nodes, [place], behind)]
        fitting = [self._fitting(nodes, places) for places in _by_domain(nodes, self._keys)]
        first = [(place, behind) for behind in fitting if (place := next(behind, None)) is not None]
        first.sort(key=lambda lane: lane[0])
        return [_Lane(nodes, [place], behind) for place, behind in first]

    def _fitting(self, nodes: Sequence[NodeInfo], places: Sequence[int]) -> Iterator[int]:
        """Where there is room, and nothing against the node that lasts: looked at when its turn comes."""
        rules, accepts = self.rules, self._accepts
        return (place for place in places if how_many_fit(rules, nodes[place]) and accepts(nodes[place]))


class _Lane:
    """Nodes of the same domains, by their places among all. Whose lane it is, is told with each question.

    It keeps no word of it: thousands are made, and a circle of two stays until the garbage collector finds it.
    """

    def __init__(self, nodes: Sequence[NodeInfo], seen: list[int], behind: Iterator[int]) -> None:
        self._nodes = nodes
        self._seen = seen
        """Those that may take a pod although their turn has come; `_behind` them are the others."""
        self._behind = behind
        self._aside: list[int] = []
        """Refused by a spread constraint when the emptiest domains held `_emptiest`."""
        self._emptiest: tuple[int, ...] = ()

    def take(self, lanes: Lanes, count: int, put: Put) -> int:
        """Put pods on the first nodes that take them: one pod, or as many as fit where they do not mind each other."""
        rules, spread, left = lanes.rules, lanes.spread, count
        if self._aside and not self._look_again(spread) and lanes.alike:
            return 0
        seen, again = iter(self._seen), []
        for place in chain(seen, self._behind):
            node = self._nodes[place]
            fit = how_many_fit(rules, node)
            if not fit or (rules.host_ports and node_ports(rules, node, lanes.cluster)):
                continue
            if spread is not None and spread.refuses(node):
                self._aside.append(place)
                self._emptiest = spread.emptiest
                if lanes.alike:
                    break
            elif lanes.neighbours.refuses(node):
                if rules.affinity:  # company may come; what stands against a node by anti-affinity stays
                    again.append(place)
            else:
                portion = 1 if lanes.singly else min(fit, left)
                put(rules, node, portion)
                left -= portion
                if portion < fit:
                    again.append(place)
                if not left or lanes.singly:
                    break
        self._seen = [*again, *seen]
        return count - left

    def _look_again(self, spread: Spread | None) -> bool:
        """Whether those that were set aside may be accepted by now: pods come here and never go."""
        if spread is None or spread.emptiest == self._emptiest:
            return False
        self._seen, self._aside = sorted((*self._seen, *self._aside)), []
        return True


def _topology_keys(rules: PodRules) -> set[str]:
    """Of the counts that may refuse a node now and take it later. Anti-affinity, once it refuses, goes on refusing."""
    return {constraint.topology_key for constraint in rules.spread} | {term.topology_key for term in rules.affinity}


def _by_domain(nodes: Sequence[NodeInfo], keys: Sequence[str]) -> list[list[int]]:
    """The nodes' places, by the domains that they lie in."""
    found: defaultdict[object, list[int]] = defaultdict(list)
    if len(keys) == 1:  # nearly always, and asked of every node for each class
        [key] = keys
        for place, node in enumerate(nodes):
            found[node.labels.get(key)].append(place)
    else:
        for place, node in enumerate(nodes):
            found[tuple([node.labels.get(key) for key in keys])].append(place)
    return [*found.values()]
