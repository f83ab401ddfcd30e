"""Putting classes of pods on nodes, for trial: every step can be taken back."""

from collections.abc import Iterable, Sequence

import msgspec

from autoscaler.decide.scheduling.cluster import Cluster, NodeInfo
from autoscaler.decide.scheduling.filters import LASTING, OF_THE_CLUSTER
from autoscaler.decide.scheduling.filters.inter_pod_affinity import Neighbours, inter_pod_affinity
from autoscaler.decide.scheduling.filters.node_ports import node_ports
from autoscaler.decide.scheduling.filters.node_resources_fit import how_many_fit
from autoscaler.decide.scheduling.filters.refusal import Check, Plugin
from autoscaler.decide.scheduling.filters.volumes import ZONE_KEYS
from autoscaler.decide.scheduling.lanes import Lanes
from autoscaler.model import ON_DEMAND
from autoscaler.model.rules import HOSTNAME_LABEL, BoundClaim, NodeSpec, NodeTerm, PodRules, WaitingClaim


class Waiting(msgspec.Struct, frozen=True):
    """So many pods of one class without a node."""

    rules: PodRules
    count: int
    on: frozenset[str] | None = None
    """The nodes that are there on which they may be put; None for all. New ones they may have all."""


class Template(msgspec.Struct, frozen=True, kw_only=True):
    """What a new node would be: one for all, or one for each zone."""

    name: str
    node: NodeSpec
    daemons: tuple[PodRules, ...] = ()
    """Pods that start with every such node."""
    rank: int = 0
    """Of what is as good otherwise the lowest is taken: the place of its instance type in the policy's order."""
    instance_type: str = ""
    zone: str = ""
    """Its zone where there is a template for each."""
    pool: str = "general"
    """Of `Policy.pools`."""
    market: str = ON_DEMAND
    """Where it is bought as a rule, and which label it has."""
    choice: str = ""
    """Of templates with the same, the first that fits is taken, by rank; of several the cheapest per placed pod."""
    usd_per_hour: float | None = None
    """None where nobody knows: such a one comes after all whose price is known."""
    exhausted: bool = False
    """EC2 had nothing left of it lately: taken only where no other choice would do."""
    weight: int = 0
    """Of what costs the same, the highest is taken."""


class _Put(msgspec.Struct, frozen=True):
    rules: PodRules
    node: NodeInfo
    count: int


