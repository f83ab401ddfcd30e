"""Worker pools, as `policy.yml` states them: what machines, how paid for. `Policy.pools` resolves the short form."""

from typing import Annotated, Final, Literal

import msgspec

GENERAL: Final = "general"
"""The one pool of a policy that names none: the flat fields of `workers` are its short form."""

Market = Literal["on-demand", "spot"]


class WorkerPool(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Workers that are alike: launched from one template, of these types, in one of the two markets."""

    name: Annotated[str, msgspec.Meta(pattern=r"^[a-z0-9][a-z0-9-]*$", max_length=40)]
    instance_types: tuple[str, ...]
    """In order of preference, each once; resolved where the policy states requirements."""
    market: Market = "on-demand"
    on_demand_base: Annotated[int, msgspec.Meta(ge=0, le=1_000)] = 0
    """Of a Spot pool: so many of its workers are on-demand, before any is Spot."""
    on_demand_share: Annotated[float, msgspec.Meta(ge=0.0, le=1.0)] = 0.0
    """Of a Spot pool: this share of its workers beyond the base is on-demand, rounded up."""
