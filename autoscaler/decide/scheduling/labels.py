"""Labels and taints of workers: what every one of them has by itself, and kube-state-metrics' names for it."""

import re
from collections.abc import Iterable, Mapping
from functools import lru_cache
from typing import Final

from autoscaler.instance_types import arch_of
from autoscaler.model import ON_DEMAND
from autoscaler.model.rules import HOSTNAME_LABEL, Labels

ZONE_LABEL: Final = "topology.kubernetes.io/zone"
REGION_LABEL: Final = "topology.kubernetes.io/region"
INSTANCE_TYPE_LABEL: Final = "node.kubernetes.io/instance-type"
ARCH_LABEL: Final = "kubernetes.io/arch"
OS_LABEL: Final = "kubernetes.io/os"
CAPACITY_LABEL: Final = "k3s-autoscaler/capacity-type"
MANAGED_LABEL: Final = "k3s-autoscaler/managed"
POOL_LABEL: Final = "k3s-autoscaler/pool"
_BETA: Final = {
    "beta.kubernetes.io/arch": ARCH_LABEL,
    "beta.kubernetes.io/os": OS_LABEL,
    "failure-domain.beta.kubernetes.io/zone": ZONE_LABEL,
    "failure-domain.beta.kubernetes.io/region": REGION_LABEL,
}
"""Older names; the kubelet still sets the first two (Kubernetes documentation, "Well-Known Labels")."""
OLD_ZONE_LABELS: Final = ("failure-domain.beta.kubernetes.io/zone", "failure-domain.beta.kubernetes.io/region")
OF_ONE_NODE: Final = frozenset({HOSTNAME_LABEL, ZONE_LABEL, "failure-domain.beta.kubernetes.io/zone"})
"""What differs between workers that are alike otherwise."""
OF_ONE_TYPE: Final = frozenset({INSTANCE_TYPE_LABEL, "beta.kubernetes.io/instance-type", ARCH_LABEL, *_BETA})
WELL_KNOWN: Final = (
    *(ZONE_LABEL, REGION_LABEL, INSTANCE_TYPE_LABEL, ARCH_LABEL, OS_LABEL, CAPACITY_LABEL, MANAGED_LABEL, POOL_LABEL),
    *(HOSTNAME_LABEL, "beta.kubernetes.io/instance-type", "node-role.kubernetes.io/control-plane"),
    *_BETA,
)
_NOT_IN_A_NAME: Final = re.compile(r"[^a-zA-Z0-9_]")
_REGION: Final = re.compile(r"[a-z]+(?:-[a-z]+)+-\d+")


@lru_cache(maxsize=4096)
def sanitised(key: str) -> str:
    """The key as kube-state-metrics writes it (`kubernetes_io_arch`)."""
    return _NOT_IN_A_NAME.sub("_", key)


class RealNames:
    """From kube-state-metrics' names back to the API's, as far as they are known; others stay as they are."""

    def __init__(self, keys: Iterable[str] = ()) -> None:
        self._real = {sanitised(key): key for key in (*keys, *WELL_KNOWN)}

    def of(self, labels: Iterable[tuple[str, str]]) -> dict[str, str]:
        """The labels under the API's names."""
        return {self._real.get(key, key): value for key, value in labels}


def labels_by_nature(instance_type: str, zone: str) -> dict[str, str]:
    """What the kubelet and K3s' configuration set on any EC2 instance that is a worker; of no other machine."""
    arch = arch_of(instance_type)
    labels = {
        OS_LABEL: "linux",
        ARCH_LABEL: arch,
        "beta.kubernetes.io/os": "linux",
        "beta.kubernetes.io/arch": arch,
        INSTANCE_TYPE_LABEL: instance_type,
    }
    if zone:
        labels |= {ZONE_LABEL: zone, REGION_LABEL: region_of(zone)}
    return labels


def implied(instance_type: str, zone: str, market: str = ON_DEMAND) -> dict[str, str]:
    """What a worker of ours has beside what its nature gives (cloudformation/scripts/worker-bootstrap.sh)."""
    return labels_by_nature(instance_type, zone) | {MANAGED_LABEL: "true", CAPACITY_LABEL: market}


def region_of(zone: str) -> str:
    """`eu-central-1` of `eu-central-1a`, and of a local zone `us-west-2` of `us-west-2-lax-1a`."""
    match = _REGION.match(zone)
    return match[0] if match else ""


def shared(labels: Iterable[Mapping[str, str]]) -> dict[str, str]:
    """What all of them have in common, but for what is one node's own."""
    common: dict[str, str] | None = None
    for one in labels:
        if common is None:
            common = {key: value for key, value in one.items() if key not in OF_ONE_NODE}
        else:
            common = {key: value for key, value in common.items() if one.get(key) == value}
    return common or {}


def zone_valued(labels: Iterable[Mapping[str, str]]) -> frozenset[str]:
    """Keys whose value is each node's own zone, like a CSI driver's `topology.ebs.csi.aws.com/zone`."""
    keys: frozenset[str] | None = None
    for one in labels:
        zone = one.get(ZONE_LABEL)
        same = frozenset(key for key, value in one.items() if value == zone and key not in OF_ONE_NODE)
        keys = same if keys is None else keys & same
    return keys or frozenset()


def as_labels(labels: Mapping[str, str]) -> Labels:
    """Sorted pairs."""
    return tuple(sorted(labels.items()))
