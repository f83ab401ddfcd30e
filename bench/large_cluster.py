"""A large cluster as text: what kube-state-metrics 2.20 (with the shipped flags) and node-exporter expose of it.

Nothing is simulated: pods run, a few wait or have finished, and counters advance with the clock. Families and labels
are those of the real scrapes in tests/data/.
"""

import random
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any, Final

from autoscaler.model import CLUSTER_TAG, MANAGED_BY_TAG, MANAGED_BY_VALUE, ROLE_TAG

DAEMON_SETS: Final = ("node-exporter", "svclb-traefik", "log-agent")
FINISHED_SHARE: Final = 0.02
INIT_SHARE: Final = 0.05
SIDECAR_SHARE: Final = 0.02
TWO_CONTAINERS_SHARE: Final = 0.15
INSTANCE_TYPE: Final = "m5.large"
CPUS: Final = 2
MEMORY_BYTES: Final = 8 * 1024**3
CREATED_S: Final = 1_790_000_000
TELEMETRY: Final = b'kube_state_metrics_build_info{version="v2.20.0"} 1\n'
_VOLUME_LINES: Final = (
    'kube_persistentvolume_info{persistentvolume="k3s-autoscaler-proof",csi_driver="k3s-autoscaler-proof"} 1',
    'kube_persistentvolume_annotations{persistentvolume="k3s-autoscaler-proof",'
    'annotation_local_path_provisioner_selected_node="none"} 1',
)
PHASES: Final = ("Pending", "Succeeded", "Failed", "Unknown", "Running")


