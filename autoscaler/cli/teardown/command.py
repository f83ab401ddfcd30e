"""`k3s-autoscaler teardown`: removes every worker of ours, drained, so that the service can be removed after."""

import json
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Final

import msgspec
import typer

from autoscaler.aws.background import ThreadBackground
from autoscaler.aws.clock import LambdaClock, SortableIds
from autoscaler.aws.ec2 import Ec2Fleet
from autoscaler.aws.sns import NoNotifier
from autoscaler.aws.ssm import SsmNodeCommands
from autoscaler.cli.duration import say_duration
from autoscaler.cli.ending import FAILED, INTERRUPTED, WRONG_INPUT, end, told
from autoscaler.cli.options import AsJson
from autoscaler.cli.target import Target, aimed
from autoscaler.cli.teardown.memory import Wishes
from autoscaler.cli.teardown.plan import NO_SERVER, Plan
from autoscaler.cli.teardown.run import End, NoMetrics, Report, Teardown
from autoscaler.cli.times import moment
from autoscaler.cli.who import who
from autoscaler.model import Instance
from autoscaler.policy import Policy
from autoscaler.policy_text import PolicyError
from autoscaler.ports import Ports
from autoscaler.runtime import read_policy

STEP_S: Final = 60.0
"""What one step may take: its lease outlives it by ten seconds, should this process be killed."""
DOCUMENT_OUTPUT: Final = "NodeCommandDocumentName"
MOST_AT_ONCE: Final = 40


class Manner(msgspec.Struct, frozen=True, kw_only=True):
    """How the command talks."""

    dry_run: bool = False
    yes: bool = False
    as_json: bool = False


class _Step:
    """The time of one step, as a Lambda context tells it."""

    aws_request_id = ""

    def __init__(self) -> None:
        self._ends_at_s = time.monotonic() + STEP_S

    def get_remaining_time_in_millis(self) -> int:
        return int((self._ends_at_s - time.monotonic()) * 1000)


@aimed
def teardown(
    *,
    target: Target,
    document: Annotated[
        str, typer.Option("--document", envvar="NODE_COMMAND_DOCUMENT", help="The stack's node-command document.")
    ] = "",
    policy: Annotated[
        str, typer.Option("--policy", envvar="POLICY_FILE", help="The policy whose drain and join times hold.")
    ] = "policy.yml",
    at_once: Annotated[
        int, typer.Option("--at-once", min=1, max=MOST_AT_ONCE, help="How many workers are emptied together.")
    ] = 1,
    force: Annotated[
        bool,
        typer.Option(
            "--force", help="After the drain's time-out, end also what budgets, rules, volumes or silence hold."
        ),
    ] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Say what would be removed, and change nothing.")] = False,
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False,
    as_json: AsJson = False,
) -> None:
    """Pause the autoscaler, then drain and terminate every worker that it launched.

    Static workers and servers stay. What is killed half-way goes on when the command is run again.
    """
    document = document or target.outputs.get(DOCUMENT_OUTPUT, "")
    if not document:
        end("Give --document (or NODE_COMMAND_DOCUMENT), or --stage: the stack's outputs name it.", WRONG_INPUT)
    if as_json and not dry_run and not yes:
        end("--json asks nobody: give --yes as well, or --dry-run.", WRONG_INPUT)
    code = conduct(
        _ports(target, document),
        cluster_id=target.cluster_id,
        policy=_policy(policy),
        wishes=Wishes(at_once=at_once, force=force),
        manner=Manner(dry_run=dry_run, yes=yes, as_json=as_json),
        read=_read_line if sys.stdin.isatty() else None,
        sleep=time.sleep,
        by=lambda: who(target.clients),
    )
    raise typer.Exit(code)


def conduct(
    ports: Callable[[], Ports],
    *,
    cluster_id: str,
    policy: Policy,
    wishes: Wishes,
    manner: Manner,
    read: Callable[[str], str] | None,
    sleep: Callable[[float], None],
    by: Callable[[], str],
) -> int:
    """Look, ask, remove, tell; returns the exit code. `read` asks the person; None where nobody sits there."""
    run = Teardown(ports, cluster_id=cluster_id, policy=policy, wishes=wishes, tell=_progress, sleep=sleep)
    with told():
        plan = run.preview()
    if manner.dry_run:
        _show_plan(plan, cluster_id, wishes, policy, as_json=manner.as_json)
        return 0
    if plan.left and any(NO_SERVER in why for why in plan.memory.refused.values()):
        end(
            f"Nothing was changed: {NO_SERVER}. Start a server that carries the tags of docs/deploy.md, or end the "
            "workers undrained with --force.",
            FAILED,
        )
    if not manner.yes:
        _confirm(plan, cluster_id, wishes, policy, read)
    try:
        with told():
            report = run.run(by=f"teardown by {by()}"[:64])
    except KeyboardInterrupt:
        end(
            "Stopped. The autoscaler is paused and what was begun stays under way: run teardown again to go on, or "
            "`k3s-autoscaler resume` to keep the cluster.",
            INTERRUPTED,
        )
    if manner.as_json:
        typer.echo(json.dumps({"cluster_id": cluster_id, **msgspec.to_builtins(report)}, indent=2))
    return _ended(report, cluster_id)


