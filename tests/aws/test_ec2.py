"""The Fleet port: on moto where it behaves like EC2, on botocore's Stubber for exact requests and rare answers."""

from typing import Any

import msgspec
import pytest
from botocore.stub import Stubber

from autoscaler.aws.clients import LAUNCH_READ_TIMEOUT_S, Clients
from autoscaler.aws.ec2 import Ec2Fleet
from autoscaler.model import CLUSTER_TAG, LaunchOverride, LaunchRequest
from autoscaler.observe.instances import parse_instances
from autoscaler.ports import FleetUnavailable

TAGS = (("ManagedBy", "autoscaler"), (CLUSTER_TAG, "demo"), ("k3s-autoscaler/operation", "op1"))
REQUEST = LaunchRequest(
    client_token="op1",
    template_id="lt-1",
    template_version="7",
    count=3,
    overrides=(
        LaunchOverride(instance_type="t3.small", subnet_id="subnet-a", zone="eu-central-1a"),
        LaunchOverride(instance_type="t3a.small", subnet_id="subnet-b", zone="eu-central-1b"),
    ),
    tags=TAGS,
)


def fleet_of(clients: Clients, *, template: str = "lt-1", subnets: tuple[str, ...] = ("subnet-a",)) -> Ec2Fleet:
    return Ec2Fleet(clients, cluster_id="demo", template_id=template, subnet_ids=subnets)


def make_world(clients: Clients) -> tuple[str, str]:
    """A subnet and a launch template."""
    ec2 = clients.ec2()
    vpc = ec2.create_vpc(CidrBlock="10.0.0.0/16")["Vpc"]["VpcId"]
    subnet = ec2.create_subnet(VpcId=vpc, CidrBlock="10.0.1.0/24", AvailabilityZone="eu-central-1b")
    image = ec2.describe_images(Owners=["amazon"])["Images"][0]["ImageId"]
    template = ec2.create_launch_template(LaunchTemplateName="w", LaunchTemplateData={"ImageId": image})
    return str(subnet["Subnet"]["SubnetId"]), str(template["LaunchTemplate"]["LaunchTemplateId"])


@pytest.mark.usefixtures("_moto")
def test_launch_describe_and_terminate_on_an_emulated_ec2(clients: Clients) -> None:
    subnet, template = make_world(clients)
    fleet = fleet_of(clients, template=template, subnets=(subnet,))
    context = fleet.launch_context()
    assert (context.template_version, context.subnet_zones) == ("1", ((subnet, "eu-central-1b"),))
    result = fleet.launch(
        LaunchRequest(
            client_token="op1",
            template_id=template,
            template_version=context.template_version,
            count=2,
            overrides=(LaunchOverride(instance_type="t3.small", subnet_id=subnet, zone="eu-central-1b"),),
            tags=TAGS,
        )
    )
    assert (len(result.instance_ids), result.errors) == (2, ())
    stranger = clients.ec2().run_instances(ImageId="ami-12c6146b", MinCount=1, MaxCount=1)["Instances"][0]["InstanceId"]

    rows = fleet.describe()
    assert {row["InstanceId"] for row in rows} == set(result.instance_ids)
    assert {tag["Key"]: tag["Value"] for tag in rows[0]["Tags"]}["ManagedBy"] == "autoscaler"
    first, second = sorted(result.instance_ids)
    assert fleet.is_ours(first)
    assert not fleet.is_ours(stranger)
    assert not fleet.is_ours("i-0123456789abcdef0")
    assert fleet.ours_among((first, stranger, second)) == {first, second}
    found = fleet.look_up((first, stranger, "i-0123456789abcdef0"))
    assert {row["InstanceId"] for row in found} == {first, stranger}, "whatever their tags; an unknown id is no error"

    fleet.terminate(first)
    fleet.terminate(first)
    fleet.terminate("i-0123456789abcdef0")
    states = {row["InstanceId"]: row["State"]["Name"] for row in fleet.describe()}
    assert states == {first: "terminated", second: "running"}, "dead ones are shown too"
    assert fleet.is_ours(first), "a dead one is still ours"


@pytest.mark.usefixtures("_moto")
def test_a_new_version_is_seen_after_a_while_and_subnets_are_asked_once(clients: Clients) -> None:
    subnet, template = make_world(clients)
    now = [0.0]
    fleet = Ec2Fleet(clients, cluster_id="demo", template_id=template, subnet_ids=(subnet,), monotonic=lambda: now[0])
    fleet.launch_context()
    ec2 = clients.ec2()
    ec2.create_launch_template_version(LaunchTemplateId=template, LaunchTemplateData={"ImageId": "ami-2"})
    asked: list[str] = []
    ec2.meta.events.register("before-send.ec2.*", lambda event_name, **_: asked.append(event_name.split(".")[2]))
    assert fleet.launch_context().template_version == "1"
    assert asked == []
    now[0] = 301
    assert fleet.launch_context().template_version == "2"
    assert asked == ["DescribeLaunchTemplates"]


