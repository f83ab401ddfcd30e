"""`k3s-autoscaler`: see what it does, stop it, let it go on."""

import getpass
import json
import os
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, NoReturn

import typer
from rich.console import Console

from autoscaler.aws.calls import Calls
from autoscaler.aws.clients import Clients
from autoscaler.aws.dynamodb import DynamoStateStore
from autoscaler.cli.duration import DurationError, parse_duration
from autoscaler.cli.mode import Contended, change_mode
from autoscaler.cli.report import say_mode, show_history, show_status, status_document
from autoscaler.model import Mode, ModeSetting
from autoscaler.policy import PolicyError
from autoscaler.ports import PortError
from autoscaler.runtime import CLUSTER_ID_FORM, read_policy

WRONG_INPUT = 2
FAILED = 1

app = typer.Typer(
    help="Scales the EC2 workers of a K3s cluster: see what it does, stop it, let it go on.",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
)

Cluster = Annotated[str, typer.Option("--cluster", envvar="CLUSTER_ID", help="The service's CLUSTER_ID.")]
StateTable = Annotated[str, typer.Option("--table", envvar="STATE_TABLE", help="The stack's state table.")]
Region = Annotated[str, typer.Option("--region", help="The AWS region; without it AWS' own settings hold.")]
PolicyFile = Annotated[
    str, typer.Option("--policy", envvar="POLICY_FILE", help="The policy that is deployed, to name its mode.")
]
For = Annotated[str, typer.Option("--for", help="How long: 45s, 30m, 2h, 1h30m, 1d. Without it: until changed.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON for programs.")]


@app.command()
def status(
    *,
    cluster: Cluster = "",
    table: StateTable = "",
    region: Region = "",
    policy: PolicyFile = "policy.yml",
    as_json: AsJson = False,
) -> None:
    """Show the mode, what is under way and the last decisions."""
    store = _store(cluster, table, region)
    now_s = int(time.time())
    policy_mode = _policy_mode(policy)
    with _told():
        state, version = store.load()
        decisions = store.history(limit=5)
    if as_json:
        document = status_document(state, cluster_id=cluster, policy_mode=policy_mode, now_s=now_s, decisions=decisions)
        typer.echo(json.dumps(document, indent=2))
        return
    show_status(
        Console(highlight=False),
        state,
        cluster_id=cluster,
        stored=version > 0,
        policy_mode=policy_mode,
        now_s=now_s,
        decisions=decisions,
    )


@app.command()
def history(
    *,
    cluster: Cluster = "",
    table: StateTable = "",
    region: Region = "",
    since: Annotated[str, typer.Option("--since", help="How far back: 30m, 2h, 7d.")] = "1d",
    limit: Annotated[int, typer.Option("--limit", min=1, max=1000, help="At most so many.")] = 50,
    as_json: AsJson = False,
) -> None:
    """Show decisions that acted, refused or failed, the newest first."""
    since_s = int(time.time()) - _seconds(since)
    store = _store(cluster, table, region)
    with _told():
        decisions = store.history(since_s=since_s, limit=limit)
    if as_json:
        typer.echo(json.dumps(decisions, indent=2))
        return
    show_history(Console(highlight=False), decisions)


@app.command()
def pause(*, cluster: Cluster = "", table: StateTable = "", region: Region = "", duration: For = "") -> None:
    """Stop until `resume`, or for a while.

    Nothing is launched, drained or terminated; what EC2 and the servers are doing already goes on.
    """
    _set(Mode.PAUSED, cluster, table, region, duration)


@app.command()
def observe(*, cluster: Cluster = "", table: StateTable = "", region: Region = "", duration: For = "") -> None:
    """Decide and tell, do nothing."""
    _set(Mode.OBSERVE, cluster, table, region, duration)


@app.command()
def resume(*, cluster: Cluster = "", table: StateTable = "", region: Region = "") -> None:
    """Decide and act."""
    _set(Mode.ACTIVE, cluster, table, region, "")


def _set(mode: Mode, cluster: str, table: str, region: str, duration: str) -> None:
    now_s = int(time.time())
    until_s = now_s + _seconds(duration) if duration else None
    store = _store(cluster, table, region)
    setting = ModeSetting(mode=mode, set_at_s=now_s, until_s=until_s, by=_who())
    with _told():
        before, existed = change_mode(store, setting)
    typer.echo(f"{cluster}: {say_mode(before, None, now_s)} -> {say_mode(setting, None, now_s)}")
    if not existed:
        typer.echo(
            f"No state was stored for {cluster} in {table} before: right for a cluster that has never scaled, "
            "else check the name.",
            err=True,
        )


def _store(cluster: str, table: str, region: str) -> DynamoStateStore:
    if not cluster or not table:
        missing = " and ".join(
            text
            for value, text in ((cluster, "--cluster (or CLUSTER_ID)"), (table, "--table (or STATE_TABLE)"))
            if not value
        )
        _end(f"Give {missing}: the stack's outputs name them.", WRONG_INPUT)
    if not CLUSTER_ID_FORM.fullmatch(cluster):
        _end(f"{cluster!r} is no cluster id: letters, digits, '.', '_' and '-' are allowed, at most 128.", WRONG_INPUT)
    return DynamoStateStore(Clients(Calls(), region=region or None), table=table, cluster_id=cluster, history_days=1)


def _seconds(text: str) -> int:
    try:
        return parse_duration(text)
    except DurationError as error:
        _end(str(error), WRONG_INPUT)


def _policy_mode(path: str) -> str | None:
    """The mode of the policy file, if there is one here: the deployed one cannot be asked."""
    if not Path(path).is_file():
        return None
    try:
        return str(read_policy(path).mode)
    except PolicyError as error:
        _end(str(error), WRONG_INPUT)


def _who() -> str:
    try:
        user = getpass.getuser()
    except (KeyError, OSError):  # no such user on this machine: a container's bare number
        user = str(os.getuid())
    return f"{user}@{socket.gethostname()}"[:64]


@contextmanager
def _told() -> Iterator[None]:
    try:
        yield
    except (PortError, Contended) as error:
        _end(_sentence(str(error)), FAILED)


def _sentence(text: str) -> str:
    return text[:1].upper() + text[1:] + ("" if text.endswith(".") else ".")


def _end(sentence: str, code: int) -> NoReturn:
    typer.echo(sentence, err=True)
    raise typer.Exit(code)


def main() -> None:
    """Run the command line."""
    app(prog_name="k3s-autoscaler")


if __name__ == "__main__":
    main()
