"""NodeResourcesFit: room for what the pod requests."""

from autoscaler.decide.scheduling.cluster import Cluster, NodeInfo
from autoscaler.decide.scheduling.filters.refusal import Reasons
from autoscaler.model.rules import PodRules


def node_resources_fit(rules: PodRules, node: NodeInfo, _cluster: Cluster) -> Reasons:
    """A place for the pod, and enough of each resource that it asks; what is asked as 0 is not checked."""
    short = [f"Insufficient {name}" for name, value in rules.requests if value > max(0, node.free.get(name, 0))]
    return (*short, "Too many pods") if node.pods_left < 1 else tuple(short)


def how_many_fit(rules: PodRules, node: NodeInfo) -> int:
    """How many pods of the class the node has room for. Asked most of all: it stops at the first that is short."""
    fit, free = node.pods_left, node.free
    if fit < 1:
        return 0
    for name, value in rules.requests:
        if value > 0:
            left = free.get(name, 0)
            if left < value:
                return 0
            most = left // value
            if most < fit:  # noqa: PLR1730 - a call of min is what this costs most
                fit = most
    return fit
