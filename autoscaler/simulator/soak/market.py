"""On what market a seed's workers are bought, and when the market or a zone fails it: with dice of their own."""

import random
from collections.abc import Collection
from typing import Final

import msgspec

from autoscaler.model import SPOT
from autoscaler.policy import Policy
from autoscaler.simulator.ec2 import listed_usd
from autoscaler.simulator.soak.faults import market
from autoscaler.simulator.soak.faults.stage import Episode
from autoscaler.spot import Spot

SPOT_SEEDS: Final = 0.3
OUTAGE_SEEDS: Final = 0.3
"""In how many of the others a zone fails."""


def with_market(policy: Policy, seed: int) -> Policy:
    """The policy, in some seeds with workers on Spot, with waits that fit into a run."""
    dice = random.Random(f"{seed}: on what market")
    if dice.random() >= SPOT_SEEDS:
        return policy
    workers = msgspec.structs.replace(
        policy.workers,
        market=SPOT,
        on_demand_base=dice.choice((0, 1, 2)),
        on_demand_share=dice.choice((0.0, 0.0, 0.25, 0.5)),
    )
    spot = Spot(
        storm_window_s=dice.choice((120, 600)),
        storm_pause_s=dice.choice((60, 600)),
        return_after_s=dice.choice((0, 300, 900)),
        return_min_types=1,
    )
    kinds = policy.workers.instance_types
    cost = msgspec.structs.replace(policy.cost, spot_usd_per_hour={kind: listed_usd(kind, SPOT) for kind in kinds})
    return msgspec.structs.replace(policy, workers=workers, spot=spot, cost=cost)


def plan_for_market(
    policy: Policy, seed: int, *, first: int, begin_s: float, end_s: float, only: Collection[str]
) -> list[Episode]:
    """The episodes of the market and the zones: the others are what they are without them."""
    dice = random.Random(f"{seed}: when the market fails")
    # Droughts are what most is at stake in: they come more often.
    kinds = [*sorted(market.KINDS), market.DROUGHT, market.DROUGHT]
    on_spot = any(pool.market == SPOT for pool in policy.pools)
    kinds = kinds if on_spot else [market.ZONE_OUTAGE]
    if only or (not on_spot and dice.random() >= OUTAGE_SEEDS):
        return []
    span_s = end_s - begin_s
    episodes = []
    for number in range(dice.choice((3, 6, 10))):
        at_s = begin_s + span_s * dice.random()
        for_s = min(dice.choice((300.0, 1200.0, 2400.0)) * (0.5 + dice.random()), end_s - at_s)
        episodes.append(Episode(first + number, dice.choice(kinds), at_s, for_s, dice.random(), dice.random()))
    return episodes
