"""What EC2 instance types hold and cost: used until a worker of the type has shown what it really offers.

Sizes: the AWS instance-type pages. Prices: on-demand Linux, us-east-1, USD an hour, read in November 2026; they order
candidates and fill reports, and no decision about the number of workers rests on them.
"""

import math
from typing import Final

import msgspec

from autoscaler.model import Resources
from autoscaler.policy import Policy

MIB: Final = 1024 * 1024
SEEN_SHARE: Final = 0.92
"""Of a type's memory, what Linux has to give: firmware and kernel keep the rest, which is most on small machines."""
_EVICTION_MIB: Final = 100
MAX_PODS: Final = 110
"""The kubelet's default."""


class InstanceType(msgspec.Struct, frozen=True, kw_only=True):
    """One EC2 instance type."""

    cpu_millicores: int
    memory_mib: int
    hourly_usd: float


class UnknownInstanceType(ValueError):
    """Neither the catalogue nor the policy knows the type."""


def _row(vcpus: int, memory_gib: float, hourly_usd: float) -> InstanceType:
    return InstanceType(cpu_millicores=vcpus * 1000, memory_mib=round(memory_gib * 1024), hourly_usd=hourly_usd)


CATALOGUE: Final[dict[str, InstanceType]] = {
    "t3.micro": _row(2, 1, 0.0104),
    "t3.small": _row(2, 2, 0.0208),
    "t3.medium": _row(2, 4, 0.0416),
    "t3.large": _row(2, 8, 0.0832),
    "t3.xlarge": _row(4, 16, 0.1664),
    "t3.2xlarge": _row(8, 32, 0.3328),
    "t3a.small": _row(2, 2, 0.0188),
    "t3a.medium": _row(2, 4, 0.0376),
    "t3a.large": _row(2, 8, 0.0752),
    "t3a.xlarge": _row(4, 16, 0.1504),
    "t4g.small": _row(2, 2, 0.0168),
    "t4g.medium": _row(2, 4, 0.0336),
    "t4g.large": _row(2, 8, 0.0672),
    "t4g.xlarge": _row(4, 16, 0.1344),
    "m5.large": _row(2, 8, 0.096),
    "m5.xlarge": _row(4, 16, 0.192),
    "m5.2xlarge": _row(8, 32, 0.384),
    "m6i.large": _row(2, 8, 0.096),
    "m6i.xlarge": _row(4, 16, 0.192),
    "m6i.2xlarge": _row(8, 32, 0.384),
    "m6g.large": _row(2, 8, 0.077),
    "m6g.xlarge": _row(4, 16, 0.154),
    "m7g.large": _row(2, 8, 0.0816),
    "m7g.xlarge": _row(4, 16, 0.1632),
    "c5.large": _row(2, 4, 0.085),
    "c5.xlarge": _row(4, 8, 0.17),
    "c6i.large": _row(2, 4, 0.085),
    "c6i.xlarge": _row(4, 8, 0.17),
    "c6g.large": _row(2, 4, 0.068),
    "c6g.xlarge": _row(4, 8, 0.136),
    "c7g.large": _row(2, 4, 0.0725),
    "c7g.xlarge": _row(4, 8, 0.145),
    "r5.large": _row(2, 16, 0.126),
    "r5.xlarge": _row(4, 32, 0.252),
    "r6g.large": _row(2, 16, 0.1008),
    "r6g.xlarge": _row(4, 32, 0.2016),
}


def check_instance_types(policy: Policy) -> None:
    """Raise UnknownInstanceType unless every type of the policy has a known size that leaves something to pods."""
    for instance_type in policy.workers.instance_types:
        room = nominal_resources(instance_type, policy)
        if not room.cpu_millicores or not room.memory_bytes:
            raise UnknownInstanceType(
                f"workers.instance_types names {instance_type}, which has nothing left for pods once K3s and the "
                "system have theirs: choose a larger type, or mend its entry under workers.sizes"
            )


def nominal_resources(instance_type: str, policy: Policy) -> Resources:
    """What a fresh worker of this type offers to pods, by the catalogue or the policy. Raises UnknownInstanceType."""
    size = policy.workers.sizes.get(instance_type)
    if size is None:
        known = CATALOGUE.get(instance_type)
        if known is None:
            raise UnknownInstanceType(
                f"workers.instance_types names {instance_type}, whose size is not in the catalogue: add it under "
                "workers.sizes with cpu_millicores and memory_mib"
            )
        cpu_millicores, memory_mib = known.cpu_millicores, known.memory_mib
    else:
        cpu_millicores, memory_mib = size.cpu_millicores, size.memory_mib
    seen_mib = memory_mib * SEEN_SHARE
    reserved_millicores, reserved_mib = _reserved(cpu_millicores, seen_mib)
    return Resources(
        cpu_millicores=max(0, cpu_millicores - reserved_millicores),
        memory_bytes=max(0, int((seen_mib - reserved_mib - _EVICTION_MIB) * MIB)),
        pods=MAX_PODS,
    )


def _reserved(cpu_millicores: int, memory_mib: float) -> tuple[int, float]:
    """CPU (millicores) and memory (MiB) that our workers keep for K3s and the system.

    As cloudformation/scripts/machine.sh does; tests/service/test_worker_bootstrap.py compares.
    """
    cores = min(math.ceil(cpu_millicores / 1000), 16)
    return 80 + 15 * cores, 300 + min(memory_mib, 16 * 1024) / 20
