"""The cluster stack's template: the network, who reaches whom, and a server whose address and data outlive it."""

import ipaddress
import json
import subprocess
from typing import Any

import pytest
import yaml

from autoscaler.deploy.versions import read_versions
from tests.service.conftest import ROOT, Template, without_comments

USER_DATA_LIMIT_BYTES = 16 * 1024
SERVER, WORKERS, FUNCTIONS = "ServerGroup", "WorkerGroup", "FunctionGroup"


def group(value: dict[str, list[str]]) -> str:
    name, attribute = value["Fn::GetAtt"]
    assert attribute == "GroupId"
    return name


def ways(template: Template) -> set[tuple[str, str, str, int]]:
    """(from, to, protocol, port) of every rule that names a group."""
    return {
        (group(rule["SourceSecurityGroupId"]), group(rule["GroupId"]), rule["IpProtocol"], rule["FromPort"])
        for entry in template.of_type("AWS::EC2::SecurityGroupIngress").values()
        if "SourceSecurityGroupId" in (rule := entry["Properties"])
    }


ALWAYS = {
    (WORKERS, SERVER, "tcp", 6443),
    (WORKERS, SERVER, "tcp", 10250),
    (SERVER, WORKERS, "tcp", 10250),
    (SERVER, WORKERS, "tcp", 9100),
    (FUNCTIONS, SERVER, "tcp", 30090),
}


def flannel(port: int) -> set[tuple[str, str, str, int]]:
    return {(a, b, "udp", port) for a, b in ((WORKERS, SERVER), (SERVER, WORKERS), (WORKERS, WORKERS))}


def test_who_reaches_whom(cluster_template: Template, full_cluster_template: Template) -> None:
    assert ways(cluster_template) == ALWAYS | flannel(8472)
    assert ways(full_cluster_template) == ALWAYS | flannel(51820)


def test_the_functions_reach_prometheus_and_tls_and_nothing_else(cluster_template: Template) -> None:
    prometheus = cluster_template.properties("FunctionsToPrometheus")
    assert group(prometheus["GroupId"]) == FUNCTIONS
    assert group(prometheus["DestinationSecurityGroupId"]) == SERVER
    assert (prometheus["FromPort"], prometheus["ToPort"]) == (30090, 30090)
    own = cluster_template.properties(FUNCTIONS)["SecurityGroupEgress"]
    assert {(rule["IpProtocol"], rule["FromPort"], rule["ToPort"]) for rule in own} == {("tcp", 443, 443)}


@pytest.mark.parametrize(("fixture", "prefix"), [("cluster_template", "10.0"), ("full_cluster_template", "172.20")])
def test_four_subnets_in_two_zones_lie_in_the_vpc_and_do_not_overlap(
    request: pytest.FixtureRequest, fixture: str, prefix: str
) -> None:
    template: Template = request.getfixturevalue(fixture)
    subnets = [entry["Properties"] for entry in template.of_type("AWS::EC2::Subnet").values()]
    vpc = ipaddress.ip_network(template.properties("Vpc")["CidrBlock"])
    assert str(vpc) == f"{prefix}.0.0/16"
    networks = [ipaddress.IPv4Network(row["CidrBlock"]) for row in subnets]
    assert all(network.subnet_of(vpc) for network in networks if isinstance(vpc, ipaddress.IPv4Network))
    assert not [(a, b) for a in networks for b in networks if a is not b and a.overlaps(b)]
    # Each takes another /64 of the VPC's /56.
    numbers = sorted(row["Ipv6CidrBlock"]["Fn::Select"][0] for row in subnets)
    assert [int(number) for number in numbers] == [0, 1, 2, 3]
    zones = [json.dumps(row["AvailabilityZone"], sort_keys=True) for row in subnets]
    assert sorted(zones.count(zone) for zone in set(zones)) == [2, 2]


def test_zones_are_the_given_ones_or_the_regions_first_two(
    cluster_template: Template, full_cluster_template: Template
) -> None:
    def zone(template: Template, subnet: str) -> Any:
        return template.properties(subnet)["AvailabilityZone"]

    assert zone(cluster_template, "NodeSubnetA") == {"Fn::Select": [0, {"Fn::GetAZs": {"Ref": "AWS::Region"}}]}
    assert zone(cluster_template, "NodeSubnetB") == {"Fn::Select": [1, {"Fn::GetAZs": {"Ref": "AWS::Region"}}]}
    given = {"Fn::Split": [",", "eu-central-1c,eu-central-1a"]}
    assert zone(full_cluster_template, "NodeSubnetA") == {"Fn::Select": [0, given]}
    assert zone(full_cluster_template, "FunctionSubnetB") == {"Fn::Select": [1, given]}


def routes(template: Template, table: str) -> dict[str, str]:
    """Destination -> kind of target, of one route table."""
    found = {}
    for entry in template.of_type("AWS::EC2::Route").values():
        row = entry["Properties"]
        if row["RouteTableId"] == {"Ref": table}:
            (target,) = {"GatewayId", "EgressOnlyInternetGatewayId", "NatGatewayId"} & set(row)
            found[row.get("DestinationCidrBlock") or row["DestinationIpv6CidrBlock"]] = target
    return found


