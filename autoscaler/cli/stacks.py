"""Which stages are deployed, and what their stacks say of themselves: CloudFormation, read only."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from botocore.exceptions import ClientError

from autoscaler.aws.clients import Clients
from autoscaler.aws.failures import error_code, told_as
from autoscaler.ports import PortError

PREFIX: Final = "k3s-autoscaler-"
"""`<service>-` of serverless.yml: a stage's stack is called so, and its functions `<stack>-<function>`."""
CLUSTER_OUTPUT: Final = "ClusterId"
TABLE_OUTPUT: Final = "StateTableName"
POLICY_OUTPUT: Final = "PolicyHash"


class StackUnavailable(PortError):
    """CloudFormation could not be asked, or no stack answers the question."""


@dataclass(frozen=True)
class Stack:
    """A deployed stage."""

    stage: str
    status: str
    """CloudFormation's own: UPDATE_COMPLETE."""
    outputs: Mapping[str, str]

    @property
    def is_named(self) -> bool:
        """Whether it says which cluster it runs, and where that one's state is."""
        return {CLUSTER_OUTPUT, TABLE_OUTPUT} <= set(self.outputs)


def stack_of(clients: Clients, stage: str) -> Stack | None:
    """The stack of a stage; None where there is none. Raises StackUnavailable."""
    name = f"{PREFIX}{stage}"
    with told_as(StackUnavailable, f"read the stack {name}"):
        try:
            (found,) = clients.client("cloudformation").describe_stacks(StackName=name)["Stacks"]
        except ClientError as error:
            # CloudFormation has no code of its own for this: ValidationError, "Stack with id X does not exist".
            if error_code(error) == "ValidationError" and "does not exist" in str(error):
                return None
            raise
    return _stack(found)


def deployed(clients: Clients) -> list[Stack]:
    """Every stage of the region whose stack names its cluster and table, by name. Raises StackUnavailable."""
    with told_as(StackUnavailable, "list the stacks"):
        pages = clients.client("cloudformation").get_paginator("describe_stacks").paginate()
        rows = [row for page in pages for row in page["Stacks"]]
    stacks = (_stack(row) for row in rows if row["StackName"].startswith(PREFIX))
    return sorted((one for one in stacks if one.is_named), key=lambda one: one.stage)


def _stack(row: Mapping[str, Any]) -> Stack:
    outputs = {str(one["OutputKey"]): str(one["OutputValue"]) for one in row.get("Outputs", ())}
    return Stack(stage=row["StackName"].removeprefix(PREFIX), status=row["StackStatus"], outputs=outputs)
