"""Where the clients send: by IPv6 what has such an address in every region that is accepted, and DynamoDB by IPv4."""

import json
from pathlib import Path

import pytest

from autoscaler.aws.calls import Calls
from autoscaler.aws.clients import Clients

REGIONS: dict[str, list[str]] = json.loads(Path("cloudformation/regions.json").read_text())["dual_stack"]


@pytest.mark.parametrize("region", REGIONS)
def test_functions_without_ipv4_reach_dynamodb_through_the_gateway_endpoint(
    monkeypatch: pytest.MonkeyPatch, region: str
) -> None:
    monkeypatch.setenv("AWS_USE_DUALSTACK_ENDPOINT", "true")
    suffix = "amazonaws.com.cn" if region.startswith("cn-") else "amazonaws.com"
    address = Clients(Calls(), region=region).dynamodb().meta.endpoint_url
    assert address == f"https://dynamodb.{region}.{suffix}"


def test_everything_else_is_called_by_its_dual_stack_endpoint(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_USE_DUALSTACK_ENDPOINT", "true")
    clients = Clients(Calls(), region="eu-central-1")
    for client in (clients.ec2(), clients.ssm(), clients.sns()):
        assert client.meta.endpoint_url.endswith(".eu-central-1.api.aws")


def test_an_emulator_stands_for_dynamodb_too(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_USE_DUALSTACK_ENDPOINT", "true")
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:4566")
    assert Clients(Calls(), region="eu-central-1").dynamodb().meta.endpoint_url == "http://127.0.0.1:4566"
