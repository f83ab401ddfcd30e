"""PodTopologySpread: not more in one domain than in the emptiest, by more than the constraint allows.

Source: kube-scheduler 1.36, plugins/podtopologyspread (filtering.go, common.go).
"""

from collections.abc import Iterator

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

    def __init__(self, constraint: SpreadConstraint, labels: dict[str, str]) -> None:
        self.constraint = constraint
        self.itself = 1 if selects(constraint.selector, labels) else 0
        self._nodes: dict[str, int] = {}
        self._pods: dict[str, int] = {}
        self._having: dict[int, int] = {}
        """Number of pods -> in how many domains: the emptiest is found among few numbers, not among all domains."""

    def node(self, domain: str, change: int) -> None:
        """A node of this domain came or went. A domain is there as long as one of its nodes."""
        before = self._nodes.get(domain, 0)
        self._nodes[domain] = before + change
        if not before:
            self._pods[domain] = 0
            self._count(0, 1)
        elif not self._nodes[domain]:
            self._count(self._pods.pop(domain), -1)
            del self._nodes[domain]

    def pods(self, domain: str, change: int) -> None:
        """Selected pods came to or went from a node of this domain that counts."""
        before = self._pods[domain]
        self._pods[domain] = before + change
        self._count(before, -1)
        self._count(before + change, 1)

    def _count(self, pods: int, change: int) -> None:
        self._having[pods] = self._having.get(pods, 0) + change
        if not self._having[pods]:
            del self._having[pods]

    def full(self, domain: str) -> bool:
        """Whether one more pod would stand out. With fewer domains than asked, an empty one is taken as given."""
        emptiest = 0 if len(self._pods) < self.constraint.min_domains else min(self._having)
        return self._pods.get(domain, 0) + self.itself - emptiest > self.constraint.max_skew


class Spread:
    """The domains of each constraint of one class."""

    def __init__(self, rules: PodRules, _cluster: Cluster) -> None:
        self._rules = rules
        self.domains = tuple(_Domains(constraint, dict(rules.labels)) for constraint in rules.spread)
        self._counting: dict[NodeInfo, tuple[str | None, ...]] = {}
        self._selecting: dict[PodRules, tuple[bool, ...]] = {}

    def refuses(self, node: NodeInfo) -> Reasons:
        """Constraint by constraint: a node without the key, a domain that is full."""
        for domains in self.domains:
            value = node.labels.get(domains.constraint.topology_key)
            if value is None:
                return ("node(s) didn't match pod topology spread constraints (missing required label)",)
            if domains.full(value):
                return ("node(s) didn't match pod topology spread constraints",)
        return YES

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
        for domains, domain, counted in zip(
            self.domains, self._counting[group.node], self._counted(group.rules), strict=True
        ):
            if counted and domain is not None:
                domains.pods(domain, group.count)

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
        for domains, domain in zip(self.domains, self._counting[node], strict=True):
            if domain is not None:
                domains.node(domain, change)

    def _honours(self, constraint: SpreadConstraint, node: NodeInfo) -> bool:
        return (not constraint.honor_affinity or wants(self._rules, node)) and (
            not constraint.honor_taints or untolerated(node.spec.taints, self._rules.tolerations) is None
        )
