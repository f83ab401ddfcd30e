"""A cluster's life on an emulated account: scripts/up, a second person's `sls deploy`, another server, scripts/down.

What moto skips (security groups' egress, the address' association, alarms, the HTTP API) is asserted on the templates.
"""

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
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

STAGE = CLUSTER = "shop"
CLUSTER_STACK, SERVICE_STACK = "k3s-cluster-shop", "k3s-autoscaler-shop"
GIVEN = {"sweepRate": "rate(5 minutes)", "keepTables": "false", "serverVolumeGb": "21"}
"""Of both services, and none of them in a file."""
FRESH = {
    "clusterId": "fresh",
    "prometheusUrl": "http://10.0.1.10:30090",
    "workerSubnetIds": "subnet-0a0a0a0a",
    "workerSecurityGroupIds": "sg-0a0a0a0a",
}
TABLES = ("StateTable", "IdempotencyTable")


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
    """An emulated account, and what stood in it after each step."""

    account: Account
    first: Deployed
    restarting: str
    """What is said before a deployment with another argument of K3s."""
    quiet: str
    """And of one without a change."""
    again: Deployed
    """After a second person's `sls deploy` of both, without a parameter."""
    packaged: dict[str, Any]
    """The template of a stage that stands, and keeps its tables from now on."""
    unheard_of: dict[str, Any]
    """The template of a stage that does not stand yet."""
    replaced: Deployed
    ready: Ready


def emulator(supervisor: Supervisor, folder: Path) -> Ready:
    ready = folder / "ready"
    command = [sys.executable, "-m", "autoscaler.simulator.emulator.emulator", "--cluster", "another"]
    running = supervisor.start("emulator", command, env=plain_environment(), stdout_path=ready)
    supervisor.wait_ready(running, lambda: ready.read_bytes().endswith(b"}\n"), timeout_s=60)
    return msgspec.json.decode(ready.read_bytes(), type=Ready)


def run(ready: Ready, *command: str) -> subprocess.CompletedProcess[str]:
    environment = aws_environment(ready) | {"K3S_AUTOSCALER_KEEP_ARTIFACT": "1"}
    return subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=300, check=False)


def up(ready: Ready, *options: str) -> subprocess.CompletedProcess[str]:
    return run(ready, "scripts/up", "--stage", STAGE, *options)


def down(ready: Ready, *options: str) -> subprocess.CompletedProcess[str]:
    return run(ready, "scripts/down", "--stage", STAGE, *options)


def sls(ready: Ready, command: str, configuration: str, *options: str) -> subprocess.CompletedProcess[str]:
    ran = run(ready, "scripts/sls-apart", command, "--config", configuration, "--region", ready.region, *options)
    assert ran.returncode == 0, ran.stdout + ran.stderr
    return ran


def warned(ready: Ready, template: dict[str, Any]) -> str:
    """What the plugin says before a deployment of this template: moto itself would make another machine of it."""
    program = """
      const Plugin = require("./scripts/serverless-restart-plugin.js");
      const [stack, region, template] = [process.argv[1], process.argv[2], JSON.parse(process.argv[3])];
      const aws = { naming: { getStackName: () => stack }, getRegion: () => region };
      const service = { provider: { compiledCloudFormationTemplate: template } };
      new Plugin({ service, getProvider: () => aws, classes: { Error } }).hooks["before:deploy:deploy"]();
    """
    ran = run(ready, "node", "-e", program, CLUSTER_STACK, ready.region, json.dumps(template))
    assert ran.returncode == 0, ran.stderr
    return ran.stderr


def package(ready: Ready, stage: str, *options: str, of: str = "serverless.yml") -> dict[str, Any]:
    folder = Path(tempfile.mkdtemp(prefix=".tests.", dir=ROOT / "build"))
    try:
        sls(ready, "package", of, "--stage", stage, "--package", str(folder.relative_to(ROOT)), *options)
        template: dict[str, Any] = json.loads((folder / "cloudformation-template-update-stack.json").read_text())
    finally:
        shutil.rmtree(folder)
    return template


