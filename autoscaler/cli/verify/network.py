"""Checks of the functions' ways to AWS: the dual-stack endpoints, and DynamoDB, which is reached by IPv4."""

from collections.abc import Mapping, Sequence
from typing import Any, Final

from autoscaler.cli.verify.checks import Account, Finding, Subject, ok, problem, warning

DUAL_STACK_SERVICES: Final = ("ec2", "ssm", "sns")
"""What the functions call by IPv6 (autoscaler/aws/clients.py)."""
EVERYWHERE: Final = "0.0.0.0/0"


def check_endpoints(account: Account, subject: Subject) -> Sequence[Finding]:
    """Dual-stack endpoints, where the functions need them: a name with an IPv6 address that answers HTTPS."""
    if not subject.dual_stack:
        return [ok("dual-stack endpoints", "not needed: functionDualStack is false")]
    todo = "Set functionDualStack to false and give the functions another way out, or take another region."
    findings = []
    for service in DUAL_STACK_SERVICES:
        name = f"dual-stack endpoint of {service}"
        try:
            host = account.dual_stack_host(service)
        except ValueError as error:
            findings.append(problem(name, str(error), todo))
            continue
        if not account.has_ipv6(host):
            findings.append(problem(name, f"{host} has no IPv6 address", todo))
            continue
        try:
            status = account.status_of("GET", f"https://{host}/")
        except OSError as error:
            findings.append(
                warning(name, f"{host} did not answer from here ({type(error).__name__})", "Try from the VPC.")
            )
            continue
        findings.append(ok(name, f"{host} has an IPv6 address and answers (HTTP {status})"))
    return findings


def check_dynamodb_route(account: Account, subject: Subject) -> Sequence[Finding]:
    """Each subnet of the functions has a way to DynamoDB: an endpoint of the VPC, or IPv4 to everywhere.

    An interface endpoint counts where it answers to the name that the SDK asks for (its private DNS name).
    """
    name = "way to DynamoDB"
    if not subject.function_subnet_ids:
        return [ok(name, "by the internet: the functions stand in no VPC")]
    ec2 = account.client("ec2")
    subnets = ec2.describe_subnets(SubnetIds=list(subject.function_subnet_ids))["Subnets"]
    vpc_id = subnets[0]["VpcId"]
    in_vpc = {"Name": "vpc-id", "Values": [vpc_id]}
    tables = ec2.describe_route_tables(Filters=[in_vpc])["RouteTables"]
    service = f"com.amazonaws.{subject.region}.dynamodb"
    endpoints = ec2.describe_vpc_endpoints(Filters=[in_vpc, {"Name": "service-name", "Values": [service]}])[
        "VpcEndpoints"
    ]
    if any(endpoint.get("PrivateDnsEnabled") for endpoint in endpoints):
        return [ok(name, f"through the interface endpoint of {vpc_id}")]
    served = {table_id for endpoint in endpoints for table_id in endpoint.get("RouteTableIds", ())}
    findings = []
    for subnet_id in subject.function_subnet_ids:
        table = _table_of(subnet_id, tables)
        if table["RouteTableId"] in served:
            findings.append(ok(f"{name} from {subnet_id}", "through the VPC's gateway endpoint"))
        elif any(row.get("DestinationCidrBlock") == EVERYWHERE for row in table["Routes"]):
            findings.append(ok(f"{name} from {subnet_id}", "by the subnet's IPv4 route to the internet"))
        else:
            todo = (
                f"aws ec2 create-vpc-endpoint --vpc-id {vpc_id} --service-name {service} "
                f"--route-table-ids {table['RouteTableId']} (it is free)"
            )
            said = f"the route table {table['RouteTableId']} has neither a gateway endpoint nor a way out by IPv4"
            findings.append(problem(f"{name} from {subnet_id}", said, todo))
    return findings


def _table_of(subnet_id: str, tables: Sequence[Mapping[str, Any]]) -> Mapping[str, Any]:
    """The route table that a subnet is associated with, else its VPC's main one."""
    associated = {row.get("SubnetId"): table for table in tables for row in table["Associations"]}
    main = next(table for table in tables if any(row.get("Main") for row in table["Associations"]))
    return associated.get(subnet_id, main)
