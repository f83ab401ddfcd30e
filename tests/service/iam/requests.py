"""What IAM is asked when an operation is called: an action, a resource and a context for everything it touches.

Sources: Service Authorization Reference, "Amazon EC2", "AWS Systems Manager", "Amazon DynamoDB", "Amazon SNS",
"AWS Key Management Service".
"""

from collections.abc import Callable, Iterator, Mapping
from typing import Any

from tests.service.iam.calls import Call
from tests.service.iam.evaluator import Request
from tests.service.iam.launches import create_fleet, run_instances, tag_context
from tests.service.iam.rendered import ACCOUNT, arn
from tests.service.iam.world import Reading, World


def requests_of(call: Call, world: World, reading: Reading) -> list[Request]:
    """Everything that IAM is asked for one call. Raises KeyError for an operation whose resources nobody wrote down."""
    operation, fields = call
    return list(_ASKED[operation](operation, fields, world, reading))


def _anything(operation: str, *_: object) -> Iterator[Request]:
    yield Request(operation, "*")


def _terminate(operation: str, fields: Mapping[str, Any], world: World, _: Reading) -> Iterator[Request]:
    for instance in fields["InstanceIds"]:
        tags = world.tags[instance]
        context = {f"{prefix}:ResourceTag/{key}": value for prefix in ("aws", "ec2") for key, value in tags.items()}
        yield Request(operation, arn("ec2", f"instance/{instance}"), context)


def _create_tags(operation: str, fields: Mapping[str, Any], world: World, _: Reading) -> Iterator[Request]:
    """The operation of its own, not the tags that a launch writes: there is no ec2:CreateAction."""
    for instance in fields["Resources"]:
        tags = {row["Key"]: row["Value"] for row in fields["Tags"]}
        own: dict[str, str | list[str]] = {
            f"aws:ResourceTag/{key}": value for key, value in world.tags[instance].items()
        }
        yield Request(operation, arn("ec2", f"instance/{instance}"), own | tag_context(tags))


def _send_command(operation: str, fields: Mapping[str, Any], world: World, reading: Reading) -> Iterator[Request]:
    document = fields["DocumentName"]
    owner = "" if document.startswith("AWS-") else ACCOUNT
    yield Request(operation, arn("ssm", f"document/{document}", account=owner))
    for instance in fields["InstanceIds"]:
        context = {f"{reading.ssm_key}/{key}": value for key, value in world.tags[instance].items()}
        yield Request(operation, arn("ec2", f"instance/{instance}"), context)


def _parameters(operation: str, fields: Mapping[str, Any], *_: object) -> Iterator[Request]:
    for name in fields.get("Names") or [fields["Name"]]:
        yield Request(operation, arn("ssm", f"parameter{name}"))


def _item(operation: str, fields: Mapping[str, Any], *_: object) -> Iterator[Request]:
    """The hash key stands first in an item, as in our tables' definitions."""
    key = next(iter((fields.get("Key") or fields["Item"]).values()))["S"]
    yield Request(operation, arn("dynamodb", f"table/{fields['TableName']}"), {"dynamodb:LeadingKeys": [key]})


def _publish(operation: str, fields: Mapping[str, Any], *_: object) -> Iterator[Request]:
    yield Request(operation, fields["TopicArn"])


def _key(operation: str, fields: Mapping[str, Any], *_: object) -> Iterator[Request]:
    """By the role itself: no service is on the way, so that kms:ViaService is absent."""
    yield Request(operation, fields["KeyId"], {"kms:CallerAccount": ACCOUNT})


_ASKED: dict[str, Callable[[str, Mapping[str, Any], World, Reading], Iterator[Request]]] = {
    "dynamodb:DeleteItem": _item,
    "dynamodb:GetItem": _item,
    "dynamodb:PutItem": _item,
    "dynamodb:UpdateItem": _item,
    "ec2:CreateFleet": create_fleet,
    "ec2:CreateTags": _create_tags,
    "ec2:DescribeInstances": _anything,
    "ec2:DescribeLaunchTemplates": _anything,
    "ec2:DescribeSubnets": _anything,
    "ec2:RunInstances": run_instances,
    "ec2:TerminateInstances": _terminate,
    "kms:CreateGrant": _key,
    "kms:Decrypt": _key,
    "kms:ScheduleKeyDeletion": _key,
    "sns:Publish": _publish,
    "ssm:GetCommandInvocation": _anything,
    "ssm:GetParameter": _parameters,
    "ssm:GetParameters": _parameters,
    "ssm:PutParameter": _parameters,
    "ssm:SendCommand": _send_command,
}


def asked_by_lambda(function: str, *, in_vpc: bool, queue: str | None) -> list[Request]:
    """What the Lambda service does with a function's role, before and after our code runs.

    Source: Lambda developer guide, "Execution role permissions", "Giving Lambda functions access to resources in an
    Amazon VPC".
    """
    log = arn("logs", f"log-group:/aws/lambda/{function}:log-stream:2026/11/26/[$LATEST]0a0a")
    found = [Request("logs:CreateLogStream", log), Request("logs:PutLogEvents", log)]
    if in_vpc:
        found += [Request(action, "*") for action in ATTACHING]
    if queue is not None:
        found.append(Request("sqs:SendMessage", queue))
    return found


ATTACHING = (
    "ec2:CreateNetworkInterface",
    "ec2:DescribeNetworkInterfaces",
    "ec2:DescribeSubnets",
    "ec2:DeleteNetworkInterface",
    "ec2:AssignPrivateIpAddresses",
    "ec2:UnassignPrivateIpAddresses",
)
