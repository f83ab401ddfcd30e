"""The simulated cluster as kube-state-metrics 2.20 would expose it, with our allow-lists of labels and annotations.

A test compares names and labels with a scrape of the real one in tests/data/.
"""

from collections.abc import Iterable, Iterator, Mapping
from typing import Final

from autoscaler.model.rules import Toleration
from autoscaler.observe.series import PROOF_VOLUME
from autoscaler.simulator.metrics.text_format import Labels, Page, Row, one_of
from autoscaler.simulator.world.controllers import budget_status
from autoscaler.simulator.world.objects import STORAGE_BYTES, ClusterState, SimNode, SimPod, Volume
from autoscaler.simulator.world.rules import LOST_NODE_TOLERATIONS, claim_names
from autoscaler.simulator.world.workload import DO_NOT_DISRUPT, SAFE_TO_EVICT, Ask, Kind

OWN_VERSION: Final = "v2.20.0"
"""kube-state-metrics'."""
VOLUME_NODE_ANNOTATION: Final = "local.path.provisioner/selected-node"
LOCAL_PATH: Final = "local-path"
PROOF_NODE: Final = "none"
"""The node that the annotation of the proof volume names."""
ALLOWED_NODE_LABELS: Final = (
    "k3s-autoscaler/capacity-type",
    "k3s-autoscaler/managed",
    "k3s-autoscaler/pool",
    "node.kubernetes.io/instance-type",
    "topology.kubernetes.io/zone",
)
"""The label and annotation allow-lists of our kube-state-metrics (monitoring/)."""
ALLOWED_POD_ANNOTATIONS: Final = (SAFE_TO_EVICT, DO_NOT_DISRUPT)

_POD_PHASES: Final = ("Pending", "Succeeded", "Failed", "Unknown", "Running")
_NODE_CONDITIONS: Final = ("Ready", "MemoryPressure", "DiskPressure", "PIDPressure")


def sanitised(key: str) -> str:
    """A Kubernetes label or annotation key as part of a Prometheus label name."""
    return "".join(letter if letter.isalnum() else "_" for letter in key)


def allowed(prefix: str, values: Mapping[str, str], allow_list: Iterable[str]) -> Labels:
    """The allow-listed ones, as Prometheus labels."""
    return {f"{prefix}_{sanitised(key)}": values[key] for key in allow_list if key in values}


# -------------------------------------------------------------------------------------------------- kube-state-metrics


def kube_state_metrics(state: ClusterState) -> str:
    """The whole page."""
    page = Page()
    _nodes(page, tuple(state.nodes.values()))
    pods = tuple((pod, pod_labels(pod)) for pod in state.pods.values())
    _pods(page, pods)
    _pod_status(page, pods)
    _requests(page, pods)
    _volumes(page, tuple(state.volumes.values()), pods)
    _workloads(page, state)
    return page.text()


def telemetry() -> str:
    """What its telemetry port says of itself."""
    page = Page()
    labels = {"branch": "", "goversion": "go1.25", "revision": "", "version": OWN_VERSION}
    page.family("kube_state_metrics_build_info", ((labels, 1.0),))
    return page.text()


def _nodes(page: Page, nodes: tuple[SimNode, ...]) -> None:
    page.family("kube_node_annotations", (({"node": node.name}, 1.0) for node in nodes))
    page.family("kube_node_created", (({"node": node.name}, float(int(node.created_at_s))) for node in nodes))
    page.family("kube_node_info", ((node_info(node), 1.0) for node in nodes))
    page.family(
        "kube_node_labels",
        (({"node": node.name, **allowed("label", node.labels, ALLOWED_NODE_LABELS)}, 1.0) for node in nodes),
    )
    page.family(
        "kube_node_role",
        (
            ({"node": node.name, "role": role}, 1.0)
            for node in nodes
            if node.machine.server
            for role in ("control-plane", "master")
        ),
    )
    page.family(
        "kube_node_spec_taint",
        (
            ({"node": node.name, "key": taint.key, "value": taint.value, "effect": taint.effect}, 1.0)
            for node in nodes
            for taint in node.taints()
        ),
    )
    page.family("kube_node_spec_unschedulable", (({"node": node.name}, float(node.cordoned)) for node in nodes))
    page.family("kube_node_status_addresses", ((labels, 1.0) for node in nodes for labels in addresses(node)))
    page.family("kube_node_status_allocatable", (row for node in nodes for row in _sizes(node, node.allocatable)))
    page.family("kube_node_status_capacity", (row for node in nodes for row in _sizes(node, node.capacity)))
    page.family("kube_node_status_condition", (row for node in nodes for row in _conditions(node)))