def test_functions_go_out_by_ipv6_only_and_nobody_comes_in_that_way(cluster_template: Template) -> None:
    assert routes(cluster_template, "FunctionRoutes") == {"::/0": "EgressOnlyInternetGatewayId"}
    assert routes(cluster_template, "NodeRoutes") == {"0.0.0.0/0": "GatewayId", "::/0": "GatewayId"}
    assert not cluster_template.of_type("AWS::EC2::NatGateway")
    for name in ("FunctionSubnetA", "FunctionSubnetB"):
        assert "MapPublicIpOnLaunch" not in cluster_template.properties(name)


def test_an_existing_way_out_is_left_to_its_owner(full_cluster_template: Template) -> None:
    assert not routes(full_cluster_template, "FunctionRoutes")
    assert not full_cluster_template.of_type("AWS::EC2::EgressOnlyInternetGateway")
    assert full_cluster_template.body["Outputs"]["FunctionRouteTableId"]["Value"] == {"Ref": "FunctionRoutes"}


def test_every_subnet_has_the_route_table_of_its_kind(cluster_template: Template) -> None:
    tables = {
        row["SubnetId"]["Ref"]: row["RouteTableId"]["Ref"]
        for entry in cluster_template.of_type("AWS::EC2::SubnetRouteTableAssociation").values()
        for row in [entry["Properties"]]
    }
    assert tables == {
        "NodeSubnetA": "NodeRoutes",
        "NodeSubnetB": "NodeRoutes",
        "FunctionSubnetA": "FunctionRoutes",
        "FunctionSubnetB": "FunctionRoutes",
    }


def test_gateway_endpoints_cost_nothing_and_serve_all_subnets(cluster_template: Template) -> None:
    endpoints = [entry["Properties"] for entry in cluster_template.of_type("AWS::EC2::VPCEndpoint").values()]
    assert {row["ServiceName"]["Fn::Sub"].rsplit(".", 1)[1] for row in endpoints} == {"dynamodb", "s3"}
    for row in endpoints:
        assert row["VpcEndpointType"] == "Gateway"
        assert row["RouteTableIds"] == [{"Ref": "NodeRoutes"}, {"Ref": "FunctionRoutes"}]


def test_the_address_and_the_data_are_resources_of_their_own(cluster_template: Template) -> None:
    server = cluster_template.properties("Server")
    assert server["NetworkInterfaces"] == [{"DeviceIndex": "0", "NetworkInterfaceId": {"Ref": "ServerInterface"}}]
    assert server["Volumes"] == [{"VolumeId": {"Ref": "ServerData"}, "Device": "/dev/sdf"}]
    interface = cluster_template.properties("ServerInterface")
    assert interface["PrivateIpAddress"] == "10.0.0.10"
    assert ipaddress.ip_address("10.0.0.10") in ipaddress.ip_network(
        cluster_template.properties("NodeSubnetA")["CidrBlock"]
    )
    assert interface["SubnetId"] == {"Ref": "NodeSubnetA"}
    # A volume is attached in its own zone only.
    assert cluster_template.properties("ServerData")["AvailabilityZone"] == {
        "Fn::GetAtt": ["NodeSubnetA", "AvailabilityZone"]
    }
    public = cluster_template.properties("ServerAddressAssociation")
    assert public["NetworkInterfaceId"] == {"Ref": "ServerInterface"}


def test_the_data_is_kept_as_a_snapshot(cluster_template: Template) -> None:
    entry = cluster_template.body["Resources"]["ServerData"]
    assert (entry["DeletionPolicy"], entry["UpdateReplacePolicy"]) == ("Snapshot", "Snapshot")


def test_between_two_machines_everything_else_is_as_before(
    cluster_template: Template, serverless_cluster_template: Template
) -> None:
    def others(template: Template) -> dict[str, Any]:
        return {name: entry for name, entry in template.body["Resources"].items() if name != "Server"}

    assert "Server" in cluster_template.body["Resources"]
    assert others(cluster_template) == serverless_cluster_template.body["Resources"]
    assert set(cluster_template.body["Outputs"]) - set(serverless_cluster_template.body["Outputs"]) == {
        "ServerImageId",
        "ServerInstanceId",
    }


def listed(value: Any) -> list[Any]:
    return value if isinstance(value, list) else [value]


def denied(template: Template) -> dict[str, set[str]]:
    """Of each resource of a template, the updates that the stack's policy refuses."""
    policy = yaml.safe_load((ROOT / "cluster.yml").read_text())["provider"]["stackPolicy"]
    assert policy[0] == {"Effect": "Allow", "Principal": "*", "Action": "Update:*", "Resource": "*"}
    found: dict[str, set[str]] = {}
    for row in policy[1:]:
        assert (row["Effect"], row["Resource"]) == ("Deny", "*"), "a logical id may be missing in a template"
        types = set(listed(row["Condition"]["StringEquals"]["ResourceType"]))
        for name, entry in template.body["Resources"].items():
            if entry["Type"] in types:
                found.setdefault(name, set()).update(listed(row["Action"]))
    return found


