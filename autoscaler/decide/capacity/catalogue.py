"""What EC2 instance types hold: used until a worker of the type has shown what it really offers."""

import math
from collections.abc import Iterator
from typing import Final

from autoscaler.instance_types import CATALOGUE, InstanceType, Sizes
from autoscaler.model import Resources
from autoscaler.policy import Policy

MIB: Final = 1024 * 1024
SEEN_SHARE: Final = 0.92
"""Of a type's memory, what Linux has to give: firmware and kernel keep the rest, which is most on small machines."""
_EVICTION_MIB: Final = 100
MAX_PODS: Final = 110
"""The kubelet's default."""
__all__ = [
    "CATALOGUE",
    "MAX_PODS",
    "MIB",
    "SEEN_SHARE",
    "InstanceType",
    "Sizes",
    "UnknownInstanceType",
    "check_instance_types",
    "extended_of",
    "faults_of_types",
    "nominal_resources",
]


class UnknownInstanceType(ValueError):
    """Neither the catalogue nor the policy knows the type."""


def check_instance_types(policy: Policy) -> None:
    """Raise UnknownInstanceType unless every type of the policy has a known size that leaves something to pods."""
    if faults := list(faults_of_types(policy)):
        raise UnknownInstanceType("; ".join(faults))


def faults_of_types(policy: Policy) -> Iterator[str]:
    """A sentence for each type that no worker can be made of."""
    for pool in policy.pools:
        where = f"workers.pools.{pool.name}" if policy.workers.pools else "workers.instance_types"
        for instance_type in pool.instance_types:
            try:
                room = nominal_resources(instance_type, policy)
            except UnknownInstanceType as error:
                yield f"{where} names {error}"
                continue
            if not room.cpu_millicores or not room.memory_bytes:
                yield (
                    f"{where} names {instance_type}, which has nothing left for pods once K3s and the "
                    "system have theirs: choose a larger type, or mend its entry under workers.sizes"
                )


def extended_of(instance_type: str, policy: Policy) -> dict[str, int]:
    """Its extended resources once their device plugin runs; none of a type that nobody knows."""
    known = policy.known_types.get(instance_type)
    return dict(known.extended) if known is not None else {}


def nominal_resources(instance_type: str, policy: Policy) -> Resources:
    """What a fresh worker of this type offers to pods, by the catalogue or the policy. Raises UnknownInstanceType."""
    size = policy.workers.sizes.get(instance_type) or CATALOGUE.get(instance_type)
    if size is None:
        raise UnknownInstanceType(
            f"{instance_type}, whose size is not in the catalogue: add it under workers.sizes with cpu_millicores and "
            "memory_mib"
        )
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
