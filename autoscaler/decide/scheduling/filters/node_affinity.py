"""NodeName and NodeAffinity: the nodes that a pod asks for by name, by label, by required terms."""

from autoscaler.decide.scheduling.cluster import Cluster, NodeInfo
from autoscaler.decide.scheduling.filters.refusal import YES, Reasons
from autoscaler.decide.scheduling.matching import any_term_matches, has_all, named_nodes
from autoscaler.model.rules import PodRules


def node_name(rules: PodRules, node: NodeInfo, _cluster: Cluster) -> Reasons:
    """A pod that names its node goes nowhere else."""
    return YES if rules.node_name in ("", node.name) else ("node(s) didn't match the requested node name",)


def node_affinity(rules: PodRules, node: NodeInfo, _cluster: Cluster) -> Reasons:
    """The node selector and one of the required terms."""
    return YES if wants(rules, node) else ("node(s) didn't match Pod's node affinity/selector",)


def before_nodes(rules: PodRules, node: NodeInfo, _cluster: Cluster) -> Reasons:
    """What the terms say by node name alone: no node at all, or not this one."""
    names = named_nodes(rules.node_affinity)
    if names is None or node.name in names:
        return YES
    return ("node(s) didn't satisfy plugin(s) [NodeAffinity]",) if names else ("pod affinity terms conflict",)


def wants(rules: PodRules, node: NodeInfo) -> bool:
    """Whether the node is among those that the pod asks for; spread constraints ask it too."""
    return has_all(rules.node_selector, node.labels) and (
        rules.node_affinity is None or any_term_matches(rules.node_affinity, node.labels, node.name)
    )
