"""EC2's instance types: what each holds, what its name says of it, and what it is listed at.

Facts of the world, which the policy is read by: they depend on nothing. The data lie beside their users in
decide/capacity, where commands write them anew (deploy/catalogue.py).
"""

import pkgutil
import re
from functools import cache
from typing import Any, Final

import msgspec

_DATA: Final = "autoscaler.decide.capacity"
REFERENCE_REGION: Final = "us-east-1"
"""Whose prices put types in an order where no region is known: what is cheaper there is so elsewhere, as a rule."""
ARM64: Final = "arm64"
AMD64: Final = "amd64"
# AWS names a Graviton type by a `g` behind the generation's number (t4g, m7gd, im4gn); a1 is older than the rule.
# Source: EC2 user guide, "Amazon EC2 instance type naming conventions".
_GRAVITON: Final = re.compile(r"a1|[a-z]+\d+g[a-z]*")
_GENERATION: Final = r"[a-z]+(\d+)"


class InstanceType(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, omit_defaults=True):
    """What one EC2 instance type has before anything is reserved."""

    cpu_millicores: int
    memory_mib: int
    extended: dict[str, int] = {}
    """Extended resources by their Kubernetes name, once its device plugin runs there: `nvidia.com/gpu`."""


class Sizes(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The catalogue as it is kept."""

    source: str
    types: dict[str, InstanceType]


CATALOGUE: Final = msgspec.json.decode(pkgutil.get_data(_DATA, "catalogue.json") or b"", type=Sizes).types
"""By instance type. `make catalogue` writes it (deploy/catalogue.py); what it lacks stands under `workers.sizes`."""


def family_of(instance_type: str) -> str:
    """`m7i-flex` of `m7i-flex.large`."""
    return instance_type.partition(".")[0]


def arch_of(instance_type: str) -> str:
    """`arm64` or `amd64`, as Kubernetes writes them."""
    return ARM64 if _GRAVITON.fullmatch(family_of(instance_type)) else AMD64


def generation_of(instance_type: str) -> int:
    """7 of `m7i-flex.large`; 0 where the name shows none."""
    found = re.match(_GENERATION, instance_type)
    return int(found[1]) if found is not None else 0


@cache
def reference_usd() -> dict[str, float]:
    """On-demand dollars an hour in the reference region; decoded when a policy needs an order."""
    table: dict[str, Any] = msgspec.json.decode(pkgutil.get_data(_DATA, "prices.json") or b"{}")
    prices: dict[str, float] = table[REFERENCE_REGION]["on-demand"]["usd_per_hour"]
    return prices
