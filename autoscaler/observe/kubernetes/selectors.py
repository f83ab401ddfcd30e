"""Labels and selectors."""

from collections.abc import Mapping

from autoscaler.model.rules import Labels, NodeTerm, Selector, equal_to
from autoscaler.observe.kubernetes.api import LabelSelector, NodeSelector


def sorted_labels(labels: Mapping[str, str]) -> Labels:
    """As the model keeps them."""
    return tuple(sorted(labels.items()))


def requirements(selector: LabelSelector | None) -> Selector | None:
    """What an absent selector selects (nothing) is not what an empty one does (everything)."""
    return None if selector is None else equal_to(selector.match_labels) + selector.match_expressions


def node_terms(selector: NodeSelector) -> tuple[NodeTerm, ...]:
    """Any of these."""
    return tuple(
        NodeTerm(labels=term.match_expressions, fields=term.match_fields) for term in selector.node_selector_terms
    )