def _ended(report: Report, cluster_id: str) -> int:
    left = f"{_count(len(report.left), 'worker')} of {cluster_id} left"
    match report.end:
        case End.DONE:
            typer.echo(
                f"No worker of ours is left in {cluster_id}: {len(report.removed)} removed in "
                f"{say_duration(report.seconds)}. Now `make down STAGE=<the cluster's stage>` removes the rest.",
                err=True,
            )
            return 0
        case End.REFUSED:
            for why in report.refused:
                typer.echo(why, err=True)
            typer.echo(
                f"Stopped, with {left}, none cordoned by us: remove what stands against it and run teardown again, "
                "end them with --force, or `k3s-autoscaler resume`. The autoscaler stays paused.",
                err=True,
            )
        case End.MODE_CHANGED:
            typer.echo(
                f"Stopped, with {left}: somebody changed the mode, and the autoscaler decides again. Run teardown "
                "again once nobody needs it.",
                err=True,
            )
        case End.STALLED:
            typer.echo(
                f"Stopped, with {left}: nothing moves any more (`k3s-autoscaler status` shows what is under way). "
                "The autoscaler stays paused; run teardown again once the cause is gone.",
                err=True,
            )
    return FAILED


def _confirm(plan: Plan, cluster_id: str, wishes: Wishes, policy: Policy, read: Callable[[str], str] | None) -> None:
    if read is None:
        end("Nobody is here to be asked: give --yes, or --dry-run to see what would be removed.", WRONG_INPUT)
    _show_plan(plan, cluster_id, wishes, policy, as_json=False)
    try:
        answer = read("Type the cluster's id to go on: ").strip()
    except (EOFError, KeyboardInterrupt):
        answer = ""
    if answer != cluster_id:
        end("Nothing was changed.", WRONG_INPUT)


def _show_plan(plan: Plan, cluster_id: str, wishes: Wishes, policy: Policy, *, as_json: bool) -> None:
    if as_json:
        rows = [
            {
                "instance_id": i.instance_id,
                "instance_type": i.instance_type,
                "zone": i.zone,
                "state": i.state.value,
                "launched_at_s": i.launched_at_s,
            }
            for i in plan.left
        ]
        document = {"cluster_id": cluster_id, "dry_run": True, "workers": rows, "first": list(plan.said)}
        typer.echo(json.dumps(document, indent=2))
        return
    together = "one after another" if wishes.at_once == 1 else f"{wishes.at_once} at a time"
    typer.echo(f"{cluster_id}: {_count(len(plan.left), 'worker')} to drain and terminate, {together}")
    for instance in plan.left:
        typer.echo(_row(instance))
    for event in plan.said:
        typer.echo(f"First: {event}")
    typer.echo("The autoscaler is paused first and stays so. Static workers and servers are left alone.")
    typer.echo(
        "A server is asked about each worker by its provider-id: what could still run is drained, a machine without a "
        "Node or with nothing on it is ended, and one with node-local volumes stays."
    )
    if wishes.force:
        typer.echo(
            f"--force: what a budget, a rule, a volume or a server's silence still holds after "
            f"{say_duration(policy.drain.timeout_s)} is ended all the same. Pods without a controller and node-local "
            "volumes are lost with their worker. A server that carries a worker's tags is not ended, nor is a machine "
            "whose Node is not known for sure."
        )


def _row(instance: Instance) -> str:
    since = moment(instance.launched_at_s)
    return f"{instance.instance_id}\t{instance.instance_type}\t{instance.zone}\t{instance.state.value}\tsince {since}"


def _count(number: int, what: str) -> str:
    return f"{number} {what}{'' if number == 1 else 's'}"


def _progress(text: str) -> None:
    typer.echo(f"{moment(int(time.time()))}  {text}", err=True)


def _read_line(prompt: str) -> str:
    typer.echo(prompt, nl=False)
    return sys.stdin.readline()


def _policy(path: str) -> Policy:
    if not Path(path).is_file():
        end(f"There is no policy {path}: name the one that is deployed with --policy.", WRONG_INPUT)
    try:
        return read_policy(path)
    except PolicyError as error:
        end(str(error), WRONG_INPUT)


def _ports(target: Target, document: str) -> Callable[[], Ports]:
    """The real ports, with the caller's own credentials; each step gets a clock of its own."""
    fleet = Ec2Fleet(target.clients, cluster_id=target.cluster_id, template_id="", subnet_ids=())
    commands = SsmNodeCommands(target.clients, document_name=document)
    store = target.store()
    background, ids = ThreadBackground(), SortableIds()

    def step() -> Ports:
        return Ports(
            metrics=NoMetrics(),
            fleet=fleet,
            commands=commands,
            store=store,
            notifier=NoNotifier(),
            background=background,
            clock=LambdaClock(_Step()),
            ids=ids,
            calls=dict,
        )

    return step
