"""Writes what the core knows of EC2's instance types, offline: `make catalogue`.

Sizes come from moto's copy of DescribeInstanceTypes, which its maintainers refresh with each release. Prices come from
a dated public list, `pkg/providers/pricing/zz_generated.pricing_aws*.go` of github.com/aws/karpenter-provider-aws
(Apache-2.0), which its maintainers generate from AWS' Pricing API; without a list the present prices stay.
"""

import gzip
import json
import re
from collections.abc import Mapping
from importlib.metadata import version
from importlib.resources import files
from pathlib import Path
from typing import Annotated, Any, Final

import msgspec
import typer

from autoscaler.decide.capacity.catalogue import InstanceType, Sizes
from autoscaler.decide.capacity.prices import PriceList, PriceTable, price_table
from autoscaler.deploy.architecture import of_instance_type
from autoscaler.model import ON_DEMAND

FOLDER: Final = Path(__file__).resolve().parents[1] / "decide" / "capacity"
SIZES: Final = FOLDER / "catalogue.json"
PRICES: Final = FOLDER / "prices.json"
FAMILIES: Final = re.compile(r"t3a?|t4g|[mcr](?:5a?|[67][agi]|8[agi]|[78]i-flex)")
"""Families that somebody runs K3s workers on: without local disks or extra network, which cost extra."""
GPU_FAMILIES: Final = re.compile(r"g(?:4dn|5g?|6e?)")
"""Families with whole GPUs of NVIDIA's: a share of one (g6f) is no `nvidia.com/gpu`."""
_SIZE_NAMES: Final = ("nano", "micro", "small", "medium", "large", "xlarge", "2xlarge", "4xlarge")
_LARGER: Final = ("8xlarge", "12xlarge", "16xlarge", "24xlarge", "48xlarge")
"""Sizes of which only GPU families have a use: several GPUs in one machine."""
_RESOURCES: Final = {"NVIDIA": "nvidia.com/gpu"}
"""By manufacturer, what its device plugin calls a GPU (github.com/NVIDIA/k8s-device-plugin)."""
_LISTED_ON: Final = re.compile(r"// generated at (\d{4}-\d\d-\d\d)T")
_LISTED_REGION: Final = re.compile(r'^\t"([a-z0-9-]+)": \{$')
_LISTED: Final = re.compile(r'"([a-z0-9-]+\.[a-z0-9-]+)": (\d+\.\d+),')
_SIZE: Final = re.compile(r'\{\s+("cpu_millicores": \d+),\s+("memory_mib": \d+)\s+\}')
_SIZE_WITH_MORE: Final = re.compile(
    r'\{\s+("cpu_millicores": \d+),\s+("memory_mib": \d+),\s+"extended": \{\s+("[^"]+": \d+)\s+\}\s+\}'
)


class NoList(ValueError):
    """A file is not the list that it should be; the message says why."""


def is_for_workers(instance_type: str) -> bool:
    """Whether the catalogue takes the type."""
    family, _, size = instance_type.partition(".")
    if GPU_FAMILIES.fullmatch(family) is not None:
        return size in _SIZE_NAMES or size in _LARGER
    return FAMILIES.fullmatch(family) is not None and size in _SIZE_NAMES


def order(instance_type: str) -> tuple[str, int]:
    """By family, and within it from small to large."""
    family, _, size = instance_type.partition(".")
    return family, (*_SIZE_NAMES, *_LARGER).index(size)


def sizes(described: Mapping[str, Mapping[str, Any]]) -> dict[str, InstanceType]:
    """Of the types that are for workers, by DescribeInstanceTypes' rows. Raises NoList.

    The core knows a type's architecture by its name: a type whose name says another thing than EC2 is refused here.
    """
    found = {}
    for name in sorted(filter(is_for_workers, described), key=order):
        try:
            row = described[name]
            vcpus, memory_mib = row["VCpuInfo"]["DefaultVCpus"], row["MemoryInfo"]["SizeInMiB"]
            architectures = row["ProcessorInfo"]["SupportedArchitectures"]
        except (KeyError, TypeError) as error:
            raise NoList(f"{name} is described without {error}") from error
        if of_instance_type(name) not in architectures:
            raise NoList(f"{name} is {'/'.join(architectures)}, and its name says {of_instance_type(name)}")
        found[name] = InstanceType(cpu_millicores=vcpus * 1000, memory_mib=memory_mib, extended=_extended(row))
    return found


