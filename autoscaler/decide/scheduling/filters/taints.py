"""NodeUnschedulable and TaintToleration: marks on a node that keep pods away."""

from typing import Final

from autoscaler.decide.scheduling.cluster import Cluster, NodeInfo
from autoscaler.decide.scheduling.filters.refusal import YES, Reasons
from autoscaler.decide.scheduling.matching import tolerates, untolerated
from autoscaler.model.rules import Effect, PodRules, Taint

_CORDON: Final = Taint(key="node.kubernetes.io/unschedulable", effect=Effect.NO_SCHEDULE)


def node_unschedulable(rules: PodRules, node: NodeInfo, _cluster: Cluster) -> Reasons:
    """A cordoned node takes only pods that tolerate the cordon's taint, whether it carries that taint or not."""
    if not node.spec.unschedulable or any(tolerates(toleration, _CORDON) for toleration in rules.tolerations):
        return YES
    return ("node(s) were unschedulable",)


def taint_toleration(rules: PodRules, node: NodeInfo, _cluster: Cluster) -> Reasons:
    """Every NoSchedule and NoExecute taint must be tolerated, for however short a time."""
    if untolerated(node.spec.taints, rules.tolerations) is None:
        return YES
    return ("node(s) had untolerated taint(s)",)
