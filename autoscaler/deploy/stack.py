"""What the scripts and the framework's plugins ask of AWS around a deployment. What fails ends with one sentence.

`python -m autoscaler.deploy.stack COMMAND ... --region REGION`:

* `outputs STACK` prints a line `name=value` for each output; nothing where there is no such stack. A stack that cannot
  be deployed to ends it with code 1.
* `kept STACK` prints the parameters that the stack was deployed with as JSON, `null` where none were kept yet
  (docs/decisions/0009-kept-parameters.md), and `{}` where there are no credentials to ask with.
* `protect STACK` switches deletion protection of the stack's tables on.
* `restarts STACK`, with the new template on standard input, says why the update stops and starts the server.
* `unpublished CLUSTER` prints the names of the join parameters that are still missing.
* `workers CLUSTER` prints the ids of the workers that the autoscaler launched and that still run.
* `left CLUSTER` prints what of a cluster outlives its stacks, and how each is removed.
"""

import json
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Annotated, Any, Final

import botocore.session
import typer
from botocore.exceptions import BotoCoreError, ClientError

from autoscaler.aws.failures import error_code
from autoscaler.cli.ending import FAILED, end, in_a_sentence
from autoscaler.model import CLUSTER_TAG, MANAGED_BY_TAG, MANAGED_BY_VALUE

JOIN_PARAMETERS: Final = ("server-url", "version", "ca-hash", "agent-token")
"""What a server publishes and a worker reads (DESIGN: `/k3s/<cluster>/`)."""

# Source: CloudFormation user guide, "Understand CloudFormation stack creation events" and "Stack status codes".
DELETABLE_ONLY: Final = frozenset({"ROLLBACK_COMPLETE", "ROLLBACK_FAILED", "CREATE_FAILED", "DELETE_FAILED"})
NEEDS_ROLLBACK: Final = frozenset({"UPDATE_ROLLBACK_FAILED"})

RESTARTING: Final = ("UserData", "InstanceType", "EbsOptimized")
"""Source: CloudFormation template reference, AWS::EC2::Instance, "Update requires: Some interruptions" (EBS-backed)."""

app = typer.Typer(add_completion=False, no_args_is_help=True)
Region = Annotated[str, typer.Option("--region", help="The AWS region.")]


@app.command()
def outputs(
    stack: str,
    *,
    region: Region,
    to_remove: Annotated[
        bool, typer.Option("--to-remove", help="Of a stack that cannot be deployed to as well.")
    ] = False,
) -> None:
    """Print the outputs of a stack, one `name=value` a line."""
    try:
        found = find_stack(_client("cloudformation", region), stack)
    except (BotoCoreError, ClientError) as error:
        end(in_a_sentence(f"the stack {stack} could not be looked at: {error}"), FAILED)
    if found is None:
        return
    status = str(found["StackStatus"])
    if (problem := problem_of(stack, status)) and not (to_remove and status in DELETABLE_ONLY):
        end(problem, FAILED)
    typer.echo(f"StackStatus={status}")
    for row in found.get("Outputs", ()):
        typer.echo(f"{row['OutputKey']}={row['OutputValue']}")


@app.command()
def kept(
    stack: str,
    *,
    region: Region,
    lines: Annotated[bool, typer.Option("--lines", help="As lines `name=value`.")] = False,
) -> None:
    """Print the parameters that a stack was deployed with, as JSON: `null` where it never kept any."""
    text = _kept(stack, region)
    if not lines:
        typer.echo(text)
        return
    for name, value in (json.loads(text) or {}).items():
        typer.echo(f"{name}={value}")


def _kept(stack: str, region: str) -> str:
    if botocore.session.get_session().get_credentials() is None:
        return "{}"
    name = kept_name(stack)
    try:
        answer = _client("ssm", region).get_parameter(Name=name)
    except (BotoCoreError, ClientError) as error:
        if isinstance(error, ClientError) and error_code(error) == "ParameterNotFound":
            return "null"
        end(in_a_sentence(f"the parameters of the stack {stack} ({name}) could not be read: {error}"), FAILED)
    return str(answer["Parameter"]["Value"])


@app.command()
def protect(stack: str, *, region: Region) -> None:
    """Switch deletion protection of the stack's tables on."""
    try:
        rows = _client("cloudformation", region).describe_stack_resources(StackName=stack)["StackResources"]
        dynamodb = _client("dynamodb", region)
        for row in rows:
            if row["ResourceType"] == "AWS::DynamoDB::Table":
                dynamodb.update_table(TableName=row["PhysicalResourceId"], DeletionProtectionEnabled=True)
    except (BotoCoreError, ClientError) as error:
        why = f"the stack {stack} is deployed, but its tables could not be protected from deletion: {error}"
        end(in_a_sentence(why), FAILED)


@app.command()
def restarts(stack: str, *, region: Region) -> None:
    """Print the properties by which the new template (standard input) stops and starts the server; nothing else."""
    new = json.load(sys.stdin)
    try:
        old = _client("cloudformation", region).get_template(StackName=stack, TemplateStage="Original")["TemplateBody"]
    except (BotoCoreError, ClientError) as error:
        if isinstance(error, ClientError) and _is_missing(error):
            return
        end(in_a_sentence(f"the template of the stack {stack} could not be read: {error}"), FAILED)
    for name in restarting_changes(old, new):
        typer.echo(name)


