"""Labels of Nodes: what the kubelet, K3s and our bootstrap put on each, whatever kube-state-metrics shows of them.

Source: the kubelet sets hostname, os and arch. K3s' own cloud controller (pkg/cloudprovider, InstanceMetadata) takes
type, region and zone from the labels that a Node registered with, and says `k3s` of one without a type; the
cloud-provider library then writes each under its old name as well. Some releases add `egress.k3s.io/cluster`: whoever
wants that here gives it as `WorldSettings.worker_labels`.
"""

import re
from typing import Final

from autoscaler.model.rules import HOSTNAME_LABEL
from autoscaler.simulator.world.workload import CONTROL_PLANE_LABEL

ZONE_LABEL: Final = "topology.kubernetes.io/zone"
REGION_LABEL: Final = "topology.kubernetes.io/region"
_OLD_ZONE_LABEL: Final = "failure-domain.beta.kubernetes.io/zone"
_OLD_REGION_LABEL: Final = "failure-domain.beta.kubernetes.io/region"
TYPE_LABEL: Final = "node.kubernetes.io/instance-type"
ARCH_LABEL: Final = "kubernetes.io/arch"
MANAGED_LABEL: Final = "k3s-autoscaler/managed"
POOL_LABEL: Final = "k3s-autoscaler/pool"
CAPACITY_LABEL: Final = "k3s-autoscaler/capacity-type"
UNKNOWN_TYPE: Final = "k3s"
"""What K3s' own cloud controller says of a machine whose type nobody told."""
_GRAVITON: Final = re.compile(r"a1|[a-z]+\d+g[a-z]*")
"""AWS' naming: `g` right after the generation stands for Graviton (t4g, m7gd, im4gn)."""


def arch_of(instance_type: str) -> str:
    """The architecture of an EC2 instance type."""
    return "arm64" if _GRAVITON.fullmatch(instance_type.partition(".")[0]) else "amd64"


def node_labels(name: str, *, arch: str, instance_type: str, zone: str) -> dict[str, str]:
    """What every Node has. `instance_type` and `zone` are empty for a machine that no cloud knows."""
    labels = {
        HOSTNAME_LABEL: name,
        "kubernetes.io/os": "linux",
        ARCH_LABEL: arch,
        "beta.kubernetes.io/os": "linux",
        "beta.kubernetes.io/arch": arch,
        "beta.kubernetes.io/instance-type": instance_type or UNKNOWN_TYPE,
        TYPE_LABEL: instance_type or UNKNOWN_TYPE,
    }
    if zone:
        for zone_key, region_key in ((ZONE_LABEL, REGION_LABEL), (_OLD_ZONE_LABEL, _OLD_REGION_LABEL)):
            labels |= {zone_key: zone, region_key: zone[:-1]}
    return labels


def managed_labels(pool: str, market: str) -> dict[str, str]:
    """What our bootstrap adds on workers of this pool that we launch."""
    return {MANAGED_LABEL: "true", CAPACITY_LABEL: market, POOL_LABEL: pool}


def control_plane_labels() -> dict[str, str]:
    """What K3s adds on a server."""
    return {CONTROL_PLANE_LABEL: "true", "node-role.kubernetes.io/master": "true"}
