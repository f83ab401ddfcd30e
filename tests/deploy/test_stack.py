"""What scripts/up asks between its steps."""

import json
import os
from collections.abc import Iterator
from typing import Any

import botocore.session
import pytest
import typer
from botocore.stub import Stubber
from moto import mock_aws

from autoscaler.deploy.stack import (
    find_stack,
    kept,
    outputs,
    problem_of,
    protect,
    restarting_changes,
    what_is_left,
    workers,
)
from tests.aws.loopback import closed_url


def stubbed() -> tuple[Any, Stubber]:
    session = botocore.session.get_session()
    client = session.create_client(
        "cloudformation", region_name="eu-central-1", aws_access_key_id="emulated", aws_secret_access_key="emulated"
    )
    return client, Stubber(client)


def test_a_stack_that_is_not_there_is_no_failure() -> None:
    client, stubber = stubbed()
    stubber.add_client_error("describe_stacks", "ValidationError", "Stack with id k3s-cluster-x does not exist")
    with stubber:
        assert find_stack(client, "k3s-cluster-x") is None


def test_a_refusal_ends_with_one_sentence(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    client, stubber = stubbed()
    stubber.add_client_error("describe_stacks", "AccessDenied", "not authorized to perform: cloudformation:Describe")
    monkeypatch.setattr("autoscaler.deploy.stack._client", lambda *_: client)
    with stubber, pytest.raises(typer.Exit) as ended:
        outputs("k3s-cluster-x", region="eu-central-1")
    assert ended.value.exit_code == 1
    said = capsys.readouterr().err.splitlines()
    assert len(said) == 1
    assert said[0].startswith("The stack k3s-cluster-x could not be looked at: ")
    assert "AccessDenied" in said[0]


@pytest.mark.parametrize(
    ("status", "sentence"),
    [
        ("CREATE_COMPLETE", None),
        ("UPDATE_COMPLETE", None),
        ("UPDATE_ROLLBACK_COMPLETE", None),
        ("ROLLBACK_COMPLETE", "delete-stack --stack-name cluster"),
        ("CREATE_FAILED", "delete-stack --stack-name cluster"),
        ("UPDATE_ROLLBACK_FAILED", "continue-update-rollback --stack-name cluster"),
        ("UPDATE_IN_PROGRESS", "somebody is changing it"),
        ("UPDATE_COMPLETE_CLEANUP_IN_PROGRESS", "somebody is changing it"),
    ],
)
def test_a_stack_that_cannot_be_deployed_to_says_what_to_do(status: str, sentence: str | None) -> None:
    problem = problem_of("cluster", status)
    assert (problem is None) == (sentence is None)
    assert (sentence or "") in (problem or "")


# ------------------------------------------------------------------------------------------------- around a deployment

REGION = "eu-central-1"
TABLE: dict[str, Any] = {
    "Type": "AWS::DynamoDB::Table",
    "Properties": {
        "TableName": "state",
        "BillingMode": "PAY_PER_REQUEST",
        "AttributeDefinitions": [{"AttributeName": "id", "AttributeType": "S"}],
        "KeySchema": [{"AttributeName": "id", "KeyType": "HASH"}],
    },
}


def server(**changes: Any) -> dict[str, Any]:
    """A cluster stack's template as far as it matters here."""
    properties = {"UserData": {"Fn::Base64": "a"}, "InstanceType": "t3.medium", "Tags": []} | changes
    return {"Resources": {"Server": {"Type": "AWS::EC2::Instance", "Properties": properties}}}


def test_what_stops_and_starts_the_server_is_told_before() -> None:
    assert restarting_changes(server(), server()) == []
    assert restarting_changes(server(), server(Tags=[{"Key": "a", "Value": "b"}])) == []
    changed = server(UserData={"Fn::Base64": "b"}, InstanceType="t3.large")
    assert restarting_changes(server(), changed) == ["UserData", "InstanceType"]


def test_a_server_that_comes_or_goes_is_no_restart() -> None:
    for old, new in ((server(), {"Resources": {}}), ({"Resources": {}}, server())):
        assert restarting_changes(old, new) == []


@pytest.fixture
def account(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """An emulated account in this process."""
    for name in ("AWS_ENDPOINT_URL", "AWS_PROFILE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "testing")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "testing")
    with mock_aws():
        yield


def client(service: str) -> Any:
    return botocore.session.get_session().create_client(service, region_name=REGION)


@pytest.mark.usefixtures("account")
def test_the_tables_of_a_stack_are_protected(capsys: pytest.CaptureFixture[str]) -> None:
    template = json.dumps({"Resources": {"StateTable": TABLE}})
    client("cloudformation").create_stack(StackName="k3s-autoscaler-x", TemplateBody=template)

    def protected() -> bool:
        return bool(client("dynamodb").describe_table(TableName="state")["Table"]["DeletionProtectionEnabled"])

    assert not protected()
    protect("k3s-autoscaler-x", region=REGION)
    assert protected()
    with pytest.raises(typer.Exit):
        protect("k3s-autoscaler-y", region=REGION)
    assert capsys.readouterr().err.startswith("The stack k3s-autoscaler-y is deployed, but its tables could not be")


@pytest.mark.usefixtures("account")
def test_kept_parameters_are_told_from_none(capsys: pytest.CaptureFixture[str]) -> None:
    kept("k3s-cluster-x", region=REGION)
    kept("k3s-cluster-x", region=REGION, lines=True)
    assert capsys.readouterr().out == "null\n", "as lines it is nothing at all"
    value = json.dumps({"zones": "eu-central-1a,eu-central-1b", "sweepRate": "rate(5 minutes)"})
    client("ssm").put_parameter(Name="/k3s-autoscaler/k3s-cluster-x/parameters", Value=value, Type="String")
    kept("k3s-cluster-x", region=REGION)
    assert json.loads(capsys.readouterr().out) == json.loads(value)
    kept("k3s-cluster-x", region=REGION, lines=True)
    assert capsys.readouterr().out == "zones=eu-central-1a,eu-central-1b\nsweepRate=rate(5 minutes)\n"


def test_without_credentials_nothing_is_asked(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_PROFILE"):
        monkeypatch.delenv(name, raising=False)
    for name in ("AWS_CONFIG_FILE", "AWS_SHARED_CREDENTIALS_FILE"):
        monkeypatch.setenv(name, os.devnull)
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    kept("k3s-cluster-x", region=REGION)
    assert capsys.readouterr().out == "{}\n"


def test_an_account_that_does_not_tell_is_not_taken_for_one_that_kept_nothing(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "testing")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "testing")
    monkeypatch.setenv("AWS_ENDPOINT_URL", closed_url())
    with pytest.raises(typer.Exit) as ended:
        kept("k3s-cluster-x", region=REGION)
    assert ended.value.exit_code == 1
    said = capsys.readouterr()
    assert (said.out, len(said.err.splitlines())) == ("", 1)
    assert "/k3s-autoscaler/k3s-cluster-x/parameters) could not be read" in said.err


@pytest.mark.usefixtures("account")
def test_what_outlives_the_stacks_is_named_with_its_command() -> None:
    ec2, ssm = client("ec2"), client("ssm")
    volume = ec2.create_volume(AvailabilityZone=f"{REGION}a", Size=8)["VolumeId"]
    other = ec2.create_volume(AvailabilityZone=f"{REGION}a", Size=8)["VolumeId"]
    snapshot = ec2.create_snapshot(VolumeId=volume)["SnapshotId"]
    ec2.create_snapshot(VolumeId=other)
    client("dynamodb").create_table(**TABLE["Properties"])
    for cluster in ("x", "xy"):
        ssm.put_parameter(Name=f"/k3s/{cluster}/server-url", Value="https://10.0.0.10:6443", Type="String")
    left = list(what_is_left(client, cluster="x", tables=["state", "idempotency"], volume=volume))
    assert [line.split(":")[0] for line in left] == [
        "table state (keepTables)",
        f"snapshot {snapshot} of the server's data",
        "parameter /k3s/x/server-url",
    ]
    assert all(": aws " in line for line in left)
    assert not list(what_is_left(client, cluster="", tables=["", ""], volume="")), "nothing is known of it"


@pytest.mark.usefixtures("account")
def test_only_our_living_workers_of_the_cluster_stand_in_the_way(capsys: pytest.CaptureFixture[str]) -> None:
    ec2 = client("ec2")

    def launch(**tags: str) -> str:
        specification = {"ResourceType": "instance", "Tags": [{"Key": k, "Value": v} for k, v in tags.items()]}
        made = ec2.run_instances(
            ImageId="ami-12c6146b", MinCount=1, MaxCount=1, TagSpecifications=[specification] if tags else []
        )
        return str(made["Instances"][0]["InstanceId"])

    ours = {"ManagedBy": "autoscaler", "k3s-autoscaler/cluster": "x"}
    worker, gone = launch(**ours), launch(**ours)
    launch()
    launch(**ours | {"k3s-autoscaler/cluster": "y"})
    ec2.terminate_instances(InstanceIds=[gone])
    workers("x", region=REGION)
    assert capsys.readouterr().out.splitlines() == [worker]
