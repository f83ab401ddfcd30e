"""`k3s-autoscaler`: see what it does, stop it, let it go on."""

import json
import time
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from autoscaler.cli.doctor.command import doctor
from autoscaler.cli.ending import WRONG_INPUT, end, told
from autoscaler.cli.mode import change_mode
from autoscaler.cli.options import AsJson, For, PolicyFile, seconds
from autoscaler.cli.policy.command import policy as policy_commands
from autoscaler.cli.prices.command import prices
from autoscaler.cli.report import say_mode, show_history, show_status, status_document
from autoscaler.cli.target import Target, aimed
from autoscaler.cli.teardown.command import teardown
from autoscaler.cli.token.command import token
from autoscaler.cli.validate import validate
from autoscaler.cli.verify.command import verify_aws
from autoscaler.cli.who import who
from autoscaler.model import Mode, ModeSetting
from autoscaler.policy import PolicyError
from autoscaler.runtime import read_policy

app = typer.Typer(
    help="Scales the EC2 workers of a K3s cluster: see what it does, stop it, let it go on.",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
)
app.command()(token)
app.command()(validate)
app.command()(doctor)
app.command()(verify_aws)
app.command()(teardown)
app.add_typer(prices, name="prices")
app.add_typer(policy_commands, name="policy")


@app.command()
@aimed
def status(*, target: Target, policy: PolicyFile = "policy.yml", as_json: AsJson = False) -> None:
    """Show the mode, what is under way and the last decisions."""
    store, cluster = target.store(), target.cluster_id
    now_s = int(time.time())
    policy_mode = _policy_mode(policy)
    with told():
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
@aimed
def history(
    *,
    target: Target,
    since: Annotated[str, typer.Option("--since", help="How far back: 30m, 2h, 7d.")] = "1d",
    limit: Annotated[int, typer.Option("--limit", min=1, max=1000, help="At most so many.")] = 50,
    as_json: AsJson = False,
) -> None:
    """Show decisions that acted, refused or failed, the newest first."""
    since_s = int(time.time()) - seconds(since)
    with told():
        decisions = target.store().history(since_s=since_s, limit=limit)
    if as_json:
        typer.echo(json.dumps(decisions, indent=2))
        return
    show_history(Console(highlight=False), decisions)


@app.command()
@aimed
def pause(*, target: Target, duration: For = "") -> None:
    """Stop until `resume`, or for a while.

    Nothing is launched, drained or terminated; what EC2 and the servers are doing already goes on.
    """
    _set(Mode.PAUSED, target, duration)


@app.command()
@aimed
def observe(*, target: Target, duration: For = "") -> None:
    """Decide and tell, do nothing."""
    _set(Mode.OBSERVE, target, duration)


@app.command()
@aimed
def resume(*, target: Target) -> None:
    """Decide and act."""
    _set(Mode.ACTIVE, target, "")


def _set(mode: Mode, target: Target, duration: str) -> None:
    now_s, cluster = int(time.time()), target.cluster_id
    until_s = now_s + seconds(duration) if duration else None
    setting = ModeSetting(mode=mode, set_at_s=now_s, until_s=until_s, by=who())
    with told():
        change = change_mode(target.store(), setting)
    typer.echo(f"{cluster}: {say_mode(change.before, None, now_s)} -> {say_mode(change.after, None, now_s)}")
    if not change.existed:
        typer.echo(
            f"No state was stored for {cluster} in {target.table} before: right for a cluster that has never scaled, "
            "else check the name.",
            err=True,
        )


def _policy_mode(path: str) -> str | None:
    """The mode of the policy file, if there is one here: the deployed one cannot be asked."""
    if not Path(path).is_file():
        return None
    try:
        return str(read_policy(path).mode)
    except PolicyError as error:
        end(str(error), WRONG_INPUT)


def main() -> None:
    """Run the command line."""
    app(prog_name="k3s-autoscaler")


if __name__ == "__main__":
    main()
