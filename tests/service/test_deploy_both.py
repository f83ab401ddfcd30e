"""scripts/up against an emulated account: both stacks, the token, then the same again with another server.

What moto skips (security groups' egress, the address' association, alarms, the HTTP API) is asserted on the templates.
"""

import re
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec
import pytest

from autoscaler.simulator.emulator.emulator import Ready
from autoscaler.simulator.stack.cloud import Account, aws_environment, plain_environment
from autoscaler.simulator.stack.processes import Supervisor
from tests.service.conftest import ROOT

CLUSTER = "demo"
CLUSTER_STACK, SERVICE_STACK = "k3s-cluster-local", "k3s-autoscaler-local"


@dataclass(frozen=True)
class Deployed:
    """What stood after one run of scripts/up."""

    said: str
    cluster: dict[str, str]
    service: dict[str, str]
    tokens: list[str]
    server: dict[str, Any]


@dataclass(frozen=True)
class Runs:
    """An emulated account after two runs."""

    account: Account
    first: Deployed
    replaced: Deployed


def emulator(supervisor: Supervisor, folder: Path) -> Ready:
    ready = folder / "ready"
    command = [sys.executable, "-m", "autoscaler.simulator.emulator.emulator", "--cluster", "another"]
    running = supervisor.start("emulator", command, env=plain_environment(), stdout_path=ready)
    supervisor.wait_ready(running, lambda: ready.read_bytes().endswith(b"}\n"), timeout_s=60)
    return msgspec.json.decode(ready.read_bytes(), type=Ready)


def up(ready: Ready, *options: str) -> subprocess.CompletedProcess[str]:
    environment = aws_environment(ready) | {"K3S_AUTOSCALER_KEEP_ARTIFACT": "1"}
    command = [str(ROOT / "scripts" / "up"), "--stage", "local", *options]
    return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=300, check=False)


def outputs(account: Account, stack: str) -> dict[str, str]:
    (row,) = account.client("cloudformation").describe_stacks(StackName=stack)["Stacks"]
    return {output["OutputKey"]: output["OutputValue"] for output in row["Outputs"]}


def look(account: Account, ran: subprocess.CompletedProcess[str]) -> Deployed:
    assert ran.returncode == 0, ran.stdout + ran.stderr
    parameter = account.client("ssm").get_parameter(Name=f"/k3s/{CLUSTER}/webhook-token", WithDecryption=True)
    assert parameter["Parameter"]["Type"] == "SecureString"
    filters = [
        {"Name": f"tag:k3s-autoscaler/{key}", "Values": [value]}
        for key, value in (("cluster", CLUSTER), ("role", "server"))
    ]
    filters.append({"Name": "instance-state-name", "Values": ["running"]})
    (reservation,) = account.client("ec2").describe_instances(Filters=filters)["Reservations"]
    (server,) = reservation["Instances"]
    return Deployed(
        said=ran.stdout,
        cluster=outputs(account, CLUSTER_STACK),
        service=outputs(account, SERVICE_STACK),
        tokens=parameter["Parameter"]["Value"].splitlines(),
        server=server,
    )


@pytest.fixture(scope="module")
def runs(artifact: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Runs]:
    assert artifact.exists()
    folder = tmp_path_factory.mktemp("account")
    with Supervisor(folder) as supervisor:
        ready = emulator(supervisor, folder)
        account = Account(ready, CLUSTER)
        first = look(account, up(ready))
        replaced = look(account, up(ready, "--replace-server"))
        yield Runs(account=account, first=first, replaced=replaced)


def test_the_service_gets_the_outputs_of_the_cluster(runs: Runs) -> None:
    functions = runs.account.client("lambda").list_functions()["Functions"]
    assert {row["FunctionName"] for row in functions} == {
        f"{SERVICE_STACK}-{name}" for name in ("alerts", "sweep", "lifecycle")
    }
    for function in functions:
        variables = function["Environment"]["Variables"]
        assert variables["CLUSTER_ID"] == CLUSTER
        assert variables["PROMETHEUS_URL"] == runs.first.cluster["prometheusUrl"] == "http://10.0.0.10:30090"
        assert variables["SUBNET_IDS"] == runs.first.cluster["workerSubnetIds"]
        assert variables["AWS_USE_DUALSTACK_ENDPOINT"] == "true"
        assert variables["START_MODE"] == "active"
        network = function["VpcConfig"]
        assert set(network["SubnetIds"]) == set(runs.first.cluster["functionSubnetIds"].split(","))
        assert network["SecurityGroupIds"] == [runs.first.cluster["functionSecurityGroupIds"]]


def test_workers_belong_to_the_clusters_group(runs: Runs) -> None:
    (version,) = runs.account.client("ec2").describe_launch_template_versions(
        LaunchTemplateId=runs.first.service["LaunchTemplateId"], Versions=["$Latest"]
    )["LaunchTemplateVersions"]
    data = version["LaunchTemplateData"]
    assert data["SecurityGroupIds"] == [runs.first.cluster["workerSecurityGroupIds"]]


def routes(runs: Runs, subnet_id: str) -> dict[str, str]:
    """Destination -> target, of the route table of a subnet."""
    (table,) = [
        table
        for table in runs.account.client("ec2").describe_route_tables()["RouteTables"]
        if subnet_id in {row.get("SubnetId") for row in table["Associations"]}
    ]
    found = {}
    for row in table["Routes"]:
        target = row.get("GatewayId") or row.get("EgressOnlyInternetGatewayId")
        destination = row.get("DestinationCidrBlock") or row.get("DestinationIpv6CidrBlock")
        if target != "local" and destination is not None:
            found[destination] = target.split("-", 1)[0]
    return found


