"""PodTopologySpread: not more in one domain than in the emptiest, by more than the constraint allows.

Source: kube-scheduler 1.36, plugins/podtopologyspread (filtering.go, common.go).
"""

from collections.abc import Iterator, Mapping

from autoscaler.decide.scheduling.cluster import Classes, Cluster, Group, NodeInfo
from autoscaler.decide.scheduling.filters.node_affinity import wants
from autoscaler.decide.scheduling.filters.refusal import YES, Reasons
from autoscaler.decide.scheduling.matching import selects, untolerated
from autoscaler.model.rules import PodRules, SpreadConstraint


def pod_topology_spread(rules: PodRules, node: NodeInfo, cluster: Cluster) -> Reasons:
    """The node has every key, and its domain is not too full already."""
    return cluster.watcher(Spread, rules).refuses(node) if rules.spread else YES


class _Domains:
    """One constraint's domains: those in which a node counts, and how many selected pods each holds."""

    def __init__(self, constraint: SpreadConstraint, labels: dict[str, str], nodes: Mapping[str, int]) -> None:
        self.constraint = constraint
        self.itself = 1 if selects(constraint.selector, labels) else 0
        self._nodes = nodes
        """By domain. One is there as long as one of its nodes."""
        self._pods: dict[str, int] = {}
        """By domain that has any."""
        self._having: dict[int, int] = {}
        """Number of pods -> in how many domains: the emptiest is found among few numbers, not among all domains."""

    def pods(self, domain: str, change: int) -> None:
        """Selected pods came to or went from a node of this domain that counts."""
        before = self._pods.get(domain, 0)
        after = before + change
        if before:
            self._count(before, -1)
        if after:
            self._pods[domain] = after
            self._count(after, 1)
        else:
            del self._pods[domain]

    def _count(self, pods: int, change: int) -> None:
        self._having[pods] = self._having.get(pods, 0) + change
        if not self._having[pods]:
            del self._having[pods]

    @property
    def emptiest(self) -> int:
        """Selected pods in the emptiest domain. With fewer domains than asked, an empty one is taken as given."""
        domains = len(self._nodes)
        some_empty = domains < self.constraint.min_domains or domains > len(self._pods)
        return 0 if some_empty else min(self._having)

    def full(self, domain: str) -> bool:
        """Whether one more pod would stand out."""
        return self._pods.get(domain, 0) + self.itself - self.emptiest > self.constraint.max_skew


class Spread:
    """The domains of each constraint of one class."""

    def __init__(self, rules: PodRules, cluster: Cluster) -> None:
        self._rules = rules
        self._selecting: dict[PodRules, tuple[bool, ...]] = {}
        self._counting: dict[NodeInfo, tuple[str | None, ...]] = {}
        """The domain by constraint in which a node counts."""
        self._nodes: list[dict[str, int]] = [{} for _ in rules.spread]
        labels = dict(rules.labels)
        self._every_node = self._counts_every_node()
        if self._every_node:
            [constraint] = rules.spread
            self.domains: tuple[_Domains, ...] = (
                _Domains(constraint, labels, cluster.domains(constraint.topology_key)),
            )
        else:
            self.domains = tuple(map(_Domains, rules.spread, [labels] * len(rules.spread), self._nodes))
            cluster.tell_of_nodes(self)

    def _counts_every_node(self) -> bool:
        """Whether nothing leaves out a node that has the key: then all such classes share one count of the nodes."""
        rules = self._rules
        if len(rules.spread) > 1 or rules.spread[0].honor_taints:
            return False
        return not rules.spread[0].honor_affinity or (not rules.node_selector and rules.node_affinity is None)

    def refuses(self, node: NodeInfo) -> Reasons:
        """Constraint by constraint: a node without the key, a domain that is full."""
        for domains in self.domains:
            value = node.labels.get(domains.constraint.topology_key)
            if value is None:
                return ("node(s) didn't match pod topology spread constraints (missing required label)",)
            if domains.full(value):
                return ("node(s) didn't match pod topology spread constraints",)
        return YES

    @property
    def emptiest(self) -> tuple[int, ...]:
        """By constraint. While these stay and no pod goes, whom it refused it goes on refusing."""
        return tuple([domains.emptiest for domains in self.domains])

    def concerns(self, rules: PodRules) -> bool:
        """Whether a constraint counts such pods."""
        return any(self._counted(rules))

    def among(self, classes: Classes) -> Iterator[PodRules]:
        """Whom its constraints may select."""
        for constraint in self._rules.spread:
            yield from classes.selected(constraint.selector)

    def _counted(self, rules: PodRules) -> tuple[bool, ...]:
        """By constraint: pods of the same namespace that it selects. An empty selector counts none of them."""
        known = self._selecting.get(rules)
        if known is None:
            labels, same = dict(rules.labels), rules.namespace == self._rules.namespace
            known = self._selecting[rules] = tuple(
                same and bool(c.selector) and selects(c.selector, labels) for c in self._rules.spread
            )
        return known

    def placed(self, group: Group) -> None:
        """Pods on their way out count no more."""
        if group.ending:
            return
        counted = self._counted(group.rules)
        if self._every_node:
            domain = group.node.labels.get(self._rules.spread[0].topology_key)
            if counted[0] and domain is not None:
                self.domains[0].pods(domain, group.count)
            return
        for place, domain in enumerate(self._counting[group.node]):
            if counted[place] and domain is not None:
                self.domains[place].pods(domain, group.count)

    def joined(self, node: NodeInfo) -> None:
        """A node counts if it has the keys of all constraints, however full, cordoned or unfit it is otherwise."""
        rules = self._rules
        whole = all(constraint.topology_key in node.labels for constraint in rules.spread)
        self._counting[node] = tuple(
            node.labels[constraint.topology_key] if whole and self._honours(constraint, node) else None
            for constraint in rules.spread
        )
        self._change(node, 1)

    def left(self, node: NodeInfo) -> None:
        """Its domain goes with its last node."""
        self._change(node, -1)
        del self._counting[node]

    def _change(self, node: NodeInfo, change: int) -> None:
        for nodes, domain in zip(self._nodes, self._counting[node], strict=True):
            if domain is not None:
                nodes[domain] = nodes.get(domain, 0) + change
                if not nodes[domain]:
                    del nodes[domain]

    def _honours(self, constraint: SpreadConstraint, node: NodeInfo) -> bool:
        return (not constraint.honor_affinity or wants(self._rules, node)) and (
            not constraint.honor_taints or untolerated(node.spec.taints, self._rules.tolerations) is None
        )
