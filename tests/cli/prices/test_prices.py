"""`prices refresh` on botocore's Stubber: what is asked, what is kept of the answers, and what is refused."""

import json
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from shutil import copy
from typing import Any

import botocore.session
import msgspec
import pytest
from botocore.stub import ANY, Stubber
from typer.testing import CliRunner

from autoscaler.cli.main import app
from autoscaler.cli.prices import command
from autoscaler.cli.prices.asked import on_demand, spot, types_of
from autoscaler.decide.capacity.prices import price_table
from autoscaler.deploy import catalogue
from autoscaler.deploy.catalogue import NoList, order
from autoscaler.instance_types import CATALOGUE, InstanceType, Sizes

NOW = datetime(2026, 11, 26, 12, tzinfo=UTC)
ON = "2026-11-26"
FRANKFURT = "eu-central-1"


class StubbedAccount:
    """Clients whose answers are given beforehand, and are held against the services' own models."""

    def __init__(self) -> None:
        session = botocore.session.get_session()
        self.clients = {name: session.create_client(name, region_name=FRANKFURT) for name in ("ec2", "pricing")}
        self.stubs = {name: Stubber(client) for name, client in self.clients.items()}
        self.regions: dict[str, set[str]] = {}

    def client(self, service: str, region: str) -> Any:
        self.regions.setdefault(service, set()).add(region)
        return self.clients[service]


@pytest.fixture
def account() -> Iterator[StubbedAccount]:
    made = StubbedAccount()
    for stub in made.stubs.values():
        stub.activate()
    yield made
    for stub in made.stubs.values():
        stub.assert_no_pending_responses()


def row(name: str) -> dict[str, Any]:
    return {
        "InstanceType": name,
        "VCpuInfo": {"DefaultVCpus": 2},
        "MemoryInfo": {"SizeInMiB": 2048},
        "ProcessorInfo": {"SupportedArchitectures": ["x86_64"]},
    }


def product(name: str, usd: str = "0.0240000000", unit: str = "Hrs") -> str:
    dimension = {"unit": unit, "pricePerUnit": {"USD": usd}}
    terms = {"OnDemand": {"A.B": {"priceDimensions": {"A.B.C": dimension}}}}
    return json.dumps({"product": {"attributes": {"instanceType": name}}, "terms": terms})


def describe(account: StubbedAccount, *pages: list[str]) -> None:
    for number, names in enumerate(pages):
        more = {"NextToken": f"t{number}"} if number + 1 < len(pages) else {}
        asked = {"NextToken": f"t{number - 1}"} if number else {}
        account.stubs["ec2"].add_response(
            "describe_instance_types", {"InstanceTypes": [row(n) for n in names], **more}, asked
        )


def sell(account: StubbedAccount, *pages: list[str]) -> None:
    for number, products in enumerate(pages):
        more = {"NextToken": f"t{number}"} if number + 1 < len(pages) else {}
        asked = {"NextToken": ANY} if number else {}
        account.stubs["pricing"].add_response(
            "get_products", {"PriceList": products, **more}, {"ServiceCode": "AmazonEC2", "Filters": ANY, **asked}
        )


def bid(account: StubbedAccount, *rows: tuple[str, str, str], types: Any = ANY) -> None:
    history = [{"InstanceType": t, "AvailabilityZone": z, "SpotPrice": usd} for t, z, usd in rows]
    asked = {"InstanceTypes": types, "ProductDescriptions": ["Linux/UNIX"], "StartTime": ANY, "EndTime": ANY}
    account.stubs["ec2"].add_response("describe_spot_price_history", {"SpotPriceHistory": history}, asked)


def test_types_are_asked_of_the_region_page_by_page(account: StubbedAccount) -> None:
    describe(account, ["t3.small", "p5.48xlarge"], ["m5.large"])
    assert list(types_of(account, FRANKFURT)) == ["m5.large", "t3.small"]
    assert account.regions == {"ec2": {FRANKFURT}}


def test_on_demand_prices_are_those_of_an_ordinary_linux_worker(account: StubbedAccount) -> None:
    filters: list[dict[str, str]] = []
    account.clients["pricing"].meta.events.register(
        "provide-client-params.pricing.GetProducts", lambda params, **_: filters.extend(params["Filters"])
    )
    sell(account, [product("t3.small"), product("p5.4xlarge", "9.0")], [product("m5.large", "0.115")])
    listed = on_demand(account, FRANKFURT, ON)
    assert listed.usd_per_hour == {"t3.small": 0.024, "m5.large": 0.115}
    assert listed.dated == ON
    assert account.regions == {"pricing": {"us-east-1"}}, "the API itself is there, whatever region is asked about"
    assert {f["Field"]: f["Value"] for f in filters[:6]} == {
        "operatingSystem": "Linux", "tenancy": "Shared", "preInstalledSw": "NA", "capacitystatus": "Used",
        "marketoption": "OnDemand", "regionCode": FRANKFURT,
    }  # fmt: skip


