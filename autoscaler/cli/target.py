"""Which cluster a command is about: named by its stage, whose stack tells the rest, or by its own names.

`@aimed` gives a command the options and hands it the `Target`. What is typed wins over what is exported, a cluster's
own names over its stage, and with nothing given the only stage of the region is meant. With the names given no stack
is asked: a person who may read the table need not be allowed to read stacks.
"""

import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Annotated, Any, Final, NamedTuple

import typer

from autoscaler.aws.calls import Calls
from autoscaler.aws.clients import Clients
from autoscaler.aws.dynamodb import DynamoStateStore
from autoscaler.cli.ending import WRONG_INPUT, end, told
from autoscaler.cli.options import REGION_VARIABLES
from autoscaler.cli.stacks import CLUSTER_OUTPUT, PREFIX, TABLE_OUTPUT, Stack, StackUnavailable, deployed, stack_of
from autoscaler.runtime import CLUSTER_ID_FORM

OPTIONS: Final[dict[str, Any]] = {
    "stage": typer.Option(
        "--stage",
        envvar="STAGE",
        help="The deployed stage, such as main: its stack says the rest.",
    ),
    "cluster": typer.Option("--cluster", envvar="CLUSTER_ID", help="The service's CLUSTER_ID, in a stage's place."),
    "table": typer.Option("--table", envvar="STATE_TABLE", help="The stack's state table, in a stage's place."),
    "region": typer.Option(
        "--region",
        envvar=REGION_VARIABLES,
        help="The AWS region; without it the profile's.",
    ),
    "profile": typer.Option("--profile", help="A profile of ~/.aws/config; without it AWS' own settings hold."),
    "endpoint_url": typer.Option(
        "--endpoint-url", help="Where AWS' services are reached instead, such as an emulator."
    ),
}
_CLUSTER: Final = "--cluster (or CLUSTER_ID)"
_TABLE: Final = "--table (or STATE_TABLE)"
HISTORY_DAYS: Final = 90
"""How long what a person did stays in the history: the policy's own `history_days` is not known here."""


@dataclass(frozen=True, kw_only=True)
class Target:
    """A cluster, and the caller's own way to it. Nothing is asked before it is needed."""

    cluster_id: str
    table: str
    """Empty for commands that need none and were not told it."""
    region: str | None
    """None: the profile's."""
    stage: str | None
    """None where the cluster's own names were given."""
    outputs: Mapping[str, str]
    """Of the stage's stack; empty where it was not asked."""
    clients: Clients = field(repr=False)

    def store(self) -> DynamoStateStore:
        """The state and the history."""
        return DynamoStateStore(self.clients, table=self.table, cluster_id=self.cluster_id, history_days=HISTORY_DAYS)

    def function(self, which: str = "sweep") -> str:
        """The name of a deployed function: `sweep`, `alerts` or `lifecycle`. Raises StackUnavailable."""
        return f"{PREFIX}{self.known_stage}-{which}"

    @cached_property
    def known_stage(self) -> str:
        """The stage, looked for by the cluster's id where it was not named. Raises StackUnavailable."""
        if self.stage is not None:
            return self.stage
        found = _with_cluster(deployed(self.clients), self.cluster_id)
        if found is None:
            raise StackUnavailable(f"no stack is known that runs the cluster {self.cluster_id}: give --stage as well")
        return found.stage


class _Asked(NamedTuple):
    """The options' values; empty where they were not given."""

    stage: str
    cluster: str
    table: str
    region: str
    profile: str
    endpoint_url: str


def aimed(command: Callable[..., None]) -> Callable[..., None]:
    """Give a typer command the options that name a cluster; it gets `target: Target` as a keyword argument."""
    return _aimed(command, needs_table=True)


def aimed_without_table(command: Callable[..., None]) -> Callable[..., None]:
    """The same for a command that needs no table: the cluster's id is enough for it."""
    return _aimed(command, needs_table=False)


def _aimed(command: Callable[..., None], *, needs_table: bool) -> Callable[..., None]:
    def with_target(ctx: typer.Context, **values: Any) -> None:
        asked = _Asked(**{name: values.pop(name) or "" for name in OPTIONS})
        target = aim(_typed_first(ctx, asked), needs_table=needs_table)
        command(target=target, **values)

    own = [one for name, one in inspect.signature(command).parameters.items() if name != "target"]
    added = [
        inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default="", annotation=Annotated[str, option])
        for name, option in OPTIONS.items()
    ]
    context = inspect.Parameter("ctx", inspect.Parameter.POSITIONAL_OR_KEYWORD, annotation=typer.Context)
    parameters = [context, *own, *added]
    # Not functools.wraps: typer would follow it to the command's own parameters.
    with_target.__name__, with_target.__doc__ = command.__name__, command.__doc__
    with_target.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]  # the types know no such one
    with_target.__annotations__ = {one.name: one.annotation for one in parameters}
    return with_target


