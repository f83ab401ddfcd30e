"""What the deployed roles may do: the functions', the workers' and the servers'.

Each is judged on the requests that it will meet: what must be allowed, and a few that must not.
"""

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from typing import Final

import msgspec

from autoscaler.cli.verify.checks import (
    FIRST_TEMPLATE,
    NOT_DEPLOYED,
    Account,
    Finding,
    Subject,
    ok,
    problem,
    stack_outputs,
    warning,
)
from autoscaler.cli.verify.keys import asked_of_a_key, owner_of
from autoscaler.cli.verify.service import JOIN_PARAMETERS
from autoscaler.cli.verify.simulation import Context, Question, wrong_answers
from autoscaler.model import CLUSTER_TAG, MANAGED_BY_TAG, MANAGED_BY_VALUE, OPERATION_TAG, POOL_TAG, ROLE_TAG

FUNCTION_ROLES: Final = ("AlertsRole", "SweepRole", "LifecycleRole")
"""Logical ids in cloudformation/iam.yml."""
AGENT_ACTIONS: Final = (
    "ssm:UpdateInstanceInformation",
    "ssmmessages:CreateControlChannel",
    "ssmmessages:CreateDataChannel",
    "ssmmessages:OpenControlChannel",
    "ssmmessages:OpenDataChannel",
)
"""Without these the SSM agent takes no command.

Source: Systems Manager user guide, "Configure instance permissions required for Systems Manager".
"""


class Deployed(msgspec.Struct, frozen=True, kw_only=True):
    """What the questions name."""

    partition: str
    account_id: str
    region: str
    cluster_id: str
    resources: Mapping[str, str]
    """Physical by logical id."""
    image_id: str
    subnet_ids: tuple[str, ...]
    security_group_ids: tuple[str, ...]
    volume_key: str
    """The KMS key that the launch template names, by its ARN; empty for none."""

    def arn(self, service: str, resource: str, *, owned: bool = True) -> str:
        """In this account and region; images belong to no account's ARN."""
        return f"arn:{self.partition}:{service}:{self.region}:{self.account_id if owned else ''}:{resource}"

    def role(self, logical_id: str) -> str:
        """The ARN of a role of the stack."""
        return f"arn:{self.partition}:iam::{self.account_id}:role/{self.resources[logical_id]}"

    @property
    def further_templates(self) -> tuple[str, ...]:
        """Logical ids of the launch templates beside the default pool's."""
        return tuple(name for name in sorted(self.resources) if name.startswith(f"{FIRST_TEMPLATE}Of"))

    def parameters(self, *names: str) -> tuple[str, ...]:
        """ARNs of the cluster's parameters."""
        return tuple(self.arn("ssm", f"parameter/k3s/{self.cluster_id}/{name}") for name in names)


def check_roles(account: Account, subject: Subject) -> Sequence[Finding]:
    """The roles of the functions and workers, once they are deployed, and of the servers, once there are any."""
    if stack_outputs(account, subject) is None:
        return [warning("roles", f"not tried: {NOT_DEPLOYED}", "Run this again after.")]
    deployed = _deployed(account, subject)
    findings = [
        _judged(account, f"role of the function {name.removesuffix('Role').lower()}", deployed.role(name), questions)
        for name in FUNCTION_ROLES
        for questions in [tuple(asked_of_function(deployed, name))]
    ]
    findings.append(
        _judged(account, "role of the workers", deployed.role("WorkerRole"), tuple(asked_of_worker(deployed)))
    )
    return [*findings, *_servers(account, deployed)]