def interrupt_between_the_steps(ready: Ready) -> subprocess.CompletedProcess[str]:
    """Agree to the first step of scripts/down, and press Ctrl-C where it asks for the second."""
    command = ["scripts/down", "--stage", STAGE]
    terminal, keyboard = os.openpty()
    with subprocess.Popen(
        command,
        cwd=ROOT,
        env=aws_environment(ready),
        stdin=keyboard,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    ) as process:
        os.write(terminal, f"{CLUSTER}\n".encode())
        assert process.stdout is not None
        said = ""
        while not said.endswith("Type the stage's name to go on: "):
            read = process.stdout.read(1)
            assert read, said
            said += read
        # Until it is seen: bash answers to one that comes between its prompt and its read when a key is pressed.
        deadline = time.monotonic() + 30
        while process.poll() is None and time.monotonic() < deadline:
            os.killpg(process.pid, signal.SIGINT)
            time.sleep(0.2)
        said += process.stdout.read()
    os.close(terminal)
    os.close(keyboard)
    return subprocess.CompletedProcess(command, process.returncode, said)


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
        given = [option for name, value in GIVEN.items() for option in ("--param", f"{name}={value}")]
        first = look(account, up(ready, *given))
        quiet = sls(ready, "deploy", "cluster.yml", "--stage", STAGE).stderr
        restarting = warned(
            ready, package(ready, STAGE, "--param=k3sServerArguments=--disable=traefik", of="cluster.yml")
        )
        again = look(account, sls(ready, "deploy", "serverless.yml", "--stage", STAGE))
        keeping = "--param=keepTables=true"
        packaged = package(ready, STAGE, keeping)
        unheard_of = package(ready, "fresh", keeping, *(f"--param={name}={value}" for name, value in FRESH.items()))
        replaced = look(account, up(ready, "--replace-server", "--skip-verify", "--param", "sweepRate="))
        yield Runs(
            account=account,
            first=first,
            restarting=restarting,
            quiet=quiet,
            again=again,
            packaged=packaged,
            unheard_of=unheard_of,
            replaced=replaced,
            ready=ready,
        )


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


def kept(runs: Runs, stack: str) -> dict[str, str]:
    value = runs.account.client("ssm").get_parameter(Name=f"/k3s-autoscaler/{stack}/parameters")["Parameter"]["Value"]
    found: dict[str, str] = json.loads(value)
    return found


def sweep_rate(runs: Runs) -> str:
    (rule,) = (row for row in runs.account.client("events").list_rules()["Rules"] if "ScheduleExpression" in row)
    return str(rule["ScheduleExpression"])


def test_a_second_person_needs_none_of_the_parameters(runs: Runs) -> None:
    assert (runs.first.cluster, runs.first.service) == (runs.again.cluster, runs.again.service)
    assert (
        runs.packaged["Resources"]["SweepEventsRuleSchedule1"]["Properties"]["ScheduleExpression"]
        == (GIVEN["sweepRate"])
    ), "what was given to the first `make up` is taken up by a plain `sls package`"
    environment = runs.packaged["Resources"]["SweepLambdaFunction"]["Properties"]["Environment"]["Variables"]
    assert environment["SUBNET_IDS"] == runs.first.cluster["workerSubnetIds"]


def test_a_deployment_that_stops_and_starts_the_server_says_so_first(runs: Runs) -> None:
    warning = "Warning: this deployment stops and starts the server (UserData changes)"
    assert warning in runs.restarting
    assert warning not in runs.quiet, "nothing of the machine changes"


def test_what_is_kept_is_what_was_given_and_no_default(runs: Runs) -> None:
    assert kept(runs, CLUSTER_STACK).items() >= {"clusterId": CLUSTER, "serverVolumeGb": "21"}.items()
    names = set(kept(runs, SERVICE_STACK))
    assert {"clusterId", "startMode", "workerSubnetIds", "functionDualStack", "prometheusUrl"} <= names
    assert not {"k3sVersion", "serverPresent", "workerVolumeGb"} & (names | set(kept(runs, CLUSTER_STACK))), (
        "a default that changes with a newer clone must reach the stack, and no server stays away"
    )


def test_a_parameter_is_given_up_for_its_default(runs: Runs) -> None:
    assert "sweepRate" not in kept(runs, SERVICE_STACK) | kept(runs, CLUSTER_STACK)
    assert sweep_rate(runs) == "rate(2 minutes)"


def test_a_new_servers_image_is_the_one_that_is_kept(runs: Runs) -> None:
    assert kept(runs, CLUSTER_STACK).get("serverImageId") in {None, runs.replaced.cluster["ServerImageId"]}


