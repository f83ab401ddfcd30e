"""Checks of the account: who asks, what EC2 would do for them, roles, region, concurrency."""

from collections.abc import Sequence
from typing import Any, Final

from botocore.exceptions import BotoCoreError, ClientError

from autoscaler.aws.failures import error_code, error_message, in_one_line
from autoscaler.cli.verify.checks import (
    DENIED,
    NOT_DEPLOYED,
    NOT_FROM_AWS_TODO,
    UNREADABLE,
    Account,
    Finding,
    Subject,
    not_from_aws,
    ok,
    problem,
    stack_outputs,
    unknown,
    warning,
)
from autoscaler.cli.verify.image import image_id_of, templates_of
from autoscaler.model import CLUSTER_TAG, MANAGED_BY_TAG, MANAGED_BY_VALUE, SPOT

DRY_RUN_WOULD_HAVE_WORKED: Final = "DryRunOperation"
"""EC2's answer to a DryRun that would have been carried out. Source: EC2 API reference, "Common query parameters"."""
ENOUGH_CONCURRENCY: Final = 20
UNRESERVED_MINIMUM: Final = 100
"""Lambda keeps this many for functions that reserve nothing. Source: Lambda developer guide, "Reserved concurrency"."""


def check_identity(account: Account, subject: Subject) -> Sequence[Finding]:
    """Whose credentials these are. Without an answer nothing else need be asked."""
    try:
        caller = account.client("sts").get_caller_identity()
        said = f"{caller['Arn']} in account {caller['Account']}, region {subject.region}"
    except (ClientError, BotoCoreError) as error:
        said = f"AWS does not know who asks: {in_one_line(str(error))}"
        return [problem("credentials", said, "Sign in again, or set AWS_PROFILE; check the connection.")]
    except UNREADABLE as error:
        return [problem("credentials", not_from_aws(error), NOT_FROM_AWS_TODO)]
    return [ok("credentials", said)]


def check_dry_runs(account: Account, subject: Subject) -> Sequence[Finding]:
    """A worker's launch as it will be, tried without being done."""
    ec2 = account.client("ec2")
    tags = [
        {"Key": MANAGED_BY_TAG, "Value": MANAGED_BY_VALUE},
        {"Key": CLUSTER_TAG, "Value": subject.cluster_id},
    ]
    findings: list[Finding] = []
    for number, (which, image, pool, types) in enumerate(templates_of(subject)):
        launch = {
            "ImageId": image_id_of(account, image),
            "InstanceType": types[0],
            "SecurityGroupIds": list(subject.security_group_ids),
            "MetadataOptions": {"HttpTokens": "required", "HttpPutResponseHopLimit": 1},
        }
        findings += [
            _dry_run(
                f"launch{which} in {subnet}",
                ec2.run_instances,
                MinCount=1,
                MaxCount=1,
                SubnetId=subnet,
                TagSpecifications=[{"ResourceType": "instance", "Tags": tags}],
                **launch,
            )
            for subnet in pool.subnets or subject.subnet_ids
        ]
        findings.append(
            _dry_run(
                f"launch template{which}",
                ec2.create_launch_template,
                LaunchTemplateName=f"verify-{subject.cluster_id}{f'-{number}' if number else ''}",
                LaunchTemplateData=launch,
            )
        )
    deployed = stack_outputs(account, subject)
    if deployed is None:
        return [*findings, warning("fleet request", f"not tried: {NOT_DEPLOYED}", "Run this again after.")]
    wanted = {"LaunchTemplateId": deployed["LaunchTemplateId"], "Version": "$Latest"}
    tried = _dry_run(
        "fleet request",
        ec2.create_fleet,
        Type="instant",
        TargetCapacitySpecification={"TotalTargetCapacity": 1, "DefaultTargetCapacityType": "on-demand"},
        LaunchTemplateConfigs=[{"LaunchTemplateSpecification": wanted}],
    )
    return [*findings, tried]


