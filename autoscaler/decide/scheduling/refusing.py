"""Who refuses a class of pods on many nodes: asked of each worker that may not go, so what is known is kept."""

from collections import Counter
from collections.abc import Collection
from collections.abc import Set as AbstractSet

from autoscaler.decide.scheduling.cluster import Cluster, NodeInfo
from autoscaler.decide.scheduling.filters import BEFORE_NODES, OF_THE_NODE, OF_VOLUMES, first_refusal
from autoscaler.decide.scheduling.filters.node_resources_fit import how_many_fit
from autoscaler.decide.scheduling.filters.refusal import Plugin
from autoscaler.decide.scheduling.placing import Lasting, Trial
from autoscaler.model.rules import PodRules


class Refusing:
    """The first plugin that refuses, as `first_refusal` finds it; for nodes that are as they were at the last question.

    Nodes may leave and come back between two questions; what is free on those that are there may not change.
    """

    def __init__(self, cluster: Cluster) -> None:
        self._cluster = cluster
        self._of: dict[PodRules, _OfTheNodeAlone] = {}

    def count(self, rules: PodRules, names: Collection[str]) -> Counter[Plugin]:
        """How many of the nodes of these names each plugin refuses."""
        there = self._cluster.nodes.keys() & names
        if not Trial(self._cluster).minds_nobody(rules):
            found = (first_refusal(rules, self._cluster.nodes[name], self._cluster) for name in there)
            return Counter(refusal.plugin for refusal in found if refusal is not None)
        if rules not in self._of:
            self._of[rules] = _OfTheNodeAlone(rules, self._cluster)
        return self._of[rules].count(there)


class _OfTheNodeAlone:
    """The verdict on a class that minds no other pods."""

    def __init__(self, rules: PodRules, cluster: Cluster) -> None:
        self._rules, self._cluster = rules, cluster
        self._before = Lasting(rules, cluster, (*BEFORE_NODES, *OF_THE_NODE))
        self._behind = Lasting(rules, cluster, OF_VOLUMES)
        self._known: dict[str, Plugin | None] = {}

    def count(self, names: AbstractSet[str]) -> Counter[Plugin]:
        """By plugin; nodes that nobody refuses are not counted."""
        for name in names - self._known.keys():
            self._known[name] = self._look(self._cluster.nodes[name])
        found = Counter(map(self._known.get, names))
        return Counter({plugin: count for plugin, count in found.items() if plugin is not None})

    def _look(self, node: NodeInfo) -> Plugin | None:
        fits = how_many_fit(self._rules, node) > 0
        full = self._behind.refusing(node) if fits else Plugin.NODE_RESOURCES_FIT
        return self._before.refusing(node) or full