def node_info(node: SimNode) -> Labels:
    """Labels of kube_node_info."""
    return {
        "node": node.name,
        "kernel_version": "6.1.0",
        "os_image": "Amazon Linux 2023",
        "container_runtime_version": "containerd://2.1.5-k3s1",
        "kubelet_version": node.machine.k3s_version,
        "kubeproxy_version": "deprecated",
        "provider_id": node.provider_id,
        "pod_cidr": "",
        "system_uuid": node.uid,
        "internal_ip": node.machine.addresses[-1],
    }


def addresses(node: SimNode) -> Iterator[Labels]:
    """Labels of its rows of kube_node_status_addresses."""
    for address in node.machine.addresses:
        yield {"node": node.name, "type": "InternalIP", "address": address}
    yield {"node": node.name, "type": "Hostname", "address": node.name}


def _sizes(node: SimNode, size: Ask) -> Iterator[Row]:
    for resource, unit, value in (
        ("cpu", "core", size.cpu_millicores / 1000),
        ("ephemeral_storage", "byte", float(STORAGE_BYTES)),
        ("memory", "byte", float(size.memory_bytes)),
        ("pods", "integer", float(node.max_pods)),
        *((sanitised(name), "integer", float(pieces)) for name, pieces in node.extended.items()),
    ):
        yield {"node": node.name, "resource": resource, "unit": unit}, value


def _conditions(node: SimNode) -> Iterator[Row]:
    silent = not node.ready and not node.machine.alive
    for condition in _NODE_CONDITIONS:
        status = "unknown" if silent else "true" if condition == "Ready" and node.ready else "false"
        yield from one_of({"node": node.name, "condition": condition}, "status", ("true", "false", "unknown"), status)


def pod_labels(pod: SimPod) -> Labels:
    """The three labels that name a pod."""
    return {"namespace": pod.namespace, "pod": pod.name, "uid": pod.uid}


_Pods = tuple[tuple[SimPod, Labels], ...]


def _pods(page: Page, pods: _Pods) -> None:
    page.family(
        "kube_pod_annotations",
        (
            ({**labels, **allowed("annotation", dict(pod.template.annotations), ALLOWED_POD_ANNOTATIONS)}, 1.0)
            for pod, labels in pods
        ),
    )
    page.family("kube_pod_created", ((labels, float(int(pod.created_at_s))) for pod, labels in pods))
    page.family(
        "kube_pod_deletion_timestamp",
        ((labels, float(int(pod.deletion_at_s))) for pod, labels in pods if pod.deletion_at_s is not None),
    )
    page.family(
        "kube_pod_container_status_waiting_reason",
        (
            ({**labels, "container": "app", "reason": "ImagePullBackOff"}, 1.0)
            for pod, labels in pods
            if pod.template.image_pull_fails and pod.node is not None
        ),
    )
    page.family("kube_pod_info", (({**labels, **_pod_info(pod)}, 1.0) for pod, labels in pods))
    page.family(
        "kube_pod_nodeselectors",
        (
            ({**labels, **{f"nodeselector_{sanitised(key)}": value for key, value in pod.template.node_selector}}, 1.0)
            for pod, labels in pods
        ),
    )
    page.family(
        "kube_pod_owner",
        (
            (
                {
                    **labels,
                    "owner_kind": pod.owner_kind,
                    "owner_name": pod.owner_name,
                    "owner_is_controller": "true" if pod.owner_kind else "",
                },
                1.0,
            )
            for pod, labels in pods
        ),
    )
    page.family("kube_pod_tolerations", (row for pod, labels in pods for row in _tolerations(pod, labels)))


def _pod_info(pod: SimPod) -> Labels:
    node = pod.node
    return {
        "host_ip": node.machine.ip if node is not None else "",
        "pod_ip": pod.ip,
        "node": node.name if node is not None else "",
        "created_by_kind": pod.owner_kind,
        "created_by_name": pod.owner_name,
        "priority_class": pod.template.priority_class,
        "host_network": "true" if pod.template.host_network else "false",
    }