def asked_of_function(deployed: Deployed, role: str) -> Iterator[Question]:
    """A look and its effects; of `alerts` also its token and its records."""
    cluster = {f"aws:ResourceTag/{CLUSTER_TAG}": [deployed.cluster_id]}
    worker = cluster | {f"aws:ResourceTag/{MANAGED_BY_TAG}": [MANAGED_BY_VALUE]}
    server = cluster | {f"aws:ResourceTag/{ROLE_TAG}": ["server"]}
    machines, document = (deployed.arn("ec2", "instance/*"),), deployed.resources["NodeCommandDocument"]
    yield Question(
        actions=("dynamodb:GetItem", "dynamodb:PutItem"),
        resources=(deployed.arn("dynamodb", f"table/{deployed.resources['StateTable']}"),),
        context={"dynamodb:LeadingKeys": [deployed.cluster_id]},
    )
    yield Question(actions=("ec2:DescribeInstances", "ec2:DescribeLaunchTemplates", "ec2:DescribeSubnets"))
    yield from _asked_for_a_launch(deployed)
    yield Question(actions=("ec2:TerminateInstances",), resources=machines, context=worker)
    yield Question(actions=("ec2:TerminateInstances",), resources=machines, context=server, allowed=False)
    yield Question(actions=("ssm:SendCommand",), resources=(deployed.arn("ssm", f"document/{document}"),))
    yield Question(actions=("ssm:SendCommand",), resources=machines, context=server)
    yield Question(actions=("ssm:SendCommand",), resources=machines, context=worker, allowed=False)
    yield Question(actions=("ssm:GetCommandInvocation",))
    yield Question(actions=("ssm:GetParameter",), resources=deployed.parameters("agent-token"), allowed=False)
    of_alerts = role == "AlertsRole"
    yield Question(actions=("ssm:GetParameter",), resources=deployed.parameters("webhook-token"), allowed=of_alerts)
    yield Question(
        actions=("ssm:GetParameter",), resources=deployed.parameters("policy"), allowed=role == "LifecycleRole"
    )
    yield Question(actions=("ssm:PutParameter",), resources=deployed.parameters("policy"), allowed=False)
    yield Question(
        actions=tuple(f"dynamodb:{verb}Item" for verb in ("Get", "Put", "Update", "Delete")),
        resources=(deployed.arn("dynamodb", f"table/{deployed.resources['IdempotencyTable']}"),),
        allowed=of_alerts,
    )


def _asked_for_a_launch(deployed: Deployed) -> Iterator[Question]:
    tags = {MANAGED_BY_TAG: MANAGED_BY_VALUE, CLUSTER_TAG: deployed.cluster_id}
    tagged: Context = {f"aws:RequestTag/{key}": [value] for key, value in tags.items()} | {
        "aws:TagKeys": ["Name", *tags, OPERATION_TAG, POOL_TAG]
    }
    as_server: Context = {**tagged, f"aws:RequestTag/{ROLE_TAG}": ["server"], "aws:TagKeys": [*tags, ROLE_TAG]}
    template = deployed.arn("ec2", f"launch-template/{deployed.resources[FIRST_TEMPLATE]}")
    named = (
        template,
        *(deployed.arn("ec2", f"subnet/{subnet}") for subnet in deployed.subnet_ids),
        *(deployed.arn("ec2", f"security-group/{group}") for group in deployed.security_group_ids),
        deployed.arn("ec2", f"image/{deployed.image_id}", owned=False),
    )
    for name in deployed.further_templates:
        further = deployed.arn("ec2", f"launch-template/{deployed.resources[name]}")
        of_further: Context = {"ec2:LaunchTemplate": [further], "ec2:IsLaunchTemplateResource": ["true"]}
        yield Question(actions=("ec2:CreateFleet",), resources=(further,))
        yield Question(
            actions=("ec2:RunInstances",),
            resources=(further, deployed.arn("ec2", "image/*", owned=False)),
            context=of_further,
        )
    made = tuple(deployed.arn("ec2", f"{kind}/*") for kind in ("instance", "volume", "network-interface"))
    fleet = deployed.arn("ec2", "fleet/*")
    of_template = {"ec2:LaunchTemplate": [template]}
    yield Question(actions=("ec2:CreateFleet",), resources=(fleet, *made), context=tagged)
    yield Question(actions=("ec2:CreateFleet",), resources=named)
    yield Question(actions=("ec2:RunInstances",), resources=made, context={**tagged, **of_template})
    yield Question(
        actions=("ec2:RunInstances",),
        resources=named,
        context={**of_template, "ec2:IsLaunchTemplateResource": ["true"]},
    )
    yield Question(
        actions=("ec2:CreateFleet", "ec2:RunInstances"), resources=made[:1], context=as_server, allowed=False
    )
    yield Question(
        actions=("ec2:CreateTags",), resources=(fleet, *made), context={**tagged, "ec2:CreateAction": ["CreateFleet"]}
    )
    yield Question(actions=("ec2:CreateTags",), resources=made[:1], context=tagged, allowed=False)
    yield Question(
        actions=("iam:PassRole",),
        resources=(deployed.role("WorkerRole"),),
        context={"iam:PassedToService": ["ec2.amazonaws.com"]},
    )
    # Of another account's key IAM would also ask the key's own policy, which it is not shown here.
    if deployed.volume_key and owner_of(deployed.volume_key) == deployed.account_id:
        yield from asked_of_a_key(deployed.volume_key)
        yield Question(actions=("kms:CreateGrant", "kms:Decrypt"), resources=(deployed.volume_key,), allowed=False)