def test_nodes_go_out_by_both_and_functions_by_ipv6_alone(runs: Runs) -> None:
    for subnet in runs.first.cluster["workerSubnetIds"].split(","):
        assert routes(runs, subnet) == {"0.0.0.0/0": "igw", "::/0": "igw"}
    for subnet in runs.first.cluster["functionSubnetIds"].split(","):
        assert routes(runs, subnet) == {"::/0": "eigw"}


def test_subnets_stand_in_two_zones(runs: Runs) -> None:
    for name in ("workerSubnetIds", "functionSubnetIds"):
        ids = runs.first.cluster[name].split(",")
        rows = runs.account.client("ec2").describe_subnets(SubnetIds=ids)["Subnets"]
        assert [row["AvailabilityZone"] for row in rows] == ["eu-central-1a", "eu-central-1b"]


def test_the_groups_let_in_whom_they_name(runs: Runs) -> None:
    ec2, cluster = runs.account.client("ec2"), runs.first.cluster
    workers, functions = cluster["workerSecurityGroupIds"], cluster["functionSecurityGroupIds"]
    filters = [{"Name": "tag:Name", "Values": [f"k3s-{CLUSTER}-server"]}]
    (server,) = ec2.describe_security_groups(Filters=filters)["SecurityGroups"]
    allowed = {
        (pair["GroupId"], row["FromPort"]) for row in server["IpPermissions"] for pair in row["UserIdGroupPairs"]
    }
    assert allowed == {(workers, 6443), (workers, 10250), (workers, 8472), (functions, 30090)}
    assert not [row for row in server["IpPermissions"] if row["IpRanges"] or row["Ipv6Ranges"]]


def test_the_address_and_the_data_outlive_the_server(runs: Runs) -> None:
    before, after = runs.first.server, runs.replaced.server
    assert before["InstanceId"] != after["InstanceId"]
    assert before["PrivateIpAddress"] == after["PrivateIpAddress"] == "10.0.0.10"

    def interface(server: dict[str, Any]) -> str:
        return str(server["NetworkInterfaces"][0]["NetworkInterfaceId"])

    def data(server: dict[str, Any]) -> list[str]:
        return [row["Ebs"]["VolumeId"] for row in server["BlockDeviceMappings"] if row["DeviceName"] == "/dev/sdf"]

    assert interface(before) == interface(after)
    assert data(before) == data(after) != []


def test_the_second_run_changes_the_server_and_nothing_else(runs: Runs) -> None:
    def others(deployed: Deployed) -> dict[str, str]:
        return {name: value for name, value in deployed.cluster.items() if name != "ServerInstanceId"}

    assert others(runs.first) == others(runs.replaced)
    assert runs.first.service == runs.replaced.service
    assert len(runs.first.tokens) == 1
    assert runs.first.tokens == runs.replaced.tokens


def test_the_bundle_and_the_webhooks_address_wait_for_the_server(runs: Runs) -> None:
    pages = runs.account.client("ssm").get_paginator("get_parameters_by_path")
    names = {
        row["Name"].removeprefix(f"/k3s/{CLUSTER}/")
        for page in pages.paginate(Path=f"/k3s/{CLUSTER}", Recursive=True)
        for row in page["Parameters"]
    }
    assert {"bundle-info", "bundle/00", "webhook-url", "webhook-token"} <= names
    assert not {"server-url", "version", "ca-hash", "agent-token"} & names, "those are the server's to write"
    assert "has not published how workers join yet" in runs.first.said


def test_the_token_is_not_shown(runs: Runs) -> None:
    assert runs.first.tokens[0] not in runs.first.said


def test_it_says_what_to_do_next_with_this_clusters_names(runs: Runs) -> None:
    assert f"STATE_TABLE={runs.first.service['StateTableName']}" in runs.first.said
    assert f"CLUSTER_ID={CLUSTER}" in runs.first.said
    assert re.search(rf"start-session .*--target {runs.replaced.server['InstanceId']}", runs.replaced.said)


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ((), "Give --stage"),
        (("--stage", "Main"), "lower-case letters"),
        (("--stage", "main"), "Give --region"),
        (("--stage", "main", "--region", "Frankfurt"), "such as eu-central-1"),
        (("--stage",), "--stage needs a value"),
        (("--stage", "main", "--param", "clusterId"), "--param takes name=value"),
        (("--destroy",), "is no option of scripts/up"),
        (("--stage", "main", "--region", "ca-west-1"), "region ca-west-1 is not known to have dual-stack endpoints"),
        (("--stage", "main", "--region=eu-west-1", "--param", "sweepRate=never"), "Parameter sweepRate"),
    ],
)
def test_wrong_input_ends_with_one_sentence_before_anything_is_asked(options: tuple[str, ...], sentence: str) -> None:
    environment = plain_environment() | {"AWS_ENDPOINT_URL": "http://127.0.0.1:1", "AWS_EC2_METADATA_DISABLED": "true"}
    command = [str(ROOT / "scripts" / "up"), *options]
    ran = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=120, check=False)
    assert ran.returncode == 2
    assert not ran.stdout
    assert sentence in ran.stderr
    assert len(ran.stderr.splitlines()) == 1