@pytest.mark.parametrize(
    ("products", "words"),
    [
        pytest.param([product("t3.small"), product("t3.small", "0.03")], "two on-demand prices of t3.small", id="two"),
        pytest.param([product("t3.small", "0.0000000000")], "names no price", id="zero is no price"),
        pytest.param([product("t3.small", unit="Quantity")], "names no price", id="not by the hour"),
        pytest.param([], "names no price for eu-central-1: is that the region's code", id="nothing"),
    ],
)
def test_what_is_no_price_is_refused(account: StubbedAccount, products: list[str], words: str) -> None:
    sell(account, products)
    with pytest.raises(NoList, match=words):
        on_demand(account, FRANKFURT, ON)


def test_a_spot_price_is_the_dearest_zones(account: StubbedAccount) -> None:
    zones = (("t3.small", f"{FRANKFURT}a", "0.0081"), ("t3.small", f"{FRANKFURT}b", "0.0093"))
    local = ("t3.small", "eu-central-1-ham-1a", "0.0290")
    bid(account, *zones, local, ("m5.large", f"{FRANKFURT}a", "0.045"), types=["t3.small", "m5.large"])
    listed = spot(account, FRANKFURT, ON, ["t3.small", "m5.large"], now=NOW)
    assert listed.usd_per_hour == {"t3.small": 0.0093, "m5.large": 0.045}


# ---------------------------------------------------------------------------------------------------------- the command


@pytest.fixture
def table(account: StubbedAccount, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    monkeypatch.setattr(command, "SdkAccount", lambda: account)
    monkeypatch.setattr(catalogue, "PRICES", tmp_path / "prices.json")
    monkeypatch.setattr(catalogue, "SIZES", Path(copy(catalogue.SIZES, tmp_path)))
    return tmp_path / "prices.json"


def test_refresh_writes_the_region_beside_the_others(account: StubbedAccount, table: Path) -> None:
    describe(account, ["t3.small", "m5.large"])
    sell(account, [product("t3.small"), product("m5.large", "0.115")])
    bid(account, ("t3.small", f"{FRANKFURT}a", "0.0081"))
    done = CliRunner().invoke(app, ["prices", "refresh", "--region", FRANKFURT])
    assert done.exit_code == 0, done.output
    assert f"{FRANKFURT} on-demand: 2 prices of " in done.output
    assert "; none for m5.large." in done.output
    written = json.loads(table.read_text())
    assert written[FRANKFURT]["spot"]["usd_per_hour"] == {"t3.small": 0.0081}
    assert written["us-east-1"]["on-demand"]["dated"] == price_table()["us-east-1"]["on-demand"].dated


def test_refresh_writes_what_the_types_hold_into_the_catalogue(account: StubbedAccount, table: Path) -> None:
    """Of the types that it lacks or has otherwise; the others stay, and what is no news is not written."""
    sizes = table.with_name("catalogue.json")
    for asked, news in ((["t3.small"], ""), (["t3.small", "m5.large", "m8a.nano"], "m5.large, m8a.nano")):
        before = sizes.read_bytes()
        describe(account, asked)
        sell(account, [product("t3.small")])
        bid(account, ("t3.small", f"{FRANKFURT}a", "0.0081"))
        done = CliRunner().invoke(app, ["prices", "refresh", "--region", FRANKFURT])
        assert (f"catalogue.json lacked these types, or had them otherwise: {news}.\n" in done.output) is bool(news)
        assert (sizes.read_bytes() != before) is bool(news)
    written = msgspec.json.decode(sizes.read_bytes(), type=Sizes)
    told = InstanceType(cpu_millicores=2000, memory_mib=2048)
    assert written.types == {**CATALOGUE, "m5.large": told, "m8a.nano": told}
    assert list(written.types) == sorted(written.types, key=order)
    assert written.source.startswith("DescribeInstanceTypes of eu-central-1 on ")


def test_a_refusal_of_aws_is_one_sentence_and_writes_nothing(account: StubbedAccount, table: Path) -> None:
    describe(account, ["t3.small"])
    account.stubs["pricing"].add_client_error("get_products", "AccessDeniedException", "not yours\nto ask")
    done = CliRunner().invoke(app, ["prices", "refresh", "--region", FRANKFURT])
    assert done.exit_code == 1
    assert done.stderr.startswith("Nothing is written: AWS was asked for prices of eu-central-1: ")
    assert "AccessDeniedException" in done.stderr
    assert done.stderr.count("\n") == 1
    assert not table.exists()


def test_a_table_that_cannot_be_written_is_one_sentence(
    account: StubbedAccount, table: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Such as in an installed package."""
    nowhere = table.with_name("none") / "prices.json"
    monkeypatch.setattr(catalogue, "PRICES", nowhere)
    describe(account, ["t3.small"])
    sell(account, [product("t3.small")])
    bid(account, ("t3.small", f"{FRANKFURT}a", "0.0081"))
    done = CliRunner().invoke(app, ["prices", "refresh", "--region", FRANKFURT])
    said = f"{nowhere} could not be written: No such file or directory. Run this in a clone of yours.\n"
    assert (done.exit_code, done.stderr) == (1, said)


def test_a_region_is_needed(table: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("AWS_REGION", "AWS_DEFAULT_REGION"):
        monkeypatch.delenv(name, raising=False)
    done = CliRunner().invoke(app, ["prices", "refresh"])
    assert (done.exit_code, done.stderr) == (2, "Give --region (or AWS_REGION): prices are a region's.\n")
    assert not table.exists()
