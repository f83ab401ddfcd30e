"""Worker pools, as `policy.yml` states them: what machines, how paid for. `Policy.pools` resolves the short form.

What may be wrong with them is told in pool_faults.py; what their requirements ask of types in requirements.py.
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import Annotated, Final, Literal

import msgspec

from autoscaler.instance_types import InstanceType, arch_of
from autoscaler.model.rules import Effect, Taint
from autoscaler.requirements import MOST_TYPES, Requirements, matching

GENERAL: Final = "general"
"""The one pool of a policy that names none: the flat fields of `workers` are its short form."""
FLAT_FIELDS: Final = ("instance_types", "market", "on_demand_base", "on_demand_share")
"""Fields of `workers` that `workers.pools` replaces."""
MOST_POOLS: Final = 8
"""Each has a launch template or two, and images, in one IAM policy of 6,144 characters."""
MOST_SUBNETS: Final = 12
"""Of all pools together: they stand there too."""

Market = Literal["on-demand", "spot"]
Words = tuple[Annotated[str, msgspec.Meta(max_length=200)], ...]


class WorkerPool(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Workers that are alike: launched from one template, of these types, in one of the two markets."""

    name: Annotated[
        str,
        msgspec.Meta(
            pattern=r"^[a-z0-9]([a-z0-9-]*[a-z0-9])?$",
            max_length=40,
            description="at most 40 small letters, digits and -, and no - at an end",
        ),
    ]
    """What decisions, tags and the label `k3s-autoscaler/pool` call it."""
    instance_types: Annotated[tuple[str, ...], msgspec.Meta(max_length=MOST_TYPES)] = ()
    """In order of preference, each once; resolved where the policy states requirements."""
    requirements: Requirements | None = None
    """Instead of naming types: of those that have it, the cheapest per placed request is launched."""
    market: Market = "on-demand"
    """`spot`: what is not on demand by the next two is bought on the Spot market."""
    on_demand_base: Annotated[int, msgspec.Meta(ge=0, le=1_000)] = 0
    """Of a Spot pool: so many of its workers are on-demand, before any is Spot."""
    on_demand_share: Annotated[float, msgspec.Meta(ge=0.0, le=1.0)] = 0.0
    """Of a Spot pool: this share of its workers beyond the base is on-demand, rounded up."""
    labels: Annotated[dict[str, str], msgspec.Meta(max_length=20)] = {}
    """Of its Nodes, beside those that every worker has."""
    taints: Annotated[Words, msgspec.Meta(max_length=10)] = ()
    """`key=value:NoSchedule`, as `k3s agent --node-taint` takes them."""
    min: Annotated[int, msgspec.Meta(ge=0, le=1_000)] = 0
    """So many of its workers at least, within the fleet's."""
    max: Annotated[int, msgspec.Meta(ge=0, le=1_000)] | None = None
    """None: as many as the fleet may have."""
    weight: Annotated[int, msgspec.Meta(ge=0, le=1_000)] = 0
    """Of pools that cost the same, the one with the highest is launched."""
    image: Annotated[str, msgspec.Meta(max_length=512)] = ""
    """An AMI's id, or the public SSM parameter that holds one; empty: the deployment's image, for its architecture."""
    volume_gb: Annotated[int, msgspec.Meta(ge=8, le=16_384)] | None = None
    """None: as large as the deployment's."""
    subnets: Annotated[Words, msgspec.Meta(max_length=12)] = ()
    """Where it is launched; empty: in the deployment's."""
    agent_args: Annotated[Words, msgspec.Meta(max_length=20)] = ()
    """More arguments of `k3s agent`, a word each."""

    @property
    def parsed_taints(self) -> tuple[Taint, ...]:
        """The taints apart. Raises ValueError for one that `pool_faults` refuses."""
        return tuple(parse_taint(text) for text in self.taints)

    @property
    def archs(self) -> tuple[str, ...]:
        """Architectures of its types, the first type's first: each needs an image, and a template, of its own."""
        return tuple(dict.fromkeys(arch_of(kind) for kind in self.instance_types))

    @property
    def markets(self) -> tuple[Market, ...]:
        """Where its workers are bought by its own rules, whatever Spot does not give."""
        mixed = self.market == "spot" and (self.on_demand_base or self.on_demand_share)
        return ("spot", "on-demand") if mixed else (self.market,)

    def choice_of(self, instance_type: str) -> str:
        """Of types with the same, the first that fits is launched; of several the cheapest."""
        return self.name if self.requirements is None else f"{self.name}/{instance_type}"


def parse_taint(text: str) -> Taint:
    """`key=value:Effect` or `key:Effect`. Raises ValueError."""
    head, _, effect = text.rpartition(":")
    key, _, value = head.partition("=")
    return Taint(key=key, value=value, effect=Effect(effect))


def resolved(
    pools: Sequence[WorkerPool], types: Mapping[str, InstanceType], usd_per_hour: Mapping[str, float]
) -> tuple[WorkerPool, ...]:
    """The pools with their types named. Raises ValueError for requirements that `pool_faults` refuses."""
    return tuple(
        pool
        if pool.requirements is None
        else msgspec.structs.replace(pool, instance_types=matching(pool.requirements, types, usd_per_hour)[:MOST_TYPES])
        for pool in pools
    )


def further_templates(pools: Sequence[WorkerPool]) -> tuple[tuple[WorkerPool, str], ...]:
    """Pool and architecture of every launch template beside the first one's, which is the default pool's."""
    if not pools:
        return ()
    default = default_of(pools)
    return tuple(
        (pool, arch) for pool in pools for arch in pool.archs if (pool.name, arch) != (default.name, default.archs[0])
    )


def default_of(pools: Iterable[WorkerPool]) -> WorkerPool:
    """The one of workers that say nothing of a pool: `general`, or else the first."""
    there = tuple(pools)
    return next((pool for pool in there if pool.name == GENERAL), there[0])
