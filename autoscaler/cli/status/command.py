"""`k3s-autoscaler status`: is it alive, what does it do, what does it cost."""

import json
import time
from pathlib import Path
from typing import Annotated

import typer

from autoscaler.cli.ending import FAILED, WRONG_INPUT, end, told
from autoscaler.cli.options import AsJson, PolicyFile
from autoscaler.cli.stacks import StackUnavailable, stack_of
from autoscaler.cli.status.looks import read_looks
from autoscaler.cli.status.shown import show_status
from autoscaler.cli.status.values import Gathered, status_document
from autoscaler.cli.tables import console
from autoscaler.cli.target import Target, aimed
from autoscaler.policy import Policy
from autoscaler.policy_text import PolicyError
from autoscaler.runtime import read_policy


@aimed
def status(
    *,
    target: Target,
    policy: PolicyFile = "policy.yml",
    check: Annotated[bool, typer.Option("--check", help="End with 1 unless it is alive, for scripts.")] = False,
    as_json: AsJson = False,
) -> None:
    """Show whether it is alive, the mode, the fleet, what is under way, what it costs and the last decisions.

    The first line is the verdict: alive; alive, with trouble; not alive; or not known, where the logs may not be read.
    """
    gathered = _gather(target, _policy(policy))
    if as_json:
        typer.echo(json.dumps(status_document(gathered), indent=2))
    else:
        show_status(console(), gathered)
    if check and not gathered.verdict.is_alive:
        raise typer.Exit(FAILED)


def _gather(target: Target, policy: Policy | None) -> Gathered:
    store, now_s = target.store(), int(time.time())
    with told():
        state, version = store.load()
        decisions = store.history(limit=5)
    return Gathered(
        cluster_id=target.cluster_id,
        now_s=now_s,
        state=state,
        stored=version > 0,
        decisions=decisions,
        looks=read_looks(target, now_s),
        outputs=target.outputs or _outputs(target),
        policy=policy,
    )


def _outputs(target: Target) -> dict[str, str]:
    """Of the cluster that was named by itself: without them less is known, and that is all."""
    try:
        stack = stack_of(target.clients, target.known_stage)
    except StackUnavailable:
        return {}
    return dict(stack.outputs) if stack is not None else {}


def _policy(path: str) -> Policy | None:
    """The policy file, if there is one here."""
    if not Path(path).is_file():
        return None
    try:
        return read_policy(path)
    except PolicyError as error:
        end(str(error), WRONG_INPUT)