def _tolerations(pod: SimPod, labels: Labels) -> Iterator[Row]:
    def row(toleration: Toleration) -> Row:
        added = pod.workload.kind is not Kind.DAEMON_SET and toleration in LOST_NODE_TOLERATIONS
        values = {
            "key": toleration.key,
            "operator": "Exists" if toleration.any_value else "Equal",
            "value": toleration.value,
            "effect": toleration.effect or "",
            "toleration_seconds": "300" if added else "",
        }
        return {**labels, **values}, 1.0

    yield from (row(toleration) for toleration in pod.rules.tolerations)


def _pod_status(page: Page, pods: _Pods) -> None:
    page.family(
        "kube_pod_status_phase",
        (row for pod, labels in pods for row in one_of(labels, "phase", _POD_PHASES, pod.phase)),
    )
    page.family(
        "kube_pod_status_ready",
        (
            row
            for pod, labels in pods
            if pod.node is not None
            for row in one_of(labels, "condition", ("true", "false", "unknown"), "true" if pod.ready else "false")
        ),
    )
    page.family(
        "kube_pod_status_reason",
        (({**labels, "reason": "SchedulingGated"}, 1.0) for pod, labels in pods if is_gated(pod)),
    )
    page.family(
        "kube_pod_status_scheduled",
        (
            row
            for pod, labels in pods
            for row in one_of(
                labels, "condition", ("true", "false", "unknown"), "true" if pod.node is not None else "false"
            )
        ),
    )
    page.family(
        "kube_pod_status_scheduled_time",
        ((labels, float(int(pod.scheduled_at_s))) for pod, labels in pods if pod.scheduled_at_s is not None),
    )
    waiting = [(pod, labels) for pod, labels in pods if pod.unschedulable_since_s is not None]
    page.family("kube_pod_status_unschedulable", ((labels, 1.0) for _, labels in waiting))
    page.family(
        "kube_pod_status_unscheduled_time",
        ((labels, float(int(pod.unschedulable_since_s or 0.0))) for pod, labels in waiting),
    )


def is_gated(pod: SimPod) -> bool:
    """Whether a scheduling gate holds the pod back."""
    return pod.template.gated and pod.node is None


def _requests(page: Page, pods: _Pods) -> None:
    def rows(container: str, part: str) -> Iterator[Row]:
        for pod, labels in pods:
            place = {**labels, "container": container, "node": pod.node.name if pod.node is not None else ""}
            for resource, unit, value in requests_of(getattr(pod.template, part)):
                yield {**place, "resource": resource, "unit": unit}, value
            for name, pieces in pod.template.extended if part == "request" else ():
                yield {**place, "resource": sanitised(name), "unit": "integer"}, float(pieces)

    def init_rows() -> Iterator[Row]:
        yield from rows("migrate", "init")
        yield from rows("proxy", "sidecar")

    page.family("kube_pod_container_resource_requests", rows("app", "request"))
    page.family("kube_pod_init_container_resource_requests", init_rows())
    page.family("kube_pod_init_container_info", (row for pod, labels in pods for row in _init_info(pod, labels)))
    overhead = [(pod.template.overhead, labels) for pod, labels in pods]
    page.family(
        "kube_pod_overhead_cpu_cores",
        ((labels, ask.cpu_millicores / 1000) for ask, labels in overhead if ask.cpu_millicores),
    )
    page.family(
        "kube_pod_overhead_memory_bytes",
        ((labels, float(ask.memory_bytes)) for ask, labels in overhead if ask.memory_bytes),
    )


def requests_of(ask: Ask) -> tuple[tuple[str, str, float], ...]:
    """(resource, unit, value) of what a container states; what it does not state has no series."""
    cpu = ("cpu", "core", ask.cpu_millicores / 1000)
    memory = ("memory", "byte", float(ask.memory_bytes))
    return tuple(row for row in (cpu, memory) if row[2])


def _init_info(pod: SimPod, labels: Labels) -> Iterator[Row]:
    for container, ask, policy in (("migrate", pod.template.init, ""), ("proxy", pod.template.sidecar, "Always")):
        if requests_of(ask):
            image = f"registry.example/{container}:1"
            yield (
                {
                    **labels,
                    "container": container,
                    "image_spec": image,
                    "image": image,
                    "image_id": "",
                    "container_id": "",
                    "restart_policy": policy,
                },
                1.0,
            )


