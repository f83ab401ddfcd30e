"""What an hour of an EC2 instance costs: a dated table by region and market, and the operator's own prices before it.

A price that is in neither is unknown, which is not zero. The table (`prices.json`) is part of the package as this
module is: it is refreshed by commands and a deployment, never in a look (docs/policy/cost.md).
"""

import pkgutil
import re
from functools import cache, lru_cache
from typing import Final

import msgspec

from autoscaler.model import ON_DEMAND, SPOT
from autoscaler.policy import Policy

_ZONE: Final = re.compile(r"([a-z]{2}(?:-[a-z]+)+-\d)[a-z]")
"""A local zone (`us-west-2-lax-1a`) has prices of its own, and is none of these."""


class PriceList(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Linux prices of one region and market on one day."""

    dated: str
    """`2026-01-19`."""
    source: str
    usd_per_hour: dict[str, float]
    """By instance type. Of Spot: the dearest zone's."""


PriceTable = dict[str, dict[str, PriceList]]
"""By region and market."""


@cache
def price_table() -> PriceTable:
    """The committed table; decoded when it is first needed."""
    packed = pkgutil.get_data(__package__, "prices.json")
    return msgspec.json.decode(packed or b"", type=PriceTable)


def price_of(
    instance_type: str, zone: str, market: str, policy: Policy, table: PriceTable | None = None
) -> float | None:
    """US dollars an hour: the operator's, else the table's; None where nobody knows."""
    prices = policy.cost.spot_usd_per_hour if market == SPOT else policy.cost.usd_per_hour
    own = prices.get(instance_type) if market in {ON_DEMAND, SPOT} else None
    if own is not None:
        return own
    return table_price(price_table() if table is None else table, instance_type, zone, market)


def counted_price(
    instance_type: str, zone: str, market: str, policy: Policy, table: PriceTable | None = None
) -> float | None:
    """What a sum counts it at: its price, else what the operator counts unknown ones at.

    For sums alone: compared by that, a large machine would cost what a small one does.
    """
    known = price_of(instance_type, zone, market, policy, table)
    return known if known is not None else policy.cost.other_usd_per_hour


def table_price(table: PriceTable, instance_type: str, zone: str, market: str) -> float | None:
    """By the table alone."""
    prices = table.get(price_region(zone), {}).get(market)
    return prices.usd_per_hour.get(instance_type) if prices is not None else None


@lru_cache
def price_region(zone: str) -> str:
    """Of a zone that has its region's prices; empty for any other."""
    place = _ZONE.fullmatch(zone)
    return place[1] if place is not None else ""
