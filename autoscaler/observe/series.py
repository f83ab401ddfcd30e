"""The recorded series that the core reads: the contract between `monitoring/` and `observe/` (docs/metrics.md).

Each name is `k3s_autoscaler:<family>`. Two rule groups record them, each at its own interval of the policy.
"""

from typing import Final

PREFIX: Final = "k3s_autoscaler:"

CLUSTER_GROUP: Final = "cluster"
UTILISATION_GROUP: Final = "utilisation"
KUBE_STATE_METRICS: Final = "kube-state-metrics"
NODE_EXPORTER: Final = "node-exporter"

# Families from kube-state-metrics, each with an always-present `expected{family=...}` while the source is up.
CLUSTER_FAMILIES: Final = (
    "node_info",  # {node, provider_id, internal_ip} 1
    "node_created",  # {node} epoch seconds
    "node_ready",  # {node} 1 or 0
    "node_cordoned",  # {node} 1 or 0
    "node_allocatable",  # {node, resource="cpu|memory|pods"} cores, bytes, count
    "node_control_plane",  # {node} 1; control-plane nodes only
    "node_taint",  # {node, key, effect="NoSchedule|NoExecute"} 1
    "node_labels",  # {node, label_*} 1
    "node_local_volumes",  # {node} PersistentVolumes bound to it; only where there are any
    "pod_info",  # {namespace, pod, uid, node, owner_kind, owner_name, priority_class} 1; phase Pending or Running
    "pod_requests",  # {namespace, pod, uid, resource="cpu|memory", part="app|init|sidecar|overhead"} cores, bytes
    "pod_unschedulable_since",  # {namespace, pod, uid} epoch seconds; not gated
    "pod_gated",  # {namespace, pod, uid} 1
    "pod_do_not_evict",  # {namespace, pod, uid} 1
    "pod_node_selector",  # {namespace, pod, uid, nodeselector_*} 1; unschedulable pods only
)
# Families that a K3s cluster always fills: none of them is as good as missing.
NEVER_EMPTY: Final = frozenset(
    {"node_info", "node_created", "node_ready", "node_cordoned", "node_allocatable", "pod_info", "pod_requests"}
)

# Families from node-exporter.
UTILISATION_FAMILIES: Final = (
    "node_utilisation",  # {node, resource="cpu|memory"} ratio
    "workers_utilisation",  # {resource="cpu|memory", bound="low|high"} ratio over Ready workers
)

# About the series themselves.
META_FAMILIES: Final = (
    "evaluated_at",  # {group="cluster|utilisation"} epoch seconds
    "scraped_at",  # {source} epoch seconds of the newest sample of a target that is up
    "source_up",  # {source} 1 when every known target answers, else 0; always present
    "source_restarted",  # {source="kube-state-metrics"} targets not up for all of the last 60 s; always present
    "expected",  # {family} how many series the family has; absent while its source is down
)