def _volumes(page: Page, volumes: tuple[Volume, ...], pods: _Pods) -> None:
    annotation = f"annotation_{sanitised(VOLUME_NODE_ANNOTATION)}"
    annotated = [(volume.name, {} if volume.csi_driver else {annotation: volume.node_name}) for volume in volumes]
    annotated.append((PROOF_VOLUME, {annotation: PROOF_NODE}))
    page.family(
        "kube_persistentvolume_annotations",
        (({"persistentvolume": name, **annotations}, 1.0) for name, annotations in annotated),
    )
    proof = _volume_info(PROOF_VOLUME, PROOF_VOLUME, csi_driver=PROOF_VOLUME, csi_volume_handle=PROOF_VOLUME)
    page.family("kube_persistentvolume_info", ((labels, 1.0) for labels in (*map(_info_of, volumes), proof)))
    phases = ("Pending", "Available", "Bound", "Released", "Failed")
    phase_of = {**{volume.name: "Bound" for volume in volumes}, PROOF_VOLUME: "Available"}
    page.family(
        "kube_persistentvolume_status_phase",
        (row for name, phase in phase_of.items() for row in one_of({"persistentvolume": name}, "phase", phases, phase)),
    )
    claims = [({"namespace": volume.namespace, "persistentvolumeclaim": volume.claim}, volume) for volume in volumes]
    page.family(
        "kube_persistentvolumeclaim_info",
        (
            ({**labels, "storageclass": _class_of(volume), "volumename": volume.name, "volumemode": "Filesystem"}, 1.0)
            for labels, volume in claims
        ),
    )
    page.family(
        "kube_persistentvolumeclaim_status_phase",
        (row for labels, _ in claims for row in one_of(labels, "phase", ("Lost", "Bound", "Pending"), "Bound")),
    )
    page.family(
        "kube_pod_spec_volumes_persistentvolumeclaims_info",
        (
            ({**labels, "volume": "data" if name == pod.claim else name, "persistentvolumeclaim": name}, 1.0)
            for pod, labels in pods
            for name in claim_names(pod)
        ),
    )


_VOLUME_SOURCES: Final = (
    *("gce_persistent_disk_name", "ebs_volume_id", "azure_disk_name", "fc_wwids", "fc_lun", "fc_target_wwns"),
    *("iscsi_target_portal", "iscsi_iqn", "iscsi_lun", "iscsi_initiator_name", "nfs_server", "nfs_path"),
    *("csi_driver", "csi_volume_handle", "local_path", "local_fs", "host_path", "host_path_type"),
)


def _volume_info(name: str, storage_class: str, **sources: str) -> Labels:
    every = {**dict.fromkeys(_VOLUME_SOURCES, ""), **sources}
    return {"persistentvolume": name, "storageclass": storage_class, **every, "reclaim_policy": "Delete"}


def _class_of(volume: Volume) -> str:
    return volume.csi_driver or LOCAL_PATH


def _info_of(volume: Volume) -> Labels:
    if volume.csi_driver:
        driver = volume.csi_driver
        return _volume_info(volume.name, _class_of(volume), csi_driver=driver, csi_volume_handle=volume.name)
    return _volume_info(volume.name, LOCAL_PATH, local_path=f"/var/lib/rancher/k3s/storage/{volume.name}")


def _workloads(page: Page, state: ClusterState) -> None:
    page.family(
        "kube_daemonset_status_desired_number_scheduled",
        (
            ({"namespace": workload.namespace, "daemonset": workload.name}, float(len(state.owned.get(key, {}))))
            for key, workload in state.workloads.items()
            if workload.kind is Kind.DAEMON_SET
        ),
    )
    budgets = [
        ({"namespace": workload.namespace, "poddisruptionbudget": workload.name}, status)
        for workload in state.workloads.values()
        if (status := budget_status(state, workload)) is not None
    ]
    prefix = "kube_poddisruptionbudget"
    created_s = float(int(state.started_at_s))
    page.family(f"{prefix}_created", ((labels, created_s) for labels, _ in budgets))
    page.family(f"{prefix}_status_current_healthy", ((labels, float(s.healthy)) for labels, s in budgets))
    page.family(f"{prefix}_status_desired_healthy", ((labels, float(s.desired_healthy)) for labels, s in budgets))
    page.family(f"{prefix}_status_expected_pods", ((labels, float(s.expected)) for labels, s in budgets))
    page.family(f"{prefix}_status_observed_generation", ((labels, 1.0) for labels, _ in budgets))
    page.family(f"{prefix}_status_pod_disruptions_allowed", ((labels, float(s.allowed)) for labels, s in budgets))