def _typed_first(ctx: typer.Context, asked: _Asked) -> _Asked:
    """Without the exported names of a cluster where a stage is typed, and the other way round."""
    exported = {name for name in OPTIONS if (source := ctx.get_parameter_source(name)) and source.name == "ENVIRONMENT"}
    if asked.stage and "stage" not in exported:
        return asked._replace(**{name: "" for name in ("cluster", "table") if name in exported})
    if asked.cluster and "cluster" not in exported and "stage" in exported:
        return asked._replace(stage="")
    return asked


def aim(asked: _Asked, *, needs_table: bool) -> Target:
    """Find what is meant, or end with one sentence."""
    if asked.cluster and not CLUSTER_ID_FORM.fullmatch(asked.cluster):
        end(
            f"{asked.cluster!r} is no cluster id: letters, digits, '.', '_' and '-' are allowed, at most 128.",
            WRONG_INPUT,
        )
    if asked.table and not asked.cluster and not asked.stage:
        end(f"Give {_CLUSTER} as well, or --stage: a table may hold several clusters.", WRONG_INPUT)
    if asked.endpoint_url and not asked.endpoint_url.startswith(("http://", "https://")):
        end(
            f"--endpoint-url {asked.endpoint_url} is no address: write http://127.0.0.1:4566, or https://.", WRONG_INPUT
        )
    clients = Clients(
        Calls(),
        region=asked.region or None,
        profile=asked.profile or None,
        endpoint_url=asked.endpoint_url or None,
    )
    stack: Stack | None = None
    if not asked.cluster or (needs_table and not asked.table):
        with told():
            stack = _stack(clients, asked, names=f"{_CLUSTER} and {_TABLE}" if needs_table else _CLUSTER)
    outputs = stack.outputs if stack is not None else {}
    return Target(
        cluster_id=asked.cluster or outputs[CLUSTER_OUTPUT],
        table=asked.table or outputs.get(TABLE_OUTPUT, ""),
        region=asked.region or None,
        stage=(stack.stage if stack is not None else asked.stage) or None,
        outputs=outputs,
        clients=clients,
    )


def _stack(clients: Clients, asked: _Asked, *, names: str) -> Stack:
    """The stack that says what was not given; `names` are the options that do without. Raises StackUnavailable."""
    if asked.stage:
        found = stack_of(clients, asked.stage)
        if found is None:
            end(f"There is no stage {asked.stage}{_where(asked)}: {_others(deployed(clients))}.", WRONG_INPUT)
        if not found.is_named:
            end(
                f"The stack {PREFIX}{asked.stage} is {found.status} and does not name its cluster: wait until it is "
                f"deployed, or give {names}.",
                WRONG_INPUT,
            )
        if asked.cluster and asked.cluster != found.outputs[CLUSTER_OUTPUT]:
            end(
                f"The stage {asked.stage} runs the cluster {found.outputs[CLUSTER_OUTPUT]}, not {asked.cluster}: give "
                "one of the two.",
                WRONG_INPUT,
            )
        return found
    stacks = deployed(clients)
    if asked.cluster:
        found = _with_cluster(stacks, asked.cluster)
        if found is None:
            end(
                f"No stack runs the cluster {asked.cluster}{_where(asked)}: give {_TABLE}, or check the name; "
                f"{_others(stacks)}.",
                WRONG_INPUT,
            )
        return found
    if len(stacks) != 1:
        end(f"Give --stage, or {names}: {_others(stacks)}{_where(asked)}.", WRONG_INPUT)
    return stacks[0]


def _with_cluster(stacks: list[Stack], cluster_id: str) -> Stack | None:
    return next((one for one in stacks if one.outputs.get(CLUSTER_OUTPUT) == cluster_id), None)


def _where(asked: _Asked) -> str:
    return f" in {asked.region}" if asked.region else ""


def _others(stacks: list[Stack]) -> str:
    if not stacks:
        return "no stage is deployed"
    named = [f"{one.stage} (cluster {one.outputs[CLUSTER_OUTPUT]})" for one in stacks]
    return f"deployed {'is' if len(named) == 1 else 'are'} {', '.join(named)}"
