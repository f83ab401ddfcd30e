"""A filter's no: which plugin, and in which words."""

from collections.abc import Callable
from enum import StrEnum

import msgspec

from autoscaler.decide.scheduling.cluster import Cluster, NodeInfo
from autoscaler.model.rules import PodRules


class Plugin(StrEnum):
    """kube-scheduler's Filter plugins that are modelled, in its default order."""

    NODE_UNSCHEDULABLE = "NodeUnschedulable"
    NODE_NAME = "NodeName"
    TAINT_TOLERATION = "TaintToleration"
    NODE_AFFINITY = "NodeAffinity"
    NODE_PORTS = "NodePorts"
    NODE_RESOURCES_FIT = "NodeResourcesFit"
    VOLUME_RESTRICTIONS = "VolumeRestrictions"
    NODE_VOLUME_LIMITS = "NodeVolumeLimits"
    VOLUME_BINDING = "VolumeBinding"
    VOLUME_ZONE = "VolumeZone"
    POD_TOPOLOGY_SPREAD = "PodTopologySpread"
    INTER_POD_AFFINITY = "InterPodAffinity"


Reasons = tuple[str, ...]
"""Why not, in the scheduler's words; empty for yes."""
Check = Callable[[PodRules, NodeInfo, Cluster], Reasons]
YES: Reasons = ()


class Refusal(msgspec.Struct, frozen=True):
    """Why a pod does not fit on a node."""

    plugin: Plugin
    reasons: Reasons
    before_nodes: bool = False
    """Said of the pod before any node is looked at (PreFilter); for node names, of the nodes that are left out."""
