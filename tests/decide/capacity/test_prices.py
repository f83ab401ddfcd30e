"""Whose price holds: the operator's, the dated table's, or nobody's; and what a sum counts unknown ones at."""

import re
from datetime import date

import pytest

from autoscaler.decide.capacity.catalogue import CATALOGUE
from autoscaler.decide.capacity.prices import PriceList, PriceTable, counted_price, price_of, price_table
from autoscaler.instance_types import arch_of
from autoscaler.model import ON_DEMAND, SPOT
from autoscaler.policy import Cost
from tests.decide.builders import policy


def listed(**usd: float) -> PriceList:
    return PriceList(dated="2026-01-19", source="a list", usd_per_hour={k.replace("_", "."): v for k, v in usd.items()})


TABLE: PriceTable = {
    "us-east-1": {ON_DEMAND: listed(t3_small=0.0208, t3_medium=0.0416), SPOT: listed(t3_small=0.0075)},
    "eu-central-1": {ON_DEMAND: listed(t3_small=0.024)},
}
OWN = Cost(usd_per_hour={"t3.small": 0.015, "x9.huge": 9.0})
OTHERS = Cost(other_usd_per_hour=0.05)


@pytest.mark.parametrize(
    ("instance_type", "zone", "market", "cost", "expected"),
    [
        pytest.param("t3.small", "us-east-1a", ON_DEMAND, Cost(), 0.0208, id="the table's, by region"),
        pytest.param("t3.small", "eu-central-1c", ON_DEMAND, Cost(), 0.024, id="of another region"),
        pytest.param("t3.small", "us-east-1a", SPOT, Cost(), 0.0075, id="of another market"),
        pytest.param("t3.small", "us-east-1a", ON_DEMAND, OWN, 0.015, id="the operator's comes first"),
        pytest.param("x9.huge", "ap-south-1a", ON_DEMAND, OWN, 9.0, id="the operator's, of any type and region"),
        pytest.param("t3.small", "us-east-1a", SPOT, OWN, 0.0075, id="the operator's are on-demand prices"),
        pytest.param("t3.medium", "eu-central-1a", ON_DEMAND, Cost(), None, id="a type that the region's list lacks"),
        pytest.param("t3.small", "ap-south-1a", ON_DEMAND, Cost(), None, id="a region that the table lacks"),
        pytest.param("t3.small", "eu-central-1a", SPOT, Cost(), None, id="a market that the region lacks"),
        pytest.param("t3.small", "us-east-1a", "scheduled", Cost(), None, id="a market that nobody lists"),
        pytest.param("t3.small", "us-east-1-bos-1a", ON_DEMAND, Cost(), None, id="a local zone has its own prices"),
        pytest.param("t3.small", "us-east-1-wl1-bos-wlz-1", ON_DEMAND, Cost(), None, id="a wavelength zone"),
        pytest.param("t3.small", "", ON_DEMAND, Cost(), None, id="no zone is known"),
        pytest.param("t3.small", "ap-south-1a", ON_DEMAND, OTHERS, None, id="what it counts as is no price"),
    ],
)
def test_whose_price_holds(instance_type: str, zone: str, market: str, cost: Cost, expected: float | None) -> None:
    assert price_of(instance_type, zone, market, policy(cost=cost), TABLE) == expected


@pytest.mark.parametrize(
    ("zone", "cost", "expected"),
    [
        pytest.param("ap-south-1a", OTHERS, 0.05, id="what unknown ones count as"),
        pytest.param("us-east-1a", OTHERS, 0.0208, id="which does not hide the table"),
        pytest.param("ap-south-1a", Cost(), None, id="nobody says"),
    ],
)
def test_what_a_sum_counts_it_at(zone: str, cost: Cost, expected: float | None) -> None:
    assert counted_price("t3.small", zone, ON_DEMAND, policy(cost=cost), TABLE) == expected


def test_the_committed_table_has_every_type_of_the_catalogue_and_its_date() -> None:
    table = price_table()
    prices = table["us-east-1"][ON_DEMAND]
    assert prices.usd_per_hour.keys() == CATALOGUE.keys()
    for markets in table.values():
        for one in markets.values():
            assert date.fromisoformat(one.dated) >= date(2026, 1, 1)
            assert one.source
            assert all(0 < usd < 40 for usd in one.usd_per_hour.values())


def test_the_committed_prices_double_with_the_size() -> None:
    """AWS prices a family by its size: what was read wrong would show. GPU families by their GPUs: the next test."""
    order = ("nano", "micro", "small", "medium", "large", "xlarge", "2xlarge", "4xlarge")
    prices = price_table()["us-east-1"][ON_DEMAND].usd_per_hour
    for name, usd in prices.items():
        family, _, size = name.partition(".")
        if CATALOGUE[name].extended:
            continue
        twice = f"{family}.{order[min(order.index(size) + 1, 7)]}"
        if twice != name and twice in prices:
            assert prices[twice] == pytest.approx(2 * usd, rel=0.005), twice


def test_a_type_with_gpus_has_whole_ones_and_costs_more_than_its_cpus() -> None:
    prices = price_table()["us-east-1"][ON_DEMAND].usd_per_hour
    with_gpus = {name: size.extended for name, size in CATALOGUE.items() if size.extended}
    assert {name.partition(".")[0] for name in with_gpus} == {"g4dn", "g5", "g5g", "g6", "g6e"}
    assert (with_gpus["g4dn.xlarge"], with_gpus["g4dn.12xlarge"]) == ({"nvidia.com/gpu": 1}, {"nvidia.com/gpu": 4})
    assert not any("g6f" in name for name in CATALOGUE), "an eighth of a GPU is no nvidia.com/gpu"
    plain = {"amd64": "m7i.xlarge", "arm64": "m7g.xlarge"}
    for name in with_gpus:
        alike = plain[arch_of(name)]
        assert prices[name] / CATALOGUE[name].cpu_millicores > prices[alike] / CATALOGUE[alike].cpu_millicores, name


def test_the_catalogue_covers_what_workers_are_made_of() -> None:
    families = {name.partition(".")[0] for name in CATALOGUE}
    assert families >= {
        "t3",
        "t3a",
        "t4g",
        "m5",
        "m6i",
        "m7g",
        "m8g",
        "c5",
        "c6a",
        "c7i",
        "c8g",
        "r5",
        "r6g",
        "r7a",
        "r8g",
    }
    without_gpus = [name for name, size in CATALOGUE.items() if not size.extended]
    assert all(re.fullmatch(r"(nano|micro|small|medium|(|2|4)x?large)", n.partition(".")[2]) for n in without_gpus)
    assert (CATALOGUE["t3.small"].cpu_millicores, CATALOGUE["t3.small"].memory_mib) == (2000, 2048)
    assert (CATALOGUE["m8g.4xlarge"].cpu_millicores, CATALOGUE["m8g.4xlarge"].memory_mib) == (16_000, 65_536)