def check_linked_roles(account: Account, subject: Subject) -> Sequence[Finding]:
    """Roles that AWS makes once an account.

    An instant fleet needs no AWSServiceRoleForEC2Fleet (EC2 user guide, "EC2 Fleet prerequisites"); Spot needs its own,
    which the functions may not create.
    """
    wanted = any(pool.market == SPOT for pool in subject.policy.pools)
    without = (
        "the policy buys on Spot, and until then every worker will be on demand"
        if wanted
        else "on-demand workers do without, the first Spot instance does not"
    )
    name = "AWSServiceRoleForEC2Spot"
    try:
        found = account.client("iam").get_role(RoleName=name)["Role"]["RoleName"]
    except ClientError as error:
        if error_code(error) not in {"NoSuchEntity", "NoSuchEntityException"}:
            raise
        return [
            warning(
                "service-linked role for Spot",
                f"{name} does not exist: {without}",
                "aws iam create-service-linked-role --aws-service-name spot.amazonaws.com",
            )
        ]
    return [ok("service-linked role for Spot", f"{found} exists")]


def check_region(account: Account, subject: Subject) -> Sequence[Finding]:
    """Zones of the workers' subnets, and whether each offers the policy's instance types."""
    ec2 = account.client("ec2")
    own = (subnet for pool in subject.policy.pools for subnet in pool.subnets)
    subnets = ec2.describe_subnets(SubnetIds=list(dict.fromkeys((*subject.subnet_ids, *own))))["Subnets"]
    zones = {row["SubnetId"]: row["AvailabilityZone"] for row in subnets}
    findings = [ok("zones", ", ".join(f"{subnet} in {zone}" for subnet, zone in zones.items()))]
    if len(set(zones.values())) < 2:
        findings = [
            warning(
                "zones", f"all workers' subnets lie in {', '.join(set(zones.values()))}", "Add one in another zone."
            )
        ]
    for kind in subject.policy.instance_types:
        offers = ec2.describe_instance_type_offerings(
            LocationType="availability-zone", Filters=[{"Name": "instance-type", "Values": [kind]}]
        )["InstanceTypeOfferings"]
        missing = sorted(set(zones.values()) - {offer["Location"] for offer in offers})
        if missing and len(missing) == len(set(zones.values())):
            findings.append(
                problem(f"instance type {kind}", f"not offered in {', '.join(missing)}", "Name another in policy.yml.")
            )
        elif missing:
            findings.append(
                warning(f"instance type {kind}", f"not offered in {', '.join(missing)}", "Name a second type.")
            )
        else:
            findings.append(ok(f"instance type {kind}", "offered in every zone of the workers"))
    return findings


def check_concurrency(account: Account, subject: Subject) -> Sequence[Finding]:
    """Lambda's concurrency: a new account has 10 in all, and nothing of it can be reserved."""
    limits = account.client("lambda").get_account_settings()["AccountLimit"]
    total, free = limits["ConcurrentExecutions"], limits["UnreservedConcurrentExecutions"]
    name = "Lambda concurrency"
    if subject.reserved_concurrency and free - subject.reserved_concurrency < UNRESERVED_MINIMUM:
        return [
            problem(
                name,
                f"{subject.reserved_concurrency} are to be reserved, {free} of {total} are unreserved and Lambda keeps "
                f"{UNRESERVED_MINIMUM} of them",
                "Leave reservedConcurrency empty, or have the quota raised.",
            )
        ]
    if total < ENOUGH_CONCURRENCY:
        return [
            warning(
                name,
                f"{total} for everything in this region: enough for this service alone, other functions may starve it",
                "Have the quota L-B99A9384 raised.",
            )
        ]
    return [ok(name, f"{free} of {total} unreserved")]


def _dry_run(name: str, call: Any, **request: Any) -> Finding:
    try:
        call(DryRun=True, **request)
    except ClientError as error:
        code = error_code(error)
        message = error_message(error)[:200]
        if code == DRY_RUN_WOULD_HAVE_WORKED:
            return ok(name, "EC2 would have done it")
        if code in DENIED:
            return problem(name, f"EC2 would refuse it to you: {code}", "Allow it to whoever deploys.")
        if code.startswith("Invalid"):
            return problem(name, f"EC2 does not take the request: {code}: {message}", "Correct the parameter it names.")
        return unknown(name, error)
    return warning(name, "not known: EC2 did not answer a DryRun as it should")
