"""Which processor a worker has, by its type and by its image: one launch template starts them all from one image."""

import re
from typing import Final

from autoscaler.policy import Policy, PolicyError

ARM: Final = "arm64"
X86: Final = "x86_64"

# AWS names a Graviton type by a `g` behind the generation's number; a1 is older than the rule. Source: EC2 user guide,
# "Amazon EC2 instance type naming conventions".
_GRAVITON: Final = re.compile(r"a1|[a-z]+\d+g[a-z]*")
_IN_A_NAME: Final = {"arm64": ARM, "aarch64": ARM, "x86_64": X86, "amd64": X86}


def of_instance_type(instance_type: str) -> str:
    """`arm64` or `x86_64`, as EC2 writes them."""
    return ARM if _GRAVITON.fullmatch(instance_type.partition(".")[0]) else X86


def of_image_name(name: str) -> str | None:
    """What the name of an image's public parameter says; None where it says nothing."""
    return next((architecture for word, architecture in _IN_A_NAME.items() if word in name), None)


def of_workers(policy: Policy) -> str:
    """The architecture of the policy's types. Raises PolicyError where they have two."""
    by_type = {kind: of_instance_type(kind) for kind in policy.workers.instance_types}
    if len(set(by_type.values())) > 1:
        said = ", ".join(f"{kind} is {architecture}" for kind, architecture in by_type.items())
        raise PolicyError(
            f"workers.instance_types mixes architectures ({said}): all workers start from one image, so name types of "
            "one architecture."
        )
    return by_type[policy.workers.instance_types[0]]