@pytest.mark.usefixtures("_moto")
def test_a_template_or_subnet_that_does_not_exist_is_one_sentence(clients: Clients) -> None:
    subnet, template = make_world(clients)
    with pytest.raises(FleetUnavailable, match="lt-0123456789abcdef0"):
        fleet_of(clients, template="lt-0123456789abcdef0", subnets=(subnet,)).launch_context()
    with pytest.raises(FleetUnavailable, match="subnet-0123"):
        fleet_of(clients, template=template, subnets=(subnet, "subnet-0123")).launch_context()


def test_every_page_is_read(clients: Clients) -> None:
    filters = [{"Name": f"tag:{CLUSTER_TAG}", "Values": ["demo"]}]
    pages: list[list[list[str]]] = [[["i-1"], ["i-2", "i-3"]], [], [["i-4"]]]
    with Stubber(clients.ec2()) as stub:
        for place, page in enumerate(pages):
            expected: dict[str, Any] = {"Filters": filters, "MaxResults": 1000}
            if place:
                expected["NextToken"] = f"page-{place}"
            answer: dict[str, Any] = {
                "Reservations": [{"Instances": [{"InstanceId": name} for name in group]} for group in page]
            }
            if place < len(pages) - 1:
                answer["NextToken"] = f"page-{place + 1}"
            stub.add_response("describe_instances", answer, expected)
        assert [row["InstanceId"] for row in fleet_of(clients).describe()] == ["i-1", "i-2", "i-3", "i-4"]
        stub.assert_no_pending_responses()


def test_a_page_that_fails_gives_no_half_fleet(clients: Clients) -> None:
    with Stubber(clients.ec2()) as stub:
        stub.add_response("describe_instances", {"Reservations": [], "NextToken": "more"})
        stub.add_client_error("describe_instances", "RequestLimitExceeded", "slow down", 503)
        with pytest.raises(FleetUnavailable) as caught:
            fleet_of(clients).describe()
    assert (caught.value.code, caught.value.effect_unknown) == ("RequestLimitExceeded", False)


EXPECTED_FLEET = {
    "Type": "instant",
    "ClientToken": "op1",
    "TargetCapacitySpecification": {
        "TotalTargetCapacity": 3,
        "OnDemandTargetCapacity": 3,
        "SpotTargetCapacity": 0,
        "DefaultTargetCapacityType": "on-demand",
    },
    "OnDemandOptions": {"AllocationStrategy": "prioritized"},
    "LaunchTemplateConfigs": [
        {
            "LaunchTemplateSpecification": {"LaunchTemplateId": "lt-1", "Version": "7"},
            "Overrides": [
                {"InstanceType": "t3.small", "SubnetId": "subnet-a", "Priority": 0.0},
                {"InstanceType": "t3a.small", "SubnetId": "subnet-b", "Priority": 1.0},
            ],
        }
    ],
    "TagSpecifications": [
        {"ResourceType": kind, "Tags": [{"Key": key, "Value": value} for key, value in TAGS]}
        for kind in ("fleet", "instance")
    ],
}


def pool_error(code: str, override: dict[str, str]) -> dict[str, Any]:
    return {"ErrorCode": code, "ErrorMessage": "m", "LaunchTemplateAndOverrides": {"Overrides": override}}


def test_instances_and_errors_come_back_together_and_the_request_is_exact(clients: Clients) -> None:
    answer = {
        "FleetId": "fleet-1",
        "Errors": [
            pool_error("InsufficientInstanceCapacity", {"InstanceType": "t3.small", "SubnetId": "subnet-a"}),
            pool_error("InsufficientInstanceCapacity", {"InstanceType": "t3.small", "SubnetId": "subnet-a"}),
            pool_error("UnfulfillableCapacity", {"InstanceType": "t3a.small", "AvailabilityZone": "eu-central-1c"}),
            {"ErrorCode": "VcpuLimitExceeded", "ErrorMessage": "m"},
        ],
        "Instances": [{"InstanceIds": ["i-1", "i-2"]}, {"InstanceIds": ["i-3"]}],
    }
    with Stubber(clients.ec2(read_timeout_s=LAUNCH_READ_TIMEOUT_S)) as stub:
        stub.add_response("create_fleet", answer, EXPECTED_FLEET)
        stub.add_response("create_fleet", {"FleetId": "fleet-2"}, EXPECTED_FLEET)
        result = fleet_of(clients).launch(REQUEST)
        again = fleet_of(clients).launch(REQUEST)
    assert result.instance_ids == ("i-1", "i-2", "i-3")
    assert result.errors == (
        ("InsufficientInstanceCapacity", "t3.small", "eu-central-1a"),
        ("UnfulfillableCapacity", "t3a.small", "eu-central-1c"),
        ("VcpuLimitExceeded", "", ""),
    )
    assert (again.instance_ids, again.errors) == ((), ())


