"""What scripts/up asks of AWS between its steps: a stack's outputs, and whether the server has told how to join.

`python -m autoscaler.deploy.stack outputs STACK` prints a line `name=value` for each output; nothing where there is no
such stack. A stack that cannot be deployed to ends it with code 1 and one sentence.
`python -m autoscaler.deploy.stack unpublished CLUSTER` prints the names of the join parameters that are still missing.
"""

from typing import Annotated, Any, Final

import botocore.session
import typer
from botocore.exceptions import BotoCoreError, ClientError

from autoscaler.aws.failures import error_code
from autoscaler.cli.ending import FAILED, end, in_a_sentence

JOIN_PARAMETERS: Final = ("server-url", "version", "ca-hash", "agent-token")
"""What a server publishes and a worker reads (DESIGN: `/k3s/<cluster>/`)."""

# Source: CloudFormation user guide, "Understand CloudFormation stack creation events" and "Stack status codes".
DELETABLE_ONLY: Final = frozenset({"ROLLBACK_COMPLETE", "ROLLBACK_FAILED", "CREATE_FAILED", "DELETE_FAILED"})
NEEDS_ROLLBACK: Final = frozenset({"UPDATE_ROLLBACK_FAILED"})

app = typer.Typer(add_completion=False, no_args_is_help=True)
Region = Annotated[str, typer.Option("--region", help="The AWS region.")]


@app.command()
def outputs(stack: str, *, region: Region) -> None:
    """Print the outputs of a stack, one `name=value` a line."""
    try:
        found = find_stack(_client("cloudformation", region), stack)
    except (BotoCoreError, ClientError) as error:
        end(in_a_sentence(f"the stack {stack} could not be looked at: {error}"), FAILED)
    if found is None:
        return
    status = str(found["StackStatus"])
    if problem := problem_of(stack, status):
        end(problem, FAILED)
    for row in found.get("Outputs", ()):
        typer.echo(f"{row['OutputKey']}={row['OutputValue']}")


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
        # CloudFormation has no code of its own for this: ValidationError, "Stack with id X does not exist".
        if error_code(error) == "ValidationError" and "does not exist" in str(error):
            return None
        raise
    return dict(found)


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