def test_an_update_cannot_replace_the_server_nor_end_its_data(
    cluster_template: Template, serverless_cluster_template: Template
) -> None:
    kept = {name: {"Update:Replace", "Update:Delete"} for name in ("ServerData", "ServerInterface", "ServerAddress")}
    assert denied(cluster_template) == kept | {"Server": {"Update:Replace"}}, "and that it goes away is asked for"
    assert denied(serverless_cluster_template) == kept, "the policy is as good while the server is replaced"


def test_the_server_carries_the_tags_by_which_the_functions_find_it(full_cluster_template: Template) -> None:
    for name in ("Server", "ServerInterface", "ServerData"):
        tags = {tag["Key"]: tag["Value"] for tag in full_cluster_template.properties(name)["Tags"]}
        assert tags["k3s-autoscaler/cluster"] == "shop", name
        assert tags["k3s-autoscaler/role"] == "server", name
        assert "ManagedBy" not in tags, "nobody may take a server for a worker"


def test_the_server_runs_its_bootstrap_with_the_parameters(full_cluster_template: Template) -> None:
    before, volume, after = full_cluster_template.properties("Server")["UserData"]["Fn::Base64"]["Fn::Join"][1]
    assert volume == {"Ref": "ServerData"}, "found by its own id, whatever an image calls it"
    script = f"{before}vol-0123456789abcdef0{after}"
    assert len(script) < USER_DATA_LIMIT_BYTES
    lines = script.splitlines()
    scripts = ROOT / "cloudformation" / "scripts"
    machine = (scripts / "machine.sh").read_text().splitlines()[1:]
    head, _, tail = (scripts / "server-bootstrap.sh").read_text().partition('. "${0%/*}/machine.sh"\n')
    source = without_comments([*head.splitlines()[1:], *machine, *tail.splitlines()])
    assert lines[-len(source) :] == source, "the framework changed nothing in between"
    assert lines[0] == "#!/bin/bash"
    for wanted in (
        "export CLUSTER_ID='shop'",
        f"export K3S_VERSION='{read_versions()['k3s']}'",
        f"export K3S_SHA256_ARM64='{'a' * 64}'",
        "export EXTRA_SERVER_ARGUMENTS='--flannel-backend=wireguard-native'",
        "export REGISTRIES_PARAMETER='/k3s/shop/registries'",
    ):
        assert wanted in lines
    device = full_cluster_template.properties("Server")["Volumes"][0]["Device"]
    assert f"export DATA_DEVICE='{device}'" in lines


def test_the_image_is_the_public_parameters_or_a_fixed_one(
    cluster_template: Template, full_cluster_template: Template
) -> None:
    assert cluster_template.properties("Server")["ImageId"] == {"Ref": "ServerImage"}
    assert cluster_template.body["Parameters"]["ServerImage"]["Default"].endswith("-x86_64")
    assert full_cluster_template.properties("Server")["ImageId"] == "ami-0a0a0a0a0a0a0a0a0"
    assert "Parameters" not in full_cluster_template.body
    assert full_cluster_template.properties("Server")["InstanceType"] == "t4g.medium"


def test_the_server_starts_when_it_can_be_reached_and_finds_its_bundle(cluster_template: Template) -> None:
    assert {"ServerAddressAssociation", "NodeRouteIpv4", "BundleInfo"} <= set(
        cluster_template.body["Resources"]["Server"]["DependsOn"]
    )


def test_the_outputs_that_begin_small_are_the_services_parameters(cluster_template: Template) -> None:
    program = 'console.log(JSON.stringify(Object.keys(require("./scripts/service-settings.js").rules)))'
    ran = subprocess.run(["node", "-e", program], cwd=ROOT, capture_output=True, text=True, timeout=60, check=True)
    handed_over = {name for name in cluster_template.body["Outputs"] if name[0].islower()}
    assert handed_over == {
        "clusterId",
        "prometheusUrl",
        "workerSubnetIds",
        "workerSecurityGroupIds",
        "functionSubnetIds",
        "functionSecurityGroupIds",
        "functionDualStack",
    }
    assert handed_over <= set(json.loads(ran.stdout))


def test_dual_stack_is_said_as_it_is(cluster_template: Template, full_cluster_template: Template) -> None:
    assert cluster_template.body["Outputs"]["functionDualStack"]["Value"] == "true"
    assert full_cluster_template.body["Outputs"]["functionDualStack"]["Value"] == "false"


def test_no_machine_of_the_stack_is_launched_by_anything_but_cloudformation(cluster_template: Template) -> None:
    assert not cluster_template.of_type("AWS::AutoScaling::AutoScalingGroup")
    assert not cluster_template.of_type("AWS::Lambda::Function")
    assert len(cluster_template.of_type("AWS::EC2::Instance")) == 1