def test_tables_are_protected_once_their_stack_stands(runs: Runs) -> None:
    for name in TABLES:
        standing, fresh = (template["Resources"][name] for template in (runs.packaged, runs.unheard_of))
        assert standing["Properties"]["DeletionProtectionEnabled"] is True
        assert fresh["Properties"]["DeletionProtectionEnabled"] is False, "or its rollback could not delete it"
        assert fresh["DeletionPolicy"] == standing["DeletionPolicy"] == "RetainExceptOnCreate"
        assert fresh["UpdateReplacePolicy"] == "Retain"


def test_the_second_run_changes_the_server_and_nothing_else(runs: Runs) -> None:
    def others(deployed: Deployed) -> dict[str, str]:
        return {name: value for name, value in deployed.cluster.items() if name != "ServerInstanceId"}

    assert others(runs.first) == others(runs.replaced)
    # The second run takes the sweep's rate back.
    assert runs.replaced.service == runs.first.service | {"SweepRate": "rate(2 minutes)"}
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
        (("--stage", "main", "--region=eu-west-1", "--param", "sweeprate=rate(5 minutes)"), "did you mean sweepRate?"),
        (("--stage", "main", "--region=eu-west-1", "--param", "architektur=arm64"), "did you mean architecture?"),
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


# --------------------------------------------------------------------------------------------------------- the way back


@dataclass(frozen=True)
class WayBack:
    """What scripts/down said."""

    interrupted: subprocess.CompletedProcess[str]
    after_the_interruption: dict[str, str]
    """The outputs of the service's stack."""
    removed: subprocess.CompletedProcess[str]
    again: subprocess.CompletedProcess[str]


@pytest.fixture(scope="module")
def way_back(runs: Runs) -> WayBack:
    """Last of all: nothing is left of the account's stacks after it."""
    interrupted = interrupt_between_the_steps(runs.ready)
    service = outputs(runs.account, SERVICE_STACK)
    return WayBack(
        interrupted=interrupted,
        after_the_interruption=service,
        removed=down(runs.ready, "--yes"),
        again=down(runs.ready, "--yes"),
    )


def test_ctrl_c_ends_it_between_two_steps(runs: Runs, way_back: WayBack) -> None:
    assert way_back.interrupted.returncode == 130
    assert way_back.interrupted.stdout.endswith(f"Stopped. `make down STAGE={STAGE}` goes on from here.\n")
    assert "No worker of ours is left in shop" in way_back.interrupted.stdout, "the first step was done"
    assert way_back.after_the_interruption == runs.replaced.service, "and the second not begun"


def test_down_removes_both_stacks_without_a_parameter(runs: Runs, way_back: WayBack) -> None:
    assert way_back.removed.returncode == 0, way_back.removed.stdout + way_back.removed.stderr
    assert runs.account.client("cloudformation").describe_stacks()["Stacks"] == []
    for service, call, rows in (
        ("lambda", "list_functions", "Functions"),
        ("dynamodb", "list_tables", "TableNames"),
        ("s3", "list_buckets", "Buckets"),
    ):
        assert getattr(runs.account.client(service), call)()[rows] == [], service
    instances = [row for row in runs.account.instances() if row["State"]["Name"] != "terminated"]
    assert instances == []


def test_down_names_what_stays_and_how_it_goes(runs: Runs, way_back: WayBack) -> None:
    said = way_back.removed.stdout.partition("== What stays\n")[2].splitlines()
    assert said == [
        f"parameter /k3s/{CLUSTER}/webhook-token: aws ssm delete-parameter --name /k3s/{CLUSTER}/webhook-token"
    ]
    assert runs.account.client("ssm").get_parameter(Name=f"/k3s/{CLUSTER}/webhook-token")


def test_down_again_finds_nothing(way_back: WayBack) -> None:
    assert way_back.again.returncode == 0
    assert "nothing is left to remove" in way_back.again.stdout


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ((), "Give --stage"),
        (("--stage", "main"), "Give --region"),
        (("--stage", "main", "--param", "x=y"), "is no option of scripts/down"),
        (("--stage", "main", "--region", "eu-central-1"), "Nobody is here to be asked: give --yes."),
    ],
)
def test_down_with_wrong_input_asks_nothing(options: tuple[str, ...], sentence: str) -> None:
    environment = plain_environment() | {"AWS_ENDPOINT_URL": "http://127.0.0.1:1", "AWS_EC2_METADATA_DISABLED": "true"}
    command = [str(ROOT / "scripts" / "down"), *options]
    ran = subprocess.run(
        command, env=environment, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=60, check=False
    )
    assert (ran.returncode, ran.stdout, len(ran.stderr.splitlines())) == (2, "", 1)
    assert sentence in ran.stderr
