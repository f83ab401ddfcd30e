"""What the core reads of Prometheus: the families of an answer, and the few series that rules record.

Each row of an answer carries the label `family`. docs/metrics.md gives labels, unit, meaning and proof of presence of
each; a test holds that table and this one equal. That answer is the contract with anything that stands in for
Prometheus.
"""

from typing import Final

PREFIX: Final = "k3s_autoscaler:"
"""Of the recorded series: `node_ready`, `node_requested`, `node_utilisation`, `workers_utilisation`, `workers_demand`,
`evaluated_at`."""
FAMILY: Final = "family"

UTILISATION_GROUP: Final = "utilisation"
KUBE_STATE_METRICS: Final = "kube-state-metrics"
NODE_EXPORTER: Final = "node-exporter"

PROOF_VOLUME: Final = "k3s-autoscaler-proof"
"""A PersistentVolume that nothing uses: seen, with its annotation, it proves that volumes are shown as they are."""

NODE_FAMILIES: Final = (
    "node",  # {node, provider_id, cpu, memory, pods} created, epoch seconds; allocatable in its labels
    "node_incomplete",  # {node, provider_id} 1; a Node of which one of the facts above is not shown
    "node_not_ready",  # {node} 0; condition Ready is not true
    "node_cordoned",  # {node} 1
    "node_control_plane",  # {node} 1
    "node_taint",  # {node, key, effect="NoSchedule|NoExecute"} 1
    "node_managed",  # {node} 1; NotReady Nodes that carry the label of our workers
    "node_local_volumes",  # {node} PersistentVolumes with affinity to it
    "node_unmeasured",  # {node, resource="cpu|memory"}; workers that take pods and have no recorded use, at most ten
)
POD_FAMILIES: Final = (
    "pod_unbound",  # {namespace, pod, uid, created_by_kind, created_by_name, priority_class} 1; on no Node
    "pod_pending",  # {namespace, pod, uid} 1 or 0 (finished); unbound pods only
    "pod_unschedulable",  # {namespace, pod, uid} since, epoch seconds; 1 where the time is not shown; gated ones too
    "pod_gated",  # {namespace, pod, uid} 1
    "pod_deleting",  # {namespace, pod, uid} epoch seconds; unbound pods only
    "pod_unbound_long",  # {namespace, pod, uid} 1; on no Node for a minute
    "pod_requests",  # {namespace, pod, uid, resource="cpu|memory", part="app|init|sidecar|overhead"}; unbound pods
    "owner_youngest",  # {} epoch seconds; when the first pod was created of the pod owner that came last; asked by
    # sweeps that may ask a server for the rules of new owners
)
USE_FAMILIES: Final = (
    "use",  # {resource="cpu|memory"} lower bound over the workers that take pods, ratio
    "use_grow_min",  # {resource} smallest lower bound in the grow window
    "use_grow_count",  # {resource} samples in that window
    "use_shrink_max",  # {resource} largest upper bound in the shrink window
    "use_shrink_count",  # {resource} samples in that window
    "ready_max",  # {node} largest node_ready in the repair window; Nodes that are not Ready now
    "ready_count",  # {node} samples in that window
)
META_FAMILIES: Final = (
    "counted",  # {of} how many rows a family has, 0 for none
    "shown",  # {of} how many series the raw family has; absent for none
    "version",  # {version} 1; kube-state-metrics', where its telemetry port is scraped
    "volumes_of",  # {csi_driver} PersistentVolumes of a CSI driver
    "volumes_unplaced",  # {} PersistentVolumes on a node's own disk that do not say which node's
    "source_nodes",  # {every label of a target and its store} Nodes that this target shows
    "node_twice",  # {node} machines that go by this Node's name, more than one
    "overwritten",  # {} series whose labels the scrape overwrote (honor_labels is off)
    "targets_down",  # {source} targets that do not answer
    "restarted",  # {source} targets that were not up for all of the last 60 s
    "scraped_at",  # {source} epoch seconds of the newest scrape that was answered
    "scrape_interval",  # {source} seconds
    "evaluated_at",  # {group, interval_s} epoch seconds
)
COUNTED: Final = (
    *(family for family in NODE_FAMILIES if family != "node_unmeasured"),
    "pod_unschedulable",
    "pod_gated",
    "pod_deleting",
)
"""Families that tell exceptions: as many rows must arrive as were counted (of node_unmeasured, ten at most)."""
SIGHT_FAMILIES: Final = (*NODE_FAMILIES, *POD_FAMILIES, *USE_FAMILIES, *META_FAMILIES)
"""The look's query."""

ROOM_FAMILIES: Final = (
    "requested",  # {node, resource="cpu|memory"} effective requests of its unfinished pods, cores or bytes; without
    # resource: how many pods, {stays="true"} those that a drain leaves, daemons and static pods
    "requested_max",  # {node, resource="cpu|memory"} the highest of node_requested in the shrink window; without
    # resource: pods that a drain would have moved
    "requested_count",  # {node, resource} samples in that window
    "used_at_once",  # {resource="cpu"} cores, the highest of workers_demand of use in that window
    "requested_at_once",  # {resource="cpu|memory"} the highest of workers_demand of requests in that window
    "evaluated_at",  # as above
    "daemon_requests",  # {namespace, created_by_name, resource, part} of a DaemonSet's pod, the largest seen; without
    # resource: 1, the DaemonSet has a pod there
    "node_labels",  # {node, label_*} 1
    "pod_selector",  # {namespace, pod, uid, nodeselector_*} 1; unbound pods
)
"""What else is asked once pods have to fit somewhere."""

MOVING_FAMILIES: Final = (
    "pod",  # {namespace, pod, uid, node, created_by_kind, created_by_name, priority_class} 1
    "pod_requests",  # as above
    "pod_selector",  # as above
    "pod_do_not_evict",  # {namespace, pod, uid} 1
)
"""The pods of named Nodes, asked once those Nodes may have to go."""

SIGNAL_FAMILIES: Final = (
    "signal",  # {name} what the query of a custom signal gives now, the largest of its rows
    "signal_rows",  # {name} how many rows it gives
    "signal_least",  # {name} the smallest value in the signal's window
    "signal_least_count",  # {name} evaluations in that window that gave one finite number
    "signal_most",  # {name} the largest value in the shrink window, or in the signal's if that is longer
    "signal_most_count",  # {name} evaluations in that window that gave one finite number
)
"""The policy's custom signals, asked at each look once it has some."""

HISTORY_FAMILIES: Final = (
    "demand",  # {days, slot, of="requests|use", resource="cpu|memory"} the largest workers_demand of five minutes, so
    # many days ago; slot -1: those that end now
)
"""What earlier days asked for at this time, asked at most every ten minutes for a forecast."""

ABOUT_FAMILIES: Final = (
    "rules",  # {group, interval_s, rendered} epoch seconds of the last evaluation of the rules that go by this mark
    "kubelets",  # {kubelet_version} how many Nodes run it
)
"""What rules are loaded and what the cluster runs, asked by `k3s-autoscaler doctor` only."""

PLACE_FAMILIES: Final = (
    "place",  # {node, namespace, created_by_kind, created_by_name} how many unfinished pods of the owner are there;
    # {node, namespace, pod} of a pod without an owner
    "counted",  # as above
)
"""Where the pods of named owners are, asked once the scheduler's rules count them."""