def asked_of_worker(deployed: Deployed) -> Iterator[Question]:
    """How to join, and nothing else."""
    yield Question(actions=("ssm:GetParameter",), resources=deployed.parameters(*JOIN_PARAMETERS))
    yield Question(actions=("ssm:GetParameter",), resources=deployed.parameters("webhook-token"), allowed=False)
    yield Question(actions=("ec2:TerminateInstances",), allowed=False)


def _servers(account: Account, deployed: Deployed) -> Iterator[Finding]:
    """A server is found by its tags and its role by its instance profile: it may belong to no stack of ours."""
    rows = account.client("ec2").describe_instances(
        Filters=[
            {"Name": f"tag:{CLUSTER_TAG}", "Values": [deployed.cluster_id]},
            {"Name": f"tag:{ROLE_TAG}", "Values": ["server"]},
            {"Name": "instance-state-name", "Values": ["running"]},
        ]
    )["Reservations"]
    by_profile: dict[str, list[str]] = defaultdict(list)
    for reservation in rows:
        for row in reservation["Instances"]:
            by_profile[row.get("IamInstanceProfile", {}).get("Arn", "")].append(row["InstanceId"])
    for profile, instances in by_profile.items():
        name = f"role of the server {', '.join(instances)}"
        if not profile:
            todo = (
                "Give it a profile with AmazonSSMManagedInstanceCore, or see that the check `servers` finds it online."
            )
            yield warning(name, "it has no instance profile", todo)
            continue
        found = account.client("iam").get_instance_profile(InstanceProfileName=profile.rpartition("/")[2])
        (role,) = found["InstanceProfile"]["Roles"]
        yield _judged(account, name, role["Arn"], (Question(actions=AGENT_ACTIONS),))
        publishing = Question(actions=("ssm:PutParameter",), resources=deployed.parameters(*JOIN_PARAMETERS))
        if wrong_answers(account, role["Arn"], (publishing,)):
            said = f"it may not write all of {', '.join(JOIN_PARAMETERS)}"
            yield warning(
                f"{name}, publishing", said, "Nothing to do where you publish them yourself (docs/deploy.md)."
            )


def _deployed(account: Account, subject: Subject) -> Deployed:
    pages = account.client("cloudformation").get_paginator("list_stack_resources").paginate(StackName=subject.stack)
    resources = {
        row["LogicalResourceId"]: row.get("PhysicalResourceId", "")
        for page in pages
        for row in page["StackResourceSummaries"]
    }
    caller = account.client("sts").get_caller_identity()
    image = subject.image
    if "/" in image:
        image = account.client("ssm").get_parameter(Name=image)["Parameter"]["Value"]
    return Deployed(
        partition=caller["Arn"].split(":")[1],
        account_id=caller["Account"],
        region=subject.region,
        cluster_id=subject.cluster_id,
        resources=resources,
        image_id=image,
        subnet_ids=subject.subnet_ids,
        security_group_ids=subject.security_group_ids,
        volume_key=subject.volume_key,
    )


def _judged(account: Account, name: str, role: str, questions: Sequence[Question]) -> Finding:
    wrong = wrong_answers(account, role, questions)
    if wrong:
        todo = "Deploy again; then look for a permissions boundary, an organisation's policy, or a change by hand."
        return problem(name, "; ".join(wrong), todo)
    return ok(name, f"IAM answers as it must to all {sum(q.count for q in questions)} requests asked for")