class Trial:
    """A cluster that is tried on: nodes opened and pods put, undone step by step."""

    def __init__(self, cluster: Cluster) -> None:
        self.cluster = cluster
        self.opened: list[tuple[str, NodeInfo]] = []
        """Template name and node, in order."""
        self.numbers: dict[str, int] = {}
        """How many were opened of each template."""
        self._steps: list[_Put | None] = []
        self._lasting: dict[PodRules, Lasting] = {}
        self._lanes: dict[PodRules, Lanes] = {}

    @property
    def mark(self) -> int:
        """Where the trial stands now, for `undo`."""
        return len(self._steps)

    def put(self, rules: PodRules, node: NodeInfo, count: int = 1) -> None:
        """Place pods whether they fit or not."""
        self.cluster.place(rules, node, count)
        self._steps.append(_Put(rules, node, count))

    def open(self, template: Template) -> NodeInfo:
        """A new node of this template with its daemons on it; its hostname label is its name."""
        number = len(self.opened)
        while (name := f"{template.node.name}+{number}") in self.cluster.nodes:
            number += 1
        labels = dict(template.node.labels)
        if HOSTNAME_LABEL in labels:
            labels[HOSTNAME_LABEL] = name
        spec = msgspec.structs.replace(template.node, name=name, labels=tuple(labels.items()))
        node = self.cluster.add_node(spec)
        self.opened.append((template.name, node))
        self.numbers[template.name] = self.numbers.get(template.name, 0) + 1
        self._steps.append(None)
        for daemon in template.daemons:
            self.put(daemon, node)
        return node

    def undo(self, mark: int = 0) -> None:
        """Back to where the trial stood."""
        while len(self._steps) > mark:
            step = self._steps.pop()
            if step is None:
                name, node = self.opened.pop()
                self.cluster.remove_node(node)
                self.numbers[name] -= 1
                if not self.numbers[name]:
                    del self.numbers[name]
            else:
                self.cluster.place(step.rules, step.node, -step.count)

    def fill(self, rules: PodRules, count: int, nodes: Sequence[NodeInfo]) -> int:
        """Put up to `count` pods on the nodes, first fit; returns how many found a place.

        Nodes of the same domains stand in one lane, and lanes take turns where a pod changes the verdict on its like.
        """
        if not nodes or not count:
            return 0
        if not (rules.spread or rules.affinity or rules.anti_affinity or rules.host_ports):
            return self._fill_plainly(rules, count, nodes)
        lanes = self._lanes.get(rules)
        if lanes is None:
            lanes = self._lanes[rules] = Lanes(rules, self.cluster, self._lasting_of(rules).accepts)
        return lanes.fill(count, nodes, self.put)

    def minds_nobody(self, rules: PodRules) -> bool:
        """Whether no other pod, wherever it is, may change the verdict on such a pod but by the room that it takes."""
        own = rules.spread or rules.affinity or rules.anti_affinity or rules.host_ports
        return not own and not self.cluster.watcher(Neighbours, rules).is_avoided

    def _fill_plainly(self, rules: PodRules, count: int, nodes: Iterable[NodeInfo]) -> int:
        """Of a class whose pods do not mind each other: as many as fit on each, and no look at the nodes behind."""
        left = count
        for node in nodes:
            fit = how_many_fit(rules, node)
            if fit and self._lasting_of(rules).accepts(node) and not inter_pod_affinity(rules, node, self.cluster):
                portion = min(fit, left)
                self.put(rules, node, portion)
                left -= portion
                if not left:
                    break
        return count - left

    def may_ever_fit(self, rules: PodRules, node: NodeInfo) -> bool:
        """Whether there is room, and nothing against the node that no placement changes."""
        return how_many_fit(rules, node) > 0 and self._lasting_of(rules).accepts(node)

    def fits(self, rules: PodRules, node: NodeInfo) -> bool:
        """What `first_refusal` would find, without its words."""
        return (
            self.may_ever_fit(rules, node)
            and not (rules.host_ports and node_ports(rules, node, self.cluster))
            and not any(check(rules, node, self.cluster) for _, check in OF_THE_CLUSTER)
        )

    def _lasting_of(self, rules: PodRules) -> "Lasting":
        known = self._lasting.get(rules)
        if known is None:
            known = self._lasting[rules] = Lasting(rules, self.cluster)
        return known


class Lasting:
    """Verdicts that no placement changes, one for all nodes that look alike to the class."""

    def __init__(self, rules: PodRules, cluster: Cluster, checks: Sequence[tuple[Plugin, Check]] = LASTING) -> None:
        self._rules, self._cluster, self._checks = rules, cluster, checks
        self._keys = sorted(_label_keys(rules))
        terms = (*(rules.node_affinity or ()), *_volume_terms(rules))
        self._by_name = bool(rules.node_name) or any(term.fields for term in terms)
        self._known: dict[object, Plugin | None] = {}

    def accepts(self, node: NodeInfo) -> bool:
        """Whether none of the checks refuses the node."""
        return self.refusing(node) is None

    def refusing(self, node: NodeInfo) -> Plugin | None:
        """The first that does."""
        labels = node.labels
        look: object = (
            (node.shape, *[labels.get(key) for key in self._keys], node.name if self._by_name else None)
            if self._keys or self._by_name
            else node.shape
        )
        if look not in self._known:
            refuse = (plugin for plugin, check in self._checks if check(self._rules, node, self._cluster))
            self._known[look] = next(refuse, None)
        return self._known[look]


def _volume_terms(rules: PodRules) -> Sequence[NodeTerm]:
    bound = [term for claim in rules.claims if isinstance(claim, BoundClaim) for term in claim.node_affinity or ()]
    waiting = [claim for claim in rules.claims if isinstance(claim, WaitingClaim)]
    return bound + [term for claim in waiting for volume in claim.free for term in volume.node_affinity or ()]


def _label_keys(rules: PodRules) -> set[str]:
    """Every label that a lasting check may read."""
    selectors = [term.labels for term in (*(rules.node_affinity or ()), *_volume_terms(rules))]
    selectors += [t for claim in rules.claims if isinstance(claim, WaitingClaim) for t in claim.topologies]
    keys = {key for key, _ in rules.node_selector} | {line.key for selector in selectors for line in selector}
    return keys | (ZONE_KEYS if any(isinstance(claim, BoundClaim) and claim.zones for claim in rules.claims) else set())