def test_a_launch_on_spot_is_exact_and_lets_ec2_choose_among_the_types(clients: Clients) -> None:
    request = msgspec.structs.replace(REQUEST, market="spot")
    rows = [{"InstanceType": row.instance_type, "SubnetId": row.subnet_id} for row in request.overrides]
    expected: dict[str, Any] = {
        **{key: value for key, value in EXPECTED_FLEET.items() if key != "OnDemandOptions"},
        "TargetCapacitySpecification": {
            "TotalTargetCapacity": 3,
            "OnDemandTargetCapacity": 0,
            "SpotTargetCapacity": 3,
            "DefaultTargetCapacityType": "spot",
        },
        "SpotOptions": {
            "AllocationStrategy": "price-capacity-optimized",
            "InstanceInterruptionBehavior": "terminate",
        },
        "LaunchTemplateConfigs": [
            {"LaunchTemplateSpecification": {"LaunchTemplateId": "lt-1", "Version": "7"}, "Overrides": rows}
        ],
    }
    with Stubber(clients.ec2(read_timeout_s=LAUNCH_READ_TIMEOUT_S)) as stub:
        stub.add_response("create_fleet", {"FleetId": "fleet-1"}, expected)
        fleet_of(clients).launch(request)
        stub.assert_no_pending_responses()


@pytest.mark.usefixtures("_moto")
def test_what_is_launched_on_spot_is_observed_as_that(clients: Clients) -> None:
    subnet, template = make_world(clients)
    fleet = fleet_of(clients, template=template, subnets=(subnet,))
    for market in ("spot", "on-demand"):
        fleet.launch(
            LaunchRequest(
                client_token=market,
                template_id=template,
                template_version="1",
                count=1,
                overrides=(LaunchOverride(instance_type="t3.small", subnet_id=subnet, zone="eu-central-1b"),),
                tags=TAGS,
                market=market,
            )
        )
    assert sorted(instance.market for instance in parse_instances(fleet.describe(), "demo")) == ["on-demand", "spot"]


@pytest.mark.parametrize(
    ("code", "status", "effect_unknown"),
    [
        ("IdempotentParameterMismatch", 400, False),
        ("IdempotentInstanceTerminated", 400, False),
        ("VcpuLimitExceeded", 400, False),
        ("InvalidLaunchTemplateId.NotFound", 400, False),
        ("RequestLimitExceeded", 503, False),
        ("InsufficientInstanceCapacity", 500, False),
        ("InternalError", 500, True),
    ],
)
def test_a_refused_launch_carries_its_code(clients: Clients, code: str, status: int, *, effect_unknown: bool) -> None:
    with Stubber(clients.ec2(read_timeout_s=LAUNCH_READ_TIMEOUT_S)) as stub:
        stub.add_client_error("create_fleet", code, "as told", status)
        with pytest.raises(FleetUnavailable) as caught:
            fleet_of(clients).launch(REQUEST)
    assert (caught.value.code, caught.value.effect_unknown) == (code, effect_unknown)


@pytest.mark.usefixtures("_moto")
def test_every_pools_template_and_subnets_are_known_in_the_same_two_calls(clients: Clients) -> None:
    subnet, template = make_world(clients)
    ec2 = clients.ec2()
    vpc = ec2.create_vpc(CidrBlock="10.1.0.0/16")["Vpc"]["VpcId"]
    own = ec2.create_subnet(VpcId=vpc, CidrBlock="10.1.1.0/24", AvailabilityZone="eu-central-1c")["Subnet"]["SubnetId"]
    made = ec2.create_launch_template(LaunchTemplateName="gpu", LaunchTemplateData={"ImageId": "ami-2"})
    gpu = made["LaunchTemplate"]["LaunchTemplateId"]
    ec2.create_launch_template_version(LaunchTemplateId=gpu, LaunchTemplateData={"ImageId": "ami-3"})
    asked: list[str] = []
    ec2.meta.events.register("before-send.ec2.*", lambda event_name, **_: asked.append(event_name.split(".")[2]))
    fleet = Ec2Fleet(
        clients,
        cluster_id="demo",
        template_id=template,
        subnet_ids=(subnet,),
        pool_templates=(("gpu", "amd64", gpu), ("general", "arm64", gpu)),
        pool_subnets={"gpu": (own,)},
        default_pool="general",
    )
    context = fleet.launch_context()
    assert (context.template_id, context.subnet_zones) == (template, ((subnet, "eu-central-1b"),))
    assert [(t.pool, t.arch, t.template_version, t.subnet_zones) for t in context.templates] == [
        ("gpu", "amd64", "2", ((own, "eu-central-1c"),)),
        ("general", "arm64", "2", ((subnet, "eu-central-1b"),)),
    ]
    assert sorted(asked) == ["DescribeLaunchTemplates", "DescribeSubnets"]
