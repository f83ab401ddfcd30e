"""Nodes and budgets."""

from autoscaler.model.rules import Budget, NodeSpec
from autoscaler.observe.kubernetes import api
from autoscaler.observe.kubernetes.selectors import requirements, sorted_labels
from autoscaler.observe.quantities import amounts


def node_spec(node: api.Node) -> NodeSpec:
    """A v1.Node. Raises ValueError for a quantity that is none."""
    return NodeSpec(
        name=node.metadata.name,
        labels=sorted_labels(node.metadata.labels),
        taints=node.spec.taints,
        unschedulable=node.spec.unschedulable,
        allocatable=amounts(node.status.allocatable),
    )


def budget(found: api.PodDisruptionBudget) -> Budget:
    """A policy/v1 PodDisruptionBudget."""
    return Budget(
        namespace=found.metadata.namespace,
        name=found.metadata.name,
        selector=requirements(found.spec.selector),
        allowed=found.status.disruptions_allowed,
    )
