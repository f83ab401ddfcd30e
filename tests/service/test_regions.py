"""cloudformation/regions.json is the SDK's own table, and decides at packaging where the service may stand."""

import datetime as dt
import json
import subprocess
from typing import Any

import botocore.session
import pytest

from tests.service.conftest import CREDENTIAL_FREE, ROOT

TABLE = json.loads((ROOT / "cloudformation" / "regions.json").read_text())
ACCEPTED_BY_IPV6 = [region for region, services in TABLE["dual_stack"].items() if {"ec2", "sns"} <= set(services)]


def partitions() -> list[dict[str, Any]]:
    loader = botocore.session.get_session().get_component("data_loader")
    rows: list[dict[str, Any]] = loader.load_data("endpoints")["partitions"]
    return [row for row in rows if row["partition"] in {"aws", "aws-cn", "aws-us-gov"}]


def test_it_has_each_region_in_which_the_sdk_knows_every_service_that_is_needed() -> None:
    complete = {
        region
        for partition in partitions()
        for region in partition["regions"]
        if all(region in partition["services"][service]["endpoints"] for service in TABLE["needed"])
    }
    assert set(TABLE["dual_stack"]) == complete


@pytest.mark.parametrize("service", ["ec2", "sns"])
def test_dual_stack_endpoints_are_those_that_the_sdks_table_lists(service: str) -> None:
    listed = {
        region
        for partition in partitions()
        for region, row in partition["services"][service]["endpoints"].items()
        if any("dualstack" in way["tags"] for way in row.get("variants", ()))
    }
    assert {region for region, services in TABLE["dual_stack"].items() if service in services} == listed


def test_dynamodb_has_an_ipv6_address_in_six_regions_only() -> None:
    having = {region for region, services in TABLE["dual_stack"].items() if "dynamodb" in services}
    assert having == {"us-east-1", "us-east-2", "us-west-1", "us-west-2", "us-gov-east-1", "us-gov-west-1"}


def test_the_table_says_when_it_was_read() -> None:
    assert dt.date.fromisoformat(TABLE["read_on"]).year >= 2026


def sentences(settings_file: str, settings: dict[str, str]) -> dict[str, list[str]]:
    """What is said of each region of the table, and of one that is not in it."""
    program = """
      const { together } = require(`./scripts/${process.argv[1]}.js`);
      const { settings, regions } = JSON.parse(process.argv[2]);
      const said = (region) => together.map((rule) => rule(settings, { region })).filter(Boolean);
      console.log(JSON.stringify(Object.fromEntries(regions.map((region) => [region, said(region)]))));
    """
    given = json.dumps({"settings": settings, "regions": [*TABLE["dual_stack"], "eu-middle-1"]})
    command = ["node", "-e", program, settings_file, given]
    ran = subprocess.run(command, cwd=ROOT, env=CREDENTIAL_FREE, capture_output=True, text=True, timeout=60, check=True)
    found: dict[str, list[str]] = json.loads(ran.stdout)
    return found


SERVICE = {"functionDualStack": "false"}
CLUSTER = {"functionEgress": "existing", "architecture": "x86_64", "serverInstanceType": "t3.medium"}


@pytest.mark.parametrize(("file", "settings"), [("service-settings", SERVICE), ("cluster-settings", CLUSTER)])
def test_a_region_that_lacks_what_is_needed_is_refused(file: str, settings: dict[str, str]) -> None:
    said = sentences(file, settings)
    assert len(said.pop("eu-middle-1")) == 1
    assert not any(said.values()), "with a way out of their own, functions may stand in every region of the table"


@pytest.mark.parametrize(
    ("file", "settings"),
    [
        (
            "service-settings",
            SERVICE | {"functionDualStack": "true", "functionSubnetIds": "s", "functionSecurityGroupIds": "g"},
        ),
        ("cluster-settings", CLUSTER | {"functionEgress": "ipv6"}),
    ],
)
def test_ipv6_alone_is_refused_where_a_service_that_is_called_by_it_has_no_such_endpoint(
    file: str, settings: dict[str, str]
) -> None:
    said = sentences(file, settings)
    assert [region for region, told in said.items() if not told] == ACCEPTED_BY_IPV6
    assert "eu-central-1" in ACCEPTED_BY_IPV6, "the README's region"
    assert all(len(told) <= 1 for told in said.values())
