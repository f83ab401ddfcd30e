"""What AWS says that instance types hold and cost, asked with a person's credentials: never in a look.

Sources: AWS Price List API, GetProducts (filters of AmazonEC2; one product with one on-demand term for each type); EC2
API reference, DescribeSpotPriceHistory and DescribeInstanceTypes.
"""

import json
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, Final, Protocol

from autoscaler.decide.capacity.catalogue import InstanceType
from autoscaler.decide.capacity.prices import PriceList, price_region
from autoscaler.deploy.catalogue import NoList, is_for_workers, sizes

PRICING_REGION: Final = "us-east-1"
"""The Price List API answers for every region, and in few of them only."""
_LINUX: Final = {
    "operatingSystem": "Linux",
    "tenancy": "Shared",
    "preInstalledSw": "NA",
    "capacitystatus": "Used",
    "marketoption": "OnDemand",
}
"""Of the products of one type and region, the one that an ordinary Linux worker is billed by."""
SPOT_PRODUCT: Final = "Linux/UNIX"


class Account(Protocol):
    """SDK clients: a test gives stubbed ones."""

    def client(self, service: str, region: str) -> Any:
        """An SDK client of the region."""
        ...


def types_of(account: Account, region: str) -> dict[str, InstanceType]:
    """Sizes of the types that the region has and the catalogue takes. Raises NoList, and the SDK's errors."""
    pages = account.client("ec2", region).get_paginator("describe_instance_types").paginate()
    return sizes({row["InstanceType"]: row for page in pages for row in page["InstanceTypes"]})


def on_demand(account: Account, region: str, on: str) -> PriceList:
    """On-demand Linux prices of a region. Raises NoList, and the SDK's errors."""
    filters = [{"Type": "TERM_MATCH", "Field": field, "Value": value} for field, value in _LINUX.items()]
    filters.append({"Type": "TERM_MATCH", "Field": "regionCode", "Value": region})
    pages = (
        account.client("pricing", PRICING_REGION)
        .get_paginator("get_products")
        .paginate(ServiceCode="AmazonEC2", Filters=filters)
    )
    usd: dict[str, float] = {}
    for product in (json.loads(text) for page in pages for text in page["PriceList"]):
        name = product["product"]["attributes"].get("instanceType", "")
        if not is_for_workers(name):
            continue
        for price in _hourly(product):
            if usd.setdefault(name, price) != price:
                raise NoList(f"two on-demand prices of {name} in {region}: {usd[name]} and {price}")
    return _listed(usd, region, on, "AWS Price List API, on-demand Linux with shared tenancy")


def spot(account: Account, region: str, on: str, types: Sequence[str], *, now: datetime) -> PriceList:
    """The present Spot prices of a region: of each type the dearest zone's. Raises NoList, and the SDK's errors.

    Local zones are told beside the region's own, and have prices of their own.
    """
    pages = (
        account.client("ec2", region)
        .get_paginator("describe_spot_price_history")
        .paginate(
            InstanceTypes=list(types), ProductDescriptions=[SPOT_PRODUCT], StartTime=now.astimezone(UTC), EndTime=now
        )
    )
    usd: dict[str, float] = {}
    for row in (row for page in pages for row in page["SpotPriceHistory"]):
        if price_region(row["AvailabilityZone"]) != region:
            continue
        usd[row["InstanceType"]] = max(usd.get(row["InstanceType"], 0.0), float(row["SpotPrice"]))
    return _listed(usd, region, on, "DescribeSpotPriceHistory, the dearest zone's")


def _hourly(product: Mapping[str, Any]) -> Iterator[float]:
    """Dollars an hour of a product's on-demand terms; 0 stands where the offer is not sold, and is no price."""
    for term in product.get("terms", {}).get("OnDemand", {}).values():
        for dimension in term["priceDimensions"].values():
            price = float(dimension["pricePerUnit"].get("USD", 0))
            if dimension["unit"] == "Hrs" and price > 0:
                yield price


def _listed(usd: dict[str, float], region: str, on: str, source: str) -> PriceList:
    if not usd:
        raise NoList(f"AWS names no price for {region}: is that the region's code?")
    return PriceList(dated=on, source=source, usd_per_hour=usd)
