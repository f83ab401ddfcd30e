"""`k3s-autoscaler next`: the decision that a look now would make, acting on nothing."""

import json

import typer

from autoscaler.cli.here import Here, LocalPolicy, answered_by, source
from autoscaler.cli.options import AsJson
from autoscaler.cli.sheet import heading, say
from autoscaler.cli.target import Target, aimed
from autoscaler.cli.times import moment


@aimed
def next_decision(
    *, target: Target, prometheus: Here = "", policy: LocalPolicy = "policy.yml", as_json: AsJson = False
) -> None:
    """Show what a look now would decide and begin; nothing is changed."""
    found = answered_by(target, prometheus, policy, "next")
    if as_json:
        typer.echo(json.dumps(found, indent=2))
        return
    decision = found["decision"]
    nodes = decision["nodes"]
    heading(f"{target.cluster_id}, {moment(found['now_s'])} ({source(target, prometheus)}; mode {decision['mode']})")
    say(f"{decision['action']} ({decision['reason']}): {decision['message']}", indent=0)
    ready, desired = ("unknown" if nodes[name] is None else nodes[name] for name in ("ready", "desired"))
    say(f"workers: {ready} ready, {nodes['joining']} joining, {nodes['draining']} draining; {desired} wanted, "
        f"from {nodes['min']} to {nodes['max']}", indent=0)  # fmt: skip
    for sentence in found["would"] or ["begin nothing"]:
        say(f"would {sentence}")
    for sentence in (found["withheld"], *found["would_ask"]):
        if sentence:
            say(sentence, indent=0)