@app.command()
def workers(cluster: str, *, region: Region) -> None:
    """Print the ids of the workers that the autoscaler launched and that still run: no stack removes them."""
    filters = [
        {"Name": f"tag:{CLUSTER_TAG}", "Values": [cluster]},
        {"Name": f"tag:{MANAGED_BY_TAG}", "Values": [MANAGED_BY_VALUE]},
        {"Name": "instance-state-name", "Values": ["pending", "running", "stopping", "stopped"]},
    ]
    try:
        pages = list(_client("ec2", region).get_paginator("describe_instances").paginate(Filters=filters))
    except (BotoCoreError, ClientError) as error:
        end(in_a_sentence(f"the workers of {cluster} could not be asked for: {error}"), FAILED)
    for page in pages:
        for reservation in page["Reservations"]:
            for row in reservation["Instances"]:
                typer.echo(row["InstanceId"])


@app.command()
def left(
    cluster: str,
    *,
    region: Region,
    table: Annotated[list[str] | None, typer.Option("--table", help="A table of the service; repeatable.")] = None,
    volume: Annotated[str, typer.Option("--volume", help="The volume of the server's data.")] = "",
) -> None:
    """Print what outlives the stacks of a cluster, one a line, with the command that removes it."""
    try:
        for line in what_is_left(
            lambda service: _client(service, region), cluster=cluster, tables=table or [], volume=volume
        ):
            typer.echo(line)
    except (BotoCoreError, ClientError) as error:
        end(in_a_sentence(f"what is left of {cluster} could not be looked at: {error}"), FAILED)


@app.command()
def unpublished(cluster: str, *, region: Region) -> None:
    """Print the names of the join parameters that nobody has published yet."""
    names = [f"/k3s/{cluster}/{name}" for name in JOIN_PARAMETERS]
    try:
        answer = _client("ssm", region).get_parameters(Names=names)
    except (BotoCoreError, ClientError) as error:
        end(in_a_sentence(f"the parameters /k3s/{cluster}/ could not be read: {error}"), FAILED)
    for name in answer["InvalidParameters"]:
        typer.echo(name)


def find_stack(client: Any, stack: str) -> dict[str, Any] | None:
    """Return CloudFormation's description of a stack, None where there is none. Raises ClientError, BotoCoreError."""
    try:
        (found,) = client.describe_stacks(StackName=stack)["Stacks"]
    except ClientError as error:
        if _is_missing(error):
            return None
        raise
    return dict(found)


def kept_name(stack: str) -> str:
    """The SSM parameter in which a stack keeps the parameters that it was deployed with."""
    return f"/k3s-autoscaler/{stack}/parameters"


def restarting_changes(old: Mapping[str, Any], new: Mapping[str, Any]) -> list[str]:
    """Properties of the server that differ and whose update stops and starts it; none where either has no server."""
    before, after = (template["Resources"].get("Server", {}).get("Properties") for template in (old, new))
    if before is None or after is None:
        return []
    return [name for name in RESTARTING if before.get(name) != after.get(name)]


def what_is_left(client: Callable[[str], Any], *, cluster: str, tables: Iterable[str], volume: str) -> Iterator[str]:
    """What outlives the stacks, and how it is removed: kept tables, the data's snapshots, the cluster's parameters."""
    existing = {
        name for page in client("dynamodb").get_paginator("list_tables").paginate() for name in page["TableNames"]
    }
    for name in tables:
        if name in existing:
            yield (
                f"table {name} (keepTables): aws dynamodb update-table --no-deletion-protection-enabled "
                f"--table-name {name} && aws dynamodb delete-table --table-name {name}"
            )
    if volume:
        filters = [{"Name": "volume-id", "Values": [volume]}]
        for row in client("ec2").describe_snapshots(OwnerIds=["self"], Filters=filters)["Snapshots"]:
            snapshot = row["SnapshotId"]
            yield f"snapshot {snapshot} of the server's data: aws ec2 delete-snapshot --snapshot-id {snapshot}"
    if cluster:
        pages = client("ssm").get_paginator("get_parameters_by_path").paginate(Path=f"/k3s/{cluster}", Recursive=True)
        for name in sorted(row["Name"] for page in pages for row in page["Parameters"]):
            yield f"parameter {name}: aws ssm delete-parameter --name {name}"


def _is_missing(error: ClientError) -> bool:
    # CloudFormation has no code of its own for this: ValidationError, "Stack with id X does not exist".
    return error_code(error) == "ValidationError" and "does not exist" in str(error)


def problem_of(stack: str, status: str) -> str | None:
    """Why nothing can be deployed to a stack in this status, and what to do; None where it can."""
    if status in DELETABLE_ONLY:
        return (
            f"The stack {stack} is {status}: its events say why. Nothing can be deployed to it; delete it with "
            f"`aws cloudformation delete-stack --stack-name {stack}`, then run this again."
        )
    if status in NEEDS_ROLLBACK:
        return (
            f"The stack {stack} is {status}: its events say why. Mend that, then "
            f"`aws cloudformation continue-update-rollback --stack-name {stack}`, then run this again."
        )
    if status.endswith("_IN_PROGRESS"):
        return f"The stack {stack} is {status}: somebody is changing it; run this again when that has ended."
    return None


def _client(service: str, region: str) -> Any:
    return botocore.session.get_session().create_client(service, region_name=region)


if __name__ == "__main__":
    app()
