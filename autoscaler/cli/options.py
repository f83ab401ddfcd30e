"""The options that commands share, and their checks."""

from typing import Annotated

import typer

from autoscaler.aws.calls import Calls
from autoscaler.aws.clients import Clients
from autoscaler.aws.dynamodb import DynamoStateStore
from autoscaler.cli.duration import DurationError, parse_duration
from autoscaler.cli.ending import WRONG_INPUT, end
from autoscaler.runtime import CLUSTER_ID_FORM

Cluster = Annotated[str, typer.Option("--cluster", envvar="CLUSTER_ID", help="The service's CLUSTER_ID.")]
StateTable = Annotated[str, typer.Option("--table", envvar="STATE_TABLE", help="The stack's state table.")]
Region = Annotated[str, typer.Option("--region", help="The AWS region; without it AWS' own settings hold.")]
PolicyFile = Annotated[
    str, typer.Option("--policy", envvar="POLICY_FILE", help="The policy that is deployed, to name its mode.")
]
For = Annotated[str, typer.Option("--for", help="How long: 45s, 30m, 2h, 1h30m, 1d. Without it: until changed.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON for programs.")]

CLUSTER_OPTION = "--cluster (or CLUSTER_ID)"
TABLE_OPTION = "--table (or STATE_TABLE)"


def check_given(values: dict[str, str]) -> None:
    """End with one sentence that names every option that is missing."""
    missing = " and ".join(name for name, value in values.items() if not value)
    if missing:
        end(f"Give {missing}: the stack's outputs name them.", WRONG_INPUT)


def check_cluster(cluster: str) -> None:
    """End with one sentence unless this can be a cluster's id."""
    check_given({CLUSTER_OPTION: cluster})
    if not CLUSTER_ID_FORM.fullmatch(cluster):
        end(f"{cluster!r} is no cluster id: letters, digits, '.', '_' and '-' are allowed, at most 128.", WRONG_INPUT)


def state_store(cluster: str, table: str, region: str, clients: Clients | None = None) -> DynamoStateStore:
    """The state of a cluster, with the caller's own credentials; no call is made yet."""
    check_given({CLUSTER_OPTION: cluster, TABLE_OPTION: table})
    check_cluster(cluster)
    clients = clients or Clients(Calls(), region=region or None)
    return DynamoStateStore(clients, table=table, cluster_id=cluster, history_days=1)


def seconds(text: str) -> int:
    """A duration as people write it."""
    try:
        return parse_duration(text)
    except DurationError as error:
        end(str(error), WRONG_INPUT)
