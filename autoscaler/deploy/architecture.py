"""Which processor a worker has, by its type and by its image, as EC2 writes them: `arm64` or `x86_64`."""

from typing import Final

from autoscaler.instance_types import ARM64, arch_of
from autoscaler.policy import Policy

ARM: Final = "arm64"
X86: Final = "x86_64"
_IN_A_NAME: Final = {"arm64": ARM, "aarch64": ARM, "x86_64": X86, "amd64": X86}


def of_instance_type(instance_type: str) -> str:
    """By its name."""
    return ec2_name(arch_of(instance_type))


def ec2_name(arch: str) -> str:
    """Of Kubernetes' name of an architecture."""
    return ARM if arch == ARM64 else X86


def of_image_name(name: str) -> str | None:
    """What the name of an image's public parameter says; None where it says nothing."""
    return next((architecture for word, architecture in _IN_A_NAME.items() if word in name), None)


def of_workers(policy: Policy) -> str:
    """Of the workers that start from the deployment's own image: the first type of the default pool."""
    return of_instance_type(policy.default_pool.instance_types[0])
