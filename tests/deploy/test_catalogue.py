"""The catalogue's command: sizes from moto, prices from a dated list, and nothing written of what is neither."""

import json
from pathlib import Path
from typing import Any

import pytest
from typer import Typer
from typer.testing import CliRunner

from autoscaler.decide.capacity.catalogue import CATALOGUE
from autoscaler.decide.capacity.prices import PriceList, price_table
from autoscaler.deploy import catalogue
from autoscaler.deploy.catalogue import NoList, listed_prices, merged, moto_sizes, sizes, write
from autoscaler.model import ON_DEMAND, SPOT

LIST = """package pricing

// generated at 2026-02-03T13:23:24Z for us-gov-west-1

var InitialOnDemandPricesUSGov = map[string]map[ec2types.InstanceType]float64{
\t// us-gov-west-1
\t"us-gov-west-1": {
\t\t// c5 family
\t\t"c5.18xlarge": 3.672000, "c5.large": 0.102000, "c5.metal": 4.896000,
\t\t"c5.xlarge": 0.204000,
\t\t// m5d family
\t\t"m5d.large": 0.143000,
\t},
\t// us-gov-east-1
\t"us-gov-east-1": {
\t\t"t3.small": 0.024400,
\t},
}
"""


def described(name: str, architecture: str = "x86_64", **changes: Any) -> dict[str, Any]:
    row = {
        "VCpuInfo": {"DefaultVCpus": 2},
        "MemoryInfo": {"SizeInMiB": 8192},
        "ProcessorInfo": {"SupportedArchitectures": [architecture]},
    }
    return {name: row | changes}


def run(*arguments: str) -> Any:
    app = Typer()
    app.command()(catalogue.main)
    return CliRunner().invoke(app, arguments)


def test_the_committed_files_are_what_the_command_writes(tmp_path: Path) -> None:
    """`make catalogue` after a new moto: this fails until the catalogue is written anew."""
    write(tmp_path / "sizes", moto_sizes())
    assert (tmp_path / "sizes").read_text() == catalogue.SIZES.read_text(), "run `make catalogue`"
    write(tmp_path / "prices", merged(price_table(), {}))
    assert (tmp_path / "prices").read_text() == catalogue.PRICES.read_text()


def test_a_list_is_read_by_region_without_what_no_worker_is_made_of() -> None:
    table = listed_prices(LIST)
    assert {region: markets[ON_DEMAND].usd_per_hour for region, markets in table.items()} == {
        "us-gov-west-1": {"c5.large": 0.102, "c5.xlarge": 0.204},
        "us-gov-east-1": {"t3.small": 0.0244},
    }
    assert {markets[ON_DEMAND].dated for markets in table.values()} == {"2026-02-03"}


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "does not say when"),
        (LIST.replace("// generated at", "// made at"), "does not say when"),
        (LIST.replace("0", "x"), "does not say when"),
        (LIST.split("var", maxsplit=1)[0], "holds no price"),
        (LIST.replace("c5.", "x1.").replace("t3.", "x1."), "holds no price"),
    ],
)
def test_what_is_no_list_is_refused(text: str, words: str) -> None:
    with pytest.raises(NoList, match=words):
        listed_prices(text)


def test_a_fresh_list_takes_the_place_of_its_own_region_and_market_only() -> None:
    old, new = (PriceList(dated=d, source="s", usd_per_hour={"t3.small": 1.0}) for d in ("2026-01-01", "2026-02-01"))
    table = merged({"a": {ON_DEMAND: old, SPOT: old}, "b": {ON_DEMAND: old}}, {"a": {SPOT: new}, "c": {SPOT: new}})
    assert table == {"a": {ON_DEMAND: old, SPOT: new}, "b": {ON_DEMAND: old}, "c": {SPOT: new}}


@pytest.mark.parametrize(
    ("rows", "words"),
    [
        pytest.param(described("t4g.small"), "t4g.small is x86_64, and its name says arm64", id="a name that lies"),
        pytest.param(described("m5.large", "arm64"), "its name says x86_64", id="the other way round"),
        pytest.param(described("m5.large", VCpuInfo={}), "is described without 'DefaultVCpus'", id="half a row"),
    ],
)
def test_a_type_that_the_core_would_misjudge_is_refused(rows: dict[str, Any], words: str) -> None:
    with pytest.raises(NoList, match=words):
        sizes(rows)


def test_other_families_and_sizes_stay_out() -> None:
    names = ("m5.metal", "m5d.large", "p5.4xlarge", "m5.8xlarge", "m5.large")
    rows = {name: described(name)[name] for name in names}
    assert list(sizes(rows)) == ["m5.large"]


def test_the_command_writes_both_and_says_what_has_no_price(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(catalogue, "SIZES", tmp_path / "sizes.json")
    monkeypatch.setattr(catalogue, "PRICES", tmp_path / "prices.json")
    (tmp_path / "list.go").write_text(LIST)
    done = run("--prices", str(tmp_path / "list.go"))
    assert done.exit_code == 0, done.output
    assert json.loads((tmp_path / "sizes.json").read_text())["types"].keys() == CATALOGUE.keys()
    assert {"us-east-1", "us-gov-east-1", "us-gov-west-1"} <= json.loads((tmp_path / "prices.json").read_text()).keys()
    assert "us-gov-west-1 on-demand: 2 prices of 2026-02-03." in done.output
    assert "without a price: c5.2xlarge" in done.output


def test_nothing_is_written_of_a_bad_list(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(catalogue, "SIZES", tmp_path / "sizes.json")
    (tmp_path / "list.go").write_text("nothing")
    for path in (tmp_path / "list.go", tmp_path / "absent.go"):
        done = run("--prices", str(path))
        assert done.exit_code == 1
        assert done.output.startswith("Nothing is written: ")
    assert not (tmp_path / "sizes.json").exists()