def _extended(row: Mapping[str, Any]) -> dict[str, int]:
    """Extended resources, as the device plugin of their manufacturer counts them."""
    pieces: dict[str, int] = {}
    for gpu in (row.get("GpuInfo") or {}).get("Gpus", ()):
        resource = _RESOURCES.get(gpu.get("Manufacturer", ""))
        if resource is not None and gpu.get("Count"):
            pieces[resource] = pieces.get(resource, 0) + gpu["Count"]
    return pieces


def listed_prices(text: str) -> PriceTable:
    """On-demand prices by region of Karpenter's generated list. Raises NoList."""
    dated = _LISTED_ON.search(text)
    if dated is None:
        raise NoList("it does not say when it was generated")
    by_region: dict[str, dict[str, float]] = {}
    region = ""
    for line in text.splitlines():
        if heading := _LISTED_REGION.match(line):
            region = heading[1]
        elif region:
            prices = {name: float(usd) for name, usd in _LISTED.findall(line) if is_for_workers(name)}
            by_region.setdefault(region, {}).update(prices)
    if not any(by_region.values()):
        raise NoList("it holds no price of a type that the catalogue takes")
    source = "Karpenter's generated price list, which is AWS' Pricing API on that day"
    return {
        region: {ON_DEMAND: PriceList(dated=dated[1], source=source, usd_per_hour=prices)}
        for region, prices in by_region.items()
    }


def merged(table: PriceTable, fresh: PriceTable) -> PriceTable:
    """The fresh lists in the place of those of the same region and market; others stay."""
    both = {region: {**table.get(region, {}), **fresh.get(region, {})} for region in {*table, *fresh}}
    return {
        region: {market: _sorted(both[region][market]) for market in sorted(both[region])} for region in sorted(both)
    }


def _sorted(prices: PriceList) -> PriceList:
    kept = {name: prices.usd_per_hour[name] for name in sorted(prices.usd_per_hour, key=order)}
    return msgspec.structs.replace(prices, usd_per_hour=kept)


def write(path: Path, value: Sizes | PriceTable) -> None:
    """As JSON, an instance type a line, so that a change reads as one."""
    text = json.dumps(msgspec.to_builtins(value), indent=1)
    text = _SIZE_WITH_MORE.sub(r'{\1, \2, "extended": {\3}}', _SIZE.sub(r"{\1, \2}", text))
    path.write_text(text + "\n", encoding="utf-8")


def moto_sizes() -> Sizes:
    """Sizes as the installed moto has them. Raises NoList."""
    packed = files("moto.ec2") / "resources" / "instance_types.json.gz"
    try:
        described = json.loads(gzip.decompress(packed.read_bytes()))
    except (OSError, ValueError) as error:
        raise NoList(f"moto's list of instance types cannot be read: {error}") from error
    return Sizes(source=f"DescribeInstanceTypes as moto {version('moto')} has it", types=sizes(described))


def main(
    *,
    prices: Annotated[Path | None, typer.Option(help="Karpenter's zz_generated.pricing_aws.go, or a sibling.")] = None,
) -> None:
    """Write the catalogue of instance types anew, and their prices from a dated list if one is given."""
    try:
        known = moto_sizes()
        fresh = listed_prices(prices.read_text(encoding="utf-8")) if prices is not None else {}
    except (NoList, OSError) as error:
        typer.echo(f"Nothing is written: {error}.", err=True)
        raise typer.Exit(1) from None
    table = merged(price_table(), fresh)
    write(SIZES, known)
    write(PRICES, table)
    typer.echo(f"{len(known.types)} instance types. {known.source}.")
    for region, markets in table.items():
        for market, listed in markets.items():
            unpriced = sorted(set(known.types) - set(listed.usd_per_hour), key=order)
            typer.echo(f"{region} {market}: {len(listed.usd_per_hour)} prices of {listed.dated}. {listed.source}.")
            if unpriced:
                typer.echo(f"  without a price: {', '.join(unpriced)}")


if __name__ == "__main__":
    typer.run(main)
