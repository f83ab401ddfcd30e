"""What EC2 instance types hold: used until a worker of the type has shown what it really offers."""

import math
import pkgutil
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


class InstanceType(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What one EC2 instance type has before anything is reserved."""

    cpu_millicores: int
    memory_mib: int


class UnknownInstanceType(ValueError):
    """Neither the catalogue nor the policy knows the type."""


class Sizes(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The catalogue as it is kept."""

    source: str
    types: dict[str, InstanceType]


CATALOGUE: Final = msgspec.json.decode(pkgutil.get_data(__package__, "catalogue.json") or b"", type=Sizes).types
"""By instance type. `make catalogue` writes it (deploy/catalogue.py); what it lacks stands under `workers.sizes`."""


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
