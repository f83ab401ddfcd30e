"""Requests that somebody with a role of ours might try: the functions' own ones, changed, and others."""

from collections.abc import Callable, Mapping
from typing import Any

from tests.service.iam.calls import Call, calls_of
from tests.service.iam.rendered import Rendered
from tests.service.iam.world import World

CLUSTER, ROLE = "k3s-autoscaler/cluster", "k3s-autoscaler/role"
TAGGED = ("instance", "volume", "network-interface")

Make = Callable[[Rendered, World], Call]


def fleet(change: Callable[[dict[str, Any]], object], **override: Any) -> Make:
    """The function's own launch, changed."""

    def make(service: Rendered, _: World) -> Call:
        operation, fields = next(call for call in calls_of(service, "SweepRole") if call[0] == "ec2:CreateFleet")
        changed: dict[str, Any] = {**fields, "TagSpecifications": [dict(row) for row in fields["TagSpecifications"]]}
        (config,) = fields["LaunchTemplateConfigs"]
        changed["LaunchTemplateConfigs"] = [
            {
                "LaunchTemplateSpecification": dict(config["LaunchTemplateSpecification"]),
                "Overrides": [row | override for row in config["Overrides"]],
            }
        ]
        change(changed)
        return operation, changed

    return make


def overriding(**override: Any) -> Make:
    """The function's own launch with something of the template replaced."""
    return fleet(lambda _: None, **override)


def tagged(**tags: str) -> Make:
    """A launch whose machines carry other tags; an empty value takes one off."""

    def change(fields: dict[str, Any]) -> None:
        for row in fields["TagSpecifications"]:
            kept = {tag["Key"]: tag["Value"] for tag in row["Tags"]} | {
                k.replace("__", "/"): v for k, v in tags.items()
            }
            row["Tags"] = [{"Key": key, "Value": value} for key, value in kept.items() if value]

    return fleet(change)


def other_template(fields: dict[str, Any]) -> None:
    """A template that is not the workers'."""
    fields["LaunchTemplateConfigs"][0]["LaunchTemplateSpecification"]["LaunchTemplateId"] = "lt-0f0f0f0f0f0f0f0f0"


def own_user_data(fields: dict[str, Any]) -> None:
    """A script that runs as root on the new machine."""
    fields["LaunchTemplateConfigs"][0]["LaunchTemplateSpecification"]["LaunchTemplateSpecificationUserData"] = (
        "IyEvYmlu"
    )


def run(*, template: bool, **fields: Any) -> Make:
    """RunInstances without a fleet: a worker in all but what is given; None takes a field away."""

    def make(service: Rendered, world: World) -> Call:
        cluster = service.template.properties("SweepLambdaFunction")["Environment"]["Variables"]["CLUSTER_ID"]
        tags = [{"Key": "ManagedBy", "Value": "autoscaler"}, {"Key": CLUSTER, "Value": cluster}]
        subnets = service.template.properties("SweepLambdaFunction")["Environment"]["Variables"]["SUBNET_IDS"]
        named: dict[str, Any] = {
            "MinCount": 1,
            "MaxCount": 1,
            "InstanceType": "t3.small",
            "SubnetId": subnets.split(",")[0],
            "TagSpecifications": [{"ResourceType": kind, "Tags": tags} for kind in TAGGED],
        }
        if template:
            named["LaunchTemplate"] = {"LaunchTemplateId": world.template_arn.rpartition("/")[2]}
        else:
            data = world.template
            named |= {name: data[name] for name in ("ImageId", "SecurityGroupIds", "IamInstanceProfile")}
        named |= fields
        return "ec2:RunInstances", {name: value for name, value in named.items() if value is not None}

    return make


def call(operation: str, **fields: Any) -> Make:
    """One operation as it is."""
    return lambda _service, _world: (operation, fields)


def command(*instances: str, document: str | None = None) -> Make:
    """The node command, or another document, for these machines."""

    def make(service: Rendered, _: World) -> Call:
        ours = service.template.properties("SweepLambdaFunction")["Environment"]["Variables"]["NODE_COMMAND_DOCUMENT"]
        name = document or service.value(ours)
        return "ssm:SendCommand", {"DocumentName": name, "InstanceIds": list(instances)}

    return make


def item(operation: str, table: str, key: Mapping[str, Any]) -> Make:
    """One item of a table."""
    field = "Item" if operation == "dynamodb:PutItem" else "Key"
    return call(operation, TableName=table, **{field: key})
