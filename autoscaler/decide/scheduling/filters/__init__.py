"""kube-scheduler's default Filter plugins as pure functions: does a pod fit on a node, and if not, who says so and why.

Each module answers for one family under the plugins' own names: `taints` (NodeUnschedulable, TaintToleration),
`node_affinity` (NodeName, NodeAffinity), `node_ports`, `node_resources_fit`, `volumes` (VolumeRestrictions,
NodeVolumeLimits, VolumeBinding, VolumeZone), `pod_topology_spread` and `inter_pod_affinity`. A check takes the pod's
rules, a node and the cluster and gives reasons, none for yes. What a check counts over the cluster it keeps as a
watcher of the cluster (`cluster.py`), so that thousands of pods are judged class by class.

The order is the scheduler's: first what can be said of the pod before any node is looked at (PreFilter), then the
filters, and the first no counts. `first_refusal` walks that list; `refusals` asks every plugin apart.

What no filter here knows (`model.rules.unmodelled` names it of a pod): other schedulers, devices by dynamic resource
allocation, attach limits, ReadWriteOncePod. Preemption, scores and preferences decide where a pod goes among the nodes
that fit, and are not asked here.

Held against the real kube-scheduler 1.36.2 by tests/data/verdicts (`python -m bench.verdicts`).
"""

from typing import Final

from autoscaler.decide.scheduling.cluster import Cluster, NodeInfo
from autoscaler.decide.scheduling.filters import node_affinity, taints, volumes
from autoscaler.decide.scheduling.filters.inter_pod_affinity import inter_pod_affinity
from autoscaler.decide.scheduling.filters.node_ports import node_ports
from autoscaler.decide.scheduling.filters.node_resources_fit import node_resources_fit
from autoscaler.decide.scheduling.filters.pod_topology_spread import pod_topology_spread
from autoscaler.decide.scheduling.filters.refusal import Check, Plugin, Reasons, Refusal
from autoscaler.model.rules import PodRules

BEFORE_NODES: Final[tuple[tuple[Plugin, Check], ...]] = (
    (Plugin.NODE_AFFINITY, node_affinity.before_nodes),
    (Plugin.VOLUME_RESTRICTIONS, volumes.claims_exist),
    (Plugin.NODE_VOLUME_LIMITS, volumes.claims_exist),
    (Plugin.VOLUME_BINDING, volumes.immediate_claims_are_bound),
    (Plugin.VOLUME_ZONE, volumes.zones_are_known),
)
OF_THE_NODE: Final[tuple[tuple[Plugin, Check], ...]] = (
    (Plugin.NODE_UNSCHEDULABLE, taints.node_unschedulable),
    (Plugin.NODE_NAME, node_affinity.node_name),
    (Plugin.TAINT_TOLERATION, taints.taint_toleration),
    (Plugin.NODE_AFFINITY, node_affinity.node_affinity),
)
OF_WHAT_IS_ON_IT: Final[tuple[tuple[Plugin, Check], ...]] = (
    (Plugin.NODE_PORTS, node_ports),
    (Plugin.NODE_RESOURCES_FIT, node_resources_fit),
)
OF_VOLUMES: Final[tuple[tuple[Plugin, Check], ...]] = (
    (Plugin.VOLUME_BINDING, volumes.volume_binding),
    (Plugin.VOLUME_ZONE, volumes.volume_zone),
)
OF_THE_CLUSTER: Final[tuple[tuple[Plugin, Check], ...]] = (
    (Plugin.POD_TOPOLOGY_SPREAD, pod_topology_spread),
    (Plugin.INTER_POD_AFFINITY, inter_pod_affinity),
)
FILTERS: Final = (*OF_THE_NODE, *OF_WHAT_IS_ON_IT, *OF_VOLUMES, *OF_THE_CLUSTER)
"""The default order."""
LASTING: Final = (*BEFORE_NODES, *OF_THE_NODE, *OF_VOLUMES)
"""What no placement changes: the same answer for the same rules on the same node, whatever else is there."""


def first_refusal(rules: PodRules, node: NodeInfo, cluster: Cluster) -> Refusal | None:
    """The scheduler's answer for this node; None if the pod fits."""
    for before_nodes, checks in ((True, BEFORE_NODES), (False, FILTERS)):
        for plugin, check in checks:
            reasons = check(rules, node, cluster)
            if reasons:
                return Refusal(plugin, reasons, before_nodes)
    return None


def refusals(rules: PodRules, node: NodeInfo, cluster: Cluster) -> dict[Plugin, Reasons]:
    """Every plugin that rejects the node, each asked apart."""
    found: dict[Plugin, Reasons] = {}
    for plugin, check in (*BEFORE_NODES, *FILTERS):
        reasons = check(rules, node, cluster)
        if reasons:
            found.setdefault(plugin, reasons)
    return found
