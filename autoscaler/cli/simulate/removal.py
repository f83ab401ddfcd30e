"""`k3s-autoscaler simulate removal NODE`: would its pods fit elsewhere, and what holds it."""

import json
from typing import Annotated

import typer

from autoscaler.cli.here import Here, LocalPolicy, answered_by, source
from autoscaler.cli.options import AsJson
from autoscaler.cli.sheet import heading, say, tell
from autoscaler.cli.target import Target, aimed
from autoscaler.cli.times import moment


@aimed
def simulate_removal(
    *,
    target: Target,
    node: Annotated[str, typer.Argument(metavar="NODE", help="The worker's Node, or its instance id.")],
    prometheus: Here = "",
    policy: LocalPolicy = "policy.yml",
    as_json: AsJson = False,
) -> None:
    """Show whether a worker's pods would fit elsewhere, and what holds its removal; nothing is drained."""
    found = answered_by(target, prometheus, policy, "removal", node=node)
    if as_json:
        typer.echo(json.dumps(found, indent=2))
        return
    worker, moves = found["worker"], found["moves"]
    heading(f"{target.cluster_id}, {moment(found['now_s'])} ({source(target, prometheus)})")
    heading(f"{worker['node'] or worker['instance_id']}: {worker['facts']}")
    if not moves:
        say("it runs no pod that would have to move")
    elif found["fits"]:
        say("its pods fit elsewhere in every order that was tried; one way:")
    else:
        say(f"its pods do not fit elsewhere: {found['why_not']}; the largest first:")
    for move in moves:
        say(f"{move['pod']} -> {move['to'] or 'no place'}", indent=4)
    held = [*worker["own"], *worker["demand"], *([] if worker["leaves"] else worker["everybody"])]
    heading("holds it:" if held else "nothing holds it: a look now would drain it")
    tell(held)
    if worker["unknown"]:
        say(f"more may hold it: {worker['unknown']}")
    for sentence in found["would_ask"]:
        say(sentence, indent=0)