class LargeCluster:
    """`nodes` workers and one server, with `pods` pods on the workers, `waiting` of which no node takes."""

    def __init__(self, *, nodes: int, pods: int, waiting: int = 0, seed: int = 1) -> None:
        self.nodes = ["server-0", *(self._worker(number) for number in range(nodes))]
        self._pods = pods
        self._waiting = waiting
        self._seed = seed

    def instances(self, cluster_id: str) -> list[dict[str, Any]]:
        """The DescribeInstances rows of the server and the workers, all ours."""
        rows = []
        for number in range(len(self.nodes)):
            tags = {CLUSTER_TAG: cluster_id} | ({MANAGED_BY_TAG: MANAGED_BY_VALUE} if number else {ROLE_TAG: "server"})
            rows.append(
                {
                    "InstanceId": f"i-{number:017x}",
                    "InstanceType": INSTANCE_TYPE,
                    "State": {"Code": 16, "Name": "running"},
                    "LaunchTime": datetime.fromtimestamp(CREATED_S - 60, tz=UTC),
                    "Placement": {"AvailabilityZone": self._zone(number)},
                    "SubnetId": "subnet-a",
                    "Tags": [{"Key": key, "Value": value} for key, value in tags.items()],
                }
            )
        return rows

    @staticmethod
    def _zone(number: int) -> str:
        return f"eu-central-1{'abc'[number % 3]}"

    @staticmethod
    def _worker(number: int) -> str:
        return f"worker-i-{number + 1:017x}"

    @staticmethod
    def address(number: int) -> str:
        """The IPv4 address of the node at this index."""
        return f"10.{number >> 16 & 255}.{number >> 8 & 255}.{number & 255}"

    def kube_state_metrics(self) -> bytes:
        """The whole page of its main port."""
        return "\n".join((*self._node_lines(), *_VOLUME_LINES, *self._pod_lines(), "")).encode()

    def node_exporter(self, number: int, now_s: float) -> bytes:
        """The page of one node: a tenth busy, a third of the memory used."""
        lines = []
        idle_s = (now_s - CREATED_S) * 0.9
        for cpu in range(CPUS):
            lines.append(f'node_cpu_seconds_total{{cpu="{cpu}",mode="idle"}} {idle_s:.2f}')
            lines.extend(
                f'node_cpu_seconds_total{{cpu="{cpu}",mode="{mode}"}} {idle_s / 60:.2f}'
                for mode in ("iowait", "irq", "nice", "softirq", "steal", "system", "user")
            )
        lines.append(f"node_memory_MemAvailable_bytes {MEMORY_BYTES * 0.66:.0f}")
        lines.append(f"node_memory_MemTotal_bytes {MEMORY_BYTES}")
        uname = f'domainname="(none)",machine="x86_64",nodename="{self.nodes[number]}",release="6.1.0"'
        lines.append(f'node_uname_info{{{uname},sysname="Linux",version="#1 SMP"}} 1')
        return ("\n".join(lines) + "\n").encode()

    def _node_lines(self) -> Iterator[str]:
        for number, name in enumerate(self.nodes):
            zone = self._zone(number)
            node = f'node="{name}"'
            instance = f"i-{number:017x}"
            yield f"kube_node_created{{{node}}} {CREATED_S}"
            yield (
                f'kube_node_info{{{node},kernel_version="6.1.0",os_image="Amazon Linux 2023",'
                f'container_runtime_version="containerd://2.1.5-k3s1",kubelet_version="v1.36.2+k3s1",'
                f'kubeproxy_version="deprecated",provider_id="aws:///{zone}/{instance}",pod_cidr="",'
                f'system_uuid="{number:032x}",internal_ip="{self.address(number)}"}} 1'
            )
            yield (
                f'kube_node_labels{{{node},label_k3s_autoscaler_capacity_type="on-demand",'
                f'label_k3s_autoscaler_managed="true",label_node_kubernetes_io_instance_type="{INSTANCE_TYPE}",'
                f'label_topology_kubernetes_io_zone="{zone}"}} 1'
            )
            if number == 0:
                yield f'kube_node_role{{{node},role="control-plane"}} 1'
            yield f"kube_node_spec_unschedulable{{{node}}} 0"
            for resource, unit, value in (
                ("cpu", "core", "1.93"),
                ("ephemeral_storage", "byte", "2.0"),
                ("memory", "byte", f"{MEMORY_BYTES - 600_000_000 - 4096 * (number % 7)}"),
                ("pods", "integer", "110"),
            ):
                yield f'kube_node_status_allocatable{{{node},resource="{resource}",unit="{unit}"}} {value}'
            for condition in ("Ready", "MemoryPressure", "DiskPressure", "PIDPressure"):
                for status in ("true", "false", "unknown"):
                    holds = status == ("true" if condition == "Ready" else "false")
                    yield f'kube_node_status_condition{{{node},condition="{condition}",status="{status}"}} {holds:d}'
            yield f'kube_node_status_addresses{{{node},type="InternalIP",address="{self.address(number)}"}} 1'
            yield f'kube_node_status_addresses{{{node},type="Hostname",address="{name}"}} 1'

    def _pod_lines(self) -> Iterator[str]:
        rng = random.Random(self._seed)  # noqa: S311 - no secret
        workers = self.nodes[1:]
        for number in range(self._pods):
            node = workers[number % len(workers)]
            uid = f"{rng.getrandbits(128):032x}"
            daemon = number // len(workers) < len(DAEMON_SETS) and self._pods >= 6 * len(workers)
            if daemon:
                kind, owner = "DaemonSet", DAEMON_SETS[number // len(workers)]
            else:
                kind, owner = "ReplicaSet", f"app-{number // 10 % 300}-6d5f7c9b8"
            namespace = "kube-system" if daemon else f"team-{number % 20}"
            draw = rng.random()
            waits = not daemon and number >= self._pods - self._waiting
            phase = "Pending" if waits else "Succeeded" if draw < FINISHED_SHARE and not daemon else "Running"
            ids = f'namespace="{namespace}",pod="{owner}-{uid[:5]}",uid="{uid}"'
            place = "" if waits else node
            yield f"kube_pod_annotations{{{ids}}} 1"
            yield (
                f'kube_pod_info{{{ids},host_ip="10.0.0.1",pod_ip="10.42.0.1",node="{place}",created_by_kind="{kind}",'
                f'created_by_name="{owner}",priority_class="",host_network="false"}} 1'
            )
            yield f"kube_pod_created{{{ids}}} {CREATED_S}"
            yield f"kube_pod_nodeselectors{{{ids}}} 1"
            for each in PHASES:
                yield f'kube_pod_status_phase{{{ids},phase="{each}"}} {each == phase:d}'
            yield from _requests(ids, place, rng)
            if waits:
                yield f"kube_pod_status_unschedulable{{{ids}}} 1"
                yield f"kube_pod_status_unscheduled_time{{{ids}}} {CREATED_S}"


def _requests(ids: str, node: str, rng: random.Random) -> Iterator[str]:
    name = "kube_pod_container_resource_requests"
    containers = 2 if rng.random() < TWO_CONTAINERS_SHARE else 1
    for number in range(containers):
        yield f'{name}{{{ids},container="c{number}",node="{node}",resource="cpu",unit="core"}} 0.01'
        yield f'{name}{{{ids},container="c{number}",node="{node}",resource="memory",unit="byte"}} 3.3554432e+07'
    extras = [("init", INIT_SHARE, ""), ("proxy", SIDECAR_SHARE, "Always")]
    for container, share, policy in extras:
        if rng.random() < share:
            name = "kube_pod_init_container_resource_requests"
            yield f'{name}{{{ids},container="{container}",node="{node}",resource="cpu",unit="core"}} 0.05'
            yield f'{name}{{{ids},container="{container}",node="{node}",resource="memory",unit="byte"}} 1.6777216e+07'
            image = 'image_spec="i",image="i",image_id="",container_id=""'
            yield f'kube_pod_init_container_info{{{ids},container="{container}",{image},restart_policy="{policy}"}} 1'
