"""What the bench's workers cost: on demand, in the simulator's region, by the committed table."""

from typing import Final

from autoscaler.decide.capacity.prices import ON_DEMAND, price_table, table_price

ZONE: Final = "us-east-1a"


def usd_per_hour(instance_type: str) -> float:
    """Raises ValueError for a type without a price: a bench of dollars guesses none."""
    usd = table_price(price_table(), instance_type, ZONE, ON_DEMAND)
    if usd is None:
        raise ValueError(f"{instance_type} has no price in {ZONE[:-1]}: bench types that the table lists")
    return usd
